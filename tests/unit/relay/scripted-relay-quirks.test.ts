import { afterEach, describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import {
  forgedEvents,
  isValidEvent,
  newestFirst,
  signedEvent,
  signedEvents,
} from '../../fixtures/events.ts';
import { RelayClient } from '../../relay/bare-client.ts';
import * as relays from '../../relay/scripted-relay.ts';
import { GARBAGE_NAMES } from '../../relay/scripted-relay.ts';

const WINDOW = { from: 1_700_000_000, to: 1_700_001_000 };
const EVENTS = signedEvents(100, WINDOW);
const IDS = EVENTS.map(({ id }) => id);

const running: { stop(): Promise<void> }[] = [];

async function start(
  options: relays.ScriptedRelayOptions = {},
): Promise<[relays.ScriptedRelay, RelayClient]> {
  const relay = await relays.startScriptedRelay({ events: EVENTS, ...options });
  running.push(relay);
  return [relay, await RelayClient.connect(relay.url)];
}

/** For an answer that has no end. */
const SHORT_MS = 300;

/** Starts a relay with one quirk and asks it once. */
async function ask(quirk: relays.Quirk, filter: object = {}, silenceMs = 5000) {
  const [relay, client] = await start({ quirk });
  const { events, end } = await client.request(filter, { silenceMs });
  return { relay, client, events, ids: events.map(({ id }) => id), end };
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((relay) => relay.stop()));
});

describe('which events a quirk serves', () => {
  test('caps below the limit, and says so only in its record', async () => {
    const { ids, end, relay } = await ask({ cap: 7 }, { limit: 20 });
    expect([ids, end]).toEqual([IDS.slice(0, 7), ['EOSE', 's1']]);
    expect(relay.fired).toEqual({ cap: 1 });
  });

  test('does not count a cap that cut nothing', async () => {
    expect((await ask({ cap: 7 }, { limit: 7 })).relay.fired).toEqual({});
  });

  test('has a limit of its own where none is asked', async () => {
    expect((await ask({ defaultLimit: 5 })).ids).toEqual(IDS.slice(0, 5));
    expect((await ask({ defaultLimit: 5 }, { limit: 6 })).ids).toEqual(IDS.slice(0, 6));
  });

  test('reads some of the filters of a REQ, refuses too many, or limits all of them together', async () => {
    const filters = IDS.slice(0, 3).map((id) => ({ ids: [id], limit: 2 }));
    const shown = async (quirk: relays.Quirk, name: string) => {
      const [relay, client] = await start({ quirk });
      const { events, end } = await client.request(filters);
      expect(relay.fired).toEqual({ [name]: 1 });
      return [end?.[0], events.map(({ id }) => id)];
    };
    const first = { which: 'first', most: 2 } as const;
    expect(await shown({ readsFilters: first }, 'readsFilters')).toEqual(['EOSE', IDS.slice(0, 2)]);
    const last = { which: 'last', most: 1 } as const;
    expect(await shown({ readsFilters: last }, 'readsFilters')).toEqual(['EOSE', IDS.slice(2, 3)]);
    expect(await shown({ limitsAll: true }, 'limitsAll')).toEqual(['EOSE', IDS.slice(0, 2)]);
    const refuseFiltersAbove = { most: 2, text: 'error: too many filters' };
    expect(await shown({ refuseFiltersAbove }, 'refuseFiltersAbove')).toEqual(['CLOSED', []]);
  });

  test('refuses limits above its own', async () => {
    const [relay, client] = await start({
      quirk: { refuseLimitAbove: { limit: 50, say: 'closed' } },
    });
    expect((await client.request({ limit: 51 })).end).toEqual([
      'CLOSED',
      's1',
      'invalid: limit must be at most 50',
    ]);
    expect((await client.request({ limit: 50 })).events).toHaveLength(50);
    relay.change({ quirk: { refuseLimitAbove: { limit: 50, say: 'notice' } } });
    expect((await client.request({ limit: 51 })).end?.[0]).toBe('NOTICE');
    expect(relay.fired.refuseLimitAbove).toBe(2);
  });

  test.each([
    ['limit', { limit: 3 }],
    ['since', { since: WINDOW.to + 1 }],
    ['until', { until: 5 }],
    ['kinds', { kinds: [9999] }],
    ['tags', { '#t': ['x'] }],
  ] as const)('ignores %s', async (key, filter) => {
    const { ids, relay } = await ask({ ignore: [key] }, filter);
    expect(ids).toEqual(IDS);
    expect(relay.fired).toEqual({ ignore: 1 });
  });

  test('answers oldest first, with the oldest or with the newest', async () => {
    expect((await ask({ order: 'oldest-first' }, { limit: 4 })).ids).toEqual(
      IDS.slice(-4).reverse(),
    );
    expect((await ask({ order: 'oldest-first', select: 'newest' }, { limit: 4 })).ids).toEqual(
      IDS.slice(0, 4).reverse(),
    );
  });

  test('shuffles, the same way for the same seed', async () => {
    const { ids, relay } = await ask({ order: 'shuffled', seed: 1 });
    expect(ids).not.toEqual(IDS);
    expect([...ids].sort()).toEqual([...IDS].sort());
    expect((await ask({ order: 'shuffled', seed: 1 })).ids).toEqual(ids);
    expect((await ask({ order: 'shuffled', seed: 2 })).ids).not.toEqual(ids);
    expect(relay.fired).toEqual({ shuffled: 1 });
  });

  test('repeats events', async () => {
    const [a, b, c] = IDS;
    expect((await ask({ repeatEvery: 2 }, { limit: 3 })).ids).toEqual([a, b, b, c]);
  });

  test('puts forged events on top, or any nonsense', async () => {
    const forged = forgedEvents(3, { from: WINDOW.to + 1, to: WINDOW.to + 9 });
    const { events } = await ask({ inject: [...forged, 17] }, { limit: 2 });
    expect(events).toEqual([...forged, 17, ...EVENTS.slice(0, 2)]);
    expect(events.slice(0, 3).some(isValidEvent)).toBe(false);
    expect((await ask({ inject: ({ filters }) => filters })).events[0]).toEqual({});
  });

  test('holds forged events like others when they are among its own', async () => {
    const forged = forgedEvents(600, { from: WINDOW.to + 1, to: WINDOW.to + 9 });
    const [, client] = await start({ events: [...EVENTS, ...forged], quirk: { cap: 500 } });
    const { events } = await client.request({ limit: 500 });
    expect(events).toEqual(forged.sort(newestFirst).slice(0, 500));
  });

  test('lies about created_at', async () => {
    const { events } = await ask(
      { alter: (event) => ({ ...event, created_at: 1e21 }) },
      { limit: 1 },
    );
    expect(events).toEqual([{ ...EVENTS[0], created_at: 1e21 }]);
  });
});

