import type { PageBounds } from './bounds.ts';
import type { PageHabits } from './habits.ts';
import { aroundSecond } from './split.ts';
import type { PageTally } from './tally.ts';
import type { Task } from './task.ts';
import { holeAt, NOTHING, type Step } from './verdict.ts';

/**
 * Answers that lack a known event never prove anything: the relay may apply a bound of the filter as exclusive, give a
 * single false answer, or have lost the event. The request is varied, and a lasting contradiction stays a gap.
 */

/** Answers in a row without the known event, after which its second is requested separately. */
const MAX_MISSES = 3;

/** The event was shown in this visit: its second is requested alone, and becomes a hole if it is still missing. */
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
  return { tasks: [below, above, second] }; // the last task is read first
}

/**
 * The event was shown in an earlier visit: it may have been deleted, replaced or expired since. Its second is requested
 * alone, a second wider at both ends. Only pages that are read after that prove anything.
 */
export function missedStale(task: Task, bounds: PageBounds): Step {
  task.misses += 1;
  task.alone = task.misses > 1 || (bounds.until === 'inclusive' && bounds.since === 'inclusive');
  task.doubt = true;
  return NOTHING;
}

/** Evaluates the answer for the second of an event that an earlier visit has seen. */
export function missedAlone(task: Task, page: PageTally): Step {
  if (page.newestLasting === null) task.known = null;
  task.stale = false;
  task.alone = false;
  task.doubt = false;
  task.misses = 0;
  task.empties = 0;
  return NOTHING;
}

/**
 * The page ends without its anchor. First it is requested with a bound that includes the anchor on a relay with exclusive
 * bounds. Then any event below the window replaces an anchor that is gone: a few events from the beginning of time on show
 * that nothing was omitted. If the relay shows nothing below, the window is requested without an anchor.
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

/** The known event was shown. */
export function knownShown(task: Task): void {
  if (task.misses > 0) task.doubt = false;
  task.misses = 0;
}

/** Continues without an anchor. */
export function dropAnchor(task: Task): Step {
  task.anchor = null;
  task.isProbe = false;
  task.doubt = false;
  if (task.known !== null && task.known < task.since) task.known = null;
  return NOTHING;
}
