/**
 * Reads a part of a relay's history page by page, and decides what each page proves. Pure: no I/O and no clock. The
 * caller takes a request from `next()`, sends it as a REQ, counts what arrives in a `PageTally` and passes that to
 * `accept()`, which returns the windows that are proven complete now, and the seconds that cannot be proven (holes).
 *
 * The unit is a task (`task.ts`): a window that is still to be proven. Tasks form a stack (`tasks.ts`); the one with the
 * newest window is read first. States of a task, and what leads from one to another:
 * - **open**: it is requested. A page that arrived newest-first proves everything above its oldest second, at which the next
 *   task begins. A task with an anchor, the newest second below it that the relay has shown, is requested from there: a
 *   page that shows the anchor proves all of it.
 * - **empty**: answers without events are counted. Enough of them in a row (`EMPTY_CONFIRMATIONS` in `habits.ts`) prove it; any event
 *   makes it open again, and empty answers of that relay then need more repetitions.
 * - **missed**: an answer lacks a known event. The task is requested a second wider, then the second of the event alone
 *   (`misses.ts`), which becomes a hole, `contradicted`.
 * - **divided**: a page out of order, or one that may be cut, proves nothing. Its window is halved until the counts stay
 *   well under the largest page and are the same twice (`divide.ts`); a single second becomes a hole, `dense`.
 * - **narrowed**: its answers break off. It is divided towards the second that causes it (`failures.ts`), between control
 *   requests (`controls.ts`); a single second becomes a hole, `unreadable` or `oversized`.
 * - **proven** or **hole**: final; the task leaves the stack. The reading is over when none is left, or when it stops
 *   (`stopped`): after answers that cannot be used, contradict each other, or do not come.
 *
 * Guaranteed: only complete answers prove anything; an answer that lacks a known event never does. A relay may apply the
 * bounds of a filter as exclusive (`bounds.ts`). Each answer proves something, divides a task or counts
 * towards a stop, so that every reading ends.
 *
 * Assumed beyond NIP-01: a relay that caps pages below 20 events answers newest-first; a false answer, an EOSE before
 * everything was sent, is followed by a true one.
 */

import type { Gap, Window } from '../../nostr/window.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import { PageBounds } from './bounds.ts';
import { PageControls } from './controls.ts';
import { divide } from './divide.ts';
import { PageFailures } from './failures.ts';
import { PageHabits } from './habits.ts';
import { PageLimit } from './limit.ts';
import { anchorMissing, knownShown, missed, missedAlone, missedStale } from './misses.ts';
import type { PagerStop, Stopped } from './pager-stop.ts';
import { judgePassing } from './passing.ts';
import { belowSecond } from './split.ts';
import type { PageRequest, PageTally } from './tally.ts';
import { agree, forgetAnswers, newTask, type Task, windowOf } from './task.ts';
import { PageTasks } from './tasks.ts';
import { UnreadablePages } from './unreadable.ts';
import { denseAtTop, NOTHING, type Step, stop, type Verdict } from './verdict.ts';

export { type PagerStop, type Stopped, stopText } from './pager-stop.ts';
export { type PageRequest, PageTally } from './tally.ts';
export type { Verdict } from './verdict.ts';

export interface PagerOptions {
  /** Number of events requested in a page. */
  readonly limit: number;
}

/** Unusable answers without a proof in between, after which the reading stops. */
const MAX_STRIKES = 3;

/** Empty answers where events are known, without a proof in between, after which the reading stops. */
const MAX_HIDINGS = 20;

type Eose = Extract<PageEnd['type'], 'finish' | 'more' | 'eose'>;

export class Pager {
  /** Why reading stopped before every window was proven; null while it goes on or when it is done. */
  stopped: Stopped | null = null;
  #strikes = 0;
  #hidings = 0;
  readonly #tasks: PageTasks;
  #asked: PageRequest | null = null;
  /** Whether an earlier visit has seen events of this relay: its silence is then not believed. */
  readonly #hasHints: boolean;
  readonly #limit: PageLimit;
  readonly #habits = new PageHabits();
  readonly #bounds = new PageBounds();
  readonly #failures: PageFailures;
  readonly #controls: PageControls;
  readonly #unreadable = new UnreadablePages();

  /** @param gaps the windows to prove, in any order; they are read newest first. */
  constructor(gaps: readonly Gap[], { limit }: PagerOptions) {
    this.#limit = new PageLimit(limit);
    this.#failures = new PageFailures(this.#limit);
    this.#tasks = new PageTasks(gaps);
    this.#hasHints = this.#tasks.haveHints;
    this.#controls = new PageControls(this.#tasks, this.#bounds, this.#failures);
  }

  /** The largest limit that the relay accepts, as far as it was tried. */
  get limit(): number {
    return this.#limit.largest;
  }

