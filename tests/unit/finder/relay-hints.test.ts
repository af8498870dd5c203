import { hash } from 'node:crypto';
import fc from 'fast-check';
import { naddrEncode, neventEncode, nprofileEncode } from 'nostr-tools/nip19';
import { describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { relayHints } from '../../../src/nostr/relay-hints.ts';
import { realEvents } from '../../fixtures/events.ts';

type Part = Pick<NostrEvent, 'kind' | 'tags' | 'content'>;

const event = (parts: Partial<Part>): Part => ({ kind: 1, tags: [], content: '', ...parts });
/** What is found, as `source text`. */
const found = (parts: Partial<Part>) =>
  relayHints(event(parts)).map(({ source, text }) => `${source} ${text}`);

const KEY = 'ab'.repeat(32);

describe('relayHints', () => {
  test.each([
    [10_002, 'r', 'relay_list'],
    [10_050, 'relay', 'dm_relays'],
    [10_006, 'relay', 'blocked_relays'],
    [10_007, 'relay', 'search_relays'],
    [10_012, 'relay', 'relay_feeds'],
    [30_002, 'relay', 'relay_set'],
    [30_166, 'd', 'monitor'],
  ])('reads from kind %i the tag %s, and no other tag', (kind, tag, source) => {
    const tags = [
      [tag, 'wss://one.net/', 'read'],
      ['x', 'wss://two.net'],
      [tag],
      [tag, 'no relay'],
      [tag, ' WS://three.net:8080/inbox'],
    ];
    expect(found({ kind, tags })).toEqual([
      `${source} wss://one.net/`,
      `${source}  WS://three.net:8080/inbox`,
    ]);
    expect(found({ kind: 1, tags })).toEqual([]);
  });

  test('reads from a report of a monitor the relay only', () => {
    const tags = [
      ['d', 'wss://one.net'],
      ['n', 'clearnet'],
      ['T', 'wss://type.net'],
      ['s', 'https://software.example'],
    ];
    expect(found({ kind: 30_166, tags, content: '{"name":"wss://two.net"}' })).toEqual([
      'monitor wss://one.net',
    ]);
  });

  test('reads from a follow list the relays of its content and the hints of its p tags', () => {
    const content = '{"wss://one.net":{"read":true},"wss://two.net/":{},"https://no.net":{}}';
    const tags = [
      ['p', KEY, 'wss://three.net', 'wss://petname.net'],
      ['p', KEY],
      ['p', KEY, ''],
    ];
    expect(found({ kind: 3, tags, content })).toEqual([
      'p_hint wss://three.net',
      'follow_list wss://one.net',
      'follow_list wss://two.net/',
    ]);
    for (const odd of [
      '',
      '{',
      '[]',
      'null',
      '["wss://one.net"]',
      '{"__proto__":1}',
      '"wss://x.net"',
    ])
      expect(found({ kind: 3, content: odd })).toEqual([]);
  });

  test('reads from kind 2 the content', () => {
    expect(found({ kind: 2, content: 'WSS://One.net/' })).toEqual([
      'recommended_relay WSS://One.net/',
    ]);
    expect(found({ kind: 1, content: 'wss://one.net' })).toEqual([]);
  });

  test('reads from a zap request, also inside a receipt, its relays', () => {
    const tags = [
      ['relays', 'wss://one.net', 'wss://two.net'],
      ['p', KEY, 'wss://three.net'],
    ];
    const wanted = ['zap wss://one.net', 'zap wss://two.net'];
    expect(found({ kind: 9734, tags })).toEqual([...wanted, 'p_hint wss://three.net']);
    const description = JSON.stringify({ kind: 9734, tags, content: '' });
    expect(found({ kind: 9735, tags: [['description', description]] })).toEqual(wanted);
    const escaped = description.replaceAll('/', '\\/');
    expect(found({ kind: 9735, tags: [['description', escaped]] })).toEqual(wanted);
    for (const odd of ['', '{', '{"tags":7}', '{"tags":[7,null,["relays",7]]}', 'null'])
      expect(found({ kind: 9735, tags: [['description', odd], ['description']] })).toEqual([]);
    expect(found({ kind: 1, tags })).toEqual(['p_hint wss://three.net']);
  });

  test('reads the third element of e, p, a and q tags', () => {
    const hinted = (name: string) => [name, 'anything', 'wss://one.net', 'wss://four.net'];
    for (const name of 'epaq')
      expect(found({ tags: [hinted(name)] })).toEqual([`${name}_hint wss://one.net`]);
    for (const name of 'EPA')
      expect(found({ tags: [hinted(name)] })).toEqual([`${name.toLowerCase()}_hint wss://one.net`]);
    for (const name of ['t', 'r', 'imeta', '']) expect(found({ tags: [hinted(name)] })).toEqual([]);
    expect(found({ tags: [['e', 'id'], ['e'], []] })).toEqual([]);
  });

  test('reads valid entities in the content', () => {
    const relays = ['wss://one.net', 'wss://two.net'];
    const nprofile = nprofileEncode({ pubkey: KEY, relays });
    const nevent = neventEncode({ id: KEY, relays, author: KEY, kind: 1 });
    const naddr = naddrEncode({ identifier: 'x', pubkey: KEY, kind: 30_023, relays });
    const content = `see nostr:${nprofile}, ${nevent}! and https://client.example/${naddr}?x`;
    expect(found({ content })).toEqual(
      ['nprofile', 'nevent', 'naddr'].flatMap((source) => relays.map((url) => `${source} ${url}`)),
    );
    const broken = nprofile.slice(0, -1) + (nprofile.endsWith('q') ? 'p' : 'q');
    for (const odd of [broken, nprofile.slice(0, -3), `x${nprofile}`, nprofile.toUpperCase()])
      expect(found({ content: odd })).toEqual([]);
    expect(found({ content: nprofileEncode({ pubkey: KEY, relays: [] }) })).toEqual([]);
  });

  test('returns the same text in the same place once', () => {
    const tags = [
      ['e', KEY, 'wss://one.net'],
      ['e', KEY, 'wss://one.net'],
      ['p', KEY, 'wss://one.net'],
    ];
    expect(found({ tags })).toEqual(['e_hint wss://one.net', 'p_hint wss://one.net']);
  });
});

describe('bounds of relayHints', () => {
  test('returns at most a thousand names of an event', () => {
    const urls = Array.from({ length: 5000 }, (_, index) => `wss://n${index}.net`);
    const content = JSON.stringify(Object.fromEntries(urls.map((url) => [url, {}])));
    const shapes: Partial<Part>[] = [
      { kind: 10_002, tags: urls.map((url) => ['r', url]) },
      { kind: 3, content },
      { kind: 9734, tags: [['relays', ...urls]] },
      { kind: 1, tags: urls.map((url) => ['e', KEY, url]) },
    ];
    for (const shape of shapes) {
      const { length } = relayHints(event(shape));
      expect(length).toBeGreaterThanOrEqual(999);
      expect(length).toBeLessThanOrEqual(1000);
    }
    expect(found({ kind: 10_002, tags: [['r', `wss://${'x'.repeat(5000)}.net`]] })).toEqual([]);
  });

  test('reads at most 256 entities in the first 256 KB of content', () => {
    const entity = (index: number) => {
      const relays = [`wss://n${index}.net`];
      return `${nprofileEncode({ pubkey: KEY, relays })} `;
    };
    const sound = Array.from({ length: 300 }, (_, index) => entity(index)).join('');
    expect(found({ content: sound })).toHaveLength(256);
    expect(found({ content: `${' '.repeat(256 * 1024)}${sound}` })).toEqual([]);
  });

  test.each([
    ['entities that are none', `nprofile1${'q'.repeat(600)} `],
    ['one entity without an end', 'q'],
    ['beginnings of entities', 'nprofile1'],
    ['braces', '{"a":'],
    ['brackets', '['],
  ])('finds nothing in four megabytes of %s, without a slow pattern', (_, text) => {
    const content = `nevent1${text.repeat(Math.ceil((4 * 1024 * 1024) / text.length))}`;
    for (const kind of [1, 3]) {
      expect(found({ kind, content })).toEqual([]);
      expect(found({ kind: 9735, tags: [['description', `{${content}`]] })).toEqual([]);
    }
  });

  test('by property: never throws', () => {
    const tag = fc.array(
      fc.oneof(fc.string(), fc.constantFrom('relays', 'description', 'r', 'd', 'e', '{')),
    );
    fc.assert(
      fc.property(
        fc.array(tag),
        fc.string(),
        fc.integer({ min: 0, max: 65_535 }),
        (tags, content, kind) => {
          for (const one of [kind, 2, 3, 9735, 10_002, 30_166])
            for (const { text } of relayHints({ kind: one, tags, content }))
              expect(text).toMatch(/^\s*wss?:/i);
        },
      ),
      { numRuns: 300 },
    );
  });
});

/**
 * Of the real events, by source: how many different texts, and the beginning of the SHA-256 of them, sorted, a line each.
 * Made by another program, in another language, with a bech32 of its own.
 */
const OF_REAL_EVENTS: Readonly<Record<string, readonly [number, string]>> = {
  a_hint: [1, 'f372d99c18162978'],
  dm_relays: [3, '195a46e41293ea2c'],
  e_hint: [51, 'd16b7ce2ea389587'],
  follow_list: [149, '1800c93db3df6726'],
  monitor: [1, '8d3d93aada3fd531'],
  nevent: [11, '646692d38f4ff326'],
  nprofile: [17, 'bc643bff5126a0f6'],
  p_hint: [49, 'fa6574f71bb4f219'],
  q_hint: [3, '8edc07c1689180a5'],
  recommended_relay: [2, 'a0e6fcb7d2b7a43a'],
  relay_list: [35, '55c9e1b3eebfa3c8'],
  zap: [96, '651b2c4084cec1a8'],
};

const real = realEvents();

describe('real events of the network', () => {
  test.runIf(real.length === 2082)('name these relays, in these places', () => {
    const texts = new Map<string, Set<string>>();
    for (const { source, text } of real.flatMap(relayHints))
      texts.set(source, (texts.get(source) ?? new Set()).add(text));
    const figures = [...texts].map(([source, set]) => {
      const lines = [...set].sort().join('\n');
      return [source, [set.size, hash('sha256', lines).slice(0, 16)]];
    });
    expect(Object.fromEntries(figures)).toEqual(OF_REAL_EVENTS);
  });

  test.runIf(real.length !== 2082)('are not here', () => {
    console.info(
      'not tested with real events: BIGBROTR_TEST_EVENTS names no such file, or another one',
    );
  });
});
