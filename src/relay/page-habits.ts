import type { PageTally } from './page-tally.ts';

/** No relay is known that caps a page below this: a page with fewer events is not thought to be cut. */
const SMALLEST_PLAUSIBLE_CAP = 20;
/** Newest-first is taken for a habit once chance would bring it about once in 2^20 times. */
const ORDER_BITS = 20;

/**
 * How many empty answers in a row are believed. `vouched`: pages just before agree with it; `alone`: all that the
 * relay has shown lies in one second; `silent`: it has shown nothing at all; `caught`: it has hidden events before.
 */
export const EMPTY_ASKS = { vouched: 1, alone: 2, silent: 3, usual: 4, caught: 6 };

/** What the pages of one relay have shown about it, in one visit. Sizes are numbers of events. */
export class PageHabits {
  order: 'unknown' | 'newest-first' | 'unordered' = 'unknown';
  /** Whether a page was followed by more of the same window. */
  sawCutPage = false;
  /** Whether it answered nothing where there was something. */
  caughtHiding = false;
  /** Whether it went on to answer nothing where it had shown events, and has shown none since. */
  isDoubtful = false;
  #largestPage = 0;
  #orderBits = 0;
  #ignoresLimit = false;

  /** Whether it has shown nothing at all. */
  get silent(): boolean {
    return this.#largestPage === 0;
  }

  /** How many empty answers in a row are believed where nothing else is known of the window. */
  get emptyAsks(): number {
    if (this.silent) return EMPTY_ASKS.silent;
    return this.caughtHiding ? EMPTY_ASKS.caught : EMPTY_ASKS.usual;
  }

  /** Learns from a page, however it ended. */
  note({ inside, order, orderOfAll }: PageTally, limit: number): void {
    this.#largestPage = Math.max(this.#largestPage, inside);
    if (inside > 0) this.isDoubtful = false;
    if (inside >= 2 * limit) this.#ignoresLimit = true; // a few too many may be forged ones on top
    this.#orderBits += orderOfAll.newestFirst ? orderOfAll.bits : order.bits;
    if (!order.newestFirst) this.order = 'unordered';
    else if (this.order === 'unknown' && this.#orderBits >= ORDER_BITS) this.order = 'newest-first';
  }

  /** Whether so many events may be part of an answer, for all that is known of relays. */
  mayBeCut(size: number, limit: number): boolean {
    return size >= Math.min(SMALLEST_PLAUSIBLE_CAP, limit);
  }

  reachesLimit(size: number, limit: number): boolean {
    return size >= limit && !this.#ignoresLimit;
  }

  /** Whether so many events of one second may be all that the relay would send of it. */
  fillsPage(size: number, limit: number): boolean {
    if (this.reachesLimit(size, limit)) return true;
    return this.isLargest(size) && (this.sawCutPage || size >= SMALLEST_PLAUSIBLE_CAP);
  }

  /** Whether no page was larger. */
  isLargest(size: number): boolean {
    return size >= this.#largestPage;
  }

  /** Whether it sends at least twice as many when there are more. */
  isShort(size: number, limit: number): boolean {
    return size * 2 <= this.#largestPage && !this.reachesLimit(size, limit);
  }
}
