import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import type { ReqFilter } from '../../src/nostr/filter.ts';
import { ByteBudget } from '../../src/relay/byte-budget.ts';
import { connectRelay, type RelayConnection } from '../../src/relay/connection.ts';
import { LateEvents } from '../../src/relay/late-events.ts';
import { type PageEnd, readPage, type SubscriptionLimits } from '../../src/relay/subscription.ts';
import { UselessShare } from '../../src/relay/useless-share.ts';
import { signedEvents } from '../support/events.ts';
import { GARBAGE_NAMES } from '../support/relay-frames.ts';
import { local, relayUrl, whenStill } from '../support/relays.ts';
import {
  closed,
  disconnects,
  empty,
  endless,
  noEose,
  notice,
  nth,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 }); // the machine may be busy; what is tested waits for less, or for longer

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const EVENTS = signedEvents(10, { from: 1000, to: 2000 });
const LIMITS: SubscriptionLimits = {
  idleTimeoutMs: 60_000, // above the time of a test: what ends sooner ends for another reason
  totalTimeoutMs: 120_000,
  maxEvents: 10_000,
  maxBytes: 64 * 1024 * 1024,
};

async function visit(
  options: ScriptedRelayOptions = {},
  useless = new UselessShare(Number.POSITIVE_INFINITY), // nobody waits unless told
  inFlight = new ByteBudget(Number.POSITIVE_INFINITY),
): Promise<{ relay: ScriptedRelay; connection: RelayConnection }> {
  const relay = await startScriptedRelay({ events: EVENTS, ...options });
  closing.push(() => relay.stop());
  const connection = await connectRelay(relayUrl(relay.url), local({ useless, inFlight }));
  closing.push(() => connection.close());
  return { relay, connection };
}

interface Page {
  readonly events: unknown[];
  readonly end: PageEnd;
}

async function read(
  connection: RelayConnection,
  options: Partial<SubscriptionLimits> & {
    readonly filter?: ReqFilter;
    readonly signal?: AbortSignal;
    readonly onStep?: (events: unknown[]) => unknown;
  } = {},
): Promise<Page> {
  const { filter = { limit: 500 }, signal, onStep, ...limits } = options;
  const page = readPage(connection, filter, { ...LIMITS, ...limits }, signal);
  const events: unknown[] = [];
  for (;;) {
    const step = await page.next();
    if (step.done) return { events, end: step.value };
    events.push(...step.value);
    await onStep?.(step.value);
  }
}

const ids = (events: readonly unknown[]) => events.map((event) => (event as NostrEvent).id);
const closesSeen = ({ messages }: ScriptedRelay) =>
  messages.filter(({ message }) => Array.isArray(message) && message[0] === 'CLOSE').length;

describe('the end of a page', () => {
  test.each([
    ['eose', 'eose'],
    ['finish', 'finish'],
    ['more', 'more'],
    [{ eose: 'finish' }, 'finish'],
    [{ eose: 'more' }, 'more'],
    [{ eose: ['more', 'finish'] }, 'eose'],
    [{ eose: { finish: true } }, 'eose'],
  ] as const)('%j is %s, after every event in the order sent', async (end, type) => {
    const { relay, connection } = await visit({ quirk: { end } });
    const page = await read(connection);
    expect(page.end).toEqual({ type });
    expect(page.events).toEqual(EVENTS);
    await relay.until((seen) => closesSeen(seen) === 1, 'the CLOSE of a page that is over');
  });

  test('closed says why, and needs no CLOSE from us', async () => {
    const { relay, connection } = await visit({
      quirk: closed('rate-limited: slow\u0000 down', 3),
    });
    const page = await read(connection);
    expect(page.end).toEqual({ type: 'closed', text: 'rate-limited: slow\ufffd down' });
    expect(ids(page.events)).toEqual(ids(EVENTS.slice(0, 3)));
    relay.change({ quirk: {} });
    await read(connection);
    await relay.until((seen) => closesSeen(seen) > 0);
    expect(relay.messages.map(({ message }) => (message as unknown[])[0])).toEqual([
      'REQ',
      'REQ',
      'CLOSE',
    ]);
  });

  test('timeout, with what came before it', async () => {
    const { connection } = await visit({ quirk: noEose });
    const page = await read(connection, { idleTimeoutMs: 100 });
    expect(page).toEqual({ events: EVENTS, end: { type: 'timeout', text: expect.any(String) } });
    const { relay, connection: other } = await visit({ quirk: unanswered });
    expect((await read(other, { idleTimeoutMs: 100 })).end.type).toBe('timeout');
    expect(relay.fired.silence).toBe(2); // the first request of a connection is sent once more
  });

  test('disconnected, with what came before it; so is every page after it', async () => {
    const { connection } = await visit({ quirk: disconnects(3) });
    const page = await read(connection);
    expect(page.end).toEqual({ type: 'disconnected', text: 'code 1006' });
    expect(page.events).toHaveLength(3);
    expect(await read(connection)).toEqual({ events: [], end: page.end });
  });

  test('overflow by events, by bytes, and by bytes that are no events', async () => {
    const { connection } = await visit();
    const many = await read(connection, { maxEvents: 5 });
    expect(many).toMatchObject({ end: { type: 'overflow' }, events: { length: 6 } });
    const large = await read(connection, { maxBytes: 1000 });
    expect(large.end.type).toBe('overflow');
    expect(large.events.length).toBeLessThan(EVENTS.length);
    const huge = { hugeBytes: 500_000 };
    const { connection: other } = await visit({
      quirk: { garbage: [huge, huge, huge], ...noEose },
    });
    expect(await read(other, { maxBytes: 1_000_000 })).toMatchObject({
      end: { type: 'overflow' },
      events: [],
    });
  });

  test('aborted, before it begins and while it runs', async () => {
    const { relay, connection } = await visit({ quirk: noEose });
    const before = await read(connection, { signal: AbortSignal.abort() });
    expect(before).toEqual({ events: [], end: { type: 'aborted' } });
    const abort = new AbortController();
    const page = await read(connection, { signal: abort.signal, onStep: () => abort.abort() });
    expect(page.end.type).toBe('aborted');
    expect(page.events.length).toBeGreaterThan(0);
    await relay.until((seen) => closesSeen(seen) === 2);
  });
});

