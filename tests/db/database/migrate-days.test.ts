import pg from 'pg';
import { pino } from 'pino';
import { expect } from 'vitest';
import { ArchiveReader } from '../../../src/database/archive-reader.ts';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { type MigrateOptions, migrateArchive } from '../../../src/database/migrate.ts';
import { verifyArchive } from '../../../src/database/verify-archive.ts';
import { createVerifier } from '../../../src/nostr/verify.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf, databaseConfig, knownRelay, silent } from '../../postgres/bigbrotr.ts';
import { catalogueOf } from '../../postgres/catalogue.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { MIGRATION_NAMES, migrationsSql } from '../../postgres/earlier-archive.ts';
import { databaseTest } from '../../postgres/fixtures.ts';

/** Number of migrations of the archive before events had days. */
const BEFORE = MIGRATION_NAMES.findIndex((name) => name.endsWith('_days-tables'));
const EVENTS = signedEvents(300, { from: 1_600_000_000, to: 1_700_000_000 });
const RELAYS = 5;
const FACTS = `select
    (select jsonb_agg(to_jsonb(e) - 'created_day' order by event_key) from events e) as events,
    (select jsonb_agg(to_jsonb(s) - 'created_day' order by relay_id, event_key) from sightings s) as sightings,
    (select jsonb_agg(c) from coverage c) as coverage, count_orphan_sightings()::int as orphans`;
const IN_STEPS = { inStepsFrom: 0, blocksAStep: 2 };

const test = databaseTest
  /** An archive of the version before, with events on some relays and coverage. */
  .extend('old', async ({ server }, { onCleanup }) => {
    const old = await testDatabase({ ...server, template: 'template0' });
    onCleanup(() => old.drop());
    const names = MIGRATION_NAMES.slice(0, BEFORE).map((name) => `('${name}')`);
    await old.query(
      `${migrationsSql(BEFORE)} insert into schema_migrations (name) values ${names}`,
    );
    await old.query("insert into filters (filter) values ('{}')");
    await old.query(
      `select insert_relay('wss://relay-' || n || '.example.com', 'clearnet', 7) from generate_series(1, ${RELAYS}) n`,
    );
    await old.query(
      `insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
       select new_event_key(created_at), created_at, kind, decode(id, 'hex'), decode(pubkey, 'hex'), decode(sig, 'hex'), tags,
              event_tagvalues(tags), content
       from jsonb_to_recordset($1) as e (created_at bigint, kind integer, id text, pubkey text, sig text, tags jsonb, content text)`,
      [JSON.stringify(EVENTS)],
    );
    await old.query(
      'insert into sightings select event_key, relay_id, 9 from events, relays where (event_key + relay_id) % 3 > 0',
    );
    await old.query(
      `insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
       select relay_id, 1, 'paging', '2026-01-01', '{[1600000000,1700000001)}', 1700000300 from relays`,
    );
    return old;
  })
  .extend(
    'facts',
    ({ old }) =>
      async () =>
        (await old.query(FACTS))[0],
  )
  .extend(
    'migrate',
    ({ old }) =>
      (copy: MigrateOptions['copy'] = IN_STEPS, log = silent) =>
        migrateArchive(databaseConfig(old), databaseConfig(old), log, { copy }),
  )
  /** An initializer that was killed: it made the tables and took some steps, and was in the middle of another. */
  .extend('killAfter', ({ old }) => async (steps: number): Promise<void> => {
    const client = new pg.Client(old.config);
    await client.connect();
    try {
      const tables = migrationsSql(BEFORE + 1).slice(migrationsSql(BEFORE).length);
      const record = `insert into schema_migrations (name) values ('${MIGRATION_NAMES[BEFORE]}')`;
      await client.query(`begin; ${tables}; ${record}; commit`);
      for (let step = 0; step < steps; step += 1) expect(await copyStep(client)).toBe(true);
      await client.query('begin');
      expect(await copyStep(client)).toBe(true);
    } finally {
      await client.end(); // rolls back
    }
  });

async function copyStep(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ more: boolean }>('select copy_days_step(2) as more');
  return rows[0]?.more === true;
}

async function differences(database: TestDatabase): Promise<number> {
  const archive = await ArchiveReader.connect(databaseConfig(database), silent);
  try {
    let checked = 0;
    const onResult = (line: string) => {
      checked = Number.parseInt(line, 10);
    };
    const options = { sample: null, onResult, onProgress: () => {} };
    const different = await verifyArchive(archive, await createVerifier(), options);
    expect(checked).toBe(EVENTS.length);
    return different;
  } finally {
    await archive.close();
  }
}

