import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { projectFile } from './project.ts';
import { type Random, seededRandom } from './relay-random.ts';
import { type Keys, makeKeys, signEvent } from './relay-signer.ts';

export { isValidEvent, type Keys, makeKeys } from './relay-signer.ts';

const DEFAULT_KEY = makeKeys(1)[0] as Keys;

export interface EventTemplate {
  readonly created_at: number;
  /** The first key of the tests unless told. */
  readonly secretKey?: Uint8Array;
  /** 1, a text note, unless told. */
  readonly kind?: number;
  readonly tags?: string[][];
  readonly content?: string;
}

/** Signs one event (NIP-01, BIP-340). The same template gives the same event. */
export function signedEvent(template: EventTemplate): NostrEvent {
  const {
    created_at,
    kind = 1,
    tags = [],
    content = '',
    secretKey = DEFAULT_KEY.secretKey,
  } = template;
  return signEvent({ created_at, kind, tags, content }, secretKey);
}

export interface SignedEventsOptions {
  /** First and last second that events may carry, both inclusive. Equal: a burst in one second. */
  readonly from: number;
  readonly to: number;
  /** 0 unless told. Another seed gives other events. */
  readonly seed?: number;
  /** Length of each content in bytes; 60 unless told. */
  readonly contentBytes?: number;
  /** Kinds in turn; all of kind 1 unless told. */
  readonly kinds?: readonly number[];
  /** How many authors share the events; 10 unless told. */
  readonly authors?: number;
}

/** Signs `count` different events with random times in the window: newest first, ties by id. Same seed, same ids. */
export function signedEvents(count: number, options: SignedEventsOptions): NostrEvent[] {
  const { from, to, seed = 0, contentBytes = 60, kinds = [1], authors = 10 } = options;
  const random = seededRandom(seed);
  const keys = makeKeys(authors, seed);
  const events = Array.from({ length: count }, (_, index) =>
    signedEvent({
      created_at: random.integer(from, to),
      kind: kinds[index % kinds.length] ?? 1,
      content: filler(`event ${index} of seed ${seed}`, contentBytes),
      secretKey: random.pick(keys).secretKey,
    }),
  );
  return events.sort(newestFirst);
}

function filler(start: string, bytes: number): string {
  return `${start} ${'.'.repeat(Math.max(0, bytes - start.length - 1))}`;
}

/** The order of NIP-01: newest first, and by id where the second is the same. */
export function newestFirst(a: NostrEvent, b: NostrEvent): number {
  return b.created_at - a.created_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export type Forgery = 'signature' | 'id' | 'content';

/**
 * Well-formed events that must never be stored: `signature` does not hold (the id does), `id` is not the hash,
 * `content` was changed after signing. Their times lie in the window, newest first.
 */
export function forgedEvents(
  count: number,
  options: SignedEventsOptions & { readonly how?: Forgery },
): NostrEvent[] {
  const { how = 'signature' } = options;
  return signedEvents(count, options)
    .map((event, index) => forge(event, how, index))
    .sort(newestFirst);
}

/** Makes one forgery of a good event. */
export function forge(event: NostrEvent, how: Forgery, salt = 0): NostrEvent {
  if (how === 'content') return { ...event, content: `${event.content} and more` };
  if (how === 'id')
    return { ...event, id: createHash('sha256').update(`${event.id} ${salt}`).digest('hex') };
  const flipped = event.sig.endsWith('0') ? '1' : '0';
  return { ...event, sig: event.sig.slice(0, -1) + flipped };
}

/** Where the real events lie: BIGBROTR_TEST_EVENTS, or `../shared/data` beside the project. */
export function realEventsPath(): string {
  return process.env.BIGBROTR_TEST_EVENTS || projectFile('../shared/data/nostr-events.jsonl');
}

/** Reads the real events of the network, one JSON event a line; an empty list where the file is absent. */
export function realEvents(): NostrEvent[] {
  const path = realEventsPath();
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as NostrEvent);
}

/** The real events, or where that file is absent 2,000 of our own making, as mixed as the real ones are. */
export function realOrSignedEvents(): NostrEvent[] {
  const real = realEvents();
  return real.length > 0 ? real : mixedEvents(2000);
}

const MIXED_FROM = 1_660_000_000;
const MIXED_TO = 1_750_000_000;
const MIXED_CONTENTS = [
  '',
  'plain',
  'zwölf Äpfel',
  '日本語 🦊',
  'line\nbreak\ttab "quoted" \\',
  '{"name":"x"}',
];

/** Signs events of many kinds: notes, replaceable, addressable, deletions, ephemeral, expiring ones, with tags of all sorts. */
export function mixedEvents(count: number, seed = 7): NostrEvent[] {
  const random = seededRandom(seed);
  const keys = makeKeys(40, seed);
  const events: NostrEvent[] = [];
  for (let index = 0; index < count; index++) {
    events.push(signedEvent(mixedTemplate(index, random, keys, events)));
  }
  return events.sort(newestFirst);
}

const MIXED_KINDS = [1, 1, 1, 7, 7, 6, 0, 3, 4, 5, 1984, 9735, 10_002, 20_001, 30_023, 30_078];

function mixedTemplate(
  index: number,
  random: Random,
  keys: Keys[],
  earlier: NostrEvent[],
): EventTemplate {
  const author = random.pick(keys);
  const kind = random.pick(MIXED_KINDS);
  const tags = [['p', random.pick(keys).publicKey]];
  if (earlier.length > 0)
    tags.push(['e', random.pick(earlier).id, 'wss://relay.example.com', 'reply']);
  if (kind >= 30_000) tags.push(['d', `article ${random.integer(0, 3)}`]);
  if (index % 50 === 0) tags.push(['expiration', String(MIXED_TO - 1)]);
  if (index % 70 === 0) tags.push(['t', 'x'.repeat(3000)], ['empty'], ['r', '']);
  const content = `${random.pick(MIXED_CONTENTS)} ${index}`;
  return {
    created_at: random.integer(MIXED_FROM, MIXED_TO),
    kind,
    tags,
    content,
    secretKey: author.secretKey,
  };
}
