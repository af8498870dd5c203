/** A relay that could not be judged is tried again after this, in milliseconds, also where no return was noticed. */
const HELD_BACK_MS = 60_000;

/**
 * Relays whose latest visit failed because a part of our network was down. They stay due, and are left out of look-ups
 * until a part of our network is back, instead of being tried repeatedly during the outage.
 */
export class HeldBack {
  readonly #until = new Map<number, number>();
  readonly #now: () => number;
  /** When a part of our network was last back. */
  #returnedMs = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a clock that is never set back; `performance.now` unless given */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** @param beganMs when its visit began: one that began before the latest return is to be tried again, not held back */
  add(relayId: number, beganMs = this.#now()): void {
    if (beganMs < this.#returnedMs) return;
    this.#until.set(relayId, this.#now() + HELD_BACK_MS);
  }

  /** A part of our network is back. */
  clear(): void {
    this.#returnedMs = this.#now();
    this.#until.clear();
  }

  /** Keys that are left out of look-ups now. */
  keys(): number[] {
    const now = this.#now();
    for (const [key, until] of this.#until) if (until <= now) this.#until.delete(key);
    return [...this.#until.keys()];
  }
}
