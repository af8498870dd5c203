import type { Logger } from 'pino';
import type { HealthStatus } from './health.ts';

/** Storage is reported to work this long after the last failed write, in milliseconds; retries come sooner. */
const STORING_FAILS_MS = 60_000;
/** How often an outage that goes on is logged again, in milliseconds. */
const STILL_DOWN_MS = 60_000;
/** Different reasons logged at once during one outage; further ones once a minute. */
const MAX_REASONS_LOGGED = 10;
/** Longest reason shown, in characters. */
const MAX_REASON_LENGTH = 300;

type Shown = Pick<HealthStatus, 'database' | 'databaseReason' | 'storing' | 'storingReason'>;

/** Whether the database answers and stores what is archived, and why not: for `/health` and the log. */
export class StorageStatus {
  readonly #log: Logger;
  /** Null while the database is up. */
  #reason: string | null = 'not connected yet';
  #wasUp = false;
  #downSince = performance.now();
  #downLoggedAt = Number.NEGATIVE_INFINITY;
  /** Reasons of this outage that were logged: first that connections were cut, then what the server answers. */
  readonly #logged = new Set<string>();
  #notStoredAt = Number.NEGATIVE_INFINITY;
  #notStored = '';
  #storing: HealthStatus['storing'] = 'works';

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Notes why the database refused the service at its start. The caller has logged it. */
  refused(reason: string): void {
    this.#reason = reason.slice(0, MAX_REASON_LENGTH);
    this.#wasUp = false;
  }

  /** @param reason what refused the connection, with its message; null when the database answers */
  noteDatabase(reason: string | null): void {
    const now = performance.now();
    const seconds = Math.round((now - this.#downSince) / 1000);
    const wasDown = this.#reason !== null;
    this.#reason = reason?.slice(0, MAX_REASON_LENGTH) ?? null;
    if (reason === null) {
      if (wasDown && this.#wasUp) this.#log.info({ seconds }, 'database is up');
      this.#wasUp = true;
      return;
    }
    if (!wasDown) {
      this.#downSince = now;
      this.#logged.clear();
    }
    const isKnown = this.#logged.has(reason) || this.#logged.size >= MAX_REASONS_LOGGED;
    if (isKnown && now - this.#downLoggedAt < STILL_DOWN_MS) return;
    this.#downLoggedAt = now;
    this.#logged.add(reason);
    this.#log.error({ reason: this.#reason, seconds: wasDown ? seconds : 0 }, 'database is down');
  }

  /** @param reason which relay's data were not stored, and why */
  noteStored(works: boolean, reason: string): void {
    this.#notStoredAt = works ? Number.NEGATIVE_INFINITY : performance.now();
    this.#notStored = reason.slice(0, MAX_REASON_LENGTH);
  }

  /** Logs when storing starts to fail, and when it works again. */
  logStoring(): void {
    const { storing, storingReason: reason } = this.shown();
    if (storing === this.#storing) return;
    this.#storing = storing;
    if (storing === 'fails') this.#log.error({ reason }, 'storing fails');
    else this.#log.info('storing works');
  }

  /** The fields of `/health`. */
  shown(): Shown {
    const fails = performance.now() - this.#notStoredAt < STORING_FAILS_MS;
    return {
      database: this.#reason === null ? 'up' : 'down',
      ...(this.#reason !== null && { databaseReason: this.#reason }),
      storing: fails ? 'fails' : 'works',
      ...(fails && this.#notStored !== '' && { storingReason: this.#notStored }),
    };
  }
}