  /** Whether the relay has shown no event in this reading: what is proven then rests on its silence alone. */
  get silent(): boolean {
    return this.#habits.silent;
  }

  /** Whether the proofs of this reading are invalid: answers showed events that later ones lacked. */
  get isContradicted(): boolean {
    const reason = this.stopped?.reason;
    return reason === 'unsteady' || (reason === 'hides_events' && !this.silent);
  }

  /** Whether one more empty answer would be believed of a relay that has shown nothing at all. */
  get isAboutToBelieveSilence(): boolean {
    const current = this.#tasks.current;
    return (
      current !== undefined &&
      this.silent &&
      current.empties + 1 >= this.#habits.confirmationsOf(current)
    );
  }

  /** Whether the next page is a part of a window that broke off: it will probably break off again. */
  get isNarrowing(): boolean {
    return this.#failures.hasAnswered && (this.#tasks.current?.isNarrowed ?? false);
  }

  /** The second of an event that this reading has shown and two answers in a row lack; null without one. */
  get missedSecond(): number | null {
    const current = this.#tasks.current;
    const isMissed = current && current.misses > 1 && !current.stale && !current.isControl;
    return isMissed ? current.known : null;
  }

  /** Forgets the missed event: the relay has shown why it holds it no more. */
  forgetMissed(): void {
    const current = this.#tasks.current;
    if (!current || current.known === null) return;
    this.#controls.forget(current.known);
    Object.assign(current, { known: null, misses: 0, doubt: false });
  }

  /** Sets the page size from now on. */
  useLimit(limit: number): void {
    this.#limit.use(limit);
  }

  /** Reads windows again that were proven by an empty answer, which is in doubt: the relay has shown an event at this second. */
  reopen(windows: readonly Window[], shown: number | null): void {
    this.#habits.hasHidden = true;
    for (const { since, until } of [...windows].sort((a, b) => a.until - b.until))
      this.#tasks.push({ ...newTask(since, until), known: until === shown ? shown : null });
  }

  /** Ends the reading for a reason outside the pages. */
  stop(reason: PagerStop, text = ''): void {
    this.stopped ??= { reason, text };
  }

  /** The next page to request; null when nothing is left or reading has stopped. */
  next(): PageRequest | null {
    const current = this.#tasks.current;
    if (!current || this.stopped !== null) return null;
    this.#asked = this.#bounds.request(current, this.#limit.inUse);
    return this.#asked;
  }

