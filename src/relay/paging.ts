/**
 * Reading a stretch of a relay's history page by page, and saying what each page proves (DESIGN section 5).
 * Pure: no I/O and no clock. The caller asks `next()`, sends that REQ, tallies what comes back and gives it to
 * `accept()`, which answers with the windows that are now proven complete and the seconds that cannot be.
 *
 * How it reads. A task is a window still to be proven; the newest is read first.
 * - A page that arrived newest-first proves everything above its oldest second. The next page begins at that
 *   second, inclusive, so nothing between two pages is lost; a page that gets past a second proves that second.
 * - The bottom is reached when a page shows nothing but its own top second. Such a page cannot be a relay that
 *   answers nothing, since it shows what we know it has. Two of them must agree; then what lies below that second
 *   is asked for without it, so that neither kind of false end, empty or early, is believed by itself.
 * - A gap above covered time is read from the anchor, the newest second below it where this relay showed an
 *   event before: one page that shows the anchor proves the gap, however little is new.
 * - A page out of order proves nothing; its window is halved until the counts stay well under the largest page.
 * - A second that fills a page is reported as dense: only NIP-77 can prove it.
 *
 * What it takes for granted: a relay that caps pages below SMALLEST_PLAUSIBLE_CAP answers newest-first; a false
 * answer (an EOSE before everything was sent) is followed by a true one; `finish` is not said falsely.
 */
import type { Window } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import type { PageRequest, PageTally } from './page-tally.ts';
import type { PageEnd } from './subscription.ts';

export { type PageRequest, PageTally } from './page-tally.ts';

/** A window to prove. */
export interface Gap extends Window {
  /** A second below it at which the relay was seen to hold an event. */
  readonly anchor: number | null;
  /** A second inside it at which the relay was seen to hold an event, in an earlier visit. */
  readonly known?: number | null;
}

/** Why a second stays unproven: `dense` holds as many events as a page may, `overflow` more than we take. */
export type HoleReason = 'dense' | 'overflow';

export interface Hole extends Window {
  readonly reason: HoleReason;
  /** Events that the relay showed in it. */
  readonly count: number;
}

export interface Verdict {
  readonly proven: readonly Window[];
  readonly holes: readonly Hole[];
  readonly evidence: 'paging' | 'finish';
}

/** No relay is known that caps a page below this: a page with fewer events is not thought to be cut. */
const SMALLEST_PLAUSIBLE_CAP = 20;
/** Newest-first is taken for a habit once chance would have brought it about once in 2^20 times. */
const ORDER_BITS = 20;
/**
 * How many empty answers in a row are believed. `vouched`: pages just before agree with it; `alone`: all that the
 * relay has shown lies in one second; `silent`: it has shown nothing at all; `caught`: it has hidden events before.
 */
const EMPTY_ASKS = { vouched: 1, alone: 2, silent: 3, usual: 4, caught: 6 };
/** How often in a row a relay may fail to answer, or contradict itself, before the visit gives up on it. */
const MAX_STRIKES = 3;
/** The same for empty answers where it has shown events: they are cheap, and some relays give many. */
const MAX_CONTRADICTIONS = 6;
/** Two answers must agree. When more than this many do not, the largest stands. */
const MAX_ANSWERS = 6;
const SMALLEST_LIMIT = 20;

interface Task {
  since: number;
  until: number;
  anchor: number | null;
  /** A second of the window at which the relay has shown an event; null when none is known. */
  known: number | null;
  /** Whether it did so in an earlier visit only: the event may be gone by now. */
  stale: boolean;
  /** How many events of `until` the page showed that ended there: if there are more, it was cut. */
  follows: number | null;
  /** How many empty answers are believed here, where that does not depend on the relay. */
  emptyAsks: number | null;
  /** The second above, which was split off: if anything shows up below, it is in doubt. */
  second: Task | null;
  empties: number;
  misses: number;
  answers: number;
  /** The largest answer, and how many answers were as large. */
  most: number;
  agreeing: number;
}

type Step = { proven?: Window[]; holes?: Hole[] };

const NOTHING: Step = {};

export interface PagerOptions {
  /** Events asked for in a page. */
  readonly limit: number;
}

export class Pager {
  /** Why reading stopped before every window was proven; null while it goes on or when it is done. */
  stopped: string | null = null;
  /** The limit now in use: lowered when the relay refuses or does not answer. */
  limit: number;
  #limitCeiling: number;
  readonly #tasks: Task[];
  #largestPage = 0;
  #ignoresLimit = false;
  /** Whether a page was ever followed by more of the same window. */
  #sawCutPage = false;
  #order: 'unknown' | 'newest-first' | 'unordered' = 'unknown';
  #orderBits = 0;
  #caughtHiding = false;
  #strikes = 0;

