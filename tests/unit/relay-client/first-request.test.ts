import { describe, expect, vi } from 'vitest';
import { probeRelay } from '../../../src/monitor/probe.ts';
import { LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import { reconcileWindow } from '../../../src/nip77/reconcile.ts';
import type { RelayConnection } from '../../../src/relay-client/connection.ts';
import { wasSentAgain } from '../../../src/relay-client/first-request.ts';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';
import { type PageEnd, readPage } from '../../../src/relay-client/subscription.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { connectionTest } from '../../relay/connection-test.ts';
import { relayUrl } from '../../relay/relays.ts';
import {
  closes,
  notice,
  type ScriptedRelayOptions,
  unanswered,
} from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 });

const EVENTS = signedEvents(10, { from: 1000, to: 2000 });
const PATIENT = { idleTimeoutMs: 12_000, totalTimeoutMs: 30_000 };
const GREETING = 'Welcome. Payment is required to publish here, reading is free.';

const test = connectionTest.extend('start', ({ startRelay, open }) => {
  return async (options: ScriptedRelayOptions) => {
    const relay = await startRelay({ events: EVENTS, ...options });
    const junkLimit = new JunkLimit(Number.POSITIVE_INFINITY);
    return { relay, connection: await open(relay.url, { junkLimit }), junkLimit };
  };
});

async function read(connection: RelayConnection, limits = PATIENT) {
  const bounds = { ...limits, maxEvents: 1000, maxBytes: 1024 * 1024 };
  const page = readPage(connection, { limit: 500 }, bounds);
  const events: unknown[] = [];
  for (;;) {
    const step = await page.next();
    if (step.done) return { events, end: step.value };
    events.push(...step.value);
  }
}

function reconcile(connection: RelayConnection, idleTimeoutMs = 2000) {
  const limits = { idleTimeoutMs, totalTimeoutMs: 20_000, maxRounds: 10, maxNeed: 10_000 };
  return reconcileWindow(
    connection,
    {},
    { since: 0, until: 3000 },
    new LocalSetBuilder(0).build(),
    { ...limits, maxBytes: 1024 * 1024, frameSizeLimit: 60_000 },
  );
}

const WHOLE: { events: unknown[]; end: PageEnd } = { events: EVENTS, end: { type: 'eose' } };

describe('first request of a connection', () => {
  test('is sent again with the same id when it was lost', async ({ start }) => {
    const { relay, connection } = await start({ losesFirst: true });
    expect(await read(connection, { idleTimeoutMs: 2000, totalTimeoutMs: 20_000 })).toEqual(WHOLE);
    expect(relay.fired.losesFirst).toBe(1);
    const [first, second] = relay.messages.map(({ message }) => message);
    expect(second).toEqual(first);
    expect(wasSentAgain(connection, relay.requests[0]?.subscription ?? '')).toBe(true);
  });

  test('is sent once when it is answered; later requests are never sent again', async ({
    start,
  }) => {
    const { relay, connection } = await start({
      onRequest: (_, n) => (n === 1 ? 'answer' : unanswered),
    });
    expect(await read(connection)).toEqual(WHOLE);
    const impatient = { idleTimeoutMs: 400, totalTimeoutMs: 1000 };
    expect((await read(connection, impatient)).end.type).toBe('timeout');
    expect(relay.requests).toHaveLength(2);
    expect(wasSentAgain(connection, relay.requests[0]?.subscription ?? '')).toBe(false);
  });

  test('yields every event once when it is answered twice; the second answer is not junk', async ({
    start,
  }) => {
    const { relay, connection } = await start({ quirk: { delayMs: 700 } });
    const noted = vi.spyOn(connection, 'chargeJunk');
    const limits = { idleTimeoutMs: 2000, totalTimeoutMs: 20_000 };
    expect(await read(connection, limits)).toEqual(WHOLE);
    expect(relay.requests).toHaveLength(2);
    const id = relay.requests[0]?.subscription;
    for (const event of EVENTS) relay.say('EVENT', id, event);
    relay.say('EOSE', id);
    expect(await read(connection, limits)).toEqual(WHOLE);
    expect(noted).not.toHaveBeenCalled();
    for (let times = 0; times < 50; times += 1) relay.say('EVENT', id, EVENTS[0]);
    expect(await read(connection, limits)).toEqual(WHOLE);
    expect(noted).toHaveBeenCalled(); // a flood of them is
  });

  test('is sent again when it is a NEG-OPEN', async ({ start }) => {
    const { relay, connection } = await start({ losesFirst: true });
    relay.change({ nip77: { frameSizeLimit: 60_000 } });
    const { end, need } = await reconcile(connection);
    expect(end).toEqual({ type: 'done' });
    expect(need).toHaveLength(EVENTS.length);
    expect(relay.fired.losesFirst).toBe(1);
  });

  test('reconciles normally when it is a NEG-OPEN that is answered twice', async ({ start }) => {
    const events = signedEvents(3000, { from: 1000, to: 2000, seed: 2 });
    const { relay, connection } = await start({ events });
    relay.change({ nip77: { frameSizeLimit: 20_000, openDelayMs: 700 } });
    const { end, need, rounds } = await reconcile(connection);
    expect(end).toEqual({ type: 'done' });
    expect(need).toHaveLength(3000);
    expect(rounds).toBeGreaterThan(2);
    expect(relay.fired['nip77-openDelay']).toBe(2);
  });

  test('is sent again in a check: the relay is readable', async ({ start }) => {
    const { relay } = await start({ losesFirst: true });
    const address = { url: relayUrl(relay.url), network: 'clearnet' } as const;
    const { nip66 } = await probeRelay(address, probeContext({ timeoutMs: 4000 }));
    expect(nip66).toMatchObject({ readable: true });
    expect(relay.fired.losesFirst).toBe(1);
  });
});

