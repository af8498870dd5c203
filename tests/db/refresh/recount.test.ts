import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import type { Query } from '../../../src/database/connection.ts';
import {
  applyRecount,
  beginRecount,
  recountDay,
} from '../../../src/database/figures/recount-day.ts';
import { readNext } from '../../../src/database/journal.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { archivedEvents, keptDays, recountDays } from '../../fixtures/figures-recount.ts';
import { journalTest } from '../../fixtures/journal-test.ts';
import { keptLists, recountLists } from '../../fixtures/lists-recount.ts';
import { batchOf, knownRelay, openBigbrotr } from '../../postgres/bigbrotr.ts';
import { testDatabase } from '../../postgres/database.ts';
import {
  MIGRATION_NAMES,
  MIGRATIONS_FOLDER,
  migrationsSql,
} from '../../postgres/earlier-archive.ts';

const DAY = 20_000;
const SECONDS = { from: DAY * 86_400, to: DAY * 86_400 + 86_399 };
const EVENTS = signedEvents(64, { ...SECONDS, authors: 16, kinds: [0, 1, 7] });
const LATER = signedEvents(8, { ...SECONDS, authors: 16, seed: 2 });
const PART_EVENTS = 8;

const test = journalTest
  .extend('filled', async ({ bigbrotr, database, journal: _ready, relay, other, filterId }) => {
    await database.query("insert into journal_readers (name) values ('refresher')");
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS }));
    await bigbrotr.store(batchOf({ relay: other, filterId, known: EVENTS.slice(20) }));
    while ((await bigbrotr.figures.followJournal()) !== 'end') await sleep(5);
  })
  /** A recount of the day that is counted and not applied, with the transactions of it on connections of their own. */
  .extend('begun', async ({ session, filled: _filled }) => {
    const reading = await session();
    const claiming = await session();
    await reading.query('begin');
    const begun = await beginRecount(reading.query, claiming, DAY, PART_EVENTS);
    if (!begun) throw new Error('the day is not dirty');
    const transaction = async <T>(work: (query: Query) => Promise<T>): Promise<T> => {
      const one = await session();
      await one.query('begin');
      const result = await work(one.query);
      await one.query('commit');
      await one.close();
      return result;
    };
    return { reading, begun, transaction, query: claiming.query };
  });

test('readers of the journal do not wait for a recount, only for the part that is applied', async ({
  begun: { reading, begun, transaction, query },
  bigbrotr,
  database,
  relay,
  filterId,
  session,
}) => {
  const late = LATER.values();
  /** Stores an event and reads its row of the journal: it is held back as long as the recount has written something. */
  const readOn = async () => {
    const { value } = late.next();
    if (value) await bigbrotr.store(batchOf({ relay, filterId, events: [value] }));
    const { rows } = await reading.query<{ xid: string | null }>(
      'select pg_current_xact_id_if_assigned() as xid',
    );
    expect(rows[0]?.xid).toBeNull();
    const reader = await session();
    // Transactions of other tests on the same server hold it back too, for a moment.
    for (let state = ''; state !== 'rows'; await sleep(5)) {
      await reader.query('begin');
      ({ state } = await readNext(reader.query, 'finder', { rows: 1000, eventKeys: 10_000 }));
      await reader.query('rollback');
    }
    await reader.close();
  };
  await readOn();
  let applied = 0;
  const counted = await applyRecount(
    reading.query,
    {
      query,
      transaction: async (work) => {
        const result = await transaction(work);
        applied += 1;
        await readOn();
        return result;
      },
    },
    begun,
  );
  expect(counted).toEqual({ events: 64, sightings: 64 + 44 });
  const sizes = await database.query<{ authors: number }>(
    'select cardinality(author_ids) as authors from daily_counts where day = $1',
    [DAY],
  );
  expect(applied).toBe(sizes.length + 1);
  expect(sizes.length).toBe(8);
  expect(sizes.reduce((sum, { authors }) => sum + authors, 0)).toBe(16);
});

test('a recount whose day another refresher has recounted meanwhile changes nothing any more', async ({
  begun: { reading, begun, transaction, query },
  bigbrotr,
  database,
  relay,
  filterId,
}) => {
  let transactions = 0;
  const counted = await applyRecount(
    reading.query,
    {
      query,
      transaction: async (work) => {
        transactions += 1;
        if (transactions === 2) {
          await bigbrotr.store(batchOf({ relay, filterId, events: LATER }));
          while ((await bigbrotr.figures.followJournal()) !== 'end') await sleep(5);
          await reading.close(); // the connection that holds the day is lost
          while (!(await bigbrotr.figures.recountDay(DAY))) await sleep(5);
        }
        return transaction(work);
      },
    },
    begun,
  );
  expect(counted).toBeNull();
  expect(transactions).toBe(2);
  expect(await database.query('select from dirty_days')).toEqual([]);
  expect(await keptDays(database)).toEqual(recountDays(await archivedEvents(database)));
});

