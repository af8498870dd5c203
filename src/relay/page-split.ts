import type { PageTally } from './page-tally.ts';
import { newTask, type Task } from './page-task.ts';

/** How a window is divided into smaller ones. Pure; each gives the parts oldest first. */

/** Long before Nostr began. Not 0, which is asked for without `since`. */
const LONG_AGO = 1;

/** Halves a window where its events are, so that a burst is not halved from the year 1970 on. */
export function halves(task: Task, page: PageTally): Task[] {
  const { since, until, anchor } = task;
  const { oldest, newest, inside } = page;
  const centre = inside > 0 ? (oldest + newest) / 2 : (since + until) / 2;
  const middle = Math.min(Math.max(Math.floor(centre), since), until - 1);
  return [
    { ...newTask(since, middle), anchor, known: inside > 0 && oldest >= since ? oldest : null },
    { ...newTask(middle + 1, until), known: inside > 0 && newest > middle ? newest : null },
  ];
}

/** What lies around one second, and that second. */
export function aroundSecond(
  { since, until, anchor }: Task,
  second: number,
): [below: Task, second: Task, above: Task] {
  return [
    { ...newTask(since, second - 1), anchor },
    { ...newTask(second, second), known: second },
    newTask(second + 1, until),
  ];
}

/** What lies below a second is read without it. If it shows anything, the page was cut and the second is in doubt. */
export function belowSecond(task: Task, second: number, emptyAsks: number): [Task, Task] {
  const { since, anchor, answers, most, agreeing } = task;
  const above = { ...newTask(second, second), known: second, answers, most, agreeing };
  return [above, { ...newTask(since, second - 1), anchor, emptyAsks, second: above }];
}

/** The window alone, and the second from which it was read: that the relay shows something there is to be seen first. */
export function withoutAnchor(task: Task, anchor: number): Task[] {
  const { since, until, known, stale } = task;
  const own = narrowed(newTask(since, until), until);
  return [
    known !== null && known >= since ? { ...own, known, stale } : own,
    { ...newTask(anchor, anchor), known: anchor, isControl: true },
  ];
}

/** What was shown before a page broke off, and what lies below, where the place that breaks it must be. */
export function belowShown(task: Task, { oldest, newest }: PageTally): Task[] {
  const rest = narrowed(newTask(task.since, oldest), oldest);
  const shown = newTask(oldest + 1, task.until);
  return [
    { ...rest, known: oldest },
    { ...shown, known: newest > oldest ? newest : null },
  ];
}

/** A second at which no relay holds anything: whether it answers at all shows there. */
export function beforeNostr(): Task {
  return { ...newTask(LONG_AGO, LONG_AGO), known: LONG_AGO, isControl: true, misses: 1 };
}

/**
 * Parts of a window that breaks off before it shows anything. What breaks it is the first event that the relay would
 * send, mostly the newest: so its distance from the top is halved by magnitude, which takes half a dozen requests
 * where halving the time takes thirty.
 */
export function towardsTop(task: Task): Task[] {
  const { since, until, origin, known } = task;
  const least = origin - until;
  const most = origin - since;
  const middleOf =
    most < 4 * (least + 1)
      ? Math.floor((least + most) / 2)
      : Math.floor(Math.sqrt((least + 1) * (most + 1)));
  const middle = known === until ? until - 1 : origin - middleOf - 1;
  const cut = Math.min(Math.max(middle, since), until - 1);
  return [
    narrowed(newTask(since, cut), known === until ? cut : origin),
    narrowed(newTask(cut + 1, until), origin),
  ].map((part) =>
    known !== null && known >= part.since && known <= part.until
      ? { ...part, known, stale: task.stale }
      : part,
  );
}

function narrowed(task: Task, origin: number): Task {
  return { ...task, isNarrowed: true, origin };
}
