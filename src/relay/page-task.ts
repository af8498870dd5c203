import type { Window } from '../nostr/filter.ts';

/** A window to prove. */
export interface Gap extends Window {
  /** A second below it at which the relay was seen to hold an event. */
  readonly anchor: number | null;
  /** A second inside it at which the relay was seen to hold an event, in an earlier visit. */
  readonly known?: number | null;
}

/** Two answers must agree. When so many do not, the largest stands. */
const MAX_ANSWERS = 6;

/** A window still to be proven, and what its answers have shown so far. */
export interface Task {
  since: number;
  until: number;
  /** A second below the window from which it is read: a page that shows it has shown the window. */
  anchor: number | null;
  /** A second of the window at which the relay has shown an event; null when none is known. */
  known: number | null;
  /** Whether it did so in an earlier visit only: the event may be gone by now. */
  stale: boolean;
  /** How many events of `until` the page showed that ended there: if there are more, it was cut. */
  follows: number | null;
  /** The second above, which was split off: if anything shows up below, it is in doubt. */
  second: Task | null;
  /** How many empty answers are believed here, where that does not depend on the relay. */
  emptyAsks: number | null;
  empties: number;
  /** How many answers in a row did not show what is known. */
  misses: number;
  /** Whether it is asked for a second wider at both ends, because what is known was not shown. */
  doubt: boolean;
  /** Whether it is asked for as it is: pages that were wider have shown nothing at its upper end. */
  isPlain: boolean;
  /** Whether only the second that is known is asked for, to see whether its event is gone. */
  alone: boolean;
  /** Whether a few events are enough: those above the window's lower end, and one below it. */
  isProbe: boolean;
  /** Whether it was put behind the others once. */
  isDeferred: boolean;
  /** Whether it is only asked for to see if the relay answers, and how it takes bounds; it proves nothing. */
  isControl: boolean;
  /** How many requests for it ended without an end of the page. */
  failures: number;
  /** Whether a request for it came to its end. */
  hasAnswered: boolean;
  /** Whether it is a part of a window that ended so twice; and the upper end of that window. */
  isNarrowed: boolean;
  origin: number;
  answers: number;
  /** The largest answer, and how many answers were as large. */
  most: number;
  agreeing: number;
}

/** A gap as the first task that it makes. Hints that lie elsewhere than they should are none. */
export function taskOf({ since, until, anchor, known = null }: Gap): Task {
  const task = newTask(since, until);
  if (anchor !== null && anchor < since) task.anchor = anchor;
  if (known === null || known < since || known > until) return task;
  return { ...task, known, stale: true };
}

/** A window of which nothing is known yet. */
export function newTask(since: number, until: number): Task {
  return {
    ...{ since, until, anchor: null, known: null, stale: false, follows: null },
    ...{
      second: null,
      emptyAsks: null,
      empties: 0,
      misses: 0,
      doubt: false,
      alone: false,
      isPlain: false,
    },
    ...{
      isProbe: false,
      isControl: false,
      isDeferred: false,
      failures: 0,
      hasAnswered: false,
      isNarrowed: false,
      origin: until,
    },
    ...{ answers: 0, most: 0, agreeing: 0 },
  };
}

/** The window of a task, and nothing else of it. */
export function windowOf({ since, until }: Task): Window {
  return { since, until };
}

/** Notes how many events an answer showed. @returns whether two answers of the largest count so far have come. */
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

/** Begins anew with what was counted of the answers. */
export function forgetAnswers(task: Task): void {
  task.empties = 0;
  task.answers = 0;
  task.most = 0;
  task.agreeing = 0;
}
