/** What one client can take from the relay, and that others do not notice. */
import { setTimeout as sleep } from 'node:timers/promises';
import { estimateCount, feedEvent, hllDecode, hllEncode, newHll } from 'nostr-tools/nip45';
import { describe, expect } from 'vitest';
import { WebSocket } from 'ws';
import { MODE } from '../../../src/nip77/message.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { relayServerTest as test } from '../../fixtures/relay-server-test.ts';
import { RelayClient } from '../../relay/bare-client.ts';
import { makeKeys } from '../../relay/signer.ts';

/** 12 MB in all. */
const LARGE = signedEvents(300, { from: 1000, to: 2000, contentBytes: 40_000 });
const SMALL = signedEvents(50, { from: 3000, to: 4000 });

describe('a slow reader', () => {
  const limits = { pauseAboveBytes: 200_000, closeAboveBytes: 30_000_000, pageBytes: 100_000 };

  test('is paused, gets everything in the end, and keeps nobody waiting', async ({
    store,
    serve,
  }) => {
    await store([...LARGE, ...SMALL]);
    const { url, server } = await serve({ limits: { ...limits, stalledMs: 60_000 } });
    const slow = await RelayClient.connect(url);
    slow.socket.pause();
    slow.send('REQ', 'all', { limit: 5000 });
    await expect
      .poll(() => server.unread, { timeout: 20_000 })
      .toBeGreaterThan(limits.pauseAboveBytes);
    const other = await RelayClient.connect(url);
    for (let i = 0; i < 20; i++) {
      expect((await other.request({ limit: 50 })).events).toHaveLength(50);
      expect(server.unread).toBeLessThan(limits.pauseAboveBytes + 2_000_000);
    }
    slow.socket.resume();
    expect((await slow.next(([type]) => type === 'EOSE', 20_000))?.[2]).toEqual(['finish']);
    expect(slow.messages).toHaveLength(351);
    await Promise.all([slow.close(), other.close()]);
  });

  test('that takes nothing any more is disconnected', async ({ store, serve }) => {
    await store(LARGE);
    const { url, server } = await serve({ limits: { ...limits, stalledMs: 100 } });
    const slow = await RelayClient.connect(url);
    slow.socket.pause();
    slow.send('REQ', 'all', { limit: 5000 });
    await expect.poll(() => server.connections, { timeout: 20_000 }).toBe(0);
    expect(server.unread).toBe(0);
    await slow.close();
  });

  test('that leaves too many new events is disconnected', async ({ store, serve }) => {
    const { url, server } = await serve({ limits: { ...limits, closeAboveBytes: 2_000_000 } });
    const slow = await RelayClient.connect(url);
    expect((await slow.request({}, { id: 'live' })).end?.[0]).toBe('EOSE');
    slow.socket.pause();
    await store(LARGE);
    await expect.poll(() => server.connections, { timeout: 20_000 }).toBe(0);
    await slow.close();
  });
});

describe('many subscriptions', () => {
  test('ten thousand are open, and each gets its own events only', async ({ store, connect }) => {
    const client = await connect({
      env: { RELAY_MAX_SUBSCRIPTIONS: '10000', RELAY_RATE_LIMIT: '0' },
    });
    for (let i = 0; i < 10_000; i++) client.send('REQ', `s${i}`, { kinds: [i], limit: 0 });
    expect(await client.until(() => client.messages.length === 10_000, 30_000)).toBe(true);
    expect(new Set(client.messages.map(([type]) => type))).toEqual(new Set(['EOSE']));
    client.messages.length = 0;
    await store([3, 4444, 9999].map((kind) => signedEvent({ created_at: 1000, kind })));
    await client.until(() => client.messages.length === 3, 10_000);
    await sleep(50); // nothing more comes
    expect(client.messages.map(([, id]) => id).sort()).toEqual(['s3', 's4444', 's9999']);
  });
});

describe('COUNT', () => {
  test('has the HyperLogLog of authors where a tag is named', async ({ store, connect }) => {
    const keys = makeKeys(300, 5);
    const target = 'ab'.repeat(32);
    const events = keys.map(({ secretKey }) =>
      signedEvent({ created_at: 1000, kind: 7, tags: [['e', target]], secretKey }),
    );
    await store(events);
    const client = await connect();
    client.send('COUNT', 'c', { '#e': [target], kinds: [7] });
    const [, , answer] = (await client.next(([type]) => type === 'COUNT', 10_000)) ?? [];
    const { count, hll } = answer as { count: number; hll: string };
    const offset = Number.parseInt(target[32] ?? '', 16) + 8;
    const wanted = newHll();
    for (const event of events) feedEvent(wanted, event, offset);
    expect([count, hll]).toEqual([300, hllEncode(wanted)]);
    expect(estimateCount(hllDecode(hll) ?? newHll())).toBeGreaterThan(240);
    client.send('COUNT', 'd', { kinds: [7] });
    expect(await client.next(([, id]) => id === 'd', 10_000)).toEqual([
      'COUNT',
      'd',
      { count: 300 },
    ]);
    client.send('COUNT', 'e', { '#e': ['x'.repeat(300)] });
    expect((await client.next(([, id]) => id === 'e', 10_000))?.[2]).toMatch(/^unsupported: /);
  });
});

