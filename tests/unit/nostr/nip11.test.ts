import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { canonicalJson, type Nip11Document, parseNip11 } from '../../../src/nostr/nip11.ts';

const EMPTY: Nip11Document = {
  name: null,
  description: null,
  banner: null,
  icon: null,
  pubkey: null,
  contact: null,
  supported_nips: null,
  software: null,
  version: null,
  privacy_policy: null,
  terms_of_service: null,
  limitation: null,
  extra_fields: null,
};

function parsed(body: unknown) {
  const result = parseNip11(typeof body === 'string' ? body : JSON.stringify(body));
  if (!result.ok) throw new Error(`the body was refused: ${result.reason}`);
  return result;
}

describe('parseNip11', () => {
  test('reads every member of the NIP, those without a column into extra_fields', () => {
    const columns = {
      name: 'a relay',
      description: 'two\n\nparagraphs, ünïcödé 🐘',
      banner: 'https://relay.example/banner.png',
      icon: 'https://relay.example/icon.png',
      pubkey: 'a'.repeat(64),
      contact: 'mailto:us@relay.example',
      supported_nips: [1, 11, 42, 77],
      software: 'https://relay.example/software',
      version: '1.2.3',
      privacy_policy: 'https://relay.example/privacy',
      terms_of_service: 'https://relay.example/terms',
      limitation: {
        max_message_length: 16384,
        max_subscriptions: 20,
        max_filters: 100,
        max_limit: 5000,
        max_subid_length: 100,
        max_event_tags: 100,
        max_content_length: 8196,
        min_pow_difficulty: 30,
        auth_required: true,
        payment_required: false,
        restricted_writes: true,
        created_at_lower_limit: 31536000,
        created_at_upper_limit: 3,
        default_limit: 500,
      },
    };
    const extra = {
      self: 'b'.repeat(64),
      supported_nips_at: 1690848000,
      retention: [
        { kinds: [0, 1, [5, 7]], time: 3600 },
        { time: null, count: 10000 },
      ],
      relay_countries: ['CA', 'US'],
      language_tags: ['en', 'en-419'],
      tags: ['sfw-only'],
      posting_policy: 'https://relay.example/policy',
      payments_url: 'https://relay.example/pay',
      fees: { admission: [{ amount: 1000000, unit: 'msats' }] },
    };
    const result = parsed({ ...columns, ...extra });
    expect(result.document).toEqual({ ...columns, extra_fields: extra });
    expect(result.dropped).toBe(0);
  });

  test('accepts an empty document', () => {
    expect(parsed('{}')).toEqual({ ok: true, document: EMPTY, dropped: 0 });
  });

  test.each([
    ['HTML', '<!doctype html><p>Use a Nostr client', 'not_json'],
    ['nothing', '', 'not_json'],
    ['half a document', '{"name":"a', 'not_json'],
    ['an array', '[]', 'not_object'],
    ['a string', '"relay"', 'not_object'],
    ['null', 'null', 'not_object'],
  ])('refuses %s', (_, body, reason) => {
    expect(parseNip11(body)).toEqual({ ok: false, reason });
  });

  test('leaves out wrong types one by one and counts them', () => {
    const result = parsed({
      name: 7,
      description: ['no'],
      pubkey: { hex: 'a' },
      contact: 'kept',
      supported_nips: [1, '11', 2.5, -1, null, [4], 42],
      software: false,
      version: 3,
      limitation: { max_limit: '500', auth_required: 1, max_filters: 10, min_pow_difficulty: 1.5 },
      tags: ['kept', 5],
      fees: 'many',
      relay_countries: 'CA',
    });
    expect(result.document).toEqual({
      ...EMPTY,
      contact: 'kept',
      supported_nips: [1, 42],
      limitation: { max_filters: 10 },
      extra_fields: { tags: ['kept'] },
    });
    expect(result.dropped).toBe(5 + 5 + 3 + 1 + 2);
  });

  test('reads a limitation or list of a wrong type as null', () => {
    const { document, dropped } = parsed({ limitation: [1], supported_nips: { 1: true } });
    expect(document).toEqual(EMPTY);
    expect(dropped).toBe(2);
  });

  test('reads null like a missing member, without counting it', () => {
    const { document, dropped } = parsed({
      name: null,
      limitation: { max_limit: null },
      fees: null,
    });
    expect(document).toEqual({ ...EMPTY, limitation: {} });
    expect(dropped).toBe(0);
  });

  test('keeps unknown members', () => {
    const { document } = parsed({ nips_i_like: [1, { deep: [null, true, 'x'] }], 'odd key': '' });
    expect(document.extra_fields).toEqual({
      nips_i_like: [1, { deep: [null, true, 'x'] }],
      'odd key': '',
    });
  });

  test('leaves out what PostgreSQL cannot store: NUL, lone surrogates, infinite numbers', () => {
    const result = parsed(
      String.raw`{"name":"a\u0000b","description":"\ud800","contact":"\ud83d\ude00","version":"\udc00x",
      "supported_nips":[1,1e400],"a\u0000":1,"x":{"k\ud800":1,"v":"\u0000","n":-1e400,"kept":1},"list":["\u0000",2]}`,
    );
    expect(result.document).toEqual({
      ...EMPTY,
      contact: '😀',
      supported_nips: [1],
      extra_fields: { x: { kept: 1 }, list: [2] },
    });
    expect(result.dropped).toBe(9);
  });

  test('__proto__ and similar members change no prototype', () => {
    const { document, dropped } = parsed(
      '{"__proto__":{"name":"evil"},"constructor":{"prototype":{"x":1}},"toString":"text","limitation":{"__proto__":{"max_limit":1}},"x":{"__proto__":null,"y":1}}',
    );
    expect(document.name).toBeNull();
    expect(document.limitation).toEqual({});
    expect(document.limitation?.max_limit).toBeUndefined();
    expect(Object.getPrototypeOf(document.extra_fields)).toBe(Object.prototype);
    expect(canonicalJson(document.extra_fields)).toBe(
      '{"constructor":{"prototype":{"x":1}},"toString":"text","x":{"y":1}}',
    );
    expect(Object.keys(Object.prototype)).toEqual([]);
    expect(dropped).toBe(3);
  });

  test('bounds the depth: the deep member is left out, the rest is kept', () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const { document, dropped } = parsed(
      `{"name":"kept","deep":${deep},"retention":[{"x":${deep}}]}`,
    );
    expect(document.name).toBe('kept');
    expect(canonicalJson(document).length).toBeLessThan(1000);
    expect(dropped).toBeGreaterThan(0);
  });

  test('bounds extra fields in number and length, keeping members of the NIP first', () => {
    const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`a${i}`, i]));
    const crowded = parsed({ ...many, tags: ['kept'] });
    expect(Object.keys(crowded.document.extra_fields ?? {})).toHaveLength(64);
    expect(crowded.document.extra_fields).toHaveProperty('tags');
    expect(crowded.dropped).toBe(500 - 63);
    const long = parsed({ a: 'x'.repeat(40_000), b: 'kept' });
    expect(long.document.extra_fields).toEqual({ b: 'kept' });
    expect(long.dropped).toBe(1);
  });
});

