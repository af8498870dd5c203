import { decode } from 'nostr-tools/nip19';
import type { NostrEvent } from './event.ts';

/**
 * Which relays an event names, and where in it. Pure, and bounded: an event is text of a stranger, so that one of four
 * megabytes costs milliseconds and gives no more names than a thousand.
 */

/** Where a name stood; one stable word, as it is stored. */
export type HintSource =
  | 'recommended_relay' // kind 2 (NIP-01 as it was): the content
  | 'follow_list' // kind 3 (NIP-02): the JSON that clients put into the content
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

/** A name as it was written: not yet a relay's URL. */
export interface RelayHint {
  readonly text: string;
  readonly source: HintSource;
}

/** Names of one event; follow lists carry a few hundred. */
const MAX_HINTS = 1000;
/** Longer ones are no relay's URL in any spelling (src/relay/url.ts). */
const MAX_HINT_CHARS = 1020;
/** How much of a content is looked through for names, in characters. */
export const MAX_CONTENT_CHARS = 256 * 1024;
/** Decoding one takes about 50 µs, sound or not. */
const MAX_BECH32_TOKENS = 256;

/** With at most 1,500 characters: one with ten relays has about 600. */
const BECH32 =
  /(?<![a-z0-9])n(?:profile|event|addr)1[02-9ac-hj-np-z]{50,1500}(?![02-9ac-hj-np-z])/g;

const TAG_OF_KIND: ReadonlyMap<number, readonly [tag: string, source: HintSource]> = new Map([
  [10_002, ['r', 'relay_list']],
  [10_050, ['relay', 'dm_relays']],
  [10_006, ['relay', 'blocked_relays']],
  [10_007, ['relay', 'search_relays']],
  [10_012, ['relay', 'relay_feeds']],
  [30_002, ['relay', 'relay_set']],
  [30_166, ['d', 'monitor']],
]);
const ZAP_REQUEST = 9734;
const ZAP_RECEIPT = 9735;

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
 * The relays that an event names, each text once for each place, in the order in which they stand. What looks like no
 * WebSocket URL at all is left out: pet names and file links stand where hints belong.
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
  const isZap = kind === ZAP_REQUEST || kind === ZAP_RECEIPT;
  for (const tag of tags) {
    if (hints.isFull) return;
    const [name = '', value, third] = tag;
    if (name === wanted && source) hints.add(value, source);
    if (isZap && name === 'relays') readRelaysTag(tag, hints);
    if (kind === ZAP_RECEIPT && name === 'description') readZapRequest(value, hints);
    const hint = HINT_OF_TAG.get(name);
    if (hint && third) hints.add(third, hint);
  }
}

/** `["relays", url, url, …]` */
function readRelaysTag(tag: readonly unknown[], hints: Hints): void {
  for (const text of tag.slice(1, MAX_HINTS)) hints.add(text, 'zap');
}

/** A receipt holds the request that it answers, as JSON. */
function readZapRequest(description: string | undefined, hints: Hints): void {
  const request = parseJson(description ?? '');
  if (!isRecord(request) || !Array.isArray(request.tags)) return;
  for (const tag of request.tags as unknown[])
    if (Array.isArray(tag) && tag[0] === 'relays') readRelaysTag(tag, hints);
}

function readContent({ kind, content }: Pick<NostrEvent, 'kind' | 'content'>, hints: Hints): void {
  if (kind === 2) hints.add(content, 'recommended_relay');
  if (kind === 3) {
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
    // Anybody may write letters that look like an entity and are none.
  }
}

/** Undefined for what is no JSON, or more of it than a list of relays can be. */
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
