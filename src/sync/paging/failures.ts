import { refusalOf } from '../../nostr/message.ts';
import type { HoleReason } from '../../nostr/window.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import type { PageLimit } from './limit.ts';
import type { Stopped } from './pager-stop.ts';
import { beforeNostr, belowShown, towardsTop, withoutAnchor } from './split.ts';
import type { PageTally } from './tally.ts';
import { forgetAnswers, type Task } from './task.ts';
import { holeAt, NOTHING, type Step, stop } from './verdict.ts';

export type Failure = Extract<PageEnd['type'], 'oversized' | 'timeout' | 'closed' | 'disconnected'>;

/** Requests in a row without an end of the page, after which the reading stops: the relay does not answer. */
const MOST_UNANSWERED = 3;
/** The same if one of them was for a smaller page: the page size may have been the cause. */
const MOST_UNANSWERED_SIZES = 4;
/** The same for a relay that has answered before: dividing a window may meet several bad parts one after the other. */
const MOST_AFTER_ANSWERS = 16;
/** Failures in a row after which a control request is sent; sooner before a second becomes a hole. */
const CONTROL_AFTER = 3;
const CONTROL_AT_SECOND = 2;
/** Maximum number of pages that break off in one reading, plus one for every 4 complete pages, to allow for chance failures. */
const MOST_FAILURES = 60;
const ANSWERS_A_FAILURE = 4;
/** Failures in a row of one window after which it is divided: more if one request was answered completely. */
const FAILURES_TO_NARROW = 2;
const FAILURES_TO_NARROW_ANSWERED = 4;

/**
 * Pages that break off. A lost connection or a missing end may be chance: the request is repeated once. A window that
 * breaks off twice is narrowed down to the second that causes it, as long as the relay answers other requests. That second
 * becomes a hole, so that one event that the relay cannot send does not block the rest.
 */
export class PageFailures {
  readonly #limit: PageLimit;
  #inARow = 0;
  #failures = 0;
  #answers = 0;

  constructor(limit: PageLimit) {
    this.#limit = limit;
  }

  /** Records a complete page. */
  noteAnswer(task: Task): void {
    task.failures = 0;
    task.isNarrowed = false;
    task.hasAnswered = true;
    this.#inARow = 0;
    this.#answers += 1;
  }

  /** Whether a control request is due, to check that the relay still answers. */
  needsControl(task: Task): boolean {
    return this.#inARow >= (task.since === task.until ? CONTROL_AT_SECOND : CONTROL_AFTER);
  }

  /** A control request broke off: the relay has failed, not a part of its history. */
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
    forgetAnswers(task); // counts in a row restart, because this answer might have differed
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
    if (anchor !== null) return { tasks: withoutAnchor(task, anchor) }; // the cause may lie below the window
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
  if (end.type === 'timeout') return { reason: end.type, text: '' };
  const isLimit = end.type === 'closed' && refusalOf(end.text) === 'limit';
  return { reason: isLimit ? 'limit_refused' : end.type, text: end.text };
}