describe('canonicalJson', () => {
  test('ignores the order of members, not that of elements', () => {
    const one = parsed(
      '{"name":"r","limitation":{"max_limit":1,"auth_required":false},"z":1,"a":[1,2]}',
    );
    const two = parsed(
      '{"a":[1,2],"z":1.0,"limitation":{"auth_required":false,"max_limit":1},"name":"r"}',
    );
    const three = parsed(
      '{"a":[2,1],"z":1,"limitation":{"auth_required":false,"max_limit":1},"name":"r"}',
    );
    const sha256 = (value: unknown) =>
      createHash('sha256').update(canonicalJson(value)).digest('hex');
    expect(sha256(one.document)).toBe(sha256(two.document));
    expect(sha256(three.document)).not.toBe(sha256(one.document));
  });

  test('round-trips through JSON.parse', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = canonicalJson(value);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
    );
  });

  test('by property: any document parses to one that can be stored, and that parses to itself', () => {
    const names = fc.constantFrom(
      'name',
      'limitation',
      'supported_nips',
      'tags',
      'fees',
      'x',
      '__proto__',
    );
    const member = fc.tuple(
      fc.oneof(names, fc.string({ unit: 'binary' })),
      fc.jsonValue({ stringUnit: 'binary' }),
    );
    fc.assert(
      fc.property(fc.array(member), (members) => {
        const body = `{${members.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
        const { document } = parsed(body);
        const text = canonicalJson(document);
        expect(text.includes('\\u0000')).toBe(false);
        expect(/\p{Surrogate}|\\ud[89a-f]/u.test(text)).toBe(false);
        const { extra_fields, ...columns } = document;
        const again = parsed({ ...columns, ...extra_fields });
        expect(canonicalJson(again.document)).toBe(text);
        expect(again.dropped).toBe(0);
      }),
    );
  });
});