  /** Evaluates the answer to the last `next()`. */
  accept(page: PageTally, end: PageEnd): Verdict {
    const current = this.#tasks.current;
    if (!current || !this.#asked) throw new Error('a page was accepted that was not asked for');
    this.#habits.note(page, this.#asked.limit);
    this.#bounds.note(page);
    const step = this.#judge(current, page, end);
    if (step.stop) this.stopped = step.stop;
    // The window below a second was not proven empty: the second is in doubt.
    if (step.tasks && !step.proven && current.second) forgetAnswers(current.second);
    if (step.tasks) {
      this.#strikes = 0;
      this.#tasks.replace(current, step.tasks);
    }
    if (this.#failures.isBroken) this.#controls.addAfter(current, step);
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
    const evidence = end.type === 'finish' ? 'finish' : 'paging';
    return { proven, holes, evidence, ...(step.isEmpty && { empty: windowOf(current) }) };
  }

  #judge(current: Task, page: PageTally, end: PageEnd): Step {
    switch (end.type) {
      case 'finish':
      case 'more':
      case 'eose':
        return this.#judgeEnd(current, page, end.type);
      case 'overflow':
        // Smaller windows help only if the excess lies inside the window.
        return page.inside > page.shown - page.inside
          ? divide(current, page, 'overflow')
          : this.#strike(current, 'overflow', end.text);
      case 'garbled': // a fault of the relay, not of a part of its history
        return this.#strike(current, 'garbled', end.text);
      case 'aborted':
        return stop('stopped');
      default:
        if (current.isControl) return this.#failures.judgeControl(end);
        if (page.inside > 0) this.#doubt(current);
        // A request wider than a second may break off for an event next to it.
        if (current.since === current.until && !this.#bounds.areKnown)
          if (this.#controls.postpone(current)) return NOTHING;
        return this.#failures.judge(current, page, end, this.#controls.arePossible);
    }
  }

  /** Evaluates a page with EOSE. */
  #judgeEnd(current: Task, page: PageTally, end: Eose): Step {
    this.#failures.noteAnswer(current);
    if (current.isControl) return this.#controls.judge(current, page, this.#asked);
    if (current.alone) return missedAlone(current, page);
    if (page.inside === 0) return this.#judgeEmpty(current, page, end);
    this.#controls.noteShown(page);
    return this.#judgeAnswer(current, page, end);
  }

  #judgeAnswer(current: Task, page: PageTally, end: Eose): Step {
    const { order } = this.#habits;
    const limit = this.#asked?.limit ?? 0;
    if (current.empties > 0 && page.newestLasting !== null) this.#habits.hasHidden = true;
    current.empties = 0;
    current.known ??= page.newestLasting;
    this.#doubt(current);
    if (page.above > 0 && (order === 'unknown' || !page.orderOfAll.newestFirst))
      return this.#strike(current, 'ignores_until');
    if (current.doubt && this.#asked) this.#bounds.noteDoubtful(page, this.#asked, current);
    if (end !== 'finish') {
      const shown = page.inside + page.passing + page.unreadable;
      const mayBeCut = end === 'more' || this.#habits.mayBeCut(shown, limit);
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

  /** The known event was not shown: among other events, or in an empty answer. */
  #miss(current: Task): Step {
    return current.stale ? missedStale(current, this.#bounds) : missed(current, this.#bounds);
  }

  // Nothing in the window

  #judgeEmpty(current: Task, page: PageTally, end: Eose): Step {
    const mayBeCut = end === 'more' || this.#habits.mayBeCut(page.size, this.#asked?.limit ?? 0);
    const step =
      judgePassing(current, page, mayBeCut) ?? this.#unreadable.judge(current, page, mayBeCut);
    if (step) return step;
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
        // A request from 0 on has no `since`: events just below the window do not show how that bound is applied.
        return mayBeCut ? divide(current, page, 'dense') : this.#countEmpty(current);
      current.doubt = false; // it shows how the relay applies that bound, and may be full of events next to the window
      return NOTHING;
    }
    return this.#countEmpty(current);
  }

  #missEmpty(current: Task): Step {
    this.#hidings += 1;
    if (this.#hidings > MAX_HIDINGS)
      return stop('unsteady', 'shows and hides the same events by turns');
    this.#habits.hasHidden = true;
    forgetAnswers(current);
    const step = this.#miss(current);
    if (step.tasks && !current.stale) this.#habits.isDoubtful = true;
    return step;
  }

  #countEmpty(current: Task): Step {
    current.empties += 1;
    const isBelieved = current.empties >= this.#habits.confirmationsOf(current);
    if (current.anchor !== null && (current.anchor > 0 || isBelieved)) {
      if (this.silent && isBelieved) return this.#hides(current);
      if (current.anchor === 0) current.empties = 0;
      return anchorMissing(current, this.#bounds, this.#habits);
    }
    if (!isBelieved) return NOTHING;
    const isUnlikely = this.#habits.isDoubtful || (this.silent && this.#hasHints);
    return isUnlikely ? this.#hides(current) : { ...this.#done(current), isEmpty: true };
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
      // One second and an unknown order: repeat the request before anything rests on it.
      if (!agree(current, page.inside)) return NOTHING;
      const [second, below] = this.#splitBelow(current, page);
      return { proven, tasks: [second, { ...below, isPlain: true }] }; // its upper end was shown together with the second
    }
    if (current.follows !== null) this.#habits.sawCutPage = true;
    const rest = {
      ...newTask(current.since, page.oldest),
      ...{ anchor: current.anchor, known: page.knownOldest, follows: page.inOldest },
    };
    const limit = this.#asked?.limit ?? 0;
    const wasShort = end === 'eose' && this.#habits.isShort(page.size, limit);
    if (wasShort) agree(rest, page.inOldest); // it cannot have been cut: counts as one answer for its last second
    return { proven, tasks: [rest] };
  }

  /** The page shows only its newest second: the bottom of the history, or a second that fills a page. */
  #judgeSecond(current: Task, page: PageTally, end: Eose): Step {
    if (page.above > 0) return this.#strike(current, 'ignores_until');
    if (current.anchor !== null) return anchorMissing(current, this.#bounds, this.#habits); // anchor gone, or page full
    if (page.inside > (current.follows ?? page.inside)) this.#habits.sawCutPage = true;
    const limit = this.#asked?.limit ?? 0;
    const agreed = agree(current, page.inside);
    if (end === 'more' || this.#habits.fillsPage(page.size, limit)) {
      const certain = agreed || this.#habits.reachesLimit(page.size, limit);
      return certain ? denseAtTop(current, page.inside) : NOTHING;
    }
    return agreed ? { tasks: this.#splitBelow(current, page) } : NOTHING;
  }

  #splitBelow(current: Task, page: PageTally): [Task, Task] {
    return belowSecond(current, page, this.#habits.confirmationsBelow(current));
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

  /** A window is proven when it shows well under the largest page, twice the same. */
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

  /** Counts an unusable answer. Counts in a row restart, because this answer might have differed. */
  #strike(current: Task, reason: PagerStop, text = ''): Step {
    forgetAnswers(current);
    this.#strikes += 1;
    return this.#strikes >= MAX_STRIKES ? stop(reason, text) : NOTHING;
  }
}
