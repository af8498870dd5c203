import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { describe, expect, vi } from 'vitest';
import {
  answerDocument,
  DOCUMENT,
  fetchDocument,
  localUrl,
  nip11Test,
} from '../../fixtures/nip11-test.ts';
import { CERTIFICATE, ONION_HOST } from '../../network/tls-certificate.ts';
import { relayUrl } from '../../relay/relays.ts';

/** `names` holds the addresses of names of relay.net, for both resolvers of the address guard. */
const test = nip11Test.extend('names', ({ task: _task }, { onCleanup }) => {
  const names = new Map<string, string>();
  const systemLookup = dns.lookup;
  const lookup = (name: string, options: object, callback: (...answer: unknown[]) => void) => {
    const address = names.get(name);
    if (address) callback(null, [{ address, family: 4 }]);
    else if (name.endsWith('.relay.net')) callback(missing(name, 'ENOTFOUND'));
    else systemLookup(name, options, callback);
  };
  const { prototype } = dns.promises.Resolver;
  const spies = [
    vi.spyOn(dns, 'lookup').mockImplementation(lookup as typeof dns.lookup),
    vi.spyOn(prototype, 'resolve4').mockImplementation(async (name: string) => {
      const address = names.get(name);
      if (address) return [address];
      throw missing(name, 'ENOTFOUND');
    }),
    vi.spyOn(prototype, 'resolve6').mockImplementation(async (name: string) => {
      throw missing(name, 'ENODATA');
    }),
  ];
  syncBuiltinESMExports();
  onCleanup(() => {
    for (const spy of spies) spy.mockRestore();
    syncBuiltinESMExports();
  });
  return names;
});

const missing = (name: string, code: string) => Object.assign(new Error(name), { code });

describe('address guard of fetchNip11', () => {
  test('does not connect to private addresses and local names', async ({ serve }) => {
    const server = await serve(answerDocument);
    for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]', '0.0.0.0']) {
      const result = await fetchDocument(localUrl(server, 'ws', '', host), { allowPrivate: false });
      expect(result, host).toEqual({ ok: false, reason: 'forbidden' });
    }
    expect(server.seen).toEqual([]);
  });

  test('checks the address that a name resolves to', async ({ serve, names }) => {
    names.set('rebinding.relay.net', '127.0.0.1');
    const server = await serve(answerDocument);
    const url = localUrl(server, 'ws', '', 'rebinding.relay.net');
    expect(await fetchDocument(url, { allowPrivate: false })).toEqual({
      ok: false,
      reason: 'forbidden',
    });
    expect(server.seen).toEqual([]);
    expect(await fetchDocument(url, { allowPrivate: true })).toMatchObject({ ok: true });
  });

  test('fails with refused for a relay that is down, with dns for a name that does not exist', async ({
    serve,
    names,
  }) => {
    const server = await serve(answerDocument);
    const url = localUrl(server);
    await server.close();
    expect(await fetchDocument(url)).toEqual({ ok: false, reason: 'refused' });
    expect(names.has('nowhere.relay.net')).toBe(false);
    expect(await fetchDocument(relayUrl('wss://nowhere.relay.net'))).toEqual({
      ok: false,
      reason: 'dns',
    });
  });
});

