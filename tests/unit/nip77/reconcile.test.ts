import { hash } from 'node:crypto';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parseRelayUrl } from '../../../src/network/url.ts';
import { frameSizeFor } from '../../../src/nip77/frame-size.ts';
import { type LocalSet, LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import {
  type ReconcileLimits,
  type Reconciliation,
  reconcileWindow,
} from '../../../src/nip77/reconcile.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import type { EventFilter } from '../../../src/nostr/filter.ts';
import type { Window } from '../../../src/nostr/window.ts';
import { connectRelay, type RelayConnection } from '../../../src/relay-client/connection.ts';
import { signedEvents } from '../../fixtures/events.ts';
import type { SetItem } from '../../relay/negentropy-responder.ts';
import {
  type Nip77Options,
  type Nip77Record,
  type Nip77Trouble,
  type ScriptedRelay,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const FROM = 1_700_000_000;
const WINDOW: Window = { since: FROM, until: FROM + 1_000_000 };
const EVENTS = signedEvents(2000, { from: FROM, to: FROM + 10_000, kinds: [1, 7] });
const LIMITS: ReconcileLimits = {
  idleTimeoutMs: 60_000,
  totalTimeoutMs: 60_000,
  maxRounds: 100,
  maxNeed: 100_000,
  maxBytes: 64 * 1024 * 1024,
  frameSizeLimit: 60_000,
};
/** For tests in which a deadline must pass. */
const IMPATIENT = { ...LIMITS, idleTimeoutMs: 600 };

const running: { stop(): Promise<void> }[] = [];

afterEach(async () => {
  await Promise.all(running.splice(0).map((each) => each.stop()));
});

interface Scene {
  relay: ScriptedRelay;
  record: Nip77Record;
  connection: RelayConnection;
  reconcile(
    local: readonly SetItem[],
    limits?: ReconcileLimits,
    more?: { filter?: EventFilter; window?: Window; signal?: AbortSignal },
  ): Promise<Reconciliation>;
}

async function scene(
  options: Nip77Options | null = {},
  events: readonly NostrEvent[] = EVENTS,
): Promise<Scene> {
  const relay = await startScriptedRelay({ events, nip77: options });
  running.push(relay);
  const parsed = parseRelayUrl(relay.url);
  if (!parsed.ok) throw new Error(parsed.reason);
  const connection = await connectRelay(parsed.url, {
    timeoutMs: 2000,
    allowPrivate: true,
    torProxy: null,
  });
  return {
    relay,
    record: relay.nip77,
    connection,
    reconcile: (local, limits = LIMITS, { filter = {}, window = WINDOW, signal } = {}) =>
      reconcileWindow(connection, filter, window, localSet(local), limits, signal),
  };
}

function localSet(items: readonly SetItem[]): LocalSet {
  const builder = new LocalSetBuilder(200_000);
  for (const { createdAt, id } of items) builder.add(createdAt, id);
  return builder.build();
}

const itemsOf = (events: readonly NostrEvent[]): SetItem[] =>
  events.map(({ created_at, id }) => ({ createdAt: created_at, id }));
const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => id).sort();

function manyItems(count: number): SetItem[] {
  return Array.from({ length: count }, (_, i) => ({
    createdAt: FROM + 5 * i,
    id: hash('sha256', `id ${i}`),
  }));
}

describe('a relay that does NIP-77', () => {
  test('lists everything to one that holds nothing, and no bodies', async () => {
    const { relay, record, reconcile } = await scene();
    const { end, need, have, relayIds } = await reconcile([]);
    expect(end).toEqual({ type: 'done' });
    expect(need.sort()).toEqual(idsOf(EVENTS));
    expect([have, relayIds]).toEqual([[], EVENTS.length]);
    expect(relay.eventsSent).toBe(0);
    await relay.until(() => record.open === 0, 'NEG-CLOSE');
  });

  test('costs one round and a few kilobytes when 100,000 ids are unchanged', async () => {
    const items = manyItems(100_000);
    const { relay, reconcile } = await scene({ items });
    const result = await reconcile(items);
    expect(result).toMatchObject({ end: { type: 'done' }, need: [], have: [], rounds: 1 });
    expect(result.relayIds).toBe(100_000);
    expect(result.bytes).toBeLessThan(1000);
    expect(relay.bytes.sent + relay.bytes.received).toBeLessThan(2000);
    expect(relay.eventsSent).toBe(0);
  });

  test('gives one percent that is new, and one percent that is gone, of 100,000', async () => {
    const items = manyItems(100_000);
    const missing = items.filter((_, index) => index % 100 === 37);
    const gone = items.filter((_, index) => index % 100 === 73);
    const { reconcile } = await scene({ items: items.filter((_, index) => index % 100 !== 73) });
    const local = items.filter((_, index) => index % 100 !== 37);
    const { end, need, have, bytes } = await reconcile(local);
    expect(end).toEqual({ type: 'done' });
    expect(need.sort()).toEqual(idsOf(missing));
    expect(have.map((index) => local[index]?.id ?? '').sort()).toEqual(idsOf(gone));
    expect(bytes).toBeLessThan(100_000 * 64);
  });

  test('is asked for the window and the filter alone, without a limit', async () => {
    const { record, reconcile } = await scene();
    const window = { since: FROM + 2000, until: FROM + 3000 };
    const { need } = await reconcile([], LIMITS, { filter: { kinds: [7] }, window });
    const expected = EVENTS.filter(
      ({ kind, created_at }) =>
        kind === 7 && created_at >= window.since && created_at <= window.until,
    );
    expect(expected.length).toBeGreaterThan(10);
    expect(need.sort()).toEqual(idsOf(expected));
    await reconcile([], LIMITS, { window: { since: 0, until: 5 } });
    expect(record.opened).toEqual([{ kinds: [7], ...window }, { until: 5 }]);
  });

  test('is never sent a longer message than it takes', async () => {
    const items = manyItems(20_000);
    const { relay, record, reconcile } = await scene({ items, frameSizeLimit: 60_000 });
    relay.change({ maxMessageBytes: 8192 });
    const limits = { ...LIMITS, frameSizeLimit: frameSizeFor(8192) };
    const { end, need } = await reconcile(
      items.filter((_, i) => i % 5 !== 0),
      limits,
    );
    expect(end).toEqual({ type: 'done' });
    expect(need.length).toBe(4000);
    expect(record.longest).toBeGreaterThan(4096);
    expect(relay.fired.maxMessageBytes).toBeUndefined();
  });

  test('answers in small frames', async () => {
    const { reconcile } = await scene({ frameSizeLimit: 4096 });
    const { end, need, rounds } = await reconcile(itemsOf(EVENTS.slice(0, 100)));
    expect(end).toEqual({ type: 'done' });
    expect(need.sort()).toEqual(idsOf(EVENTS.slice(100)));
    expect(rounds).toBeGreaterThan(10);
  });

  test('can be asked again on the same connection, and while a subscription is open', async () => {
    const { relay, connection, reconcile } = await scene();
    connection.send(['REQ', 'live', { limit: 0 }]);
    const both = await Promise.all([reconcile([]), reconcile(itemsOf(EVENTS))]);
    for (const event of signedEvents(5, { from: FROM, to: FROM + 5, seed: 9 }))
      relay.publish(event);
    const again = await reconcile([]);
    expect([...both, again].map(({ end }) => end.type)).toEqual(['done', 'done', 'done']);
    expect([...both, again].map(({ need }) => need.length)).toEqual([2000, 0, 2005]);
  });

  test('that hides what is above a cap of its own is given away by the oldest that it lists', async () => {
    const { relay, reconcile } = await scene({ cap: 500 });
    const first = await reconcile([]);
    expect([first.end.type, first.need.length, first.relayIds]).toEqual(['done', 500, 500]);
    expect(first.oldestShared).toBeNull();
    const again = await reconcile(itemsOf(EVENTS)); // all is known by other means
    expect([again.end.type, again.need.length, again.have.length]).toEqual(['done', 0, 1500]);
    expect(again.oldestShared).toBe(EVENTS[499]?.created_at);
    expect(relay.fired['nip77-cap']).toBe(2);
  });
});

describe('a relay that refuses', () => {
  test('a window that is too large: blocked', async () => {
    const { relay, reconcile } = await scene({ maxIds: 1000 });
    expect((await reconcile([])).end).toEqual({
      type: 'blocked',
      text: 'blocked: too many query results',
    });
    const half = { since: FROM, until: FROM + 4000 };
    expect((await reconcile([], LIMITS, { window: half })).end).toEqual({ type: 'done' });
    expect(relay.fired['nip77-blocked']).toBe(1);
  });

  test.each<[string, Nip77Trouble, string]>([
    ['strfry, switched off', { notice: 'ERROR: bad msg: negentropy disabled' }, 'unsupported'],
    [
      'khatru without it',
      { notice: 'failed to parse envelope: unknown envelope label' },
      'unsupported',
    ],
    [
      'one that knows no such message',
      { notice: 'error: unknown message type NEG-OPEN' },
      'unsupported',
    ],
    ['CLOSED', { closed: 'error: no negentropy here' }, 'unsupported'],
    ['NEG-ERR that says disabled', { error: 'closed: nip77 disabled' }, 'unsupported'],
    ['another version of the protocol', { payload: '60' }, 'unsupported'],
    ['a query that is too big, by CLOSED', { closed: 'blocked: this query is too big' }, 'blocked'],
    ['old strfry', { error: 'RESULTS_TOO_BIG' }, 'blocked'],
    ['too many sessions', { notice: 'ERROR: too many concurrent NEG requests' }, 'failed refused'],
    ['rate limits', { error: 'rate-limited: slow down' }, 'failed refused'],
    ['strangers', { closed: 'auth-required: who are you?' }, 'failed refused'],
    ['us', { error: 'blocked: your address is banned' }, 'failed refused'],
    ['for no known reason', { error: 'PROTOCOL-ERROR' }, 'failed neg_err'],
    ['with rubbish', { payload: 'zz' }, 'failed garbage'],
    ['with nothing', { payload: '' }, 'failed garbage'],
  ])('%s', async (_, what, expected) => {
    const { record, relay, reconcile } = await scene({ trouble: { round: 1, what } });
    const isNotice = typeof what === 'object' && 'notice' in what;
    const { end, need, relayIds } = await reconcile([], isNotice ? IMPATIENT : LIMITS);
    expect(end.type === 'failed' ? `failed ${end.reason}` : end.type).toBe(expected);
    expect(need).toEqual([]);
    expect(relayIds).toBeNull();
    expect(Object.values(relay.fired)).toEqual([1]);
    await relay.until(() => record.open === 0, 'NEG-CLOSE');
  });

  test('by silence: unsupported, after the idle deadline', async () => {
    const { relay, record, reconcile } = await scene({ trouble: { round: 1, what: 'silence' } });
    const { end, rounds } = await reconcile([], IMPATIENT);
    expect(end).toEqual({ type: 'unsupported', text: 'no answer to NEG-OPEN in 600 ms' });
    expect(rounds).toBe(0);
    expect(relay.fired['nip77-silence']).toBe(2); // the first request of a connection is sent once more
    await relay.until(() => record.open === 0, 'NEG-CLOSE');
  });

  test('by talking of something else: unsupported all the same', async () => {
    const { relay, record, reconcile } = await scene({
      trouble: { round: 1, what: { notice: 'welcome to this relay' } },
    });
    expect((await reconcile([], IMPATIENT)).end.type).toBe('unsupported');
    await relay.until(() => record.open === 0, 'NEG-CLOSE');
  });

  test('that does not know NIP-77: ends at its NOTICE, long before the idle timeout', async () => {
    const { reconcile } = await scene(null);
    expect((await reconcile([])).end.type).toBe('unsupported');
  });

  test('that skips lists of ids, as an initiator would', async () => {
    const { relay, reconcile } = await scene({ skipsLists: true });
    expect((await reconcile([])).end.type).toBe('unsupported');
    expect(relay.fired['nip77-skipsLists']).toBe(1);
  });
});

describe('a relay that fails half-way', () => {
  const halfWay = async (what: Nip77Trouble, limits = LIMITS) => {
    const items = manyItems(10_000);
    const found = await scene({ items, frameSizeLimit: 20_000, trouble: { round: 4, what } });
    return { ...found, items, result: await found.reconcile(items.slice(0, 20), limits) };
  };

  test.each<[string, Nip77Trouble, string, ReconcileLimits]>([
    ['NEG-ERR', { error: 'closed: you took too long to respond!' }, 'neg_err', LIMITS],
    ['NEG-ERR that says disabled', { error: 'closed: negentropy disabled' }, 'neg_err', LIMITS],
    ['silence', 'silence', 'timeout', IMPATIENT],
    ['a lost connection', 'disconnect', 'disconnected', LIMITS],
    ['an answer to somebody else', 'wrong-subscription', 'timeout', IMPATIENT],
    ['every answer twice', 'twice', 'garbage', LIMITS],
    ['garbage', { payload: '61ffffffffffffffffffff' }, 'garbage', LIMITS],
    ['a NOTICE that refuses', { notice: 'rate-limited: slow down' }, 'refused', IMPATIENT],
  ])('%s: a failure, and what it has told until then', async (_, what, reason, limits) => {
    const { items, relay, result } = await halfWay(what, limits);
    const { end, need, relayIds } = result;
    expect(end).toMatchObject({ type: 'failed', reason });
    expect(relayIds).toBeNull();
    expect(Object.values(relay.fired)[0]).toBeGreaterThan(0);
    const listed = new Set(items.map(({ id }) => id));
    expect(need.length).toBeGreaterThan(100);
    expect(need.length).toBeLessThan(9000);
    expect(need.every((id) => listed.has(id))).toBe(true);
  });

  test('too much is not taken', async () => {
    const { result } = await halfWay('silence', { ...LIMITS, maxBytes: 30_000 });
    expect(result.end).toMatchObject({ type: 'failed', reason: 'overflow' });
  });
});

describe('a relay that never comes to an end', () => {
  test('by fingerprints that never match', async () => {
    const { relay, reconcile } = await scene({ endless: 'fingerprints' });
    const { end, rounds } = await reconcile(itemsOf(EVENTS), { ...LIMITS, maxRounds: 20 });
    expect(end).toMatchObject({ type: 'failed', reason: 'too_many_rounds' });
    expect([rounds, relay.fired['nip77-endless']]).toEqual([20, 20]);
  });

  test('by more ids than we want: no more are taken', async () => {
    const { reconcile } = await scene({ endless: { ids: 120_000 } });
    const { end, need } = await reconcile([]);
    expect(end).toMatchObject({ type: 'blocked' });
    expect(need.length).toBeLessThanOrEqual(LIMITS.maxNeed);
  });

  test('by a flood of something else', async () => {
    const { relay, connection, reconcile } = await scene({
      trouble: { round: 1, what: 'silence' },
    });
    const flood = setInterval(() => {
      for (let i = 0; i < 500; i++) relay.say('NOTICE', 'buy something');
    }, 1);
    const { end } = await reconcile([]);
    clearInterval(flood);
    connection.close();
    expect(end).toMatchObject({ type: 'failed', reason: 'overflow' });
  });

  test('by slowness: the total deadline holds', async () => {
    const { reconcile } = await scene({ trouble: { round: 1, what: 'silence' } });
    const { end } = await reconcile([], { ...LIMITS, totalTimeoutMs: 150 });
    expect(end).toMatchObject({ type: 'failed', reason: 'timeout' });
  });
});

describe('our side', () => {
  test('can be stopped at once, and before it has begun', async () => {
    const { relay, record, reconcile } = await scene({ trouble: { round: 1, what: 'silence' } });
    const stop = new AbortController();
    const stopped = reconcile([], LIMITS, { signal: stop.signal });
    await relay.until(() => record.opened.length === 1, 'NEG-OPEN');
    stop.abort();
    expect((await stopped).end).toMatchObject({ type: 'failed', reason: 'aborted' });
    expect((await reconcile([], LIMITS, { signal: stop.signal })).end).toMatchObject({
      type: 'failed',
      reason: 'aborted',
    });
  });

  test('says so when the connection is gone already', async () => {
    const { connection, reconcile } = await scene();
    connection.close();
    await connection.closed;
    expect((await reconcile([])).end).toMatchObject({ type: 'failed', reason: 'disconnected' });
  });

  test('leaves nothing on a connection that lives on', async () => {
    const { connection, reconcile } = await scene();
    const onClosed = connection.onClosed.bind(connection);
    const onMessage = connection.onMessage.bind(connection);
    let handlers = 0;
    let waiting = 0;
    const counted =
      <T>(add: (handler: T) => () => void) =>
      (handler: T) => {
        const stop = add(handler);
        handlers += 1;
        waiting += 1;
        return () => {
          waiting -= 1;
          stop();
        };
      };
    vi.spyOn(connection, 'onClosed').mockImplementation(counted(onClosed));
    vi.spyOn(connection, 'onMessage').mockImplementation(counted(onMessage));
    const held = vi.spyOn(connection.closed, 'then');
    for (let times = 0; times < 20; times += 1)
      expect((await reconcile([])).end).toEqual({ type: 'done' });
    expect(held).not.toHaveBeenCalled();
    expect(handlers).toBe(40);
    expect(waiting).toBe(0);
  });

  test('makes frames that fit the relay, within bounds', () => {
    expect(frameSizeFor(null)).toBe(60_000);
    expect(frameSizeFor(131_072)).toBe(65_504);
    expect(frameSizeFor(1)).toBe(2048);
    expect(frameSizeFor(2 ** 40)).toBe(500_000);
  });
});
