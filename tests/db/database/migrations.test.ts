import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { EARLIER_MIGRATIONS } from '../../../src/database/earlier-migrations.ts';
import { migrateArchive } from '../../../src/database/migrate.ts';
import { SCHEMA_VERSION } from '../../../src/database/version.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { catalogueOf } from '../../postgres/catalogue.ts';
import { type TestDatabase, testDatabase, testServer } from '../../postgres/database.ts';
import {
  earlierArchiveSql,
  FOLDED_COUNT,
  MIGRATION_FILES,
  MIGRATION_NAMES,
  MIGRATIONS_FOLDER,
  migrationsSql,
} from '../../postgres/earlier-archive.ts';
import { endPrograms, Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';

const initSql = readFileSync(projectFile('init.sql'), 'utf8');
let fresh: TestDatabase;
let old: TestDatabase;
let folder: string;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'bigbrotr-migrations-'));
  fresh = await testDatabase();
  old = await testDatabase({ ...(await testServer()), template: 'template0' });
  await old.query(earlierArchiveSql());
  await fill(old);
});

afterEach(async () => {
  await endPrograms();
  await Promise.all([fresh.drop(), old.drop()]);
  rmSync(folder, { recursive: true, force: true });
});

const config = databaseConfig;
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

/** Puts something into every table of the baseline. */
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
  const nip11 = { name: 'nip11', success: true, reason: null, data: { name: 'One' } };
  const carried = { fresh_until: 1_700_000_900, etag: '"one"', last_modified: null };
  await database.query(
    `select insert_relay_metadata(url, network, 1700000200, '{"name":"One"}', $1, $2) from relays`,
    [JSON.stringify(health), JSON.stringify([{ ...nip11, duration_ms: 7, carried }])],
  );
  await database.query('select record_relay_check(url, 1700000200, $1, 3600) from relays', [
    JSON.stringify(health),
  ]);
  await database.query(
    'insert into relay_manners (relay_id, pace_ms, nip77_refused_at) select relay_id, 50, 1700000300 from relays',
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
  await database.query(
    `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors)
     values ('wss://named.example.com', 'clearnet', 'named.example.com', 'example.com', 1, 7, 'list', 8, '{""}')`,
  );
}

/** Columns that later migrations add or take away. */
const CHANGED_COLUMNS = [
  ...['stop_reason', 'failing_since', 'caught_up', 'is_part', 'max_filter_values'],
  ...['max_filter_values_at', 'nip77_not_before', 'nip77_reason', 'retry_at', 'nip11_retry_at'],
  ...['nip11_retry_reason', 'priority', 'created_day'],
];

/** Every row of every table of the baseline, as text; without the record of the migrations. */
async function rowsOf(database: TestDatabase): Promise<Record<string, unknown[]>> {
  const tables = [...migrationsSql(1).matchAll(/^create table if not exists (\w+)/gm)]
    .map(([, name]) => `${name}`)
    .filter((name) => !['schema_migrations', 'finder_queue'].includes(name));
  expect(tables).toHaveLength(17);
  const rows: Record<string, unknown[]> = {};
  for (const table of tables) {
    rows[table] = await database.query(
      `select (to_jsonb(t) - $1::text[])::text as row from ${table} t order by 1`,
      [CHANGED_COLUMNS],
    );
    expect(rows[table]?.length, `rows of ${table}`).toBeGreaterThan(0);
  }
  return rows;
}

async function recorded(database: TestDatabase): Promise<string[]> {
  const rows = await database.query<{ name: string }>(
    'select name from schema_migrations order by id',
  );
  return rows.map(({ name }) => name);
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
  for (const file of MIGRATION_FILES)
    copyFileSync(join(MIGRATIONS_FOLDER, file), join(folder, file));
  writeFileSync(join(folder, name), sql);
  return folder;
}

describe('migration files', () => {
  test('are numbered without a gap, and all of them are recorded in a new archive', async () => {
    for (const [index, file] of MIGRATION_FILES.entries()) {
      expect(file).toMatch(/^\d{4}_[a-z0-9-]+\.sql$/);
      expect(Number(file.slice(0, 4))).toBe(index + 1);
    }
    expect(MIGRATION_NAMES.at(-1)).toBe(SCHEMA_VERSION);
    expect(await recorded(fresh)).toEqual(MIGRATION_NAMES);
    expect(initSql).toContain(`<> '${SCHEMA_VERSION}'`);
  });
});

