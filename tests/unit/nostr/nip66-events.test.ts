import { verifyEvent } from 'nostr-tools/pure';
import { describe, expect, test } from 'vitest';
import type { CheckResults } from '../../../src/nostr/check-result.ts';
import { parseNip11 } from '../../../src/nostr/nip11.ts';
import { type Discovery, discoveryEvent, monitorEvents } from '../../../src/nostr/nip66-events.ts';
import { makeKeys } from '../../relay/signer.ts';

const [KEYS] = makeKeys(1);
const SECRET_KEY = KEYS?.secretKey as Uint8Array;
const T = 1_750_000_000;

const good = <Data>(data: Data) => ({ success: true, durationMs: 12.4, data }) as const;
const bad = (reason: string) => ({ success: false, durationMs: 12.4, reason }) as const;

function nip11(body: object, raw: string | null = JSON.stringify(body)) {
  const parsed = parseNip11(JSON.stringify(body));
  if (!parsed.ok) throw new Error(parsed.reason);
  return good({ document: parsed.document, raw, dropped: parsed.dropped });
}

const UP: CheckResults = {
  open: good({}),
  read: good({ empty: false, authenticated: false, asked: 'bare' }),
  write: good({ stored: true, authenticated: false, asked: 'bare' }),
};
const RTT = {
  openable: true,
  readable: true,
  writable: true,
  rtt_open: 234,
  rtt_read: 100,
  rtt_write: 50,
  reason: null,
};

function event(checks: CheckResults = UP, changes: Partial<Discovery> = {}) {
  const discovery = { url: 'wss://relay.example.com', network: 'clearnet', generatedAt: T };
  return discoveryEvent({ ...discovery, nip66: RTT, checks, ...changes }, SECRET_KEY);
}

/** Values of the tags of that name; where a tag has more than one, all of them. */
const values = (checks: CheckResults, name: string) =>
  event(checks)
    .tags.filter(([tag]) => tag === name)
    .map(([, ...rest]) => (rest.length === 1 ? rest[0] : rest));