  /** @param gaps the windows to prove, in any order; they are read newest first. */
  constructor(gaps: readonly Gap[], options: PagerOptions) {
    this.limit = options.limit;
    this.#limitCeiling = options.limit;
    this.#tasks = [...gaps].sort((a, b) => a.until - b.until).map(taskOf);
  }

  /** Whether the relay has shown nothing at all so far: what is proven then rests on its silence alone. */
  get silent(): boolean {
    return this.#largestPage === 0;
  }

  /** The next page to ask for; null when nothing is left or reading has stopped. */
  next(): PageRequest | null {
    const current = this.#tasks.at(-1);
    if (!current || this.stopped !== null) return null;
    return { since: current.anchor ?? current.since, until: current.until, limit: this.limit };
  }

  /** Takes the answer to the last `next()`. */
  accept(page: PageTally, end: PageEnd): Verdict {
    const current = this.#tasks.at(-1);
    if (!current) throw new Error('a page was accepted that nobody asked for');
    this.#note(page);
    const step = this.#judge(current, page, end);
    const proven = [...(step.proven ?? []), ...this.#takeSettled()];
    const holes = step.holes ?? [];
    if (proven.length + holes.length > 0) this.#progress();
    return { proven, holes, evidence: end.type === 'finish' ? 'finish' : 'paging' };
  }

  /** What any page tells about the relay, however it ended. */
  #note(page: PageTally): void {
    this.#largestPage = Math.max(this.#largestPage, page.inside);
    if (page.inside > this.limit) this.#ignoresLimit = true;
    const { order, orderOfAll } = page;
    this.#orderBits += orderOfAll.newestFirst ? orderOfAll.bits : order.bits;
    if (!order.newestFirst) this.#order = 'unordered';
    else if (this.#order === 'unknown' && this.#orderBits >= ORDER_BITS)
      this.#order = 'newest-first';
  }

  #judge(current: Task, page: PageTally, end: PageEnd): Step {
    switch (end.type) {
      case 'finish':
      case 'more':
      case 'eose':
        return page.inside > 0
          ? this.#judgeAnswer(current, page, end.type)
          : this.#judgeEmpty(current, page, end.type === 'more');
      case 'overflow':
        return this.#split(current, page, 'overflow');
      case 'timeout':
        return this.#askAgain('timeout', false);
      case 'closed':
        return this.#askAgain(`closed: ${end.text}`, refusalOf(end.text) === 'limit');
      case 'disconnected':
        return this.#stop(`disconnected: ${end.text}`);
      case 'aborted':
        return this.#stop('aborted');
    }
  }

