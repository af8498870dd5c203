import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Bigbrotr } from '../../src/bigbrotr.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { batchOf, knownRelay, silent } from '../support/bigbrotr.ts';
import { catalogueOf } from '../support/catalogue.ts';
import { ownDirectory } from '../support/directory.ts';
import { signedEvent, signedEvents } from '../support/events.ts';
import { projectFile } from '../support/project.ts';

/** Where Debian keeps a PostgreSQL: npm brings a server without pg_dump, and pg_dump must not be older than it. */
const PROGRAMS = '/usr/lib/postgresql/15/bin';
const NEEDED = ['initdb', 'postgres', 'psql', 'pg_dump', 'pg_restore'];
const missing = NEEDED.filter((name) => !existsSync(join(PROGRAMS, name)));
if (missing.length > 0)
  console.log(`No drill of backup.sh and restore.sh: ${PROGRAMS} has no ${missing.join(', ')}.`);

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: console.error };
const WRITER = { user: 'services', password: 'theirs' };
const EVENTS = signedEvents(300, { from: 1_600_000_000, to: 1_700_000_000 });
const UNSTORABLE = ['a\u0000b', 'half \ud83d'].map((content, index) =>
  signedEvent({ kind: 1, created_at: 1_650_000_000 + index, tags: [], content }),
);

type Address = Pick<EmbeddedPostgres, 'host' | 'port'> & {
  readonly user: string;
  readonly password: string;
};

const writing = (address: Address) => ({
  ...{ host: address.host, port: address.port, user: address.user, password: address.password },
  ...{ database: 'bigbrotr', minPool: 0, maxPool: 2, commandTimeoutMs: 30_000 },
});

async function ask<Row extends object = Record<string, unknown>>(
  address: Address,
  sql: string,
  database = 'bigbrotr',
): Promise<Row[]> {
  const { host, port, user, password } = address;
  const client = new pg.Client({ host, port, user, password, database });
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query<Row>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Everything that a restored archive must have again. */
async function contentOf(address: Address): Promise<string> {
  const tables = await ask<{ name: string }>(
    address,
    `select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1`,
  );
  expect(tables.length).toBeGreaterThan(10);
  const counts = await ask(
    address,
    tables
      .map(
        ({ name }) =>
          `select '${name}' as name, count(*), md5(string_agg(t::text, ',' order by t::text)) from ${name} t`,
      )
      .join(' union all '),
  );
  return JSON.stringify(counts, null, 1);
}

/** Fills the archive as the services do: events, sightings, coverage, and what the quarantine is for. */
async function fill(address: Address): Promise<void> {
  const bigbrotr = await Bigbrotr.connect(writing(address), silent);
  try {
    const [one, two] = [await knownRelay(bigbrotr, 'one'), await knownRelay(bigbrotr, 'two')];
    const filterId = await bigbrotr.filterId({});
    const proven = [{ since: 1_600_000_000, until: 1_700_000_000 }];
    const events = [...EVENTS, ...UNSTORABLE];
    const stored = await bigbrotr.store(batchOf({ relay: one, filterId, events, proven }));
    expect(stored).toEqual({ events: 300, sightings: 300, quarantined: 2 });
    await bigbrotr.store(batchOf({ relay: two, filterId, events: EVENTS.slice(0, 100) }));
  } finally {
    await bigbrotr.close();
  }
}

/** Runs `npm run verify` as it is after the build. */
function verify(address: Address): { code: number | null; said: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [projectFile('dist/verify-archive.js')],
    {
      cwd: ownDirectory(), // where no .env is
      encoding: 'utf8',
      env: {
        ...{ PATH: process.env.PATH, POSTGRES_HOST: address.host, POSTGRES_DB: 'bigbrotr' },
        ...{ POSTGRES_PORT: `${address.port}`, POSTGRES_USER: address.user },
        POSTGRES_PASSWORD: address.password,
      },
    },
  );
  return { code: status, said: stdout + stderr };
}

