import type { PageTally } from './tally.ts';
import { newTask, type Task } from './task.ts';

/** How a window is divided into smaller ones. Pure; each gives the parts oldest first. */

/** Long before Nostr began. Not 0: a request from 0 on has no `since`. */
const LONG_AGO = 1;

/** Halves a window where its events are, so that a burst is not halved from the year 1970 on. */
export function halves(task: Task, page: PageTally): Task[] {
  const { since, until, anchor } = task;
  const { oldest, newest, inside, knownOldest, newestLasting } = page;
  const centre = inside > 0 ? (oldest + newest) / 2 : (since + until) / 2;
  const middle = Math.min(Math.max(Math.floor(centre), since), until - 1);
  return [
    { ...newTask(since, middle), anchor, known: oldest >= since ? knownOldest : null },
    { ...newTask(middle + 1, until), known: (newestLasting ?? 0) > middle ? newestLasting : null },
  ];
}

/** The windows around one second, and that second, at which an event is known unless `known` says otherwise. */
export function aroundSecond(
  { since, until, anchor }: Task,
  second: number,
  known: number | null = second,
): [below: Task, second: Task, above: Task] {
  return [
    { ...newTask(since, second - 1), anchor },
    { ...newTask(second, second), known },
    newTask(second + 1, until),
  ];
}

/** Splits off the newest second; if the rest shows anything, the page was cut and the second is in doubt. */
export function belowSecond(
  task: Task,
  { oldest: second, knownOldest: known }: PageTally,
  emptyConfirmations: number,
): [Task, Task] {
  const { since, anchor, answers, most, agreeing } = task;
  const above = { ...newTask(second, second), known, answers, most, agreeing };
  return [above, { ...newTask(since, second - 1), anchor, emptyConfirmations, second: above }];
}

/** The window alone, and the second of its anchor, which is read first to see whether the relay shows it. */
export function withoutAnchor(task: Task, anchor: number): Task[] {
  const { since, until, known, stale } = task;
  const own = narrowed(newTask(since, until), until);
  return [
    known !== null && known >= since ? { ...own, known, stale } : own,
    { ...newTask(anchor, anchor), known: anchor, isControl: true },
  ];
}

/** The part that was shown before a page broke off, and the part below, which contains the cause. */
export function belowShown(task: Task, { oldest, knownOldest, newestLasting }: PageTally): Task[] {
  const rest = narrowed(newTask(task.since, oldest), oldest);
  const shown = newTask(oldest + 1, task.until);
  return [
    { ...rest, known: knownOldest },
    { ...shown, known: (newestLasting ?? 0) > oldest ? newestLasting : null },
  ];
}

/** A second at which no relay holds events, to check whether the relay answers at all. */
export function beforeNostr(): Task {
  return { ...newTask(LONG_AGO, LONG_AGO), known: LONG_AGO, isControl: true, misses: 1 };
}

/**
 * Parts of a window that breaks off before it shows anything. The cause is the first event that the relay would send,
 * mostly the newest. So the exponent of its distance from the top is halved: about six requests, where halving the time
 * takes thirty.
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
