import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { migrateArchive } from '../../src/bigbrotr/migrations.ts';
import { SCHEMA_VERSION } from '../../src/bigbrotr/version.ts';
import { Bigbrotr } from '../../src/bigbrotr.ts';
import { databaseConfig, silent } from '../support/bigbrotr.ts';
import { catalogueOf } from '../support/catalogue.ts';
import { type TestDatabase, testDatabase, testServer } from '../support/database.ts';
import { signedEvents } from '../support/events.ts';
import { endPrograms, Program } from '../support/programs.ts';
import { projectFile } from '../support/project.ts';

const FOLDER = projectFile('src/migrations');
const MIGRATIONS = readdirSync(FOLDER).sort();
const NAMES = MIGRATIONS.map((file) => file.replace(/\.sql$/, ''));
const initSql = readFileSync(projectFile('init.sql'), 'utf8');
/** The first init.sql that was ever committed: archives made by it are out there. */
const firstSql = readFileSync(projectFile('tests/support/init-first.sql'), 'utf8');

let fresh: TestDatabase;
let old: TestDatabase;
let folder: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bigbrotr-migrations-'));
  fresh = await testDatabase();
  old = await testDatabase({ ...(await testServer()), template: 'template0' });
  await old.query(firstSql);
  await fill(old);
});

afterEach(async () => {
  await endPrograms();
  await Promise.all([fresh.drop(), old.drop()]);
  rmSync(folder, { recursive: true, force: true });
});

const config = (database: TestDatabase) => databaseConfig(database);
const migrate = (database: TestDatabase, from?: string) =>
  migrateArchive(
    config(database),
    config(database),
    silent,
    from === undefined ? {} : { folder: from },
  );
const connect = async (database: TestDatabase) =>
  (await Bigbrotr.connect(config(database), silent)).close();

const TAGS = [
  ['t', 'a "b" \\ {c}, NULL'],
  ['e', ''],
];

/** Puts something into every table of the first version. */
async function fill(database: TestDatabase): Promise<void> {
  for (const [index, event] of signedEvents(40, {
    from: 1_600_000_000,
    to: 1_700_000_000,
  }).entries())
    await database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', [
      ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
      ...[event.kind, JSON.stringify(TAGS), event.content, Buffer.from(event.sig, 'hex')],
      ...[`wss://relay-${index % 3}.example.com`, 'clearnet', 1_700_000_100 + index],
    ]);
  const health = { openable: true, readable: true, writable: false, rtt_open: 5, rtt_read: 6 };
  await database.query(
    `select insert_relay_metadata(url, network, 1700000200, '{"name":"One"}', $1) from relays`,
    [JSON.stringify(health)],
  );
  await database.query(`insert into filters (filter) values ('{}')`);
  await database.query(
    `insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
     select relay_id, 1, 'paging', '2026-01-01', '{[0,50),[60,90)}', 1700000300 from relays`,
  );
  await database.query(
    `insert into holes select relay_id, 1, '[50,60)', 'dense', 500, 1700000300 from relays`,
  );
  await database.query(
    `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome)
     select relay_id, 1, '[0,100)', 1700000300, 1700000400, 'partial' from relays`,
  );
  await database.query(
    `insert into quarantine select $1, relay_id, 1700000000, 'nul', '\\x00ff', 1700000400 from relays`,
    [randomBytes(32)],
  );
}

/** Columns that later versions added to tables of the first. */
const LATER_COLUMNS = [
  'results',
  'durations',
  'stop_reason',
  'failing_since',
  'caught_up',
  'is_part',
];

/** Every row of every table that the first version had, as text. */
async function rowsOf(database: TestDatabase): Promise<Record<string, unknown[]>> {
  const tables = [...firstSql.matchAll(/^create table if not exists (\w+)/gm)].map(
    ([, name]) => name,
  );
  expect(tables.length).toBeGreaterThan(9);
  const rows: Record<string, unknown[]> = {};
  for (const table of tables) {
    rows[`${table}`] = await database.query(
      `select (to_jsonb(t) - $1::text[])::text as row from ${table} t order by 1`,
      [LATER_COLUMNS],
    );
    expect(rows[`${table}`]?.length, `rows of ${table}`).toBeGreaterThan(0);
  }
  return rows;
}

/** Resolves when one session waits for the lock of the migrations and another has it. */
async function waitingForLock(database: TestDatabase, programs: Program[]): Promise<void> {
  const locks = `select granted from pg_locks
    where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())`;
  for (let tries = 0; tries < 400; tries += 1) {
    const found = await database.query<{ granted: boolean }>(locks);
    if (found.some(({ granted }) => granted) && found.some(({ granted }) => !granted)) return;
    for (const program of programs) if (!program.isRunning) throw new Error(program.said);
    await sleep(50);
  }
  throw new Error('no initializer came to wait for the other one');
}