describe('NIP-77', () => {
  /** An initiator that has nothing: a list of no ids up to the end. */
  const EMPTY = `6100000${MODE.idList}00`;

  test('refuses more than the maximum, and says what it is', async ({ store, connect }) => {
    await store(SMALL);
    const client = await connect({ limits: { maxRecords: 49 } });
    client.send('NEG-OPEN', 'n', { kinds: [1] }, EMPTY);
    const refusal = await client.next(([type]) => type === 'NEG-ERR');
    expect(refusal).toEqual(['NEG-ERR', 'n', expect.stringMatching(/^blocked: /), 49]);
    client.send(
      'NEG-OPEN',
      'n',
      { kinds: [1], until: 3999, since: SMALL.at(-2)?.created_at },
      EMPTY,
    );
    expect(await client.next(([type]) => type === 'NEG-MSG')).not.toBeNull();
  });

  test('refuses what is no message, and messages of sessions that there are not', async ({
    store,
    connect,
  }) => {
    await store(SMALL);
    const client = await connect();
    const answerTo = async (...message: unknown[]) => {
      client.messages.length = 0;
      client.send(...message);
      await client.until(() => client.messages.length > 0);
      return client.messages[0];
    };
    expect((await answerTo('NEG-OPEN', 'n', {}, 'zz'))?.[2]).toMatch(/^invalid: /);
    expect((await answerTo('NEG-MSG', 'n', EMPTY))?.[2]).toMatch(/^closed: /);
    expect((await answerTo('NEG-OPEN', 'n', {}, EMPTY))?.[0]).toBe('NEG-MSG');
    expect((await answerTo('NEG-MSG', 'n', EMPTY))?.[0]).toBe('NEG-MSG');
    client.send('NEG-CLOSE', 'n');
    expect((await answerTo('NEG-MSG', 'n', EMPTY))?.[2]).toMatch(/^closed: /);
    expect((await answerTo('NEG-OPEN', 'n', { search: 'x' }, EMPTY))?.[2]).toMatch(
      /^unsupported: /,
    );
    for (let i = 0; i < 8; i++)
      expect((await answerTo('NEG-OPEN', `m${i}`, {}, EMPTY))?.[0]).toBe('NEG-MSG');
    expect((await answerTo('NEG-OPEN', 'm8', {}, EMPTY))?.[2]).toMatch(/^blocked: /);
  });
});

describe('frames and addresses', () => {
  test('a frame that is too large ends the connection, binary ones are refused', async ({
    connect,
  }) => {
    const client = await connect({ limits: { maxMessageBytes: 1000 } });
    client.socket.send(Buffer.from('["CLOSE","x"]'), { binary: true });
    expect((await client.next(([type]) => type === 'NOTICE'))?.[1]).toMatch(/^invalid: /);
    client.send('REQ', 'x', { '#t': ['y'.repeat(2000)] });
    expect(await client.until(() => client.isClosed)).toBe(true);
  });

  test.for([
    ['10.0.0.0/8', 2],
    ['127.0.0.1', 4],
  ] as const)(
    'behind %s, %d of four clients are told apart by X-Forwarded-For',
    async ([proxies, wanted], { serve }) => {
      const { url, server } = await serve({
        env: { RELAY_MAX_CONNECTIONS_PER_ADDRESS: '2', RELAY_TRUSTED_PROXIES: proxies },
      });
      const sockets = await Promise.all(
        ['203.0.113.1', '203.0.113.1', '203.0.113.2', '203.0.113.2'].map(
          (address) =>
            new Promise<WebSocket>((resolve) => {
              const socket = new WebSocket(url, { headers: { 'x-forwarded-for': address } });
              socket.once('open', () => resolve(socket));
              socket.once('error', () => resolve(socket));
            }),
        ),
      );
      expect(server.connections).toBe(wanted);
      for (const socket of sockets) socket.terminate();
    },
  );
});
