/**
 * A value that is read again when it is older than an age. Callers share one reading; while an old value is read again,
 * the old one is given, so that only the first caller waits.
 */
export class Cached<T> {
  readonly #read: () => Promise<T>;
  readonly #maxAgeMs: number;
  #value: { readonly of: T; readonly atMs: number } | null = null;
  #reading: Promise<T> | null = null;

  /** @param maxAgeMs 0: each call waits for a reading of its own time */
  constructor(read: () => Promise<T>, maxAgeMs: number) {
    this.#read = read;
    this.#maxAgeMs = maxAgeMs;
  }

  /** @throws what reading throws, while there is no value yet */
  async get(): Promise<T> {
    if (this.#maxAgeMs === 0) return this.#read();
    const value = this.#value;
    if (!value) return this.#begin();
    if (performance.now() - value.atMs > this.#maxAgeMs) this.#begin().catch(() => {});
    return value.of;
  }

  #begin(): Promise<T> {
    this.#reading ??= this.#read()
      .then((of) => {
        this.#value = { of, atMs: performance.now() };
        return of;
      })
      .finally(() => {
        this.#reading = null;
      });
    return this.#reading;
  }
}