describe('NOTICE that may be a greeting', () => {
  test.for([
    GREETING,
    'restricted: read the terms before you subscribe',
    'Please authenticate to write. Auth is required.',
  ])('does not shorten the wait: "%s"', async (text, { start }) => {
    const { relay, connection } = await start({
      greeting: { text, afterMs: 20 },
      quirk: { delayMs: 2800 },
    });
    // Whether a slow machine sends the request again or not: what is awaited is the answer, for longer than after a refusal.
    expect(await read(connection, { idleTimeoutMs: 60_000, totalTimeoutMs: 60_000 })).toEqual(
      WHOLE,
    );
    expect(relay.fired).toMatchObject({ greeting: 1 });
    expect(relay.fired.delay).toBeGreaterThan(0);
  });

  test('is not the reason when nothing else arrives: that is a timeout', async ({ start }) => {
    const { relay, connection } = await start({ greeting: { text: GREETING }, quirk: unanswered });
    const limits = { idleTimeoutMs: 400, totalTimeoutMs: 1000 };
    expect((await read(connection, limits)).end.type).toBe('timeout');
    expect(relay.fired.greeting).toBe(1);
  });

  test('becomes the reason when it is about reading and nothing else arrives', async ({
    start,
  }) => {
    const { connection } = await start({ quirk: notice('rate-limited: slow down') });
    expect((await read(connection, { idleTimeoutMs: 400, totalTimeoutMs: 1000 })).end).toEqual({
      type: 'closed',
      text: 'rate-limited: slow down',
    });
  });

  test('does not end a NEG-OPEN: its answer is awaited', async ({ start }) => {
    const { relay, connection } = await start({ greeting: { text: GREETING, afterMs: 20 } });
    relay.change({ nip77: { frameSizeLimit: 60_000 } });
    const answer = relay.until(({ fired }) => fired.greeting === 1);
    expect((await reconcile(connection)).end).toEqual({ type: 'done' });
    await answer;
  });
});

describe('NOTICE after a later request', () => {
  const later = (text: string): ScriptedRelayOptions => ({
    onRequest: (_, n) => (n === 1 ? 'answer' : notice(text)),
  });

  test('ends the wait long before the deadline when it refuses the request', async ({ start }) => {
    const { connection } = await start(later('blocked: no more for you'));
    await read(connection);
    const { end } = await read(connection, { idleTimeoutMs: 60_000, totalTimeoutMs: 60_000 });
    expect(end).toEqual({ type: 'closed', text: 'blocked: no more for you' });
  });

  test('does not end the wait, and is not the reason, when it is about writing', async ({
    start,
  }) => {
    const { connection } = await start(later('rate-limited: you are posting too fast'));
    await read(connection);
    const { end } = await read(connection, { idleTimeoutMs: 3000, totalTimeoutMs: 3000 });
    expect(end.type).toBe('timeout');
  });
});

test('the end of a lost connection has the refusal of its close frame', async ({ start }) => {
  const { connection } = await start({ quirk: closes(1008, 'rate-limited: too many connections') });
  expect((await read(connection)).end).toEqual({
    type: 'disconnected',
    text: 'rate-limited: too many connections',
    refusal: 'rate_limited',
  });
});
