/**
 * Reading a stretch of a relay's history page by page, and saying what each page proves.
 * Pure: no I/O and no clock. The caller asks `next()`, sends that REQ, tallies what comes back and gives it to
 * `accept()`, which answers with the windows that are now proven complete and the seconds that cannot be.
 *
 * How it reads. A task is a window still to be proven; the newest is read first.
 * - A page that arrived newest-first proves everything above its oldest second, at which the next page begins.
 * - The bottom is reached when two pages show nothing but their own top second, and a third, without it, nothing.
 * - A gap above covered time is read from the anchor, the newest second below it that this relay has shown.
 * - A page out of order proves nothing; its window is halved until the counts stay well under the largest page.
 * - What is known and not shown is a contradiction, and never a proof (`page-misses.ts`). A relay may take the bounds
 *   of a filter as exclusive (`page-bounds.ts`), and break off at one place (`page-failures.ts`).
 *
 * What it takes for granted, beside what every relay must do: a relay that caps pages below 20 events answers
 * newest-first; a false answer, an EOSE before everything was sent, is followed by a true one.
 */
import { PageBounds } from './page-bounds.ts';
import { divide } from './page-divide.ts';
import { PageFailures } from './page-failures.ts';
import { EMPTY_ASKS, PageHabits } from './page-habits.ts';
import { PageLimit } from './page-limit.ts';
import { anchorMissing, knownShown, missed, missedAlone, missedStale } from './page-misses.ts';
import { belowSecond } from './page-split.ts';
import type { PageRequest, PageTally } from './page-tally.ts';
import { agree, forgetAnswers, type Gap, newTask, type Task, windowOf } from './page-task.ts';
import { PageTasks } from './page-tasks.ts';
import { denseAtTop, NOTHING, type Step, stop, type Verdict } from './page-verdict.ts';
import type { PagerStop, Stopped } from './pager-stop.ts';
import type { PageEnd } from './subscription.ts';

export { type PageRequest, PageTally } from './page-tally.ts';
export type { Gap } from './page-task.ts';
export type { Hole, HoleReason, Verdict } from './page-verdict.ts';
export { type PagerStop, type Stopped, stopText } from './pager-stop.ts';

export interface PagerOptions {
  /** Events asked for in a page. */
  readonly limit: number;
}

/** How often a relay may contradict itself, without anything new proven, before it is given up. */
const MAX_STRIKES = 3;

/** How often it may show nothing where it has shown events, without anything new proven. */
const MAX_HIDINGS = 20;

type Eose = Extract<PageEnd['type'], 'finish' | 'more' | 'eose'>;

export class Pager {
  /** Why reading stopped before every window was proven; null while it goes on or when it is done. */
  stopped: Stopped | null = null;
  #strikes = 0;
  #hidings = 0;
  readonly #tasks: PageTasks;
  #asked: PageRequest | null = null;
  /** A second at which a page with an end has shown an event. */
  #shownSecond: number | null = null;
  #hasAskedForBounds = false;
  /** Whether an earlier visit has seen events of this relay: it is no relay that has none. */
  readonly #hasHints: boolean;
  readonly #limit: PageLimit;
  readonly #habits = new PageHabits();
  readonly #bounds = new PageBounds();
  readonly #failures: PageFailures;

  /** @param gaps the windows to prove, in any order; they are read newest first. */
  constructor(gaps: readonly Gap[], { limit }: PagerOptions) {
    this.#limit = new PageLimit(limit);
    this.#failures = new PageFailures(this.#limit);
    this.#tasks = new PageTasks(gaps);
    this.#hasHints = this.#tasks.haveHints;
  }

  /** The largest limit that the relay puts up with, as far as it was tried. */
  get limit(): number {
    return this.#limit.largest;
  }

  /** Whether the relay has shown nothing at all so far: what is proven then rests on its silence alone. */
  get silent(): boolean {
    return this.#habits.silent;
  }

