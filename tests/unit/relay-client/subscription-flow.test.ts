import { getEventListeners } from 'node:events';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { describe, expect, onTestFinished, vi } from 'vitest';
import { ByteBudget } from '../../../src/relay-client/byte-budget.ts';
import type { RelayConnection } from '../../../src/relay-client/connection.ts';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';
import { LateEvents } from '../../../src/relay-client/late-events.ts';
import { readPage } from '../../../src/relay-client/subscription.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { closesSeen, EVENTS, ids, LIMITS, read, pageTest as test } from '../../relay/page-test.ts';
import { whenStill } from '../../relay/relays.ts';
import { empty } from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 }); // for a busy machine; no timeout under test is that long

describe('back-pressure of a page', () => {
  test('slow reader stops the relay and loses nothing', async ({ visit }) => {
    const events = signedEvents(100, { from: 1000, to: 2000, contentBytes: 20_000 });
    const sent = Array(30).fill(events).flat(); // 60 MB do not fit into the buffers of a socket
    const { relay, connection } = await visit({ events: [], quirk: { inject: sent } });
    let sentWhileSlow = 0;
    const page = await read(connection, {
      maxBytes: 1e9,
      onStep: async () => {
        if (sentWhileSlow === 0) sentWhileSlow = await whenStill(() => relay.eventsSent);
      },
    });
    expect(page.end).toEqual({ type: 'eose' });
    expect(ids(page.events)).toEqual(ids(sent));
    expect(sentWhileSlow).toBeLessThan(sent.length);
  });

  test('many small events stop the relay too', async ({ visit }) => {
    // A thousand of them are less than 1 MB; all of them, 20 MB, do not fit into the buffers of a socket.
    const small = Array.from({ length: 40_000 }, (_, index) => `${index}`.padStart(500));
    const { relay, connection } = await visit({ events: [], quirk: { inject: small } });
    let sentWhileSlow = 0;
    const page = await read(connection, {
      maxEvents: 200_000,
      onStep: async () => {
        if (sentWhileSlow === 0) sentWhileSlow = await whenStill(() => relay.eventsSent);
      },
    });
    expect(page).toEqual({ events: small, end: { type: 'eose' } });
    expect(sentWhileSlow).toBeLessThan(small.length);
  });
});

