import type { PageBounds } from './bounds.ts';
import type { PageFailures } from './failures.ts';
import type { PageRequest, PageTally } from './tally.ts';
import { newTask, type Task } from './task.ts';
import type { PageTasks } from './tasks.ts';
import { NOTHING, type Step } from './verdict.ts';

/**
 * Control requests ask for a second at which the relay has shown an event in this reading. After several requests that
 * broke off they show whether the relay still answers. Once they also show how it applies the bounds of a filter, since
 * narrow windows must not overlap. They prove nothing.
 */
export class PageControls {
  readonly #tasks: PageTasks;
  readonly #bounds: PageBounds;
  readonly #failures: PageFailures;
  /** A second at which a complete page has shown an event. */
  #shownSecond: number | null = null;
  #hasAskedForBounds = false;

  constructor(tasks: PageTasks, bounds: PageBounds, failures: PageFailures) {
    this.#tasks = tasks;
    this.#bounds = bounds;
    this.#failures = failures;
  }

  /** Whether such a second is known. */
  get arePossible(): boolean {
    return this.#shownSecond !== null;
  }

  /** Records a second at which a complete page has shown an event. */
  noteShown({ newestLasting }: PageTally): void {
    this.#shownSecond = newestLasting ?? this.#shownSecond;
  }

  /** Forgets the event that was shown at this second: it is gone. */
  forget(second: number): void {
    if (this.#shownSecond === second) this.#shownSecond = null;
  }

  /** Moves a second behind the other tasks, or at least behind a control that shows how bounds are applied: each once. */
  postpone(current: Task): boolean {
    if (this.#tasks.defer(current)) return true;
    if (this.#shownSecond === null || this.#hasAskedForBounds) return false;
    this.#push(this.#shownSecond);
    return true;
  }

  /** Adds a control request after a request for this task broke off, if one is due. */
  addAfter(current: Task, { tasks }: Step): void {
    const isNarrow = tasks !== undefined || current.isNarrowed;
    const isForBounds = isNarrow && !this.#hasAskedForBounds && !this.#bounds.areKnown;
    if (this.#shownSecond === null || current.isControl) return;
    if (isForBounds || this.#failures.needsControl(current)) this.#push(this.#shownSecond);
  }

  /** Evaluates a control request that was answered completely. */
  judge(current: Task, page: PageTally, asked: PageRequest | null): Step {
    this.noteShown(page);
    if (page.inside > 0 && asked) this.#bounds.noteDoubtful(page, asked, current);
    current.misses += 1;
    current.doubt = true;
    return page.inside > 0 || current.misses > 1 ? { tasks: [] } : NOTHING;
  }

  #push(second: number): void {
    this.#hasAskedForBounds ||= !this.#bounds.areKnown;
    this.#tasks.push({ ...newTask(second, second), known: second, isControl: true });
  }
}
