import { dropAnchor } from './page-misses.ts';
import { aroundSecond, halves } from './page-split.ts';
import type { PageTally } from './page-tally.ts';
import type { Task } from './page-task.ts';
import { type HoleReason, holeAt, type Step } from './page-verdict.ts';

/** A window that holds more than a page may show is read in parts; a single second of that kind is a hole. */
export function divide(task: Task, page: PageTally, reason: HoleReason): Step {
  const { since, until, anchor } = task;
  const { oldest, newest, inside } = page;
  if (anchor !== null && (newest < since || since === until)) return dropAnchor(task);
  if (since === until) return holeAt(task, reason, inside);
  if (inside > 0 && oldest === newest) {
    const [below, second, above] = aroundSecond(task, oldest);
    return { tasks: [second, below, above] };
  }
  return { tasks: halves(task, page) };
}
