import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Carried, readCarried } from '../../../src/monitor/checks/carried.ts';
import { checkNip11, MAX_RAW_LENGTH } from '../../../src/monitor/checks/nip11.ts';
import { fetchNip11 } from '../../../src/monitor/checks/nip11-fetch.ts';
import type { RelayAddress, RelayUrl } from '../../../src/network/url.ts';
import type { Nip11Data } from '../../../src/nostr/check-result.ts';
import { parseNip11 } from '../../../src/nostr/nip11.ts';
import { probeContext } from '../../fixtures/probe-context.ts';

const NOW = 1_700_000_000;
const BODY = '{ "name": "One",\n "limitation": {"max_limit": "many"}, "x": [1] }';

let server: Server;
let address: RelayAddress;
let requests: IncomingHttpHeaders[];
let answer: { status?: number; headers?: Record<string, string>; body?: string };

beforeEach(async () => {
  requests = [];
  answer = { body: BODY };
  server = createServer((request, response) => {
    requests.push(request.headers);
    response.writeHead(answer.status ?? 200, answer.headers).end(answer.body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  address = { url: `ws://127.0.0.1:${port}` as RelayUrl, network: 'clearnet' };
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});

const check = (carried?: Carried<Nip11Data>, now = NOW) =>
  checkNip11(address, probeContext({ now: () => now }), fetchNip11, carried);

/** What the next check gets of the one before, the way it goes through the database. */
async function carriedOf(first: Awaited<ReturnType<typeof check>>) {
  if (!first.result.success || !first.terms) throw new Error('nothing to be carried on');
  const { durationMs, data } = first.result;
  const { raw, dropped } = data;
  const rows = [{ name: 'nip11', durationMs, ...first.terms, data: { raw, dropped } }];
  return readCarried(JSON.parse(JSON.stringify(rows))).nip11;
}

describe('checkNip11', () => {
  test('returns the document, the body as it was sent, and the number of dropped members', async () => {
    expect(await check()).toEqual({
      result: {
        success: true,
        durationMs: expect.any(Number),
        data: {
          document: expect.objectContaining({
            name: 'One',
            limitation: {},
            extra_fields: { x: [1] },
          }),
          raw: BODY,
          dropped: 1,
        },
      },
      terms: null,
      isCarried: false,
    });
  });

  test('neither stores nor reuses a body that is too long', async () => {
    const long = JSON.stringify({ name: 'One', description: 'x'.repeat(MAX_RAW_LENGTH) });
    answer = { body: long, headers: { etag: '"a"', 'cache-control': 'max-age=60' } };
    const { result, terms } = await check();
    expect(result).toMatchObject({ data: { raw: null, document: { name: 'One' } } });
    expect(terms).toBeNull();
  });

  test.each([
    ['not_json', { body: '<html>' }],
    ['not_object', { body: '[]' }],
    ['http_404', { status: 404 }],
    ['http_304', { status: 304 }],
  ])('fails with %s', async (reason, given) => {
    answer = given;
    expect(await check()).toMatchObject({ result: { success: false, reason }, terms: null });
  });
});

describe('checkNip11 with a stored document', () => {
  test('sends no request while it is fresh', async () => {
    answer = { body: BODY, headers: { 'cache-control': 'max-age=3600' } };
    const first = await check();
    expect(first.terms).toEqual({ freshUntil: NOW + 3600, etag: null, lastModified: null });
    answer = { status: 500 };
    const second = await check(await carriedOf(first), NOW + 3599);
    expect(second).toEqual({ result: first.result, terms: null, isCarried: true });
    expect(requests).toHaveLength(1);
    const third = await check(await carriedOf(first), NOW + 3600);
    expect(third.result).toMatchObject({ success: false, reason: 'http_500' });
    expect(requests).toHaveLength(2);
  });

  test('sends a conditional request when it is stale, and keeps it if it has not changed', async () => {
    const lastModified = 'Sun, 06 Nov 1994 08:49:37 GMT';
    answer = { body: BODY, headers: { etag: '"a"', 'last-modified': lastModified } };
    const first = await check();
    expect(first.terms).toEqual({ freshUntil: NOW, etag: '"a"', lastModified });
    answer = { status: 304, headers: { 'cache-control': 'max-age=60' } };
    const second = await check(await carriedOf(first), NOW + 100);
    expect(requests[1]).toMatchObject({
      'if-none-match': '"a"',
      'if-modified-since': lastModified,
    });
    expect(second).toMatchObject({
      result: { success: true, data: { raw: BODY, document: { name: 'One' }, dropped: 1 } },
      terms: { freshUntil: NOW + 160, etag: '"a"', lastModified },
      isCarried: false,
    });
  });

  test('replaces it by a new document with its own validators', async () => {
    answer = { body: BODY, headers: { etag: '"a"' } };
    const first = await check();
    answer = { body: '{"name":"Two"}', headers: { 'last-modified': 'today' } };
    const second = await check(await carriedOf(first));
    expect(second).toMatchObject({
      result: { data: { document: { name: 'Two' } } },
      terms: { etag: null, lastModified: 'today' },
    });
  });
});

describe('readCarried', () => {
  const terms = { durationMs: 1, freshUntil: 2, etag: null, lastModified: null };
  const capabilities = { nip45: true, nip50: null, nip67: false, nip77: true, maxLimit: 500 };

  test('parses stored results', () => {
    const parsed = parseNip11(BODY);
    expect(
      readCarried([
        { name: 'nip11', ...terms, data: { raw: BODY, dropped: 1 } },
        { name: 'capabilities', ...terms, data: capabilities },
      ]),
    ).toEqual({
      nip11: {
        ...terms,
        data: { document: parsed.ok ? parsed.document : null, raw: BODY, dropped: 1 },
      },
      capabilities: { ...terms, data: capabilities },
    });
  });

  test('skips results in another format', () => {
    expect(
      readCarried([
        { name: 'nip11', ...terms, data: { raw: '<html>' } },
        { name: 'nip11', ...terms, data: null },
        { name: 'capabilities', ...terms, data: { ...capabilities, nip45: 'yes' } },
        { name: 'capabilities', ...terms, data: { nip45: true } },
        { name: 'dns', ...terms, data: {} },
      ]),
    ).toEqual({});
  });
});

describe('checkNip11 after a refusal with Retry-After', () => {
  test('returns the reason and the pause', async () => {
    answer = { status: 429, headers: { 'retry-after': '600' } };
    const { result, retry } = await check();
    expect(result).toMatchObject({ success: false, reason: 'http_429' });
    expect(retry).toEqual({ seconds: 600, reason: 'http_429' });
  });

  test('sends no request before that time', async () => {
    const checkAt = (now: number) =>
      checkNip11(address, probeContext({ now: () => now }), fetchNip11, undefined, {
        ...{ reason: 'http_503', until: NOW },
      });
    expect((await checkAt(NOW - 1)).result).toMatchObject({ success: false, reason: 'http_503' });
    expect(requests).toHaveLength(0);
    expect((await checkAt(NOW)).result.success).toBe(true);
    expect(requests).toHaveLength(1);
  });
});