describe('how a page ends', () => {
  test('with NIP-67, truly', async () => {
    expect((await ask({ end: 'nip67' }, { limit: 100 })).end).toEqual(['EOSE', 's1', ['finish']]);
    expect((await ask({ end: 'nip67' }, { limit: 99 })).end).toEqual(['EOSE', 's1', ['more']]);
    expect((await ask({ end: 'nip67', cap: 10 })).end).toEqual(['EOSE', 's1', ['more']]);
    expect((await ask({ end: 'nip67', after: 10 })).end).toEqual(['EOSE', 's1', ['more']]);
  });

  test('with NIP-67, lying', async () => {
    expect((await ask({ end: 'finish', cap: 10 })).end).toEqual(['EOSE', 's1', ['finish']]);
    expect((await ask({ end: { eose: { finish: 1 } } })).end).toEqual([
      'EOSE',
      's1',
      { finish: 1 },
    ]);
  });

  test('empty although there is something', async () => {
    const { ids, end, relay } = await ask(relays.empty);
    expect([ids, end, relay.fired]).toEqual([[], ['EOSE', 's1'], { after: 1 }]);
  });

  test('too early, never, refused, or with a word to nobody', async () => {
    const outcome = async (quirk: relays.Quirk, silenceMs?: number) => {
      const { ids, end } = await ask(quirk, {}, silenceMs);
      return [ids.length, end];
    };
    expect(await outcome(relays.prematureEose(30))).toEqual([30, ['EOSE', 's1']]);
    expect(await outcome(relays.noEose, SHORT_MS)).toEqual([100, null]);
    expect(await outcome(relays.unanswered, SHORT_MS)).toEqual([0, null]);
    expect(await outcome(relays.closed('error: busy', 5))).toEqual([
      5,
      ['CLOSED', 's1', 'error: busy'],
    ]);
    expect(await outcome(relays.notice('too many requests'))).toEqual([
      0,
      ['NOTICE', 'too many requests'],
    ]);
  });

  test('with the connection, after a number of events of a page or of the connection', async () => {
    const once = await ask(relays.disconnects(30));
    expect(once.ids).toEqual(IDS.slice(0, 30));
    expect(await once.client.until(() => once.client.isClosed)).toBe(true);
    const [relay, client] = await start({ quirk: { disconnectAfter: 50 } });
    expect((await client.request({ limit: 30 })).events).toHaveLength(30);
    expect(await client.request({ limit: 30 })).toMatchObject({
      events: { length: 20 },
      end: null,
    });
    expect(relay.requests.map(({ end }) => end)).toEqual(['eose', 'disconnected']);
    expect(relay.fired.disconnectAfter).toBe(1);
  });

  test('frozen: open, and deaf and dumb', async () => {
    const { client, relay } = await ask({ end: 'freeze' }, { limit: 1 }, SHORT_MS);
    client.send('REQ', 'again', { limit: 1 });
    client.socket.ping();
    let pongs = 0;
    client.socket.on('pong', () => {
      pongs += 1;
    });
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([client.isClosed, relay.requests.length, pongs]).toEqual([false, 1, 0]);
  });

  test('not at all: endless, whatever the client says', async () => {
    const [relay, client] = await start({ quirk: relays.endless });
    client.send('REQ', 'on', { limit: 10 });
    await client.until(() => client.messages.length > 100);
    client.send('CLOSE', 'on');
    await relay.until(({ fired }) => fired.ignoreClose === 1);
    const sent = relay.eventsSent;
    await relay.until(({ eventsSent }) => eventsSent > sent + 1000);
    await client.close();
    await relay.until(({ requests }) => requests[0]?.end === 'disconnected');
  });
});

