/** Events that relays receive while they are archived: new ones, backdated ones, bursts. */
import type { NostrEvent } from '../../src/nostr/event.ts';
import { type Keys, makeKeys, signedEvent } from '../support/events.ts';
import type { Random } from '../support/relay-random.ts';
import type { SoakRelay } from './relays.ts';
import type { Tally } from './tally.ts';

const DAY = 86_400;
/** Events of one second: less than the smallest page, or the second could not be proven. */
const BURST = 12;

export class Arrivals {
  readonly #random: Random;
  readonly #relays: readonly SoakRelay[];
  readonly #tally: Tally;
  readonly #keys: readonly Keys[];
  readonly #seed: number;
  #count = 0;

  constructor(random: Random, relays: readonly SoakRelay[], tally: Tally, seed: number) {
    this.#random = random;
    this.#relays = relays;
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

  #deliver(name: string, events: readonly NostrEvent[], how: 'pushed' | 'silently'): void {
    for (let copies = this.#random.integer(1, 4); copies > 0; copies -= 1)
      this.#random.pick(this.#relays).receive(events, how);
    this.#tally.count(`arrived: ${name}`, events.length);
  }

  #backdated(): NostrEvent[] {
    const count = this.#random.integer(1, 3);
    return Array.from({ length: count }, () => this.#event(this.#random.integer(60, 29 * DAY)));
  }

  #event(ageSeconds: number): NostrEvent {
    this.#count += 1;
    return signedEvent({
      created_at: Math.floor(Date.now() / 1000) - ageSeconds,
      kind: this.#random.pick([1, 1, 7, 30_023]),
      tags: [['t', `soak ${this.#count % 7}`]],
      content: `arrived as number ${this.#count} in soak ${this.#seed}`,
      secretKey: this.#random.pick(this.#keys).secretKey,
    });
  }
}
