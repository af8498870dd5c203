/** What the API promises in /openapi.json: examples, formats, headers, limits, and answers to anything at all. */

import { gunzipSync } from 'node:zlib';
import { Validator } from '@seriousme/openapi-schema-validator';
import fc from 'fast-check';
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { type Answer, apiTest, ask } from '../../fixtures/api-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { seededRandom } from '../../fixtures/random.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

const EVENTS = signedEvents(30, { from: 1000, to: 2000 });
/** For tests of thousands of requests. */
const LONG_MS = 240_000;
const EXAMPLE_ID = /[0-9a-f]{64}/;
const EXAMPLE_RELAY = 'wss%3A%2F%2Frelay.example.com';

interface Operation {
  readonly parameters?: readonly { name: string; in: string; schema: Record<string, unknown> }[];
  readonly responses: Readonly<Record<string, unknown>>;
  readonly 'x-example': string;
}

const test = apiTest
  .extend('stored', async ({ bigbrotr, database, relay, filterId }) => {
    for (const { pubkey } of EVENTS) // as if the refresher had counted them
      await database.query(
        "insert into authors (pubkey) values (decode($1, 'hex')) on conflict do nothing",
        [pubkey],
      );
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS }));
    return { relay, events: EVENTS };
  })
  .extend('operations', async ({ get }) => {
    const { json } = await get('/openapi.json');
    return Object.entries(json.paths as Record<string, { get: Operation }>).map(
      ([path, { get: operation }]) => ({ path, operation }),
    );
  });

/** What no answer may show: our SQL, our files, our stack. */
function expectClean({ text, status }: Answer, url: string): void {
  expect(status, `${url}: ${text.slice(0, 300)}`).toBeLessThan(500);
  const shown = text.slice(0, 5000);
  expect(shown, url).not.toMatch(
    /\bselect \w|syntax error|pg_|node_modules|\.ts:\d|\bat .+:\d+:\d+/,
  );
}

describe('/openapi.json', () => {
  test('is a valid OpenAPI 3.1 document', async ({ get }) => {
    const { json } = await get('/openapi.json');
    const result = await new Validator().validate(json);
    expect(result.errors ?? []).toEqual([]);
    expect(result.valid).toBe(true);
    expect(json.openapi).toBe('3.1.0');
  });

  test('has an example of each route, which answers as described', async ({
    stored,
    operations,
    get,
    errors,
  }) => {
    expect(operations.length).toBeGreaterThan(12);
    const [event] = stored.events as [NostrEvent];
    for (const { path, operation } of operations) {
      const example = operation['x-example'];
      expect(example, path).toMatch(/^\/v1\//);
      const url = example
        .replace(EXAMPLE_ID, /authors/.test(example) ? event.pubkey : event.id)
        .replace(EXAMPLE_RELAY, encodeURIComponent(stored.relay.url));
      const answer = await get(url);
      expect(answer.status, `${url}: ${answer.text.slice(0, 300)}`).toBe(200);
      expect(answer.json.meta, url).toMatchObject({
        as_of: expect.any(Number),
        coverage: { relays: expect.any(Number), complete: expect.any(Number) },
      });
      expect(answer.json).toHaveProperty('data');
    }
    expect(errors).toEqual([]);
  });

  test('/docs shows each route, with no script and nothing from elsewhere', async ({
    operations,
    get,
  }) => {
    const { text, headers } = await get('/docs');
    for (const { path } of operations) expect(text).toContain(`GET ${path}`);
    expect(text).not.toMatch(/<script|\bon\w+=|https?:\/\//i);
    expect(headers['content-security-policy']).toMatch(/^default-src 'none'/);
  });
});

describe('formats', () => {
  test('NDJSON and CSV stream all rows, with the meta data in headers', async ({ stored, get }) => {
    const rows = await get('/v1/events', { headers: { accept: 'application/x-ndjson' } });
    const events = rows.text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toEqual(stored.events);
    expect(rows.headers).toMatchObject({
      ...{
        'content-type': 'application/x-ndjson; charset=utf-8',
        'archive-as-of': expect.anything(),
      },
      'archive-coverage': 'relays=0, complete=0, share=',
    });
    const csv = await get('/v1/events?format=csv&limit=2');
    expect(csv.text.split('\r\n')).toHaveLength(4);
    expect(csv.text).toMatch(/^id,pubkey,created_at,kind,tags,content,sig\r\n/);
    const refused = await get('/v1/events', { headers: { accept: 'image/png' } });
    expect(refused).toMatchObject({ status: 406, json: { parameter: 'format' } });
  });

  test('a list of 1,000 rows is streamed page by page, each row once', async ({
    bigbrotr,
    relay,
    filterId,
    get,
  }) => {
    const many = signedEvents(1000, { from: 1000, to: 1400 });
    await bigbrotr.store(batchOf({ relay, filterId, events: many }));
    const { text } = await get('/v1/events?format=ndjson');
    const ids = text
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as NostrEvent).id);
    expect(ids).toEqual(many.map(({ id }) => id));
    const some = await get('/v1/events?format=ndjson&limit=450');
    expect(some.text.trim().split('\n')).toHaveLength(450);
  });

  test('ETag and 304, Cache-Control, gzip', async ({ stored: _stored, get }) => {
    const first = await get('/v1/events?kinds=1');
    expect(first.headers['cache-control']).toBe('public, max-age=5');
    const etag = String(first.headers.etag);
    const same = await get('/v1/events?kinds=1', { headers: { 'if-none-match': `"x", ${etag}` } });
    expect(same).toMatchObject({ status: 304, text: '', headers: { etag } });
    const other = await get('/v1/events?kinds=1&limit=1', { headers: { 'if-none-match': etag } });
    expect(other.status).toBe(200);
    const { rawPayload, headers } = await get.raw('/v1/events', {
      headers: { 'accept-encoding': 'gzip' },
    });
    expect(headers['content-encoding']).toBe('gzip');
    expect(JSON.parse(gunzipSync(rawPayload).toString()).data).toHaveLength(30);
  });
});