describe('what else a relay does', () => {
  test('answers under the id of someone else', async () => {
    const { client, ids, end } = await ask({ wrongSubscription: 'events' });
    expect([ids, end]).toEqual([[], ['EOSE', 's1']]);
    expect(client.messages[0]?.slice(0, 2)).toEqual(['EVENT', 'not-your-subscription']);
    expect(await ask({ wrongSubscription: 'end' }, {}, SHORT_MS)).toMatchObject({
      ids: IDS,
      end: null,
    });
  });

  test('is slow', async () => {
    const started = performance.now();
    await ask({ delayMs: 50, betweenMs: 10 }, { limit: 3 });
    expect(performance.now() - started).toBeGreaterThan(70); // no timer is early
  });

  test('floods with notices', async () => {
    const [relay, client] = await start({ quirk: { notices: 3000 } });
    client.send('REQ', 'x', { limit: 1 });
    await client.next(([type]) => type === 'EOSE');
    expect(client.messages.filter(([type]) => type === 'NOTICE')).toHaveLength(3000);
    expect(relay.fired).toEqual({ notices: 1 });
  });

  test.each(GARBAGE_NAMES)('sends garbage: %s', async (name) => {
    const [relay, client] = await start({ quirk: { garbage: [name] } });
    const breaksFraming = ['compressed-unasked', 'reserved-opcode', 'invalid-utf8'].includes(name);
    const { events, end } = await client.request({ limit: 2 });
    expect(end).toEqual(breaksFraming ? null : ['EOSE', 's1']);
    expect(events.filter((event) => IDS.includes(event?.id))).toHaveLength(breaksFraming ? 0 : 2);
    expect(relay.fired).toEqual({ garbage: 1 });
  });

  test('sends a message as large as it likes, or one that takes for ever', async () => {
    const [relay, client] = await start({ quirk: { garbage: [{ hugeBytes: 3_000_000 }] } });
    await client.request({ limit: 0 });
    expect(relay.bytes.sent).toBeGreaterThan(3_000_000);
    expect(client.messages[0]).toEqual(['NOTICE', 'huge']);
    const drip = await ask({ drip: { bytes: 1000, everyMs: 1 } }, {}, SHORT_MS);
    expect(drip.end).toBeNull();
    expect(drip.relay.fired).toEqual({ drip: 1 });
  });

  test('limits open subscriptions and message length', async () => {
    const [relay, client] = await start({
      maxSubscriptions: { count: 2, say: 'closed' },
      maxMessageBytes: 60,
    });
    await client.request({ limit: 0 }, { id: 'a' });
    await client.request({ limit: 0 }, { id: 'b' });
    expect((await client.request({ limit: 0 }, { id: 'c' })).end?.[2]).toBe(
      'error: too many concurrent REQs',
    );
    client.send('CLOSE', 'a');
    expect((await client.request({ limit: 0 }, { id: 'c' })).end).toEqual(['EOSE', 'c']);
    expect((await client.request({ ids: [IDS[0]] }, { id: 'd' })).end?.[0]).toBe('NOTICE');
    expect(relay.fired).toEqual({ maxSubscriptions: 1, maxMessageBytes: 1 });
  });

  test('knows other messages where it was taught them', async () => {
    const [, client] = await start({
      verbs: { 'NEG-OPEN': ([, id], reply) => reply('NEG-ERR', id, 'blocked: no') },
    });
    client.send('NEG-OPEN', 'n', {}, '61');
    expect(await client.next(([type]) => type === 'NEG-ERR')).toEqual([
      'NEG-ERR',
      'n',
      'blocked: no',
    ]);
    client.send('COUNT', 'n', {});
    expect((await client.next(([type]) => type === 'NOTICE'))?.[1]).toMatch(
      /unknown message type COUNT/,
    );
  });
});

