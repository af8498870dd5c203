import { dropAnchor } from './misses.ts';
import { towardsTop } from './split.ts';
import type { PageTally } from './tally.ts';
import type { Task } from './task.ts';
import { holeAt, type Step, stop } from './verdict.ts';

/** Seconds without a readable event that may become holes in one reading: a relay with more sends noise with each answer. */
const MAX_SECONDS = 30;

/**
 * Pages that show nothing of their window but messages whose time cannot be read: events with a malformed `created_at`,
 * text that is not JSON, binary frames. Such a page may be full of them, so it does not show that there is nothing older:
 * its window is divided towards its upper end, where the newest of them lie.
 */
export class UnreadablePages {
  #seconds = 0;

  /** @returns null if the page is an empty one */
  judge(task: Task, page: PageTally, mayBeCut: boolean): Step | null {
    if (page.unreadable === 0 || !mayBeCut) return null;
    if (task.anchor !== null) return dropAnchor(task);
    if (task.since < task.until)
      return { tasks: towardsTop(task).map((part) => ({ ...part, isNarrowed: false })) };
    this.#seconds += 1;
    return this.#seconds > MAX_SECONDS
      ? stop('garbled', 'sends more messages that cannot be read than events')
      : holeAt(task, 'unreadable', page.unreadable);
  }
}
