/** Junk bytes of one connection, until reading from it stops for them. */
export interface JunkAccount {
  /** Charges junk bytes. @returns for how long reading must stop, in milliseconds; mostly 0 */
  spend(bytes: number): number;
  /** The wait is over, or the connection is. */
  release(): void;
}

/** Junk bytes that are charged together, so that there are few waits. */
const CHARGED_BYTES = 64 * 1024;

/**
 * Rate limit for junk traffic (invalid, duplicate or unsolicited messages), shared by all connections of a worker thread.
 * Reading and refusing junk costs about as much as archiving the same number of bytes, and a flood would take that from
 * every other relay of the thread. Connections above the limit are read only now and then, and share the rate.
 */
export class JunkLimit {
  readonly #bytesPerSecond: number;
  #waiting = 0;

  /** @param bytesPerSecond of junk in the whole thread; a byte costs about 60 ns, so 1 MB takes 6 % of it */
  constructor(bytesPerSecond = 1024 * 1024) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Connections that are not read at the moment. */
  get waiting(): number {
    return this.#waiting;
  }

  /** The account of one connection. */
  open(): JunkAccount {
    let charged = 0;
    let waits = false;
    return {
      spend: (bytes) => {
        charged += bytes;
        if (waits || charged < CHARGED_BYTES) return 0;
        waits = true;
        this.#waiting += 1;
        const waitMs = (1000 * charged * this.#waiting) / this.#bytesPerSecond;
        charged = 0;
        return waitMs;
      },
      release: () => {
        if (waits) this.#waiting -= 1;
        waits = false;
      },
    };
  }
}
