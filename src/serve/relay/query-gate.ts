/** Who waits for the database. */
interface Waiting {
  readonly address: string;
  readonly begin: () => void;
}

/**
 * Lets a number of reads run at a time, of each client address not more than its share, so that slow questions of one
 * client leave connections to the others. Those that wait begin in the order in which they came, except that an address
 * with its share running is passed over.
 */
export class QueryGate {
  readonly #slots: number;
  readonly #share: number;
  readonly #running = new Map<string, number>();
  #all = 0;
  #waiting: Waiting[] = [];

  /** @param slots reads at a time; one address has at most half of them */
  constructor(slots: number) {
    this.#slots = slots;
    this.#share = Math.max(1, Math.floor(slots / 2));
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Runs work when a slot is free. */
  async run<T>(address: string, work: () => Promise<T>): Promise<T> {
    if (!this.#mayRun(address)) {
      await new Promise<void>((begin) => this.#waiting.push({ address, begin }));
    } else this.#begin(address);
    try {
      return await work();
    } finally {
      this.#end(address);
    }
  }

  #mayRun(address: string): boolean {
    return this.#all < this.#slots && (this.#running.get(address) ?? 0) < this.#share;
  }

  #begin(address: string): void {
    this.#all += 1;
    this.#running.set(address, (this.#running.get(address) ?? 0) + 1);
  }

  #end(address: string): void {
    this.#all -= 1;
    const left = (this.#running.get(address) ?? 1) - 1;
    if (left > 0) this.#running.set(address, left);
    else this.#running.delete(address);
    const next = this.#waiting.findIndex((waiting) => this.#mayRun(waiting.address));
    if (next < 0) return;
    const [waiting] = this.#waiting.splice(next, 1);
    if (!waiting) return;
    this.#begin(waiting.address);
    waiting.begin();
  }
}
