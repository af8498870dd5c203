import type { Window } from '../nostr/filter.ts';
import { newTask, type Task } from './page-task.ts';
import type { PagerStop, Stopped } from './pager-stop.ts';

/**
 * Why a second stays unproven: `dense` holds as many events as a page may, `overflow` more than we take, `oversized`
 * an event that is larger. `unreadable`: every request for it breaks off. `contradicted`: the relay has shown an event
 * there, and does not show it any more.
 */
export type HoleReason = 'dense' | 'overflow' | 'oversized' | 'unreadable' | 'contradicted';

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

/** What an answer leads to. */
export interface Step {
  readonly proven?: readonly Window[];
  readonly holes?: readonly Hole[];
  /** What is to be read in place of the task that was answered, oldest first; absent: the task is asked again. */
  readonly tasks?: readonly Task[];
  readonly stop?: Stopped;
}

export const NOTHING: Step = {};

export function stop(reason: PagerStop, text = ''): Step {
  return { stop: { reason, text } };
}

/** The second of a task that cannot be read. */
export function holeAt({ since, until }: Task, reason: HoleReason, count: number): Step {
  return { holes: [{ since, until, reason, count }], tasks: [] };
}

/** The newest second of a task, which fills a page; what lies below it is read without it. */
export function denseAtTop({ since, until }: Task, count: number): Step {
  const holes = [{ since: until, until, reason: 'dense' as const, count }];
  return { holes, tasks: [newTask(since, until - 1)] };
}