describe('page whose reader stops', () => {
  test('closes the subscription at the relay', async ({ visit }) => {
    const { relay, connection } = await visit({ quirk: { betweenMs: 20 } });
    const page = readPage(connection, { limit: 500 }, LIMITS);
    expect((await page.next()).done).toBe(false);
    await page.return({ type: 'aborted' });
    await relay.until((seen) => closesSeen(seen) === 1);
    const [request] = relay.requests;
    await relay.until(() => request?.end === 'cancelled');
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('does not block the next page if the socket was paused', async ({ visit }) => {
    const small = Array.from({ length: 5000 }, (_, index) => index);
    const { relay, connection } = await visit({ quirk: { inject: small } });
    for await (const _ of readPage(connection, { limit: 1 }, LIMITS)) {
      await sleep(100);
      break;
    }
    relay.change({ quirk: { inject: [] } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('retains no memory over a thousand pages on one connection', async ({ visit }) => {
    const { connection } = await visit({ quirk: empty });
    const { signal } = new AbortController();
    LateEvents.of(connection); // one listener for the life of the connection
    const listening = countListeners(connection);
    const waiting = vi.spyOn(connection.closed, 'then');
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout');
    const before = timers().length;
    for (let n = 0; n < 1000; n++) await read(connection, { signal });
    expect(listening.added()).toBe(2000);
    expect(listening.now()).toBe(0);
    expect(waiting).not.toHaveBeenCalled(); // a promise holds its callbacks until it settles
    expect(getEventListeners(signal, 'abort')).toEqual([]);
    expect(timers().length).toBeLessThanOrEqual(before + 1);
  });
});

/** Counts the listeners that are added to a connection and removed from it. */
function countListeners(connection: RelayConnection): { added(): number; now(): number } {
  let added = 0;
  let removed = 0;
  for (const method of ['onMessage', 'onClosed'] as const) {
    const original = connection[method].bind(connection) as (handler: unknown) => () => void;
    vi.spyOn(connection, method).mockImplementation((handler: unknown) => {
      added += 1;
      const stop = original(handler);
      return () => {
        removed += 1;
        stop();
      };
    });
  }
  return { added: () => added, now: () => added - removed };
}

/** Lets the time of deadlines pass only by `vi.advanceTimersByTime`, however slow the machine is. Sockets go on. */
function stopClock(): void {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

describe('page of a relay above the junk limit', () => {
  const NOTICES = { quirk: { notices: 4000 } }; // 70 KB

  /** Resolves when the junk limit has stopped reading. */
  const untilHeld = (connection: RelayConnection) =>
    new Promise<void>((resolve) => {
      connection.onReadingChanged(() => connection.isThrottled && resolve());
    });

  test('waits for the answer: reading that is stopped is not silence', async ({ visit }) => {
    const { connection } = await visit(NOTICES, new JunkLimit(20 * 1024)); // holds for 3.2 seconds
    stopClock();
    const held = untilHeld(connection);
    const reading = read(connection, { idleTimeoutMs: 2000 });
    await held;
    await vi.advanceTimersByTimeAsync(3000);
    expect(connection.isThrottled).toBe(true);
    await vi.advanceTimersByTimeAsync(500);
    expect(connection.isThrottled).toBe(false);
    const { events, end } = await reading;
    expect({ end, events: events.length }).toEqual({ end: { type: 'eose' }, events: 10 });
  });

  test('ends at the total timeout', async ({ visit }) => {
    const share = new JunkLimit(1024);
    const { connection } = await visit(NOTICES, share);
    stopClock();
    const held = untilHeld(connection);
    let ended = false;
    const reading = read(connection, { idleTimeoutMs: 3000, totalTimeoutMs: 3000 }).finally(() => {
      ended = true;
    });
    await held;
    await vi.advanceTimersByTimeAsync(2900);
    await turn();
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(200);
    expect((await reading).end.type).toBe('timeout');
    expect(share.waiting).toBe(1);
    connection.close();
    await connection.closed;
    expect(share.waiting).toBe(0);
  });
});

describe('byte budget of all connections', () => {
  test('bounds buffered bytes: later pages wait, do not time out, and receive everything', async ({
    visit,
  }) => {
    const budget = new ByteBudget(1000); // three events or so
    const visits = await Promise.all([1, 2, 3].map(() => visit({}, new JunkLimit(), budget)));
    const [first, ...later] = visits.map(({ connection }) => connection);
    let letGo: () => void = () => {};
    const released = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    let seen = 0;
    const busy = read(first as RelayConnection, { onStep: () => released });
    await visits[0]?.relay.until(({ requests }) => requests[0]?.end !== null);
    while (!budget.isSpent) await sleep(10);
    const waiting = later.map((connection) =>
      read(connection, {
        idleTimeoutMs: 1500,
        totalTimeoutMs: 3000,
        onStep: ({ length }) => {
          seen += length;
        },
      }),
    );
    await sleep(3500);
    expect(seen).toBe(0);
    expect(budget.isSpent).toBe(true);
    letGo();
    for (const { events, end } of await Promise.all([busy, ...waiting])) {
      expect(end).toEqual({ type: 'eose' });
      expect(events).toHaveLength(10);
    }
    expect(budget.most).toBeLessThan(10 * 1000);
    budget.take(999);
    expect(budget.isSpent).toBe(false); // everything was returned
  });

  test('is released by a reader that stops in the middle of a page', async ({ visit }) => {
    const budget = new ByteBudget(1000);
    const { connection } = await visit({}, new JunkLimit(), budget);
    for await (const _ of readPage(connection, { limit: 10 }, LIMITS)) break;
    budget.take(999);
    expect(budget.isSpent).toBe(false);
  });
});
