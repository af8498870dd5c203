import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { getPow } from 'nostr-tools/nip13';
import { getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { relayState } from '../../src/nostr/relay-state.ts';
import { type ProbeContext, probeRelay } from '../../src/probe.ts';
import { connectRelay, RelayError } from '../../src/relay/connection.ts';
import type { RelayAddress, RelayUrl } from '../../src/relay/url.ts';
import { probeContext } from '../support/probe-context.ts';
import { makeKeys } from '../support/relay-signer.ts';
import { capsValues, refusesBare, startScriptedRelay } from '../support/scripted-relay.ts';

const SECRET_KEY = makeKeys(1)[0]?.secretKey ?? new Uint8Array(32);
const NOW = 1_700_000_000_500;
const EVENT = { id: 'a', kind: 1 };

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

type Send = (...message: unknown[]) => void;

/** What a relay of these tests says to each message; a step left out is done well. */
interface Script {
  readonly onOpen?: (send: Send, socket: WebSocket) => void;
  readonly onReq?: (send: Send, subscription: string, socket: WebSocket) => void;
  readonly onEvent?: (send: Send, event: NostrEvent, socket: WebSocket) => void;
  readonly onHttp?: (request: IncomingMessage, response: ServerResponse) => void;
}

interface TestRelay {
  readonly address: RelayAddress;
  /** Every message of the client, in order. */
  readonly received: unknown[][];
  openSockets(): number;
}

async function startRelay(script: Script = {}): Promise<TestRelay> {
  const received: unknown[][] = [];
  const http = createServer(script.onHttp ?? ((_, response) => response.end('{"name":"a relay"}')));
  const sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (socket) => {
    const send: Send = (...message) => socket.send(JSON.stringify(message));
    script.onOpen?.(send, socket);
    socket.on('message', (data) => {
      const message = JSON.parse(String(data));
      received.push(message);
      if (message[0] === 'REQ') answerReq(script, send, message[1], socket);
      if (message[0] === 'EVENT') answerEvent(script, send, message[1], socket);
    });
  });
  const { port } = await listen(http, () => {
    for (const socket of sockets.clients) socket.terminate();
  });
  return { address: addressOf(port), received, openSockets: () => sockets.clients.size };
}

function answerReq({ onReq }: Script, send: Send, subscription: string, socket: WebSocket): void {
  if (onReq) {
    onReq(send, subscription, socket);
    return;
  }
  send('EVENT', subscription, EVENT);
  send('EOSE', subscription);
}

function answerEvent({ onEvent }: Script, send: Send, event: NostrEvent, socket: WebSocket): void {
  if (onEvent) onEvent(send, event, socket);
  else send('OK', event.id, true, '');
}

async function listen(server: ReturnType<typeof createTcpServer>, beforeClose = () => {}) {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    beforeClose();
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { port: (server.address() as AddressInfo).port, openSockets: () => sockets.size };
}

function addressOf(port: number): RelayAddress {
  return { url: `ws://127.0.0.1:${port}` as RelayUrl, network: 'clearnet' };
}

const contextOf = (changes: Partial<ProbeContext> = {}) =>
  probeContext({ secretKey: SECRET_KEY, now: () => NOW, ...changes });

/** Short enough not to wait long, and only where the deadline is what is tested. */
const SHORT = { timeoutMs: 500 };

async function check(script: Script, changes: Partial<ProbeContext> = {}) {
  const relay = await startRelay(script);
  const snapshot = await probeRelay(relay.address, contextOf(changes));
  await vi.waitFor(() => expect(relay.openSockets()).toBe(0));
  return { relay, snapshot, nip66: snapshot.nip66 };
}

