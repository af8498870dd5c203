import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Bigbrotr, type Relay } from '../../src/bigbrotr.ts';
import type { DatabaseConfig } from '../../src/config.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { batchOf, closeGate, databaseConfig, knownRelay } from '../support/bigbrotr.ts';
import { signedEvents } from '../support/events.ts';
import { type PrivateServer, startPrivateServer } from '../support/private-server.ts';
import { startTcpProxy, type TcpProxy } from '../support/tcp-proxy.ts';

let server: PrivateServer;
let proxy: TcpProxy;
const opened: Bigbrotr[] = [];
/** Codes and messages of what was tried again. */
const retried: string[] = [];

beforeAll(async () => {
  server = await startPrivateServer();
});
afterAll(() => server.remove());
beforeEach(async () => {
  await server.database.query(
    'truncate relays, filters, events, sightings restart identity cascade',
  );
  proxy = await startTcpProxy(server.database.config);
  retried.length = 0;
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((bigbrotr) => bigbrotr.close()));
  await proxy.close();
});

const log = pino(
  { level: 'debug' },
  {
    write: (line) => {
      const { code, err } = JSON.parse(line);
      retried.push(`${code} ${err?.message}`);
    },
  },
);

async function open(parts: Partial<DatabaseConfig> = {}) {
  const { host, port } = proxy;
  const bigbrotr = await Bigbrotr.connect(
    databaseConfig(server.database, { host, port, ...parts }),
    log,
  );
  opened.push(bigbrotr);
  return {
    bigbrotr,
    relay: await knownRelay(bigbrotr, 'one'),
    filterId: await bigbrotr.filterId({}),
  };
}

/** Ten batches of ten events: the first has the newest, and each proves what it holds. */
const EVENTS = signedEvents(100, { from: 0, to: 9999, authors: 2 });
const slice = (number: number) =>
  EVENTS.filter(({ created_at: at }) => Math.floor(at / 1000) === 9 - number);

function storeSlice(bigbrotr: Bigbrotr, relay: Relay, filterId: number, number: number) {
  const since = (9 - number) * 1000;
  const proven = [{ since, until: since + 999 }];
  return bigbrotr.store(batchOf({ relay, filterId, events: slice(number), proven }));
}

/** What the archive holds must be exactly this, and coverage must claim exactly what it rests on. */
async function expectArchive(events: readonly NostrEvent[], covered: string): Promise<void> {
  const ids = await server.database.query<{ id: string }>('select id from events_hex order by id');
  expect(ids.map(({ id }) => id)).toEqual(events.map(({ id }) => id).sort());
  const [row] = await server.database.query(
    `select (select count(*)::int from sightings) as sightings, count_orphan_sightings()::int as orphans,
            (select coalesce(range_agg(covered), '{}') from coverage) as covered`,
  );
  expect(row).toEqual({ sightings: events.length, orphans: 0, covered });
}

describe('PostgreSQL crashes in the middle of a batch', () => {
  test('nothing of the batch is left; when it is back, all is stored, once', async () => {
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

  test('twice in a row, while four writers are at work', async () => {
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

describe('the wire to PostgreSQL', () => {
  test('loses the answer to COMMIT: it is sent again, nothing is there twice, nothing is lost', async () => {
    const { bigbrotr, relay, filterId } = await open();
    for (let number = 0; number < 10; number += 1) {
      proxy.swallowCommits(number === 3 || number === 6 ? 2 : 0);
      await storeSlice(bigbrotr, relay, filterId, number);
    }
    expect(proxy.swallowed).toBe(4);
    expect(retried).toHaveLength(4);
    await expectArchive(EVENTS, '{[0,10000)}');
  });

  test('loses it in every other call that writes in a transaction', async () => {
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
      }),
    );
    proxy.swallowCommits(1);
    await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since: 0, until: 10 }] }));
    expect(proxy.swallowed).toBe(2);
    expect(await server.database.query('select from holes')).toEqual([]);
    await expectArchive(EVENTS.slice(0, 5), '{[0,11)}');
  });

  test('is cut again and again', async () => {
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

  test('goes dead without a word: the statement is given up in time and sent over another', async () => {
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

  test('goes dead in the middle of a transaction: its locks do not stay in the way', async () => {
    const { bigbrotr, relay, filterId } = await open({ commandTimeoutMs: 5000 });
    const gate = await closeGate(server.database, 'coverage');
    const storing = storeSlice(bigbrotr, relay, filterId, 0);
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
