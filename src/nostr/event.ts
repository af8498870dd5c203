/// <reference lib="es2024.string" />
// The line above brings the type of String.prototype.isWellFormed, which every Node.js since 20 has.
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

/** Why an event was refused; one stable word for counters. */
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

/** Why PostgreSQL cannot hold an event exactly; see {@link storageObstacle}. */
export type StorageObstacle = 'nul' | 'lone_surrogate';

/**
 * The latest `created_at` that is accepted, in seconds (the year 19391). The archive packs
 * `created_at` into 39 bits of an event's 64-bit key, so a later one has no place there.
 */
export const MAX_CREATED_AT = 2 ** 39 - 1;

/** The largest kind of NIP-01. */
export const MAX_KIND = 65_535;

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
 * Parses one untrusted value, as it came out of `JSON.parse`, into an event whose id holds.
 * Structure and caps are checked first, so nothing large is hashed. The seven fields of NIP-01 are
 * copied into an object of our own, each read once; any other field is dropped.
 *
 * An empty tag (`[]`) is accepted: NIP-01 speaks of "one or more strings", but relays store such
 * events, and the id and the signature hold.
 *
 * The id is checked as the network computes it: over `JSON.stringify`. NIP-01 names seven escapes
 * and wants every other character verbatim. nostr-tools, rust-nostr, go-nostr and strfry write the
 * remaining control characters (U+0000 to U+001F) as `\u00xx` all the same, as JSON demands, and so
 * do we; an id made over raw control characters is an `id_mismatch` here as it is there. Lone
 * surrogates are written as `\udxxx`: UTF-8 has no other form of them.
 *
 * Never throws on anything that `JSON.parse` can return. `createdAt` comes with a refusal when the
 * event names a well-formed time: paging goes by it, whatever else is wrong.
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
 * The `created_at` of an untrusted value in seconds, or null where it is missing or malformed.
 * It tells how far a page reached even when the event around it is refused.
 */
export function createdAtOf(value: unknown): number | null {
  if (!isRecord(value) || !Object.hasOwn(value, 'created_at')) return null;
  return integerUpTo(value.created_at, MAX_CREATED_AT);
}

/**
 * Why PostgreSQL cannot give this event back bit for bit, or null where it can. `text` has no NUL
 * (SQLSTATE 22021) and `jsonb` no `\u0000` (22P05); a lone surrogate has no UTF-8 form, so the
 * driver would store U+FFFD in its place and the event would never verify again. (PostgreSQL,
 * chapters 8.3 and 8.14.)
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
 * The event as JSON, in the form in which events with a {@link storageObstacle} are set aside. The
 * text itself is well-formed and free of NUL, for those characters are escaped in it; parsed again
 * it gives the same event, bit for bit.
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

/** Only own fields count, so that nothing is ever read from a prototype. */
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

/** A table, as the three fields take 1.5 µs by regular expression and 0.5 µs this way. */
function isLowerHex(value: unknown, length: number): value is string {
  if (typeof value !== 'string' || value.length !== length) return false;
  for (let index = 0; index < length; index++) {
    if (LOWER_HEX[value.charCodeAt(index)] !== 1) return false;
  }
  return true;
}

/** The number where it is an integer from 0 to `max`, else null. JSON has a -0; it becomes 0. */
function integerUpTo(value: unknown, max: number): number | null {
  if (typeof value !== 'number' || !Number.isInteger(value)) return null;
  return value >= 0 && value <= max ? value || 0 : null;
}

function serializeForId(event: NostrEvent): string {
  const { pubkey, created_at, kind, tags, content } = event;
  return JSON.stringify([0, pubkey, created_at, kind, tags, content]);
}

/** One UTF-16 unit is one to three bytes of UTF-8, so most texts need no counting. */
function exceedsBytes(text: string, max: number): boolean {
  if (text.length * 3 <= max) return false;
  return text.length > max || Buffer.byteLength(text) > max;
}

function obstacleIn(text: string): StorageObstacle | null {
  if (text.includes('\0')) return 'nul';
  return text.isWellFormed() ? null : 'lone_surrogate';
}
