import type { Gap, Window } from '../../nostr/window.ts';
import { type Task, taskOf, windowOf } from './task.ts';

/** The windows of one reading that are still to be proven, oldest first: the newest is read first. */
export class PageTasks {
  readonly #tasks: Task[];

  constructor(gaps: readonly Gap[]) {
    this.#tasks = gaps.map(taskOf).sort((a, b) => a.until - b.until);
  }

  /** The task that is read next; undefined when nothing is left. */
  get current(): Task | undefined {
    return this.#tasks.at(-1);
  }

  /** Whether an earlier visit has seen events of this relay. */
  get haveHints(): boolean {
    return this.#tasks.some(({ anchor, known }) => anchor !== null || known !== null);
  }

  /** Adds a task that is read before all others. */
  push(task: Task): void {
    this.#tasks.push(task);
  }

  /** Replaces a task by others, oldest first; those with an empty window are skipped. */
  replace(task: Task, by: readonly Task[]): void {
    const parts = by.filter(({ since, until }) => since <= until);
    this.#tasks.splice(this.#tasks.indexOf(task), 1, ...parts);
  }

  /** Moves a task behind the others, once: their answers may help. @returns whether it was moved */
  defer(task: Task): boolean {
    // Otherwise the second that was split off above it would count as settled.
    if (task.isDeferred || task.second !== null || this.#tasks.length < 2) return false;
    task.isDeferred = true;
    task.empties = 0;
    this.#tasks.splice(this.#tasks.indexOf(task), 1);
    this.#tasks.unshift(task);
    return true;
  }

  /** Removes and returns the first windows that need no page of their own. */
  takeWhile(isSettled: (task: Task) => boolean): Window[] {
    const settled: Window[] = [];
    for (let top = this.current; top && isSettled(top); top = this.current) {
      settled.push(windowOf(top));
      this.#tasks.pop();
    }
    return settled;
  }
}
