import type { HoleReason } from '../../nostr/window.ts';
import { dropAnchor } from './misses.ts';
import { aroundSecond, halves } from './split.ts';
import type { PageTally } from './tally.ts';
import type { Task } from './task.ts';
import { holeAt, type Step } from './verdict.ts';

/** Divides a window that holds more than a page may show; a single second becomes a hole. */
export function divide(task: Task, page: PageTally, reason: HoleReason): Step {
  const { since, until, anchor } = task;
  const { oldest, newest, inside } = page;
  if (anchor !== null && (newest < since || since === until)) return dropAnchor(task);
  if (since === until) return holeAt(task, reason, inside);
  if (inside > 0 && oldest === newest) {
    const [below, second, above] = aroundSecond(task, oldest, page.knownOldest);
    return { tasks: [second, below, above] };
  }
  return { tasks: halves(task, page) };
}
