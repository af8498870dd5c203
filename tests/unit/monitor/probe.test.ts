import { createServer } from 'node:http';
import { createServer as createTcpServer } from 'node:net';
import { getPublicKey, verifyEvent } from 'nostr-tools/pure';
import { describe, expect, vi } from 'vitest';
import { probeRelay } from '../../../src/monitor/probe.ts';
import { RelayError } from '../../../src/network/relay-error.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { relayState } from '../../../src/nostr/relay-state.ts';
import { notOpened } from '../../fixtures/probe-context.ts';
import {
  addressOf,
  contextOf,
  EVENT,
  type Script,
  SECRET_KEY,
  SHORT,
  probeTest as test,
} from '../../fixtures/probe-test.ts';
import { capsValues, refusesBare } from '../../relay/scripted-relay.ts';

describe('probeRelay', () => {
  test('returns document and three steps with their times, and closes the connection', async ({
    check,
  }) => {
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

  test('requests one event, closes its subscription, and writes an event that verifies', async ({
    check,
  }) => {
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

  test('finds an empty relay readable', async ({ check }) => {
    const { nip66 } = await check({ onReq: (send, id) => send('EOSE', id) });
    expect(nip66).toMatchObject({ readable: true, writable: true, reason: null });
  });

  test('returns a snapshot of a relay that is down', async ({ play }) => {
    const relay = await play();
    await relay.close();
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
      nip66: notOpened('refused'),
    });
  });

  test('finds a web server that answers the upgrade with HTML not openable', async ({ listen }) => {
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

  test('takes one deadline at a silent server, and leaves no socket', async ({ listen }) => {
    const server = await listen(createTcpServer((socket) => socket.resume()));
    const snapshot = await probeRelay(addressOf(server.port), contextOf(SHORT));
    expect(snapshot).toMatchObject({ nip11Reason: 'timeout', nip66: { reason: 'timeout' } });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('returns a document without a relay, and a relay without a document', async ({ play }) => {
    const refused = async () => {
      throw new RelayError('tls', 'a bad certificate');
    };
    const relay = await play();
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

describe('read check of probeRelay', () => {
  test.for<[string, string, NonNullable<Script['onReq']>]>([
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
  ])('fails with %s after %s', async ([reason, _, onReq], { check }) => {
    const { nip66 } = await check({ onReq });
    expect(nip66).toMatchObject({ openable: true, readable: false, rtt_read: null, reason });
    expect(nip66.writable).toBe(reason !== 'disconnected');
  });

  test.for<[string, NonNullable<Script['onReq']>]>([
    ['says nothing', () => {}],
    ['ends another subscription', (send) => send('EOSE', 'another')],
    ['sends null as an event, and no EOSE', (send, id) => send('EVENT', id, null)],
    ['sends NOTICE only', (send) => send('NOTICE', 'welcome to my relay')],
    ['sends no JSON', (_send, _id, socket) => socket.send('<html>')],
  ])(
    'fails with timeout at a relay that %s; the write check runs nevertheless',
    async ([_, onReq], { check }) => {
      const { nip66 } = await check({ onReq }, SHORT);
      expect(nip66).toMatchObject({ readable: false, writable: true, reason: 'timeout' });
    },
  );

  test.for(['on-connect', 'on-demand'] as const)(
    'authenticates at a relay that requires it, with a challenge %s (NIP-42)',
    async (challenge, { startRelay }) => {
      const relay = await startRelay({ auth: { challenge } });
      const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
      expect(relay.fired.auth).toBe(1);
      expect(nip66).toMatchObject({ readable: true, writable: true, reason: null });
    },
  );

  test.for([
    ['restricted', 'accepts no key', { allow: () => false }],
    ['auth_required', 'refuses again after each authentication', { loop: true }],
  ] as const)('fails with %s at a relay that %s', async ([reason, _, auth], { startRelay }) => {
    const relay = await startRelay({ auth });
    const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
    expect(nip66).toMatchObject({ openable: true, readable: false, reason });
  });

  test('fails with the reason of a NOTICE that refuses when nothing else arrives', async ({
    check,
  }) => {
    const onReq: Script['onReq'] = (send) => send('NOTICE', 'too many concurrent REQs');
    const { nip66 } = await check({ onReq }, SHORT);
    expect(nip66).toMatchObject({ readable: false, reason: 'rate_limited' });
  });

  test.for([
    ['blocked: a filter has to name kinds or authors', {}, 'kinds', 2],
    ["error: can't handle empty filters", {}, 'kinds', 2],
    ['error: a filter has to name kinds or authors', { kinds: [1] }, 'filter', 1],
  ] as const)(
    'finds a relay that refuses filters without kinds ("%s"), with the filter %j, readable by %s',
    async ([text, eventFilter, asked, requests], { startRelay }) => {
      const relay = await startRelay({ quirk: refusesBare(text) });
      const context = { ...contextOf(), eventFilter };
      const { nip66, checks } = await probeRelay(addressOf(relay.port), context);
      expect(nip66).toMatchObject({ readable: true, reason: null });
      expect(relayState(nip66)).toBe('up');
      expect(checks.read).toMatchObject({ success: true, data: { asked } });
      expect(relay.requests.filter(({ filters }) => !filters[0]?.ids)).toHaveLength(requests);
    },
  );

  test('requests one kind of a filter with more kinds than the relay accepts', async ({
    startRelay,
  }) => {
    const relay = await startRelay({ quirk: capsValues(2, 'blocked: too many kinds') });
    const context = { ...contextOf(), eventFilter: { kinds: [1, 2, 3] } };
    const { nip66, checks } = await probeRelay(addressOf(relay.port), context);
    expect(nip66).toMatchObject({ readable: true, reason: null });
    expect(checks.read).toMatchObject({ data: { asked: 'filter' } });
  });

  test('finds a relay that refuses every filter for its shape up and not readable', async ({
    startRelay,
  }) => {
    const relay = await startRelay({
      quirk: { refuseFilter: { when: () => true, text: 'error: filter too broad' } },
    });
    const { nip66 } = await probeRelay(addressOf(relay.port), contextOf());
    expect(nip66).toMatchObject({ openable: true, readable: false, reason: 'filter_refused' });
    expect(relayState(nip66)).toBe('up');
  });

  test('succeeds at the first event of a flood', async ({ check }) => {
    const onReq: Script['onReq'] = (send, id) => {
      for (let i = 0; i < 5000; i += 1) send('EVENT', id, EVENT);
    };
    const { nip66 } = await check({ onReq });
    expect(nip66).toMatchObject({ readable: true, writable: true });
  });
});
