import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { LiveRelays } from '../../src/visit/live.ts';
import { silent } from '../support/bigbrotr.ts';
import { isValidEvent, makeKeys, signedEvent, signedEvents } from '../support/events.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import type { AuthPolicy, Verb } from '../support/relay-session.ts';
import {
  closed,
  notice,
  nth,
  type OnRequest,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../support/scripted-relay.ts';
import { type TestArchive, testArchive, type VisitOptions } from '../support/visit-context.ts';

const DAY = 86_400;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(60, { from: T - 10_000, to: T - 100 });
const [OURS] = makeKeys(1, 42) as [ReturnType<typeof makeKeys>[number]];

let archive: TestArchive;
const closing: (() => unknown)[] = [];
beforeAll(async () => {
  archive = await testArchive();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await archive.clear();
});
afterAll(() => archive.close());

async function start(auth: AuthPolicy, options: ScriptedRelayOptions = {}): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay({ events: EVENTS, auth, ...options });
  closing.push(() => relay.stop());
  return relay;
}

const visit = (relay: { url: string }, options: VisitOptions = {}) =>
  archive.visit(relay.url, { now: () => T, secretKey: OURS.secretKey, ...options });

async function remembered({ url }: { url: string }) {
  const [row] = await archive.db.query<{ reason: string | null; not_before: string }>(
    'select reason, not_before from relay_manners join relays using (relay_id) where url = $1',
    [url],
  );
  return row && { reason: row.reason, pause: Math.max(0, Number(row.not_before) - T) };
}

function authsOf({ messages }: Pick<ScriptedRelay, 'messages'>): NostrEvent[] {
  return messages.flatMap(({ message }) =>
    Array.isArray(message) && message[0] === 'AUTH' ? [message[1] as NostrEvent] : [],
  );
}

/** What a relay of few words does with its client: for orders of messages that no quirk has. */
interface TerseRelay {
  readonly url: string;
  readonly messages: { connection: number; message: unknown }[];
  dropAll(): void;
}

type Say = (...message: unknown[]) => void;

async function startTerse(
  onMessage: (message: unknown[], say: Say, messages: unknown[]) => unknown,
): Promise<TerseRelay> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  const messages: TerseRelay['messages'] = [];
  server.on('connection', (socket: WebSocket) => {
    const say: Say = (...message) => socket.send(JSON.stringify(message), () => {});
    socket.on('message', (data) => {
      const message = JSON.parse(String(data)) as unknown[];
      messages.push({ connection: 1, message });
      void onMessage(
        message,
        say,
        messages.map((one) => one.message),
      );
    });
  });
  const dropAll = () => {
    for (const client of server.clients) client.terminate();
  };
  closing.push(() => {
    dropAll();
    server.close();
  });
  return { url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, messages, dropAll };
}

const answer = (say: Say, subscription: unknown) => {
  for (const event of EVENTS) say('EVENT', subscription, event);
  say('EOSE', subscription, ['finish']);
};
const wasAnswered = (messages: unknown[]) =>
  messages.some((message) => Array.isArray(message) && message[0] === 'AUTH');

