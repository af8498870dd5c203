import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { domainOf, parseName, RelayNames } from '../../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../../src/network/blocklist.ts';
import type { NamingEvent } from '../../../src/network/named-relay.ts';
import { networkOf, type RelayUrl } from '../../../src/network/url.ts';
import { seenRelayUrls } from '../../fixtures/events.ts';
import { relayUrl } from '../../relay/relays.ts';

const NPUB = 'npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3evf6u64th6gkwsyjh6w6';
const ONION = 'gnostr2jnapk72mnagq3cuykfon73temzp77hcbncn4silgt77boruid.onion';
const rules = { blocklist: parseBlocklist('blocked.net', ''), allowPrivate: false };

/** The URL that a text becomes, or the reason why it is none. */
function nameOf(text: string): string {
  const parsed = parseName(text, rules);
  return parsed.ok ? parsed.relay.url : parsed.reason;
}

const event = (parts: Partial<NamingEvent> & { urls?: readonly string[] } = {}): NamingEvent => {
  const { urls = [], ...rest } = parts;
  const tags = urls.map((url) => ['r', url]);
  return { id: '', pubkey: 'aa', created_at: 100, kind: 10_002, tags, content: '', ...rest };
};

/** What is gathered of some events. */
function gathered(...events: readonly NamingEvent[]) {
  const names = new RelayNames(rules);
  for (const one of events) names.addEvent(one);
  return names;
}

describe('parseName', () => {
  test.each([
    ['WSS://Relay.Damus.io:443/', 'wss://relay.damus.io'],
    ['ws://relay.damus.io/a', 'ws://relay.damus.io/a'],
    ['https://relay.damus.io', 'invalid'],
    ['wss://relay', 'forbidden'],
    ['wss://192.168.1.7:4848', 'forbidden'],
    ['wss://relay.example.com', 'forbidden'],
    ['wss://relay.damus.io:5432', 'forbidden'],
    ['wss://blocked.net/any', 'blocked'],
    [`wss://filter.nostr.wine/${NPUB}`, 'personal'],
    [`wss://filter.nostr.wine/x-${NPUB}/y`, 'personal'],
    [`wss://relay.io/${'0f'.repeat(32)}`, 'personal'],
    ['wss://relay.io/?broadcast=true', 'personal'],
    ['wss://relay.io/npub1', 'wss://relay.io/npub1'],
    ['wss://nprofile.relay.io', 'wss://nprofile.relay.io'],
  ])('%s: %s', (text, wanted) => {
    expect(nameOf(text)).toBe(wanted);
  });

  test.each([
    ['wss://a.b.relay.co.uk', 'relay.co.uk'],
    ['wss://relay.co.uk:8080/x', 'relay.co.uk'],
    ['wss://a.nostr1.com', 'nostr1.com'],
    ['wss://a.fly.dev', 'fly.dev'], // a name under it costs nothing: they share
    ['wss://co.uk', 'co.uk'],
    ['wss://8.8.4.4', '8.8.4.0/24'],
    ['wss://[2606:4700:4700::1111]:7777', '2606:4700:4700::/48'],
    [`ws://${ONION}`, 'tor'],
    ['ws://relay.i2p', 'i2p'],
  ])('has for %s the domain %s', (text, domain) => {
    const { hostname } = new URL(text);
    expect(domainOf(hostname, networkOf(relayUrl(text)))).toBe(domain);
  });
});

