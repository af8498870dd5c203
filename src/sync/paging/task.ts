import type { Gap, Window } from '../../nostr/window.ts';

/** Two answers must agree. After this many that do not, the largest is used. */
const MAX_ANSWERS = 6;

/** A window still to be proven, and what its answers have shown so far. */
export interface Task {
  since: number;
  until: number;
  /** A second below the window from which it is requested: a page that shows it has shown the whole window. */
  anchor: number | null;
  /** A second of the window at which the relay has shown an event; null when none is known. */
  known: number | null;
  /** Whether only an earlier visit has seen that event: it may be gone. */
  stale: boolean;
  /** Number of events at `until` in the page that ended there: if there are more, that page was cut. */
  follows: number | null;
  /** The second above, which was split off: it is in doubt if anything is shown below. */
  second: Task | null;
  /** Number of empty answers that prove this window empty; null: as for the relay. */
  emptyConfirmations: number | null;
  empties: number;
  /** Number of answers that showed nothing but passing events. */
  passes: number;
  /** Number of answers in a row that lack the known event. */
  misses: number;
  /** Whether it is requested a second wider at both ends, because a known event was not shown. */
  doubt: boolean;
  /** Whether it is requested exactly: wider pages have shown nothing at its upper end. */
  isPlain: boolean;
  /** Whether only the second of the known event is requested, to see whether the event is gone. */
  alone: boolean;
  /** Whether a small limit is enough: the events of the window, and one below it. */
  isProbe: boolean;
  /** Whether it was moved behind the others once. */
  isDeferred: boolean;
  /** Whether it is a control request: it shows whether the relay answers and how it applies bounds, and proves nothing. */
  isControl: boolean;
  /** Number of requests for it that broke off. */
  failures: number;
  /** Whether a request for it was answered completely. */
  hasAnswered: boolean;
  /** Whether it is a part of a window that broke off twice; and the upper end of that window. */
  isNarrowed: boolean;
  origin: number;
  answers: number;
  /** The size of the largest answer, and the number of answers of that size. */
  most: number;
  agreeing: number;
}

/** The first task of a gap. An anchor or known second outside its range is ignored. */
export function taskOf({ since, until, anchor, known = null }: Gap): Task {
  const task = newTask(since, until);
  if (anchor !== null && anchor < since) task.anchor = anchor;
  if (known === null || known < since || known > until) return task;
  return { ...task, known, stale: true };
}

/** A window of which nothing is known yet. */
export function newTask(since: number, until: number): Task {
  return {
    since,
    until,
    anchor: null,
    known: null,
    stale: false,
    follows: null,
    second: null,
    emptyConfirmations: null,
    empties: 0,
    passes: 0,
    misses: 0,
    doubt: false,
    isPlain: false,
    alone: false,
    isProbe: false,
    isDeferred: false,
    isControl: false,
    failures: 0,
    hasAnswered: false,
    isNarrowed: false,
    origin: until,
    answers: 0,
    most: 0,
    agreeing: 0,
  };
}

/** The window of a task. */
export function windowOf({ since, until }: Task): Window {
  return { since, until };
}

/** Records the number of events of an answer. @returns whether two answers have the largest count so far. */
export function agree(task: Task, count: number): boolean {
  task.answers += 1;
  if (count > task.most) {
    task.most = count;
    task.agreeing = 0;
  }
  if (count === task.most) task.agreeing += 1;
  if (task.answers >= MAX_ANSWERS) task.agreeing = Math.max(task.agreeing, 2);
  return task.agreeing >= 2;
}

/** Resets the counts of answers. */
export function forgetAnswers(task: Task): void {
  task.empties = 0;
  task.answers = 0;
  task.most = 0;
  task.agreeing = 0;
}
