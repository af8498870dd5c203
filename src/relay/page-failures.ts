import { refusalOf } from '../nostr/message.ts';
import type { PageLimit } from './page-limit.ts';
import { beforeNostr, belowShown, towardsTop, withoutAnchor } from './page-split.ts';
import type { PageTally } from './page-tally.ts';
import { forgetAnswers, type Task } from './page-task.ts';
import { type HoleReason, holeAt, NOTHING, type Step, stop } from './page-verdict.ts';
import type { Stopped } from './pager-stop.ts';
import type { PageEnd } from './subscription.ts';

export type Failure = Extract<PageEnd['type'], 'oversized' | 'timeout' | 'closed' | 'disconnected'>;

/** Requests in a row without an end of the page, after which a relay is given up: it answers nothing at all. */
const MOST_UNANSWERED = 3;
/** The same where one of them was for a smaller page, which may be all that it needs. */
const MOST_UNANSWERED_SIZES = 4;
/** The same for a relay that has answered before: dividing a window may meet several bad parts one after the other. */
const MOST_AFTER_ANSWERS = 16;
/** After so many in a row it is looked whether the relay still shows what it has shown; sooner before a second is given up. */
const CONTROL_AFTER = 3;
const CONTROL_AT_SECOND = 2;
/** Pages that may break off in all, and one more for so many with an end: one that does it by chance is not narrowed down. */
const MOST_FAILURES = 60;
const ANSWERS_A_FAILURE = 4;
/** Requests for one window that break off in a row before it is divided: more where one has come to its end. */
const FAILURES_TO_NARROW = 2;
const FAILURES_TO_NARROW_ANSWERED = 4;

/**
 * Pages that break off. A lost connection or a missing end may be chance: the same is asked once more. What breaks
 * off twice is narrowed down to the second that does it, as long as the relay answers other requests, and that second
 * becomes a hole: one stored event that cannot be sent must not hide what lies beyond it.
 */
export class PageFailures {
  readonly #limit: PageLimit;
  #inARow = 0;
  #failures = 0;
  #answers = 0;

  constructor(limit: PageLimit) {
    this.#limit = limit;
  }

  /** A page came to its end. */
  noteAnswer(task: Task): void {
    task.failures = 0;
    task.isNarrowed = false;
    task.hasAnswered = true;
    this.#inARow = 0;
    this.#answers += 1;
  }

  /** Whether it is to be seen first if the relay still answers: it was asked several times in vain. */
  needsControl(task: Task): boolean {
    return this.#inARow >= (task.since === task.until ? CONTROL_AT_SECOND : CONTROL_AFTER);
  }

  /** What was known to work does not any more: it is the relay, and no place of its history. */
  judgeControl(end: Extract<PageEnd, { type: Failure }>): Step {
    this.#inARow += 1;
    this.#failures += 1;
    return this.#inARow >= CONTROL_AFTER ? { stop: stopOf(end) } : { tasks: [] };
  }

  /** Whether the last page broke off. */
  get isBroken(): boolean {
    return this.#inARow > 0;
  }

  get hasAnswered(): boolean {
    return this.#answers > 0;
  }

  judge(
    task: Task,
    page: PageTally,
    end: Extract<PageEnd, { type: Failure }>,
    hasControl: boolean,
  ): Step {
    if (end.type === 'closed' && refusalOf(end.text) === 'limit')
      return this.#refusedLimit(end.text);
    forgetAnswers(task); // what was counted in a row begins anew, for it might have been the true one
    task.failures += 1;
    this.#inARow += 1;
    const isSize = end.type === 'timeout' || end.type === 'closed';
    this.#failures += 1;
    const isHopeless = this.#failures > MOST_FAILURES + this.#answers / ANSWERS_A_FAILURE;
    if (isHopeless || this.#inARow >= this.#most(isSize)) return { stop: stopOf(end) };
    if (task.failures === 1 && !task.isNarrowed && end.type !== 'oversized') return NOTHING;
    if (isSize && !task.isNarrowed && task.failures === 2 && this.#limit.canBeLess) {
      this.#limit.unanswered();
      return NOTHING;
    }
    if (end.type !== 'oversized' && task.failures < failuresToNarrow(task)) return NOTHING;
    this.#limit.wasNoMatter();
    return this.#narrow(
      task,
      page,
      end.type === 'oversized' ? 'oversized' : 'unreadable',
      hasControl,
    );
  }

  #most(isSize: boolean): number {
    if (this.hasAnswered) return MOST_AFTER_ANSWERS;
    return isSize ? MOST_UNANSWERED_SIZES : MOST_UNANSWERED;
  }

  #refusedLimit(text: string): Step {
    if (!this.#limit.canBeLess) return stop('limit_refused', text);
    this.#limit.refused();
    return NOTHING;
  }

  #narrow(task: Task, page: PageTally, reason: HoleReason, hasControl: boolean): Step {
    const { since, until, anchor } = task;
    if (anchor !== null) return { tasks: withoutAnchor(task, anchor) }; // the place may lie below the window
    const isCut = page.inside > 0 && page.order.newestFirst && page.oldest < until;
    if (isCut && page.oldest >= since) return { tasks: belowShown(task, page) };
    if (!this.hasAnswered) {
      const parts = since === until ? [task] : towardsTop(task);
      return { tasks: [...parts, beforeNostr()] };
    }
    if (since === until) {
      const isCertain = reason === 'oversized' || task.failures >= 2;
      return isCertain && !(this.needsControl(task) && hasControl)
        ? holeAt(task, reason, page.inside)
        : NOTHING;
    }
    return { tasks: towardsTop(task) };
  }
}

function failuresToNarrow({ isNarrowed, hasAnswered }: Task): number {
  if (isNarrowed) return 1;
  return hasAnswered ? FAILURES_TO_NARROW_ANSWERED : FAILURES_TO_NARROW;
}

function stopOf(end: Extract<PageEnd, { type: Failure }>): Stopped {
  return { reason: end.type, text: end.type === 'timeout' ? '' : end.text };
}