describe('deadlines', () => {
  test('events that drip in are bounded by the total', async () => {
    const { connection } = await visit({ quirk: { betweenMs: 60 } });
    const page = await read(connection, { idleTimeoutMs: 1000, totalTimeoutMs: 200 });
    expect(page.end.type).toBe('timeout');
    expect(page.events.length).toBeGreaterThan(0);
    expect(page.events.length).toBeLessThan(EVENTS.length);
  });

  test('bytes that drip in are silence', async () => {
    const { relay, connection } = await visit({ quirk: { drip: { bytes: 100_000, everyMs: 10 } } });
    expect((await read(connection, { idleTimeoutMs: 150 })).end.type).toBe('timeout');
    expect(relay.fired.drip).toBeGreaterThanOrEqual(1);
  });

  test('messages that answer nothing are silence too', async () => {
    const { relay, connection } = await visit({ quirk: noEose, events: [] });
    const talking = setInterval(() => relay.say('NOTICE', 'still here'), 20);
    const page = await read(connection, { idleTimeoutMs: 200 });
    clearInterval(talking);
    expect(page.end.type).toBe('timeout');
  });

  test('our own slowness does not count', async () => {
    const { connection } = await visit();
    const limits = { idleTimeoutMs: 100, totalTimeoutMs: 150 };
    const page = await read(connection, { ...limits, onStep: () => sleep(300) });
    expect(page).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });
});

