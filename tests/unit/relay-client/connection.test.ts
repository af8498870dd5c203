import { createHash } from 'node:crypto';
import { describe, expect, vi } from 'vitest';
import { RelayError } from '../../../src/network/relay-error.ts';
import { type ConnectOptions, connectRelay } from '../../../src/relay-client/connection.ts';
import { acceptance, rawFrame } from '../../network/raw-server.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';
import { nextMessage, connectionTest as test } from '../../relay/connection-test.ts';
import { local, relayUrl } from '../../relay/relays.ts';
import { HTML_PAGE } from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 }); // for a busy machine; no timeout under test is that long

/** Why connecting fails, in one word. */
async function reasonOf(url: string, options: Partial<ConnectOptions> = {}): Promise<string> {
  const error = await connectRelay(relayUrl(url), local(options)).then(
    (connection) => {
      connection.close();
      return new Error(`connected to ${url}`);
    },
    (reason: unknown) => reason,
  );
  if (!(error instanceof RelayError)) throw error;
  expect(error.message).toContain(new URL(url).hostname.replace(/^\[|\]$/g, ''));
  return error.reason;
}

/** A well-formed onion name (Tor's rend-spec-v3, 6): base32 of a key, its checksum and the version. */
function onionHost(seed: number): string {
  const key = Buffer.alloc(32, seed);
  const version = Buffer.from([3]);
  const checksum = createHash('sha3-256')
    .update(Buffer.concat([Buffer.from('.onion checksum'), key, version]))
    .digest()
    .subarray(0, 2);
  const bits = [...Buffer.concat([key, checksum, version])]
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
  const letters = bits
    .match(/.{5}/g)
    ?.map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[+`0b${five}`]);
  return `${letters?.join('')}.onion`;
}

