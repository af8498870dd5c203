import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { getDomain } from 'tldts';
import type { NostrEvent } from '../nostr/event.ts';
import { type HintSource, relayHints } from '../nostr/relay-hints.ts';
import { forbiddenHost } from './address.ts';
import type { Blocklist } from './blocklist.ts';
import { type Network, parseRelayUrl, type RelayAddress, type RelayUrl } from './url.ts';

/** From what somebody wrote to a name that may be tried: normalised, guarded, once for all its spellings. */

/** Where a name came from: a place in an event, or a list that the operator gave. */
export type NameSource = HintSource | 'list';

/** The part of an event that can name relays, and who says so. */
export type NamingEvent = Pick<
  NostrEvent,
  'id' | 'pubkey' | 'created_at' | 'kind' | 'tags' | 'content'
>;

/** Why a text gives no candidate; one stable word for counters. */
export type NameRefusal = 'invalid' | 'forbidden' | 'blocked' | 'personal';

export type ParsedName =
  | { ok: true; relay: RelayAddress; host: string; domain: string }
  | { ok: false; reason: NameRefusal };

/** A relay that was named, with all that the events read together say of it. */
export interface NamedRelay extends RelayAddress {
  /** Host and port: what a path is added to. */
  readonly host: string;
  /** What whoever invents names has to pay for. */
  readonly domain: string;
  /** By how many events and lists. */
  readonly times: number;
  /** The earliest event by its own `created_at`: Unix seconds, its id, its author (null for a list), the place in it. */
  readonly firstAt: number;
  readonly firstEvent: string | null;
  readonly firstAuthor: string | null;
  readonly firstSource: NameSource;
  readonly lastAt: number;
  /** Different authors in hex, in the order in which they were read, and `''` for the operator's lists; at most MAX_AUTHORS. */
  readonly authors: readonly string[];
}

/** So many different authors are told apart for each name: that more than these have named it changes nothing. */
export const MAX_AUTHORS = 16;

/** In the path of a relay: a view of it for one person. They answer, and there are as many as people. */
const PERSONAL = /\bn(?:pub|profile|sec|ote|event|addr)1[02-9ac-hj-np-z]{20}|[0-9a-f]{64}/i;

export interface NameRules {
  readonly blocklist: Blocklist;
  /** Takes private addresses and names too: for test networks. */
  readonly allowPrivate: boolean;
}

/**
 * A text as a relay that may be tried. Beyond what is no URL, is never connected to, or is blocked, a URL is refused
 * that has a key or a query in it: these are personal views of a relay, thousands of which have swamped other lists.
 */
export function parseName(text: string, { blocklist, allowPrivate }: NameRules): ParsedName {
  const parsed = parseRelayUrl(text);
  if (!parsed.ok) return { ok: false, reason: 'invalid' };
  const { url, network } = parsed;
  if (!allowPrivate && forbiddenHost(url) !== null) return { ok: false, reason: 'forbidden' };
  if (blocklist.blocks(url)) return { ok: false, reason: 'blocked' };
  const { host, hostname, pathname, search } = new URL(url);
  if (search !== '' || PERSONAL.test(pathname)) return { ok: false, reason: 'personal' };
  return { ok: true, relay: { url, network }, host, domain: domainOf(hostname, network) };
}

/**
 * What names are bought under: the registrable domain (publicsuffix.org), the network of an address, and all of Tor
 * together, where a name costs nothing at all.
 */
export function domainOf(hostname: string, network: Network): string {
  if (network !== 'clearnet') return network;
  const literal = hostname.replace(/^\[|\]$/g, '');
  if (isIPv4(literal)) return `${literal.split('.').slice(0, 3).join('.')}.0/24`;
  if (isIPv6(literal)) {
    const parts = ipaddr.IPv6.parse(literal).parts.slice(0, 3);
    return `${parts.map((part) => part.toString(16)).join(':')}::/48`;
  }
  return getDomain(hostname) ?? hostname;
}

type SoundName = Extract<ParsedName, { ok: true }>;
type First = Pick<NamedRelay, 'firstAt' | 'firstEvent' | 'firstAuthor' | 'firstSource'>;
type Gathered = { -readonly [K in keyof Omit<NamedRelay, 'authors'>]: NamedRelay[K] } & {
  readonly authors: Set<string>;
};

/** Gathers what many events name, each relay once. */
export class RelayNames {
  /** Texts that gave no name, by reason; each once for an event. */
  readonly refused: Record<NameRefusal, number> = {
    invalid: 0,
    forbidden: 0,
    blocked: 0,
    personal: 0,
  };
  readonly #rules: NameRules;
  readonly #found = new Map<RelayUrl, Gathered>();
  /** The same few names come again and again: each spelling is parsed once. */
  readonly #parsed = new Map<string, ParsedName>();

  constructor(rules: NameRules) {
    this.#rules = rules;
  }

  /** Different relays gathered so far. */
  get size(): number {
    return this.#found.size;
  }

  /** Takes in what one event names. Each relay counts once, however often it stands in it. */
  addEvent(event: NamingEvent): void {
    this.#addEvent(event, 1);
  }

  /** The same for an event that comes to the archive by another way, if at all: so it is not counted here. */
  addHeard(event: NamingEvent): void {
    this.#addEvent(event, 0);
  }

  #addEvent(event: NamingEvent, times: 0 | 1): void {
    const seen = new Set<RelayUrl>();
    for (const { text, source } of relayHints(event)) {
      const name = this.#parse(text);
      if (!name || seen.has(name.relay.url)) continue;
      seen.add(name.relay.url);
      const { created_at: at, pubkey: author, id } = event;
      this.#add(name, times, {
        firstAt: at,
        firstEvent: id,
        firstAuthor: author,
        firstSource: source,
      });
    }
  }

  /** Takes in a name from a list that the operator gave. @param at Unix seconds */
  addListed(text: string, at: number): void {
    const name = this.#parse(text);
    const first = {
      firstAt: at,
      firstEvent: null,
      firstAuthor: null,
      firstSource: 'list',
    } as const;
    if (name) this.#add(name, 1, first);
  }

  /** What was gathered, in the order of the URLs: writers that keep it do not deadlock. */
  named(): NamedRelay[] {
    return [...this.#found.values()]
      .map((found) => ({ ...found, authors: [...found.authors] }))
      .sort((a, b) => (a.url < b.url ? -1 : 1));
  }

  #parse(text: string): SoundName | null {
    const parsed = this.#parsed.get(text) ?? parseName(text, this.#rules);
    this.#parsed.set(text, parsed);
    if (parsed.ok) return parsed;
    this.refused[parsed.reason] += 1;
    return null;
  }

  #add({ relay, host, domain }: SoundName, times: 0 | 1, first: First): void {
    const found = this.#found.get(relay.url);
    const { firstAt: at, firstAuthor: author } = first;
    if (!found) {
      const authors = new Set([author ?? '']);
      this.#found.set(relay.url, { ...relay, host, domain, times, ...first, lastAt: at, authors });
      return;
    }
    found.times += times;
    found.lastAt = Math.max(found.lastAt, at);
    if (at < found.firstAt) Object.assign(found, first);
    if (found.authors.size < MAX_AUTHORS) found.authors.add(author ?? '');
  }
}