  /** Whether one more empty answer would be believed of a relay that has shown nothing at all. */
  get isAboutToBelieveSilence(): boolean {
    const current = this.#tasks.current;
    return (
      current !== undefined &&
      this.silent &&
      current.empties + 1 >= (current.emptyAsks ?? this.#habits.emptyAsks)
    );
  }

  /** Whether the next page is a part of a window that broke off: it is expected to do so again. */
  get isNarrowing(): boolean {
    return this.#failures.hasAnswered && (this.#tasks.current?.isNarrowed ?? false);
  }

  /** Asks for pages of this size from now on. */
  useLimit(limit: number): void {
    this.#limit.use(limit);
  }

  /** Ends the reading for a reason that lies outside of the pages. */
  stop(reason: PagerStop, text = ''): void {
    this.stopped ??= { reason, text };
  }

  /** The next page to ask for; null when nothing is left or reading has stopped. */
  next(): PageRequest | null {
    const current = this.#tasks.current;
    if (!current || this.stopped !== null) return null;
    this.#asked = this.#bounds.request(current, this.#limit.inUse);
    return this.#asked;
  }

  /** Takes the answer to the last `next()`. */
  accept(page: PageTally, end: PageEnd): Verdict {
    const current = this.#tasks.current;
    if (!current || !this.#asked) throw new Error('a page was accepted that nobody asked for');
    this.#habits.note(page, this.#asked.limit);
    this.#bounds.note(page);
    const step = this.#judge(current, page, end);
    if (step.stop) this.stopped = step.stop;
    // What lies below a second was not shown to be empty: the second is in doubt.
    if (step.tasks && !step.proven && current.second) forgetAnswers(current.second);
    if (step.tasks) {
      this.#strikes = 0;
      this.#tasks.replace(current, step.tasks);
    }
    if (this.#failures.isBroken) this.#askForControl(current, step);
    const proven = [
      ...(step.proven ?? []),
      ...this.#tasks.takeWhile((task) => this.#isSettled(task)),
    ];
    const holes = step.holes ?? [];
    if (proven.length + holes.length > 0) {
      this.#strikes = 0;
      this.#hidings = 0;
      this.#limit.recover();
    }
    return { proven, holes, evidence: end.type === 'finish' ? 'finish' : 'paging' };
  }

  #judge(current: Task, page: PageTally, end: PageEnd): Step {
    switch (end.type) {
      case 'finish':
      case 'more':
      case 'eose':
        return this.#judgeEnd(current, page, end.type);
      case 'overflow':
        // Smaller windows help against too much in the window, not against too much beside it.
        return page.inside > page.shown - page.inside
          ? divide(current, page, 'overflow')
          : this.#strike(current, 'overflow', end.text);
      case 'garbled': // a matter of the relay, not of a place in its history
        return this.#strike(current, 'garbled', end.text);
      case 'aborted':
        return stop('aborted');
      default:
        if (current.isControl) return this.#failures.judgeControl(end);
        if (page.inside > 0) this.#doubt(current);
        // A request that is wider than a second may break off for what lies beside it.
        if (current.since === current.until && !this.#bounds.areKnown && this.#tasks.defer(current))
          return NOTHING;
        return this.#failures.judge(current, page, end, this.#shownSecond !== null);
    }
  }

  /** A page that came to its end, as the relay says. */
  #judgeEnd(current: Task, page: PageTally, end: Eose): Step {
    this.#failures.noteAnswer(current);
    if (current.isControl) return this.#judgeControl(current, page);
    if (current.alone) return missedAlone(current, page);
    if (page.inside === 0) return this.#judgeEmpty(current, page, end);
    this.#shownSecond = page.newest;
    return this.#judgeAnswer(current, page, end);
  }

  #judgeAnswer(current: Task, page: PageTally, end: Eose): Step {
    const { order } = this.#habits;
    const limit = this.#asked?.limit ?? 0;
    if (current.empties > 0) this.#habits.caughtHiding = true;
    current.empties = 0;
    current.known ??= page.newest;
    this.#doubt(current);
    if (page.above > 0 && (order === 'unknown' || !page.orderOfAll.newestFirst))
      return this.#strike(current, 'ignores_until');
    if (current.doubt && this.#asked) this.#bounds.noteDoubtful(page, this.#asked, current);
    if (end !== 'finish') {
      const mayBeCut = end === 'more' || this.#habits.mayBeCut(page.inside, limit);
      if (order === 'unordered' || (order === 'unknown' && mayBeCut))
        return this.#judgeUnordered(current, page, end);
    }
    const { known } = current;
    const isBelow = known !== null && known >= current.since && known < page.oldest;
    if (known !== null && (page.newest < known || (end === 'finish' && isBelow)))
      return this.#miss(current);
    knownShown(current);
    return end === 'finish' ? this.#done(current) : this.#judgeNewestFirst(current, page, end);
  }

  /** What is known was not shown: among other events, or in an empty answer. */
  #miss(current: Task): Step {
    return current.stale ? missedStale(current, this.#bounds) : missed(current, this.#bounds);
  }

  /**
   * Asks for a second that the relay has shown: whether it still answers, after several requests in vain; and once how
   * it takes the bounds of a filter, since narrow windows must not reach into each other.
   */
  #askForControl(current: Task, { tasks }: Step): void {
    const second = this.#shownSecond;
    const isNarrow = tasks !== undefined || current.isNarrowed;
    const isForBounds = isNarrow && !this.#hasAskedForBounds && !this.#bounds.areKnown;
    if (
      second === null ||
      current.isControl ||
      !(isForBounds || this.#failures.needsControl(current))
    )
      return;
    this.#hasAskedForBounds ||= isForBounds;
    this.#tasks.push({ ...newTask(second, second), known: second, isControl: true });
  }

  #judgeControl(current: Task, page: PageTally): Step {
    if (page.inside > 0) this.#shownSecond = page.newest;
    if (page.inside > 0 && this.#asked) this.#bounds.noteDoubtful(page, this.#asked, current);
    current.misses += 1;
    current.doubt = true;
    return page.inside > 0 || current.misses > 1 ? { tasks: [] } : NOTHING;
  }

  // Nothing in the window

  #judgeEmpty(current: Task, page: PageTally, end: Eose): Step {
    const isBeside = page.justAbove + page.justBelow > 0;
    if (end === 'more' && !isBeside)
      return this.#strike(
        current,
        'more_without_events',
        'says that there is more and shows nothing',
      );
    if (page.above > 0) return this.#strike(current, 'ignores_until');
    if (page.below > 0 && this.#habits.order !== 'newest-first')
      return this.#strike(current, 'ignores_since');
    if (current.known !== null) return this.#missEmpty(current);
    if (page.justAbove > 0 || (page.justBelow > 0 && this.#habits.order !== 'newest-first')) {
      if (page.justAbove === 0 && this.#asked?.since === 0)
        return this.#judgeBeginning(current, page, end);
      current.doubt = false; // it shows how the relay takes that bound, and may be full of what lies beside the window
      return NOTHING;
    }
    return this.#countEmpty(current);
  }

  /** A request from 0 on names no `since`: what lies just below the window shows nothing of how that is taken. */
  #judgeBeginning(current: Task, page: PageTally, end: Eose): Step {
    const mayBeCut = end === 'more' || this.#habits.mayBeCut(page.size, this.#asked?.limit ?? 0);
    return mayBeCut ? divide(current, page, 'dense') : this.#countEmpty(current);
  }

  #missEmpty(current: Task): Step {
    this.#hidings += 1;
    if (this.#hidings > MAX_HIDINGS)
      return stop('unsteady', 'shows and hides the same events by turns');
    this.#habits.caughtHiding = true;
    forgetAnswers(current);
    const step = this.#miss(current);
    if (step.tasks && !current.stale) this.#habits.isDoubtful = true;
    return step;
  }

  #countEmpty(current: Task): Step {
    current.empties += 1;
    const isBelieved = current.empties >= (current.emptyAsks ?? this.#habits.emptyAsks);
    if (current.anchor !== null && (current.anchor > 0 || isBelieved)) {
      if (this.silent && isBelieved) return this.#hides(current);
      if (current.anchor === 0) current.empties = 0;
      return anchorMissing(current, this.#bounds, this.#habits);
    }
    if (!isBelieved) return NOTHING;
    const isUnlikely = this.#habits.isDoubtful || (this.silent && this.#hasHints);
    return isUnlikely ? this.#hides(current) : this.#done(current);
  }

  #hides(current: Task): Step {
    if (this.silent && this.#tasks.defer(current)) return NOTHING;
    return stop('hides_events', 'shows nothing, though it has shown events before');
  }

  // A relay that sends newest-first

  #judgeNewestFirst(current: Task, page: PageTally, end: Eose): Step {
    const isShownBelow = page.justBelow > 0 && page.orderOfAll.newestFirst;
    if (page.oldest < current.since || isShownBelow) return this.#done(current);
    if (page.oldest === current.until) return this.#judgeSecond(current, page, end);
    const proven = [{ since: page.oldest + 1, until: current.until }];
    if (this.#habits.order === 'unknown' && page.oldest === page.newest) {
      // One second and an order not known yet: the same question once more, before anything rests on it.
      if (!agree(current, page.inside)) return NOTHING;
      const [second, below] = this.#splitBelow(current, page.oldest);
      return { proven, tasks: [second, { ...below, isPlain: true }] }; // its upper end was shown with the second
    }
    if (current.follows !== null) this.#habits.sawCutPage = true;
    const rest = {
      ...newTask(current.since, page.oldest),
      ...{ anchor: current.anchor, known: page.oldest, follows: page.inOldest },
    };
    const limit = this.#asked?.limit ?? 0;
    const wasShort = end === 'eose' && this.#habits.isShort(page.size, limit);
    if (wasShort) agree(rest, page.inOldest); // it cannot have been cut: its last second was shown once
    return { proven, tasks: [rest] };
  }

  /** The page shows only the second it was asked to begin with: the bottom, or a second that fills a page. */
  #judgeSecond(current: Task, page: PageTally, end: Eose): Step {
    if (page.above > 0) return this.#strike(current, 'ignores_until');
    if (current.anchor !== null) return anchorMissing(current, this.#bounds, this.#habits); // gone, or the page is full
    if (page.inside > (current.follows ?? page.inside)) this.#habits.sawCutPage = true;
    const limit = this.#asked?.limit ?? 0;
    const agreed = agree(current, page.inside);
    if (end === 'more' || this.#habits.fillsPage(page.size, limit)) {
      const certain = agreed || this.#habits.reachesLimit(page.size, limit);
      return certain ? denseAtTop(current, page.inside) : NOTHING;
    }
    return agreed ? { tasks: this.#splitBelow(current, current.until) } : NOTHING;
  }

  #splitBelow(current: Task, second: number): [Task, Task] {
    const isLargest = this.#habits.isLargest(current.most);
    return belowSecond(current, second, isLargest ? EMPTY_ASKS.alone : EMPTY_ASKS.vouched);
  }

  #doubt(current: Task): void {
    if (current.second === null) return;
    this.#habits.sawCutPage = true;
    forgetAnswers(current.second);
    current.second = null;
  }

  /** Whether a second was read together with what lies around it and needs no page of its own. */
  #isSettled({ since, until, agreeing, most }: Task): boolean {
    return since === until && agreeing >= 2 && !this.#habits.fillsPage(most, this.#limit.inUse);
  }

