import type { NostrEvent } from '../nostr/event.ts';
import type { Tally } from './visit-context.ts';

/** A tally that also counts: events that an answer shows for the first time, and those that it shows again. */
export class CountedTally implements Tally {
  shown = 0;
  repeats = 0;
  readonly #tally: Tally;

  constructor(tally: Tally) {
    this.#tally = tally;
  }

  add(id: string, createdAt: number, event?: NostrEvent): boolean {
    const isNew = this.#tally.add(id, createdAt, event);
    if (isNew) this.shown += 1;
    else this.repeats += 1;
    return isNew;
  }

  addUnreadable(count: number): void {
    this.#tally.addUnreadable?.(count);
  }
}
