import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  type ConnectOptions,
  connectRelay,
  type RelayConnection,
  RelayError,
} from '../../src/relay/connection.ts';
import { UselessShare } from '../../src/relay/useless-share.ts';
import {
  acceptance,
  OPCODE,
  type RawServer,
  rawFrame,
  startRawServer,
} from '../support/raw-server.ts';
import { HTML_PAGE } from '../support/relay-http.ts';
import { local, relayUrl, whenStill } from '../support/relays.ts';
import { type ScriptedRelayOptions, startScriptedRelay } from '../support/scripted-relay.ts';
import { type SocksProxyOptions, startSocksProxy } from '../support/socks-proxy.ts';
import { ONION_HOST } from '../support/tls-certificate.ts';

vi.setConfig({ testTimeout: 20_000 }); // the machine may be busy; what is tested waits for less, or for longer

const closing: (() => unknown)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of closing.splice(0).reverse()) await close();
});

async function scripted(options: ScriptedRelayOptions = {}) {
  const relay = await startScriptedRelay(options);
  closing.push(() => relay.stop());
  return relay;
}

async function raw(onSocket: (socket: Socket) => unknown, options?: { tls: boolean }) {
  const server = await startRawServer(onSocket, options);
  closing.push(() => server.close());
  return server;
}

/** A server that accepts the upgrade and sends the bytes with it, in one segment. */
function rawRelay(bytes: Buffer, then: (socket: Socket) => void = () => {}): Promise<RawServer> {
  return raw(async (socket) => {
    socket.write(Buffer.concat([await acceptance(socket), bytes]));
    then(socket);
  });
}

async function proxied(options: SocksProxyOptions) {
  const proxy = await startSocksProxy(options);
  closing.push(() => proxy.close());
  return proxy;
}

async function open(url: string, options: Partial<ConnectOptions> = {}): Promise<RelayConnection> {
  const connection = await connectRelay(relayUrl(url), local(options));
  closing.push(() => connection.close());
  return connection;
}

