/** Between two senders that are let go on, in milliseconds: the first may use up what there is. */
const NEXT_AFTER_MS = 5;

/**
 * Bytes of events that a thread holds at a time: received, and not yet handed on. Each of its relays may send the
 * largest events there are, and all of them at once; what is over the budget waits in their sockets. It is no exact
 * bound: each relay that is being read from may add one message.
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

  /** Whether nobody should read on. */
  get isSpent(): boolean {
    return this.#held >= this.#limit;
  }

  /** The most bytes that were held at a time. */
  get most(): number {
    return this.#most;
  }

  take(bytes: number): void {
    this.#held += bytes;
    this.#most = Math.max(this.#most, this.#held);
  }

  give(bytes: number): void {
    this.#held -= bytes;
    this.#letGo();
  }

  /** Calls the handler once there is room, one waiter after the other. @returns a function that stops the wait */
  onRoom(handler: () => void): () => void {
    this.#waiting.add(handler);
    this.#letGo();
    return () => this.#waiting.delete(handler);
  }

  #letGo(): void {
    const [first] = this.#waiting;
    if (first === undefined || this.isSpent || this.#next !== null) return;
    this.#next = setTimeout(() => {
      this.#next = null;
      this.#letGo();
    }, NEXT_AFTER_MS);
    this.#waiting.delete(first);
    first();
  }
}