describe('fetchNip11 over TLS', () => {
  test('fails with tls for an untrusted certificate', async ({ serve }) => {
    const server = await serve(answerDocument, { tls: true });
    expect(await fetchDocument(localUrl(server, 'wss'))).toEqual({ ok: false, reason: 'tls' });
    expect(server.seen).toEqual([]);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('accepts a trusted certificate for its names and addresses only', async ({
    serve,
    names,
  }) => {
    const server = await serve(answerDocument, { tls: true });
    for (const host of ['127.0.0.1', 'localhost']) {
      const result = await fetchDocument(localUrl(server, 'wss', '', host), { ca: CERTIFICATE });
      expect(result, host).toMatchObject({ ok: true, document: DOCUMENT });
    }
    names.set('other.relay.net', '127.0.0.1');
    const url = localUrl(server, 'wss', '', 'other.relay.net');
    expect(await fetchDocument(url, { ca: CERTIFICATE })).toEqual({ ok: false, reason: 'tls' });
  });

  test('fails with tls at a server without TLS', async ({ serve }) => {
    const server = await serve(answerDocument);
    expect(await fetchDocument(localUrl(server, 'wss'))).toEqual({ ok: false, reason: 'tls' });
  });
});

describe('fetchNip11 through Tor', () => {
  test('sends the name to the proxy, with one SOCKS user per relay', async ({
    serve,
    startProxy,
  }) => {
    const server = await serve(answerDocument);
    const proxy = await startProxy({ target: () => server.port });
    const result = await fetchDocument(relayUrl(`ws://${ONION_HOST}`), {
      torProxy: proxy,
      allowPrivate: false,
    });
    expect(result).toMatchObject({ ok: true, document: DOCUMENT });
    expect(proxy.requests).toEqual([{ host: ONION_HOST, port: 80, user: `ws://${ONION_HOST}` }]);
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('uses TLS inside SOCKS for wss, and checks the certificate for the onion name', async ({
    serve,
    startProxy,
  }) => {
    const server = await serve(answerDocument, { tls: true });
    const proxy = await startProxy({ target: () => server.port });
    const url = relayUrl(`wss://${ONION_HOST}`);
    expect(await fetchDocument(url, { torProxy: proxy, ca: CERTIFICATE })).toMatchObject({
      ok: true,
      document: DOCUMENT,
    });
    expect(await fetchDocument(url, { torProxy: proxy })).toEqual({ ok: false, reason: 'tls' });
    expect(proxy.requests.map(({ port }) => port)).toEqual([443, 443]);
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('fails with unreachable, timeout or proxy_down if the service is down, the proxy silent or down', async ({
    startProxy,
  }) => {
    const url = relayUrl(`ws://${ONION_HOST}`);
    const refusing = await startProxy();
    expect(await fetchDocument(url, { torProxy: refusing })).toEqual({
      ok: false,
      reason: 'unreachable',
    });
    const silent = await startProxy({ silent: true });
    expect(await fetchDocument(url, { torProxy: silent, timeoutMs: 300 })).toEqual({
      ok: false,
      reason: 'timeout',
    });
    await vi.waitFor(() => expect(silent.openSockets()).toBe(0));
    await silent.close();
    expect(await fetchDocument(url, { torProxy: silent })).toEqual({
      ok: false,
      reason: 'proxy_down',
    });
  });

  test('leaves no socket after an abort during the SOCKS handshake', async ({ startProxy }) => {
    const proxy = await startProxy({ silent: true });
    const stop = new AbortController();
    const visiting = fetchDocument(relayUrl(`ws://${ONION_HOST}`), {
      torProxy: proxy,
      signal: stop.signal,
    });
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(1));
    stop.abort(new Error('drained'));
    await expect(visiting).rejects.toThrow('drained');
    await vi.waitFor(() => expect(proxy.openSockets()).toBe(0));
  });

  test('follows a redirect to TLS on the default ports, but not to another name', async ({
    serve,
    startProxy,
  }) => {
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
    expect(await fetchDocument(relayUrl(`ws://${ONION_HOST}`), options)).toMatchObject({
      ok: true,
    });
    location = 'https://relay.example.com/';
    expect(await fetchDocument(relayUrl(`ws://${ONION_HOST}`), options)).toEqual({
      ok: false,
      reason: 'redirect',
    });
    expect(proxy.requests.map(({ host, port }) => [host, port])).toEqual([
      [ONION_HOST, 80],
      [ONION_HOST, 443],
      [ONION_HOST, 80],
    ]);
  });

  test('fails with no_proxy without a proxy', async () => {
    expect(await fetchDocument(relayUrl(`ws://${ONION_HOST}`))).toEqual({
      ok: false,
      reason: 'no_proxy',
    });
  });
});
