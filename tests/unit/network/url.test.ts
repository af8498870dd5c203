import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { forbiddenHost } from '../../../src/network/address.ts';
import { MAX_RELAY_URL_BYTES, networkOf, parseRelayUrl } from '../../../src/network/url.ts';
import { seenRelayUrls } from '../../fixtures/events.ts';
import { ADVERSARIAL_URLS } from '../../network/adversarial-urls.ts';

const ONION = 'oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad';
const seen = seenRelayUrls();

/** An address with a checksum that holds, of a key of zeros. */
function onionOfVersion(version: number): string {
  const key = Buffer.alloc(32);
  const checksum = createHash('sha3-256')
    .update('.onion checksum')
    .update(key)
    .update(Buffer.of(version))
    .digest();
  const bits = [...key, ...checksum.subarray(0, 2), version].map((byte) =>
    byte.toString(2).padStart(8, '0'),
  );
  return bits
    .join('')
    .replace(/.{5}/g, (five) => 'abcdefghijklmnopqrstuvwxyz234567'[Number.parseInt(five, 2)] ?? '');
}

function urlOf(text: string): string {
  const parsed = parseRelayUrl(text);
  return parsed.ok ? parsed.url : `refused: ${parsed.reason}`;
}

describe('spellings of one relay', () => {
  test.each([
    ['WSS://Relay.DAMUS.io', 'wss://relay.damus.io'],
    ['wss://relay.damus.io:443/', 'wss://relay.damus.io'],
    ['wss://relay.damus.io:00443', 'wss://relay.damus.io'],
    ['wss://relay.damus.io:', 'wss://relay.damus.io'],
    ['wss://relay.damus.io.', 'wss://relay.damus.io'],
    ['wss://relay.damus.io.:443/', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/?', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/#top', 'wss://relay.damus.io'],
    [' \t\ufeffwss://relay.damus.io\r\n', 'wss://relay.damus.io'],
    ['wss://relay%2Edamus.io', 'wss://relay.damus.io'],
    ['wss://relay。damus。io', 'wss://relay.damus.io'],
    ['wss://ｒｅｌａｙ.damus.io', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/a/../', 'wss://relay.damus.io'],
    ['ws://relay.damus.io:80', 'ws://relay.damus.io'],
    ['wss://réláy.damus.io', 'wss://xn--rly-fla2b.damus.io'],
    ['wss://XN--RLY-FLA2B.damus.io', 'wss://xn--rly-fla2b.damus.io'],
    ['ws://[2606:4700:0::0:1111]:80', 'ws://[2606:4700::1111]'],
    ['ws://0x8.010.2056', 'ws://8.8.8.8'],
    ['wss://relay.damus.io/%7euser/%e4%bd%a0', 'wss://relay.damus.io/~user/%E4%BD%A0'],
    ['wss://relay.damus.io/你', 'wss://relay.damus.io/%E4%BD%A0'],
    ['wss://relay.damus.io?a=1', 'wss://relay.damus.io/?a=1'],
  ])('%j is %s', (text, url) => {
    expect(urlOf(text)).toBe(url);
  });
});

describe('URLs that a server can distinguish', () => {
  test.each([
    ['ws://relay.damus.io', 'wss://relay.damus.io'],
    ['ws://relay.damus.io:443', 'wss://relay.damus.io'],
    ['wss://relay.damus.io:80', 'ws://relay.damus.io'],
    ['wss://relay.damus.io:4848', 'wss://relay.damus.io'],
    ['wss://www.relay.damus.io', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/path', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/path', 'wss://relay.damus.io/path/'],
    ['wss://relay.damus.io/path', 'wss://relay.damus.io/Path'],
    ['wss://relay.damus.io/a/b', 'wss://relay.damus.io/a%2Fb'],
    ['wss://relay.damus.io/a:b', 'wss://relay.damus.io/a%3Ab'],
    ['wss://relay.damus.io/%61', 'wss://relay.damus.io/%2561'],
    ['wss://relay.damus.io/?a=1', 'wss://relay.damus.io'],
    ['wss://relay.damus.io/?a=1&b=2', 'wss://relay.damus.io/?b=2&a=1'],
    ['wss://my_relay.damus.io', 'wss://my-relay.damus.io'],
    ['wss://[2606:4700::1]', 'wss://[2606:4700::2]'],
    [`ws://${ONION}.onion`, `ws://sub.${ONION}.onion`],
  ])('%s is not %s', (one, other) => {
    expect(parseRelayUrl(one).ok).toBe(true);
    expect(parseRelayUrl(other).ok).toBe(true);
    expect(urlOf(one)).not.toBe(urlOf(other));
  });

  test.each([
    'wss://filter.stealth.wine/npub18kzz4lkdtc5n729kvfunxuz287uvu9f64ywhjz43ra482t2y5sks0mx5sz',
    'wss://filter.nostr.wine/?global=all&broadcast=true',
    'wss://proxy.nostr-relay.app/ae30ba2372ced6c1960d49c0266fdd3e07cea52b1bf378fdb684aee6363dec46',
    'wss://proxy.nostr-relay.app/?relay=wss%3A%2F%2Fnos.lol',
    'wss://lnbits.nsnip.io/nostrrelay/Test:Relay',
    'wss://my_relay.damus.io',
    'ws://localhost:7777',
    'ws://relay_1:8080',
    'wss://xn--80akhbyknj4f.xn--p1ai',
  ])('%s stays unchanged', (url) => {
    expect(urlOf(url)).toBe(url);
  });
});

describe('texts that are not a relay URL', () => {
  test.each([
    ['', 'there is no URL'],
    ['relay.damus.io', 'begin with'],
    ['//relay.damus.io', 'begin with'],
    ['wss:relay.damus.io', 'begin with'],
    ['wss:\\\\relay.damus.io', 'begin with'],
    ['{"relay":"wss://relay.damus.io"}', 'begin with'],
    ['https://relay.damus.io', 'http is not a scheme'],
    ['wss://', 'no host'],
    ['wss:///relay.damus.io', 'no host'],
    ['wss://:443', 'no host'],
    ['wss://alice:secret@relay.damus.io', 'user name'],
    ['wss://@relay.damus.io', 'user name'],
    ['wss://relay.damus.io:0', 'port 0 is not a port'],
    ['wss://relay.damus.io:65536', 'from 1 to 65535'],
    ['wss://relay.damus.io:wss', 'from 1 to 65535'],
    ['wss://relay.damus.io:443:443', 'host is not a valid'],
    ['wss://2606:4700::1111', 'host is not a valid'],
    ['wss://[2606:4700::1111', 'host is not a valid'],
    ['wss://relay..damus.io', 'host is not a valid'],
    ['wss://-relay.damus.io', 'host is not a valid'],
    ['wss://relay-.damus.io', 'host is not a valid'],
    ['wss://*.damus.io', 'host is not a valid'],
    ['wss://relay.damus.io,nos.lol', 'host is not a valid'],
    ['wss://"relay.damus.io"', 'host is not a valid'],
    ['wss://relay.damus.io\\path', 'host is not a valid'],
    ['wss://xn--a.com', 'host is not a valid'],
    ['wss://100.127.36.484', 'host is not a valid'],
    [`wss://${'a'.repeat(64)}.com`, 'host is not a valid'],
    ['wss://relay.damus.i0', 'top-level'],
    ['wss://relay.damus.x', 'top-level'],
    ['wss://expyuzz4wqqyqhjn.onion', 'version 2'],
    [`ws://${ONION.replace('o', 'p')}.onion`, 'version 3'],
    [`ws://${ONION.slice(1)}.onion`, 'version 3'],
    [`ws://${onionOfVersion(4)}.onion`, 'version 3'],
    ['ws://relay.onion', 'version 3'],
    ['wss://relay.damus.io wss://nos.lol', 'invisible'],
    ['wss://relay.da\tmus.io', 'invisible'],
    ['wss://relay.da\u200bmus.io', 'invisible'],
    ['wss://relay.damus.io/\u202e', 'invisible'],
    ['wss://relay.damus.io/\ud800', 'invisible'],
    ['wss://relay.damus.io/%20', 'invisible'],
    ['wss://relay.damus.io/%E2%80%8B', 'invisible'],
    ['wss://relay.damus.io/%00', 'invisible'],
    ['wss://relay.damus.io/?x=%0d%0a', 'invisible'],
    ['wss://relay.damus.iowss://nos.lol', 'glued'],
    ['wss://relay.damus.io,wss://nos.lol', 'glued'],
    ['wss://wss://relay.damus.io', 'glued'],
    ['wss://relay.damus.io/wss%3A%2F%2Fnos.lol', 'glued'],
    ['wss://relay.damus.io#wss://nos.lol', 'glued'],
    ['wss://relay.damus.io/:/./%2F', 'glued'],
    ['wss://relay.damus.io/a,b', 'character'],
    ['wss://relay.damus.io/"', 'character'],
    ['wss://relay.damus.io/%22', 'character'],
    ['wss://relay.damus.io/a\\b', 'character'],
    ['wss://relay.damus.io//', 'empty part'],
    ['wss://relay.damus.io//nos.lol', 'empty part'],
    ['wss://relay.damus.io/a//b', 'empty part'],
    ['wss://relay.damus.io/%', 'percent-encoding'],
    ['wss://relay.damus.io/%zz', 'percent-encoding'],
    ['wss://relay.damus.io/%ff', 'percent-encoding'],
    [`wss://relay.damus.io/${'a'.repeat(MAX_RELAY_URL_BYTES)}`, '255 bytes'],
    [`wss://relay.damus.io/${'a'.repeat(29_000)}`, '255 bytes'],
    [`wss://relay.damus.io/${'你'.repeat(30)}`, '255 bytes'],
  ])('%j: %s', (text, reason) => {
    expect(parseRelayUrl(text)).toEqual({ ok: false, reason: expect.stringContaining(reason) });
  });

  test('accepts letters of Latin-1, also after the compiler has optimised the parser', () => {
    const refused = Array.from({ length: 20_000 }, (_, index) => `wss://é${index}.io`).filter(
      (url) => !parseRelayUrl(url).ok,
    );
    expect(refused).toEqual([]);
  });

  test('accepts a URL of the maximum length and none that is longer', () => {
    const longest = `wss://relay.damus.io/${'a'.repeat(MAX_RELAY_URL_BYTES - 21)}`;
    expect(urlOf(longest)).toBe(longest);
    expect(parseRelayUrl(`${longest}a`).ok).toBe(false);
  });
});

describe('networks', () => {
  test.each([
    ['wss://relay.damus.io', 'clearnet'],
    ['wss://8.8.8.8', 'clearnet'],
    ['wss://onion.to', 'clearnet'],
    [`wss://${ONION}.onion.to`, 'clearnet'],
    [`ws://${ONION}.onion`, 'tor'],
    [`ws://${onionOfVersion(3)}.onion`, 'tor'],
    [`ws://${ONION.toUpperCase()}.ONION.:81/path`, 'tor'],
    ['ws://relay.i2p', 'i2p'],
    ['ws://relay.loki:7777', 'loki'],
  ])('%s is reached through %s', (text, network) => {
    const parsed = parseRelayUrl(text);
    expect(parsed).toMatchObject({ ok: true, network });
    if (parsed.ok) expect(networkOf(parsed.url)).toBe(network);
  });
});

/** Texts near to relay URLs, of so few pieces that two of them often mean the same relay. */
const nearUrl = fc
  .tuple(
    fc.constantFrom('ws://', 'wss://', 'WSS://', 'wss:', 'http://', ''),
    fc.constantFrom(
      'a.io',
      'A.io',
      'a.io.',
      'a_.io',
      'é.io',
      'xn--9ca.io',
      '1.1',
      '[2::1]',
      'u@a.io',
    ),
    fc.constantFrom('', ':', ':80', ':443', ':0443', ':81', ':0'),
    fc.array(
      fc.constantFrom(...'/ /a /A /%61 /%2f /%2F /%252f /. /.. /%2e : ~ %7E é %'.split(' ')),
      { maxLength: 4 },
    ),
    fc.constantFrom('', '?', '?a', '?a=1&b', '?b&a=1', '?%61', '#', '#f', '?#'),
  )
  .map(([scheme, host, port, path, rest]) => scheme + host + port + path.join('') + rest);

const anyText = fc.oneof(
  { weight: 4, arbitrary: nearUrl },
  {
    weight: 2,
    arbitrary: fc.webUrl({
      validSchemes: ['ws', 'wss'],
      withQueryParameters: true,
      withFragments: true,
    }),
  },
  { weight: 1, arbitrary: fc.string({ unit: 'binary' }).map((text) => `wss://a.io/${text}`) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary' }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(...ADVERSARIAL_URLS.map(({ url }) => url), ...seen.slice(0, 500)),
  },
);

/** What a server sees of a WebSocket URL, found out without our code; decoding joins more than it may. */
function asSeenByServer(text: string): string {
  const { protocol, hostname, port, pathname, search } = new URL(text.trim());
  const path = pathname.split('/').map((segment) => decodeURIComponent(segment));
  const host = hostname.replace(/\.$/, '');
  return JSON.stringify([protocol, host, port, path, decodeURIComponent(search)]);
}

describe('parseRelayUrl, by property', () => {
  const RUNS = 20_000;

  test('is idempotent, and its result means the same to the WHATWG parser', () => {
    const reasons = new Map<string, number>();
    let accepted = 0;
    fc.assert(
      fc.property(anyText, (text) => {
        const parsed = parseRelayUrl(text);
        if (!parsed.ok) {
          reasons.set(parsed.reason, (reasons.get(parsed.reason) ?? 0) + 1);
          return;
        }
        accepted += 1;
        expect(parseRelayUrl(parsed.url)).toEqual(parsed);
        expect(networkOf(parsed.url)).toBe(parsed.network);
        expect(parsed.url).toMatch(/^wss?:\/\/[\x21-\x7e]+$/);
        expect(parsed.url.length).toBeLessThanOrEqual(MAX_RELAY_URL_BYTES);
        expect([parsed.url, `${parsed.url}/`]).toContain(new URL(parsed.url).href);
      }),
      { numRuns: RUNS },
    );
    console.log(`${RUNS} texts, ${accepted} accepted, refused:`, Object.fromEntries(reasons));
    expect(accepted).toBeGreaterThan(RUNS / 10);
    // A closed set of reasons: safe as a label of a counter.
    expect(reasons.size).toBeLessThanOrEqual(17);
  });

  test('never merges two relays', () => {
    const views = new Map<string, string>();
    const spellings = new Map<string, Set<string>>();
    fc.assert(
      fc.property(nearUrl, (text) => {
        const parsed = parseRelayUrl(text);
        if (!parsed.ok) return;
        const view = asSeenByServer(text);
        expect(view).toBe(views.get(parsed.url) ?? view);
        views.set(parsed.url, view);
        spellings.set(parsed.url, (spellings.get(parsed.url) ?? new Set()).add(text));
      }),
      { numRuns: RUNS },
    );
    const texts = [...spellings.values()].reduce((sum, of) => sum + of.size, 0);
    console.log(`${RUNS} texts, ${texts} spellings of ${spellings.size} relays`);
    expect(texts).toBeGreaterThan(1.3 * spellings.size);
  });

  test('gives the same URL for every spelling of a relay', () => {
    const label = fc.stringMatching(/^[a-z][a-z0-9]{0,8}$/);
    const relay = fc.record({
      scheme: fc.constantFrom('ws', 'wss'),
      host: fc
        .tuple(label, label, fc.constantFrom('com', 'io', 'lol'))
        .map((labels) => labels.join('.')),
      port: fc.option(fc.integer({ min: 1, max: 65_535 }), { nil: undefined }),
      path: fc.stringMatching(/^(\/[A-Za-z0-9~_-]{1,8}){0,3}$/),
      fragment: fc.constantFrom('', '#', '#a'),
      dot: fc.constantFrom('', '.'),
      space: fc.constantFrom('', ' ', '\n'),
    });
    fc.assert(
      fc.property(relay, ({ scheme, host, port, path, fragment, dot, space }) => {
        const standard = scheme === 'ws' ? 80 : 443;
        const shown = port === undefined || port === standard ? '' : `:${port}`;
        const encoded = path.replace(
          /[A-Za-z~]/g,
          (letter) => `%${letter.charCodeAt(0).toString(16)}`,
        );
        const spelling = `${space}${scheme.toUpperCase()}://${host.toUpperCase()}${dot}:${port ?? standard}${encoded || '/'}${fragment}${space}`;
        expect(urlOf(spelling)).toBe(`${scheme}://${host}${shown}${path}`);
      }),
    );
  });
});

describe.skipIf(seen.length === 0)('URLs seen in the wild', () => {
  test('are accepted or refused with a reason, and never merged', () => {
    const counts: Record<string, number> = {};
    const count = (what: string): void => {
      counts[what] = (counts[what] ?? 0) + 1;
    };
    const accepted = new Set<string>();
    for (const text of seen) {
      const parsed = parseRelayUrl(text);
      if (!parsed.ok) {
        count(parsed.reason);
        continue;
      }
      accepted.add(parsed.url);
      count(forbiddenHost(parsed.url) ?? parsed.network);
      expect(parseRelayUrl(parsed.url)).toEqual(parsed);
    }
    console.log(
      `${seen.length} URLs seen in the wild, ${accepted.size} accepted as relays:`,
      counts,
    );
    expect(accepted.size).toBeGreaterThan(0.999 * seen.length);
    expect(counts.tor).toBeGreaterThan(900);
    const guarded = accepted.size - (counts.clearnet ?? 0) - (counts.tor ?? 0);
    expect(guarded / seen.length).toBeGreaterThan(0.15);
    expect(guarded / seen.length).toBeLessThan(0.17);
  });
});
