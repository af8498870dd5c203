import type { Service } from '../runtime/service.ts';

/** Interval at which old rows are dropped, in milliseconds. */
const TRIM_MS = 600_000;

/** Measures how far the finder lags behind the journal, and drops rows that are read and old. */
export class JournalKeeper {
  readonly #service: Pick<Service, 'bigbrotr' | 'metrics' | 'signal'>;
  readonly #days: number;
  #trimmedAtMs = Number.NEGATIVE_INFINITY;

  /** @param days how long rows are kept */
  constructor(service: Pick<Service, 'bigbrotr' | 'metrics' | 'signal'>, days: number) {
    this.#service = service;
    this.#days = days;
  }

  /** Measures the lag, and trims the journal if that was not done of late. @throws DatabaseError */
  async look(): Promise<void> {
    const { bigbrotr, metrics, signal } = this.#service;
    metrics.journalLag('finder', await bigbrotr.journal.lag('finder'));
    if (performance.now() - this.#trimmedAtMs < TRIM_MS) return;
    let isDone = false;
    while (!isDone && !signal.aborted) ({ isDone } = await bigbrotr.journal.trim(this.#days));
    this.#trimmedAtMs = performance.now();
  }
}