describe.runIf(missing.length === 0)('backup.sh and restore.sh', () => {
  let home: string;
  let server: EmbeddedPostgres;
  let writer: Address;
  let dump: string;

  beforeAll(async () => {
    home = join(ownDirectory(), 'drill');
    const programs = { initdb: join(PROGRAMS, 'initdb'), postgres: join(PROGRAMS, 'postgres') };
    const dataDir = join(home, 'postgres');
    server = await startEmbeddedPostgres({
      dataDir,
      port: 0,
      log: quiet,
      durable: false,
      programs,
    });
    writer = { host: server.host, port: server.port, ...WRITER };
    dump = join(home, 'bigbrotr.dump');
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    psql({ PGOPTIONS: '-c role=bigbrotr_owner' }, '-f', projectFile('init.sql'));
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    await fill(writer);
  });

  afterAll(async () => {
    await server?.stop();
    rmSync(home, { recursive: true, force: true });
  });

  const environment = (more: Record<string, string> = {}) => ({
    ...{ PATH: `${PROGRAMS}:${process.env.PATH}`, POSTGRES_DB: 'bigbrotr', PGDATABASE: 'bigbrotr' },
    ...{ PGHOST: server.host, PGPORT: `${server.port}`, PGUSER: server.user },
    ...{ PGPASSWORD: server.password, WRITER_USER: WRITER.user, WRITER_PASSWORD: WRITER.password },
    ...{ READER_PASSWORD: '', OWNER_PASSWORD: '', PGBOUNCER_PASSWORD: 'unused', ...more },
  });

  function psql(more: Record<string, string>, ...args: string[]): void {
    const env = environment(more);
    execFileSync('psql', ['-Xqo', '/dev/null', '-v', 'ON_ERROR_STOP=1', ...args], { env });
  }

  /** Runs a script of the PostgreSQL image, with files for its input and output. */
  function run(script: string, { input, output }: { input?: string; output?: string }) {
    const files = [input && openSync(input, 'r'), output && openSync(output, 'w')] as const;
    const { status, stderr } = spawnSync('bash', [projectFile(`dockerfiles/postgres/${script}`)], {
      env: environment(),
      stdio: [files[0] || 'ignore', files[1] || 'ignore', 'pipe'],
      encoding: 'utf8',
    });
    for (const file of files) if (typeof file === 'number') closeSync(file);
    return { code: status, said: stderr };
  }

  const databases = () =>
    ask(server, "select datname from pg_database where datname like 'bigbrotr%'", 'postgres');

  test('dropped and restored, the archive is whole: it verifies, and every row is there', async () => {
    const before = await contentOf(server);
    const catalogue = await catalogueOf({ query: (sql) => ask(server, sql) });
    expect(verify(writer)).toMatchObject({
      code: 0,
      said: expect.stringMatching(/^302 events read back, 0 different/),
    });
    expect(run('backup.sh', { output: dump })).toEqual({ code: 0, said: '' });

    await ask(server, 'drop database bigbrotr with (force)', 'postgres');
    expect(verify(writer)).toMatchObject({
      code: 2,
      said: expect.stringMatching(/There is no database/),
    });

    expect(run('restore.sh', { input: dump })).toEqual({ code: 0, said: '' });
    psql({}, '-f', projectFile('dockerfiles/postgres/roles.sql'));
    expect(verify(writer)).toMatchObject({
      code: 0,
      said: expect.stringMatching(/^302 events read back, 0 different/),
    });
    expect(await contentOf(server)).toBe(before);
    expect(await catalogueOf({ query: (sql) => ask(server, sql) })).toBe(catalogue);
    expect(await databases()).toEqual([{ datname: 'bigbrotr' }]);
  });

  test('what was lost or changed since comes back, and the roles may do what they might', async () => {
    const before = await contentOf(server);
    await ask(
      server,
      "delete from events where created_at % 2 = 0; update events set content = 'forged'",
    );
    expect(await contentOf(server)).not.toBe(before);
    expect(verify(writer).code).toBe(1);
    expect(run('restore.sh', { input: dump }).code).toBe(0);
    expect(await contentOf(server)).toBe(before);
    expect(verify(writer).code).toBe(0);
    expect(
      await ask(writer, "select insert_relay('wss://new.example/', 'clearnet') as added"),
    ).toEqual([{ added: true }]);
    for (const sql of [
      'create table mine (a integer)',
      'delete from events',
      "insert into schema_migrations (name) values ('9999_mine')",
    ])
      await expect(ask(writer, sql), sql).rejects.toMatchObject({ code: '42501' });
  });

  test('a backup that is cut off, or is none, leaves the archive as it was', async () => {
    const before = await contentOf(server);
    const whole = readFileSync(dump);
    const broken = join(home, 'broken.dump');
    for (const bytes of [
      whole.subarray(0, whole.length >> 1),
      Buffer.from('no backup'),
      Buffer.alloc(0),
    ]) {
      writeFileSync(broken, bytes);
      const { code, said } = run('restore.sh', { input: broken });
      expect(code).toBe(1);
      expect(said).toMatch(
        /error: this is not a whole backup, see above. The archive is as it was./,
      );
      expect(await contentOf(server)).toBe(before);
      expect(await databases()).toEqual([{ datname: 'bigbrotr' }]);
    }
  });
});

describe('the data folder of npm start', () => {
  test('copied while it is stopped, removed and copied back, the archive is whole', async () => {
    const home = join(ownDirectory(), 'folder-drill');
    const [folder, copy] = [join(home, 'data'), join(home, 'data-backup')];
    const open = () =>
      startEmbeddedPostgres({ dataDir: join(folder, 'postgres'), port: 0, log: quiet });
    try {
      let server = await open();
      await Bigbrotr.load(writing(server), readFileSync(projectFile('init.sql'), 'utf8'), silent);
      await fill(server);
      const before = await contentOf(server);
      await server.stop();
      execFileSync('cp', ['-a', folder, copy]);

      rmSync(folder, { recursive: true });
      execFileSync('cp', ['-a', copy, folder]);
      server = await open();
      try {
        expect(await contentOf(server)).toBe(before);
        expect(verify(server)).toMatchObject({
          code: 0,
          said: expect.stringMatching(/^302 events read back, 0 diff/),
        });
      } finally {
        await server.stop();
      }
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
});
