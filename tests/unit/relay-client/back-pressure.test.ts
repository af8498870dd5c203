import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import { reconcileWindow } from '../../../src/nip77/reconcile.ts';
import { answerDeadline, type Flow } from '../../../src/relay-client/answer-deadline.ts';
import { Authenticator } from '../../../src/relay-client/authentication.ts';
import type { RelayConnection } from '../../../src/relay-client/connection.ts';
import { JunkLimit } from '../../../src/relay-client/junk-limit.ts';
import { publishEvent } from '../../../src/relay-client/publish.ts';
import { type PageEnd, readLive, readPage } from '../../../src/relay-client/subscription.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { EVENTS, pageTest } from '../../relay/page-test.ts';
import {
  type ScriptedRelay,
  type ScriptedRelayOptions,
  unanswered,
} from '../../relay/scripted-relay.ts';
import { makeKeys } from '../../relay/signer.ts';

vi.setConfig({ testTimeout: 30_000 });

/** Idle timeout of these tests; each pause is several times as long. */
const SILENCE_MS = 200;
const PAUSE_MS = 1000;
const LIMITS = {
  idleTimeoutMs: SILENCE_MS,
  totalTimeoutMs: 2 * SILENCE_MS,
  maxEvents: 10_000,
  maxBytes: 64 * 1024 * 1024,
};
const NEVER = new AbortController().signal;
const [KEYS] = makeKeys(1);
const SECRET_KEY = KEYS?.secretKey as Uint8Array;

const test = pageTest.extend('connect', ({ visit }) => {
  return (options: ScriptedRelayOptions = {}, junkLimit = new JunkLimit()) =>
    visit(options, junkLimit);
});

async function readToEnd(connection: RelayConnection, limits = LIMITS) {
  const page = readPage(connection, { limit: 500 }, limits);
  const events: unknown[] = [];
  for (;;) {
    const step = await page.next();
    if (step.done) return { events, end: step.value };
    events.push(...step.value);
  }
}

/** A live subscription whose reader is busy with one step, after enough events arrived to pause the socket. */
async function busyLive(relay: ScriptedRelay, connection: RelayConnection) {
  const live = readLive(connection, { limit: 0 });
  const first = live.next();
  await relay.until(({ requests }) => requests.some(({ end }) => end !== null));
  const id = relay.requests[0]?.subscription;
  relay.say('EVENT', id, signedEvent({ created_at: 3000, content: 'the first' }));
  await first;
  for (let n = 0; n < 1500; n++) relay.say('EVENT', id, n);
  await vi.waitFor(() => expect(connection.isReadingPaused).toBe(true), 10_000);
  /** Reads on without further pauses. @returns how the subscription ends */
  const readOn = async (): Promise<PageEnd> => {
    for (;;) {
      const step = await live.next();
      if (step.done) return step.value;
    }
  };
  return { readOn };
}

/** Sends a request while the socket is paused, and asserts that it does not end before the socket is read again. */
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