/** A folder of all migrations and one more. */
function folderWith(name: string, sql: string): string {
  for (const file of MIGRATIONS) copyFileSync(join(FOLDER, file), join(folder, file));
  writeFileSync(join(folder, name), sql);
  return folder;
}

describe('the files', () => {
  test('are numbered without a gap, and all of them are written down in a new archive', async () => {
    for (const [index, file] of MIGRATIONS.entries()) {
      expect(file).toMatch(/^\d{4}_[a-z0-9-]+\.sql$/);
      expect(Number(file.slice(0, 4))).toBe(index + 1);
    }
    expect(NAMES.at(-1)).toBe(SCHEMA_VERSION);
    const recorded = await fresh.query('select name from schema_migrations order by id');
    expect(recorded).toEqual(NAMES.map((name) => ({ name })));
    expect(initSql).toContain(`<> '${SCHEMA_VERSION}'`);
  });
});

describe('an archive of the first version', () => {
  test('becomes the same as a new one, with all its data', async () => {
    const rows = await rowsOf(old);
    const wanted = await catalogueOf(fresh);
    expect(await catalogueOf(old)).not.toBe(wanted);
    expect(await migrate(old)).toEqual(NAMES);
    expect(await catalogueOf(old)).toBe(wanted);
    expect(await rowsOf(old)).toEqual(rows);
    // What is not proven below the newest second proven is a hole.
    const caughtUp = { relays: '3', caught_up: '3' };
    expect(
      await old.query(
        'select count(*) as relays, count(*) filter (where caught_up) as caught_up from visits',
      ),
    ).toEqual([caughtUp]);
    expect(await migrate(old)).toEqual([]);
    await old.query(initSql);
    expect(await catalogueOf(old)).toBe(wanted);
    expect(await rowsOf(old)).toEqual(rows);
    const queued = await old.query(
      `select array_agg(key order by key desc) = array_agg(key order by place) as newest_first, count(*)::integer
       from finder_queue, unnest(event_keys) with ordinality as k (key, place)`,
    );
    expect(queued).toEqual([{ newest_first: true, count: 40 }]); // for the finder
    const gaps = await old.query('select since, until, hole from coverage_gaps order by 1 limit 1');
    expect(gaps).toEqual([{ since: '50', until: '59', hole: 'dense' }]);
    const values = JSON.stringify(['e:', `t:${TAGS[0]?.[1]}`]);
    expect(await old.query('select from events where tagvalues @> $1', [values])).toHaveLength(40);
  });

  test('has the states and the schedule of its relays, made from its snapshots', async () => {
    const down = { openable: false, readable: false, writable: false, reason: 'timeout' };
    await old.query(
      `select insert_relay_metadata('wss://relay-1.example.com', 'clearnet', 1700000200 + n * 3600, null, $1)
       from generate_series(1, 2) n`,
      [JSON.stringify(down)],
    );
    await migrate(old);
    const states = await old.query(
      `select url, relay_states.state, from_at, to_at, failures, due_at > checked_at as planned
       from relays left join relay_states using (relay_id) left join relay_schedule using (relay_id) order by 1, 3`,
    );
    const row = (number: number, state: string, from: number, to: number | null, failures = 0) => ({
      url: `wss://relay-${number}.example.com`,
      state,
      from_at: `${1_700_000_200 + from}`,
      to_at: to === null ? null : `${1_700_000_200 + to}`,
      failures,
      planned: true,
    });
    expect(states).toEqual([
      row(0, 'up', 0, null),
      row(1, 'up', 0, 3600, 2),
      row(1, 'down', 3600, null, 2),
      row(2, 'up', 0, null),
    ]);
  });

  test('is refused by the services until then, with what to do', async () => {
    await expect(connect(old)).rejects.toThrow(/older version of Bigbrotr: run the initializer/);
    await migrate(old);
    await connect(old);
  });

  test('is not touched by init.sql', async () => {
    const before = await catalogueOf(old);
    await expect(old.query(initSql)).rejects.toThrow('made by an older version');
    await Bigbrotr.load(config(old), initSql, silent);
    expect(await catalogueOf(old)).toBe(before);
  });

  test('is migrated once by two initializers at once, and both add the seed', async () => {
    if (!existsSync(projectFile('dist/migrations'))) throw new Error('run `npm run build` first');
    const seed = join(folder, 'seed.txt');
    writeFileSync(seed, 'wss://seed.example.com\n');
    const { host, port, user, password, database } = old.config;
    const env = {
      ...{ POSTGRES_HOST: host, POSTGRES_PORT: `${port}`, POSTGRES_USER: user },
      ...{ POSTGRES_PASSWORD: password, POSTGRES_DB: database, SEED_RELAYS_PATH: seed },
      ALLOW_PRIVATE_RELAYS: 'true',
    };
    const entry = projectFile('dist/initializer.js');
    const reader = new pg.Client(old.config);
    await reader.connect();
    let both: Program[] = [];
    try {
      // A long question holds the first one up, until the second one waits for it.
      await reader.query('begin; lock table relays in access share mode');
      both = [1, 2].map(() => new Program(process.execPath, [entry], { env, cwd: folder }));
      await waitingForLock(old, both);
    } finally {
      await reader.end();
    }
    for (const program of both)
      expect(await program.ended, program.said).toMatchObject({ code: 0 });
    const migrated = both.filter((program) => program.said.includes('was migrated'));
    expect(migrated).toHaveLength(1);
    expect(await old.query('select name from schema_migrations')).toHaveLength(NAMES.length);
    expect(await catalogueOf(old)).toBe(await catalogueOf(fresh));
    expect(await old.query("select url from relays where url like '%seed%'")).toHaveLength(1);
  });

  test('stays as it was when a migration fails half-way', async () => {
    const [before, rows] = [await catalogueOf(old), await rowsOf(old)];
    const breaks = folderWith(
      `${String(MIGRATIONS.length + 1).padStart(4, '0')}_breaks.sql`,
      'create table half (way integer); delete from events; select 1 / 0;',
    );
    await expect(migrate(old, breaks)).rejects.toThrow(
      /could not be migrated to this version and is as it was: division by zero/,
    );
    expect(await catalogueOf(old)).toBe(before);
    expect(await rowsOf(old)).toEqual(rows);
    expect(await migrate(old)).toEqual(NAMES);
  });

  test('is not migrated by a login that does not own it', async () => {
    const role = `writer_${randomBytes(4).toString('hex')}`;
    await old.query(
      `create role ${role} login password 'hers'; grant usage on schema public to ${role}`,
    );
    try {
      const writer = { ...config(old), user: role, password: 'hers' };
      await expect(migrateArchive(writer, writer, silent)).rejects.toThrow(
        /may not do it .*set POSTGRES_OWNER_PASSWORD and run the initializer again/,
      );
      expect(await migrateArchive(writer, config(old), silent)).toEqual(NAMES);
      expect(await catalogueOf(old)).toBe(await catalogueOf(fresh));
    } finally {
      await old.query(`revoke usage on schema public from ${role}; drop role ${role}`);
    }
  });
});

