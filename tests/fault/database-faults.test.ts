import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { describe, expect, test as plainTest, vi } from 'vitest';
import type { DatabaseConfig } from '../../src/config/load.ts';
import { type Batch, Bigbrotr, type Relay } from '../../src/database/bigbrotr.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { signedEvents } from '../fixtures/events.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import { batchOf, closeGate, databaseConfig, knownRelay } from '../postgres/bigbrotr.ts';
import { startPrivateServer } from '../postgres/private-server.ts';
import { ownDirectory } from '../processes/directory.ts';

const test = plainTest
  .extend('directory', { scope: 'file' }, () => ownDirectory())
  .extend('serverOfFile', { scope: 'file' }, async ({ directory }, { onCleanup }) => {
    const server = await startPrivateServer(directory);
    onCleanup(() => server.remove());
    return server;
  })
  /** PostgreSQL of this file, emptied before each test. */
  .extend('server', async ({ serverOfFile }) => {
    await serverOfFile.database.query(
      'truncate relays, filters, events, sightings restart identity cascade',
    );
    return serverOfFile;
  })
  /** The wire to it, which can be cut. */
  .extend('proxy', async ({ server }, { onCleanup }) => {
    const proxy = await startTcpProxy(server.database.config);
    onCleanup(() => proxy.close());
    return proxy;
  })
  /** Codes and messages of what was tried again. */
  .extend('retried', (): string[] => [])
  /** Opens the archive over the proxy. */
  .extend('open', ({ server, proxy, retried }, { onCleanup }) => {
    const opened: Bigbrotr[] = [];
    onCleanup(async () => {
      await Promise.all(opened.map((bigbrotr) => bigbrotr.close()));
    });
    const write = (line: string) => {
      const { code, err } = JSON.parse(line);
      retried.push(`${code} ${err?.message}`);
    };
    return async (parts: Partial<DatabaseConfig> = {}) => {
      const { host, port } = proxy;
      const config = databaseConfig(server.database, { host, port, ...parts });
      const bigbrotr = await Bigbrotr.connect(config, pino({ level: 'debug' }, { write }));
      opened.push(bigbrotr);
      const [relay, filterId] = [await knownRelay(bigbrotr, 'one'), await bigbrotr.filterId({})];
      return { bigbrotr, relay, filterId };
    };
  })
  /** What the archive holds must be exactly this, and coverage must claim exactly what it rests on. */
  .extend(
    'expectArchive',
    ({ server: { database } }) =>
      async (events: readonly NostrEvent[], covered: string): Promise<void> => {
        const ids = await database.query<{ id: string }>('select id from events_hex order by id');
        expect(ids.map(({ id }) => id)).toEqual(events.map(({ id }) => id).sort());
        const [row] = await database.query(
          `select (select count(*)::int from sightings) as sightings, count_orphan_sightings()::int as orphans,
                  (select coalesce(range_agg(covered), '{}') from coverage) as covered`,
        );
        expect(row).toEqual({ sightings: events.length, orphans: 0, covered });
      },
  );

/** Ten batches of ten events: the first has the newest, and each proves what it holds. */
const EVENTS = signedEvents(100, { from: 0, to: 9999, authors: 2 });
const slice = (number: number) =>
  EVENTS.filter(({ created_at: at }) => Math.floor(at / 1000) === 9 - number);

/** @param parts what the batch has besides: with offences it is a transaction, else one statement */
function storeSlice(
  bigbrotr: Bigbrotr,
  relay: Relay,
  filterId: number,
  number: number,
  parts: Partial<Batch> = {},
) {
  const since = (9 - number) * 1000;
  const proven = [{ since, until: since + 999 }];
  return bigbrotr.store(batchOf({ relay, filterId, events: slice(number), proven, ...parts }));
}

const OFFENDING: Partial<Batch> = {
  offences: [{ reason: 'bad_signature', count: 1, example: null }],
};