describe('RelayNames', () => {
  test('merges all spellings of a relay, with the earliest mention and each author once', () => {
    const names = gathered(
      event({ urls: ['wss://B.net', 'wss://a.net/'], id: '01', pubkey: 'a1', created_at: 300 }),
      event({ urls: ['wss://b.net/', 'WSS://b.net:443'], id: '02', pubkey: 'a2', created_at: 200 }),
      event({ urls: ['wss://b.net'], id: '03', pubkey: 'a1', created_at: 400 }),
    );
    expect(names.named()).toEqual([
      expect.objectContaining({ url: 'wss://a.net', times: 1, authors: ['a1'], firstEvent: '01' }),
      {
        url: 'wss://b.net',
        network: 'clearnet',
        host: 'b.net',
        domain: 'b.net',
        times: 3,
        firstAt: 200,
        firstEvent: '02',
        firstAuthor: 'a2',
        firstSource: 'relay_list',
        lastAt: 400,
        authors: ['a1', 'a2'],
      },
    ]);
  });

  test('keeps sixteen authors and counts all mentions', () => {
    const events = Array.from({ length: 30 }, (_, author) =>
      event({ urls: ['wss://a.net'], pubkey: `k${author}` }),
    );
    const [name] = gathered(...events).named();
    expect(name).toMatchObject({ times: 30 });
    expect(name?.authors).toEqual(Array.from({ length: 16 }, (_, author) => `k${author}`));
  });

  test('counts refused texts by reason, once per event', () => {
    const urls = [
      'wss://relay',
      'wss://relay/',
      'wss://blocked.net',
      'wss:no',
      `wss://x.net/${NPUB}`,
    ];
    const names = gathered(event({ urls }), event({ urls: ['wss://relay'] }));
    expect(names.size).toBe(0);
    expect(names.refused).toEqual({ forbidden: 3, blocked: 1, invalid: 1, personal: 1 });
  });

  test('adds names of a list without an author, and does not count followed reports', () => {
    const names = gathered();
    names.addUncounted(event({ urls: ['wss://a.net'], created_at: 50 }));
    names.addListed('wss://a.net', 40);
    expect(names.named()).toMatchObject([
      {
        times: 1,
        firstAt: 40,
        firstAuthor: null,
        firstEvent: null,
        firstSource: 'list',
        authors: ['aa', ''],
      },
    ]);
  });
});

/** Pieces of which many give the same relay, and many nearly the same. */
const spelling = fc
  .tuple(
    fc.constantFrom('ws://', 'wss://', 'WSS://', ' wss://'),
    fc.constantFrom(
      'a.io',
      'A.io',
      'a.io.',
      'b.a.io',
      'é.io',
      'xn--9ca.io',
      '[2606::1]',
      '8.8.8.8',
    ),
    fc.constantFrom('', ':80', ':443', ':0443', ':81'),
    fc.constantFrom('', '/', '/a', '/A', '/%61', '/a/', '/a/.', '/a%2fb', '/~', '/%7e', '#x'),
  )
  .map((parts) => parts.join(''));

/** What a server sees, found out without our code. */
function seenByServer(text: string): string {
  const { protocol, hostname, port, pathname } = new URL(text.trim());
  const path = pathname.split('/').map((segment) => decodeURIComponent(segment));
  return JSON.stringify([protocol, hostname.replace(/\.$/, ''), port, path]);
}

describe('spellings of a relay', () => {
  test('by property: give one relay exactly when no server can distinguish them', () => {
    let same = 0;
    fc.assert(
      fc.property(spelling, spelling, (one, other) => {
        const names = gathered(event({ urls: [one] }), event({ urls: [other] }));
        const isSame = seenByServer(one) === seenByServer(other);
        same += isSame ? 1 : 0;
        expect(names.named().map(({ url }) => url)).toHaveLength(isSame ? 1 : 2);
      }),
      { numRuns: 1500, examples: [['wss://a.io/a', 'wss://A.io./%61']] },
    );
    expect(same).toBeGreaterThan(10);
  });

  test('by property: give the same relays when they are parsed again', () => {
    fc.assert(
      fc.property(fc.array(spelling, { maxLength: 20 }), (urls) => {
        const once = gathered(event({ urls })).named();
        const again = gathered(event({ urls: once.map(({ url }) => url) })).named();
        expect(again).toEqual(once);
      }),
    );
  });
});

const seen = seenRelayUrls();

describe.runIf(seen.length > 0)('names of real relays', () => {
  test('give this many candidates, each normalised', () => {
    const names = gathered();
    for (const text of seen) names.addListed(text, 1);
    expect(names.refused).toEqual({ invalid: 4, forbidden: 1403, blocked: 0, personal: 5 });
    expect(names.size).toBe(7450);
    const urls = names.named().map(({ url }) => url);
    expect(urls.map(nameOf)).toEqual(urls satisfies RelayUrl[]);
  });
});