describe('connectRelay', () => {
  test('opens, sends, receives and counts bytes', async ({ startRelay, open }) => {
    const relay = await startRelay();
    const connection = await open(relay.url);
    connection.send(['REQ', 'a', { limit: 1 }]);
    await expect(nextMessage(connection)).resolves.toBe('["EOSE","a"]');
    expect(connection.bytesReceived).toBe('["EOSE","a"]'.length);
    expect(connection.isOpen).toBe(true);
    expect(relay.messages).toEqual([{ connection: 1, message: ['REQ', 'a', { limit: 1 }] }]);
  });

  test('fails with timeout when the peer accepts TCP and never answers the upgrade', async ({
    startRelay,
  }) => {
    const relay = await startRelay({ upgrade: 'silent' });
    expect(await reasonOf(relay.url, { timeoutMs: 500 })).toBe('timeout');
    expect(relay.fired.upgrade).toBe(1);
  });

  test('fails with timeout when the peer never finishes TLS, and closes the socket', async ({
    startRaw,
  }) => {
    const server = await startRaw((socket) => socket.resume());
    const url = `wss://127.0.0.1:${server.port}`;
    expect(await reasonOf(url, { timeoutMs: 500 })).toBe('timeout');
    expect(server.total).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test.for([
    [403, 'http_403'],
    [200, 'http_200'],
    [503, 'http_503'],
  ] as const)(
    'fails with the reason of an HTTP status other than 101: %i is %s',
    async ([status, reason], { startRelay }) => {
      const relay = await startRelay({ upgrade: { status, body: HTML_PAGE } });
      expect(await reasonOf(relay.url)).toBe(reason);
    },
  );

  test('does not follow a redirect', async ({ startRelay }) => {
    const other = await startRelay();
    const relay = await startRelay({ upgrade: { status: 302, headers: { location: other.url } } });
    expect(await reasonOf(relay.url)).toBe('http_302');
    expect(other.connections.total).toBe(0);
  });

  test('fails with refused at a closed port', async ({ startRelay }) => {
    const relay = await startRelay();
    await relay.stop();
    expect(await reasonOf(relay.url)).toBe('refused');
  });

  test('fails with reset when the connection is reset before the response', async ({
    startRelay,
  }) => {
    const relay = await startRelay({ upgrade: 'reset' });
    expect(await reasonOf(relay.url)).toBe('reset');
  });

  test('fails with protocol when the server does not speak HTTP', async ({ startRaw }) => {
    const server = await startRaw((socket) => socket.write('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'));
    expect(await reasonOf(`ws://127.0.0.1:${server.port}`)).toBe('protocol');
  });

  test('fails with protocol for a wrong Sec-WebSocket-Accept', async ({ startRaw }) => {
    const server = await startRaw(async (socket) => {
      await acceptance(socket);
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n',
      );
    });
    expect(await reasonOf(`ws://127.0.0.1:${server.port}`)).toBe('protocol');
  });

  test('fails with tls for an untrusted certificate', async ({ startRaw }) => {
    const server = await startRaw(() => {}, { tls: true });
    expect(await reasonOf(`wss://127.0.0.1:${server.port}`)).toBe('tls');
  });

  test('fails with tls when the server speaks plain HTTP', async ({ startRelay }) => {
    const relay = await startRelay();
    expect(await reasonOf(relay.url.replace('ws:', 'wss:'))).toBe('tls');
  });

  test('fails with dns for a name that does not resolve', async () => {
    expect(await reasonOf('ws://nobody-at-all.invalid')).toBe('dns');
  });

  test('does not offer compression, and refuses forced compression', async ({
    startRelay,
    open,
  }) => {
    const willing = await startRelay({ deflate: 'accept' });
    const connection = await open(willing.url);
    const messages = nextMessage(connection);
    willing.say('NOTICE', 'x'.repeat(10_000));
    expect((await messages).length).toBe(10_000 + '["NOTICE",""]'.length);
    const pushing = await startRelay({ deflate: 'force' });
    expect(await reasonOf(pushing.url)).toBe('protocol');
  });

  test('fails with aborted before the attempt begins and while it runs', async ({ startRelay }) => {
    const relay = await startRelay({ upgrade: 'silent' });
    expect(await reasonOf(relay.url, { signal: AbortSignal.abort() })).toBe('aborted');
    const abort = new AbortController();
    const attempt = reasonOf(relay.url, { signal: abort.signal });
    await relay.until(({ fired }) => fired.upgrade === 1);
    abort.abort();
    expect(await attempt).toBe('aborted');
  });
});

describe('address guard of connectRelay', () => {
  test.for([
    'ws://127.0.0.1',
    'ws://127.1.2.3',
    'ws://2130706433',
    'ws://0x7f.1',
    'ws://[::1]',
    'ws://[::ffff:127.0.0.1]',
    'ws://10.0.0.1',
    'ws://172.16.0.1',
    'ws://192.168.1.1',
    'ws://169.254.169.254',
    'ws://100.64.0.1',
    'ws://[fe80::1]',
    'ws://[fd00::1]',
    'ws://localhost',
    'ws://database',
  ])('does not connect to %s', async (url, { startRelay }) => {
    const relay = await startRelay();
    const forbidden = connectRelay(
      `${url}:${relay.port}/` as ReturnType<typeof relayUrl>, // bypasses the parser, which refuses some of them
      local({ allowPrivate: false }),
    );
    await expect(forbidden).rejects.toMatchObject({ name: 'RelayError', reason: 'forbidden' });
    expect(relay.connections.total).toBe(0);
  });

  test('fails with no_proxy for Tor, I2P and Lokinet without a proxy', async () => {
    expect(await reasonOf(`ws://${ONION_HOST}`)).toBe('no_proxy');
    expect(await reasonOf(`ws://${'a'.repeat(52)}.b32.i2p`)).toBe('no_proxy');
    expect(await reasonOf('ws://relay.loki')).toBe('no_proxy');
  });
});

describe('connectRelay through a SOCKS proxy', () => {
  test('resolves names at the proxy, with one SOCKS user per relay', async ({
    startRelay,
    startProxy,
    open,
  }) => {
    const relay = await startRelay();
    const proxy = await startProxy({ target: () => relay.port });
    const hosts = [ONION_HOST, onionHost(1), onionHost(2)];
    for (const host of hosts) {
      const connection = await open(`ws://${host}`, { torProxy: proxy });
      connection.send(['REQ', 'a', { limit: 1 }]);
      await expect(nextMessage(connection)).resolves.toBe('["EOSE","a"]');
    }
    expect(proxy.requests.map(({ host, port }) => ({ host, port }))).toEqual(
      hosts.map((host) => ({ host, port: 80 })),
    );
    expect(new Set(proxy.requests.map(({ user }) => user)).size).toBe(3);
  });

  test('uses TLS with the name of the relay', async ({ startRaw, startProxy, open }) => {
    const server = await startRaw(
      async (socket) => {
        socket.write(Buffer.concat([await acceptance(socket), rawFrame('["NOTICE","hello"]')]));
      },
      { tls: true },
    );
    const proxy = await startProxy({ target: () => server.port });
    expect(await reasonOf(`wss://${ONION_HOST}`, { torProxy: proxy })).toBe('tls'); // an untrusted certificate
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    const connection = await open(`wss://${ONION_HOST}`, { torProxy: proxy });
    await expect(nextMessage(connection)).resolves.toBe('["NOTICE","hello"]');
    expect(proxy.requests.map(({ host, port }) => `${host}:${port}`)).toEqual(
      Array(2).fill(`${ONION_HOST}:443`),
    );
  });

  test('fails with unreachable if the proxy does not reach the relay, with proxy_down if the proxy is down or silent', async ({
    startProxy,
  }) => {
    const refusing = await startProxy({ target: () => null });
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: refusing })).toBe('unreachable');
    await refusing.close();
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: refusing })).toBe('proxy_down');
    const silent = await startProxy({ silent: true });
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: silent, timeoutMs: 100 })).toBe(
      'proxy_down',
    );
  });
});
