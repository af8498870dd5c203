import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { fetchRelayList, listedNames, MAX_LIST_BYTES } from '../../../src/finder/relay-list.ts';
import type { Nip11FetchOptions } from '../../../src/monitor/checks/nip11-fetch.ts';
import { local, relayUrl } from '../../relay/relays.ts';

async function serve(listener: RequestListener): Promise<{ port: number; asked: string[] }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    listener(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked };
}

const fetchFrom = (port: number, path = '/list.json', options: Partial<Nip11FetchOptions> = {}) =>
  fetchRelayList(relayUrl(`ws://127.0.0.1:${port}${path}`), { ...local(), ...options });

describe('listedNames', () => {
  test.each([
    ['an array', '["wss://a.net","wss://b.net/x"]', ['wss://a.net', 'wss://b.net/x']],
    ['objects', '[{"url":"wss://a.net","up":true},{"url":null}]', ['wss://a.net']],
    ['keys', '{"wss://a.net":{"read":true}}', ['wss://a.net']],
    ['depth', '{"data":{"relays":[[[["WSS://A.net"]]]]}}', ['WSS://A.net']],
    ['escaped slashes', '["wss:\\/\\/a.net"]', ['wss://a.net']],
    ['no relays', '{"a":[1,"b","https://c.net"]}', []],
    [
      'lines',
      'wss://a.net\nws://b.net:81\r\n# wss://c.net\n',
      ['wss://a.net', 'ws://b.net:81', 'wss://c.net'],
    ],
    [
      'prose',
      'See wss://a.net, (wss://b.net/x) and "wss://c.net".',
      ['wss://a.net', 'wss://b.net/x', 'wss://c.net'],
    ],
    ['HTML', '<a href="wss://a.net">wss://b.net</a>', ['wss://a.net', 'wss://b.net']],
    ['a bare JSON string', '"wss://a.net"', ['wss://a.net']],
    ['nothing', '', []],
  ])('%s', (_, body, names) => {
    expect(listedNames(body).sort()).toEqual([...names].sort());
  });

  test('reads four megabytes of dots without a slow pattern', () => {
    const dots = '.:!?*_'.repeat(700_000);
    expect(listedNames(`wss://a.net${dots} wss://b${dots}c`)).toEqual([
      'wss://a.net',
      `wss://b${dots}c`,
    ]);
    expect(listedNames(`wss://${dots}`)).toEqual(['wss://']);
  });

  test('returns at most 20,000 names, each once', () => {
    const urls = Array.from({ length: 30_000 }, (_, index) => `wss://n${index}.net`);
    for (const body of [JSON.stringify([...urls, ...urls]), [...urls, ...urls].join('\n')])
      expect(new Set(listedNames(body)).size).toBe(20_000);
    expect(listedNames(`${'['.repeat(100_000)}${']'.repeat(100_000)}`)).toEqual([]);
  });
});

describe('fetchRelayList', () => {
  test('requests the URL with its query and returns the names', async () => {
    const { port, asked } = await serve((_, response) => response.end('["wss://a.net"]'));
    const list = await fetchFrom(port, '/v1/relays?online=1');
    expect(list).toEqual({ ok: true, names: ['wss://a.net'] });
    expect(asked).toEqual(['/v1/relays?online=1']);
  });

  test('follows one redirect, on the same host only', async () => {
    const other = await serve((_, response) => response.end('["wss://b.net"]'));
    const { port, asked } = await serve(({ url = '' }, response) => {
      const to: Record<string, string> = {
        '/moved': '/new',
        '/twice': '/moved',
        '/away': `http://127.0.0.1:${other.port}/`,
        '/host': 'http://localhost/',
      };
      const location = to[url];
      if (location) response.writeHead(302, { location }).end();
      else response.end('["wss://a.net"]');
    });
    expect(await fetchFrom(port, '/moved')).toMatchObject({ ok: true });
    for (const path of ['/twice', '/away', '/host'])
      expect(await fetchFrom(port, path)).toEqual({ ok: false, reason: 'redirect' });
    expect(other.asked).toEqual([]);
    expect(asked).toEqual(['/moved', '/new', '/twice', '/moved', '/away', '/host']);
  });

  test('fails at the maximum size and at the deadline', async () => {
    const half = Buffer.alloc(MAX_LIST_BYTES / 2 + 1, ' ');
    const large = await serve((_, response) => {
      response.write(half);
      response.write(half);
    });
    expect(await fetchFrom(large.port)).toEqual({ ok: false, reason: 'too_large' });
    const slow = await serve((_, response) => response.write('['));
    expect(await fetchFrom(slow.port, '/', { timeoutMs: 200 })).toEqual({
      ok: false,
      reason: 'timeout',
    });
  });

  test('returns the reason of a failure', async () => {
    const failing = await serve((_, response) => response.writeHead(503).end());
    expect(await fetchFrom(failing.port)).toEqual({ ok: false, reason: 'http_503' });
    const packed = await serve((_, response) =>
      response.writeHead(200, { 'content-encoding': 'br' }).end('x'),
    );
    expect(await fetchFrom(packed.port)).toEqual({ ok: false, reason: 'encoding' });
  });

  test('fails for a forbidden address, and throws the reason of an abort', async () => {
    const { port, asked } = await serve((_, response) => response.end('[]'));
    const forbidden = await fetchFrom(port, '/', { allowPrivate: false });
    expect(forbidden).toEqual({ ok: false, reason: 'forbidden' });
    const aborted = AbortSignal.abort(new Error('planned'));
    await expect(fetchFrom(port, '/', { signal: aborted })).rejects.toThrow('planned');
    expect(asked).toEqual([]);
  });
});
