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
 * What it takes for granted, beside what every relay must do: a relay that caps pages below 20 events answers
 * newest-first; a false answer, an EOSE before everything was sent, is followed by a true one.
 */
import type { Window } from '../nostr/filter.ts';
import { refusalOf } from '../nostr/message.ts';
import { PageHabits } from './page-habits.ts';
import type { PageRequest, PageTally } from './page-tally.ts';
import {
  agree,
  forgetAnswers,
  type Gap,
  newTask,
  type Task,
  taskOf,
  windowOf,
} from './page-task.ts';
import type { PageEnd } from './subscription.ts';

export { type PageRequest, PageTally } from './page-tally.ts';
export type { Gap } from './page-task.ts';

/**
 * Why a second stays unproven: `dense` holds as many events as a page may, `overflow` more than we take, `oversized`
 * an event that is larger.
 */
export type HoleReason = 'dense' | 'overflow' | 'oversized';

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

export interface PagerOptions {
  /** Events asked for in a page. */
  readonly limit: number;
}

/**
 * How many empty answers in a row are believed. `vouched`: pages just before agree with it; `alone`: all that the
 * relay has shown lies in one second; `silent`: it has shown nothing at all; `caught`: it has hidden events before.
 */
const EMPTY_ASKS = { vouched: 1, alone: 2, silent: 3, usual: 4, caught: 6 };
/** How often a relay may fail to answer, or contradict itself, without anything new proven, before it is given up. */
const MAX_STRIKES = 3;
/** The same for empty answers where it has shown events: they are cheap, and some relays give many. */
const MAX_CONTRADICTIONS = 6;
const SMALLEST_LIMIT = 20;

type Step = { proven?: Window[]; holes?: Hole[] };
type Eose = Extract<PageEnd['type'], 'finish' | 'more' | 'eose'>;

const NOTHING: Step = {};

export class Pager {
  /** Why reading stopped before every window was proven; null while it goes on or when it is done. */
  stopped: string | null = null;
  /** The largest limit that the relay puts up with, as far as it was tried. */
  limit: number;
  /** The limit in use: less for a while when the relay does not answer. */
  #limit: number;
  #hasLowered = false;
  #strikes = 0;
  readonly #tasks: Task[];
  readonly #habits = new PageHabits();

  /** @param gaps the windows to prove, in any order; they are read newest first. */
  constructor(gaps: readonly Gap[], { limit }: PagerOptions) {
    this.limit = limit;
    this.#limit = limit;
    this.#tasks = [...gaps].sort((a, b) => a.until - b.until).map(taskOf);
  }

  /** Whether the relay has shown nothing at all so far: what is proven then rests on its silence alone. */
  get silent(): boolean {
    return this.#habits.silent;
  }

  /** Asks for pages of this size from now on. */
  useLimit(limit: number): void {
    this.limit = limit;
    this.#limit = limit;
  }

  /** The next page to ask for; null when nothing is left or reading has stopped. */
  next(): PageRequest | null {
    const current = this.#tasks.at(-1);
    if (!current || this.stopped !== null) return null;
    return { since: current.anchor ?? current.since, until: current.until, limit: this.#limit };
  }

  /** Takes the answer to the last `next()`. */
  accept(page: PageTally, end: PageEnd): Verdict {
    const current = this.#tasks.at(-1);
    if (!current) throw new Error('a page was accepted that nobody asked for');
    this.#habits.note(page, this.#limit);
    const step = this.#judge(current, page, end);
    const proven = [...(step.proven ?? []), ...this.#takeSettled()];
    const holes = step.holes ?? [];
    if (proven.length + holes.length > 0) {
      this.#strikes = 0;
      this.#limit = Math.min(this.limit, this.#limit * 2);
    }
    return { proven, holes, evidence: end.type === 'finish' ? 'finish' : 'paging' };
  }

  #judge(current: Task, page: PageTally, end: PageEnd): Step {
    switch (end.type) {
      case 'finish':
      case 'more':
      case 'eose':
        return page.inside > 0
          ? this.#judgeAnswer(current, page, end.type)
          : this.#judgeEmpty(current, page, end.type);
      case 'overflow':
        // Smaller windows help against too much in the window, not against too much beside it.
        return page.inside > page.above + page.below + page.repeats
          ? this.#split(current, page, 'overflow')
          : this.#strike(current, `overflow: ${end.text}`);
      case 'oversized':
        return this.#splitOversized(current, page);
      case 'garbled':
        return this.#strike(current, `garbled: ${end.text}`);
      case 'timeout':
        return this.#askAgain(current, 'timeout', false);
      case 'closed':
        return this.#askAgain(current, `closed: ${end.text}`, refusalOf(end.text) === 'limit');
      case 'disconnected':
        return this.#stop(`disconnected: ${end.text}`);
      case 'aborted':
        return this.#stop('aborted');
    }
  }

  #judgeAnswer(current: Task, page: PageTally, end: Eose): Step {
    const { order } = this.#habits;
    if (current.empties > 0) this.#habits.caughtHiding = true;
    current.empties = 0;
    current.known ??= page.newest;
    this.#doubt(current);
    if (page.above > 0 && (order === 'unknown' || !page.orderOfAll.newestFirst))
      return this.#strike(current, 'ignores until');
    if (end !== 'finish') {
      const mayBeCut = end === 'more' || this.#habits.mayBeCut(page.inside, this.#limit);
      if (order === 'unordered' || (order === 'unknown' && mayBeCut))
        return this.#judgeUnordered(current, page, end);
    }
    if (current.known !== null && page.newest < current.known) return this.#miss(current);
    return end === 'finish' ? this.#done(current) : this.#judgeNewestFirst(current, page, end);
  }

