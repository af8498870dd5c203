import type { NostrEvent } from '../../nostr/event.ts';
import { isTransient } from '../../nostr/transient.ts';
import { divide } from './divide.ts';
import type { PageTally, Presence } from './tally.ts';
import type { Task } from './task.ts';
import { NOTHING, type Step } from './verdict.ts';

/** Pages of one window with nothing but passing events that are requested again. */
const MAX_PASSES = 2;
/** Transient events that are remembered in one reading; more count as passing whenever they are shown. */
const MAX_REMEMBERED = 20_000;

/** Distinguishes transient events that a relay stores from those that it only passes on: only the former are shown twice. */
export class TransientEvents {
  readonly #shown = new Set<string>();
  /** Those of the page that is being read. */
  #ofPage: string[] = [];

  /** Begins another page. */
  beginPage(): void {
    for (const id of this.#ofPage) if (this.#shown.size < MAX_REMEMBERED) this.#shown.add(id);
    this.#ofPage = [];
  }

  /** @param event absent for a malformed one. @param now Unix seconds */
  presenceOf(event: NostrEvent | undefined, now: number): Presence {
    if (event === undefined || !isTransient(event, now)) return 'lasting';
    if (this.#shown.has(event.id)) return 'repeated';
    this.#ofPage.push(event.id);
    return 'passing';
  }
}

/**
 * Evaluates a page that shows passing events and nothing else of its window. Those that the relay stores count when they
 * are shown again. @returns null if the page is an empty one
 */
export function judgePassing(task: Task, page: PageTally, mayBeCut: boolean): Step | null {
  if (page.passing === 0) return null;
  task.passes += 1;
  if (task.passes <= MAX_PASSES) return NOTHING;
  return mayBeCut ? divide(task, page, 'dense') : null;
}
