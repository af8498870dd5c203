import { Contacts, Metadata, Reaction, RelayList, ShortTextNote } from 'nostr-tools/kinds';
import type { NostrEvent } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { isClientRefusal, refusalOf } from '../../nostr/message.ts';
import { isTransient } from '../../nostr/transient.ts';
import type { Window } from '../../nostr/window.ts';
import { hasEnd, type PageEnd } from '../../relay-client/page-end.ts';
import type { Visit } from '../visit.ts';

const HOUR = 3600;
const DAY = 24 * HOUR;
/** Windows at least this long, in seconds, are checked. */
const LONG_WINDOW = DAY;
/** How far below the upper end of the window is asked about, in seconds: one filter each, in one REQ. */
const DISTANCES = [DAY, HOUR, 30 * DAY, 365 * DAY];
/** Kinds of which most relays hold events. */
const USUAL_KINDS = [Metadata, ShortTextNote, Contacts, Reaction, RelayList];
/** Where several filters would be longer than this, one is sent: some relays accept messages of a few KB only. */
const MAX_CHARS = 1024;
/** Events requested with each filter. */
const FEW = 5;
/** Page sizes that are tried where a relay shows nothing in a larger page. */
const SMALLER_LIMITS = [100, 20];
/** The upper end of what the relay shows is found to this, in seconds, with at most this many requests. */
const PRECISION = 60;
const MAX_STEPS = 25;

/**
 * What other requests show of a window of which a page showed nothing:
 * - `empty`: nothing either.
 * - `shown`: events, the newest of these requests at `newest`. With `limit` they are shown in pages of that size. Without,
 *   what lies between `newest` and the upper end of the window is not shown, and may hold events.
 * - `by kinds`: events, but only to a filter that names kinds.
 * - `unknown`: they were not answered.
 */
export type EmptyCheck =
  | { readonly type: 'empty' }
  | { readonly type: 'shown'; readonly newest: number; readonly limit: number | null }
  | { readonly type: 'by kinds' }
  | { readonly type: 'unknown'; readonly end: PageEnd };

interface Answer {
  readonly end: PageEnd;
  /** Whether it came to its end. */
  readonly isWhole: boolean;
  /** The newest second of the window at which a lasting event was shown; null when none was. */
  readonly newest: number | null;
}

const EMPTY: EmptyCheck = { type: 'empty' };

/** Whether an empty answer for this window is checked. */
export function isWorthChecking({ since, until }: Window): boolean {
  return until - since >= LONG_WINDOW;
}

/**
 * Asks differently about a long window that a relay shows empty, however often it is asked the same. A relay may count
 * `limit` before it leaves out what it does not serve, such as 500 direct messages in a row; it may show nothing where
 * `limit` is larger than it likes, or where a filter names no kinds. One REQ tells them from a relay that holds nothing.
 */
export class EmptyWindows {
  readonly #visit: Visit;

  constructor(visit: Visit) {
    this.#visit = visit;
  }

  /** @param limit of the pages. @param isSilent whether the relay has shown no event at all. @throws DatabaseError */
  async check(window: Window, limit: number, isSilent: boolean): Promise<EmptyCheck> {
    const { filter } = this.#visit.context;
    const mayNeedKinds = isSilent && !filter.kinds && !filter.ids && !filter.authors;
    const below = DISTANCES.map((distance) => window.until - distance)
      .filter((until) => until >= window.since)
      .map((until) => this.#filter({ ...window, until }, FEW));
    const byKinds = mayNeedKinds ? [{ ...filter, kinds: USUAL_KINDS, limit: FEW }] : [];
    const [first] = below;
    const filters = [...byKinds, ...below];
    const isLong = JSON.stringify(filters).length > MAX_CHARS;
    let answer = await this.#ask(isLong && first ? first : filters, window);
    if (first && !isLong && this.#mayAskOne(answer)) answer = await this.#ask(first, window);
    if (answer.newest === null)
      return answer.isWhole ? EMPTY : { type: 'unknown', end: answer.end };
    return this.#locate(window, limit, answer.newest, mayNeedKinds);
  }

  /** Whether several filters in one REQ may have been too much. */
  #mayAskOne({ end, isWhole, newest }: Answer): boolean {
    if (isWhole || newest !== null) return false;
    return end.type !== 'closed' || !isClientRefusal(refusalOf(end.text));
  }

  async #locate(
    window: Window,
    limit: number,
    shown: number,
    mayNeedKinds: boolean,
  ): Promise<EmptyCheck> {
    for (const smaller of SMALLER_LIMITS.filter((size) => size < limit)) {
      const { newest } = await this.#ask(this.#filter(window, smaller), window);
      if (newest !== null) return { type: 'shown', newest, limit: smaller };
    }
    const { newest } = await this.#ask(this.#filter({ ...window, until: shown }, limit), window);
    if (newest === null)
      return mayNeedKinds ? { type: 'by kinds' } : { type: 'shown', newest: shown, limit: null };
    return { type: 'shown', newest: await this.#highest(window, limit, newest), limit: null };
  }

  /** The newest event that the relay shows to a request with some `until` below the upper end of the window. */
  async #highest(window: Window, limit: number, shown: number): Promise<number> {
    const since = Math.max(0, shown - 1); // the event at `shown` tells an answer from one that shows nothing
    let [low, high, newest] = [shown, window.until, shown];
    for (let steps = 0; steps < MAX_STEPS && high - low > PRECISION; steps += 1) {
      if (this.#visit.interruption() !== null) break;
      const middle = Math.floor((low + high) / 2);
      const answer = await this.#ask(this.#filter({ since, until: middle }, limit), window);
      if (answer.newest === null) high = middle;
      else [low, newest] = [middle, Math.max(newest, answer.newest)];
    }
    return newest;
  }

  #filter({ since, until }: Window, limit: number): ReqFilter {
    const { filter } = this.#visit.context;
    return { ...filter, ...(since > 0 && { since }), until, limit };
  }

  async #ask(filters: ReqFilter | readonly ReqFilter[], { since, until }: Window): Promise<Answer> {
    const visit = this.#visit;
    if (!visit.session.connection.isOpen) await visit.reconnect();
    const now = visit.context.now();
    let newest: number | null = null;
    const add = (_id: string, createdAt: number, event?: NostrEvent) => {
      const isShown = event && createdAt >= since && createdAt <= until && !isTransient(event, now);
      if (isShown) newest = Math.max(newest ?? createdAt, createdAt);
      return true;
    };
    const end = await visit.askOptional(filters, { add });
    return { newest, end, isWhole: hasEnd(end) };
  }
}
