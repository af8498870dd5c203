import { once } from 'node:events';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  fetchNip11,
  MAX_NIP11_BYTES,
  type Nip11FetchOptions,
} from '../../src/relay/nip11-fetch.ts';
import { parseRelayUrl, type RelayUrl } from '../../src/relay/url.ts';
import { type SocksProxyOptions, startSocksProxy } from '../support/socks-proxy.ts';
import { CERTIFICATE, KEY, ONION_HOST } from '../support/tls-certificate.ts';

/** Names that the tests alone know. The guard asks the mocked resolver as it would ask the real one. */
const NAMES = vi.hoisted(() => new Map<string, string>());

vi.mock('node:dns', async (importOriginal) => {
  const dns = await importOriginal<typeof import('node:dns')>();
  const lookup = (name: string, options: object, callback: (...answer: unknown[]) => void) => {
    const address = NAMES.get(name);
    if (address) callback(null, [{ address, family: 4 }]);
    else if (name.endsWith('.relay.net'))
      callback(Object.assign(new Error(name), { code: 'ENOTFOUND' }));
    else dns.lookup(name, options, callback);
  };
  class Resolver {
    async resolve4(name: string): Promise<string[]> {
      const address = NAMES.get(name);
      if (address) return [address];
      throw Object.assign(new Error(name), { code: 'ENOTFOUND' });
    }
    resolve6(name: string): Promise<string[]> {
      return Promise.reject(Object.assign(new Error(name), { code: 'ENODATA' }));
    }
  }
  const promises = { ...dns.promises, Resolver };
  return { ...dns, lookup, promises, default: { ...dns, lookup, promises } };
});

const cleanups: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

interface TestServer {
  readonly port: number;
  /** Requests so far, as "METHOD path". */
  readonly seen: string[];
  openSockets(): number;
}

/** Starts an HTTP server on loopback, over TLS where told, and ends it after the test. */
async function serve(listener: RequestListener, { tls = false } = {}): Promise<TestServer> {
  const seen: string[] = [];
  const counted: RequestListener = (request, response) => {
    seen.push(`${request.method} ${request.url}`);
    listener(request, response);
  };
  const server = tls
    ? createHttpsServer({ key: KEY, cert: CERTIFICATE }, counted)
    : createHttpServer(counted);
  return { seen, ...(await listen(server)) };
}

/** A server without HTTP: what it does with a connection is told by `talk`. */
async function serveTcp(talk: (socket: Socket) => void) {
  return listen(createTcpServer(talk));
}

async function listen(server: Server | ReturnType<typeof createTcpServer>) {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { port: (server.address() as AddressInfo).port, openSockets: () => sockets.size };
}

async function startProxy(options: SocksProxyOptions = {}) {
  const proxy = await startSocksProxy(options);
  cleanups.push(() => proxy.close());
  return proxy;
}

function relayUrl(text: string): RelayUrl {
  const parsed = parseRelayUrl(text);
  if (!parsed.ok) throw new Error(`${text} is refused: ${parsed.reason}`);
  return parsed.url;
}

/** Loopback has no name that parseRelayUrl takes, so the tests write these URLs themselves. */
function localUrl(
  { port }: { port: number },
  scheme = 'ws',
  path = '',
  host = '127.0.0.1',
): RelayUrl {
  return `${scheme}://${host}:${port}${path}` as RelayUrl;
}

function visit(url: RelayUrl, options: Partial<Nip11FetchOptions> = {}) {
  return fetchNip11(url, { timeoutMs: 10_000, allowPrivate: true, torProxy: null, ...options });
}

const DOCUMENT = { name: 'a relay', supported_nips: [1, 11] };
const answerDocument: RequestListener = (_, response) => response.end(JSON.stringify(DOCUMENT));