describe('kind 30166', () => {
  test('has only the URL and network of an unknown relay', () => {
    const made = event();
    expect(made).toMatchObject({
      kind: 30_166,
      created_at: T,
      content: '',
      pubkey: KEYS?.publicKey,
    });
    expect(made.tags).toEqual([
      ['d', 'wss://relay.example.com/'],
      ['n', 'clearnet'],
      ['R', '!auth'],
      ['R', '!pow'],
      ['R', '!writes'],
      ['rtt-open', '234'],
      ['rtt-read', '100'],
      ['rtt-write', '50'],
    ]);
    expect(verifyEvent({ ...made })).toBe(true);
    expect(Object.keys(made).sort()).toEqual([
      'content',
      'created_at',
      'id',
      'kind',
      'pubkey',
      'sig',
      'tags',
    ]);
  });

  test.each([
    ['wss://relay.example.com', 'wss://relay.example.com/'],
    ['wss://relay.example.com/path', 'wss://relay.example.com/path'],
    ['ws://relay.example.com:8080', 'ws://relay.example.com:8080/'],
  ])('normalises d of %s by RFC 3986', (url, d) => {
    expect(event(UP, { url }).tags[0]).toEqual(['d', d]);
  });

  test('prefers measurements to claims in N', () => {
    const capabilities = good({
      nip45: true,
      nip50: false,
      nip67: null,
      nip77: false,
      maxLimit: 500,
    });
    const document = nip11({ supported_nips: [1, 50, 67, 77, 9] });
    expect(values({ ...UP, nip11: document, capabilities }, 'N')).toEqual([
      '1',
      '9',
      '11',
      '45',
      '67',
    ]);
    expect(values({ ...UP, nip11: document }, 'N')).toEqual(['1', '9', '11', '50', '67', '77']);
    const read = good({ empty: false, authenticated: true, asked: 'bare' as const });
    expect(values({ ...UP, read }, 'N')).toEqual(['42']);
  });

  test.each<[string, CheckResults, string[]]>([
    ['nothing said, nothing measured', {}, []],
    [
      'claims alone',
      {
        nip11: nip11({
          limitation: {
            auth_required: true,
            payment_required: false,
            restricted_writes: true,
            min_pow_difficulty: 20,
          },
        }),
      },
      ['auth', '!payment', 'pow', 'writes'],
    ],
    [
      'claims that were found wrong',
      { ...UP, nip11: nip11({ limitation: { auth_required: true, restricted_writes: true } }) },
      ['!auth', '!pow', '!writes'],
    ],
    ['refusals', { read: bad('auth_required'), write: bad('restricted') }, ['auth', 'writes']],
    ['work that was too much', { read: UP.read as never, write: bad('pow') }, ['!auth', 'pow']],
    [
      'work that was done',
      { ...UP, nip11: nip11({ limitation: { min_pow_difficulty: 8 } }) },
      ['!auth', 'pow', '!writes'],
    ],
    ['a silent relay', { read: bad('timeout'), write: bad('timeout') }, []],
  ])('R: %s', (_, checks, requirements) => {
    expect(values(checks, 'R')).toEqual(requirements);
  });

  test('has T, t, k, l and g', () => {
    const checks: CheckResults = {
      ...UP,
      capabilities: good({ nip45: null, nip50: true, nip67: null, nip77: null, maxLimit: null }),
      geo: good({
        country: 'DE',
        city: 'Berlin',
        latitude: 52.5,
        longitude: 13.4,
        geohash: 'u33db2m3x',
      }),
      nip11: nip11({
        tags: ['cats', 'dogs', 'cats', '', 7, 'x'.repeat(65)],
        language_tags: ['en', 'en-419', '*', 'de'],
        retention: [
          { kinds: [4, 1059, [40, 49]], time: 0 },
          { kinds: [1], time: 3600 },
          { time: 0 },
        ],
      }),
    };
    expect(values(checks, 'T')).toEqual(['Search']);
    expect(values(checks, 't')).toEqual(['cats', 'dogs']);
    expect(values(checks, 'k')).toEqual(['!4', '!1059']);
    expect(values(checks, 'g')).toEqual(['u33db2m3x']);
    expect(values(checks, 'l')).toEqual([
      ['en', 'ISO-639-1'],
      ['de', 'ISO-639-1'],
      ['en-419', 'BCP-47'],
      ['DE', 'ISO-3166-1'],
    ]);
    expect(values(checks, 'L')).toEqual(['ISO-639-1', 'BCP-47', 'ISO-3166-1']); // NIP-32
  });

  test('has no round-trip time for steps that were not reached', () => {
    const nip66 = { ...RTT, rtt_read: null, rtt_write: null };
    const names = event(UP, { nip66 }).tags.map(([name]) => name);
    expect(names.filter((name) => name?.startsWith('rtt'))).toEqual(['rtt-open']);
  });

  test('content is the document of the relay: its text, its known members, or empty', () => {
    const body = { name: 'a relay', unheard_of: { a: [1, 'é\ud800'] } };
    const spaced = JSON.stringify(body, null, 4);
    expect(JSON.parse(event({ ...UP, nip11: nip11(body, spaced) }).content)).toEqual(body);
    expect(event({ ...UP, nip11: nip11(body, spaced) }).content).not.toContain('\n');
    expect(JSON.parse(event({ ...UP, nip11: nip11({ name: 'a' }, null) }).content)).toEqual({
      name: 'a',
    });
    expect(JSON.parse(event({ ...UP, nip11: nip11({ name: 'a' }, '\ufeff{}') }).content)).toEqual({
      name: 'a',
    });
    const long = nip11({ name: 'a', notes: 'x'.repeat(20_000) });
    expect(JSON.parse(event({ ...UP, nip11: long }).content)).toEqual({ name: 'a' });
    expect(event({ ...UP, nip11: nip11({ description: 'x'.repeat(20_000) }) }).content).toBe('');
    expect(event({ ...UP, nip11: bad('http_404') }).content).toBe('');
  });

  test('an oversized document does not make a large event', () => {
    const many = (make: (n: number) => unknown) => Array.from({ length: 5000 }, (_, n) => make(n));
    const document = nip11(
      {
        supported_nips: many((n) => n),
        tags: many((n) => `topic ${n}`),
        language_tags: many((n) => `${String.fromCharCode(97 + (n % 26))}x-${n}`),
        retention: [{ kinds: many((n) => n), time: 0 }],
      },
      null,
    );
    expect(JSON.stringify(event({ ...UP, nip11: document })).length).toBeLessThan(30_000);
  });
});

describe('the events of the monitor itself', () => {
  const self = {
    name: 'a monitor',
    frequencySeconds: 28_800,
    timeoutMs: 10_000,
    checks: ['open', 'read', 'nip11', 'tls', 'dns'],
    geohash: 'u33d',
    relays: ['wss://nos.lol', 'wss://relay.example.com/path'],
  } as const;

  test('are profile, relay list and announcement', () => {
    const [profile, relays, announcement] = monitorEvents(self, T);
    expect(profile).toMatchObject({ kind: 0, created_at: T });
    expect(JSON.parse(profile?.content ?? '')).toMatchObject({ name: 'a monitor', bot: true });
    expect(relays).toMatchObject({ kind: 10_002, content: '' });
    expect(relays?.tags.filter(([name]) => name === 'r')).toEqual([
      ['r', 'wss://nos.lol/', 'write'],
      ['r', 'wss://relay.example.com/path', 'write'],
    ]);
    expect(announcement).toMatchObject({ kind: 10_166, content: '' });
    expect(announcement?.tags).toEqual([
      ['frequency', '28800'],
      ['timeout', '10000'],
      ['timeout', 'open', '10000'],
      ['timeout', 'read', '10000'],
      ['timeout', 'nip11', '10000'],
      ...['open', 'read', 'nip11', 'ssl', 'dns'].map((check) => ['c', check]),
      ['g', 'u33d'],
      ['client', 'bigbrotr'],
    ]);
  });

  test('have no location when none is configured', () => {
    const tags = monitorEvents({ ...self, geohash: null }, T).flatMap(({ tags }) => tags);
    expect(tags.filter(([name]) => name === 'g')).toEqual([]);
  });
});
