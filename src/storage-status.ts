import type { Logger } from 'pino';
import type { HealthStatus } from './health.ts';

/** What could not be stored is tried again sooner than this, in milliseconds: after it without a failure, it works. */
const STORING_FAILS_MS = 60_000;
/** A database that stays down is logged again this often, in milliseconds. */
const STILL_DOWN_MS = 60_000;
/** Further reasons of one outage are logged once a minute only. */
const MAX_REASONS_LOGGED = 10;
/** Longest reason that is shown, in characters. */
const MAX_REASON_LENGTH = 300;

type Shown = Pick<HealthStatus, 'database' | 'databaseReason' | 'storing' | 'storingReason'>;

/** Whether the database answers and takes what is archived, and why not: for `/health` and the log. */
export class StorageStatus {
  readonly #log: Logger;
  /** Null while the database is up. */
  #reason: string | null = 'not connected yet';
  #wasUp = false;
  #downSince = performance.now();
  #downLoggedAt = Number.NEGATIVE_INFINITY;
  /** Reasons of this outage that were logged: connections that are cut come before what the server says. */
  readonly #logged = new Set<string>();
  #notStoredAt = Number.NEGATIVE_INFINITY;
  #notStored = '';
  #storing: HealthStatus['storing'] = 'works';

  constructor(log: Logger) {
    this.#log = log;
  }

  /** What refused the service while it starts. Whoever waits has logged it. */
  refused(reason: string): void {
    this.#reason = reason.slice(0, MAX_REASON_LENGTH);
    this.#wasUp = false;
  }

  /** @param reason what refused us, and with which words; null when the database answers */
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

  /** @param why which relay could not be stored, and the reason */
  noteStored(works: boolean, why: string): void {
    this.#notStoredAt = works ? Number.NEGATIVE_INFINITY : performance.now();
    this.#notStored = why.slice(0, MAX_REASON_LENGTH);
  }

  /** Logs when storing begins to fail, and when it works again. */
  logStoring(): void {
    const { storing, storingReason: reason } = this.shown();
    if (storing === this.#storing) return;
    this.#storing = storing;
    if (storing === 'fails') this.#log.error({ reason }, 'storing fails');
    else this.#log.info('storing works');
  }

  /** What `/health` shows of it. */
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