test('init.sql creates the same schema as the baseline and its migrations', async () => {
  const built = await testDatabase({ ...(await testServer()), template: 'template0' });
  try {
    await built.query(migrationsSql(MIGRATION_FILES.length));
    expect(await catalogueOf(built)).toBe(await catalogueOf(fresh));
  } finally {
    await built.drop();
  }
});

describe('an archive of the unreleased version', () => {
  test('becomes the same as a new one, with all its data', async () => {
    const rows = await rowsOf(old);
    const wanted = await catalogueOf(fresh);
    expect(await catalogueOf(old)).not.toBe(wanted);
    expect(await migrate(old)).toEqual(MIGRATION_NAMES.slice(1));
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
    const gaps = await old.query('select since, until, hole from coverage_gaps order by 1 limit 1');
    expect(gaps).toEqual([{ since: '50', until: '59', hole: 'dense' }]);
    const values = JSON.stringify(['e:', `t:${TAGS[0]?.[1]}`]);
    expect(await old.query('select from events where tagvalues @> $1', [values])).toHaveLength(40);
  });

  test.for([9, 10, 13, 16, 17])(
    'with %i migrations is recognised and gets the others',
    async (count) => {
      const archive = await testDatabase({ ...(await testServer()), template: 'template0' });
      const lines: string[] = [];
      const log = pino({ level: 'info' }, { write: (line) => void lines.push(line) });
      try {
        await archive.query(earlierArchiveSql(count));
        const before = await archive.query(
          'select run_on from schema_migrations order by id limit 1',
        );
        await expect(connect(archive)).rejects.toThrow('run the initializer');
        const applied = await migrateArchive(config(archive), config(archive), log);
        expect(applied).toEqual(MIGRATION_NAMES.slice(1 + count - FOLDED_COUNT));
        expect(await recorded(archive)).toEqual(MIGRATION_NAMES);
        expect(await catalogueOf(archive)).toBe(await catalogueOf(fresh));
        const after = await archive.query(
          'select run_on from schema_migrations order by id limit 1',
        );
        expect(after).toEqual(before);
        expect(lines[0]).toContain(`"earlier":${count},"msg":"the archive of an earlier version`);
        await connect(archive);
        expect(await migrateArchive(config(archive), config(archive), log)).toEqual([]);
        expect(lines).toHaveLength(applied.length > 0 ? 2 : 1);
      } finally {
        await archive.drop();
      }
    },
  );

  test.for([
    ['the first eight', EARLIER_MIGRATIONS.slice(0, 8), '8 of 9'],
    ['all but one of the first nine', EARLIER_MIGRATIONS.filter((_, at) => at !== 4), '8 of 9'],
  ] as const)('with %s is refused, with what to do', async ([, names, share]) => {
    await old.query('truncate schema_migrations');
    await old.query('insert into schema_migrations (name) select unnest($1::text[])', [names]);
    const before = await catalogueOf(old);
    const tooOld = `has ${share} of the migrations that this version builds on: start the previous version once`;
    await expect(migrate(old)).rejects.toThrow(tooOld);
    await expect(connect(old)).rejects.toThrow(tooOld);
    await expect(old.query(initSql)).rejects.toThrow('other migrations than this init.sql knows');
    expect(await recorded(old)).toEqual(names);
    expect(await catalogueOf(old)).toBe(before);
  });

  test('is refused without a record of migrations; the error says what to do', async () => {
    await old.query('drop table schema_migrations');
    const tooOld = /has 0 of 9 of the migrations .*: start the previous version once/;
    await expect(migrate(old)).rejects.toThrow(tooOld);
    await expect(connect(old)).rejects.toThrow(tooOld);
    await expect(old.query(initSql)).rejects.toThrow('made by an older version');
  });

  test('is refused when a newer version has migrated it', async () => {
    await old.query("insert into schema_migrations (name) values ('9999_of-tomorrow')");
    await expect(migrate(old)).rejects.toThrow(
      /newer version of Bigbrotr \(9999_of-tomorrow; this/,
    );
    expect(await recorded(old)).toEqual([
      ...EARLIER_MIGRATIONS.slice(0, FOLDED_COUNT),
      '9999_of-tomorrow',
    ]);
  });

  test('is refused by the services until it is migrated; the error says what to do', async () => {
    await expect(connect(old)).rejects.toThrow(/older version of Bigbrotr: run the initializer/);
    await migrate(old);
    await connect(old);
  });

  test('is not changed by init.sql', async () => {
    const before = await catalogueOf(old);
    await expect(old.query(initSql)).rejects.toThrow('other migrations than this init.sql knows');
    await Bigbrotr.load(config(old), initSql, silent);
    expect(await catalogueOf(old)).toBe(before);
  });

  test('is migrated once by two initializers at once, and both add the seed', async () => {
    if (!existsSync(projectFile('dist/database/migrations')))
      throw new Error('run `npm run build` first');
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
    expect(await old.query('select name from schema_migrations')).toHaveLength(
      MIGRATION_NAMES.length,
    );
    expect(await catalogueOf(old)).toBe(await catalogueOf(fresh));
    expect(await old.query("select url from relays where url like '%seed%'")).toHaveLength(1);
  });

  test('is unchanged when a migration fails half-way', async () => {
    const [before, rows] = [await catalogueOf(old), await rowsOf(old)];
    const breaks = folderWith(
      `${String(MIGRATION_FILES.length + 1).padStart(4, '0')}_breaks.sql`,
      'create table half (way integer); delete from events; select 1 / 0;',
    );
    await expect(migrate(old, breaks)).rejects.toThrow(
      /could not be migrated to this version and is as it was: division by zero/,
    );
    expect(await catalogueOf(old)).toBe(before);
    expect(await rowsOf(old)).toEqual(rows);
    expect(await recorded(old)).toEqual(EARLIER_MIGRATIONS.slice(0, FOLDED_COUNT));
    expect(await migrate(old)).toEqual(MIGRATION_NAMES.slice(1));
  });

  test('is not migrated by a login that does not own it', async () => {
    const role = `writer_${randomBytes(4).toString('hex')}`;
    await old.query(
      `create role ${role} login password 'hers'; grant usage on schema public to ${role}; grant pg_read_all_data to ${role}`,
    );
    try {
      const writer = { ...config(old), user: role, password: 'hers' };
      await expect(migrateArchive(writer, writer, silent)).rejects.toThrow(
        /may not do it .*set POSTGRES_OWNER_PASSWORD and run the initializer again/,
      );
      expect(await migrateArchive(writer, config(old), silent)).toEqual(MIGRATION_NAMES.slice(1));
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

test('init.sql completes an archive whose creation was interrupted', async () => {
  const wanted = await catalogueOf(fresh);
  await fresh.query('truncate schema_migrations; drop function count_orphan_sightings()');
  await expect(connect(fresh)).rejects.toThrow('run the initializer');
  await expect(migrate(fresh)).rejects.toThrow('making it was interrupted: load init.sql again');
  await fresh.query(initSql);
  expect(await catalogueOf(fresh)).toBe(wanted);
  await connect(fresh);
});

test('the catalogue comparison detects every kind of difference', async () => {
  const changes = [
    'alter table relays add column extra integer',
    'alter table relays alter column inserted_at drop default',
    'alter table relay_manners alter column reason type varchar(9)',
    'alter table events drop constraint events_kind_range',
    'drop index events_created_at_id_index',
    'alter table relays disable trigger relays_delete_sightings',
    `create or replace function count_orphan_sightings() returns bigint language sql stable return 0`,
    `create or replace view readable_relays as select relay_url, network, generated_at, rtt_open, rtt_read, rtt_write, writable from relay_metadata_latest`,
    `comment on column relays.url is 'Something else.'`,
    'alter sequence claim_token_sequence increment by 2',
    'grant select on relays to public',
  ];
  for (const change of changes) {
    const before = await catalogueOf(fresh);
    await fresh.query(change);
    expect(await catalogueOf(fresh), change).not.toBe(before);
  }
});
