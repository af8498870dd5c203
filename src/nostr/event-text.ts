import { hash } from 'node:crypto';
import {
  type IdentifiedEvent,
  MAX_CREATED_AT,
  type NostrEvent,
  type ParsedEvent,
  parseEvent,
} from './event.ts';

/**
 * Events as they stand in the frames of relays, not parsed. Most events that arrive are archived already: to recognise one
 * takes its id, its signature, and a hash over its fields as they were written, but neither its tags nor its content.
 */

/** Longer frames are parsed: they are few, and a part of a string keeps all of it in memory. */
const MAX_CHARS = 64 * 1024;
const HEAD = '["EVENT","';
const [QUOTE, BACKSLASH, COMMA, COLON, OPEN, CLOSE, BEGIN, END, ZERO, NINE] = [
  0x22, 0x5c, 0x2c, 0x3a, 0x5b, 0x5d, 0x7b, 0x7d, 0x30, 0x39,
] as const;
/** A copy of a part of a string that does not keep the whole in memory. */
const scratch = Buffer.alloc(128);

declare const hashed: unique symbol;

/**
 * An event text whose id is the SHA-256 of its fields as they were written. Where the archive, or this process, has verified
 * an event of this id, the text is the NIP-01 serialisation of that event, since both have the same hash. Where not, its id
 * proves nothing: it may be the hash of other escapes or spaces than those of NIP-01, or of no JSON at all (`identify`).
 * Only {@link hashEvent} makes one.
 */
export type HashedEvent = EventText & { readonly [hashed]: 'HashedEvent' };

/** An event that was received, and whose id is a hash of it. */
export type ReceivedEvent = IdentifiedEvent | HashedEvent;

/** An event in a frame. Its fields are claims. */
export class EventText implements NostrEvent {
  readonly id: string;
  readonly pubkey: string;
  readonly created_at: number;
  readonly kind: number;
  readonly sig: string;
  /** JSON of the tags and of the content, as they were written. */
  readonly tagsText: string;
  readonly contentText: string;
  #tags: string[][] | null = null;

  constructor(fields: Fields) {
    this.id = flat(fields.id);
    this.pubkey = fields.pubkey;
    this.created_at = Number(fields.created_at);
    this.kind = Number(fields.kind);
    this.sig = flat(fields.sig);
    this.tagsText = fields.tags;
    this.contentText = fields.content;
  }

  /** Parsed when first read; none if they are not well-formed. */
  get tags(): string[][] {
    this.#tags ??= tagsOf(parsed(this.tagsText));
    return this.#tags;
  }

  /** Parsed each time; empty if it is not well-formed. */
  get content(): string {
    const content = parsed(this.contentText);
    return typeof content === 'string' ? content : '';
  }
}

/** The subscription and the event of an EVENT frame in the usual form: without spaces, with the seven fields of NIP-01. Null for any other. */
export function readEventFrame(
  data: string,
): { readonly subscription: string; readonly event: EventText } | null {
  if (data.length > MAX_CHARS || !data.startsWith(HEAD) || !data.endsWith('}]')) return null;
  const end = data.indexOf('"', HEAD.length);
  const subscription = data.slice(HEAD.length, end);
  if (subscription.includes('\\') || data.charCodeAt(end + 1) !== COMMA) return null;
  const fields = readFields(data, end + 2);
  return fields === null ? null : { subscription, event: new EventText(fields) };
}

/** Hashes the fields as they were written. @returns null if that is not the id */
export function hashEvent(event: EventText): HashedEvent | null {
  const { id, pubkey, created_at, kind, tagsText, contentText } = event;
  const text = `[0,"${pubkey}",${created_at},${kind},${tagsText},${contentText}]`;
  return hash('sha256', text, 'hex') === id ? (event as HashedEvent) : null;
}

/** Parses an event text as `parseEvent` does. Never throws. */
export function identify(event: EventText): ParsedEvent {
  const { id, pubkey, created_at, kind, sig } = event;
  const tags = parsed(event.tagsText);
  const content = parsed(event.contentText);
  return parseEvent({ id, pubkey, created_at, kind, tags, content, sig });
}

/** Whether the event may have a tag of this name, without parsing its tags where they are text. */
export function mayHaveTag(event: Pick<NostrEvent, 'tags'>, name: string): boolean {
  return !(event instanceof EventText) || event.tagsText.includes(`"${name}"`);
}

