/** Events that relays receive while they are archived: new ones, backdated ones, bursts. */
import { randomBytes } from 'node:crypto';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { type Keys, makeKeys, signedEvent } from '../../fixtures/events.ts';
import type { Random } from '../../fixtures/random.ts';
import type { Names } from './names.ts';
import type { SoakRelay } from './relays.ts';
import type { SoakRelays } from './start-relays.ts';
import type { Tally } from './tally.ts';

const DAY = 86_400;
/** Events of one second: less than the smallest page, or the second could not be proven. */
const BURST = 12;
/** One event in this number names relays. */
const NAMES_EVERY = 5;
/** Events that fill the rest of a disk: their number, size in bytes and time span. */
const LARGE = { count: 6, bytes: 40_000, withinSeconds: 2 * DAY };

export class Arrivals {
  readonly #random: Random;
  readonly #relays: readonly SoakRelay[];
  readonly #tally: Tally;
  readonly #keys: readonly Keys[];
  readonly #seed: number;
  readonly #names: Names;
  #count = 0;

  constructor(random: Random, { honest, model }: SoakRelays, tally: Tally, seed: number) {
    this.#random = random;
    this.#relays = honest;
    this.#names = model.names;
    this.#tally = tally;
    this.#keys = makeKeys(10, seed);
    this.#seed = seed;
  }

  /** Lets a few events arrive somewhere; those that are pushed come to several relays at once. */
  arrive(): void {
    const lot = this.#random.next();
    if (lot < 0.6) this.#deliver('new events', [this.#event(this.#random.integer(0, 5))], 'pushed');
    else if (lot < 0.75) this.#deliver('backdated events', this.#backdated(), 'pushed');
    else if (lot < 0.97) this.#deliver('backdated events, silently', this.#backdated(), 'silently');
    else {
      const burst = Array.from({ length: BURST }, () => this.#event(0));
      this.#deliver('bursts', burst, 'pushed');
    }
  }

  /** Lets events arrive that no compression makes small, at relays that somebody listens to if there are any. */
  arriveLarge(): void {
    const large = Array.from({ length: LARGE.count }, () => {
      const content = randomBytes((LARGE.bytes * 3) / 4).toString('base64');
      return this.#event(this.#random.integer(0, LARGE.withinSeconds), content);
    });
    this.#deliver('large events', large, 'pushed');
  }

  /** Lets an event arrive that names relays. */
  arriveNaming(): void {
    const now = Math.floor(Date.now() / 1000);
    this.#deliver('events that name relays', [this.#names.event(now)], 'pushed');
  }

  #deliver(name: string, events: readonly NostrEvent[], how: 'pushed' | 'silently'): void {
    for (let copies = this.#random.integer(1, 4); copies > 0; copies -= 1)
      this.#random.pick(this.#relays).receive(events, how);
    this.#tally.count(`arrived: ${name}`, events.length);
  }

  #backdated(): NostrEvent[] {
    const count = this.#random.integer(1, 3);
    return Array.from({ length: count }, () => this.#event(this.#random.integer(60, 29 * DAY)));
  }

  #event(ageSeconds: number, content?: string): NostrEvent {
    this.#count += 1;
    const createdAt = Math.floor(Date.now() / 1000) - ageSeconds;
    if (content === undefined && this.#count % NAMES_EVERY === 0)
      return this.#names.event(createdAt);
    return signedEvent({
      created_at: createdAt,
      kind: this.#random.pick([1, 1, 7, 30_023]),
      tags: [['t', `soak ${this.#count % 7}`]],
      content: content ?? `arrived as number ${this.#count} in soak ${this.#seed}`,
      secretKey: this.#random.pick(this.#keys).secretKey,
    });
  }
}
