import {
  BlockedRelaysList,
  Contacts,
  DirectMessageRelaysList,
  FavoriteRelays,
  RecommendRelay,
  RelayDiscovery,
  RelayList,
  Relaysets,
  SearchRelaysList,
  Zap,
  ZapRequest,
} from 'nostr-tools/kinds';
import { decode } from 'nostr-tools/nip19';
import type { NostrEvent } from './event.ts';

/**
 * Extracts the relay URLs that an event names, and where it names them. Pure and bounded, as events are untrusted: one of
 * four megabytes takes milliseconds and gives at most a thousand names.
 */

/** Where an event names a relay: one stable word, as it is stored. */
export type HintSource =
  | 'recommended_relay' // kind 2 (deprecated): the content
  | 'follow_list' // kind 3 (NIP-02): JSON in the content, a convention of clients
  | 'relay_list' // kind 10002 (NIP-65): tag r
  | 'dm_relays' // kind 10050 (NIP-17): tag relay
  | 'blocked_relays' // kind 10006 (NIP-51)
  | 'search_relays' // kind 10007 (NIP-51)
  | 'relay_feeds' // kind 10012 (NIP-51)
  | 'relay_set' // kind 30002 (NIP-51)
  | 'monitor' // kind 30166 (NIP-66): tag d
  | 'zap' // kinds 9734 and 9735 (NIP-57): tag relays
  | 'e_hint' // third element of the tags e, p, a and q, and of E, P and A (NIP-10, NIP-18, NIP-22)
  | 'p_hint'
  | 'a_hint'
  | 'q_hint'
  | 'nprofile' // in the content (NIP-19, NIP-27)
  | 'nevent'
  | 'naddr';

/** The text as it was written: not yet a relay URL. */
export interface RelayHint {
  readonly text: string;
  readonly source: HintSource;
}

/** Most names of one event; follow lists have a few hundred. */
const MAX_HINTS = 1000;
/** Longer text is not a relay URL in any spelling (src/network/url.ts). */
const MAX_HINT_CHARS = 1020;
/** How much of the content is searched, in characters. */
export const MAX_CONTENT_CHARS = 256 * 1024;
/** Most entities decoded in one event: each takes about 50 µs, valid or not. */
const MAX_BECH32_TOKENS = 256;

/** At most 1,500 characters: an entity with ten relays has about 600. */
const BECH32 =
  /(?<![a-z0-9])n(?:profile|event|addr)1[02-9ac-hj-np-z]{50,1500}(?![02-9ac-hj-np-z])/g;

const TAG_OF_KIND: ReadonlyMap<number, readonly [tag: string, source: HintSource]> = new Map([
  [RelayList, ['r', 'relay_list']],
  [DirectMessageRelaysList, ['relay', 'dm_relays']],
  [BlockedRelaysList, ['relay', 'blocked_relays']],
  [SearchRelaysList, ['relay', 'search_relays']],
  [FavoriteRelays, ['relay', 'relay_feeds']],
  [Relaysets, ['relay', 'relay_set']],
  [RelayDiscovery, ['d', 'monitor']],
]);

const HINT_OF_TAG: ReadonlyMap<string, HintSource> = new Map([
  ['e', 'e_hint'],
  ['p', 'p_hint'],
  ['a', 'a_hint'],
  ['q', 'q_hint'],
  ['E', 'e_hint'],
  ['P', 'p_hint'],
  ['A', 'a_hint'],
]);

/**
 * The relays that an event names, each text once per source, in order of appearance. Text that does not look like a
 * WebSocket URL is left out: some clients put pet names and file links where hints belong.
 */
export function relayHints(event: Pick<NostrEvent, 'kind' | 'tags' | 'content'>): RelayHint[] {
  const hints = new Hints();
  readTags(event, hints);
  readContent(event, hints);
  return [...hints.found.values()];
}

class Hints {
  readonly found = new Map<string, RelayHint>();

  get isFull(): boolean {
    return this.found.size >= MAX_HINTS;
  }

  add(text: unknown, source: HintSource): void {
    if (typeof text !== 'string' || text.length > MAX_HINT_CHARS || this.isFull) return;
    if (/^\s*wss?:/i.test(text)) this.found.set(`${source} ${text}`, { text, source });
  }
}

function readTags({ kind, tags }: Pick<NostrEvent, 'kind' | 'tags'>, hints: Hints): void {
  const [wanted, source] = TAG_OF_KIND.get(kind) ?? [];
  const isZap = kind === ZapRequest || kind === Zap;
  for (const tag of tags) {
    if (hints.isFull) return;
    const [name = '', value, third] = tag;
    if (name === wanted && source) hints.add(value, source);
    if (isZap && name === 'relays') readRelaysTag(tag, hints);
    if (kind === Zap && name === 'description') readZapRequest(value, hints);
    const hint = HINT_OF_TAG.get(name);
    if (hint && third) hints.add(third, hint);
  }
}

/** `["relays", url, url, …]` */
function readRelaysTag(tag: readonly unknown[], hints: Hints): void {
  for (const text of tag.slice(1, MAX_HINTS)) hints.add(text, 'zap');
}

/** A zap receipt contains its zap request as JSON (NIP-57). */
function readZapRequest(description: string | undefined, hints: Hints): void {
  const request = parseJson(description ?? '');
  if (!isRecord(request) || !Array.isArray(request.tags)) return;
  for (const tag of request.tags as unknown[])
    if (Array.isArray(tag) && tag[0] === 'relays') readRelaysTag(tag, hints);
}

function readContent({ kind, content }: Pick<NostrEvent, 'kind' | 'content'>, hints: Hints): void {
  if (kind === RecommendRelay) hints.add(content, 'recommended_relay');
  if (kind === Contacts) {
    const relays = parseJson(content);
    if (isRecord(relays)) for (const text of Object.keys(relays)) hints.add(text, 'follow_list');
  }
  let tokens = 0;
  for (const [token] of content.slice(0, MAX_CONTENT_CHARS).matchAll(BECH32)) {
    tokens += 1;
    if (tokens > MAX_BECH32_TOKENS || hints.isFull) return;
    readBech32(token, hints);
  }
}

function readBech32(token: string, hints: Hints): void {
  try {
    const { type, data } = decode(token);
    if (type === 'nprofile' || type === 'nevent' || type === 'naddr')
      for (const text of data.relays ?? []) hints.add(text, type);
  } catch {
    // Text that looks like an entity and is not one.
  }
}

/** Undefined when the text is not a JSON object, or is longer than any list of relays. */
function parseJson(text: string): unknown {
  if (!text.startsWith('{') || text.length > MAX_CONTENT_CHARS) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