interface Fields {
  id: string;
  pubkey: string;
  created_at: string;
  kind: string;
  tags: string;
  content: string;
  sig: string;
}

/** The fields of the object that begins at a place and ends before the last character. Null unless each is there once. */
function readFields(data: string, begin: number): Fields | null {
  const fields: Partial<Fields> = {};
  if (data.charCodeAt(begin) !== BEGIN) return null;
  let at = begin + 1;
  for (let count = 0; count < 7; count++) {
    const nameEnd = data.indexOf('"', at + 1);
    if (data.charCodeAt(at) !== QUOTE || data.charCodeAt(nameEnd + 1) !== COLON) return null;
    const name = data.slice(at + 1, nameEnd) as keyof Fields;
    const from = nameEnd + 2;
    const to = endOfField(data, name, from);
    if (to === null || fields[name] !== undefined) return null;
    fields[name] = isQuoted(name) ? data.slice(from + 1, to - 1) : data.slice(from, to);
    at = to + 1;
    if (data.charCodeAt(to) !== (count < 6 ? COMMA : END)) return null;
  }
  const isWhole = at === data.length - 1 && isInRange(fields as Fields);
  return isWhole ? (fields as Fields) : null;
}

function isQuoted(name: keyof Fields): boolean {
  return name === 'id' || name === 'pubkey' || name === 'sig';
}

function isInRange({ created_at, kind }: Fields): boolean {
  return Number(created_at) <= MAX_CREATED_AT && Number(kind) <= 0xffff;
}

/** The place after the value of a field; null if it is not of the usual form. */
function endOfField(data: string, name: string, from: number): number | null {
  switch (name) {
    case 'id':
    case 'pubkey':
      return endOfHex(data, from, 64);
    case 'sig':
      return endOfHex(data, from, 128);
    case 'created_at':
    case 'kind':
      return endOfNumber(data, from);
    case 'content':
      return data.charCodeAt(from) === QUOTE ? endOfString(data, from) : null;
    case 'tags':
      return endOfArray(data, from);
    default:
      return null;
  }
}

const LOWER_HEX = new Uint8Array(128);
for (const digit of '0123456789abcdef') LOWER_HEX[digit.charCodeAt(0)] = 1;

function endOfHex(data: string, from: number, length: number): number | null {
  const end = from + 1 + length;
  if (data.charCodeAt(from) !== QUOTE || data.charCodeAt(end) !== QUOTE) return null;
  for (let at = from + 1; at < end; at++) if (LOWER_HEX[data.charCodeAt(at)] !== 1) return null;
  return end + 1;
}

/** Of a number without sign, fraction, exponent or leading zeros. */
function endOfNumber(data: string, from: number): number | null {
  let at = from;
  while (data.charCodeAt(at) >= ZERO && data.charCodeAt(at) <= NINE) at += 1;
  const hasLeadingZero = data.charCodeAt(from) === ZERO && at > from + 1;
  return at === from || hasLeadingZero ? null : at;
}

function endOfString(data: string, from: number): number | null {
  for (let at = data.indexOf('"', from + 1); at >= 0; at = data.indexOf('"', at + 1)) {
    let before = at - 1;
    while (data.charCodeAt(before) === BACKSLASH) before -= 1;
    if ((at - before) % 2 === 1) return at + 1;
  }
  return null;
}

/** Of arrays of strings, as deep as they may be. What is in between is not looked at closely: the hash does that. */
function endOfArray(data: string, from: number): number | null {
  if (data.charCodeAt(from) !== OPEN) return null;
  let depth = 0;
  for (let at = from; at < data.length; ) {
    const code = data.charCodeAt(at);
    if (code === QUOTE) {
      const end = endOfString(data, at);
      if (end === null) return null;
      at = end;
      continue;
    }
    if (code === OPEN) depth += 1;
    else if (code === CLOSE) depth -= 1;
    else if (code !== COMMA) return null;
    at += 1;
    if (depth === 0) return at;
  }
  return null;
}

function flat(text: string): string {
  return scratch.toString('latin1', 0, scratch.write(text, 0, 'latin1'));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function tagsOf(value: unknown): string[][] {
  const isWellFormed =
    Array.isArray(value) &&
    value.every((tag) => Array.isArray(tag) && tag.every((text) => typeof text === 'string'));
  return isWellFormed ? (value as string[][]) : [];
}
