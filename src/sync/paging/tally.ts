import type { Window } from '../../nostr/window.ts';

/** One REQ without its filter: the window and the number of events requested. */
export interface PageRequest extends Window {
  readonly limit: number;
  /** The wanted window. The request is a second wider on a side where the bound of the relay may be exclusive. */
  readonly wanted?: Window;
  /** Whether it is deliberately smaller than a page, so that nothing is learnt about the page size. */
  readonly isProbe?: boolean;
}

/** Whether events came newest-first, and how significant that is. */
export class OrderTally {
  /** Whether each event was no newer than the one before it. */
  newestFirst = true;
  /** Significance in bits: random order looks so with a probability of 2 to the power of minus this. */
  bits = 0;
  #count = 0;
  #sameSecond = 0;
  #last = Number.POSITIVE_INFINITY;

  add(createdAt: number): void {
    if (createdAt > this.#last) this.newestFirst = false;
    this.#count += 1;
    this.#sameSecond = createdAt === this.#last ? this.#sameSecond + 1 : 1;
    this.#last = createdAt;
    // n events, m of them in one second, have n! / m! orders, one of them newest-first.
    this.bits += Math.log2(this.#count) - Math.log2(this.#sameSecond);
  }
}

/**
 * Whether the relay is expected to show an event again: `lasting` events are. A transient one (ephemeral, expired) is
 * `passing` when it is shown for the first time, since a relay may pass it on without storing it, and `repeated` once it
 * was shown by an earlier page: the relay stores it, and may drop it at any time.
 */
export type Presence = 'lasting' | 'repeated' | 'passing';

/** Counts the events of one page as they arrive. An event counts for progress whether or not its signature is valid. */
export class PageTally {
  /** Number of distinct events inside the wanted window, older and newer than the request; and of repeated ones. */
  inside = 0;
  below = 0;
  above = 0;
  repeats = 0;
  /** Events in the extra second at either end, by which the request is wider than the wanted window. */
  justAbove = 0;
  justBelow = 0;
  /** Events at exactly the bounds of the request: one of these shows that the bound is inclusive. */
  atSince = 0;
  atUntil = 0;
  /** Of the events inside: the oldest and the newest second, and how many lie in the oldest. */
  oldest = Number.POSITIVE_INFINITY;
  newest = Number.NEGATIVE_INFINITY;
  inOldest = 0;
  /** Of the lasting events inside: the oldest and the newest second; null without any. */
  oldestLasting: number | null = null;
  newestLasting: number | null = null;
  /** Number of passing events, at any time. They use up the page, and show nothing of the window. */
  passing = 0;
  /** Number of messages that may be events and whose time cannot be read. They use up the page, too. */
  unreadable = 0;
  /** The order of the events inside, and of all events. */
  readonly order = new OrderTally();
  readonly orderOfAll = new OrderTally();
  readonly #request: PageRequest;
  readonly #wanted: Window;
  readonly #ids = new Set<string>();

  constructor(request: PageRequest) {
    this.#request = request;
    this.#wanted = request.wanted ?? request;
  }

  /** Number of events that may have used up the page before, or instead of, those in its window. */
  get size(): number {
    const beside = this.above + this.justAbove + this.justBelow;
    return this.inside + beside + this.repeats + this.passing + this.unreadable;
  }

  /** Number of events that the page showed, with repetitions. */
  get shown(): number {
    return this.size + this.below;
  }

  /** A second at which the relay is expected to show an event again: the oldest that it has shown; null if not. */
  get knownOldest(): number | null {
    return this.oldestLasting === this.oldest ? this.oldest : null;
  }

  /** Whether the page holds as many events of its window as were requested. A probe is too small to tell. */
  get reachesLimit(): boolean {
    return this.#request.isProbe !== true && this.inside >= this.#request.limit;
  }

  /** Number of events that were requested. */
  get limit(): number {
    return this.#request.limit;
  }

  /** @returns false for a repeated event. */
  add(id: string, createdAt: number, presence: Presence = 'lasting'): boolean {
    if (this.#ids.has(id)) {
      this.repeats += 1;
      return false;
    }
    this.#ids.add(id);
    if (presence === 'passing') {
      this.passing += 1;
      return true;
    }
    this.orderOfAll.add(createdAt);
    const { since, until } = this.#request;
    if (createdAt === since && since > 0) this.atSince += 1; // a REQ from 0 on has no `since`
    if (createdAt === until) this.atUntil += 1;
    if (createdAt > until) this.above += 1;
    else if (createdAt < since) this.below += 1;
    else if (createdAt > this.#wanted.until) this.justAbove += 1;
    else if (createdAt < this.#wanted.since) this.justBelow += 1;
    else this.#addInside(createdAt, presence);
    return true;
  }

  addUnreadable(count: number): void {
    this.unreadable += count;
  }

  #addInside(createdAt: number, presence: Presence): void {
    this.inside += 1;
    this.order.add(createdAt);
    if (createdAt < this.oldest) this.inOldest = 0;
    if (createdAt <= this.oldest) this.inOldest += 1;
    this.oldest = Math.min(this.oldest, createdAt);
    this.newest = Math.max(this.newest, createdAt);
    if (presence !== 'lasting') return;
    this.oldestLasting = Math.min(this.oldestLasting ?? createdAt, createdAt);
    this.newestLasting = Math.max(this.newestLasting ?? createdAt, createdAt);
  }
}
