/** Interval between two waiters, in milliseconds: the first may use up the room. */
const NEXT_AFTER_MS = 5;

/**
 * Bytes of events that a thread holds: received, and not processed yet. All of its relays may send the largest events at
 * once; above the budget they wait in the sockets. The bound is not exact: each relay that is being read may add one
 * message.
 */
export class ByteBudget {
  readonly #limit: number;
  #held = 0;
  #most = 0;
  #waiting = new Set<() => void>();
  #next: NodeJS.Timeout | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Whether reading should stop. */
  get isSpent(): boolean {
    return this.#held >= this.#limit;
  }

  /** The most bytes held at the same time. */
  get most(): number {
    return this.#most;
  }

  take(bytes: number): void {
    this.#held += bytes;
    this.#most = Math.max(this.#most, this.#held);
  }

  give(bytes: number): void {
    this.#held -= bytes;
    this.#wakeNext();
  }

  /** Calls the handler once there is room, one waiter after another. @returns a function that stops the wait */
  onRoom(handler: () => void): () => void {
    this.#waiting.add(handler);
    this.#wakeNext();
    return () => this.#waiting.delete(handler);
  }

  #wakeNext(): void {
    const [first] = this.#waiting;
    if (first === undefined || this.isSpent || this.#next !== null) return;
    this.#next = setTimeout(() => {
      this.#next = null;
      this.#wakeNext();
    }, NEXT_AFTER_MS);
    this.#waiting.delete(first);
    first();
  }
}
