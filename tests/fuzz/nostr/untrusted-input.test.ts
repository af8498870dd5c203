/** Whatever a stranger sends, the parsers at the border give a value or a reason: they never throw, and what they let through keeps its promises. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { forbiddenHost } from '../../../src/network/address.ts';
import { parseSeedList } from '../../../src/network/seed-list.ts';
import { networkOf, parseRelayUrl } from '../../../src/network/url.ts';
import { parseClientMessage } from '../../../src/nostr/client-message.ts';
import {
  createdAtOf,
  parseEvent,
  serializeEvent,
  storageObstacle,
} from '../../../src/nostr/event.ts';
import { parseRelayMessage, refusalOf } from '../../../src/nostr/message.ts';
import { canonicalJson, parseNip11 } from '../../../src/nostr/nip11.ts';
import { mixedEvents, signedEvent } from '../../fixtures/events.ts';
import { fuzz } from '../../fixtures/fuzz.ts';
import { ADVERSARIAL_URLS } from '../../network/adversarial-urls.ts';
import { nip11Document } from '../../relay/scripted-relay.ts';

const unit = fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code));
const anyText = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.string({ unit }),
  fc.string({
    unit: fc.constantFrom('\0', '\ud800', '\udc00', '"', '\\', '[', '{', ']', '}', ',', ':'),
  }),
);
/** Values that JSON can hold, and the ones that trip parsers. */
const odd = fc.constantFrom<unknown>(
  ...[null, true, 0, -0, -1, 1.5, 1e21, 1e308, 2 ** 31, 2 ** 53, '', '\0', '\ud800', '__proto__'],
  ...[[], {}, [[]], [[[]]], { length: 3 }, { toString: 1 }, { __proto__: null }, 'x'.repeat(5000)],
);
const anyJson = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  odd,
  fc.array(odd),
  fc.dictionary(anyText, odd),
);

/** A text with a few characters removed, replaced, doubled or put in. */
function mutated(texts: readonly string[]): fc.Arbitrary<string> {
  const tokens = ['"', '\\u0000', '\\ud800', '1e999', '-', '[', '{', ',', 'null', '"__proto__":'];
  const change = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    remove: fc.nat(2),
    put: fc.oneof(
      { weight: 3, arbitrary: fc.constant('') },
      { weight: 6, arbitrary: fc.string({ maxLength: 2 }) },
      { weight: 1, arbitrary: anyText },
      { weight: 2, arbitrary: fc.constantFrom(...tokens) },
    ),
  });
  return fc
    .tuple(fc.constantFrom(...texts), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([text, changes]) =>
      changes.reduce((current, { at, remove, put }) => {
        const from = Math.floor(at * current.length);
        return current.slice(0, from) + put + current.slice(from + remove);
      }, text),
    );
}

const noThrow = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
};
/** No character that PostgreSQL's text would refuse, anywhere in a value. */
const isStorable = (value: unknown) =>
  !/\\u0000|\\ud[89a-f][0-9a-f]{2}/.test(JSON.stringify(value).replace(/\\\\/g, ''));

const EVENTS = [...mixedEvents(20), signedEvent({ created_at: 1, tags: [[]] })];

describe('fuzzing parseRelayMessage', () => {
  const TYPES = /^(EVENT|EOSE|CLOSED|NOTICE|OK|AUTH|NEG-MSG|NEG-ERR|INVALID)$/;
  const MESSAGES = [
    ['EVENT', 'sub', EVENTS[0]],
    ['EOSE', 'sub', ['finish']],
    ['CLOSED', 'sub', 'rate-limited: slow down'],
    ['NOTICE', 'restricted: no'],
    ['OK', 'f'.repeat(64), true, ''],
    ['AUTH', 'challenge'],
    ['NEG-MSG', 'sub', '61'],
    ['NEG-ERR', 'sub', 'blocked: too many'],
  ].map((message) => JSON.stringify(message));

  const check = (text: string): boolean => {
    const message = parseRelayMessage(text);
    expect(message.type).toMatch(TYPES);
    if ('text' in message) {
      expect(message.text.length).toBeLessThanOrEqual(500);
      expect(message.text).not.toMatch(/[\p{Cc}\p{Surrogate}]/u);
      refusalOf(message.text);
    }
    if ('subscription' in message) expect(typeof message.subscription).toBe('string');
    return message.type !== 'INVALID';
  };
  const verbs = fc.constantFrom(
    'EVENT',
    'EOSE',
    'CLOSED',
    'NOTICE',
    'OK',
    'AUTH',
    'NEG-MSG',
    'NEG-ERR',
    '',
  );

  test('with any text', () => fuzz('parseRelayMessage, any text', anyText, 10_000, check));
  test('with mutated valid input', () =>
    fuzz('parseRelayMessage, mutated', mutated(MESSAGES), 20_000, check));
  test('with arrays of any values', () => {
    const arrays = fc.tuple(verbs, fc.array(anyJson, { maxLength: 4 }));
    fuzz(
      'parseRelayMessage, arrays',
      arrays.map(([verb, rest]) => JSON.stringify([verb, ...rest])),
      10_000,
      check,
    );
  });

  test('and refusalOf with texts of refusals', () => {
    const words = fc.constantFrom(
      ...[
        'rate-limited:',
        'auth-required:',
        'error:',
        'limit',
        'rate',
        'auth',
        'required',
        'payment',
        'not',
      ],
      ...[
        'allowed',
        'max',
        'exceeds',
        'subscriptions',
        'too many',
        'blocked',
        ' ',
        '\n',
        'Ⅸ',
        '\0',
      ],
    );
    const texts = fc.oneof(
      anyText,
      fc.array(words, { maxLength: 60 }).map((list) => list.join(' ')),
    );
    let slowest = 0;
    fuzz('refusalOf', texts, 20_000, (text) => {
      const began = performance.now();
      const refusal = refusalOf(text);
      slowest = Math.max(slowest, performance.now() - began);
      expect(refusal).toMatch(/^(rate_limited|auth_required|restricted|blocked|limit|other)$/);
      return refusal !== 'other';
    });
    console.log(`refusalOf: the slowest took ${slowest.toFixed(2)} ms`);
  });
});