  /** The page shows less than it should: a known event above its newest one is missing. Deleted, or another backend. */
  #miss(current: Task): Step {
    current.misses += 1;
    if (current.misses >= MAX_STRIKES) current.known = null;
    return NOTHING;
  }

  // Nothing in the window

  #judgeEmpty(current: Task, page: PageTally, end: Eose): Step {
    if (end === 'more') return this.#strike(current, 'says that there is more and shows nothing');
    if (page.above > 0) return this.#strike(current, 'ignores until');
    if (page.below > 0 && this.#habits.order !== 'newest-first')
      return this.#strike(current, 'ignores since');
    if (current.known !== null && !current.stale) {
      this.#habits.caughtHiding = true;
      return this.#strike(current, 'answers nothing where it has shown events', MAX_CONTRADICTIONS);
    }
    current.empties += 1;
    if (current.empties < this.#emptyAsks(current)) return NOTHING;
    if (current.anchor === null && current.known === null) return this.#done(current);
    if (this.silent) return this.#stop('shows nothing, though it has shown events before');
    current.empties = 0;
    current.known = null; // gone: deleted, expired or replaced
    return this.#dropAnchor(current);
  }

  #emptyAsks(current: Task): number {
    if (current.emptyAsks !== null) return current.emptyAsks;
    if (this.#habits.caughtHiding) return EMPTY_ASKS.caught;
    return this.silent ? EMPTY_ASKS.silent : EMPTY_ASKS.usual;
  }

  // A relay that sends newest-first

  #judgeNewestFirst(current: Task, page: PageTally, end: Eose): Step {
    if (page.oldest < current.since) return this.#done(current);
    if (page.oldest === current.until) return this.#judgeSecond(current, page, end);
    const proven = [{ since: page.oldest + 1, until: current.until }];
    if (this.#habits.order === 'unknown' && page.oldest === page.newest) {
      // One second and an order not known yet: the same question once more, before anything rests on it.
      if (!agree(current, page.inside)) return NOTHING;
      this.#splitBelow(current, page.oldest);
      return { proven };
    }
    if (current.follows !== null) this.#habits.sawCutPage = true;
    const rest = {
      ...newTask(current.since, page.oldest),
      ...{ anchor: current.anchor, known: page.oldest, follows: page.inOldest },
    };
    const wasShort = end === 'eose' && this.#habits.isShort(sizeOf(page), this.#limit);
    if (wasShort) agree(rest, page.inOldest); // it cannot have been cut: its last second was shown once
    this.#replace(rest);
    return { proven };
  }

  /** The page shows only the second it was asked to begin with: the bottom, or a second that fills a page. */
  #judgeSecond(current: Task, page: PageTally, end: Eose): Step {
    if (page.above > 0) return this.#strike(current, 'ignores until');
    if (current.anchor !== null) return this.#dropAnchor(current); // not shown: gone, or the page is full
    if (page.inside > (current.follows ?? page.inside)) this.#habits.sawCutPage = true;
    const size = sizeOf(page);
    const agreed = agree(current, page.inside);
    if (end === 'more' || this.#habits.fillsPage(size, this.#limit)) {
      const certain = agreed || this.#habits.reachesLimit(size, this.#limit);
      return certain ? this.#dense(current, page) : NOTHING;
    }
    if (agreed) this.#splitBelow(current, current.until);
    return NOTHING;
  }

  /** What lies below a second is read without it. If it shows anything, the page was cut and the second is in doubt. */
  #splitBelow(current: Task, second: number): void {
    const { since, anchor, answers, most, agreeing } = current;
    const above = { ...newTask(second, second), known: second, answers, most, agreeing };
    const emptyAsks = this.#habits.isLargest(most) ? EMPTY_ASKS.alone : EMPTY_ASKS.vouched;
    this.#replace(above, { ...newTask(since, second - 1), anchor, emptyAsks, second: above });
  }

  #doubt(current: Task): void {
    if (current.second === null) return;
    this.#habits.sawCutPage = true;
    forgetAnswers(current.second);
    current.second = null;
  }

  #dense({ since, until }: Task, page: PageTally): Step {
    this.#replace(newTask(since, until - 1));
    return { holes: [{ since: until, until, reason: 'dense', count: page.inside }] };
  }

  /** Seconds that were read together with what lies around them and need no page of their own. */
  #takeSettled(): Window[] {
    const settled: Window[] = [];
    for (let top = this.#tasks.at(-1); top && this.#isSettled(top); top = this.#tasks.at(-1)) {
      settled.push(windowOf(top));
      this.#tasks.pop();
    }
    return settled;
  }

  #isSettled({ since, until, agreeing, most }: Task): boolean {
    return since === until && agreeing >= 2 && !this.#habits.fillsPage(most, this.#limit);
  }

  // A relay that does not

  /** A window is believed when it shows well under the largest page, twice the same. */
  #judgeUnordered(current: Task, page: PageTally, end: Eose): Step {
    const habits = this.#habits;
    const size = sizeOf(page) + page.below;
    const isSecond = current.since === current.until && current.anchor === null;
    const mayBeFull = isSecond ? habits.isLargest(size) : !habits.isShort(size, this.#limit);
    if (end === 'more' || mayBeFull || habits.reachesLimit(size, this.#limit)) {
      if (page.above + page.below > page.inside)
        return this.#strike(current, 'ignores since or until');
      return this.#split(current, page, 'dense');
    }
    return agree(current, page.inside) ? this.#done(current) : NOTHING;
  }

  /** Halves the window where its events are, so that a burst is not halved from the year 1970 on. */
  #split(current: Task, page: PageTally, reason: HoleReason): Step {
    const { since, until, anchor } = current;
    const { oldest, newest, inside } = page;
    if (anchor !== null && (newest < since || since === until)) return this.#dropAnchor(current);
    if (since === until) {
      this.#replace();
      return { holes: [{ since, until, reason, count: inside }] };
    }
    if (inside > 0 && oldest === newest) return this.#splitAround(current, oldest);
    const centre = inside > 0 ? (oldest + newest) / 2 : (since + until) / 2;
    const middle = Math.min(Math.max(Math.floor(centre), since), until - 1);
    this.#replace(
      { ...newTask(since, middle), anchor, known: inside > 0 && oldest >= since ? oldest : null },
      { ...newTask(middle + 1, until), known: inside > 0 && newest > middle ? newest : null },
    );
    return NOTHING;
  }

  /** What is too large lies below all that was shown, where the newest is sent first; else somewhere in the window. */
  #splitOversized(current: Task, page: PageTally): Step {
    const { since, until, anchor } = current;
    const { oldest, newest, inside, order } = page;
    if (inside === 0 || !order.newestFirst || oldest === until)
      return this.#split(current, page, 'oversized');
    this.#replace(
      { ...newTask(since, oldest), anchor, known: oldest },
      { ...newTask(oldest + 1, until), known: newest > oldest ? newest : null },
    );
    return NOTHING;
  }

  /** One second that hides its surroundings is asked for apart from them. */
  #splitAround({ since, until, anchor }: Task, second: number): Step {
    this.#replace(
      { ...newTask(second, second), known: second },
      { ...newTask(since, second - 1), anchor },
      newTask(second + 1, until),
    );
    return NOTHING;
  }

  // Going on, and giving up

  #done(current: Task): Step {
    this.#replace();
    return { proven: [windowOf(current)] };
  }

  #replace(...tasks: Task[]): void {
    this.#strikes = 0;
    this.#tasks.pop();
    this.#tasks.push(...tasks.filter(({ since, until }) => since <= until));
  }

  #dropAnchor(current: Task): Step {
    current.anchor = null;
    if (current.known !== null && current.known < current.since) current.known = null;
    return NOTHING;
  }

  /** An answer that cannot be used. What was counted in a row begins anew, for it might have been the true one. */
  #strike(current: Task, reason: string, most = MAX_STRIKES): Step {
    forgetAnswers(current);
    this.#strikes += 1;
    return this.#strikes >= most ? this.#stop(reason) : NOTHING;
  }

  /** A relay that refuses is asked for less at once, one that does not answer the second time (LESSONS 9). */
  #askAgain(current: Task, reason: string, refusesLimit: boolean): Step {
    const canAskLess = this.#limit > SMALLEST_LIMIT;
    if (refusesLimit && !canAskLess) return this.#stop(reason);
    if (!refusesLimit) this.#strike(current, reason);
    if (!canAskLess || (!refusesLimit && this.#strikes < 2)) return NOTHING;
    this.#limit = Math.max(SMALLEST_LIMIT, Math.floor(this.#limit / 5));
    if (refusesLimit || this.#hasLowered) this.limit = this.#limit;
    this.#hasLowered = true;
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
