import pg from 'pg';
import { describe, expect, vi } from 'vitest';
import type { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { dayOf, hashInt4, shardOf } from '../../../src/database/days.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { storeTest } from '../../fixtures/store-test.ts';
import { batchOf, openBigbrotr } from '../../postgres/bigbrotr.ts';

const SHARDS = 16;
const DAY = 86_400;
/** Three events on each of eight days, which belong to several shards. */
const EVENTS = Array.from({ length: 24 }, (_, index) =>
  signedEvent({ created_at: 1_700_000_000 + (index % 8) * DAY + index, content: `${index}` }),
);
const ALL = { since: 0, until: 1_800_000_000 };

/** `spread` writes and reads as if events were distributed over shards. */
const test = storeTest.extend('spread', async ({ database }, { onCleanup }) => {
  const bigbrotr = await openBigbrotr(database, { shards: SHARDS });
  onCleanup(() => bigbrotr.close());
  return bigbrotr;
});

describe('shards', () => {
  test('are found by the hash that the server has', async ({ database }) => {
    const days = [0, 1, 2, 19_675, 20_423, 6_363_144, 2_147_483_647];
    const rows = await database.query<{ hash: number }>(
      'select hashint4(day) as hash from unnest($1::integer[]) with ordinality as t (day, place) order by place',
      [days],
    );
    expect(days.map(hashInt4)).toEqual(rows.map(({ hash }) => hash));
  });

  test('are ranges of the hash of the same length', () => {
    const shards = Array.from({ length: 5000 }, (_, day) => shardOf(day, 6));
    expect(new Set(shards)).toEqual(new Set([0, 1, 2, 3, 4, 5]));
    for (const [day, shard] of shards.entries())
      expect(shard).toBe(Math.floor((hashInt4(day) + 2 ** 31) / Math.floor(2 ** 32 / 6)));
  });

  test('change nothing in what is stored and found; each has its own row of the journal', async ({
    database,
    spread,
    bigbrotr,
    relay,
    other,
    filterId,
    counts,
  }) => {
    const shards = new Set(EVENTS.map(({ created_at }) => shardOf(dayOf(created_at), SHARDS)));
    expect(shards.size).toBeGreaterThan(2);
    const some = EVENTS.slice(0, 10);
    expect(await bigbrotr.store(batchOf({ relay, filterId, events: some }))).toMatchObject({
      events: 10,
    });
    await database.query('truncate journal');
    const stored = await spread.store(
      batchOf({ relay: other, filterId, events: EVENTS, proven: [ALL] }),
    );
    expect(stored).toMatchObject({ events: 14, sightings: 24, quarantined: 0 });
    expect(await counts()).toEqual({ events: 24, sightings: 34, quarantined: 0, orphans: 0 });
    const journal = await database.query<{ days: number[] }>(
      'select days from journal order by batch_id',
    );
    const written = journal.map(({ days }) => new Set(days.map((day) => shardOf(day, SHARDS))));
    expect(written).toEqual([...shards].sort((a, b) => a - b).map((shard) => new Set([shard])));
    expect(await spread.archivedEvents(EVENTS)).toEqual(await bigbrotr.archivedEvents(EVENTS));
    const known = new Map(
      [...(await spread.archivedEvents(EVENTS))].map(([id, { key }]) => [id, key]),
    );
    const again = batchOf({ relay, filterId, known: EVENTS });
    expect(await spread.store({ ...again, keys: known })).toMatchObject({
      events: 0,
      sightings: 14,
    });
    expect(await spread.store({ ...again, keys: known })).toMatchObject({
      events: 0,
      sightings: 0,
    });
  });
});

/** What is sent to the server meanwhile. */
async function statementsOf(work: () => Promise<unknown>): Promise<string[]> {
  const sent = vi.spyOn(pg.Client.prototype, 'query');
  try {
    await work();
    return sent.mock.calls.map(([statement]) => {
      const { text } = statement as unknown as { text?: string };
      return `${text ?? statement}`.trim().split(/\s/)[0] ?? '';
    });
  } finally {
    sent.mockRestore();
  }
}

describe('a page', () => {
  const storePage = async (bigbrotr: Bigbrotr, batch: Parameters<Bigbrotr['store']>[0]) => {
    const archived = await bigbrotr.archivedEvents([...batch.events, ...batch.known]);
    const keys = new Map([...archived].map(([id, { key }]) => [id, key]));
    await bigbrotr.store({ ...batch, keys, proven: [ALL] });
  };
  const TWO = ['select', 'select'];

  test('costs two ways to the server: the known question, and the batch with its coverage', async ({
    bigbrotr,
    relay,
    other,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS.slice(0, 8) })); // the days are known then
    const news = batchOf({ relay, filterId, events: EVENTS.slice(8) });
    expect(await statementsOf(() => storePage(bigbrotr, news))).toEqual(TWO);
    const known = batchOf({ relay: other, filterId, known: EVENTS });
    expect(await statementsOf(() => storePage(bigbrotr, known))).toEqual(TWO);
    expect(await statementsOf(() => storePage(bigbrotr, known))).toEqual(TWO);
  });

  test('with a day that the process has not stored before costs one more', async ({
    bigbrotr,
    relay,
    filterId,
  }) => {
    const ofDay = (day: number) =>
      batchOf({ relay, filterId, events: [signedEvent({ created_at: day * DAY })] });
    expect(await statementsOf(() => storePage(bigbrotr, ofDay(123)))).toEqual([
      ...['select', 'insert'],
      ...TWO.slice(1),
    ]);
    expect(await statementsOf(() => storePage(bigbrotr, ofDay(123)))).toHaveLength(2);
  });
});

test('a day that was deleted from the table of days is added again', async ({
  database,
  relay,
  store,
  counts,
}) => {
  await store({ events: EVENTS.slice(0, 8) });
  await database.query('delete from days');
  expect(await store({ events: EVENTS, relay })).toMatchObject({ events: 16, sightings: 16 });
  expect(await counts()).toMatchObject({ events: 24, orphans: 0 });
  const days = 'select distinct created_day as day from events order by day';
  expect(await database.query('select day from days order by day')).toEqual(
    await database.query(days),
  );
});

test('relay_urls has each relay, as it is added, renamed and deleted', async ({ database }) => {
  const both = async () => {
    const [urls, relays] = await Promise.all([
      database.query('select relay_id, url from relay_urls order by 1'),
      database.query('select relay_id, url from relays order by 1'),
    ]);
    expect(urls).toEqual(relays);
    return urls.length;
  };
  for (const name of ['one', 'two', 'three'])
    await database.query('select insert_relay($1, $2)', [`wss://${name}.example.com`, 'clearnet']);
  expect(await both()).toBe(3);
  await database.query("update relays set url = 'wss://new.example.com' where url like '%two%'");
  expect(await both()).toBe(3);
  await database.query("delete from relays where url like '%one%'");
  expect(await both()).toBe(2);
  await database.query('truncate relays cascade');
  expect(await both()).toBe(0);
});