  // A relay that does not

  /** A window is believed when it shows well under the largest page, twice the same. */
  #judgeUnordered(current: Task, page: PageTally, end: Eose): Step {
    const habits = this.#habits;
    const limit = this.#asked?.limit ?? 0;
    const size = page.size + page.below;
    const isSecond = current.since === current.until && current.anchor === null;
    const mayBeFull = isSecond ? habits.isLargest(size) : !habits.isShort(size, limit);
    if (end === 'more' || mayBeFull || habits.reachesLimit(size, limit)) {
      if (page.above + page.below > page.inside)
        return this.#strike(current, 'ignores_since', 'ignores since or until');
      return divide(current, page, 'dense');
    }
    const { known } = current;
    if (known !== null && (page.newest < known || page.oldest > known)) return this.#miss(current);
    knownShown(current);
    return agree(current, page.inside) ? this.#done(current) : NOTHING;
  }

  // Going on, and giving up

  #done(current: Task): Step {
    return { proven: [windowOf(current)], tasks: [] };
  }

  /** An answer that cannot be used. What was counted in a row begins anew, for it might have been the true one. */
  #strike(current: Task, reason: PagerStop, text = ''): Step {
    forgetAnswers(current);
    this.#strikes += 1;
    return this.#strikes >= MAX_STRIKES ? stop(reason, text) : NOTHING;
  }
}
