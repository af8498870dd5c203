import type { Window } from '../nostr/filter.ts';

/** One REQ, its filter apart: the window and how many events are asked for. */
export interface PageRequest extends Window {
  readonly limit: number;
  /** What it is asked for. The request is wider by a second on a side where the relay may take its bound as exclusive. */
  readonly wanted?: Window;
  /** Whether it is smaller than a page on purpose, and tells nothing of the size that the relay takes. */
  readonly isProbe?: boolean;
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
  /** Distinct events inside the wanted window, older and newer than the request; and how many were sent again. */
  inside = 0;
  below = 0;
  above = 0;
  repeats = 0;
  /** Events of the second by which the request is wider than what is wanted, at either end. */
  justAbove = 0;
  justBelow = 0;
  /** Events at exactly the bounds of the request: a relay that shows one takes that bound as inclusive. */
  atSince = 0;
  atUntil = 0;
  /** Of the events inside: the oldest and the newest second, and how many lie in the oldest. */
  oldest = Number.POSITIVE_INFINITY;
  newest = Number.NEGATIVE_INFINITY;
  inOldest = 0;
  /** In which order the events inside came, and all of them. */
  readonly order = new OrderTally();
  readonly orderOfAll = new OrderTally();
  readonly #request: PageRequest;
  readonly #wanted: Window;
  readonly #ids = new Set<string>();

  constructor(request: PageRequest) {
    this.#request = request;
    this.#wanted = request.wanted ?? request;
  }

  /** Everything that may have taken up room in the page before, or instead of, what lies in its window. */
  get size(): number {
    return this.inside + this.above + this.repeats + this.justAbove + this.justBelow;
  }

  /** Everything that the page showed, each event as often as it came. */
  get shown(): number {
    return this.size + this.below;
  }

  /** @returns false for an event that this page has shown before. */
  add(id: string, createdAt: number): boolean {
    if (this.#ids.has(id)) {
      this.repeats += 1;
      return false;
    }
    this.#ids.add(id);
    this.orderOfAll.add(createdAt);
    const { since, until } = this.#request;
    if (createdAt === since && since > 0) this.atSince += 1; // a REQ from 0 on names no `since`
    if (createdAt === until) this.atUntil += 1;
    if (createdAt > until) this.above += 1;
    else if (createdAt < since) this.below += 1;
    else if (createdAt > this.#wanted.until) this.justAbove += 1;
    else if (createdAt < this.#wanted.since) this.justBelow += 1;
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