  #judgeAnswer(current: Task, page: PageTally, end: 'finish' | 'more' | 'eose'): Step {
    if (current.empties > 0) this.#caughtHiding = true;
    Object.assign(current, { known: current.known ?? page.newest, empties: 0 });
    this.#doubt(current);
    if (page.above > 0 && (this.#order === 'unknown' || !page.orderOfAll.newestFirst))
      return this.#strike('ignores until');
    const more = end === 'more';
    const mayBeCut = more || page.inside >= Math.min(SMALLEST_PLAUSIBLE_CAP, this.limit);
    if (end !== 'finish') {
      if (this.#order === 'unordered' || (this.#order === 'unknown' && mayBeCut))
        return this.#judgeUnordered(current, page, more);
    }
    if (current.known !== null && page.newest < current.known) return this.#miss(current);
    return end === 'finish' ? this.#done(current) : this.#judgeNewestFirst(current, page, more);
  }

  // Nothing in the window

  #judgeEmpty(current: Task, page: PageTally, more: boolean): Step {
    if (more) return this.#strike('says that there is more and shows nothing');
    if (page.above > 0) return this.#strike('ignores until');
    if (page.below > 0 && this.#order !== 'newest-first') return this.#strike('ignores since');
    if (current.known !== null && !current.stale) {
      this.#caughtHiding = true;
      return this.#strike('answers nothing where it has shown events', MAX_CONTRADICTIONS);
    }
    current.empties += 1;
    if (current.empties < this.#emptyAsks(current)) return NOTHING;
    if (current.anchor === null && current.known === null) return this.#done(current);
    if (this.silent) return this.#stop('shows nothing, though it has shown events before');
    Object.assign(current, { anchor: null, known: null, empties: 0 }); // gone: deleted, expired or replaced
    return NOTHING;
  }

  #emptyAsks(current: Task): number {
    if (current.emptyAsks !== null) return current.emptyAsks;
    if (this.#caughtHiding) return EMPTY_ASKS.caught;
    return this.silent ? EMPTY_ASKS.silent : EMPTY_ASKS.usual;
  }

  // A relay that sends newest-first

  #judgeNewestFirst(current: Task, page: PageTally, more: boolean): Step {
    if (page.oldest < current.since) return this.#done(current);
    if (page.oldest === current.until) return this.#judgeSecond(current, page, more);
    const proven = { since: page.oldest + 1, until: current.until };
    if (this.#order === 'unknown' && page.oldest === page.newest) {
      // One second and an order not known yet: the same question once more, before anything rests on it.
      if (!this.#agree(current, page.inside)) return NOTHING;
      this.#splitBelow(current, page.oldest);
      return { proven: [proven] };
    }
    if (current.follows !== null) this.#sawCutPage = true;
    const rest = {
      ...newTask(current.since, page.oldest),
      ...{ anchor: current.anchor, known: page.oldest, follows: page.inOldest },
    };
    if (!more && this.#isShort(page)) this.#agree(rest, page.inOldest); // its last second counts as shown once
    this.#replace(rest);
    return { proven: [proven] };
  }

  /** The page shows less than it should: a known event above its newest one is missing. Deleted, or another backend. */
  #miss(current: Task): Step {
    current.misses += 1;
    if (current.misses >= MAX_STRIKES) current.known = null;
    return NOTHING;
  }

  /** The page shows only the second it was asked to begin with: the bottom, or a second that fills a page. */
  #judgeSecond(current: Task, page: PageTally, more: boolean): Step {
    if (current.anchor !== null) {
      current.anchor = null; // it lies below and was not shown: the event there is gone, or the page is full
      return NOTHING;
    }
    if (page.above > 0) return this.#strike('ignores until');
    if (current.follows !== null && page.inside > current.follows) this.#sawCutPage = true;
    const size = sizeOf(page);
    const agreed = this.#agree(current, page.inside);
    if (more || this.#fillsPage(size)) {
      if (!agreed && !this.#reachesLimit(size)) return NOTHING;
      return this.#dense(current, page, more);
    }
    if (!agreed) return NOTHING;
    this.#splitBelow(current, current.until);
    return NOTHING;
  }

  /** What lies below a second is read without it. If it shows anything, the page was cut and the second is in doubt. */
  #splitBelow(current: Task, second: number): void {
    const { most, agreeing, answers, anchor, since } = current;
    const above = { ...newTask(second, second), known: second, most, agreeing, answers };
    const asks = most < this.#largestPage ? EMPTY_ASKS.vouched : EMPTY_ASKS.alone;
    this.#replace(above, {
      ...newTask(since, second - 1),
      ...{ anchor, emptyAsks: asks, second: above },
    });
  }

