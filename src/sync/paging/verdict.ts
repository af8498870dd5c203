import type { Hole, HoleReason, Window } from '../../nostr/window.ts';
import type { PagerStop, Stopped } from './pager-stop.ts';
import { newTask, type Task } from './task.ts';

export interface Verdict {
  readonly proven: readonly Window[];
  readonly holes: readonly Hole[];
  readonly evidence: 'paging' | 'finish';
  /** The window that is proven because the relay showed nothing of it, if any. */
  readonly empty?: Window;
}

/** The consequence of an answer. */
export interface Step {
  readonly proven?: readonly Window[];
  readonly holes?: readonly Hole[];
  /** The tasks that replace the answered one, oldest first; absent: the task is requested again. */
  readonly tasks?: readonly Task[];
  readonly stop?: Stopped;
  /** Whether it is proven because nothing was shown. */
  readonly isEmpty?: true;
}

export const NOTHING: Step = {};

export function stop(reason: PagerStop, text = ''): Step {
  return { stop: { reason, text } };
}

/** Makes the second of a task a hole. */
export function holeAt({ since, until }: Task, reason: HoleReason, count: number): Step {
  return { holes: [{ since, until, reason, count }], tasks: [] };
}

/** Makes the newest second of a task, which fills a page, a hole; the rest is read without it. */
export function denseAtTop({ since, until }: Task, count: number): Step {
  const holes = [{ since: until, until, reason: 'dense' as const, count }];
  return { holes, tasks: [newTask(since, until - 1)] };
}