describe('auth-required:', () => {
  test.each(['on-connect', 'on-demand'] as const)(
    'is answered as NIP-42 says, and the REQ sent again; the challenge came %s',
    async (challenge) => {
      const relay = await start({ challenge });
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
      expect(relay.fired).toMatchObject({ 'auth-required': 1, auth: 1 });
      const [event, ...others] = authsOf(relay);
      expect(others).toEqual([]);
      expect(event).toMatchObject({
        kind: 22_242,
        pubkey: OURS.publicKey,
        tags: [
          ['relay', relay.url],
          ['challenge', expect.stringMatching(/^[0-9a-f-]{36}$/)],
        ],
        content: '',
      });
      expect(isValidEvent(event as NostrEvent)).toBe(true);
      expect(Math.abs((event?.created_at ?? 0) - Date.now() / 1000)).toBeLessThan(60);
      const [refused, again] = relay.requests;
      expect(refused).toMatchObject({ end: 'closed' });
      expect(again?.filters).toEqual(refused?.filters);
      expect(relay.connections).toMatchObject({ total: 1 });
      expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
    },
  );

  test('is not answered before it is said: nobody is told who we are without need', async () => {
    const relay = await start({ reads: false });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(authsOf(relay)).toEqual([]);
  });

  test('as a NOTICE is answered too', async () => {
    const onRequest = nth(1, notice('auth-required: read with a key'));
    const relay = await start({ reads: false }, { onRequest });
    expect(await visit(relay, { requestTimeoutMs: 500 })).toMatchObject({
      outcome: 'complete',
      events: 60,
    });
    expect(relay.fired.auth).toBe(1);
  });

  test('is answered when the challenge comes only after it', async () => {
    const relay = await startTerse(async ([type, first], say, messages) => {
      if (type === 'AUTH') say('OK', (first as NostrEvent).id, true, '');
      else if (type === 'REQ' && wasAnswered(messages)) answer(say, first);
      else if (type === 'REQ') {
        say('CLOSED', first, 'auth-required: one moment');
        await sleep(50);
        say('AUTH', 'here it is');
      }
    });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    const [event] = authsOf(relay);
    expect(event?.tags).toEqual([
      ['relay', relay.url],
      ['challenge', 'here it is'],
    ]);
  });

  test('is answered for NIP-77 too, which is then done after all', async () => {
    const relay = await start({ reads: false });
    await archive.snapshot(relay.url, { supported_nips: [1, 42, 77] });
    relay.change({
      verbs: {
        'NEG-OPEN': ([, session], reply) =>
          reply('NEG-ERR', session, 'auth-required: who are you?'),
      },
    });
    const reconciles = relay
      .until(({ fired }) => fired.auth === 1)
      .then(() => serveNip77(relay, { frameSizeLimit: 60_000 }));
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 60 });
    expect((await reconciles).opened).toHaveLength(1);
    expect(authsOf(relay)).toHaveLength(1);
    const proofs = await archive.db.query('select evidence from coverage');
    expect(proofs).toEqual([{ evidence: 'nip77' }]);
  });

  test('holds for the connection: what follows and the next visit need no other', async () => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    const relay = await start({});
    closing.push(() => live.close());
    await visit(relay, { live, now: () => T });
    expect(live.size).toBe(1);
    await relay.until(({ requests }) =>
      requests.some(({ filters, end }) => filters[0]?.limit === 0 && end),
    );
    const event = signedEvent({ created_at: T, content: 'for members' });
    relay.publish(event);
    await vi.waitFor(async () => expect(await archive.ids(relay.url)).toContain(event.id), 5000);
    expect(await visit(relay, { live, now: () => T + 10 })).toMatchObject({ outcome: 'complete' });
    expect(relay.fired).toMatchObject({ 'auth-required': 1, auth: 1 });
  });
});

describe('NIP-42 on a followed connection', () => {
  test('a session that expires between visits is renewed at each of them', async () => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    closing.push(() => live.close());
    let expired = false;
    const onRequest: OnRequest = () => {
      if (!expired) return 'answer';
      expired = false;
      return closed('auth-required: your session has expired');
    };
    const relay = await start({}, { onRequest });
    for (let times = 1; times <= 5; times += 1) {
      expired = times > 1;
      const options = { live, overlapSeconds: 10_000, now: () => T + times };
      expect(await visit(relay, options)).toMatchObject({ outcome: 'complete' });
      expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
    }
    expect(relay.fired.auth).toBe(5);
    expect(relay.connections.total).toBe(1);
  });
});

describe('an AUTH without an answer', () => {
  test('is followed by the same REQ: a relay that never says OK is read', async () => {
    const relay = await start({ ok: 'never' });
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject({
      outcome: 'complete',
      events: 60,
    });
    expect(relay.fired).toMatchObject({ 'ok-late': 1, 'auth-required': 1 });
    expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
  });

  test('is followed by the same NEG-OPEN where that was refused', async () => {
    const relay = await start({ reads: false, ok: 'never' });
    await archive.snapshot(relay.url, { supported_nips: [1, 42, 77] });
    const refuse: Verb = ([, session], reply) =>
      reply('NEG-ERR', session, 'auth-required: who are you?');
    relay.change({ verbs: { 'NEG-OPEN': refuse } });
    const reconciles = relay
      .until(({ fired }) => fired.auth === 1)
      .then(() => serveNip77(relay, { frameSizeLimit: 60_000 }));
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject({ outcome: 'complete' });
    expect((await reconciles).opened.length).toBeGreaterThan(0);
  });

  test('means restricted where OK false comes after the REQ was sent again', async () => {
    let auth: NostrEvent | null = null;
    let requests = 0;
    const relay = await startTerse(([type, first], say) => {
      if (type === 'AUTH') auth = first as NostrEvent;
      if (type !== 'REQ') return;
      requests += 1;
      if (requests === 1) {
        say('AUTH', 'who?');
        say('CLOSED', first, 'auth-required: who?');
      } else say('OK', auth?.id, false, 'restricted: not for you');
    });
    expect(await visit(relay, { requestTimeoutMs: 800 })).toMatchObject({ outcome: 'failed' });
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });
});

