import { refusalOf } from '../nostr/message.ts';
import { mayAskForMore } from '../relay/manners.ts';
import type { PageRequest, PageTally } from '../relay/page-tally.ts';
import type { PageEnd } from '../relay/subscription.ts';
import type { Visit } from './visit.ts';

/** Below this a claimed `max_limit` is taken for a mistake, and a page that showed little for cut by chance. */
const SMALLEST_LIMIT = 20;
/** What was cut once is not asked for in parts smaller than this: the relay may have had a bad moment. */
const STEP = 5;

/**
 * How many events a relay is asked for in a page, and what is learnt about it for the visits to come. A relay that
 * refuses a size, or never gets to the end of a page of it, is asked for less from then on: nothing is proven by a
 * page without an end, so that it would stay at the same place for ever. Now and then more is tried.
 */
export class PageSize {
  /** To begin with. */
  readonly limit: number;
  readonly #visit: Visit;
  /** What it would be asked for if nothing had been learnt. */
  readonly #usual: number;
  #mayGrow: boolean;
  #wasRefused = false;
  /** Events of the largest page of this visit that had an end. */
  #largestWhole = 0;
  /** The last page that ended with the connection: its oldest second, and how much it showed. */
  #lastCut: { readonly place: number; readonly shown: number } | null = null;

  constructor(visit: Visit) {
    this.#visit = visit;
    this.#usual = usualLimit(visit);
    this.limit = Math.min(visit.manners.pageLimit ?? this.#usual, this.#usual);
    this.#mayGrow = mayAskForMore(visit.manners, visit.context.now());
  }

  /** Learns from an answer. @returns the size of pages from now on, where that is not for the pager to find */
  after({ limit, isProbe }: PageRequest, page: PageTally, end: PageEnd): number | null {
    if (isProbe) return null;
    const learnt = this.#visit.manners.pageLimit;
    const isTrial = learnt !== null && limit > learnt;
    switch (end.type) {
      case 'closed':
        if (refusalOf(end.text) !== 'limit') return null;
        this.#wasRefused = !isTrial;
        return isTrial ? this.#giveUp(learnt) : null;
      case 'timeout':
        if (isTrial) return this.#giveUp(learnt);
        return end.isSlow ? this.#learnFromCut(page, limit, end.type) : null;
      case 'disconnected':
        if (isTrial) return this.#giveUp(learnt);
        return this.#isCutAtOnePlace(page) ? null : this.#learnFromCut(page, limit, end.type);
      case 'oversized':
      case 'garbled':
        return null;
      default:
        return this.#afterEnd(limit, page);
    }
  }

  #afterEnd(limit: number, page: PageTally): number | null {
    if (this.#wasRefused) this.#learn(limit);
    this.#wasRefused = false;
    this.#largestWhole = Math.max(this.#largestWhole, page.inside);
    const isFull = page.inside >= limit;
    const learnt = this.#visit.manners.pageLimit;
    if (!isFull || learnt === null || !this.#mayGrow) return null;
    if (limit > learnt) this.#grow(limit);
    return limit < this.#usual ? Math.min(2 * limit, this.#usual) : null;
  }

  /**
   * Whether a page may have been cut for what lies there and not for its size: only another page, cut elsewhere after
   * about as many events, tells that from an event that the relay cannot send.
   */
  #isCutAtOnePlace(page: PageTally): boolean {
    const last = this.#lastCut;
    this.#lastCut = { place: page.oldest, shown: page.shown };
    if (last === null || last.place === page.oldest) return true;
    return page.shown * 2 < last.shown || last.shown * 2 < page.shown;
  }

  /** A page that was cut half-way, where none as large came whole: half of what it showed may come whole. */
  #learnFromCut(page: PageTally, limit: number, how: 'timeout' | 'disconnected'): number | null {
    const { shown } = page;
    if (shown <= Math.max(1, this.#largestWhole)) return null;
    if (shown >= limit && how === 'timeout') return null; // it has sent all and does not say so: less is no help
    if (limit <= SMALLEST_LIMIT && shown < limit / STEP) return null; // a bad moment: so few are no matter of size
    const less = Math.max(Math.floor(shown / 2), Math.floor(limit / STEP), 1);
    this.#learn(less);
    return less;
  }

  #giveUp(learnt: number): number {
    this.#mayGrow = false;
    this.#learn(learnt);
    return learnt;
  }

  #learn(pageLimit: number): void {
    const pageLimitAt = this.#visit.context.now();
    this.#visit.manners = { ...this.#visit.manners, pageLimit, pageLimitAt };
  }

  /** So much works now; all that is wanted makes an end of what was learnt. */
  #grow(limit: number): void {
    const learnt =
      limit < this.#usual ? { pageLimit: limit } : { pageLimit: null, pageLimitAt: null };
    this.#visit.manners = { ...this.#visit.manners, ...learnt };
  }
}

/** The relay's own limit where it names one (NIP-11 `max_limit`). */
function usualLimit({ context, terms }: Visit): number {
  const claimed = terms.limitation?.max_limit;
  const limit = claimed && claimed > 0 ? Math.min(context.batchSize, claimed) : context.batchSize;
  return Math.max(limit, Math.min(SMALLEST_LIMIT, context.batchSize));
}
