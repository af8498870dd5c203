/** What the events of a soak name, and by whom: the model that the finder is compared with. */
import { naddrEncode, neventEncode, nprofileEncode } from 'nostr-tools/nip19';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { type Keys, makeKeys, signedEvent } from '../../fixtures/events.ts';
import type { Random } from '../../fixtures/random.ts';

/** What is at a name, and so what has to come of it. */
export type Place =
  /** A relay of the seed list: it is known already. */
  | 'known'
  /** A relay that no seed list names: it has to be found. */
  | 'hidden'
  /** Somebody who is no relay, or nobody: it is asked, and never becomes one. */
  | 'no relay'
  /** On a network that nothing here leads to: it is remembered and never asked. */
  | 'unreachable'
  /** What must not even be remembered. */
  | 'forbidden';

/** Something that events name. */
export interface Target {
  readonly place: Place;
  /** As the archive has to spell it; of what is forbidden, how it is written. */
  readonly url: string;
}

/** One event that names a relay. */
export interface Naming {
  readonly id: string;
  readonly author: string;
  /** Its `created_at`. */
  readonly at: number;
}

type Write = (
  texts: readonly string[],
  author: Keys,
) => Pick<NostrEvent, 'kind' | 'tags' | 'content'>;

const ID = '0'.repeat(63);

const tagged =
  (kind: number, tag: string): Write =>
  (texts) => ({ kind, tags: texts.map((text) => [tag, text]), content: '' });
const hinted =
  (kind: number, tag: string): Write =>
  (texts) => ({
    kind,
    tags: texts.map((text, index) => [tag, `${ID}${index % 10}`, text]),
    content: 'a hint',
  });
const entity =
  (encode: (relays: string[], pubkey: string) => string): Write =>
  (texts, { publicKey }) => ({
    kind: 1,
    tags: [],
    content: `look at nostr:${encode([...texts], publicKey)}, it is worth it`,
  });

/** Ways in which an event names relays (docs/finder.md). */
const WRITERS: readonly Write[] = [
  tagged(10_002, 'r'),
  tagged(10_050, 'relay'),
  tagged(30_002, 'relay'),
  hinted(1, 'e'),
  hinted(1, 'p'),
  hinted(7, 'e'),
  hinted(6, 'q'),
  ([text = '']) => ({ kind: 2, tags: [], content: text }),
  (texts) => ({
    kind: 3,
    tags: [['p', `${ID}1`, '']],
    content: JSON.stringify(Object.fromEntries(texts.map((text) => [text, { read: true }]))),
  }),
  ([text = '']) => ({ kind: 30_166, tags: [['d', text]], content: '' }),
  (texts) => ({ kind: 9734, tags: [['relays', ...texts]], content: '' }),
  (texts) => ({
    kind: 9735,
    tags: [['description', JSON.stringify({ tags: [['relays', ...texts]] })]],
    content: '',
  }),
  entity((relays, pubkey) => nprofileEncode({ pubkey, relays })),
  entity((relays) => neventEncode({ id: `${ID}2`, relays })),
  entity((relays, pubkey) => naddrEncode({ identifier: 'soak', pubkey, kind: 30_023, relays })),
];

/** These have room for one name. */
const NAMES_ONE: ReadonlySet<number> = new Set([2, 30_166]);
/** Number of keys that sign events with relay URLs: below the number of authors that are counted for a URL. */
const AUTHORS = 12;

/** Spellings of one name: the archive has to make one of them. */
const SPELLINGS: readonly ((url: string) => string)[] = [
  (url) => url,
  (url) => url,
  (url) => `${url}/`,
  (url) => ` ${url}`,
  (url) => url.replace('ws:', 'WS:'),
  (url) => url.replace('127.0.0.1', '127.1'),
  (url) => `${url}#main`,
];

/** Makes events that name something, and keeps who has named what. */
export class Names {
  readonly #random: Random;
  readonly #targets: readonly Target[];
  readonly #keys: readonly Keys[];
  readonly #namings = new Map<string, Naming[]>();
  readonly #ids = new Set<string>();
  #written = 0;

  /** @param targets what any event may name */
  constructor(random: Random, targets: readonly Target[], seed: number) {
    this.#random = random;
    this.#targets = targets;
    this.#keys = makeKeys(AUTHORS, seed + 77);
  }

  /** How many events name something. */
  get events(): number {
    return this.#ids.size;
  }

  /** Who has named this, in whatever spelling: whether the event was ever archived is for the archive to say. */
  namings(url: string): readonly Naming[] {
    return this.#namings.get(url) ?? [];
  }

  /** An event that names some of the targets, or these. */
  event(createdAt: number, targets: readonly Target[] = this.#some()): NostrEvent {
    const author = this.#random.pick(this.#keys);
    const texts = targets.map((target) => this.#text(target));
    const written = this.#random.pick(WRITERS)(texts, author);
    this.#written += 1;
    const event = signedEvent({
      ...written,
      created_at: createdAt,
      tags: [...written.tags, ['alt', `names relays, number ${this.#written}`]],
      secretKey: author.secretKey,
    });
    const named = NAMES_ONE.has(event.kind) ? targets.slice(0, 1) : targets;
    for (const target of named) this.#note(target, event);
    return event;
  }

  #some(): readonly Target[] {
    return this.#random.shuffle(this.#targets).slice(0, this.#random.integer(1, 4));
  }

  #text({ url, place }: Target): string {
    return place === 'forbidden' ? url : this.#random.pick(SPELLINGS)(url);
  }

  #note({ url, place }: Target, { id, pubkey, created_at }: NostrEvent): void {
    this.#ids.add(id);
    if (place === 'forbidden') return;
    const namings = this.#namings.get(url) ?? [];
    if (!namings.some((naming) => naming.id === id))
      namings.push({ id, author: pubkey, at: created_at });
    this.#namings.set(url, namings);
  }
}
