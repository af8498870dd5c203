import { createServer as createTcpServer } from 'node:net';
import { getPow } from 'nostr-tools/nip13';
import { describe, expect, vi } from 'vitest';
import { probeRelay } from '../../../src/monitor/probe.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import {
  addressOf,
  contextOf,
  NOW,
  type Script,
  SHORT,
  probeTest as test,
} from '../../fixtures/probe-test.ts';

describe('write check of probeRelay', () => {
  test.for([
    ['blocked: no', 'blocked'],
    ['auth-required: log in', 'auth_required'],
    ['pow: 28 bits needed', 'pow'],
    ['no', 'rejected'],
  ])('answer OK false with "%s" fails with %s', async ([text, reason], { check }) => {
    const { nip66 } = await check({ onEvent: (send, event) => send('OK', event.id, false, text) });
    expect(nip66).toMatchObject({ readable: true, writable: false, rtt_write: null, reason });
  });

  test('succeeds when the relay answers mute: no client was subscribed', async ({ check }) => {
    const onEvent: Script['onEvent'] = (send, event) =>
      send('OK', event.id, false, 'mute: no one was listening for this');
    expect((await check({ onEvent })).nip66).toMatchObject({ writable: true, reason: null });
  });

  test.for<[string, string, NonNullable<Script['onEvent']>]>([
    ['timeout', 'is silent', () => {}],
    ['timeout', 'says OK to another event', (send) => send('OK', 'f'.repeat(64), true, '')],
    ['timeout', 'sends NOTICE only', (send) => send('NOTICE', 'hello')],
    ['blocked', 'refuses by NOTICE', (send) => send('NOTICE', 'blocked: by policy')],
  ])('fails with %s at a relay that %s', async ([reason, _, onEvent], { check }) => {
    const { nip66 } = await check({ onEvent }, SHORT);
    expect(nip66).toMatchObject({ readable: true, writable: false, reason });
  });

  test('fails with disconnected when the relay disconnects', async ({ check }) => {
    const { nip66 } = await check({ onEvent: (_send, _event, socket) => socket.terminate() });
    expect(nip66).toMatchObject({ readable: true, writable: false, reason: 'disconnected' });
  });
});

describe('proof of work of the write check', () => {
  const asking =
    (bits: number): NonNullable<Script['onHttp']> =>
    (_, response) =>
      response.end(JSON.stringify({ limitation: { min_pow_difficulty: bits } }));

  const onEvent: Script['onEvent'] = (send, event) => {
    const enough = getPow(event.id) >= 12;
    send('OK', event.id, enough, enough ? '' : 'pow: difficulty is less than 12');
  };

  test('is done if the document requires it', async ({ check }) => {
    const { nip66 } = await check({ onHttp: asking(12), onEvent });
    expect(nip66).toMatchObject({ writable: true, reason: null });
  });

  test('is not done if the document does not require it, even if the relay refuses the event for it', async ({
    check,
  }) => {
    const { nip66, relay } = await check({
      onEvent: (send, event) => send('OK', event.id, false, 'pow: 12'),
    });
    expect(nip66).toMatchObject({ writable: false, reason: 'pow' });
    expect(JSON.stringify(relay.received)).not.toContain('nonce');
  });

  test('is not started if it would take too long, and nothing is sent', async ({ check }) => {
    const { nip66, relay } = await check({ onHttp: asking(40) });
    expect(nip66).toMatchObject({ readable: true, writable: false, reason: 'pow' });
    expect(relay.received.map(([type]) => type)).toEqual(['REQ', 'CLOSE']);
  });

  test('waits for a slow document while the read check runs', async ({ check }) => {
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

describe('abort of probeRelay', () => {
  test.for<[string, Script, number]>([
    ['during the read check', { onReq: () => {} }, 1],
    ['during the write check', { onEvent: () => {} }, 3],
  ])('%s throws the reason and closes the connection', async ([_, script, messages], { play }) => {
    const stop = new AbortController();
    const relay = await play(script);
    const probing = probeRelay(relay.address, contextOf({ signal: stop.signal }));
    await vi.waitFor(() => expect(relay.received).toHaveLength(messages));
    stop.abort(new Error('drained'));
    await expect(probing).rejects.toThrow('drained');
    await vi.waitFor(() => expect(relay.openSockets()).toBe(0));
  });

  test('closes the connection at once while the archive does not answer', async ({ play }) => {
    const stop = new AbortController();
    const relay = await play();
    let answer = () => {};
    const carried = () =>
      new Promise<object>((resolve) => {
        answer = () => resolve({});
      });
    const probing = probeRelay(relay.address, contextOf({ signal: stop.signal, carried }));
    await vi.waitFor(() => expect(relay.received.map(([type]) => type)).toContain('CLOSE'));
    expect(relay.openSockets()).toBe(1);
    stop.abort(new Error('drained'));
    await vi.waitFor(() => expect(relay.openSockets()).toBe(0));
    answer();
    await expect(probing).rejects.toThrow('drained');
  });

  test('during proof of work throws the reason and closes the connection', async ({ play }) => {
    const stop = new AbortController();
    const relay = await play({
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

  test('while connecting or before the start throws the reason', async ({ listen }) => {
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
