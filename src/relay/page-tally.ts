import type { Window } from '../nostr/filter.ts';

/** One REQ, its filter apart: the window and how many events are asked for. */
export interface PageRequest extends Window {
  readonly limit: number;
}

/** Whether events came newest-first, and how much that says. */
export class OrderTally {
  /** Whether each event was no newer than the one before it. */
  newestFirst = true;
  /** How unlikely that is by chance: a shuffled page shows it once in 2 to this power. */
  bits = 0;
  #count = 0;
  #sameSecond = 0;
  #last = Number.POSITIVE_INFINITY;

  add(createdAt: number): void {
    if (createdAt > this.#last) this.newestFirst = false;
    this.#count += 1;
    this.#sameSecond = createdAt === this.#last ? this.#sameSecond + 1 : 1;
    this.#last = createdAt;
    // n events, m of them in one second, have n! / m! orders; one of these is newest-first.
    this.bits += Math.log2(this.#count) - Math.log2(this.#sameSecond);
  }
}

/** Counts the events of one page as they arrive. An event counts for progress whether or not its signature holds. */
export class PageTally {
  /** Distinct events inside the asked window, older than it, newer than it; and how many were sent again. */
  inside = 0;
  below = 0;
  above = 0;
  repeats = 0;
  /** Of the events inside: the oldest and the newest second, and how many lie in the oldest. */
  oldest = Number.POSITIVE_INFINITY;
  newest = Number.NEGATIVE_INFINITY;
  inOldest = 0;
  /** In which order the events inside came, and all of them. */
  readonly order = new OrderTally();
  readonly orderOfAll = new OrderTally();
  readonly #request: PageRequest;
  readonly #ids = new Set<string>();

  constructor(request: PageRequest) {
    this.#request = request;
  }

  /** @returns false for an event that this page has shown before. */
  add(id: string, createdAt: number): boolean {
    if (this.#ids.has(id)) {
      this.repeats += 1;
      return false;
    }
    this.#ids.add(id);
    this.orderOfAll.add(createdAt);
    if (createdAt > this.#request.until) this.above += 1;
    else if (createdAt < this.#request.since) this.below += 1;
    else this.#addInside(createdAt);
    return true;
  }

  #addInside(createdAt: number): void {
    this.inside += 1;
    this.order.add(createdAt);
    if (createdAt < this.oldest) this.inOldest = 0;
    if (createdAt <= this.oldest) this.inOldest += 1;
    this.oldest = Math.min(this.oldest, createdAt);
    this.newest = Math.max(this.newest, createdAt);
  }
}