describe('probeRelay', () => {
  test('a good relay: document, three steps with their times, connection closed', async () => {
    const { relay, snapshot } = await check({});
    expect(snapshot).toMatchObject({
      relay: relay.address,
      generatedAt: 1_700_000_000,
      nip11: { name: 'a relay' },
      nip11Reason: null,
      nip66: { openable: true, readable: true, writable: true, reason: null },
    });
    for (const rtt of ['rtt_open', 'rtt_read', 'rtt_write'] as const) {
      expect(snapshot.nip66[rtt]).toBeGreaterThanOrEqual(0);
      expect(Number.isInteger(snapshot.nip66[rtt])).toBe(true);
    }
  });

  test('asks for one event, closes its subscription, and writes an event that verifies', async () => {
    const { relay } = await check({});
    const [req, close, write] = relay.received;
    expect(req).toEqual(['REQ', expect.any(String), { limit: 1 }]);
    expect(close).toEqual(['CLOSE', req?.[1]]);
    const [type, event] = write as [string, NostrEvent];
    expect(type).toBe('EVENT');
    expect(event.pubkey).toBe(getPublicKey(SECRET_KEY));
    expect(verifyEvent(event)).toBe(true);
    const [, subscription] = relay.received[3] ?? [];
    expect(relay.received.slice(3)).toEqual([
      ['REQ', expect.any(String), { ids: [event.id], limit: 1 }],
      ['CLOSE', subscription],
    ]);
  });

  test('an empty relay is readable', async () => {
    const { nip66 } = await check({ onReq: (send, id) => send('EOSE', id) });
    expect(nip66).toMatchObject({ readable: true, writable: true, reason: null });
  });

  test('a relay that is down is a snapshot too', async () => {
    const relay = await startRelay();
    await cleanups.pop()?.();
    expect(await probeRelay(relay.address, contextOf())).toEqual({
      carry: {},
      checks: {
        open: { success: false, durationMs: expect.any(Number), reason: 'refused' },
        nip11: { success: false, durationMs: expect.any(Number), reason: 'refused' },
      },
      relay: relay.address,
      generatedAt: 1_700_000_000,
      nip11: null,
      nip11Reason: 'refused',
      nip66: {
        openable: false,
        readable: false,
        writable: false,
        rtt_open: null,
        rtt_read: null,
        rtt_write: null,
        reason: 'refused',
      },
    });
  });

  test('a web server that answers the upgrade with HTML is not openable', async () => {
    const server = await listen(
      createServer((_, response) => response.end('<!doctype html><p>Welcome to nginx')),
    );
    const snapshot = await probeRelay(addressOf(server.port), contextOf());
    expect(snapshot).toMatchObject({
      nip11: null,
      nip11Reason: 'not_json',
      nip66: { openable: false, reason: 'http_200' },
    });
  });

  test('a server that never says a word costs one deadline and leaves no socket', async () => {
    const server = await listen(createTcpServer((socket) => socket.resume()));
    const snapshot = await probeRelay(addressOf(server.port), contextOf(SHORT));
    expect(snapshot).toMatchObject({ nip11Reason: 'timeout', nip66: { reason: 'timeout' } });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('a document without a relay, and a relay without a document', async () => {
    const refused = async () => {
      throw new RelayError('tls', 'a bad certificate');
    };
    const relay = await startRelay();
    expect(await probeRelay(relay.address, contextOf({ connect: refused }))).toMatchObject({
      nip11: { name: 'a relay' },
      nip66: { openable: false, reason: 'tls' },
    });
    expect(await probeRelay(relay.address, contextOf({ fetchNip11: refused }))).toMatchObject({
      nip11: null,
      nip11Reason: 'tls',
      nip66: { writable: true, reason: null },
    });
  });
});

describe('the read step', () => {
  test.each<[string, string, NonNullable<Script['onReq']>]>([
    [
      'auth_required',
      'CLOSED auth-required:',
      (send, id) => send('CLOSED', id, 'auth-required: log in'),
    ],
    ['restricted', 'CLOSED restricted:', (send, id) => send('CLOSED', id, 'restricted: members')],
    [
      'rate_limited',
      'CLOSED rate-limited:',
      (send, id) => send('CLOSED', id, 'rate-limited: wait'),
    ],
    ['closed', 'CLOSED without a reason', (send, id) => send('CLOSED', id)],
    ['disconnected', 'a disconnect', (_send, _id, socket) => socket.terminate()],
  ])('fails with %s after %s', async (reason, _, onReq) => {
    const { nip66 } = await check({ onReq });
    expect(nip66).toMatchObject({ openable: true, readable: false, rtt_read: null, reason });
    expect(nip66.writable).toBe(reason !== 'disconnected');
  });

  test.each<[string, NonNullable<Script['onReq']>]>([
    ['says nothing', () => {}],
    ['ends another subscription', (send) => send('EOSE', 'another')],
    ['sends what is no event, and no end', (send, id) => send('EVENT', id, null)],
    ['chatters', (send) => send('NOTICE', 'welcome to my relay')],
    ['sends no JSON', (_send, _id, socket) => socket.send('<html>')],
  ])(
    'fails by its deadline at a relay that %s; the write is tried all the same',
    async (_, onReq) => {
      const { nip66 } = await check({ onReq }, SHORT);
      expect(nip66).toMatchObject({ readable: false, writable: true, reason: 'timeout' });
    },
  );

  test.each(['on-connect', 'on-demand'] as const)(
    'answers a relay that asks who reads, its challenge coming %s (NIP-42)',
    async (challenge) => {
      const relay = await startScriptedRelay({ auth: { challenge } });
      cleanups.push(() => relay.stop());
      const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
      expect(relay.fired.auth).toBe(1);
      expect(nip66).toMatchObject({ readable: true, writable: true, reason: null });
    },
  );

  test.each([
    ['restricted', 'lets nobody in', { allow: () => false }],
    ['auth_required', 'asks again and again', { loop: true }],
  ])('fails with %s at a relay that %s', async (reason, _, auth) => {
    const relay = await startScriptedRelay({ auth });
    cleanups.push(() => relay.stop());
    const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
    expect(nip66).toMatchObject({ openable: true, readable: false, reason });
  });

  test('a NOTICE that refuses is the reason where nothing else comes', async () => {
    const onReq: Script['onReq'] = (send) => send('NOTICE', 'too many concurrent REQs');
    const { nip66 } = await check({ onReq }, SHORT);
    expect(nip66).toMatchObject({ readable: false, reason: 'rate_limited' });
  });

  test.each([
    ['blocked: a filter has to name kinds or authors', {}, 'kinds', 2],
    ["error: can't handle empty filters", {}, 'kinds', 2],
    ['error: a filter has to name kinds or authors', { kinds: [1] }, 'filter', 1],
  ] as const)(
    'a relay that refuses any event ("%s"), with the filter %j, is readable by %s',
    async (text, eventFilter, asked, requests) => {
      const relay = await startScriptedRelay({ quirk: refusesBare(text) });
      cleanups.push(() => relay.stop());
      const context = { ...contextOf(), eventFilter };
      const { nip66, checks } = await probeRelay(addressOf(relay.port), context);
      expect(nip66).toMatchObject({ readable: true, reason: null });
      expect(relayState(nip66)).toBe('up');
      expect(checks.read).toMatchObject({ success: true, data: { asked } });
      expect(relay.requests.filter(({ filters }) => !filters[0]?.ids)).toHaveLength(requests);
    },
  );

  test('a filter with more kinds than the relay takes is asked with one of them', async () => {
    const relay = await startScriptedRelay({ quirk: capsValues(2, 'blocked: too many kinds') });
    cleanups.push(() => relay.stop());
    const context = { ...contextOf(), eventFilter: { kinds: [1, 2, 3] } };
    const { nip66, checks } = await probeRelay(addressOf(relay.port), context);
    expect(nip66).toMatchObject({ readable: true, reason: null });
    expect(checks.read).toMatchObject({ data: { asked: 'filter' } });
  });

  test('a relay that refuses every filter for its shape is up, and not readable', async () => {
    const relay = await startScriptedRelay({
      quirk: { refuseFilter: { when: () => true, text: 'error: filter too broad' } },
    });
    cleanups.push(() => relay.stop());
    const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
    expect(nip66).toMatchObject({ openable: true, readable: false, reason: 'filter_refused' });
    expect(relayState(nip66)).toBe('up');
  });

  test('a flood of events is read no further than its first', async () => {
    const onReq: Script['onReq'] = (send, id) => {
      for (let i = 0; i < 5000; i += 1) send('EVENT', id, EVENT);
    };
    const { nip66 } = await check({ onReq });
    expect(nip66).toMatchObject({ readable: true, writable: true });
  });
});

describe('the write step', () => {
  test.each([
    ['blocked: no', 'blocked'],
    ['auth-required: log in', 'auth_required'],
    ['pow: 28 bits needed', 'pow'],
    ['no', 'rejected'],
  ])('OK false with "%s" fails with %s', async (text, reason) => {
    const { nip66 } = await check({ onEvent: (send, event) => send('OK', event.id, false, text) });
    expect(nip66).toMatchObject({ readable: true, writable: false, rtt_write: null, reason });
  });

  test('a relay that would have passed the event on, had anybody listened, is writable', async () => {
    const onEvent: Script['onEvent'] = (send, event) =>
      send('OK', event.id, false, 'mute: no one was listening for this');
    expect((await check({ onEvent })).nip66).toMatchObject({ writable: true, reason: null });
  });

  test.each<[string, string, NonNullable<Script['onEvent']>]>([
    ['timeout', 'is silent', () => {}],
    ['timeout', 'says OK to another event', (send) => send('OK', 'f'.repeat(64), true, '')],
    ['timeout', 'chatters', (send) => send('NOTICE', 'hello')],
    ['blocked', 'refuses by NOTICE', (send) => send('NOTICE', 'blocked: by policy')],
  ])('fails with %s at a relay that %s', async (reason, _, onEvent) => {
    const { nip66 } = await check({ onEvent }, SHORT);
    expect(nip66).toMatchObject({ readable: true, writable: false, reason });
  });

  test('a disconnect ends it at once', async () => {
    const { nip66 } = await check({ onEvent: (_send, _event, socket) => socket.terminate() });
    expect(nip66).toMatchObject({ readable: true, writable: false, reason: 'disconnected' });
  });
});

describe('proof of work', () => {
  const asking =
    (bits: number): NonNullable<Script['onHttp']> =>
    (_, response) =>
      response.end(JSON.stringify({ limitation: { min_pow_difficulty: bits } }));

  const onEvent: Script['onEvent'] = (send, event) => {
    const enough = getPow(event.id) >= 12;
    send('OK', event.id, enough, enough ? '' : 'pow: difficulty is less than 12');
  };

  test('is done where the document asks for it', async () => {
    const { nip66 } = await check({ onHttp: asking(12), onEvent });
    expect(nip66).toMatchObject({ writable: true, reason: null });
  });

  test('is not done where it does not, and the relay says so', async () => {
    const { nip66, relay } = await check({
      onEvent: (send, event) => send('OK', event.id, false, 'pow: 12'),
    });
    expect(nip66).toMatchObject({ writable: false, reason: 'pow' });
    expect(JSON.stringify(relay.received)).not.toContain('nonce');
  });

  test('is not begun where it would take too long, and nothing is sent', async () => {
    const { nip66, relay } = await check({ onHttp: asking(40) });
    expect(nip66).toMatchObject({ readable: true, writable: false, reason: 'pow' });
    expect(relay.received.map(([type]) => type)).toEqual(['REQ', 'CLOSE']);
  });

  test('waits for a slow document, and reads meanwhile', async () => {
    let readFirst = false;
    let wasRead = false;
    const onHttp: Script['onHttp'] = (request, response) => {
      void vi
        .waitFor(() => expect(wasRead).toBe(true))
        .then(() => {
          readFirst = true;
          asking(12)(request, response);
        });
    };
    const onReq: Script['onReq'] = (send, id) => {
      wasRead = true;
      send('EOSE', id);
    };
    const { nip66 } = await check({ onHttp, onReq, onEvent });
    expect(nip66.writable).toBe(true);
    expect(readFirst).toBe(true);
  });
});

describe('an abort of probeRelay', () => {
  test.each<[string, Script, number]>([
    ['while the relay is read', { onReq: () => {} }, 1],
    ['while the event is written', { onEvent: () => {} }, 3],
  ])('%s throws its reason and closes the connection', async (_, script, messages) => {
    const stop = new AbortController();
    const relay = await startRelay(script);
    const probing = probeRelay(relay.address, contextOf({ signal: stop.signal }));
    await vi.waitFor(() => expect(relay.received).toHaveLength(messages));
    stop.abort(new Error('drained'));
    await expect(probing).rejects.toThrow('drained');
    await vi.waitFor(() => expect(relay.openSockets()).toBe(0));
  });

  test('while proof of work is done throws its reason and closes the connection', async () => {
    const stop = new AbortController();
    const relay = await startRelay({
      onHttp: (_, response) => response.end('{"limitation":{"min_pow_difficulty":20}}'),
    });
    let asked = 0;
    const now = () => {
      asked += 1; // the third time is the test event's, just before the work
      if (asked === 3) setTimeout(() => stop.abort(new Error('drained')), 0);
      return NOW;
    };
    const probing = probeRelay(relay.address, contextOf({ signal: stop.signal, now }));
    await expect(probing).rejects.toThrow('drained');
    expect(relay.received.map(([type]) => type)).toEqual(['REQ', 'CLOSE']);
    await vi.waitFor(() => expect(relay.openSockets()).toBe(0));
  });

  test('while connecting, and before anything', async () => {
    const stop = new AbortController();
    const server = await listen(createTcpServer((socket) => socket.resume()));
    const probing = probeRelay(addressOf(server.port), contextOf({ signal: stop.signal }));
    await vi.waitFor(() => expect(server.openSockets()).toBe(2));
    stop.abort(new Error('drained'));
    await expect(probing).rejects.toThrow('drained');
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    const connect = vi.fn(connectRelay);
    const late = probeRelay(addressOf(server.port), contextOf({ signal: stop.signal, connect }));
    await expect(late).rejects.toThrow('drained');
    expect(connect).not.toHaveBeenCalled();
  });
});
