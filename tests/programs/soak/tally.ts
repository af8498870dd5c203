/** Counts of what has happened, by name; and what went wrong, each once. */
export class Tally {
  readonly counts = new Map<string, number>();
  readonly failures = new Map<string, number>();
  readonly #onFailure: (sentence: string) => void;

  /** @param onFailure is called once for each failure, when it is found */
  constructor(onFailure: (sentence: string) => void) {
    this.#onFailure = onFailure;
  }

  count(name: string, by = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + by);
  }

  counted(name: string): number {
    return this.counts.get(name) ?? 0;
  }

  /** One sentence: what is wrong, and where. */
  fail(sentence: string): void {
    if (!this.failures.has(sentence)) this.#onFailure(sentence);
    this.failures.set(sentence, (this.failures.get(sentence) ?? 0) + 1);
  }
}