describe('PostgreSQL crashes in the middle of a batch', () => {
  test('nothing of the batch is stored, and after its restart everything is, once', async ({
    open,
    server,
    proxy,
    retried,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open();
    for (let number = 0; number < 4; number += 1)
      await storeSlice(bigbrotr, relay, filterId, number);
    const gate = await closeGate(server.database, 'coverage'); // events and sightings are written, the proof is not
    const storing = Promise.all(
      [4, 5, 6, 7, 8, 9].map((number) => storeSlice(bigbrotr, relay, filterId, number)),
    );
    await gate.waiting(1);
    const [before] = await server.database.query('select pg_postmaster_start_time() as at');
    await server.crash();
    expect(await bigbrotr.isUp(500)).toBe(false);
    await server.start();
    // The archive cannot reach it yet: what is seen now is what the crash has left.
    const [after] = await server.database.query('select pg_postmaster_start_time() as at');
    expect(after).not.toEqual(before);
    const kept = [0, 1, 2, 3].flatMap(slice);
    await expectArchive(kept, '{[6000,10000)}');
    await server.database.query('drop function wait_at_gate cascade');
    expect(retried.length).toBeGreaterThan(0);
    proxy.redirect(server.database.config.port);
    await storing;
    await expectArchive(EVENTS, '{[0,10000)}');
    expect(await bigbrotr.isUp()).toBe(true);
  });

  test('twice in a row, while four writers are at work', async ({
    open,
    server,
    proxy,
    retried,
  }) => {
    const { bigbrotr, filterId } = await open({ maxPool: 4 });
    const relays = await Promise.all(
      [0, 1, 2, 3].map((index) => knownRelay(bigbrotr, `relay-${index}`)),
    );
    let stored = 0;
    const writing = Promise.all(
      relays.map(async (relay) => {
        for (let number = 0; number < 10; number += 1) {
          await storeSlice(bigbrotr, relay, filterId, number);
          stored += 1;
          await sleep(20);
        }
      }),
    );
    for (const wanted of [5, 15]) {
      await vi.waitFor(() => expect(stored).toBeGreaterThanOrEqual(wanted), {
        timeout: 20_000,
        interval: 5,
      });
      await server.crash();
      expect(stored).toBeLessThan(40); // it was in the middle
      await server.start();
      proxy.redirect(server.database.config.port);
    }
    await writing;
    const [row] = await server.database.query(
      `select (select count(*)::int from events) as events, (select count(*)::int from sightings) as sightings,
              (select count(*)::int from coverage where covered = '{[0,10000)}') as covered`,
    );
    expect(row).toEqual({ events: 100, sightings: 400, covered: 4 });
    expect(retried.length).toBeGreaterThan(1);
  });
});

describe('a connection to PostgreSQL', () => {
  test('that loses the answer to COMMIT: the transaction is sent again, and stored once', async ({
    open,
    proxy,
    retried,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open();
    for (let number = 0; number < 10; number += 1) {
      proxy.swallowCommits(number === 3 || number === 6 ? 2 : 0);
      await storeSlice(bigbrotr, relay, filterId, number, OFFENDING);
    }
    expect(proxy.swallowed).toBe(4);
    expect(retried).toHaveLength(4);
    await expectArchive(EVENTS, '{[0,10000)}');
  });

  test('that loses the answer to a batch in one statement: it is sent again, and stored once', async ({
    open,
    proxy,
    retried,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open();
    for (let number = 0; number < 10; number += 1) {
      proxy.swallowAnswers(number === 3 || number === 6 ? 2 : 0, 'store_sighted(');
      await storeSlice(bigbrotr, relay, filterId, number);
    }
    expect(proxy.swallowed).toBe(4);
    expect(retried).toHaveLength(4);
    await expectArchive(EVENTS, '{[0,10000)}');
  });

  test('that loses it in any other call that writes in a transaction', async ({
    open,
    server,
    proxy,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open();
    const begin = () =>
      bigbrotr.beginVisit(
        relay,
        { filterId, since: 0, until: 9999 },
        { overlapSeconds: 0, reproveSeconds: 1000 },
      );
    proxy.swallowCommits(1);
    expect((await begin()).missing).toMatchObject([{ since: 0, until: 9999 }]);
    await bigbrotr.store(
      batchOf({
        relay,
        filterId,
        holes: [{ since: 5, until: 5, reason: 'dense', count: 500 }],
        events: EVENTS.slice(0, 5),
        ...OFFENDING,
      }),
    );
    proxy.swallowCommits(1);
    await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since: 0, until: 10 }] }));
    expect(proxy.swallowed).toBe(2);
    expect(await server.database.query('select from holes')).toEqual([]);
    await expectArchive(EVENTS.slice(0, 5), '{[0,11)}');
  });

  test('that is cut again and again: everything is stored once', async ({
    open,
    proxy,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open();
    let cuts = 0;
    let isOver = false;
    const cutting = (async () => {
      // Longer each time, so that a slow machine gets through too.
      for (let pauseMs = 70; !isOver; await sleep(pauseMs)) {
        if (proxy.open() === 0) continue;
        proxy.cut();
        cuts += 1;
        pauseMs *= 1.2;
      }
    })();
    for (let number = 0; number < 10; number += 1) {
      await storeSlice(bigbrotr, relay, filterId, number);
      await sleep(30);
    }
    isOver = true;
    await cutting;
    expect(cuts).toBeGreaterThan(2);
    await expectArchive(EVENTS, '{[0,10000)}');
  });

  test('that goes silent: the statement times out and is sent over another', async ({
    open,
    proxy,
    retried,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open({ maxPool: 1, commandTimeoutMs: 2000 });
    await storeSlice(bigbrotr, relay, filterId, 0);
    proxy.stall();
    const storing = storeSlice(bigbrotr, relay, filterId, 1);
    proxy.recover(); // for new connections; the one in use stays dead
    await storing;
    expect(retried).toEqual([expect.stringMatching(/Query read timeout/)]);
    await expectArchive([...slice(0), ...slice(1)], '{[8000,10000)}');
    proxy.stall();
    expect(await bigbrotr.isUp(100)).toBe(false);
    proxy.recover();
    await vi.waitFor(async () => expect(await bigbrotr.isUp(100)).toBe(true), 10_000);
  });

  test('that goes silent within a transaction: its locks are released', async ({
    open,
    server,
    proxy,
    expectArchive,
  }) => {
    const { bigbrotr, relay, filterId } = await open({ commandTimeoutMs: 5000 });
    const gate = await closeGate(server.database, 'coverage');
    const storing = storeSlice(bigbrotr, relay, filterId, 0, OFFENDING);
    await gate.waiting(1);
    proxy.stall();
    proxy.recover();
    await gate.open(); // the statement succeeds, and PostgreSQL waits for a COMMIT that never comes
    await vi.waitFor(
      async () =>
        expect(
          await server.database.query(
            "select from pg_stat_activity where state = 'idle in transaction'",
          ),
        ).toHaveLength(1),
      4000,
    );
    await expectArchive([], '{}');
    await storing;
    await expectArchive(slice(0), '{[9000,10000)}');
  });
});
