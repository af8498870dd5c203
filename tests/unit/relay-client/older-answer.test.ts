import { describe, expect, vi } from 'vitest';
import { probeCandidate } from '../../../src/finder/probe-candidate.ts';
import { type ProbeContext, probeRelay } from '../../../src/monitor/probe.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { relayTest } from '../../relay/relay-test.ts';
import { local, relayAddress, relayUrl } from '../../relay/relays.ts';
import {
  closed,
  closes,
  disconnects,
  POISONS,
  refusesBare,
  type ScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 });

const DAY = 86_400;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(20, { from: T - 400 * DAY, to: T - 200 * DAY });
const SHORT_MS = 1000;

const test = relayTest.extend('poisoned', ({ startRelay }) => {
  return (how: (typeof POISONS)[number], createdAt: number): Promise<ScriptedRelay> => {
    const newest = signedEvent({ created_at: createdAt, content: 'poison' });
    const quirk = { poison: { createdAt: [createdAt], how } };
    return startRelay({ events: [...EVENTS, newest], quirk });
  };
});

async function probe({ url }: ScriptedRelay, changes: Partial<ProbeContext> = {}) {
  const selected = new Set(['open', 'read', 'write'] as const);
  const context = probeContext({ timeoutMs: SHORT_MS, selected, ...changes });
  return (await probeRelay(relayAddress(url), context)).checks;
}

const find = ({ url }: ScriptedRelay) =>
  probeCandidate(relayUrl(url), {
    ...local({ timeoutMs: SHORT_MS }),
    signal: new AbortController().signal,
  });

describe('relay whose newest event cannot be sent', () => {
  const hows = POISONS.filter((how) => how !== 'closed');

  test.for(hows)(
    'by %s is readable and writable: older events are asked for',
    async (how, { poisoned }) => {
      const relay = await poisoned(how, T - 60);
      const { read, write } = await probe(relay);
      expect(relay.fired.poison).toBeGreaterThan(0);
      expect(read).toMatchObject({ success: true, data: { asked: 'older', empty: false } });
      expect(write).toMatchObject({ success: true });
      expect(relay.connections.total).toBeLessThanOrEqual(3);
    },
  );

  test.for(hows)('by %s is readable if that event is months old', async (how, { poisoned }) => {
    const relay = await poisoned(how, T - 100 * DAY);
    const { read } = await probe(relay);
    expect(relay.fired.poison).toBeGreaterThan(how === 'freeze' ? 0 : 1);
    expect(read).toMatchObject({ success: true, data: { asked: 'older', empty: false } });
    expect(relay.connections.total).toBeLessThanOrEqual(3);
  });

  test('by CLOSED is readable: other kinds are asked for', async ({ poisoned }) => {
    const relay = await poisoned('closed', T - 60);
    expect((await probe(relay)).read).toMatchObject({ success: true, data: { asked: 'kinds' } });
    expect(relay.fired.poison).toBeGreaterThan(0);
  });

  test('by CLOSED, of every kind that is asked for, is readable', async ({ startRelay }) => {
    const newest = [0, 1, 3].map((kind) => signedEvent({ kind, created_at: T - 60 }));
    const relay = await startRelay({
      events: [...EVENTS, ...newest],
      quirk: { poison: { createdAt: [T - 60], how: 'closed' } },
    });
    expect((await probe(relay)).read).toMatchObject({ success: true, data: { asked: 'older' } });
    expect(relay.fired.poison).toBe(3);
    expect(relay.connections.total).toBe(1);
  });

  test('is readable if it also refuses filters without kinds', async ({ startRelay }) => {
    const newest = signedEvent({ kind: 0, created_at: T - 60 });
    const relay = await startRelay({
      events: [...EVENTS, newest],
      quirk: {
        ...refusesBare('error: empty filter'),
        poison: { createdAt: [T - 60], how: 'reset' },
      },
    });
    const { read } = await probe(relay);
    expect(relay.fired).toMatchObject({ poison: 1, refuseFilter: 2 });
    expect(read).toMatchObject({ success: true, data: { asked: 'older' } });
  });

  test.for(POISONS)('by %s is accepted by the finder', async (how, { poisoned }) => {
    const relay = await poisoned(how, T - 60);
    expect(await find(relay)).toBeNull();
    expect(relay.fired.poison).toBeGreaterThan(0);
    expect(relay.connections.total).toBeLessThanOrEqual(3);
  });
});