describe('messages that are no answer', () => {
  test.each(GARBAGE_NAMES.filter((name) => !/utf8|compressed|opcode/.test(name)))(
    '%s before the events does no harm',
    async (name) => {
      const { relay, connection } = await visit({ quirk: { garbage: [name] } });
      const page = await read(connection);
      expect(page.end).toEqual({ type: 'eose' });
      expect(page.events.slice(-EVENTS.length)).toEqual(EVENTS);
      expect(relay.fired.garbage).toBe(1);
    },
  );

  test.each(GARBAGE_NAMES.filter((name) => /utf8|compressed|opcode/.test(name)))(
    '%s breaks WebSocket itself: disconnected',
    async (name) => {
      const { connection } = await visit({ quirk: { garbage: [name] } });
      expect((await read(connection)).end).toMatchObject({ type: 'disconnected' });
    },
  );

  test("another subscription's events and ends are ignored, and the page proves nothing", async () => {
    const { relay, connection } = await visit({ quirk: { wrongSubscription: 'events' } });
    expect(await read(connection)).toMatchObject({ events: [], end: { type: 'garbled' } });
    relay.change({ quirk: { wrongSubscription: 'end' } });
    const page = await read(connection, { idleTimeoutMs: 100 });
    expect(page).toMatchObject({ events: EVENTS, end: { type: 'timeout' } });
    relay.change({ quirk: { wrongSubscription: 'end', end: { closed: 'error: not yours' } } });
    expect((await read(connection, { idleTimeoutMs: 100 })).end.type).toBe('timeout');
    expect(relay.fired.wrongSubscription).toBeGreaterThan(EVENTS.length);
  });

  test('a flood of notices is no answer', async () => {
    const { connection } = await visit({ quirk: { notices: 6000, ...noEose } });
    expect(await read(connection)).toMatchObject({ events: [], end: { type: 'garbled' } });
  });

  test('a page that streams on after its CLOSE does not spoil the next one', async () => {
    const { relay, connection } = await visit({
      onRequest: nth(1, endless),
      quirk: { delayMs: 100 },
    });
    expect((await read(connection, { maxEvents: 100 })).end.type).toBe('overflow');
    const late = relay.eventsSent;
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
    expect(relay.eventsSent - late).toBeGreaterThan(100);
  });

  test('a notice that refuses ends the page soon, as closed; we send CLOSE', async () => {
    const { relay, connection } = await visit({ quirk: notice('ERROR: too many concurrent REQs') });
    expect(await read(connection)).toEqual({
      events: [],
      end: { type: 'closed', text: 'ERROR: too many concurrent REQs' },
    });
    await relay.until((seen) => closesSeen(seen) === 1);
  });

  test('an answer that comes in spite of such a notice is taken', async () => {
    const text = '["NOTICE","rate-limited: slow down"]';
    const { connection } = await visit({ quirk: { garbage: [{ text }], betweenMs: 20 } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('a notice that says nothing of a refusal changes nothing', async () => {
    const { connection } = await visit({ quirk: { notices: 3, betweenMs: 20 } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });
});

describe('backpressure', () => {
  test('a slow reader stops the relay, and loses nothing', async () => {
    const events = signedEvents(100, { from: 1000, to: 2000, contentBytes: 20_000 });
    const sent = Array(30).fill(events).flat(); // 60 MB cannot lie in the buffers of a socket
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

  test('many small events stop it too', async () => {
    // A thousand of them are not 1 MB; all of them, 20 MB, cannot lie in the buffers of a socket.
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

describe('a reader that stops', () => {
  test('early: the subscription is closed at the relay', async () => {
    const { relay, connection } = await visit({ quirk: { betweenMs: 20 } });
    const page = readPage(connection, { limit: 500 }, LIMITS);
    expect((await page.next()).done).toBe(false);
    await page.return({ type: 'aborted' });
    await relay.until((seen) => closesSeen(seen) === 1);
    const [request] = relay.requests;
    await relay.until(() => request?.end === 'cancelled');
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('while the socket is paused: the next page is read all the same', async () => {
    const small = Array.from({ length: 5000 }, (_, index) => index);
    const { relay, connection } = await visit({ quirk: { inject: small } });
    for await (const _ of readPage(connection, { limit: 1 }, LIMITS)) {
      await sleep(100);
      break;
    }
    relay.change({ quirk: { inject: [] } });
    expect(await read(connection)).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('a thousand pages of one connection leave nothing behind', async () => {
    const { connection } = await visit({ quirk: empty });
    const { signal } = new AbortController();
    LateEvents.of(connection); // one listener for as long as the connection lasts
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

/** Counts what is added to a connection and taken away again. */
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

describe('a relay that is held for what it sends of no use', () => {
  const NOTICES = { quirk: { notices: 4000 } }; // 70 KB
  const heldTimes = (connection: RelayConnection) => {
    let times = 0;
    connection.onHeld(() => {
      times += connection.isHeld ? 1 : 0;
    });
    return () => times;
  };

  test('is not silent: its answer is waited for', async () => {
    const { connection } = await visit(NOTICES, new UselessShare(20 * 1024));
    const held = heldTimes(connection);
    const { events, end } = await read(connection, { idleTimeoutMs: 2000 });
    expect(held()).toBeGreaterThan(0); // for more than three seconds
    expect({ end, events: events.length }).toEqual({ end: { type: 'eose' }, events: 10 });
  });

  test('does not keep its slot beyond the time of a page', async () => {
    const share = new UselessShare(1024);
    const { connection } = await visit(NOTICES, share);
    const held = heldTimes(connection);
    const { end } = await read(connection, { idleTimeoutMs: 3000, totalTimeoutMs: 3000 });
    expect(held()).toBe(1);
    expect(end.type).toBe('timeout');
    expect(share.waiting).toBe(1);
    connection.close();
    await connection.closed;
    expect(share.waiting).toBe(0);
  });
});

describe('bytes in flight of all connections', () => {
  test('are bounded: who comes later waits, is not taken for silent, and gets everything', async () => {
    const budget = new ByteBudget(1000); // three events or so
    const visits = await Promise.all([1, 2, 3].map(() => visit({}, new UselessShare(), budget)));
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
    expect(budget.isSpent).toBe(false); // all of it has been given back
  });

  test('are given back by a reader that stops half-way', async () => {
    const budget = new ByteBudget(1000);
    const { connection } = await visit({}, new UselessShare(), budget);
    for await (const _ of readPage(connection, { limit: 10 }, LIMITS)) break;
    budget.take(999);
    expect(budget.isSpent).toBe(false);
  });
});