describe('fetchNip11', () => {
  test('asks the URL of the relay for its document, once, and keeps no connection', async () => {
    let headers: Record<string, unknown> = {};
    const server = await serve((request, response) => {
      headers = request.headers;
      response.setHeader('content-type', 'text/plain');
      answerDocument(request, response);
    });
    const result = await visit(localUrl(server, 'ws', '/inbox?for=me'));
    expect(result).toMatchObject({ ok: true, document: DOCUMENT, dropped: 0 });
    expect(server.seen).toEqual(['GET /inbox?for=me']);
    expect(headers).toMatchObject({
      accept: 'application/nostr+json',
      'accept-encoding': 'identity',
    });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test.each([
    ['HTML', '<!doctype html><title>relay</title>', 'not_json'],
    ['nothing', '', 'not_json'],
    ['a list', '[]', 'not_object'],
  ])('%s is no document', async (_, body, reason) => {
    const server = await serve((_request, response) => response.end(body));
    expect(await visit(localUrl(server))).toEqual({ ok: false, reason });
  });

  test.each([404, 426, 503, 204])('status %i is no document', async (status) => {
    const server = await serve((_, response) => {
      response.statusCode = status;
      response.end(status === 204 ? '' : JSON.stringify(DOCUMENT));
    });
    expect(await visit(localUrl(server))).toEqual({ ok: false, reason: `http_${status}` });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('a body of 100 MB is cut at the cap, and the sender is stopped', async () => {
    const chunk = Buffer.alloc(64 * 1024, ' ');
    let sent = 0;
    const server = await serve((_, response) => {
      const more = () => {
        while (sent < 100 * 1024 * 1024 && !response.destroyed) {
          sent += chunk.length;
          if (!response.write(chunk)) return;
        }
        response.end();
      };
      response.on('drain', more);
      more();
    });
    expect(await visit(localUrl(server))).toEqual({ ok: false, reason: 'too_large' });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    expect(sent).toBeLessThan(50 * 1024 * 1024);
  });

  test('a document as large as the cap is taken', async () => {
    const padding = MAX_NIP11_BYTES - JSON.stringify({ description: '' }).length;
    const description = 'x'.repeat(padding);
    const server = await serve((_, response) => response.end(JSON.stringify({ description })));
    expect(await visit(localUrl(server))).toMatchObject({ ok: true, document: { description } });
  });

  test('compression that nobody asked for is undone, and bounded', async () => {
    const bomb = gzipSync(Buffer.alloc(50 * 1024 * 1024, ' '));
    expect(bomb.length).toBeLessThan(MAX_NIP11_BYTES);
    const bodies: Record<string, [encoding: string, body: Buffer]> = {
      '/good': ['gzip', gzipSync(JSON.stringify(DOCUMENT))],
      '/bomb': ['gzip', bomb],
      '/broken': ['br', Buffer.from('not brotli')],
      '/unknown': ['zstd', Buffer.from('?')],
    };
    const server = await serve((request, response) => {
      const [encoding = '', body] = bodies[request.url ?? ''] ?? [];
      response.setHeader('content-encoding', encoding);
      response.end(body);
    });
    expect(await visit(localUrl(server, 'ws', '/good'))).toMatchObject({
      ok: true,
      document: DOCUMENT,
    });
    expect(await visit(localUrl(server, 'ws', '/bomb'))).toEqual({
      ok: false,
      reason: 'too_large',
    });
    expect(await visit(localUrl(server, 'ws', '/broken'))).toEqual({
      ok: false,
      reason: 'encoding',
    });
    expect(await visit(localUrl(server, 'ws', '/unknown'))).toEqual({
      ok: false,
      reason: 'encoding',
    });
  });
});

describe('the deadline of fetchNip11', () => {
  const SHORT = { timeoutMs: 300 };

  test.each<[string, (socket: Socket) => void]>([
    ['says nothing', () => {}],
    ['stops inside the header', (socket) => socket.write('HTTP/1.1 200 OK\r\nx: ')],
    [
      'stops inside the body',
      (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{'),
    ],
  ])('ends a visit to a server that %s', async (_, talk) => {
    let connections = 0;
    const server = await serveTcp((socket) => {
      connections += 1;
      socket.resume();
      talk(socket);
    });
    expect(await visit(localUrl(server), SHORT)).toEqual({ ok: false, reason: 'timeout' });
    expect(connections).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('ends a slow drip, however alive it looks', async () => {
    let drops = 0;
    const server = await serve((_, response) => {
      const drip = setInterval(() => {
        drops += 1;
        response.write(' ');
      }, 10);
      response.on('close', () => clearInterval(drip));
    });
    expect(await visit(localUrl(server), SHORT)).toEqual({ ok: false, reason: 'timeout' });
    expect(drops).toBeGreaterThan(0);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('ends a TLS handshake that never finishes', async () => {
    const server = await serveTcp((socket) => socket.resume());
    expect(await visit(localUrl(server, 'wss'), SHORT)).toEqual({ ok: false, reason: 'timeout' });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('an abort throws its reason and leaves no socket', async () => {
    const server = await serveTcp((socket) => socket.resume());
    const stop = new AbortController();
    const visiting = visit(localUrl(server), { signal: stop.signal });
    await vi.waitFor(() => expect(server.openSockets()).toBe(1));
    stop.abort(new Error('drained'));
    await expect(visiting).rejects.toThrow('drained');
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    await expect(visit(localUrl(server), { signal: stop.signal })).rejects.toThrow('drained');
  });
});

describe('redirects of fetchNip11', () => {
  const redirectTo =
    (location: string | (() => string)): RequestListener =>
    (request, response) => {
      if (request.url === '/document') return answerDocument(request, response);
      response.writeHead(302, { location: typeof location === 'string' ? location : location() });
      response.end();
    };

  test('one is followed on the same host', async () => {
    const server = await serve(redirectTo('/document'));
    expect(await visit(localUrl(server))).toMatchObject({ ok: true, document: DOCUMENT });
    expect(server.seen).toEqual(['GET /', 'GET /document']);
  });

  test('a second one is not', async () => {
    const server = await serve(redirectTo('/again'));
    expect(await visit(localUrl(server))).toEqual({ ok: false, reason: 'redirect' });
    expect(server.seen).toEqual(['GET /', 'GET /again']);
  });

  test('none leads to another host, port or scheme, whatever the guard allows', async () => {
    const internal = await serve(answerDocument);
    const targets = [
      `http://localhost:${internal.port}/document`,
      `http://127.0.0.1:${internal.port}/document`,
      `//localhost:${internal.port}/document`,
      'https://127.0.0.1/document',
      'file:///etc/passwd',
      'http://',
      '::::',
    ];
    let next = '';
    const server = await serve(redirectTo(() => next));
    for (const target of targets) {
      next = target;
      expect(await visit(localUrl(server)), target).toEqual({ ok: false, reason: 'redirect' });
    }
    expect(internal.seen).toEqual([]);
  });
});

describe('the address guard of fetchNip11', () => {
  test('connects to no private literal and no name that leads to one', async () => {
    const server = await serve(answerDocument);
    for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '0.0.0.0']) {
      const result = await visit(localUrl(server, 'ws', '', host), { allowPrivate: false });
      expect(result, host).toEqual({ ok: false, reason: 'forbidden' });
    }
    expect(server.seen).toEqual([]);
  });

  test('judges what a name resolves to', async () => {
    NAMES.set('rebinding.relay.net', '127.0.0.1');
    const server = await serve(answerDocument);
    const url = localUrl(server, 'ws', '', 'rebinding.relay.net');
    expect(await visit(url, { allowPrivate: false })).toEqual({ ok: false, reason: 'forbidden' });
    expect(server.seen).toEqual([]);
    expect(await visit(url, { allowPrivate: true })).toMatchObject({ ok: true });
  });

  test('a relay that is down is refused, a name that does not exist is dns', async () => {
    const server = await serve(answerDocument);
    const url = localUrl(server);
    await cleanups.pop()?.();
    expect(await visit(url)).toEqual({ ok: false, reason: 'refused' });
    expect(await visit(relayUrl('wss://nowhere.relay.net'))).toEqual({ ok: false, reason: 'dns' });
  });
});

describe('fetchNip11 over TLS', () => {
  test('a certificate that nobody trusts is a reason of its own', async () => {
    const server = await serve(answerDocument, { tls: true });
    expect(await visit(localUrl(server, 'wss'))).toEqual({ ok: false, reason: 'tls' });
    expect(server.seen).toEqual([]);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('a trusted one serves, by name and by address, and for its own names only', async () => {
    const server = await serve(answerDocument, { tls: true });
    for (const host of ['127.0.0.1', 'localhost']) {
      const result = await visit(localUrl(server, 'wss', '', host), { ca: CERTIFICATE });
      expect(result, host).toMatchObject({ ok: true, document: DOCUMENT });
    }
    NAMES.set('other.relay.net', '127.0.0.1');
    const url = localUrl(server, 'wss', '', 'other.relay.net');
    expect(await visit(url, { ca: CERTIFICATE })).toEqual({ ok: false, reason: 'tls' });
  });

  test('a server that does not speak TLS fails with tls', async () => {
    const server = await serve(answerDocument);
    expect(await visit(localUrl(server, 'wss'))).toEqual({ ok: false, reason: 'tls' });
  });
});

describe('fetchNip11 through Tor', () => {
  test('the proxy gets the name as it is, and each relay a user name of its own', async () => {
    const server = await serve(answerDocument);
    const proxy = await startProxy({ target: () => server.port });
    const result = await visit(relayUrl(`ws://${ONION_HOST}`), {
      torProxy: proxy,
      allowPrivate: false,
    });
    expect(result).toMatchObject({ ok: true, document: DOCUMENT });
    expect(proxy.requests).toEqual([{ host: ONION_HOST, port: 80, user: `ws://${ONION_HOST}` }]);
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('wss works over the same way: TLS inside SOCKS, checked against the onion name', async () => {
    const server = await serve(answerDocument, { tls: true });
    const proxy = await startProxy({ target: () => server.port });
    const url = relayUrl(`wss://${ONION_HOST}`);
    expect(await visit(url, { torProxy: proxy, ca: CERTIFICATE })).toMatchObject({
      ok: true,
      document: DOCUMENT,
    });
    expect(await visit(url, { torProxy: proxy })).toEqual({ ok: false, reason: 'tls' });
    expect(proxy.requests.map(({ port }) => port)).toEqual([443, 443]);
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('an onion service that is down, a proxy that is silent, and one that is not there', async () => {
    const url = relayUrl(`ws://${ONION_HOST}`);
    const refusing = await startProxy();
    expect(await visit(url, { torProxy: refusing })).toEqual({ ok: false, reason: 'unreachable' });
    const silent = await startProxy({ silent: true });
    expect(await visit(url, { torProxy: silent, timeoutMs: 300 })).toEqual({
      ok: false,
      reason: 'timeout',
    });
    await vi.waitFor(() => expect(silent.openSockets()).toBe(0));
    await silent.close();
    cleanups.pop();
    expect(await visit(url, { torProxy: silent })).toEqual({ ok: false, reason: 'proxy_down' });
  });

  test('an abort during the SOCKS handshake leaves no socket', async () => {
    const proxy = await startProxy({ silent: true });
    const stop = new AbortController();
    const visiting = visit(relayUrl(`ws://${ONION_HOST}`), {
      torProxy: proxy,
      signal: stop.signal,
    });
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(1));
    stop.abort(new Error('drained'));
    await expect(visiting).rejects.toThrow('drained');
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('a redirect may change to TLS on the default ports, but not to another name', async () => {
    let location = '';
    const plain = await serve((_, response) => {
      response.writeHead(301, { location });
      response.end();
    });
    const secure = await serve(answerDocument, { tls: true });
    const proxy = await startProxy({
      target: ({ port }) => (port === 443 ? secure.port : plain.port),
    });
    const options = { torProxy: proxy, ca: CERTIFICATE };
    location = `https://${ONION_HOST}/`;
    expect(await visit(relayUrl(`ws://${ONION_HOST}`), options)).toMatchObject({ ok: true });
    location = 'https://relay.example.com/';
    expect(await visit(relayUrl(`ws://${ONION_HOST}`), options)).toEqual({
      ok: false,
      reason: 'redirect',
    });
    expect(proxy.requests.map(({ host, port }) => [host, port])).toEqual([
      [ONION_HOST, 80],
      [ONION_HOST, 443],
      [ONION_HOST, 80],
    ]);
  });

  test('without a proxy nothing is tried', async () => {
    expect(await visit(relayUrl(`ws://${ONION_HOST}`))).toEqual({ ok: false, reason: 'no_proxy' });
  });
});