describe('relay that answers no request', () => {
  test.for([
    ['silence', unanswered, 'timeout', 2],
    ['the end of the connection', disconnects(0), 'disconnected', 3],
    ['CLOSED', closed('error: database is down'), 'closed', 1],
    ['a frame that is too large', { garbage: [{ hugeBytes: 9_000_000 }] }, 'oversized', 3],
  ] as const)(
    'by %s is not readable, after at most two more connections',
    async ([_, quirk, reason, connections], { startRelay }) => {
      const relay = await startRelay({ events: EVENTS, quirk });
      const { read } = await probe(relay, { selected: new Set(['open', 'read']) });
      expect(read).toMatchObject({ success: false, reason });
      expect(relay.connections.total).toBe(connections);
      const total = relay.requests.length;
      expect(await find(relay)).toBe(reason);
      expect(relay.connections.total).toBe(2 * connections);
      expect(total).toBeLessThanOrEqual(9); // of three questions with up to three filters each
    },
  );

  test.for([
    [closed('rate-limited: slow down'), 'rate_limited'],
    [closes(1008, 'rate-limited: slow down'), 'rate_limited'],
    [closes(1008, 'blocked: your address is banned'), 'blocked'],
  ] as const)(
    'and refuses the client is not asked again',
    async ([quirk, reason], { startRelay }) => {
      const relay = await startRelay({ events: EVENTS, quirk });
      const { read } = await probe(relay, { selected: new Set(['open', 'read']) });
      expect(read).toMatchObject({ success: false, reason });
      expect(relay.connections.total).toBe(1);
      expect(relay.requests).toHaveLength(1);
    },
  );

  test('and refuses further connections gets the test event over the first one', async ({
    startRelay,
  }) => {
    const relay: ScriptedRelay = await startRelay({
      events: EVENTS,
      onRequest: () => {
        relay.change({ upgrade: { status: 429 } });
        return unanswered;
      },
    });
    const { read, write } = await probe(relay);
    expect(relay.fired.upgrade).toBe(1);
    expect(read).toMatchObject({ success: false, reason: 'timeout' });
    expect(write).toMatchObject({ success: true });
  });
});

test('a relay that answers is asked once, over one connection', async ({ startRelay }) => {
  const relay = await startRelay({ events: EVENTS });
  const { read } = await probe(relay, { selected: new Set(['open', 'read']) });
  expect(read).toMatchObject({ success: true, data: { asked: 'bare' } });
  expect(await find(relay)).toBeNull();
  expect(relay.requests.map(({ filters }) => filters)).toEqual([[{ limit: 1 }], [{ limit: 1 }]]);
  expect(relay.connections.total).toBe(2);
});

describe('relay that sends a challenge', () => {
  test('and withholds the answer until AUTH is readable, after NIP-42', async ({ startRelay }) => {
    const relay = await startRelay({ events: EVENTS, auth: { holds: 'for-good' } });
    const { read, write } = await probe(relay);
    expect(read).toMatchObject({ success: true, data: { asked: 'bare', authenticated: true } });
    expect(write).toMatchObject({ success: true });
    expect(relay.fired).toMatchObject({ held: 2, auth: 1 }); // the first REQ is sent once more anyhow
    expect(relay.connections.total).toBe(1);
  });

  test('and refuses our AUTH but serves us is readable and writable, without NIP-42', async ({
    startRelay,
  }) => {
    const auth = { refuse: 'error: unknown key', servesRefused: true };
    const relay = await startRelay({ events: EVENTS, auth });
    const { read, write } = await probe(relay);
    expect(read).toMatchObject({ success: true, data: { asked: 'bare', authenticated: false } });
    expect(write).toMatchObject({ success: true });
    expect(relay.fired).toMatchObject({ 'auth-required': 1, 'auth-failed': 1 });
    expect(relay.connections.total).toBe(1);
  });

  test('and withholds the answer is a relay for the finder, which has no key', async ({
    startRelay,
  }) => {
    const relay = await startRelay({ events: EVENTS, auth: { holds: 'for-good' } });
    expect(await find(relay)).toBeNull();
    expect(relay.fired.held).toBeGreaterThan(0);
    expect(relay.connections.total).toBe(1);
  });

  test('and a newest event that cannot be sent is readable', async ({ startRelay }) => {
    const newest = signedEvent({ created_at: T - 60, content: 'poison' });
    const relay = await startRelay({
      events: [...EVENTS, newest],
      auth: { reads: false, writes: false },
      quirk: { poison: { createdAt: [T - 60], how: 'silence' } },
    });
    const { read } = await probe(relay, { selected: new Set(['open', 'read']) });
    expect(read).toMatchObject({ success: true, data: { asked: 'older' } });
    expect(relay.fired).toMatchObject({ poison: 3, auth: 1 });
  });
});
