import type { PageBounds } from './page-bounds.ts';
import type { PageHabits } from './page-habits.ts';
import { aroundSecond } from './page-split.ts';
import type { PageTally } from './page-tally.ts';
import type { Task } from './page-task.ts';
import { holeAt, NOTHING, type Step } from './page-verdict.ts';

/**
 * Answers that do not show an event that is known. That never proves anything: the relay may take a bound of the
 * filter as exclusive, answer falsely for once, or have lost the event. So it is asked differently, and what it
 * contradicts in the end stays a gap.
 */

/** Answers in a row without the known event, after which its second is asked for apart from the others. */
const MAX_MISSES = 3;

/** The event was shown in this visit: its second is asked for by itself, and is a hole if it is not shown then either. */
export function missed(task: Task, bounds: PageBounds): Step {
  const { known, since, until } = task;
  if (known === null) return NOTHING;
  task.misses += 1;
  const isUnknown =
    (known === until && bounds.until === 'unknown') ||
    (known === since && bounds.since === 'unknown');
  task.doubt = (task.misses % 2 === 1) === isUnknown;
  if (task.misses < MAX_MISSES) return NOTHING;
  if (since === until) return holeAt(task, 'contradicted', 0);
  const [below, second, above] = aroundSecond(task, known);
  return { tasks: [below, above, second] }; // the last one is read first
}

/**
 * The event was shown in an earlier visit: it may have been deleted, replaced or expired since. Its second is asked
 * for by itself, a second wider at both ends; only the pages that are read after that prove what they show.
 */
export function missedStale(task: Task, bounds: PageBounds): Step {
  task.misses += 1;
  task.alone = task.misses > 1 || (bounds.until === 'inclusive' && bounds.since === 'inclusive');
  task.doubt = true;
  return NOTHING;
}

/** The answer for the second of an event that an earlier visit has seen. */
export function missedAlone(task: Task, page: PageTally): Step {
  if (page.inside === 0) task.known = null;
  task.stale = false;
  task.alone = false;
  task.doubt = false;
  task.misses = 0;
  task.empties = 0;
  return NOTHING;
}

/**
 * The page ends without the event below the window from which it was read. It is asked for with a bound that shows it
 * to a relay that takes bounds as exclusive. Then any event below the window will do, for one that is gone must not
 * cost the proof: a few events from the very beginning on show that nothing was left out. Only a relay that shows
 * nothing below is asked without.
 */
export function anchorMissing(task: Task, bounds: PageBounds, { order }: PageHabits): Step {
  const hasAnchor = task.anchor !== null && task.anchor > 0;
  if (hasAnchor && !task.doubt && bounds.since !== 'inclusive') {
    task.doubt = true;
    return NOTHING;
  }
  if (!hasAnchor || order === 'unordered') return dropAnchor(task);
  task.anchor = 0;
  task.isProbe = true;
  task.doubt = false;
  return NOTHING;
}

/** What is known was shown. */
export function knownShown(task: Task): void {
  if (task.misses > 0) task.doubt = false;
  task.misses = 0;
}

/** Asks for the window alone from now on. */
export function dropAnchor(task: Task): Step {
  task.anchor = null;
  task.isProbe = false;
  task.doubt = false;
  if (task.known !== null && task.known < task.since) task.known = null;
  return NOTHING;
}