describe('fuzzing parseEvent', () => {
  const FIELDS = ['content', 'created_at', 'id', 'kind', 'pubkey', 'sig', 'tags'];
  const check = (value: unknown): boolean => {
    createdAtOf(value);
    const parsed = parseEvent(value);
    if (!parsed.ok) {
      expect(parsed.reason).toMatch(/^[a-z_]{2,20}$/);
      return false;
    }
    const { event } = parsed;
    expect(Object.keys(event).sort()).toEqual(FIELDS);
    storageObstacle(event);
    expect(parseEvent(JSON.parse(serializeEvent(event)))).toEqual(parsed);
    return true;
  };

  test('with any value', () =>
    fuzz('parseEvent, anything', fc.oneof(anyJson, fc.anything()), 10_000, check));
  test('with mutated JSON', () => {
    const texts = mutated(EVENTS.map((event) => JSON.stringify(event)));
    fuzz('parseEvent, mutated', texts.map(noThrow), 20_000, check);
  });
  test('with valid events whose fields are of any kind, missing or additional', () => {
    const field = fc.constantFrom(...FIELDS, 'extra', 'toJSON', 'constructor');
    const values = fc
      .tuple(
        fc.constantFrom(...EVENTS),
        fc.array(fc.tuple(field, fc.option(anyJson)), { maxLength: 2 }),
      )
      .map(([event, changes]) => {
        const entries = new Map<string, unknown>(Object.entries(event));
        for (const [name, value] of changes) {
          if (value === null) entries.delete(name);
          else entries.set(name, value);
        }
        return Object.fromEntries(entries);
      });
    fuzz('parseEvent, fields', values, 20_000, check);
  });
});

describe('fuzzing parseRelayUrl', () => {
  const check = (text: string): boolean => {
    const parsed = parseRelayUrl(text);
    if (!parsed.ok) {
      expect(parsed.reason.length).toBeGreaterThan(0);
      return false;
    }
    const { url, network } = parsed;
    expect(url).toMatch(/^wss?:\/\/[\x21-\x7e]+$/);
    expect(url.length).toBeLessThanOrEqual(255);
    expect(parseRelayUrl(url)).toEqual(parsed); // it is in its one form
    expect(networkOf(url)).toBe(network);
    forbiddenHost(url);
    return true;
  };
  const GOOD = [
    'wss://relay.damus.io',
    'ws://[2606:4700::1111]:7777/a/b?c=d',
    'wss://xn--nxasmq6b.example.net./%7Ex',
  ];

  test('with any text', () => fuzz('parseRelayUrl, any text', anyText, 10_000, check));
  test('with any web address', () => {
    const schemes = fc.constantFrom('ws', 'wss', 'WSS', 'http', 'ftp', '');
    const addresses = fc.tuple(
      schemes,
      fc.webUrl({ withQueryParameters: true, withFragments: true }),
    );
    fuzz(
      'parseRelayUrl, web addresses',
      addresses.map(([scheme, url]) => url.replace(/^https?/, scheme)),
      10_000,
      check,
    );
  });
  test('with mutated valid and invalid URLs', () => {
    const texts = [...GOOD, ...ADVERSARIAL_URLS.map(({ url }) => url)];
    fuzz('parseRelayUrl, mutated', mutated(texts), 20_000, check);
  });
  test('and lists of URLs', () => {
    const lines = fc.array(fc.oneof(anyText, mutated(GOOD)), { maxLength: 20 });
    fuzz(
      'parseSeedList',
      lines.map((list) => list.join('\n')),
      2000,
      (text) => {
        const { relays, invalid } = parseSeedList(text);
        for (const { url } of relays) expect(parseRelayUrl(url).ok).toBe(true);
        for (const { text: shown } of invalid) expect(shown.length).toBeLessThanOrEqual(101);
        return relays.length > 0;
      },
    );
  });
});

