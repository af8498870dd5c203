import { dropAnchor } from './page-misses.ts';
import { aroundSecond, halves } from './page-split.ts';
import type { PageTally } from './page-tally.ts';
import type { Task } from './page-task.ts';
import { type HoleReason, holeAt, type Step } from './page-verdict.ts';

/** What is read in place of a window of which a page proves nothing: smaller ones, or a hole where it is one second. */
export function splitWindow(current: Task, page: PageTally, reason: HoleReason): Step {
  const { since, until, anchor } = current;
  const { oldest, newest, inside } = page;
  if (anchor !== null && (newest < since || since === until)) return dropAnchor(current);
  if (since === until) return holeAt(current, reason, inside);
  if (inside > 0 && oldest === newest) {
    const [below, second, above] = aroundSecond(current, oldest);
    return { tasks: [second, below, above] };
  }
  return { tasks: halves(current, page) };
}
