import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { type JournalReader, readerLag, readNext } from '../../../src/database/journal.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { append, JournalModel, LIMITS, READERS, type Step } from '../../fixtures/journal-model.ts';
import { SECOND, journalTest as test } from '../../fixtures/journal-test.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { MIGRATION_NAMES, migrationsSql } from '../../postgres/earlier-archive.ts';

const DAY = 86_400;
const ON_DAYS = [20_000, 20_000, 20_003].map((day, index) =>
  signedEvent({ created_at: day * DAY + index }),
);
const keysOf = (database: TestDatabase) =>
  database
    .query<{ key: string }>('select event_key::text as key from events order by event_key')
    .then((rows) => rows.map(({ key }) => key));

describe('a row of the journal', () => {
  test('has the new events of a batch and the days it changed; there is none if nothing changed', async ({
    bigbrotr,
    database,
    journal,
    relay,
    other,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    const keys = await keysOf(database);
    const first = { relay_id: relay.relayId, event_keys: keys, days: [20_000, 20_003] };
    const sorted = async () =>
      (await journal.rows()).map((row) => ({ ...row, event_keys: row.event_keys.toSorted() }));
    expect(await sorted()).toEqual([first]);
    await bigbrotr.store(batchOf({ relay, filterId, known: ON_DAYS }));
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    expect(await sorted()).toEqual([first]);
    await bigbrotr.store(batchOf({ relay: other, filterId, known: ON_DAYS.slice(2) }));
    expect((await sorted()).at(-1)).toEqual({
      ...{ relay_id: other.relayId, event_keys: [], days: [20_003] },
    });
  });

  test('has each event that is stored again after it was deleted', async ({
    bigbrotr,
    database,
    journal,
    relay,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    await database.query('select delete_events(array(select event_key from events))');
    await database.query('truncate journal');
    await bigbrotr.store(batchOf({ relay, filterId, known: ON_DAYS }));
    const rows = await journal.rows();
    expect(rows.flatMap(({ event_keys }) => event_keys).toSorted()).toEqual(await keysOf(database));
    expect(rows.flatMap(({ days }) => days)).toContain(20_003);
  });

  test('is written by SQL functions that insert or delete, and only if they change something', async ({
    bigbrotr,
    database,
    journal,
    relay,
    filterId,
  }) => {
    const [event] = ON_DAYS;
    if (!event) throw new Error('no event');
    const insert = () =>
      database.query('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9)', [
        ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
        ...[event.kind, JSON.stringify(event.tags), event.content, Buffer.from(event.sig, 'hex')],
        ...[relay.url, 'clearnet'],
      ]);
    await insert();
    const [key = ''] = await keysOf(database);
    await insert();
    const deleted = { relay_id: null, event_keys: [], days: [20_000] };
    expect(await journal.rows()).toEqual([
      { relay_id: relay.relayId, event_keys: [key], days: [20_000] },
    ]);
    await database.query('truncate journal');
    const remove = 'select delete_events($1)::integer as deleted';
    expect(await database.query(remove, [[key]])).toEqual([{ deleted: 1 }]);
    expect(await database.query(remove, [[key]])).toEqual([{ deleted: 0 }]);
    expect(await journal.rows()).toEqual([deleted]);
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    await database.query('truncate journal');
    await database.query('delete from relays where relay_id = $1', [relay.relayId]);
    expect(await journal.rows()).toEqual([{ ...deleted, days: [20_000, 20_003] }]);
    await database.query('truncate journal');
    await database.query('select delete_orphan_events()');
    await database.query('select delete_orphan_events()');
    expect(await journal.rows()).toEqual([{ ...deleted, days: [20_000, 20_003] }]);
  });

  test('has the days of sightings that get an earlier time from another archive', async ({
    bigbrotr,
    database,
    journal,
    relay,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    await database.query('truncate journal');
    const seenAt = (at: number) => new Map(ON_DAYS.slice(2).map(({ id }) => [id, at]));
    await bigbrotr.imports.setEarlierSeenAt(relay, seenAt(1_700_000_001));
    expect(await journal.rows()).toEqual([]);
    await bigbrotr.imports.setEarlierSeenAt(relay, seenAt(1_600_000_000));
    expect(await journal.rows()).toEqual([
      { relay_id: relay.relayId, event_keys: [], days: [20_003] },
    ]);
  });

  test('is not written by a trigger on events', async ({ database }) => {
    const triggers = `select tgname from pg_trigger where tgrelid = 'events'::regclass and not tgisinternal`;
    expect(await database.query(triggers)).toEqual([]);
  });
});

const who = fc.nat(2);
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ does: fc.constantFrom('write' as const), who }) },
    { weight: 3, arbitrary: fc.record({ does: fc.constantFrom('commit', 'abort'), who }) },
    { weight: 4, arbitrary: fc.record({ does: fc.constantFrom('read', 'advance'), who }) },
    { weight: 1, arbitrary: fc.record({ does: fc.constantFrom('kill' as const), who }) },
    { weight: 1, arbitrary: fc.constant({ does: 'trim' as const }) },
  ),
  { minLength: 20, maxLength: 60 },
) as fc.Arbitrary<Step[]>;