describe('fuzzing parseNip11', () => {
  const DOCUMENT = nip11Document({
    supported_nips: [1, 11, 77],
    limitation: { max_limit: 500, auth_required: false },
    retention: [{ kinds: [0], time: 3600 }],
    fees: { admission: [{ amount: 1000, unit: 'msats' }] },
  });
  const check = (text: string): boolean => {
    const parsed = parseNip11(text);
    if (!parsed.ok) {
      expect(parsed.reason).toMatch(/^not_(json|object)$/);
      return false;
    }
    const { document } = parsed;
    expect(isStorable(document)).toBe(true);
    expect(JSON.stringify(document.extra_fields ?? {}).length).toBeLessThan(40_000);
    canonicalJson(document);
    expect({}).not.toHaveProperty('polluted');
    return true;
  };

  test('with any text', () => fuzz('parseNip11, any text', anyText, 10_000, check));
  test('with mutated valid input', () =>
    fuzz('parseNip11, mutated', mutated([JSON.stringify(DOCUMENT)]), 20_000, check));
  test('with members of any kind', () => {
    const name = fc.oneof(
      fc.constantFrom(...Object.keys(DOCUMENT), '__proto__', 'constructor', 'toString', 'self'),
      anyText,
    );
    const members = fc.array(fc.tuple(name, anyJson), { maxLength: 8 });
    const texts = members.map(
      (list) =>
        `{${list.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(',')}}`,
    );
    fuzz('parseNip11, members', texts, 10_000, check);
  });
});

describe('fuzzing parseClientMessage', () => {
  const LIMITS = { maxFilters: 3, maxValues: 20 };
  const MESSAGES = [
    ['REQ', 'sub', { kinds: [1], authors: ['a'.repeat(64)], since: 1, until: 2, limit: 3 }],
    ['REQ', 'sub', {}, { '#e': ['x', '\0', '\ud800'], '#t': [] }, { ids: [EVENTS[0]?.id] }],
    ['COUNT', 'sub', { '#p': ['b'.repeat(64)] }],
    ['EVENT', EVENTS[0]],
    ['AUTH', EVENTS[1]],
    ['CLOSE', 'sub'],
    ['NEG-OPEN', 'sub', { kinds: [7] }, '6100'],
    ['NEG-MSG', 'sub', '61'],
    ['NEG-CLOSE', 'sub'],
  ].map((message) => JSON.stringify(message));
  const TYPES = /^(REQ|COUNT|CLOSE|EVENT|AUTH|NEG-OPEN|NEG-MSG|NEG-CLOSE|INVALID)$/;
  const check = (text: string) => {
    const message = parseClientMessage(text, LIMITS);
    expect(message.type).toMatch(TYPES);
    if (message.type === 'INVALID') {
      expect(message.text).toMatch(/^(invalid|unsupported|blocked): /);
      expect(isStorable(message.text)).toBe(true);
      return false;
    }
    if ('subscription' in message) expect([...message.subscription].length).toBeGreaterThan(0);
    if ('filters' in message) {
      expect(message.filters.length).toBeLessThanOrEqual(LIMITS.maxFilters);
      expect(isStorable(message.filters)).toBe(true);
      for (const { ids = [], authors = [] } of message.filters)
        for (const value of [...ids, ...authors]) expect(value).toMatch(/^[0-9a-f]{64}$/);
    }
    return true;
  };

  test('it gives a message or a refusal with its prefix', () => {
    const filter = fc.dictionary(
      fc.constantFrom('ids', 'kinds', 'since', 'limit', '#e', '#p', 'search', '__proto__', ''),
      anyJson,
    );
    const arrays = fc
      .tuple(fc.constantFrom('REQ', 'COUNT', 'NEG-OPEN', 'EVENT'), anyText, fc.array(filter))
      .map(([verb, id, list]) => JSON.stringify([verb, id, ...list]));
    const texts = fc.oneof(
      mutated(MESSAGES),
      arrays,
      anyText,
      anyJson.map((v) => JSON.stringify(v)),
    );
    fuzz('parseClientMessage', texts, 20_000, check);
    for (const text of MESSAGES) expect(check(text)).toBe(true);
    expect(check(`${'['.repeat(100_000)}`)).toBe(false);
  });
});
