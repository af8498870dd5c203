import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';
import { getDomain } from 'tldts';
import { forbiddenHost } from '../network/address.ts';
import type { Blocklist } from '../network/blocklist.ts';
import type { NamedRelay, NamingEvent } from '../network/named-relay.ts';
import { type Network, parseRelayUrl, type RelayAddress, type RelayUrl } from '../network/url.ts';
import { relayHints } from '../nostr/relay-hints.ts';

/** Turns URLs in events and lists into names of possible relays: normalised, checked by the address guard, counted once. */

/** Why a text is not a candidate, as one stable word for counters. */
export type NameRefusal = 'invalid' | 'forbidden' | 'blocked' | 'personal';

export type ParsedName =
  | { ok: true; relay: RelayAddress; host: string; domain: string }
  | { ok: false; reason: NameRefusal };

/** Maximum number of distinct authors counted per name: more of them change nothing. */
export const MAX_AUTHORS = 16;

/** A key in the path of a relay: a personal view of it. These answer, and there can be one for each user. */
const PERSONAL = /\bn(?:pub|profile|sec|ote|event|addr)1[02-9ac-hj-np-z]{20}|[0-9a-f]{64}/i;

export interface NameRules {
  readonly blocklist: Blocklist;
  /** Whether private addresses and names are allowed: for test networks. */
  readonly allowPrivate: boolean;
}

/**
 * Parses a text as the URL of a possible relay. Refused are invalid, forbidden and blocked URLs, and URLs with a key in
 * the path or a query: these are personal views of a relay, thousands of which fill other lists.
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
 * The unit of the budgets per domain: the registrable domain (publicsuffix.org), the /24 or /48 of an address, or the
 * whole network for Tor, where names cost nothing.
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

type ValidName = Extract<ParsedName, { ok: true }>;
type First = Pick<NamedRelay, 'firstAt' | 'firstEvent' | 'firstAuthor' | 'firstSource'>;
type Gathered = { -readonly [K in keyof Omit<NamedRelay, 'authors'>]: NamedRelay[K] } & {
  readonly authors: Set<string>;
};

/** Collects the relays that many events name, each relay once. */
export class RelayNames {
  /** Number of refused texts by reason, each counted once per event. */
  readonly refused: Record<NameRefusal, number> = {
    invalid: 0,
    forbidden: 0,
    blocked: 0,
    personal: 0,
  };
  readonly #rules: NameRules;
  readonly #found = new Map<RelayUrl, Gathered>();
  /** Each spelling is parsed once: a few names make up most of the mentions. */
  readonly #parsed = new Map<string, ParsedName>();

  constructor(rules: NameRules) {
    this.#rules = rules;
  }

  /** Number of distinct relays so far. */
  get size(): number {
    return this.#found.size;
  }

  /** Adds the relays that an event names, each counted once. */
  addEvent(event: NamingEvent): void {
    this.#addEvent(event, 1);
  }

  /** Adds the relays that an event names without counting the mentions: if the event is archived, they are counted then. */
  addUncounted(event: NamingEvent): void {
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

  /** Adds a name from a list that the operator configured. @param at Unix seconds */
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

  /** All relays, ordered by URL: with one order of row locks, concurrent writers cannot deadlock. */
  named(): NamedRelay[] {
    return [...this.#found.values()]
      .map((found) => ({ ...found, authors: [...found.authors] }))
      .sort((a, b) => (a.url < b.url ? -1 : 1));
  }

  #parse(text: string): ValidName | null {
    const parsed = this.#parsed.get(text) ?? parseName(text, this.#rules);
    this.#parsed.set(text, parsed);
    if (parsed.ok) return parsed;
    this.refused[parsed.reason] += 1;
    return null;
  }

  #add({ relay, host, domain }: ValidName, times: 0 | 1, first: First): void {
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
