/// <reference lib="es2024.string" />
// The line above declares String.prototype.isWellFormed, which Node.js has since version 20.
import { hash } from 'node:crypto';

/** An event as NIP-01 puts it on the wire. */
export interface NostrEvent {
  id: string;
  pubkey: string;
  created_at: number;
  kind: number;
  tags: string[][];
  content: string;
  sig: string;
}

declare const identified: unique symbol;

/**
 * A well-formed event whose id is the SHA-256 of its serialisation. Its signature is not checked
 * yet. Only {@link parseEvent} makes one.
 */
export type IdentifiedEvent = NostrEvent & { readonly [identified]: 'IdentifiedEvent' };

/** Why an event was refused: one stable word, for counting. */
export type InvalidReason =
  | 'not_object'
  | 'id'
  | 'pubkey'
  | 'created_at'
  | 'kind'
  | 'tags'
  | 'content'
  | 'sig'
  | 'too_large'
  | 'id_mismatch'
  | 'bad_signature';

export type ParsedEvent =
  | { ok: true; event: IdentifiedEvent }
  | { ok: false; reason: InvalidReason; createdAt?: number };

/** Why PostgreSQL cannot store an event exactly; see {@link storageObstacle}. */
export type StorageObstacle = 'nul' | 'lone_surrogate';

/**
 * The latest `created_at` that is accepted, in seconds (the year 19391). The archive packs `created_at` into 39 bits of an
 * event's 64-bit key.
 */
export const MAX_CREATED_AT = 2 ** 39 - 1;

/** The largest kind of NIP-01. */
const MAX_KIND = 65_535;

/**
 * The largest event, in bytes of its NIP-01 serialisation in UTF-8: 4 MiB, 64 times the default
 * cap of strfry. The JSON on the wire can be longer (a relay may escape every character), so the
 * cap on a message has to be higher than this one.
 */
export const MAX_EVENT_BYTES = 4 * 1024 * 1024;

/**
 * The most tags of one event. Follow lists of 20,000 and more are real; one that fills
 * {@link MAX_EVENT_BYTES} with `["p", "<64 hex>"]` has 55,000. Only empty tags get past 100,000.
 */
export const MAX_TAGS = 100_000;

/** The most strings in all tags of one event together: four for each tag that is allowed. */
export const MAX_TAG_STRINGS = 4 * MAX_TAGS;

/**
 * Parses one untrusted value, as returned by `JSON.parse`, into an event whose id matches. Structure and limits are
 * checked first, so nothing large is hashed. The seven fields of NIP-01 are copied into a new object, each read once; any
 * other field is dropped.
 *
 * An empty tag (`[]`) is accepted: NIP-01 speaks of "one or more strings", but relays store such events, and their id and
 * signature match.
 *
 * The id is computed as the network does: over `JSON.stringify`. NIP-01 names seven escapes and requires every other
 * character verbatim; nostr-tools, rust-nostr, go-nostr and strfry nevertheless write the remaining control characters
 * (U+0000 to U+001F) as `\u00xx`, as JSON requires, and so does this. An id over raw control characters is an
 * `id_mismatch` here as it is there. Lone surrogates are written as `\udxxx`: UTF-8 cannot encode them.
 *
 * Never throws on anything that `JSON.parse` can return. A refusal carries `createdAt` when the event has a well-formed
 * time: paging needs it, whatever else is wrong.
 */
export function parseEvent(value: unknown): ParsedEvent {
  if (!isRecord(value)) return { ok: false, reason: 'not_object' };
  const createdAt = createdAtOf(value);
  const event = readFields(value, createdAt);
  if (typeof event === 'string') return refuse(event, createdAt);
  const text = serializeForId(event);
  if (exceedsBytes(text, MAX_EVENT_BYTES)) return refuse('too_large', createdAt);
  if (hash('sha256', text, 'hex') !== event.id) return refuse('id_mismatch', createdAt);
  return { ok: true, event: event as IdentifiedEvent };
}

/**
 * The `created_at` of an untrusted value in seconds, or null when it is missing or malformed. It shows how far a page
 * reached, even when the event itself is refused.
 */
export function createdAtOf(value: unknown): number | null {
  if (!isRecord(value) || !Object.hasOwn(value, 'created_at')) return null;
  return integerUpTo(value.created_at, MAX_CREATED_AT);
}

const DECIMAL = /^\d{1,12}(?:\.\d{1,9})?$/;

/** The day of the first commit of Nostr, 2020-11-07 UTC, in Unix seconds. */
const NOSTR_BEGAN = 1_604_707_200;

/**
 * The second, rounded up, at which a relay places an event with a malformed `created_at`: a fraction, or a number in
 * quotes, of a time since Nostr began. Null when it is none of these: `1.5` may stand anywhere on a page. It shows how far
 * a page reached; the event is refused.
 */