  #doubt(current: Task): void {
    if (current.second === null) return;
    this.#sawCutPage = true;
    Object.assign(current.second, { most: 0, agreeing: 0, answers: 0 });
    current.second = null;
  }

  #dense(current: Task, page: PageTally, certain: boolean): Step {
    const { since, until } = current;
    if (certain) this.#sawCutPage = true;
    this.#replace(newTask(since, until - 1));
    return { holes: [{ since: until, until, reason: 'dense', count: page.inside }] };
  }

  /** Seconds that were read together with what lies around them and need no page of their own. */
  #takeSettled(): Window[] {
    const settled: Window[] = [];
    for (let top = this.#tasks.at(-1); top && this.#isSettled(top); top = this.#tasks.at(-1)) {
      this.#tasks.pop();
      settled.push({ since: top.since, until: top.until });
    }
    return settled;
  }

  #isSettled({ since, until, agreeing, most }: Task): boolean {
    return since === until && agreeing >= 2 && !this.#fillsPage(most);
  }

  // A relay that does not

  /** A window is believed when it shows well under the largest page, twice the same. */
  #judgeUnordered(current: Task, page: PageTally, more: boolean): Step {
    const size = sizeOf(page) + page.below;
    const isSecond = current.since === current.until && current.anchor === null;
    const full = isSecond ? size >= this.#largestPage : size * 2 > this.#largestPage;
    if (more || full || this.#reachesLimit(size)) {
      if (page.above + page.below > page.inside) return this.#strike('ignores since or until');
      return this.#split(current, page, 'dense');
    }
    return this.#agree(current, page.inside) ? this.#done(current) : NOTHING;
  }

  /** Halves the window where its events are, so that a burst is not halved from the year 1970 on. */
  #split(current: Task, page: PageTally, reason: HoleReason): Step {
    const { since, until, anchor } = current;
    const { oldest, newest, inside } = page;
    if (anchor !== null && (newest < since || since === until)) {
      current.anchor = null; // what fills the page lies at the anchor: read the window without it
      return NOTHING;
    }
    if (since === until) {
      this.#tasks.pop();
      return { holes: [{ since, until, reason, count: inside }] };
    }
    if (inside > 0 && oldest === newest) return this.#splitAround(current, oldest);
    const centre = inside > 0 ? (oldest + newest) / 2 : (since + until) / 2;
    const middle = Math.min(Math.max(Math.floor(centre), since), until - 1);
    this.#replace(
      { ...newTask(since, middle), anchor, known: oldest >= since && inside > 0 ? oldest : null },
      { ...newTask(middle + 1, until), known: newest > middle && inside > 0 ? newest : null },
    );
    return NOTHING;
  }

  /** One second that hides its surroundings is asked for apart from them. */
  #splitAround(current: Task, second: number): Step {
    this.#replace(
      { ...newTask(second, second), known: second },
      { ...newTask(current.since, second - 1), anchor: current.anchor },
      newTask(second + 1, current.until),
    );
    return NOTHING;
  }

  // How large a page is

  #reachesLimit(size: number): boolean {
    return size >= this.limit && !this.#ignoresLimit;
  }

  #fillsPage(size: number): boolean {
    if (this.#reachesLimit(size)) return true;
    return size >= this.#largestPage && (this.#sawCutPage || size >= SMALLEST_PLAUSIBLE_CAP);
  }

  #isShort(page: PageTally): boolean {
    const size = sizeOf(page);
    return size * 2 <= this.#largestPage && !this.#reachesLimit(size);
  }

  /** Notes how many events an answer showed. @returns whether two answers of the largest count so far have come. */
  #agree(current: Task, count: number): boolean {
    current.answers += 1;
    if (count > current.most) Object.assign(current, { most: count, agreeing: 0 });
    if (count === current.most) current.agreeing += 1;
    if (current.answers >= MAX_ANSWERS) current.agreeing = Math.max(current.agreeing, 2);
    return current.agreeing >= 2;
  }

  // Going on, and giving up

  #done(current: Task): Step {
    this.#tasks.pop();
    return { proven: [{ since: current.since, until: current.until }] };
  }

  #replace(...tasks: Task[]): void {
    this.#strikes = 0;
    this.#tasks.pop();
    this.#tasks.push(...tasks.filter(({ since, until }) => since <= until));
  }

  #progress(): void {
    this.#strikes = 0;
    this.limit = Math.min(this.#limitCeiling, this.limit * 2);
  }

  #strike(reason: string, most = MAX_STRIKES): Step {
    this.#strikes += 1;
    return this.#strikes >= most ? this.#stop(reason) : NOTHING;
  }

  /** A relay that refuses is asked for less at once, one that does not answer the second time (LESSONS 9). */
  #askAgain(reason: string, refusesLimit: boolean): Step {
    const canAskLess = this.limit > SMALLEST_LIMIT;
    if (refusesLimit && !canAskLess) return this.#stop(reason);
    if (!refusesLimit) this.#strike(reason);
    if (!canAskLess || (!refusesLimit && this.#strikes < 2)) return NOTHING;
    this.limit = Math.max(SMALLEST_LIMIT, Math.floor(this.limit / 5));
    if (refusesLimit) this.#limitCeiling = this.limit;
    return NOTHING;
  }

  #stop(reason: string): Step {
    this.stopped = reason;
    return NOTHING;
  }
}

/** Everything that may have taken up room in a page before, or instead of, what lies in its window. */
function sizeOf({ inside, above, repeats }: PageTally): number {
  return inside + above + repeats;
}

function taskOf({ since, until, anchor, known = null }: Gap): Task {
  return { ...newTask(since, until), anchor, known, stale: known !== null };
}

function newTask(since: number, until: number): Task {
  return {
    ...{ since, until, anchor: null, known: null, stale: false, follows: null },
    ...{ emptyAsks: null, second: null },
    ...{ empties: 0, misses: 0, answers: 0, most: 0, agreeing: 0 },
  };
}
