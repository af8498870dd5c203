import { mayRaisePageLimit } from '../../network/relay-policy.ts';
import { refusalOf } from '../../nostr/message.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import type { Visit } from '../visit.ts';
import type { PageRequest, PageTally } from './tally.ts';

/** A claimed `max_limit` below this is ignored as a mistake, and a smaller page is assumed to be cut by chance. */
const SMALLEST_LIMIT = 20;
/** One cut lowers the page size to no less than a fifth: the cut may have been chance. */
const STEP = 5;

/**
 * The page size of one relay, stored in its policy for later visits. A size that the relay refuses, or never completes, is
 * lowered: an incomplete page proves nothing, so reading would not progress. Larger pages are tried again later.
 */
export class PageSize {
  /** The initial page size of the visit. */
  readonly limit: number;
  readonly #visit: Visit;
  /** The page size without a learnt limit. */
  readonly #usual: number;
  #mayGrow: boolean;
  #wasRefused = false;
  /** Events of the largest complete page of this visit. */
  #largestWhole = 0;
  /** The last page that ended with the connection: its oldest second, and its number of events. */
  #lastCut: { readonly place: number; readonly shown: number } | null = null;

  constructor(visit: Visit) {
    this.#visit = visit;
    this.#usual = usualLimit(visit);
    this.limit = Math.min(visit.policy.current.pageLimit ?? this.#usual, this.#usual);
    this.#mayGrow = mayRaisePageLimit(visit.policy.current, visit.context.now());
  }

  /**
   * Learns from an answer.
   *
   * @param isMissing whether it lacks a known event, as the one before
   * @returns a new page size, or null if the pager keeps its own
   */
  after(
    { limit, isProbe }: PageRequest,
    page: PageTally,
    end: PageEnd,
    isMissing: boolean,
  ): number | null {
    if (isProbe) return null;
    const learnt = this.#visit.policy.current.pageLimit;
    const isTrial = learnt !== null && limit > learnt;
    if (isTrial && isMissing) return this.#giveUp(learnt);
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
    const learnt = this.#visit.policy.current.pageLimit;
    if (!isFull || learnt === null || !this.#mayGrow) return null;
    if (limit > learnt) this.#grow(limit);
    return limit < this.#usual ? Math.min(2 * limit, this.#usual) : null;
  }

  /**
   * Whether a page may have been cut by an event that the relay cannot send, not for its size: only another page, cut
   * elsewhere after about as many events, distinguishes the two.
   */
  #isCutAtOnePlace(page: PageTally): boolean {
    const last = this.#lastCut;
    this.#lastCut = { place: page.oldest, shown: page.shown };
    if (last === null || last.place === page.oldest) return true;
    return page.shown * 2 < last.shown || last.shown * 2 < page.shown;
  }

  /** After a page was cut, if none as large was complete: tries half of what it showed. */
  #learnFromCut(page: PageTally, limit: number, how: 'timeout' | 'disconnected'): number | null {
    const { shown } = page;
    if (shown <= Math.max(1, this.#largestWhole)) return null;
    if (shown >= limit && how === 'timeout') return null; // only EOSE is missing: a smaller page does not help
    if (limit <= SMALLEST_LIMIT && shown < limit / STEP) return null; // too few events for a matter of size: chance
    const less = Math.max(Math.floor(shown / 2), Math.floor(limit / STEP), 1);
    this.#learn(less);
    return less;
  }

  #giveUp(learnt: number): number {
    this.#mayGrow = false;
    this.#learn(learnt);
    return learnt;
  }

  /** Records that the relay shows nothing in larger pages, and does in pages of this size. */
  learnShown(limit: number): number {
    this.#mayGrow = false;
    this.#learn(limit);
    return limit;
  }

  #learn(pageLimit: number): void {
    const pageLimitAt = this.#visit.context.now();
    this.#visit.policy.update((policy) => ({ ...policy, pageLimit, pageLimitAt }));
  }

  /** Raises the learnt limit to a size that works; the full size clears it. */
  #grow(limit: number): void {
    const learnt =
      limit < this.#usual ? { pageLimit: limit } : { pageLimit: null, pageLimitAt: null };
    this.#visit.policy.update((policy) => ({ ...policy, ...learnt }));
  }
}

/** The limit of the relay if its document has one (NIP-11 `max_limit`). */
function usualLimit({ context, terms }: Visit): number {
  const claimed = terms.limitation?.max_limit;
  const limit = claimed && claimed > 0 ? Math.min(context.batchSize, claimed) : context.batchSize;
  return Math.max(limit, Math.min(SMALLEST_LIMIT, context.batchSize));
}
