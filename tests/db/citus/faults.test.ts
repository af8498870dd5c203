import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { test as baseTest, describe, expect } from 'vitest';
import { type Batch, Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { batchOf, databaseConfig, knownRelay } from '../../postgres/bigbrotr.ts';
import { startCitusCluster } from '../../postgres/citus-cluster.ts';

// On a coordinator with two workers of its own, because they are killed. Runs where TEST_CITUS_PORTS names a cluster.

const hasCitus = Boolean(process.env.TEST_CITUS_PORTS);
if (!hasCitus) console.log('Citus is not tested: TEST_CITUS_PORTS is not set.');
const WORKERS = 2;
/** Four a worker. */
const SHARDS = 8;
const WRITERS = 4;
/** Nodes are killed at random until this many batches are written, after the four kills of every run. */
const BATCHES = Number(process.env.TEST_CITUS_BATCHES ?? 0);
const DAY = 86_400;
const DAYS = 12;
const EVENTS_A_BATCH = 8;

const test = baseTest
  .extend('workers', { scope: 'file' }, () => WORKERS)
  .extend('cluster', { scope: 'file' }, async ({ workers }, { onCleanup }) => {
    const cluster = await startCitusCluster(workers, SHARDS);
    onCleanup(() => cluster.remove());
    return cluster;
  })
  /** What the pool says of statements that are tried again: their codes. */
  .extend('retried', () => [] as string[])
  .extend('bigbrotr', async ({ cluster, retried }, { onCleanup }) => {
    const log = pino(
      { level: 'debug' },
      { write: (line: string) => void retried.push(JSON.parse(line).code ?? '') },
    );
    const bigbrotr = await Bigbrotr.connect(databaseConfig(cluster, { maxPool: 8 }), log);
    onCleanup(() => bigbrotr.close());
    return bigbrotr;
  });

/** Events of one second on each of several days, so that they are on both workers; `number` makes batches different. */
function eventsOf(number: number): ReturnType<typeof signedEvent>[] {
  return Array.from({ length: EVENTS_A_BATCH }, (_, index) =>
    signedEvent({ created_at: (19_000 + ((number + index * 5) % DAYS)) * DAY + number }),
  );
}

/** A batch that proves the seconds of its events. */
function provingBatch(parts: Pick<Batch, 'relay' | 'filterId'>, number: number): Batch {
  const events = eventsOf(number);
  const proven = events.map(({ created_at: second }) => ({ since: second, until: second }));
  return batchOf({ ...parts, events, proven });
}

/** Seconds of a relay that are covered without an event, events in part of a batch, and orphans. */
async function flaws(
  query: <Row extends object>(sql: string) => Promise<Row[]>,
): Promise<Record<string, unknown> | undefined> {
  const [sightings, covered, [orphans]] = await Promise.all([
    query<{ relay_id: number; second: number }>(
      'select relay_id, (event_key >> 24)::float8 as second from sightings',
    ),
    query<{ relay_id: number; second: number }>(
      `select relay_id, s::float8 as second
       from coverage c cross join lateral unnest(c.covered) r
       cross join lateral generate_series(lower(r), upper(r) - 1) s`,
    ),
    query<{ orphans: number }>('select count_orphan_sightings()::int as orphans'),
  ]);
  const name = (row: { relay_id: number; second: number }) => `${row.relay_id} ${row.second}`;
  const seen = new Set(sightings.map(name));
  const batches = new Map<string, number>();
  for (const { relay_id: relay, second } of sightings) {
    const batch = `${relay} ${second % DAY}`;
    batches.set(batch, (batches.get(batch) ?? 0) + 1);
  }
  return {
    uncovered: sightings.length - covered.length,
    withoutEvents: covered.filter((row) => !seen.has(name(row))).length,
    partial: [...batches.values()].filter((count) => count !== EVENTS_A_BATCH).length,
    orphans: orphans?.orphans,
  };
}

describe.runIf(hasCitus)('on Citus', () => {
  test('six writers of the same batches in the same order do not deadlock', async ({
    cluster,
    bigbrotr,
    retried,
  }) => {
    const filterId = await bigbrotr.filterId({});
    const writers = await Promise.all(
      Array.from({ length: 6 }, (_, index) => knownRelay(bigbrotr, `writer-${index}`)),
    );
    await Promise.all(
      writers.map(async (relay) => {
        for (let number = 0; number < 25; number += 1)
          await bigbrotr.store(provingBatch({ relay, filterId }, number));
      }),
    );
    expect(retried.filter((code) => code === '40P01')).toEqual([]);
    expect(await flaws(cluster.query)).toEqual({
      uncovered: 0,
      withoutEvents: 0,
      partial: 0,
      orphans: 0,
    });
  });

  test('moving shards to another worker while batches are written fails none', async ({
    cluster,
    bigbrotr,
    retried,
  }) => {
    const filterId = await bigbrotr.filterId({});
    const relay = await knownRelay(bigbrotr, 'moved');
    let isMoving = true;
    let written = 0;
    const writing = (async () => {
      while (isMoving) {
        await bigbrotr.store(provingBatch({ relay, filterId }, 1000 + written));
        written += 1;
      }
    })();
    const [from, to] = cluster.workers;
    const shards = await cluster.query<{ shardid: string }>(
      `select shardid from pg_dist_shard_placement join pg_dist_shard using (shardid)
       where logicalrelid = 'events'::regclass and nodeport = $1 order by shardid limit 2`,
      [from],
    );
    try {
      for (const { shardid } of shards)
        await cluster.query(
          `select citus_move_shard_placement($1::bigint, '127.0.0.1', $2::int, '127.0.0.1', $3::int, 'force_logical')`,
          [shardid, from, to],
        );
    } finally {
      isMoving = false;
      await writing;
    }
    expect(shards).toHaveLength(2);
    expect(written).toBeGreaterThan(0);
    expect(retried.filter((code) => code !== '')).toEqual([]);
    expect(await flaws(cluster.query)).toEqual({
      uncovered: 0,
      withoutEvents: 0,
      partial: 0,
      orphans: 0,
    });
  });

  test('workers and the coordinator that are killed during batches leave no batch in part', async ({
    cluster,
    bigbrotr,
    retried,
  }) => {
    const filterId = await bigbrotr.filterId({});
    const relays = await Promise.all(
      Array.from({ length: WRITERS }, (_, index) => knownRelay(bigbrotr, `killed-${index}`)),
    );
    let isKilling = true;
    let written = 0;
    const writing = relays.map(async (relay) => {
      for (let number = 2000; isKilling; number += 1) {
        // A service gives up after a while and goes on with the next visit.
        const stored = await bigbrotr.store(provingBatch({ relay, filterId }, number)).then(
          () => true,
          () => false,
        );
        if (stored) written += 1;
        else number -= 1;
      }
    });
    const [first = 0, second = 0] = cluster.workers;
    const nodes = [first, second, cluster.config.port];
    const kill = async (port: number, isExplained: boolean) => {
      await sleep(1500);
      await cluster.kill(port);
      if (isExplained)
        expect(await bigbrotr.whyDown(10_000)).toMatch(new RegExp(`127\\.0\\.0\\.1:${port}`));
      await sleep(500);
      cluster.start(port);
    };
    for (const port of [...nodes, first]) await kill(port, port === first);
    while (written < BATCHES) await kill(nodes[Math.floor(Math.random() * 3)] ?? first, false);
    await sleep(1500);
    isKilling = false;
    await Promise.all(writing);
    const prepared = async () => {
      const counts = cluster.workers.map((port) =>
        cluster.query('select from pg_prepared_xacts', [], port),
      );
      return (await Promise.all(counts)).flat().length;
    };
    await expect.poll(prepared, { timeout: 90_000 }).toBe(0);
    if (BATCHES > 0) console.log(`${written} batches were written`);
    expect(written).toBeGreaterThan(20);
    expect(retried.filter((code) => code !== '')).not.toEqual([]);
    expect(await flaws(cluster.query)).toEqual({
      uncovered: 0,
      withoutEvents: 0,
      partial: 0,
      orphans: 0,
    });
    expect(await bigbrotr.whyDown(10_000)).toBeNull();
  });
});