describe('scenarios', () => {
  /** Asks several times, and tells by `.` for a full answer, by `0` for an empty one, by `x` for a refusal. */
  async function marks(onRequest: relays.OnRequest, times: number): Promise<string> {
    const [, client] = await start({ onRequest });
    let line = '';
    for (let i = 0; i < times; i++) {
      const { events, end } = await client.request({ limit: 5 }, { id: 'same' });
      line += end?.[0] !== 'EOSE' ? 'x' : events.length === 5 ? '.' : '0';
    }
    return line;
  }

  test('strike as told', async () => {
    expect(await marks(relays.nth([2, 4], relays.empty), 5)).toBe('.0.0.');
    expect(await marks(relays.every(3, relays.closed('error: no')), 6)).toBe('..x..x');
    expect(await marks(relays.first(2, relays.empty), 4)).toBe('00..');
    expect(await marks(relays.afterwards(2, relays.notice('enough')), 4)).toBe('..xx');
    expect(await marks(relays.rateLimited({ requests: 3 }), 5)).toBe('...xx');
    expect(
      await marks(
        relays.either(relays.nth(1, relays.empty), relays.nth(3, relays.closed('no'))),
        3,
      ),
    ).toBe('0.x');
    const byLot = await marks(relays.sometimes(0.3, 1, relays.empty), 40);
    expect(byLot).toMatch(/^[.0]+$/);
    expect(byLot).toBe(await marks(relays.sometimes(0.3, 1, relays.empty), 40));
    expect(byLot).toMatch(/0.*\..*0/);
  });

  test('limit the rate only for a while, unless they are strict', () => {
    const requestAt = (at: number) => ({ at }) as Parameters<relays.OnRequest>[0];
    const run = (strict: boolean) => {
      const limited = relays.rateLimited({ requests: 2, withinMs: 100, strict });
      return [0, 10, 20, 90, 105, 150, 300]
        .map((at) => (limited(requestAt(at), 1) === 'answer' ? '.' : 'x'))
        .join('');
    };
    expect(run(false)).toBe('..xx...');
    expect(run(true)).toBe('..xxxx.');
  });

  test('lay their quirk over the usual one, and can be changed on the way', async () => {
    const [relay, client] = await start({
      quirk: { cap: 3 },
      onRequest: relays.nth(1, { end: 'more' }),
    });
    expect(await client.request({})).toMatchObject({
      events: { length: 3 },
      end: ['EOSE', 's1', ['more']],
    });
    relay.change({ quirk: {} });
    expect((await client.request({})).events).toHaveLength(100);
    const known: NostrEvent = signedEvent({ created_at: 1 });
    relay.say('EVENT', 'unasked', known);
    expect(await client.next(([, name]) => name === 'unasked')).toEqual([
      'EVENT',
      'unasked',
      known,
    ]);
    relay.dropAll();
    expect(await client.until(() => client.isClosed)).toBe(true);
  });
});
