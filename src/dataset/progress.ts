const PROGRESS_MS = 2000;
const MINUTE = 60;

/** Prints how far a command is, at most every two seconds. */
export class Progress {
  readonly #print: (line: string) => void;
  readonly #what: string;
  readonly #total: number | null;
  readonly #startedMs = performance.now();
  #reportedMs = performance.now();
  #done = 0;

  /** @param total an estimate; null: not known, so that no time left is printed */
  constructor(print: (line: string) => void, what: string, total: number | null) {
    this.#print = print;
    this.#what = what;
    this.#total = total;
  }

  add(count: number): void {
    this.#done += count;
    if (performance.now() - this.#reportedMs < PROGRESS_MS) return;
    this.#reportedMs = performance.now();
    this.#print(this.line);
  }

  /** `1,200,000 events, 61,000 a second, about 3 min left`. */
  get line(): string {
    const seconds = Math.max((performance.now() - this.#startedMs) / 1000, 0.001);
    const rate = this.#done / seconds;
    const parts = [`${number(this.#done)} ${this.#what}, ${number(rate)} a second`];
    if (this.#total !== null && this.#total > this.#done && rate > 0)
      parts.push(`about ${duration((this.#total - this.#done) / rate)} left`);
    return parts.join(', ');
  }
}

/** `12,345`. */
export function number(value: number): string {
  return Math.round(value).toLocaleString('en-US');
}

function duration(seconds: number): string {
  if (seconds < 2 * MINUTE) return `${Math.ceil(seconds)} s`;
  const minutes = Math.ceil(seconds / MINUTE);
  return minutes < 2 * MINUTE ? `${minutes} min` : `${Math.ceil(minutes / MINUTE)} h`;
}