export function roughTimeOf(value: unknown): number | null {
  if (!isRecord(value) || !Object.hasOwn(value, 'created_at')) return null;
  const time = value.created_at;
  const number = typeof time === 'string' && DECIMAL.test(time) ? Number(time) : time;
  if (typeof number !== 'number' || number < NOSTR_BEGAN) return null;
  return integerUpTo(Math.ceil(number), MAX_CREATED_AT);
}

/**
 * Why PostgreSQL cannot return this event bit for bit, or null when it can. `text` cannot hold NUL (SQLSTATE 22021) and
 * `jsonb` cannot hold `\u0000` (22P05). A lone surrogate has no UTF-8 encoding: the driver would store U+FFFD instead, and
 * the event would never verify again. (PostgreSQL, chapters 8.3 and 8.14.)
 */
export function storageObstacle(event: NostrEvent): StorageObstacle | null {
  const obstacle = obstacleIn(event.content);
  if (obstacle !== null) return obstacle;
  for (const tag of event.tags) {
    for (const text of tag) {
      const found = obstacleIn(text);
      if (found !== null) return found;
    }
  }
  return null;
}

/**
 * The event as JSON, in the form in which the quarantine holds events with a {@link storageObstacle}. The text itself is
 * well-formed and free of NUL, since those characters are escaped; parsing it gives the same event, bit for bit.
 */
export function serializeEvent(event: NostrEvent): string {
  const { id, pubkey, created_at, kind, tags, content, sig } = event;
  return JSON.stringify({ id, pubkey, created_at, kind, tags, content, sig });
}

function refuse(reason: InvalidReason, createdAt: number | null): ParsedEvent {
  return createdAt === null ? { ok: false, reason } : { ok: false, reason, createdAt };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads own fields only, never those of a prototype. */
function own(value: Record<string, unknown>, field: keyof NostrEvent): unknown {
  return Object.hasOwn(value, field) ? value[field] : undefined;
}

function readFields(
  value: Record<string, unknown>,
  created_at: number | null,
): NostrEvent | InvalidReason {
  const id = own(value, 'id');
  if (!isLowerHex(id, 64)) return 'id';
  const pubkey = own(value, 'pubkey');
  if (!isLowerHex(pubkey, 64)) return 'pubkey';
  if (created_at === null) return 'created_at';
  const kind = integerUpTo(own(value, 'kind'), MAX_KIND);
  if (kind === null) return 'kind';
  const tags = readTags(own(value, 'tags'));
  if (typeof tags === 'string') return tags;
  const content = own(value, 'content');
  if (typeof content !== 'string') return 'content';
  if (content.length > MAX_EVENT_BYTES) return 'too_large';
  const sig = own(value, 'sig');
  if (!isLowerHex(sig, 128)) return 'sig';
  return { id, pubkey, created_at, kind, tags, content, sig };
}

function readTags(value: unknown): string[][] | 'tags' | 'too_large' {
  if (!Array.isArray(value)) return 'tags';
  if (value.length > MAX_TAGS) return 'too_large';
  const tags: string[][] = [];
  let strings = 0;
  let units = 0;
  for (const item of value as unknown[]) {
    if (!Array.isArray(item)) return 'tags';
    strings += item.length;
    if (strings > MAX_TAG_STRINGS) return 'too_large';
    const tag: unknown[] = item.slice();
    for (const text of tag) {
      if (typeof text !== 'string') return 'tags';
      units += text.length;
    }
    tags.push(tag as string[]);
  }
  return units > MAX_EVENT_BYTES ? 'too_large' : tags;
}

const LOWER_HEX = new Uint8Array(128);
for (const digit of '0123456789abcdef') LOWER_HEX[digit.charCodeAt(0)] = 1;

/** By a table: the three fields take 0.5 µs this way, and 1.5 µs by regular expression. */
function isLowerHex(value: unknown, length: number): value is string {
  if (typeof value !== 'string' || value.length !== length) return false;
  for (let index = 0; index < length; index++) {
    if (LOWER_HEX[value.charCodeAt(index)] !== 1) return false;
  }
  return true;
}

/** The number if it is an integer from 0 to `max`, else null. JSON allows -0, which becomes 0. */
function integerUpTo(value: unknown, max: number): number | null {
  if (typeof value !== 'number' || !Number.isInteger(value)) return null;
  return value >= 0 && value <= max ? value || 0 : null;
}

function serializeForId(event: NostrEvent): string {
  const { pubkey, created_at, kind, tags, content } = event;
  return JSON.stringify([0, pubkey, created_at, kind, tags, content]);
}

/** One UTF-16 unit is one to three bytes in UTF-8, so most texts need no counting. */
function exceedsBytes(text: string, max: number): boolean {
  if (text.length * 3 <= max) return false;
  return text.length > max || Buffer.byteLength(text) > max;
}

function obstacleIn(text: string): StorageObstacle | null {
  if (text.includes('\0')) return 'nul';
  return text.isWellFormed() ? null : 'lone_surrogate';
}