describe('deadlines while reading is stopped', () => {
  test('deadline of a page does not expire while a live subscription on the connection is busy', async ({
    connect,
  }) => {
    const { relay, connection } = await connect();
    const live = await busyLive(relay, connection);
    let ended = false;
    const page = readToEnd(connection).finally(() => {
      ended = true;
    });
    await relay.until(({ requests }) => requests[1]?.end === 'eose', 'the answer to the page');
    await sleep(PAUSE_MS);
    expect(ended).toBe(false);
    const following = live.readOn();
    expect(await page).toEqual({ events: EVENTS, end: { type: 'eose' } });
    connection.close();
    expect((await following).type).toBe('disconnected');
  });

  test('deadline of a page does not expire while another reader has paused the socket', async ({
    connect,
  }) => {
    const { connection } = await connect();
    const page = await acrossPause(connection, () => readToEnd(connection));
    expect(page).toEqual({ events: EVENTS, end: { type: 'eose' } });
  });

  test('deadline of a reconciliation does not expire', async ({ connect }) => {
    const { relay, connection } = await connect();
    relay.change({ nip77: {} });
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

  test('deadline of an authentication does not expire', async ({ connect }) => {
    const { connection } = await connect({ auth: {} });
    const authenticator = new Authenticator(connection, SECRET_KEY);
    expect((await readToEnd(connection)).end.type).toBe('closed'); // the challenge has arrived
    const answer = await acrossPause(connection, () => authenticator.authenticate(SILENCE_MS));
    expect(answer).toBe('accepted');
  });

  test('deadline of a published event does not expire', async ({ connect }) => {
    const { connection } = await connect();
    const authenticator = new Authenticator(connection, SECRET_KEY);
    const event = signedEvent({ created_at: 3000, content: 'ours' });
    const outcome = await acrossPause(connection, () =>
      publishEvent(connection, authenticator, event, SILENCE_MS, NEVER),
    );
    expect(outcome).toBe('accepted');
  });

  test('keep-alive does not terminate the connection', async ({ connect }) => {
    const { connection } = await connect();
    connection.onMessage(() => {});
    connection.keepAlive(SILENCE_MS);
    await acrossPause(connection, async () => {
      await sleep(PAUSE_MS + 3 * SILENCE_MS);
      expect(connection.isOpen).toBe(true);
    });
  });

  test('deadline of a page expires when the relay is silent while it is read', async ({
    connect,
  }) => {
    const { relay, connection } = await connect();
    relay.change({ quirk: unanswered });
    const page = await acrossPause(connection, () => readToEnd(connection));
    expect(page.end.type).toBe('timeout');
    expect(relay.fired.silence).toBe(1);
  });
});

describe('socket that several readers paused', () => {
  test('is read again when the last one resumes', async ({ connect }) => {
    const { relay, connection } = await connect();
    const received: string[] = [];
    connection.onMessage((data) => void received.push(data));
    const flows: boolean[] = [];
    connection.onReadingChanged(() => flows.push(connection.isReadingPaused));
    const [one, other] = [{}, {}];
    connection.pause(one);
    connection.pause(one);
    connection.pause(other);
    relay.say('NOTICE', 'hello');
    connection.resume(one);
    await sleep(PAUSE_MS);
    expect(received).toEqual([]);
    expect(connection.isReadingPaused).toBe(true);
    connection.resume(other);
    connection.resume(other);
    await vi.waitFor(() => expect(received).toEqual(['["NOTICE","hello"]']), 5000);
    expect(flows).toEqual([true, false]);
  });
});

describe('traffic of another request', () => {
  test('is not charged to a page as junk: events, and answers to a reconciliation', async ({
    connect,
  }) => {
    const junkLimit = new JunkLimit(1);
    const { relay, connection } = await connect({}, junkLimit);
    const many = signedEvents(3000, { from: 10_000, to: 20_000, authors: 1 });
    const items = many.map(({ created_at, id }) => ({ createdAt: created_at, id }));
    relay.change({ nip77: { items } });
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
    expect(connection.bytesReceived).toBeGreaterThan(128 * 1024); // twice the amount that is not charged
    expect(connection.isThrottled).toBe(false);
    const id = relay.requests[0]?.subscription;
    relay.change({ quirk: { betweenMs: 20 } });
    const page = readToEnd(connection, { ...limits, maxBytes: 20_000 });
    for (let n = 0; n < 20; n++) relay.say('EVENT', id, 'x'.repeat(5000));
    expect(await page).toEqual({ events: EVENTS, end: { type: 'eose' } });
    expect(connection.isThrottled).toBe(false);
    await first;
    await live.return({ type: 'aborted' });
  });
});

describe('answerDeadline', () => {
  function flow(): Flow & { set(byReader: boolean, held?: boolean): void } {
    const handlers = new Set<() => void>();
    let byReader = false;
    let held = false;
    return {
      get isPausedByReader() {
        return byReader;
      },
      get isReadingPaused() {
        return byReader || held;
      },
      onReadingChanged: (handler) => {
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

  test('does not advance while readers have stopped reading, however long', async () => {
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

  test('expires eventually when junk stops reading again and again', async () => {
    const held = flow();
    const passed = new Promise<void>((resolve) => {
      answerDeadline(held, 50, resolve);
    });
    const holding = setInterval(() => held.set(false, true), 10);
    await passed;
    clearInterval(holding);
  });
});