test.for([
  ['in one transaction', { inStepsFrom: Number.POSITIVE_INFINITY }],
  ['in steps', IN_STEPS],
] as const)(
  'an archive gets days %s: the same rows, a schema as of a new one, and it archives on',
  async ([, copy], { old, database, facts, migrate }) => {
    const before = await facts();
    expect(await migrate(copy)).toEqual(MIGRATION_NAMES.slice(BEFORE));
    expect(await facts()).toEqual(before);
    expect(before).toMatchObject({ orphans: 0 });
    expect(await catalogueOf(old)).toBe(await catalogueOf(database));
    expect(await differences(old)).toBe(0);
    const days = 'select distinct created_day as day from events order by day';
    expect(await old.query('select day from days order by day')).toEqual(await old.query(days));
    const bigbrotr = await Bigbrotr.connect(databaseConfig(old), silent);
    try {
      const relay = await knownRelay(bigbrotr, 'new');
      const filterId = await bigbrotr.filterId({});
      const more = signedEvents(10, { from: 1_700_000_001, to: 1_700_100_000 });
      const batch = batchOf({ relay, filterId, events: [...EVENTS.slice(0, 10), ...more] });
      expect(await bigbrotr.store(batch)).toMatchObject({ events: 10, sightings: 20 });
    } finally {
      await bigbrotr.close();
    }
  },
);

test.for([0, 1, 7, 12, 15, 17])(
  'an archive goes on where its initializer was killed, in the middle of the step after %i others',
  async (steps, { old, facts, migrate, killAfter }) => {
    const before = await facts();
    await killAfter(steps);
    expect(await facts()).toEqual(before);
    expect(await migrate()).toEqual(MIGRATION_NAMES.slice(BEFORE + 1));
    expect(await facts()).toEqual(before);
    expect(await differences(old)).toBe(0);
  },
);

test('an initializer whose connection is cut while it copies goes on by itself', async ({
  old,
  facts,
  migrate,
}) => {
  const before = await facts();
  let cut = 0;
  const write = (line: string) => {
    if (!line.includes('are being copied') || cut >= 6) return;
    cut += 1;
    void old.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and query like '%from days_copy%' and pid <> pg_backend_pid()`,
    );
  };
  await migrate({ ...IN_STEPS, blocksAStep: 1 }, pino({ level: 'info' }, { write }));
  expect(cut).toBeGreaterThan(1);
  expect(await facts()).toEqual(before);
});

test('while it is copied an archive can be read and not written to, and services are refused', async ({
  old,
  facts,
  killAfter,
}) => {
  const before = await facts();
  await killAfter(3);
  const refused = { code: '25006' };
  await expect(old.query('delete from events')).rejects.toMatchObject(refused);
  await expect(
    old.query('insert into sightings (event_key, relay_id, seen_at) values (1, 1, 1)'),
  ).rejects.toMatchObject(refused);
  expect(await facts()).toEqual(before);
  await expect(Bigbrotr.connect(databaseConfig(old), silent)).rejects.toThrow(
    'run the initializer',
  );
});

test('an archive is not copied where the disk has no room for it; the sentence says how much is missing', async ({
  old,
  migrate,
}) => {
  const before = await catalogueOf(old);
  const full = { ...IN_STEPS, freeBytes: async () => 50_000 };
  await expect(migrate(full)).rejects.toThrow(
    /needs \d\.\d GB on the disk of PostgreSQL, and 0 GB are free/,
  );
  expect(await catalogueOf(old)).toBe(before);
  const enough = { ...IN_STEPS, freeBytes: async () => 1e9 };
  expect(await migrate(enough)).toEqual(MIGRATION_NAMES.slice(BEFORE));
});

test('views of others that read events are named before anything is copied', async ({
  old,
  migrate,
}) => {
  await old.query('create view mine as select id from events');
  const before = await catalogueOf(old);
  await expect(migrate()).rejects.toThrow(
    /views of your own read events or sightings: mine \(Drop them before/,
  );
  expect(await catalogueOf(old)).toBe(before);
  await old.query('drop view mine');
  expect(await migrate()).toEqual(MIGRATION_NAMES.slice(BEFORE));
});

test('the log says what room is needed, which rows are copied of how many, and the minutes left', async ({
  old,
  migrate,
}) => {
  await old.query('analyze events, sightings');
  const lines: Record<string, unknown>[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) });
  await migrate({ ...IN_STEPS, freeBytes: async () => 3e9 }, log);
  expect(lines[0]).toMatchObject({ neededGb: expect.any(Number), freeGb: 3 });
  const copying = lines.filter(({ msg }) => `${msg}`.includes('are being copied'));
  expect(copying[0]).toMatchObject({ what: 'rows of events', rows: 0, ofRows: 300 });
  expect(copying.at(-1)).toMatchObject({ step: '12 of 12', minutesLeft: expect.any(Number) });
});
