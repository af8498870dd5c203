import type { RequestListener } from 'node:http';
import type { Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, vi } from 'vitest';
import { MAX_NIP11_BYTES } from '../../../src/monitor/checks/nip11-fetch.ts';
import {
  answerDocument,
  DOCUMENT,
  fetchDocument,
  localUrl,
  nip11Test as test,
} from '../../fixtures/nip11-test.ts';

describe('fetchNip11', () => {
  test('requests the URL of the relay once, and keeps no connection', async ({ serve }) => {
    let headers: Record<string, unknown> = {};
    const server = await serve((request, response) => {
      headers = request.headers;
      response.setHeader('content-type', 'text/plain');
      answerDocument(request, response);
    });
    const result = await fetchDocument(localUrl(server, 'ws', '/inbox?for=me'));
    expect(result).toMatchObject({ ok: true, document: DOCUMENT, dropped: 0 });
    expect(server.seen).toEqual(['GET /inbox?for=me']);
    expect(headers).toMatchObject({
      accept: 'application/nostr+json',
      'accept-encoding': 'identity',
    });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test.for([
    ['HTML', '<!doctype html><title>relay</title>', 'not_json'],
    ['nothing', '', 'not_json'],
    ['a list', '[]', 'not_object'],
  ])('fails for %s instead of a document', async ([_, body, reason], { serve }) => {
    const server = await serve((_request, response) => response.end(body));
    expect(await fetchDocument(localUrl(server))).toEqual({ ok: false, reason });
  });

  test.for([404, 426, 503, 204])('fails for status %i', async (status, { serve }) => {
    const server = await serve((_, response) => {
      response.statusCode = status;
      response.end(status === 204 ? '' : JSON.stringify(DOCUMENT));
    });
    expect(await fetchDocument(localUrl(server))).toEqual({ ok: false, reason: `http_${status}` });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('fails for a body of 100 MB at the maximum size, and stops the server', async ({
    serve,
  }) => {
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
    expect(await fetchDocument(localUrl(server))).toEqual({ ok: false, reason: 'too_large' });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    expect(sent).toBeLessThan(50 * 1024 * 1024);
  });

  test('accepts a document of the maximum size', async ({ serve }) => {
    const padding = MAX_NIP11_BYTES - JSON.stringify({ description: '' }).length;
    const description = 'x'.repeat(padding);
    const server = await serve((_, response) => response.end(JSON.stringify({ description })));
    expect(await fetchDocument(localUrl(server))).toMatchObject({
      ok: true,
      document: { description },
    });
  });

  test('decompresses a compressed body up to the maximum size', async ({ serve }) => {
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
    expect(await fetchDocument(localUrl(server, 'ws', '/good'))).toMatchObject({
      ok: true,
      document: DOCUMENT,
    });
    expect(await fetchDocument(localUrl(server, 'ws', '/bomb'))).toEqual({
      ok: false,
      reason: 'too_large',
    });
    expect(await fetchDocument(localUrl(server, 'ws', '/broken'))).toEqual({
      ok: false,
      reason: 'encoding',
    });
    expect(await fetchDocument(localUrl(server, 'ws', '/unknown'))).toEqual({
      ok: false,
      reason: 'encoding',
    });
  });
});

describe('deadline of fetchNip11', () => {
  const SHORT = { timeoutMs: 300 };

  test.for<[string, (socket: Socket) => void]>([
    ['is silent', () => {}],
    ['stops inside the header', (socket) => socket.write('HTTP/1.1 200 OK\r\nx: ')],
    [
      'stops inside the body',
      (socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{'),
    ],
  ])('ends a request to a server that %s', async ([_, talk], { serveTcp }) => {
    let connections = 0;
    const server = await serveTcp((socket) => {
      connections += 1;
      socket.resume();
      talk(socket);
    });
    expect(await fetchDocument(localUrl(server), SHORT)).toEqual({ ok: false, reason: 'timeout' });
    expect(connections).toBe(1);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('ends a body that arrives byte by byte', async ({ serve }) => {
    let drops = 0;
    const server = await serve((_, response) => {
      const drip = setInterval(() => {
        drops += 1;
        response.write(' ');
      }, 10);
      response.on('close', () => clearInterval(drip));
    });
    expect(await fetchDocument(localUrl(server), SHORT)).toEqual({ ok: false, reason: 'timeout' });
    expect(drops).toBeGreaterThan(0);
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('ends a TLS handshake that never finishes', async ({ serveTcp }) => {
    const server = await serveTcp((socket) => socket.resume());
    expect(await fetchDocument(localUrl(server, 'wss'), SHORT)).toEqual({
      ok: false,
      reason: 'timeout',
    });
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
  });

  test('throws the reason of an abort, and leaves no socket', async ({ serveTcp }) => {
    const server = await serveTcp((socket) => socket.resume());
    const stop = new AbortController();
    const visiting = fetchDocument(localUrl(server), { signal: stop.signal });
    await vi.waitFor(() => expect(server.openSockets()).toBe(1));
    stop.abort(new Error('drained'));
    await expect(visiting).rejects.toThrow('drained');
    await vi.waitFor(() => expect(server.openSockets()).toBe(0));
    await expect(fetchDocument(localUrl(server), { signal: stop.signal })).rejects.toThrow(
      'drained',
    );
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

  test('follows one redirect on the same host', async ({ serve }) => {
    const server = await serve(redirectTo('/document'));
    expect(await fetchDocument(localUrl(server))).toMatchObject({ ok: true, document: DOCUMENT });
    expect(server.seen).toEqual(['GET /', 'GET /document']);
  });

  test('does not follow a second redirect', async ({ serve }) => {
    const server = await serve(redirectTo('/again'));
    expect(await fetchDocument(localUrl(server))).toEqual({ ok: false, reason: 'redirect' });
    expect(server.seen).toEqual(['GET /', 'GET /again']);
  });

  test('does not follow a redirect to another host, port or scheme, even if the guard allows it', async ({
    serve,
  }) => {
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
      expect(await fetchDocument(localUrl(server)), target).toEqual({
        ok: false,
        reason: 'redirect',
      });
    }
    expect(internal.seen).toEqual([]);
  });
});
