import type { Logger } from 'pino';

/** How often an error that occurs again and again is logged, in milliseconds. */
const EACH_MS = 60_000;

interface Repeated {
  loggedAtMs: number;
  fields: Readonly<Record<string, unknown>>;
  /** Occurrences since the latest line. */
  times: number;
}

/**
 * Errors that may occur for each relay and each try while the database is unavailable or its disk is full. The first is
 * logged at once, further ones with the same message together once a minute: the fields of the latest, and `times`.
 */
export class RepeatedErrors {
  readonly #log: Logger;
  readonly #byMessage = new Map<string, Repeated>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param msg a stable phrase */
  note(fields: Readonly<Record<string, unknown>>, msg: string): void {
    const known = this.#byMessage.get(msg);
    const { loggedAtMs = Number.NEGATIVE_INFINITY, times = 0 } = known ?? {};
    this.#byMessage.set(msg, { loggedAtMs, fields, times: times + 1 });
    this.logDue();
  }

  /** Logs what is due. To be called once a second. */
  logDue(): void {
    const before = performance.now() - EACH_MS;
    for (const [msg, { loggedAtMs, times }] of this.#byMessage) {
      if (loggedAtMs > before) continue;
      if (times > 0) this.#logOne(msg);
      else this.#byMessage.delete(msg);
    }
  }

  /** Logs everything that has not been logged. */
  flush(): void {
    for (const [msg, { times }] of this.#byMessage) if (times > 0) this.#logOne(msg);
  }

  #logOne(msg: string): void {
    const repeated = this.#byMessage.get(msg);
    if (!repeated) return;
    this.#log.error({ ...repeated.fields, times: repeated.times }, msg);
    repeated.times = 0;
    repeated.loggedAtMs = performance.now();
  }
}