test('a day that is being recounted when a rebuild begins is made anew by the rebuild', async ({
  begun: { reading, begun, transaction, query },
  bigbrotr,
  database,
}) => {
  const { days } = await bigbrotr.figures.startRebuild();
  expect(days).toBe(1);
  expect(await applyRecount(reading.query, { query, transaction }, begun)).toMatchObject({
    events: 64,
  });
  await reading.query('commit');
  expect(await database.query('select day, is_rebuild from dirty_days')).toEqual([
    { day: DAY, is_rebuild: true },
  ]);
  expect(await bigbrotr.figures.recountDay(DAY)).toMatchObject({ events: 64 });
  for (const period of await bigbrotr.figures.periodsToCount('all', 10))
    await bigbrotr.figures.countPeriod(period);
  const events = await archivedEvents(database);
  expect(await keptDays(database)).toEqual(recountDays(events));
  expect(await keptLists(database)).toEqual(recountLists(events));
});

test('a day that grows is divided into more parts, without a change of its figures', async ({
  filled: _filled,
  bigbrotr,
  database,
  session,
}) => {
  const [one, two] = [await session(), await session()];
  const transaction = async <T>(work: (query: Query) => Promise<T>): Promise<T> => {
    const client = await session();
    await client.query('begin');
    const result = await work(client.query);
    await client.query('commit');
    await client.close();
    return result;
  };
  expect(await recountDay({ query: two.query, transaction }, DAY)).toMatchObject({ events: 64 });
  const before = await keptDays(database);
  const parts = () => database.query('select part, parts from daily_counts order by part');
  expect(await parts()).toEqual([{ part: 0, parts: 1 }]);
  await database.query('insert into dirty_days (day, since) values ($1, 0)', [DAY]);
  await one.query('begin');
  const begun = await beginRecount(one.query, two, DAY, 32);
  if (!begun) throw new Error('the day is not dirty');
  let split = false;
  await applyRecount(
    one.query,
    {
      query: two.query,
      transaction: async (work) => {
        const result = await transaction(work);
        if (!split) expect(await keptDays(database)).toEqual(before);
        split = true;
        return result;
      },
    },
    begun,
  );
  await one.query('commit');
  expect(await parts()).toEqual([
    { part: 0, parts: 2 },
    { part: 1, parts: 2 },
  ]);
  expect(await keptDays(database)).toEqual(before);
  expect(await bigbrotr.figures.daysToCount('all', 5)).toEqual([]);
});

test('a migration of figures as they were kept before leaves an archive whose figures are made anew', async ({
  server,
}) => {
  const at = MIGRATION_NAMES.indexOf('0018_figures') + 1;
  const archive = await testDatabase({ ...server, template: 'template0' });
  try {
    await archive.query(migrationsSql(at));
    await archive.query('insert into days (day) values ($1)', [DAY]);
    for (const event of EVENTS)
      await archive.query("select insert_event($1, $2, $3, $4, '[]', $5, $6, $7, $8)", [
        ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
        ...[event.kind, event.content, Buffer.from(event.sig, 'hex')],
        ...['wss://one.example.com', 'clearnet'],
      ]);
    await archive.query(
      `insert into daily_counts (day, scope, events, only_here, first_at, last_at, author_ids, kinds, counts)
       values ($1, 0, 5, 0, 1, 2, '{1}', '{1}', '{5}')`,
      [DAY],
    );
    await archive.query('insert into scope_stats values (0, 5, 0, 1, 1, 1, 2)');
    await archive.query('delete from dirty_days');
    await archive.query(migrationsSql(MIGRATION_NAMES.length).slice(migrationsSql(at).length));
    await archive.query('insert into schema_migrations (name) select unnest($1::text[])', [
      MIGRATION_NAMES,
    ]);
    const bigbrotr = await openBigbrotr(archive);
    expect(await bigbrotr.figures.daysToCount('all', 5)).toEqual([DAY]);
    expect(await bigbrotr.figures.recountDay(DAY)).toEqual({ events: 64, sightings: 64 });
    await bigbrotr.close();
    expect(await keptDays(archive)).toEqual(recountDays(await archivedEvents(archive)));
  } finally {
    await archive.drop();
  }
});

