import type { PageTally } from './tally.ts';
import type { Task } from './task.ts';

/** No relay is known with a smaller cap: a page with fewer events is assumed to be complete. */
const SMALLEST_PLAUSIBLE_CAP = 20;
/** A relay counts as newest-first when random order would look so with a probability of 1 in 2^20. */
const ORDER_BITS = 20;

/**
 * Number of empty answers in a row that prove a window empty. `corroborated`: the previous pages agree; `singleSecond`:
 * all events of the relay lie in one second; `neverAnswered`: it has shown no event yet; `contradicted`: it gave an
 * empty answer where there was an event.
 */
export const EMPTY_CONFIRMATIONS = {
  corroborated: 1,
  singleSecond: 2,
  neverAnswered: 3,
  default: 4,
  contradicted: 6,
};

/** How a relay pages, learnt from the pages of one reading. Sizes are numbers of events. */
export class PageHabits {
  order: 'unknown' | 'newest-first' | 'unordered' = 'unknown';
  /** Whether a page was followed by more of the same window. */
  sawCutPage = false;
  /** Whether an answer was empty although there was an event. */
  hasHidden = false;
  /** Whether a known event was missing from answers in a row, and no event was shown since. */
  isDoubtful = false;
  #largestPage = 0;
  #orderBits = 0;
  #ignoresLimit = false;
  #showsUnreadable = false;

  /** Whether the relay has shown no event, nor a page of messages that cannot be read. */
  get silent(): boolean {
    return this.#largestPage === 0 && !this.#showsUnreadable;
  }

  /** Number of empty answers in a row that are needed if nothing else is known of the window. */
  get emptyConfirmations(): number {
    if (this.silent) return EMPTY_CONFIRMATIONS.neverAnswered;
    return this.hasHidden ? EMPTY_CONFIRMATIONS.contradicted : EMPTY_CONFIRMATIONS.default;
  }

  /** The same for a window: fewer if the previous pages agree, unless this relay gave an empty answer where there was an event. */
  confirmationsOf({ emptyConfirmations }: Task): number {
    const usual = this.emptyConfirmations;
    return this.hasHidden ? usual : (emptyConfirmations ?? usual);
  }

  /** The same for what lies below a second that was shown twice. */
  confirmationsBelow({ most }: Task): number {
    const { singleSecond, corroborated } = EMPTY_CONFIRMATIONS;
    return this.isLargest(most) ? singleSecond : corroborated;
  }

  /** Learns from a page, however it ended. */
  note(page: PageTally, limit: number): void {
    const { inside, above, below, newestLasting, order, orderOfAll } = page;
    this.#showsUnreadable ||= this.mayBeCut(page.unreadable, limit);
    this.#largestPage = Math.max(this.#largestPage, inside);
    if (newestLasting !== null) this.isDoubtful = false;
    if (inside >= 2 * limit) this.#ignoresLimit = true; // a small excess may be forged events on top
    // Events outside the request are not chosen by its order.
    const isWhole = above + below === 0 && orderOfAll.newestFirst;
    this.#orderBits += isWhole ? orderOfAll.bits : order.bits;
    if (!order.newestFirst) this.order = 'unordered';
    else if (this.order === 'unknown' && this.#orderBits >= ORDER_BITS) this.order = 'newest-first';
  }

  /** Whether an answer of this many events may have been truncated. */
  mayBeCut(size: number, limit: number): boolean {
    return size >= Math.min(SMALLEST_PLAUSIBLE_CAP, limit);
  }

  reachesLimit(size: number, limit: number): boolean {
    return size >= limit && !this.#ignoresLimit;
  }

  /** Whether this many events of one second may be a full page of this relay. */
  fillsPage(size: number, limit: number): boolean {
    if (this.reachesLimit(size, limit)) return true;
    return this.isLargest(size) && (this.sawCutPage || size >= SMALLEST_PLAUSIBLE_CAP);
  }

  /** Whether no page was larger. */
  isLargest(size: number): boolean {
    return size >= this.#largestPage;
  }

  /** Whether the relay has sent pages at least twice as large. */
  isShort(size: number, limit: number): boolean {
    return size * 2 <= this.#largestPage && !this.reachesLimit(size, limit);
  }
}