describe('readers of the journal', () => {
  test('get each new event exactly once, in whatever order writers commit, stall or abort, and after any kill', async ({
    session,
    readAll,
    database,
  }) => {
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        await database.query('truncate journal');
        const open = () => Promise.all([session(), session(), session()]);
        const model = new JournalModel(session, await open(), await open());
        for (const step of all) await model.run(step);
        await model.end();
        for (const reader of new Set(READERS)) {
          const rest = (await readAll(reader)).flatMap(({ eventKeys }) => eventKeys);
          const handed = [...(model.handed.get(reader) ?? []), ...rest];
          const ascending = (keys: readonly string[]) => keys.map(Number).sort((a, b) => a - b);
          expect(ascending(handed), reader).toEqual(ascending(model.committed));
        }
      }),
      { numRuns: 12 },
    );
  }, 120_000);

  test('wait for a transaction that began before others, and read what it wrote first', async ({
    session,
    readAll,
  }) => {
    const [late, early] = [await session(), await session()];
    await late.query('begin');
    await append(late, 1);
    await append(early, 2);
    const reader = await session();
    await reader.query('begin');
    expect(await readNext(reader.query, 'finder', LIMITS)).toEqual({ state: 'held_back' });
    await reader.query('commit');
    await append(late, 3);
    await late.query('commit');
    const rows = await readAll('finder');
    expect(rows.map(({ eventKeys }) => eventKeys)).toEqual([['1'], ['3'], ['2']]);
  });

  test('read up to the given number of rows and keys, and a longer row alone', async ({
    session,
    database,
    journal: _ready,
  }) => {
    const writer = await session();
    for (const count of [3, 2, 40, 0])
      await writer.query(
        `insert into journal (event_keys, days)
         select coalesce(array_agg(n), '{}'), '{0}' from generate_series(1, $1) n`,
        [count],
      );
    const read = async (rows: number, eventKeys: number) => {
      const found = await readNext(writer.query, 'finder', { rows, eventKeys });
      return found.state === 'rows' ? found.rows.map((row) => row.eventKeys.length) : found.state;
    };
    const heldBack = 'select from journal where xid >= pg_snapshot_xmin(pg_current_snapshot())';
    while ((await database.query(heldBack)).length > 0) await sleep(10);
    expect(await read(10, 1000)).toEqual([3, 2, 40, 0]);
    expect(await read(1, 1000)).toEqual([3]);
    expect(await read(10, 1)).toEqual([3]);
    expect(await read(10, 4)).toEqual([3, 2]);
  });

  test('that are not registered are refused', async ({ session, database, journal: _ready }) => {
    await database.query("delete from journal_readers where name = 'second'");
    const { query } = await session();
    const error = /journal_readers has no row 'second'/;
    await expect(readNext(query, SECOND, LIMITS)).rejects.toThrow(error);
    await expect(readerLag(query, SECOND)).rejects.toThrow(error);
  });

  test('lag by the age of the oldest row that they have not read', async ({
    bigbrotr,
    database,
    readAll,
  }) => {
    await readAll('finder');
    expect(await bigbrotr.journal.lag('finder')).toBe(0);
    for (const age of [500, 900, 100])
      await database.query(
        "insert into journal (written_at, days) values (unix_now() - $1, '{0}')",
        [age],
      );
    const lag = await bigbrotr.journal.lag('finder');
    expect(lag).toBeGreaterThanOrEqual(500);
    expect(lag).toBeLessThan(800);
    await readAll('finder');
    expect(await bigbrotr.journal.lag('finder')).toBe(0);
  });
});