describe('limits and headers', () => {
  test('a client that asks too often gets 429, and /health goes on', async ({ apiWith }) => {
    const api = await apiWith({ rateLimit: 3 });
    for (let times = 0; times < 3; times += 1)
      expect((await ask(api, '/v1/coverage')).status).toBe(200);
    expect(await ask(api, '/v1/coverage')).toMatchObject({
      status: 429,
      headers: { 'retry-after': expect.anything() },
      json: { type: '/docs#too-many-requests', status: 429 },
    });
    expect((await ask(api, '/v1/coverage', { remoteAddress: '10.0.0.9' })).status).toBe(200);
    expect((await ask(api, '/health')).status).toBe(200);
  });

  test('pages of other origins may read answers only where that is set', async ({
    apiWith,
    get,
  }) => {
    const asked = { headers: { origin: 'https://page.example.com' } };
    expect((await get('/v1/coverage', asked)).headers).not.toHaveProperty(
      'access-control-allow-origin',
    );
    const open = await apiWith({ corsOrigins: ['https://page.example.com'] });
    expect((await ask(open, '/v1/coverage', asked)).headers).toMatchObject({
      'access-control-allow-origin': 'https://page.example.com',
    });
    expect((await get('/v1/coverage')).headers).toMatchObject({
      ...{ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer' },
      'content-security-policy': expect.stringContaining("frame-ancestors 'none'"),
    });
  });

  test('long URLs, other methods and unknown paths are problems', async ({ get }) => {
    expect((await get(`/v1/relays?search=${'x'.repeat(9000)}`)).status).toBe(414);
    for (const method of ['POST', 'PUT', 'DELETE', 'HEAD'] as const)
      expect((await get('/v1/events', { method })).status, method).toBe(404);
    expect(await get('/v1/nothing')).toMatchObject({
      status: 404,
      headers: { 'content-type': expect.stringMatching(/^application\/problem\+json/) },
    });
    expect(await get('/v1/events?since=x')).toMatchObject({
      status: 400,
      json: { parameter: 'since' },
    });
    expect(await get('/v1/events?author=x')).toMatchObject({
      status: 400,
      json: { parameter: 'author' },
    });
  });
});

describe('requests of any kind', () => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }),
    fc.constantFrom("'", '";--', '\0', '%', '\ud800', '[]', 'null', '-1', '1e9', '0x10', '１'),
    fc.stringMatching(/^[0-9a-f]{64}$/),
  );

  /** A value as the schema describes it, mostly. */
  function valueFrom(schema: Record<string, unknown>): fc.Arbitrary<string> {
    const {
      type,
      minimum = 0,
      maximum = 1e6,
      items,
      pattern,
    } = schema as {
      type?: string;
      minimum?: number;
      maximum?: number;
      items?: Record<string, unknown>;
      pattern?: string;
    };
    if (Array.isArray(schema.enum)) return fc.constantFrom(...(schema.enum as string[]));
    if (Array.isArray(schema.anyOf))
      return fc.oneof(...schema.anyOf.map((one: Record<string, unknown>) => valueFrom(one)));
    if (schema.const !== undefined) return fc.constant(String(schema.const));
    if (type === 'boolean') return fc.constantFrom('true', 'false');
    if (type === 'integer')
      return fc.integer({ min: minimum, max: Math.min(maximum, 2 ** 39) }).map(String);
    if (type === 'array' && items)
      return fc
        .array(valueFrom(items), { minLength: 1, maxLength: 3 })
        .map((list) => list.join(','));
    return pattern ? fc.stringMatching(new RegExp(pattern)) : text;
  }

  test('made by the schema: no 5xx, no SQL in any answer', { timeout: LONG_MS }, async ({
    stored,
    operations,
    get,
    errors,
  }) => {
    const known = [encodeURIComponent(stored.relay.url), stored.events[0]?.id ?? ''];
    const requests = operations.map(({ path, operation: { parameters = [] } }) => {
      const inQuery = parameters.filter(
        ({ in: place, name }) => place === 'query' && name !== 'wait',
      );
      const part = fc.oneof(
        fc.constantFrom(...known),
        text.map((value) => encodeURIComponent(value.toWellFormed())),
      );
      const parameter = ({ name, schema }: (typeof inQuery)[number]) =>
        fc
          .oneof({ weight: 4, arbitrary: valueFrom(schema) }, { weight: 1, arbitrary: text })
          .map((value) => `${name}=${encodeURIComponent(value.toWellFormed())}`);
      const given = fc
        .subarray(inQuery, { maxLength: Math.min(inQuery.length, 3) })
        .chain((some) => fc.tuple(...some.map(parameter)));
      return fc.tuple(part, given).map(([value, parts]) => {
        const query = parts.filter((one) => !/^format=sse/.test(one)).join('&');
        return `${path.replace(/\{\w+\}/, () => value)}?${query}`;
      });
    });
    const statuses = new Map<number, number>();
    await fc.assert(
      fc.asyncProperty(fc.oneof(...requests), async (url) => {
        const answer = await get(url);
        statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
        expectClean(answer, url);
        const { responses = {} } =
          operations.find(({ path }) => matches(path, url))?.operation ?? {};
        if (answer.status !== 414) expect(Object.keys(responses)).toContain(`${answer.status}`);
      }),
      { numRuns: 600 },
    );
    expect(statuses.get(200)).toBeGreaterThan(100);
    expect(errors).toEqual([]);
  });

  test('hostile ones: 10,000 with injections, giant cursors, bad UTF-8 and paths', {
    timeout: LONG_MS,
  }, async ({ stored: _stored, get, errors }) => {
    const random = seededRandom(18);
    const bits = [
      ...["'", '";drop table events;--', '%00', '%ff%fe', '%c0%af', '..%2f..%2fetc%2fpasswd', '%'],
      ...['$1', '{}', '[]', '<script>', '%E2%80%AE', '\\x', 'null', 'NaN', '-0', '9'.repeat(300)],
      ...['a'.repeat(1900), 'union select', '*', '&&', '=', '%0d%0aset-cookie:x', '%F0%9F%A6%8A'],
    ];
    const paths = [
      ...['/v1/events', '/v1/relays', '/v1/changes', '/v1/coverage', '/v1/events/', '/v1/relays/'],
      ...['/v1/relays/wss://x.example.com/', '/', '//', '/v1', '/docs', '/%2e%2e/', '/health'],
    ];
    const names = ['cursor', 'ids', 'authors', 'kinds', 'since', 'limit', 'tag.e', 'search', 'x[]'];
    const statuses = new Map<number, number>();
    for (let index = 0; index < 10_000; index += 1) {
      const path = random.pick(paths) + (random.integer(0, 1) ? random.pick(bits) : '');
      const query = Array.from(
        { length: random.integer(0, 3) },
        () => `${random.pick(names)}=${random.pick(bits)}${random.pick(bits)}`,
      ).join('&');
      const url = `${path}?${query}`;
      const answer = await get(url);
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      expectClean(answer, url);
      expect(answer.headers).not.toHaveProperty('set-cookie');
    }
    expect(statuses.get(400)).toBeGreaterThan(1000);
    expect(errors).toEqual([]);
  });
});

function matches(path: string, url: string): boolean {
  const pattern = path.replace(/\{\w+\}/, '[^/?]*');
  return new RegExp(`^${pattern}/?\\?`).test(url);
}
