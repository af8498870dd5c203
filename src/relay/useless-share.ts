/** What has come from one connection and was of no use, until its sender is made to wait for it. */
export interface UselessAccount {
  /** Notes so many bytes. @returns for how long, in milliseconds, nothing more is to be read from the sender; mostly 0 */
  spend(bytes: number): number;
  /** The wait is over, or the connection is. */
  release(): void;
}

/** Useless bytes that a sender is let off with each time before it waits, so that waits are few. */
const UNPAID_BYTES = 64 * 1024;

/**
 * The share of a thread that goes to traffic of no use: forged and broken events, repeats, what nobody asked for.
 * Reading and refusing it costs about as much as archiving as many bytes, and a flood would take that from every other
 * relay of the thread. So whoever sends it is read from only now and then, and those who do share what there is.
 */
export class UselessShare {
  readonly #bytesPerSecond: number;
  #waiting = 0;

  /** @param bytesPerSecond of useless traffic in the whole thread; each costs about 60 ns, so 1 MB is a twentieth of it */
  constructor(bytesPerSecond = 1024 * 1024) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Senders that wait now. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The account of one connection. */
  open(): UselessAccount {
    let unpaid = 0;
    let waits = false;
    return {
      spend: (bytes) => {
        unpaid += bytes;
        if (waits || unpaid < UNPAID_BYTES) return 0;
        waits = true;
        this.#waiting += 1;
        const waitMs = (1000 * unpaid * this.#waiting) / this.#bytesPerSecond;
        unpaid = 0;
        return waitMs;
      },
      release: () => {
        if (waits) this.#waiting -= 1;
        waits = false;
      },
    };
  }
}
