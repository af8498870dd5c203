import { afterEach, describe, expect, test, vi } from 'vitest';
import { probeRelay } from '../../src/probe.ts';
import { connectRelay, type RelayConnection } from '../../src/relay/connection.ts';
import { wasSentAgain } from '../../src/relay/first-request.ts';
import { LocalSetBuilder } from '../../src/relay/local-set.ts';
import { reconcileWindow } from '../../src/relay/reconcile.ts';
import { type PageEnd, readPage } from '../../src/relay/subscription.ts';
import { UselessShare } from '../../src/relay/useless-share.ts';
import { signedEvents } from '../support/events.ts';
import { probeContext } from '../support/probe-context.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import { local, relayUrl } from '../support/relays.ts';
import {
  closes,
  notice,
  type ScriptedRelayOptions,
  startScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 });

const EVENTS = signedEvents(10, { from: 1000, to: 2000 });
const PATIENT = { idleTimeoutMs: 12_000, totalTimeoutMs: 30_000 };
const GREETING = 'Welcome. Payment is required to publish here, reading is free.';
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(options: ScriptedRelayOptions) {
  const relay = await startScriptedRelay({ events: EVENTS, ...options });
  closing.push(() => relay.stop());
  const useless = new UselessShare(Number.POSITIVE_INFINITY);
  const connection = await connectRelay(relayUrl(relay.url), local({ useless }));
  closing.push(() => connection.close());
  return { relay, connection, useless };
}

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

describe('the first request of a connection', () => {
  test('is sent once more, under its id, where it was lost', async () => {
    const { relay, connection } = await start({ losesFirst: true });
    expect(await read(connection, { idleTimeoutMs: 2000, totalTimeoutMs: 20_000 })).toEqual(WHOLE);
    expect(relay.fired.losesFirst).toBe(1);
    const [first, second] = relay.messages.map(({ message }) => message);
    expect(second).toEqual(first);
    expect(wasSentAgain(connection, relay.requests[0]?.subscription ?? '')).toBe(true);
  });

  test('is sent once where it is answered, and no other request is sent again', async () => {
    const { relay, connection } = await start({
      onRequest: (_, n) => (n === 1 ? 'answer' : unanswered),
    });
    expect(await read(connection)).toEqual(WHOLE);
    const impatient = { idleTimeoutMs: 400, totalTimeoutMs: 1000 };
    expect((await read(connection, impatient)).end.type).toBe('timeout');
    expect(relay.requests).toHaveLength(2);
    expect(wasSentAgain(connection, relay.requests[0]?.subscription ?? '')).toBe(false);
  });

  test('answered twice shows every event once, and the second answer is not junk', async () => {
    const { relay, connection } = await start({ quirk: { delayMs: 700 } });
    const noted = vi.spyOn(connection, 'noteUseless');
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

  test('as NEG-OPEN is sent once more too', async () => {
    const { relay, connection } = await start({ losesFirst: true });
    serveNip77(relay, { frameSizeLimit: 60_000 });
    const { end, need } = await reconcile(connection);
    expect(end).toEqual({ type: 'done' });
    expect(need).toHaveLength(EVENTS.length);
    expect(relay.fired.losesFirst).toBe(1);
  });

  test('as NEG-OPEN that is answered twice is reconciled as one that is answered once', async () => {
    const events = signedEvents(3000, { from: 1000, to: 2000, seed: 2 });
    const { relay, connection } = await start({ events });
    const record = serveNip77(relay, { frameSizeLimit: 20_000, openDelayMs: 700 });
    const { end, need, rounds } = await reconcile(connection);
    expect(end).toEqual({ type: 'done' });
    expect(need).toHaveLength(3000);
    expect(rounds).toBeGreaterThan(2);
    expect(record.fired.openDelay).toBe(2);
  });

  test('of a check is sent once more: the relay is readable', async () => {
    const { relay } = await start({ losesFirst: true });
    const address = { url: relayUrl(relay.url), network: 'clearnet' } as const;
    const { nip66 } = await probeRelay(address, probeContext({ timeoutMs: 4000 }));
    expect(nip66).toMatchObject({ readable: true });
    expect(relay.fired.losesFirst).toBe(1);
  });
});

describe('a NOTICE that greets a connection', () => {
  test.each([
    GREETING,
    'restricted: read the terms before you subscribe',
    'Please authenticate to write. Auth is required.',
  ])('shortens no wait: "%s"', async (text) => {
    const { relay, connection } = await start({
      greeting: { text, afterMs: 20 },
      quirk: { delayMs: 2800 },
    });
    expect(await read(connection)).toEqual(WHOLE);
    expect(relay.fired).toMatchObject({ greeting: 1, delay: 1 });
  });

  test('is no reason where nothing else comes: that is a timeout', async () => {
    const { relay, connection } = await start({ greeting: { text: GREETING }, quirk: unanswered });
    const limits = { idleTimeoutMs: 400, totalTimeoutMs: 1000 };
    expect((await read(connection, limits)).end.type).toBe('timeout');
    expect(relay.fired.greeting).toBe(1);
  });

  test('about reading is the reason where nothing else comes', async () => {
    const { connection } = await start({ quirk: notice('rate-limited: slow down') });
    expect((await read(connection, { idleTimeoutMs: 400, totalTimeoutMs: 1000 })).end).toEqual({
      type: 'closed',
      text: 'rate-limited: slow down',
    });
  });

  test('comes to nothing for NEG-OPEN: the answer is waited for', async () => {
    const { relay, connection } = await start({ greeting: { text: GREETING, afterMs: 20 } });
    serveNip77(relay, { frameSizeLimit: 60_000 });
    const answer = relay.until(({ fired }) => fired.greeting === 1);
    expect((await reconcile(connection)).end).toEqual({ type: 'done' });
    await answer;
  });
});

describe('a NOTICE after a later request', () => {
  const later = (text: string) =>
    start({ onRequest: (_, n) => (n === 1 ? 'answer' : notice(text)) });

  test('that refuses it ends the wait long before the deadline', async () => {
    const { connection } = await later('blocked: no more for you');
    await read(connection);
    const { end } = await read(connection, { idleTimeoutMs: 60_000, totalTimeoutMs: 60_000 });
    expect(end).toEqual({ type: 'closed', text: 'blocked: no more for you' });
  });

  test('that speaks of writing does not, and is not the reason', async () => {
    const { connection } = await later('rate-limited: you are posting too fast');
    await read(connection);
    const { end } = await read(connection, { idleTimeoutMs: 3000, totalTimeoutMs: 3000 });
    expect(end.type).toBe('timeout');
  });
});

test('a refusal in the close frame is told with the lost connection', async () => {
  const { connection } = await start({ quirk: closes(1008, 'rate-limited: too many connections') });
  expect((await read(connection)).end).toEqual({
    type: 'disconnected',
    text: 'rate-limited: too many connections',
    refusal: 'rate_limited',
  });
});