describe('is remembered:', () => {
  const failed = { outcome: 'failed', events: 0 };

  test('a relay that wants a key where we have none', async () => {
    const relay = await start({});
    expect(await visit(relay, { secretKey: null })).toMatchObject({
      ...failed,
      detail: 'auth_required: auth-required: who are you?',
    });
    expect(authsOf(relay)).toEqual([]);
    expect(relay.requests).toHaveLength(1);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test('a relay that lets others in, not us', async () => {
    const relay = await start({ allow: (pubkey) => pubkey !== OURS.publicKey });
    expect(await visit(relay)).toMatchObject({
      ...failed,
      detail: 'restricted: restricted: not for you',
    });
    expect(relay.fired).toMatchObject({ auth: 1, restricted: 1 });
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });

  test('a relay that answers our key with OK false', async () => {
    const relay = await startTerse(([type, first], say) => {
      if (type === 'AUTH') say('OK', (first as NostrEvent).id, false, 'error: not on the list');
      else if (type === 'REQ') {
        say('AUTH', 'who?');
        say('CLOSED', first, 'auth-required: who?');
      }
    });
    expect(await visit(relay)).toMatchObject({ ...failed, pages: 1 });
    expect(authsOf(relay)).toHaveLength(1);
    expect(await remembered(relay)).toEqual({ reason: 'restricted', pause: DAY });
  });

  test('a relay that wants another answer for every REQ: it gets a bounded number', async () => {
    const relay = await start({ loop: true });
    expect(await visit(relay)).toMatchObject(failed);
    expect(relay.fired.auth).toBeGreaterThanOrEqual(1);
    expect(relay.fired.auth).toBeLessThanOrEqual(2);
    expect(relay.requests.length).toBeLessThanOrEqual(3);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test.each<[string, number, (say: Say) => void]>([
    ['never sends a challenge', 1, () => {}],
    ['sends one that is too long to be one', 1, (say) => say('AUTH', 'x'.repeat(100_000))],
    ['never says OK and refuses the second REQ too', 2, (say) => say('AUTH', 'who?')],
    [
      'says OK to something else',
      2,
      (say) => {
        say('AUTH', 'who?');
        say('OK', 'f'.repeat(64), true, '');
      },
    ],
  ])('a relay that %s', async (_what, requests, challenge) => {
    const relay = await startTerse(([type, first], say) => {
      if (type !== 'REQ') return;
      challenge(say);
      say('CLOSED', first, 'auth-required: who?');
    });
    expect(await visit(relay, { requestTimeoutMs: 1000 })).toMatchObject(failed);
    expect(
      relay.messages.filter(({ message }) => (message as unknown[])[0] === 'REQ'),
    ).toHaveLength(requests);
    expect(await remembered(relay)).toEqual({ reason: 'auth_required', pause: DAY });
  });

  test('nothing, when we stop while we wait for the OK; a failure, when the relay is lost', async () => {
    const stop = new AbortController();
    const asksAnd = (onAuth: () => void) =>
      startTerse(([type, first], say) => {
        if (type === 'AUTH') onAuth();
        else if (type === 'REQ') {
          say('AUTH', 'who?');
          say('CLOSED', first, 'auth-required: who?');
        }
      });
    const stopping = await asksAnd(() => stop.abort());
    expect(await visit(stopping, { signal: stop.signal })).toMatchObject({ outcome: 'unfinished' });
    expect(authsOf(stopping)).toHaveLength(1);
    expect(await remembered(stopping)).toEqual({ reason: null, pause: 0 });
    const lost: TerseRelay = await asksAnd(() => lost.dropAll());
    expect(await visit(lost)).toMatchObject({
      ...failed,
      detail: expect.stringMatching(/^(disconn|closed: auth-required)/),
    });
    expect(await remembered(lost)).toEqual({ reason: 'failed', pause: 300 });
  });
});
