import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { answerDeadline, type Flow } from '../../src/relay/answer-deadline.ts';
import { Authenticator } from '../../src/relay/authentication.ts';
import { connectRelay, type RelayConnection } from '../../src/relay/connection.ts';
import { LocalSetBuilder } from '../../src/relay/local-set.ts';
import { publishEvent } from '../../src/relay/publish.ts';
import { reconcileWindow } from '../../src/relay/reconcile.ts';
import { type PageEnd, readLive, readPage } from '../../src/relay/subscription.ts';
import { UselessShare } from '../../src/relay/useless-share.ts';
import { signedEvent, signedEvents } from '../support/events.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import { makeKeys } from '../support/relay-signer.ts';
import { local, relayUrl } from '../support/relays.ts';
import {
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';

vi.setConfig({ testTimeout: 30_000 });

/** Longest silence in these tests; each pause is several times as long. */
const SILENCE_MS = 200;
const PAUSE_MS = 1000;
const LIMITS = {
  idleTimeoutMs: SILENCE_MS,
  totalTimeoutMs: 2 * SILENCE_MS,
  maxEvents: 10_000,
  maxBytes: 64 * 1024 * 1024,
};
const NEVER = new AbortController().signal;
const EVENTS = signedEvents(10, { from: 1000, to: 2000 });
const [KEYS] = makeKeys(1);
const SECRET_KEY = KEYS?.secretKey as Uint8Array;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function open(options: ScriptedRelayOptions = {}, useless = new UselessShare()) {
  const relay = await startScriptedRelay({ events: EVENTS, ...options });
  closing.push(() => relay.stop());
  const connection = await connectRelay(relayUrl(relay.url), local({ useless }));
  closing.push(() => connection.close());
  return { relay, connection };
}

async function readToEnd(connection: RelayConnection, limits = LIMITS) {
  const page = readPage(connection, { limit: 500 }, limits);
  const events: unknown[] = [];
  for (;;) {
    const step = await page.next();
    if (step.done) return { events, end: step.value };
    events.push(...step.value);
  }
}

/** A live subscription whose reader has taken a step and is busy with it, while so much came that the socket is paused. */
async function busyLive(relay: ScriptedRelay, connection: RelayConnection) {
  const live = readLive(connection, { limit: 0 });
  const first = live.next();
  await relay.until(({ requests }) => requests.some(({ end }) => end !== null));
  const id = relay.requests[0]?.subscription;
  relay.say('EVENT', id, signedEvent({ created_at: 3000, content: 'the first' }));
  await first;
  for (let n = 0; n < 1500; n++) relay.say('EVENT', id, n);
  await vi.waitFor(() => expect(connection.isPausedByUs).toBe(true), 10_000);
  /** The reader goes on, and never stops again. */
  const goOn = async (): Promise<PageEnd> => {
    for (;;) {
      const step = await live.next();
      if (step.done) return step.value;
    }
  };
  return { goOn };
}

/** What is asked while the socket is paused, and ends only after it is read again. */
async function acrossPause<T>(connection: RelayConnection, ask: () => Promise<T>): Promise<T> {
  const reader = {};
  connection.pause(reader);
  let ended = false;
  const asked = ask().finally(() => {
    ended = true;
  });
  await sleep(PAUSE_MS);
  expect(ended).toBe(false);
  connection.resume(reader);
  return asked;
}

describe('a relay is not timed out while we do not read from it', () => {
  test('a page whose sibling, a live subscription, is busy', async () => {
    const { relay, connection } = await open();
    const live = await busyLive(relay, connection);
    let ended = false;
    const page = readToEnd(connection).finally(() => {
      ended = true;
    });
    await relay.until(({ requests }) => requests[1]?.end === 'eose', 'the answer to the page');
    await sleep(PAUSE_MS);
    expect(ended).toBe(false);
    const following = live.goOn();
    expect(await page).toEqual({ events: EVENTS, end: { type: 'eose' } });
    connection.close();
    expect((await following).type).toBe('disconnected');
  });

  test('a page, whoever paused the socket', async () => {
    const { connection } = await open();
    const page = await acrossPause(connection, () => readToEnd(connection));
    expect(page).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('a reconciliation', async () => {
    const { relay, connection } = await open();
    serveNip77(relay);
    const limits = { ...LIMITS, maxRounds: 5, maxNeed: 100, frameSizeLimit: 4096 };
    const { end, need } = await acrossPause(connection, () =>
      reconcileWindow(
        connection,
        {},
        { since: 0, until: 5000 },
        new LocalSetBuilder(0).build(),
        limits,
      ),
    );
    expect(end).toEqual({ type: 'done' });
    expect(need).toHaveLength(EVENTS.length);
  });

  test('an authentication', async () => {
    const { connection } = await open({ auth: {} });
    const authenticator = new Authenticator(connection, SECRET_KEY);
    expect((await readToEnd(connection)).end.type).toBe('closed'); // the challenge has come
    const answer = await acrossPause(connection, () => authenticator.authenticate(SILENCE_MS));
    expect(answer).toBe('accepted');
  });

  test('an event that is published', async () => {
    const { connection } = await open();
    const authenticator = new Authenticator(connection, SECRET_KEY);
    const event = signedEvent({ created_at: 3000, content: 'ours' });
    const outcome = await acrossPause(connection, () =>
      publishEvent(connection, authenticator, event, SILENCE_MS, NEVER),
    );
    expect(outcome).toBe('accepted');
  });

  test('a connection that is kept alive', async () => {
    const { connection } = await open();
    connection.onMessage(() => {});
    connection.keepAlive(SILENCE_MS);
    await acrossPause(connection, async () => {
      await sleep(PAUSE_MS + 3 * SILENCE_MS);
      expect(connection.isOpen).toBe(true);
    });
  });

  test('but it is when it is silent while we read', async () => {
    const { relay, connection } = await open();
    relay.change({ quirk: unanswered });
    const page = await acrossPause(connection, () => readToEnd(connection));
    expect(page.end.type).toBe('timeout');
    expect(relay.fired.silence).toBe(1);
  });
});

describe('a socket that several readers paused', () => {
  test('is read again when the last of them resumes', async () => {
    const { relay, connection } = await open();
    const heard: string[] = [];
    connection.onMessage((data) => void heard.push(data));
    const flows: boolean[] = [];
    connection.onFlow(() => flows.push(connection.isPausedByUs));
    const [one, other] = [{}, {}];
    connection.pause(one);
    connection.pause(one);
    connection.pause(other);
    relay.say('NOTICE', 'hello');
    connection.resume(one);
    await sleep(PAUSE_MS);
    expect(heard).toEqual([]);
    expect(connection.isPausedByUs).toBe(true);
    connection.resume(other);
    connection.resume(other);
    await vi.waitFor(() => expect(heard).toEqual(['["NOTICE","hello"]']), 5000);
    expect(flows).toEqual([true, false]);
  });
});

describe('traffic of a sibling on the same connection', () => {
  test('is not charged to a page: its events, and answers to a reconciliation', async () => {
    const useless = new UselessShare(1);
    const { relay, connection } = await open({}, useless);
    const many = signedEvents(3000, { from: 10_000, to: 20_000, authors: 1 });
    serveNip77(relay, {
      items: many.map(({ created_at, id }) => ({ createdAt: created_at, id })),
    });
    const live = readLive(connection, { limit: 0 });
    const first = live.next();
    await relay.until(({ requests }) => requests.some(({ end }) => end !== null));
    const limits = { ...LIMITS, idleTimeoutMs: 5000, totalTimeoutMs: 20_000 };
    const { end, need } = await reconcileWindow(
      connection,
      {},
      { since: 0, until: 50_000 },
      new LocalSetBuilder(0).build(),
      { ...limits, maxRounds: 50, maxNeed: 5000, frameSizeLimit: 60_000 },
    );
    expect({ end, need: need.length }).toEqual({ end: { type: 'done' }, need: 3000 });
    expect(connection.bytesReceived).toBeGreaterThan(128 * 1024); // twice what is let off
    expect(connection.isHeld).toBe(false);
    const id = relay.requests[0]?.subscription;
    relay.change({ quirk: { betweenMs: 20 } });
    const page = readToEnd(connection, { ...limits, maxBytes: 20_000 });
    for (let n = 0; n < 20; n++) relay.say('EVENT', id, 'x'.repeat(5000));
    expect(await page).toEqual({ events: EVENTS, end: { type: 'eose' } });
    expect(connection.isHeld).toBe(false);
    await first;
    await live.return({ type: 'aborted' });
  });
});

describe('the deadline of an answer', () => {
  function flow(): Flow & { set(byReader: boolean, held?: boolean): void } {
    const handlers = new Set<() => void>();
    let byReader = false;
    let held = false;
    return {
      get isPausedByReader() {
        return byReader;
      },
      get isPausedByUs() {
        return byReader || held;
      },
      onFlow: (handler) => {
        handlers.add(handler);
        return () => handlers.delete(handler);
      },
      set: (nowByReader, nowHeld = false) => {
        byReader = nowByReader;
        held = nowHeld;
        for (const handler of [...handlers]) handler();
      },
    };
  }

  test('stands still while readers hold the connection up, however long', async () => {
    const held = flow();
    held.set(true);
    const expired = vi.fn();
    answerDeadline(held, 20, expired);
    await sleep(PAUSE_MS); // fifty times as long
    expect(expired).not.toHaveBeenCalled();
    held.set(false);
    await vi.waitFor(() => expect(expired).toHaveBeenCalledTimes(1), 5000);
    held.set(true);
    held.set(false);
    await sleep(200);
    expect(expired).toHaveBeenCalledTimes(1);
  });

  test('passes in the end for a relay that is held for its junk again and again', async () => {
    const held = flow();
    const passed = new Promise<void>((resolve) => {
      answerDeadline(held, 50, resolve);
    });
    const holding = setInterval(() => held.set(false, true), 10);
    await passed;
    clearInterval(holding);
  });
});