test('of profiles of one second that are read together, the one with the lowest id is current', async ({
  bigbrotr,
  database,
  journal: _ready,
  relay,
  filterId,
}) => {
  await database.query("insert into journal_readers (name) values ('refresher')");
  const second = { from: SECONDS.from, to: SECONDS.from };
  const profiles = signedEvents(8, { ...second, authors: 1, kinds: [0] });
  await bigbrotr.store(batchOf({ relay, filterId, events: profiles }));
  while ((await bigbrotr.figures.followJournal()) !== 'end') await sleep(5);
  const current = await database.query(
    "select encode(e.id, 'hex') as id from current_events c join events e using (event_key)",
  );
  expect(current).toEqual([{ id: profiles.map(({ id }) => id).sort()[0] }]);
});

test('a migration packs the figures that were counted before as a recount does', async ({
  server,
}) => {
  const archive = await testDatabase(server);
  try {
    const bigbrotr = await openBigbrotr(archive);
    const relay = await knownRelay(bigbrotr, 'one');
    await bigbrotr.store(batchOf({ relay, filterId: await bigbrotr.filterId({}), events: EVENTS }));
    await archive.query(
      'insert into dirty_days (day, since) values ($1, 0) on conflict do nothing',
      [DAY],
    );
    await bigbrotr.figures.recountDay(DAY);
    await bigbrotr.close();
    const packed = async () => [
      ...(await archive.query('select * from daily_counts order by day, part')),
      ...(await archive.query('select * from scope_authors order by scope, author_id')),
    ];
    const counted = await packed();
    expect(counted.length).toBeGreaterThan(10);
    await archive.query(AS_BEFORE_0023);
    expect(await packed()).not.toEqual(counted);
    await archive.query(readFileSync(join(MIGRATIONS_FOLDER, '0023_packed-figures.sql'), 'utf8'));
    expect(await packed()).toEqual(counted);
  } finally {
    await archive.drop();
  }
});

/** SQL: figures as 0019 keeps them, two bytes a place and six a kind. */
const AS_BEFORE_0023 = `
drop view daily_authors, pubkey_counts, pubkey_counts_by_relay;
drop function is_counted(integer, integer, integer);
create function pg_temp.wide_places(places bytea, authors integer) returns smallint[] language sql
as $$ select array_agg((place - 32769)::smallint order by n) from places_of(places, authors) with ordinality as p (place, n) $$;
create function pg_temp.wide_kinds(kinds bytea) returns bytea language sql
as $$ select string_agg(substring(int4send(kind) from 3) || int4send(events), ''::bytea order by kind) from kinds_of(kinds) $$;
alter table daily_counts alter places type smallint[] using pg_temp.wide_places(places, cardinality(author_ids));
alter table scope_authors alter kinds type bytea using pg_temp.wide_kinds(kinds);
drop function kind_count(bytea), place_bytes(integer), places_of(bytea, integer);
create view daily_authors as select 1 as day;
create view pubkey_counts as select 1 as pubkey;
create view pubkey_counts_by_relay as select 1 as pubkey;
create function is_counted(integer, integer, integer) returns boolean language sql return true`;

test('a day with thousands of authors, and one with hundreds of events, is counted exactly', async ({
  bigbrotr,
  database,
}) => {
  await database.query(
    `insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
     select event_key_floor($1 * 86400::bigint) + n, $1 * 86400::bigint, kind, $1, sha256(int4send(n)), sha256(int4send(author)),
            sha512('s'), '[]', '[]', ''
     from (
         select row_number() over ()::integer as n, *
         from (
             select 1 as kind, author from generate_series(1, 3000) author
             union all
             select 7, author from generate_series(1, 3000, 2999) author, generate_series(1, 300)
         ) e
     ) numbered`,
    [DAY],
  );
  await database.query('insert into dirty_days (day, since) values ($1, 0)', [DAY]);
  expect(await bigbrotr.figures.recountDay(DAY)).toMatchObject({ events: 3600 });
  const kept = await database.query(
    "select encode(pubkey, 'hex') as pubkey, events::integer, kinds::integer from daily_authors where day = $1 order by 1",
    [DAY],
  );
  expect(kept).toEqual(
    await database.query(
      `select encode(pubkey, 'hex') as pubkey, count(*)::integer as events, count(distinct kind)::integer as kinds
       from events group by 1 order by 1`,
    ),
  );
  const totals = await database.query(
    `select encode(a.pubkey, 'hex') as pubkey, k.kind, k.events
     from scope_authors t join authors a using (author_id) cross join kinds_of(t.kinds) k order by 1, 2`,
  );
  expect(totals).toEqual(
    await database.query(
      `select encode(pubkey, 'hex') as pubkey, kind, count(*)::integer as events from events group by 1, 2 order by 1, 2`,
    ),
  );
  expect(
    await database.query(String.raw`select * from kinds_of('\x04000100011170ffff00000001')`),
  ).toEqual([
    { kind: 1, events: 70_000 },
    { kind: 65_535, events: 1 },
  ]);
});
