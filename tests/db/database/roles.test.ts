/**
 * The roles of dockerfiles/postgres/roles.sql on a server of their own, and pgbouncer.ini with its hba.conf in front
 * of it: the files that the containers use, with nothing changed but where they lie.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { migrateArchive } from '../../../src/database/migrate.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../src/local/postgres.ts';
import { NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { signedEvents } from '../../fixtures/events.ts';
import {
  batchOf,
  databaseConfig,
  knownRelay,
  openBigbrotr,
  silent,
} from '../../postgres/bigbrotr.ts';
import { earlierArchiveSql } from '../../postgres/earlier-archive.ts';
import { FIGURE_TABLES } from '../../postgres/figure-tables.ts';
import { freePort, pgbouncerVersion } from '../../postgres/pgbouncer.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { projectFile } from '../../processes/project.ts';

const PASSWORDS = {
  ...{ writer: 'of-the-writer', reader: 'of-the-reader' },
  ...{ owner: 'of-the-owner', api: 'of-the-api' },
};
const POOLER_PASSWORD = 'of-the-pooler';
const missing = [
  spawnSync('psql', ['--version']).status === 0 ? [] : ['psql (apt-get install postgresql-client)'],
  pgbouncerVersion() === null ? ['PgBouncer (apt-get install pgbouncer)'] : [],
].flat();
if (missing.length > 0)
  console.log(`skipped: roles and PgBouncer, there is no ${missing.join(', no ')}`);

const directory = ownDirectory();
let server: EmbeddedPostgres;
let pooler: ChildProcess | undefined;
let poolerPort: number;

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

function psql(more: Readonly<Record<string, string>>, file: string): void {
  const { PATH = '' } = process.env;
  const env = {
    ...{ PATH, PGHOST: server.host, PGPORT: `${server.port}`, PGDATABASE: server.database },
    ...{ PGUSER: server.user, PGPASSWORD: server.password, POSTGRES_DB: server.database },
    ...{ WRITER_USER: 'writer', WRITER_PASSWORD: PASSWORDS.writer },
    ...{ READER_PASSWORD: PASSWORDS.reader, OWNER_PASSWORD: PASSWORDS.owner },
    ...{ API_PASSWORD: PASSWORDS.api, PGBOUNCER_PASSWORD: POOLER_PASSWORD },
    ...more,
  };
  const options = [
    '-Xqo',
    '/dev/null',
    '-v',
    'ON_ERROR_STOP=1',
    '-f',
    resolve(projectFile('.'), file),
  ];
  execFileSync('psql', options, { env });
}

/** As dockerfiles/pgbouncer/entrypoint.sh does. */
async function startPooler(): Promise<void> {
  const folder = join(directory, 'pgbouncer');
  mkdirSync(folder);
  chmodSync(folder, 0o755);
  poolerPort = await freePort();
  const { host, port, database } = server;
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const hba = readFileSync(projectFile('dockerfiles/pgbouncer/hba.conf'), 'utf8');
  write('hba.conf', hba.replaceAll(/ all(?= {2}\S+$)/gm, ' 0.0.0.0/0')); // before 1.21 no word for it
  write(
    'databases.ini',
    `[databases]\n${database} = host=${host} port=${port} dbname=${database} auth_user=pgbouncer\n`,
  );
  write('users.txt', `"admin" "${POOLER_PASSWORD}"\n"pgbouncer" "${POOLER_PASSWORD}"\n`);
  const ini = readFileSync(projectFile('pgbouncer.ini'), 'utf8')
    .replaceAll(/\/(run|etc)\/pgbouncer/g, folder)
    .replace('listen_addr = 0.0.0.0', 'listen_addr = 127.0.0.1')
    .replace('listen_port = 6432', `listen_port = ${poolerPort}`)
    .replaceAll(/^\w+ = pool_size=.*$/gm, ''); // before 1.24 a user that has bounds needs a password there too
  write('tls.ini', '');
  write('pgbouncer.ini', ini);
  const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
  pooler = spawn('pgbouncer', [...asUser, join(folder, 'pgbouncer.ini')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  pooler.stderr?.on('data', (data: Buffer) => {
    said += data.toString();
  });
  for (let tries = 0; tries < 100; tries += 1) {
    if ((await outcome('writer', PASSWORDS.writer, 'select 1')) === 'ok') return;
    await sleep(100);
  }
  throw new Error(`PgBouncer does not let the writer in: ${said}`);
}

beforeAll(async () => {
  if (missing.length > 0) return;
  server = await startEmbeddedPostgres({
    ...{ dataDir: join(directory, 'roles'), port: 0, durable: false, log: quiet },
  });
  psql({}, 'dockerfiles/postgres/roles.sql');
  psql({ PGOPTIONS: '-c role=bigbrotr_owner' }, 'init.sql');
  psql({}, 'dockerfiles/postgres/roles.sql'); // again, as at each start
  await startPooler();
});
afterAll(async () => {
  if (pooler && pooler.exitCode === null) {
    pooler.kill('SIGKILL');
    await once(pooler, 'exit');
  }
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

/** `ok`, or the SQLSTATE that a login and one statement end with. */
async function outcome(
  user: string,
  password: string,
  sql: string,
  { port = poolerPort, database = server.database } = {},
): Promise<string> {
  const client = new pg.Client({ host: '127.0.0.1', port, user, password, database });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query(sql);
    return 'ok';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Who may do what with each relation of a database. */
async function rightsIn(database: string): Promise<unknown[]> {
  const { host, port, user, password } = server;
  const client = new pg.Client({ host, port, user, password, database });
  await client.connect();
  try {
    const { rows } = await client.query(
      `select relname, grantee::regrole::text, privilege_type
       from pg_class, aclexplode(relacl)
       where relnamespace = 'public'::regnamespace order by 1, 2, 3`,
    );
    return rows;
  } finally {
    await client.end();
  }
}

const DENIED = '42501';
const READ_ONLY = '25006';
/** How PgBouncer refuses a login: before 1.20 every error of its own has the one code. */
const NO_LOGIN = /^(08P01|28P01|28000)$/;

describe.skipIf(missing.length > 0)('through PgBouncer', () => {
  test('the writer can run every statement of the services', async () => {
    const { host, database } = server;
    const login = { host, port: poolerPort, database, user: 'writer', password: PASSWORDS.writer };
    const bigbrotr = await openBigbrotr({ config: login });
    try {
      const relay = await knownRelay(bigbrotr, 'roles');
      const filterId = await bigbrotr.filterId({});
      const window = { since: 1_700_000_000, until: 1_700_000_100 };
      const ages = { overlapSeconds: 0, reproveSeconds: 0 };
      await bigbrotr.beginVisit(relay, { filterId, ...window }, ages);
      const events = signedEvents(10, { from: window.since, to: window.until });
      const batch = batchOf({ relay, filterId, events, proven: [window] });
      expect(await bigbrotr.store(batch)).toMatchObject({ events: 10, sightings: 10 });
      await bigbrotr.setRelayPolicy(relay, NEW_RELAY_POLICY);
      await bigbrotr.endVisit(relay, filterId, {
        outcome: 'complete',
        reason: null,
        detail: null,
        pages: 1,
      });
      expect(await bigbrotr.store(batch)).toMatchObject({ events: 0, sightings: 0 });
    } finally {
      await bigbrotr.close();
    }
  });

  test.each([
    'create table mine (x integer)',
    'create schema mine',
    'drop table events',
    'alter table events add column x integer',
    'create index on events (kind)',
    'truncate events',
    'delete from events',
    'delete from sightings',
    'delete from relays',
    "insert into schema_migrations (name) values ('9999_mine')",
    'create role mine',
    'set role bigbrotr_owner',
    'select pg_read_file($$/etc/passwd$$)',
    'select * from pgbouncer.secret_of($$writer$$)',
    "copy (select 1) to program 'true'",
  ])('the writer cannot: %s', async (sql) => {
    expect(await outcome('writer', PASSWORDS.writer, sql)).toBe(DENIED);
  });

  test('the writer may delete from the tables of work in progress, and has no right that is not needed', async () => {
    const rights = (await rightsIn(server.database)) as {
      relname: string;
      grantee: string;
      privilege_type: string;
    }[];
    const unusual = rights.filter(
      ({ grantee, privilege_type }) =>
        grantee !== 'bigbrotr_owner' && !/^(SELECT|INSERT|UPDATE|USAGE)$/.test(privilege_type),
    );
    const rightsOn = (names: readonly string[], ...privileges: readonly string[]) =>
      names.flatMap((relname) =>
        privileges.map((privilege_type) => ({
          ...{ relname, grantee: 'bigbrotr_writers', privilege_type },
        })),
      );
    const work = ['claims', 'coverage', 'filter_parts', 'holes', 'journal'];
    const more = ['named_relays', 'relay_states', 'withheld'];
    const expected = [
      ...rightsOn([...work, ...more], 'DELETE'),
      ...rightsOn(FIGURE_TABLES, 'DELETE', 'TRUNCATE'),
    ];
    const sorted = (all: readonly object[]) => all.map((each) => JSON.stringify(each)).sort();
    expect(sorted(unusual)).toEqual(sorted(expected));
    for (const { relname } of unusual)
      expect(await outcome('writer', PASSWORDS.writer, `delete from ${relname} where false`)).toBe(
        'ok',
      );
    const ofReaders = rights.filter(({ grantee }) => grantee === 'bigbrotr_readers');
    expect(new Set(ofReaders.map(({ privilege_type }) => privilege_type))).toEqual(
      new Set(['SELECT']),
    );
    const grantees = new Set(rights.map(({ grantee }) => grantee));
    expect(grantees).toEqual(new Set(['bigbrotr_owner', 'bigbrotr_readers', 'bigbrotr_writers']));
    const ofVersion = rights.filter(
      ({ relname, grantee }) => relname === 'schema_migrations' && grantee === 'bigbrotr_writers',
    );
    expect(ofVersion.map(({ privilege_type }) => privilege_type)).toEqual(['SELECT']);
  });

  test('the reader can read and cannot write, whatever settings it changes', async () => {
    const asReader = (sql: string) => outcome('bigbrotr_reader', PASSWORDS.reader, sql);
    expect(await asReader('select count(*) from events')).toBe('ok');
    for (const from of ['archive_status', "explain_relay('wss://one.example.com')"])
      expect(await asReader(`select * from ${from}`), from).toBe('ok');
    const limit = "select 1 / (current_setting('statement_timeout') = '5min')::integer";
    expect(await asReader(limit)).toBe('ok');
    for (const table of ['events', 'relays', 'sightings', 'coverage'])
      expect(await asReader(`delete from ${table}`)).toMatch(new RegExp(`${READ_ONLY}|${DENIED}`));
    const writing = "begin read write; insert into filters (filter) values ('{}'); commit";
    expect(await asReader(writing)).toBe(DENIED);
    expect(await asReader('create temp table mine (x integer)')).toMatch(
      new RegExp(`${READ_ONLY}|${DENIED}`),
    );
  });

  test('the API can read what it serves, and cannot write', async () => {
    const asApi = (sql: string) => outcome('bigbrotr_api', PASSWORDS.api, sql);
    for (const from of ['events', 'archive_status', 'relay_coverage', 'journal', 'pg_settings'])
      expect(await asApi(`select * from ${from} limit 1`), from).toBe('ok');
    expect(await asApi('select system_identifier from pg_control_system()')).toBe('ok');
    const limit = "select 1 / (current_setting('statement_timeout') = '1min')::integer";
    expect(await asApi(limit)).toBe('ok');
    for (const table of ['events', 'relays', 'journal_readers'])
      expect(await asApi(`delete from ${table}`)).toMatch(new RegExp(`${READ_ONLY}|${DENIED}`));
    const writing = "begin read write; insert into filters (filter) values ('{}'); commit";
    expect(await asApi(writing)).toBe(DENIED);
  });

  test('other logins are refused: superuser, owner, group roles, wrong passwords, other databases', async () => {
    const refused = (user: string, password: string, database?: string) =>
      outcome(user, password, 'select 1', database ? { database } : {});
    expect(await refused(server.user, server.password)).toMatch(NO_LOGIN);
    expect(await outcome(server.user, server.password, 'select 1', { port: server.port })).toBe(
      'ok',
    );
    expect(await refused('bigbrotr_owner', PASSWORDS.owner)).toMatch(NO_LOGIN);
    expect(await refused('pgbouncer', POOLER_PASSWORD)).toMatch(NO_LOGIN);
    expect(await refused('admin', POOLER_PASSWORD)).toMatch(NO_LOGIN);
    expect(await refused('writer', 'wrong')).toMatch(NO_LOGIN);
    expect(await refused('nobody', '')).not.toBe('ok');
    expect(await refused('writer', PASSWORDS.writer, 'postgres')).not.toBe('ok');
  });

  test('a writer that can become a superuser is refused', async () => {
    const asSuperuser = (sql: string) =>
      outcome(server.user, server.password, sql, { port: server.port });
    await asSuperuser(
      `create role eve login password 'eve' in role bigbrotr_writers, "${server.user}"`,
    );
    await asSuperuser("create role ann login password 'ann' in role bigbrotr_readers");
    expect(await outcome('ann', 'ann', 'select 1')).toBe('ok');
    expect(await outcome('eve', 'eve', 'select 1')).toMatch(NO_LOGIN);
    expect(await outcome('eve', 'eve', 'select 1', { port: server.port })).toBe('ok');
  });
});

describe.skipIf(missing.length > 0)('an archive of the unreleased version', () => {
  test('has the rights of a new one as soon as it is migrated', async () => {
    const database = 'first';
    const create = `create database ${database} owner bigbrotr_owner`;
    const direct = { port: server.port };
    expect(await outcome(server.user, server.password, create, direct)).toBe('ok');
    const there = { PGDATABASE: database, POSTGRES_DB: database };
    psql(there, 'dockerfiles/postgres/roles.sql');
    const earlier = join(directory, 'earlier.sql');
    writeFileSync(earlier, earlierArchiveSql());
    psql({ ...there, PGOPTIONS: '-c role=bigbrotr_owner' }, earlier);
    psql(there, 'dockerfiles/postgres/roles.sql');
    const { host, port } = server;
    const login = (user: string, password: string) =>
      databaseConfig({ config: { host, port, database, user, password } });
    const writer = login('writer', PASSWORDS.writer);
    const owner = login('bigbrotr_owner', PASSWORDS.owner);
    expect(await migrateArchive(writer, owner, silent)).toContain('0003_withheld');
    const rights = await rightsIn(server.database);
    expect(rights).toContainEqual({
      ...{ relname: 'withheld', grantee: 'bigbrotr_writers', privilege_type: 'DELETE' },
    });
    expect(await rightsIn(database)).toEqual(rights);
  });
});
