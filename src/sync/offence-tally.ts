import type { Offence, OffenceReason } from '../database/bigbrotr.ts';

const ID = /^[0-9a-f]{64}$/;

/** What was refused of a relay since it was last stored: one entry a reason, however much came. */
export class OffenceTally {
  #counted = new Map<OffenceReason, Offence>();

  get isEmpty(): boolean {
    return this.#counted.size === 0;
  }

  /** @param id the id that the event claimed; anything that is not one is no example */
  note(reason: OffenceReason, times = 1, id: string | null = null): void {
    const before = this.#counted.get(reason);
    const example = before?.example ?? (id !== null && ID.test(id) ? id : null);
    this.#counted.set(reason, { reason, count: (before?.count ?? 0) + times, example });
  }

  /** Gives what was counted, and begins anew. */
  take(): Offence[] {
    const taken = [...this.#counted.values()];
    this.#counted = new Map();
    return taken;
  }
}