describe('an archive of a newer version', () => {
  test('is refused by the services, by the initializer and by init.sql', async () => {
    await fresh.query("insert into schema_migrations (name) values ('9999_of-tomorrow')");
    const before = await catalogueOf(fresh);
    const newer = /migrated by a newer version of Bigbrotr \(9999_of-tomorrow; this one knows/;
    await expect(connect(fresh)).rejects.toThrow(newer);
    await expect(migrate(fresh)).rejects.toThrow(newer);
    await expect(fresh.query(initSql)).rejects.toThrow('other migrations than this init.sql knows');
    expect(await catalogueOf(fresh)).toBe(before);
  });
});

test('an archive whose making was cut off is made whole by init.sql', async () => {
  const wanted = await catalogueOf(fresh);
  await fresh.query('truncate schema_migrations; drop function count_orphan_sightings()');
  await expect(connect(fresh)).rejects.toThrow('run the initializer');
  await fresh.query(initSql);
  expect(await catalogueOf(fresh)).toBe(wanted);
  await connect(fresh);
});

test('the catalogue tells every kind of difference', async () => {
  const changes = [
    'alter table relays add column extra integer',
    'alter table relays alter column inserted_at drop default',
    'alter table relay_manners alter column reason type varchar(9)',
    'alter table events drop constraint events_kind_range',
    'drop index events_created_at_id_index',
    'alter table events disable trigger events_delete_sightings',
    `create or replace function count_orphan_sightings() returns bigint language sql stable return 0`,
    `create or replace view readable_relays as select relay_url, network, generated_at, rtt_open, rtt_read, rtt_write, writable from relay_metadata_latest`,
    `comment on column relays.url is 'Something else.'`,
    'alter sequence event_key_sequence increment by 2',
    'grant select on relays to public',
  ];
  for (const change of changes) {
    const before = await catalogueOf(fresh);
    await fresh.query(change);
    expect(await catalogueOf(fresh), change).not.toBe(before);
  }
});