describe('trimming the journal', () => {
  test('drops rows that are read and old, or dated into the future, and none after one that is kept', async ({
    bigbrotr,
    database,
    readAll,
  }) => {
    const write = (key: number, age: number) =>
      database.query(
        `insert into journal (written_at, event_keys, days) values (unix_now() - $1, array[$2::bigint], '{0}')`,
        [age, key],
      );
    await write(1, 8 * DAY);
    await write(2, -2 * DAY);
    await write(3, 6 * DAY);
    await write(4, 8 * DAY);
    const left = () =>
      database.query<{ keys: string }>(
        "select string_agg(event_keys[1]::text, ' ' order by event_keys) as keys from journal",
      );
    expect(await bigbrotr.journal.trim(7)).toEqual({ trimmed: 0, isDone: true });
    await readAll('finder');
    expect(await bigbrotr.journal.trim(7)).toEqual({ trimmed: 0, isDone: true });
    await readAll(SECOND);
    expect(await bigbrotr.journal.trim(7)).toEqual({ trimmed: 2, isDone: true });
    expect(await left()).toEqual([{ keys: '3 4' }]);
  });
});

describe('a journal that was restored in another cluster', () => {
  /** As a dump brings them: written by transactions of another cluster, some of which this one will have in years. */
  const asOfAnother = async (database: TestDatabase, cluster: number) => {
    const far = `xid = (xid::text::bigint + 1000000000)::text::xid8, cluster = ${cluster}`;
    await database.query(`update journal set ${far}`);
    await database.query(`update journal_readers set ${far}`);
  };

  test('is read on from the cursor of each reader, then the rows written here, none twice', async ({
    bigbrotr,
    database,
    readAll,
    session,
    relay,
    filterId,
  }) => {
    const writer = await session();
    for (let key = 1; key <= 5; key += 1) await append(writer, key);
    await readAll(SECOND);
    for (let key = 6; key <= 9; key += 1) await append(writer, key);
    await asOfAnother(database, 1);
    await bigbrotr.store(batchOf({ relay, filterId, events: ON_DAYS }));
    const stored = await keysOf(database);
    expect(await bigbrotr.journal.trim(7)).toEqual({ trimmed: 0, isDone: true });
    const keys = async (reader: JournalReader) =>
      (await readAll(reader)).flatMap(({ eventKeys }) => eventKeys.toSorted());
    expect(await keys(SECOND)).toEqual(['6', '7', '8', '9', ...stored]);
    await asOfAnother(database, 2);
    await append(writer, 10);
    expect(await keys('finder')).toEqual([...'123456789'.split(''), ...stored, '10']);
    expect(await keys(SECOND)).toEqual(['10']);
  });

  test('is read by two readers that begin at the same time', async ({
    database,
    readAll,
    session,
  }) => {
    const writer = await session();
    for (let key = 1; key <= 9; key += 1) await append(writer, key);
    await asOfAnother(database, 1);
    const both = await Promise.all([readAll('finder'), readAll(SECOND)]);
    for (const rows of both)
      expect(rows.map(({ eventKeys }) => eventKeys.join())).toEqual([...'123456789']);
  });
});

test('a migration keeps the events that the finder has not read', async ({ server }) => {
  const at = MIGRATION_NAMES.findIndex((name) => name.endsWith('_journal'));
  const archive = await testDatabase({ ...server, template: 'template0' });
  try {
    await archive.query(migrationsSql(at));
    for (const event of ON_DAYS)
      await archive.query("select insert_event($1, $2, $3, $4, '[]', '', $5, $6, $7)", [
        ...[Buffer.from(event.id, 'hex'), Buffer.from(event.pubkey, 'hex'), event.created_at],
        ...[event.kind, Buffer.from(event.sig, 'hex'), 'wss://one.example.com', 'clearnet'],
      ]);
    const queue = await archive.query<{ keys: string[] }>(
      'select event_keys::text[] as keys from finder_queue order by batch_id',
    );
    expect(queue).toHaveLength(ON_DAYS.length);
    await archive.query(migrationsSql(at + 1).slice(migrationsSql(at).length));
    const unread = await archive.query(
      `select event_keys::text[] as keys, days from journal j, journal_readers r
       where r.name = 'finder' and (j.xid, j.batch_id) > (r.xid, r.batch_id) order by j.xid, j.batch_id`,
    );
    const days = [[20_000], [20_000], [20_003]];
    expect(unread).toEqual(queue.map(({ keys }, index) => ({ keys, days: days[index] })));
  } finally {
    await archive.drop();
  }
});
