import { connect } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { signedEvents } from '../../fixtures/events.ts';
import { RelayClient } from '../../relay/bare-client.ts';
import {
  nip11Document,
  type ScriptedRelayOptions,
  startScriptedRelay,
} from '../../relay/scripted-relay.ts';

const running: { stop(): Promise<void> }[] = [];

async function start(options: ScriptedRelayOptions = {}) {
  const relay = await startScriptedRelay(options);
  running.push(relay);
  return relay;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((relay) => relay.stop()));
});

/** Asks for the NIP-11 document, without following redirects. */
async function fetchNip11(options: ScriptedRelayOptions, init: RequestInit = {}) {
  const relay = await start(options);
  const headers = { accept: 'application/nostr+json' };
  const response = await fetch(relay.url.replace('ws:', 'http:'), {
    headers,
    redirect: 'manual',
    ...init,
  });
  return { relay, response, type: response.headers.get('content-type') };
}

describe('the NIP-11 document of a scripted relay', () => {
  test('is a plain one on the same port, and the visit is noted', async () => {
    const { relay, response, type } = await fetchNip11({});
    expect([response.status, type, await response.json()]).toEqual([
      200,
      'application/nostr+json',
      nip11Document(),
    ]);
    expect(relay.fetches).toMatchObject([{ path: '/', accept: 'application/nostr+json' }]);
  });

  test('can be any document, under any type', async () => {
    const document = nip11Document({ limitation: { max_limit: 5 } });
    const { response, type } = await fetchNip11({ nip11: { document, contentType: 'text/plain' } });
    expect([type, await response.json()]).toEqual(['text/plain', document]);
  });

  test('can be a web page, missing, or elsewhere', async () => {
    const page = await fetchNip11({ nip11: { body: '<h1>Hello</h1>' } });
    expect([page.type, await page.response.text()]).toEqual(['text/html', '<h1>Hello</h1>']);
    expect((await fetchNip11({ nip11: { status: 404 } })).response.status).toBe(404);
    const { response } = await fetchNip11({ nip11: { redirect: 'http://127.0.0.1:1/secret' } });
    expect([response.status, response.headers.get('location')]).toEqual([
      302,
      'http://127.0.0.1:1/secret',
    ]);
  });

  test('can come byte by byte', async () => {
    const { relay, response } = await fetchNip11({
      nip11: { drip: { everyMs: 1, document: { name: 'slow' } } },
    });
    const reader = response.body?.getReader();
    const { value } = (await reader?.read()) ?? {};
    expect(value?.length).toBeLessThan(15);
    expect(relay.fired['nip11-drip']).toBe(1);
    await reader?.cancel();
  });

  test('can be huge, and is sent no faster than it is read', async () => {
    const { relay, response } = await fetchNip11({ nip11: { hugeBytes: 200_000_000 } });
    const reader = response.body?.getReader();
    await reader?.read();
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(relay.bytes.sent).toBeLessThan(50_000_000);
    await reader?.cancel();
    const whole = await fetchNip11({ nip11: { hugeBytes: 1_000_000 } });
    const text = await whole.response.text();
    expect([text.length > 1_000_000, JSON.parse(text)]).toEqual([true, nip11Document()]);
  });

  test('can never come', async () => {
    await expect(fetchNip11({ nip11: 'hang-up' })).rejects.toThrow('fetch failed');
    await expect(
      fetchNip11({ nip11: 'silent' }, { signal: AbortSignal.timeout(100) }),
    ).rejects.toThrow('timeout');
  });
});

describe('the handshake of a scripted relay', () => {
  test.each([200, 301, 403, 503])('can be answered with HTTP %i', async (status) => {
    const relay = await start({ upgrade: { status } });
    await expect(RelayClient.connect(relay.url)).rejects.toThrow(
      `Unexpected server response: ${status}`,
    );
    expect(relay.fired.upgrade).toBe(1);
    expect(relay.connections.total).toBe(0);
  });

  test('can be cut, or left unanswered', async () => {
    const relay = await start({ upgrade: 'reset' });
    await expect(RelayClient.connect(relay.url)).rejects.toThrow(/hang up|ECONNRESET/);
    relay.change({ upgrade: 'silent' });
    const client = new RelayClient(relay.url);
    await relay.until(({ fired }) => fired.upgrade === 2);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(client.socket.readyState).toBe(client.socket.CONNECTING);
    await client.close();
  });

  test('can be slow', async () => {
    const relay = await start({ upgrade: { delayMs: 100 } });
    const client = new RelayClient(relay.url);
    await relay.until(({ fired }) => fired.upgrade === 1);
    expect(client.socket.readyState).toBe(client.socket.CONNECTING);
    expect(await client.until(() => client.socket.readyState === client.socket.OPEN, 1)).toBe(
      false,
    );
    await relay.until(({ connections }) => connections.open === 1);
  });

  test('can compress what a client lets it compress: a bomb', async () => {
    const relay = await start({
      deflate: 'accept',
      quirk: { garbage: [{ hugeBytes: 5_000_000 }] },
    });
    const client = await RelayClient.connect(relay.url, { perMessageDeflate: true });
    expect(client.socket.extensions).toBe('permessage-deflate');
    const { bytesRead } = await bytesReadBy(client, () =>
      client.request({ limit: 0 }, { silenceMs: 5000 }),
    );
    expect(bytesRead).toBeLessThan(50_000);
    expect(client.messages[0]).toEqual(['NOTICE', 'huge']);
    const plain = await RelayClient.connect(relay.url);
    expect(plain.socket.extensions).toBe('');
  });

  test('can force compression on a client that did not ask', async () => {
    const relay = await start({ deflate: 'force' });
    await expect(RelayClient.connect(relay.url)).rejects.toThrow(/Sec-WebSocket-Extensions/);
  });
});

async function bytesReadBy(
  client: RelayClient,
  work: () => Promise<unknown>,
): Promise<{ bytesRead: number }> {
  let bytesRead = 0;
  const socket = (client.socket as unknown as { _socket: NodeJS.ReadableStream })._socket;
  socket.on('data', (chunk: Buffer) => {
    bytesRead += chunk.length;
  });
  await work();
  return { bytesRead };
}

describe('the life of a scripted relay', () => {
  test('ends at once, with everybody on it, and twice does no harm', async () => {
    const relay = await start({ upgrade: 'silent' });
    const halfOpen = connect(relay.port, '127.0.0.1');
    await new Promise((resolve) => halfOpen.once('connect', resolve));
    halfOpen.on('error', () => {});
    const gone = new Promise((resolve) => halfOpen.once('close', resolve));
    halfOpen.resume();
    await relay.stop();
    await relay.stop();
    await gone;
    await expect(RelayClient.connect(relay.url)).rejects.toThrow('ECONNREFUSED');
  });

  test('can go on at the same place with the same events', async () => {
    const first = await start({ events: signedEvents(5, { from: 1, to: 9 }) });
    await first.stop();
    const second = await start({ events: first.events, port: first.port });
    expect(second.url).toBe(first.url);
    const client = await RelayClient.connect(second.url);
    expect((await client.request({})).events).toEqual(first.events);
  });

  test('tells when what a test waits for does not come', async () => {
    const relay = await start();
    await expect(relay.until(({ requests }) => requests.length > 0, 'a REQ', 50)).rejects.toThrow(
      'in vain for: a REQ',
    );
  });
});