/** Why connecting fails, in one word. */
async function reasonOf(url: string, options: Partial<ConnectOptions> = {}): Promise<string> {
  const error = await connectRelay(relayUrl(url), local(options)).then(
    (connection) => {
      connection.close();
      return new Error(`${url} was connected to`);
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

const nextMessage = (connection: RelayConnection) =>
  new Promise<string>((resolve) => {
    const stop = connection.onMessage((data) => {
      stop();
      resolve(data);
    });
  });

describe('connecting', () => {
  test('opens, sends, receives and counts bytes', async () => {
    const relay = await scripted();
    const connection = await open(relay.url);
    connection.send(['REQ', 'a', { limit: 1 }]);
    await expect(nextMessage(connection)).resolves.toBe('["EOSE","a"]');
    expect(connection.bytesReceived).toBe('["EOSE","a"]'.length);
    expect(connection.isOpen).toBe(true);
    expect(relay.messages).toEqual([{ connection: 1, message: ['REQ', 'a', { limit: 1 }] }]);
  });

  test('a peer that accepts TCP and never upgrades is given up at the deadline', async () => {
    const relay = await scripted({ upgrade: 'silent' });
    expect(await reasonOf(relay.url, { timeoutMs: 500 })).toBe('timeout');
    expect(relay.fired.upgrade).toBe(1);
  });

  test('a peer that never finishes TLS is given up at the deadline, its socket freed', async () => {
    const server = await raw((socket) => socket.resume());
    const url = `wss://127.0.0.1:${server.port}`;
    expect(await reasonOf(url, { timeoutMs: 500 })).toBe('timeout');
    expect(server.total).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test.each([
    [403, 'http_403'],
    [200, 'http_200'],
    [503, 'http_503'],
  ])('an answer in HTTP %i is %s', async (status, reason) => {
    const relay = await scripted({ upgrade: { status, body: HTML_PAGE } });
    expect(await reasonOf(relay.url)).toBe(reason);
  });

  test('a redirect is not followed', async () => {
    const other = await scripted();
    const relay = await scripted({ upgrade: { status: 302, headers: { location: other.url } } });
    expect(await reasonOf(relay.url)).toBe('http_302');
    expect(other.connections.total).toBe(0);
  });

  test('a port where nobody listens is refused', async () => {
    const relay = await scripted();
    await relay.stop();
    expect(await reasonOf(relay.url)).toBe('refused');
  });

  test('a connection cut instead of an answer is reset', async () => {
    const relay = await scripted({ upgrade: 'reset' });
    expect(await reasonOf(relay.url)).toBe('reset');
  });

  test('a peer that does not speak HTTP is a matter of protocol', async () => {
    const server = await raw((socket) => socket.write('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n'));
    expect(await reasonOf(`ws://127.0.0.1:${server.port}`)).toBe('protocol');
  });

  test('an upgrade that was not computed from our key is a matter of protocol', async () => {
    const server = await raw(async (socket) => {
      await acceptance(socket);
      socket.write(
        'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n',
      );
    });
    expect(await reasonOf(`ws://127.0.0.1:${server.port}`)).toBe('protocol');
  });

  test('a certificate that nobody vouches for is a matter of TLS', async () => {
    const server = await raw(() => {}, { tls: true });
    expect(await reasonOf(`wss://127.0.0.1:${server.port}`)).toBe('tls');
  });

  test('plain HTTP where TLS was asked for is a matter of TLS', async () => {
    const relay = await scripted();
    expect(await reasonOf(relay.url.replace('ws:', 'wss:'))).toBe('tls');
  });

  test('a name that does not resolve', async () => {
    expect(await reasonOf('ws://nobody-at-all.invalid')).toBe('dns');
  });

  test('compression is not asked for, and refused where it is forced', async () => {
    const willing = await scripted({ deflate: 'accept' });
    const connection = await open(willing.url);
    const messages = nextMessage(connection);
    willing.say('NOTICE', 'x'.repeat(10_000));
    expect((await messages).length).toBe(10_000 + '["NOTICE",""]'.length);
    const pushing = await scripted({ deflate: 'force' });
    expect(await reasonOf(pushing.url)).toBe('protocol');
  });

  test('aborting ends an attempt, before it begins and while it runs', async () => {
    const relay = await scripted({ upgrade: 'silent' });
    expect(await reasonOf(relay.url, { signal: AbortSignal.abort() })).toBe('aborted');
    const abort = new AbortController();
    const attempt = reasonOf(relay.url, { signal: abort.signal });
    await relay.until(({ fired }) => fired.upgrade === 1);
    abort.abort();
    expect(await attempt).toBe('aborted');
  });
});

describe('the guard', () => {
  test.each([
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
  ])('%s is never connected to', async (url) => {
    const relay = await scripted();
    const forbidden = connectRelay(
      `${url}:${relay.port}/` as ReturnType<typeof relayUrl>, // past the parser, which refuses some of them
      local({ allowPrivate: false }),
    );
    await expect(forbidden).rejects.toMatchObject({ name: 'RelayError', reason: 'forbidden' });
    expect(relay.connections.total).toBe(0);
  });

  test('networks without a proxy are not tried in the clear', async () => {
    expect(await reasonOf(`ws://${ONION_HOST}`)).toBe('no_proxy');
    expect(await reasonOf(`ws://${'a'.repeat(52)}.b32.i2p`)).toBe('no_proxy');
    expect(await reasonOf('ws://relay.loki')).toBe('no_proxy');
  });
});

describe('through the SOCKS proxy', () => {
  test('the name is resolved there, and each relay has a user of its own', async () => {
    const relay = await scripted();
    const proxy = await proxied({ target: () => relay.port });
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

  test('TLS runs through it with the name of the relay', async () => {
    const server = await raw(
      async (socket) => {
        socket.write(Buffer.concat([await acceptance(socket), rawFrame('["NOTICE","hello"]')]));
      },
      { tls: true },
    );
    const proxy = await proxied({ target: () => server.port });
    expect(await reasonOf(`wss://${ONION_HOST}`, { torProxy: proxy })).toBe('tls'); // nobody vouches for it
    vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
    const connection = await open(`wss://${ONION_HOST}`, { torProxy: proxy });
    await expect(nextMessage(connection)).resolves.toBe('["NOTICE","hello"]');
    expect(proxy.requests.map(({ host, port }) => `${host}:${port}`)).toEqual(
      Array(2).fill(`${ONION_HOST}:443`),
    );
  });

  test('a proxy that cannot reach the relay, one that is down, and one that is silent', async () => {
    const refusing = await proxied({ target: () => null });
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: refusing })).toBe('unreachable');
    await refusing.close();
    closing.pop();
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: refusing })).toBe('proxy_down');
    const silent = await proxied({ silent: true });
    expect(await reasonOf(`ws://${ONION_HOST}`, { torProxy: silent, timeoutMs: 100 })).toBe(
      'proxy_down',
    );
  });
});

describe('an open connection', () => {
  test('what came in one segment with the upgrade is not lost', async () => {
    const server = await rawRelay(rawFrame('["AUTH","challenge"]'));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    await sleep(20); // somebody may be busy before he listens
    await expect(nextMessage(connection)).resolves.toBe('["AUTH","challenge"]');
  });

  test('a broken frame in one segment with the upgrade ends the connection, not the process', async () => {
    const server = await rawRelay(rawFrame('x', { opcode: 3 }));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({ code: 1006 });
    expect((await connection.closed).reason).toMatch(/invalid opcode/i);
  });

  test('is closed when nobody listens any more and the relay goes', async () => {
    const relay = await scripted();
    const connection = await open(relay.url);
    connection.onMessage(() => {})();
    await relay.stop();
    await expect(connection.closed).resolves.toMatchObject({ code: 1006 });
    expect(connection.isOpen).toBe(false);
    connection.send(['CLOSE', 'a']); // does nothing
    connection.close();
  });

  test('a frame above the cap ends it before the frame is held', async () => {
    const server = await rawRelay(
      Buffer.from([0x81, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]), // announces 1 GiB
      (socket) => {
        const more = () => socket.writable && socket.write(Buffer.alloc(65_536), more);
        more();
      },
    );
    const connection = await open(`ws://127.0.0.1:${server.port}`, { maxMessageBytes: 100_000 });
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({
      reason: 'Max payload size exceeded',
    });
    expect(connection.bytesReceived).toBe(0);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('a frame as large as the cap is taken', async () => {
    const relay = await scripted();
    const connection = await open(relay.url, { maxMessageBytes: 1_000_000 });
    const message = nextMessage(connection);
    relay.say('NOTICE', 'x'.repeat(1_000_000 - '["NOTICE",""]'.length));
    expect((await message).length).toBe(1_000_000);
  });

  test('a message of endless fragments ends it', async () => {
    const fragment = rawFrame('x', { opcode: OPCODE.continuation, fin: false });
    const server = await rawRelay(rawFrame('[', { fin: false }), (socket) => {
      const many = Buffer.concat(Array(1000).fill(fragment));
      const more = () => socket.writable && socket.write(many, more);
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await expect(connection.closed).resolves.toMatchObject({
      reason: expect.stringMatching(/fragments/),
    });
  });

  test('pings are answered, and a peer that pings without reading does not fill our memory', async () => {
    let answered = 0;
    const ping = rawFrame('p'.repeat(125), { opcode: OPCODE.ping });
    const server = await rawRelay(ping, (socket) => {
      socket.once('data', (data) => {
        answered = data.length;
        socket.pause();
        const many = Buffer.concat(Array(1000).fill(ping));
        let sent = 0;
        const more = () => ++sent < 300 && socket.writable && socket.write(many, more);
        more();
      });
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await connection.closed;
    expect(answered).toBe(2 + 4 + 125); // head, mask, payload
    expect(server.total).toBe(1);
  });

  test('text that is not UTF-8 ends it; binary frames are counted and go nowhere', async () => {
    const server = await rawRelay(
      Buffer.concat([
        rawFrame('abc', { opcode: OPCODE.binary }),
        rawFrame('def', { opcode: OPCODE.binary }),
        rawFrame('["EOSE","a"]'),
        rawFrame(Buffer.from([0xc3, 0x28])),
      ]),
    );
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    const seen: string[] = [];
    connection.onMessage((data) => seen.push(data));
    await expect(connection.closed).resolves.toMatchObject({
      reason: expect.stringMatching(/UTF-8/),
    });
    expect(connection.binaryFrames).toBe(2);
    expect(seen).toEqual(['["EOSE","a"]']);
  });

  test('a handler that was taken away hears nothing', async () => {
    const relay = await scripted();
    const connection = await open(relay.url);
    const seen: string[] = [];
    const stop = connection.onMessage((data) => seen.push(data));
    stop();
    const heard = nextMessage(connection);
    relay.say('NOTICE', 'x');
    await heard;
    expect(seen).toEqual([]);
  });

  test('pausing stops the sender, resuming loses nothing', async () => {
    let sent = 0;
    let serverSide: Socket | undefined;
    const frame = rawFrame(`"${'x'.repeat(60_000)}"`);
    const server = await rawRelay(Buffer.alloc(0), (socket) => {
      serverSide = socket;
      const more = () => {
        for (; sent < 500 && !socket.writableNeedDrain; sent++) socket.write(frame);
        if (sent < 500) socket.once('drain', more);
      };
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    let received = 0;
    connection.onMessage(() => {
      received += 1;
      if (received === 1) connection.pause();
    });
    await vi.waitFor(() => expect(received).toBeGreaterThan(0));
    await whenStill(() => sent);
    const held = { sent, received };
    await sleep(200);
    expect({ sent, received }).toEqual(held); // nothing moves
    expect(sent).toBeLessThan(500);
    expect(serverSide?.writableLength).toBeGreaterThan(0);
    connection.resume();
    await vi.waitFor(() => expect(received).toBe(500), 4000);
  });

  test('close() ends it soon, though the peer never answers the close', async () => {
    let closeFrames = 0;
    const server = await rawRelay(Buffer.alloc(0), (socket) => {
      socket.on('data', () => {
        closeFrames += 1;
      });
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.pause();
    connection.close();
    connection.close();
    await connection.closed; // ws itself would wait 30 s: this test would time out
    expect(closeFrames).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('close() ends it soon, though the peer floods us', async () => {
    const frame = rawFrame(`"${'x'.repeat(60_000)}"`);
    const server = await rawRelay(Buffer.alloc(0), (socket) => {
      const more = () => socket.writable && socket.write(frame, more);
      more();
    });
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    await nextMessage(connection);
    connection.close();
    await connection.closed;
  });

  test("the relay's reason comes as plain text", async () => {
    const payload = Buffer.concat([
      Buffer.from([0x0f, 0xa1]),
      Buffer.from('bad\u0000 \u001b[31mred'),
    ]);
    const server = await rawRelay(rawFrame(payload, { opcode: OPCODE.close }));
    const connection = await open(`ws://127.0.0.1:${server.port}`);
    connection.onMessage(() => {});
    const { code, reason } = await connection.closed;
    expect(code).toBe(4001);
    expect(reason).toMatch(/^bad.*red$/);
    expect(reason).not.toMatch(/\p{Cc}/u);
  });
});

describe('a relay that is held', () => {
  const share = new UselessShare(1024);

  async function held() {
    const relay = await scripted();
    const connection = await open(relay.url, { useless: share });
    let heard = 0;
    connection.onMessage(() => {
      heard += 1;
    });
    connection.noteUseless(100 * 1024); // for 100 s
    expect(connection.isHeld).toBe(true);
    return { relay, connection, heard: () => heard };
  }

  test.each(['binary', 'pong'] as const)('is one that floods us with %s frames', async (kind) => {
    const frame = rawFrame('x'.repeat(100), { opcode: OPCODE[kind] });
    const many = Buffer.concat(Array(1000).fill(frame));
    let sent = 0;
    const server = await rawRelay(frame, (socket) => {
      const more = () => {
        sent += many.length;
        if (socket.writable) socket.write(many, more);
      };
      more();
    });
    const useless = new UselessShare(1024);
    const connection = await open(`ws://127.0.0.1:${server.port}`, { useless });
    connection.onMessage(() => {});
    await vi.waitFor(() => expect(connection.isHeld).toBe(true), 10_000);
    const before = await whenStill(() => sent); // TCP stops it
    expect(before).toBeLessThan(50 * 1024 * 1024);
    expect(connection.isOpen).toBe(true);
  });

  test('is not read from, whoever resumes, and its account is closed with it', async () => {
    const { relay, connection, heard } = await held();
    connection.pause();
    connection.resume();
    relay.say('NOTICE', 'hello');
    expect(await whenStill(heard)).toBe(0);
    expect(share.waiting).toBe(1);
    connection.close();
    await connection.closed;
    expect(share.waiting).toBe(0);
  });

  test('is not taken for one that is half-open', async () => {
    const { connection } = await held();
    connection.keepAlive(50);
    await sleep(500);
    expect(connection.isOpen).toBe(true);
  });

  test('is read from again after its time', async () => {
    const relay = await scripted();
    const connection = await open(relay.url, { useless: new UselessShare(1024 * 1024) });
    connection.noteUseless(100 * 1024);
    const read = new Promise((resolve) => connection.onMessage(resolve));
    expect(connection.isHeld).toBe(true);
    relay.say('NOTICE', 'hello');
    expect(await read).toBe('["NOTICE","hello"]');
    expect(connection.isHeld).toBe(false);
  });
});
