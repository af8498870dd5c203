import { setTimeout as sleep } from 'node:timers/promises';
import type { DaysWanted } from '../database/figures/dirty-days.ts';
import { isTransientFailure } from '../runtime/failure.ts';
import type { Service } from '../runtime/service.ts';

/** Pause when nothing is due, in milliseconds. */
const IDLE_MS = 5000;
/** Pause before a retry while the database is unavailable, in milliseconds. */
const UNAVAILABLE_MS = 2000;
/** Pause while rows of the journal are held back by a running transaction, and how long that is waited for, in milliseconds. */
const HELD_BACK_MS = 200;
const MAX_HELD_BACK_MS = 60_000;
/** The events of the latest hour, day, week and 30 days are counted this often, in milliseconds. */
const RECENT_MS = 60_000;
/** The cover of relays and dangling references are counted this often, in milliseconds. */
const SAMPLES_MS = 6 * 3_600_000;
/** Progress of a rebuild is logged this often, in milliseconds. */
const PROGRESS_MS = 10_000;
/** Longest pause after a piece of work, in milliseconds. */
const MAX_PAUSE_MS = 600_000;
/** Due days looked up at a time: those that another refresher recounts are passed over. */
const CANDIDATES = 20;

type Needed = Pick<
  Service,
  'bigbrotr' | 'log' | 'signal' | 'detail' | 'logRepeated' | 'noteStored' | 'setBusy'
> & {
  readonly metrics: Pick<Service['metrics'], 'count' | 'figuresWaiting' | 'journalLag'>;
};

/** Keeps the figures: the journal first, then one day after another, with pauses that leave the database to others. */
export class Refreshing {
  readonly #service: Needed;
  readonly #cpuShare: number;
  readonly #wanted: DaysWanted;
  #recentAtMs = Number.NEGATIVE_INFINITY;
  #samplesAtMs = Number.NEGATIVE_INFINITY;
  #loggedAtMs = Number.NEGATIVE_INFINITY;

  /**
   * @param cpuShare share of the time that it may keep one connection of the database busy, above 0 and up to 1
   * @param wanted the days that `follow` recounts
   */
  constructor(service: Needed, cpuShare: number, wanted: DaysWanted = 'due') {
    this.#service = service;
    this.#cpuShare = cpuShare;
    this.#wanted = wanted;
  }

  /** Follows the archive until the service stops. @throws DatabaseError that is permanent */
  async follow(): Promise<void> {
    const { signal } = this.#service;
    while (!signal.aborted) {
      const startedMs = performance.now();
      const isIdle = await this.#step().catch((error: Error) => this.#putOff(error));
      const busyMs = performance.now() - startedMs;
      const pauseMs = Math.min(busyMs * (1 / this.#cpuShare - 1), MAX_PAUSE_MS);
      await this.#pause(isIdle ? Math.max(pauseMs, IDLE_MS) : pauseMs);
    }
  }

  /** Reads the journal to its end and recounts, without pauses, until no such day is left. @throws DatabaseError */
  async finish(wanted: DaysWanted): Promise<void> {
    const { signal } = this.#service;
    this.#service.setBusy(true);
    await this.#readJournal();
    while (!signal.aborted && (await this.#recountOne(wanted))) await this.#logProgress();
    while (!signal.aborted && (await this.#countPeriod(wanted))) await this.#logProgress();
    if (!signal.aborted) await this.#countRecent();
    if (!signal.aborted) await this.#countSamples();
    await this.#report();
    this.#service.setBusy(false);
  }

  /** Makes all figures anew, or goes on where an earlier rebuild was stopped. @throws DatabaseError */
  async rebuild(): Promise<void> {
    const { bigbrotr, log } = this.#service;
    const { days, isResumed } = await bigbrotr.figures.startRebuild();
    log.info({ days }, isResumed ? 'going on with the rebuild' : 'all figures are made anew');
    await this.finish('all');
    const left = await bigbrotr.figures.dirtyDays();
    log.info({ daysLeft: left.rebuild }, left.rebuild > 0 ? 'rebuild stopped' : 'rebuild finished');
  }

  /** @returns whether nothing is left to do for now */
  async #step(): Promise<boolean> {
    const { bigbrotr, setBusy } = this.#service;
    const state = await bigbrotr.figures.followJournal();
    const recounted =
      (await this.#recountOne(this.#wanted)) || (await this.#countPeriod(this.#wanted));
    if (performance.now() - this.#recentAtMs > RECENT_MS) {
      await this.#countRecent();
      await this.#report();
    }
    if (performance.now() - this.#samplesAtMs > SAMPLES_MS) await this.#countSamples();
    const isIdle = state !== 'rows' && !recounted;
    setBusy(!isIdle);
    return isIdle;
  }

  /** Waits for transactions that hold rows back: what is committed already may lie behind them. */
  async #readJournal(): Promise<void> {
    const { bigbrotr, signal } = this.#service;
    const endMs = performance.now() + MAX_HELD_BACK_MS;
    while (!signal.aborted) {
      const state = await bigbrotr.figures.followJournal();
      if (state === 'end') return;
      if (state === 'rows') continue;
      if (performance.now() > endMs) return;
      await this.#pause(HELD_BACK_MS);
    }
  }

  /** @returns whether a day was recounted */
  async #recountOne(wanted: DaysWanted): Promise<boolean> {
    const { bigbrotr, detail, log, metrics, noteStored } = this.#service;
    for (const day of await bigbrotr.figures.daysToCount(wanted, CANDIDATES)) {
      const date = dateOf(day);
      detail('recounting', date);
      const startedMs = performance.now();
      const counted = await bigbrotr.figures.recountDay(day);
      detail('recounting', '');
      if (!counted) continue;
      const ms = Math.round(performance.now() - startedMs);
      log.debug({ day: date, ...counted, ms }, 'day recounted');
      metrics.count({ days_counted: 1 });
      noteStored(true);
      return true;
    }
    return false;
  }

  /** @returns whether the users of a day, week or month were counted */
  async #countPeriod(wanted: DaysWanted): Promise<boolean> {
    const { figures } = this.#service.bigbrotr;
    for (const period of await figures.periodsToCount(wanted, CANDIDATES))
      if (await figures.countPeriod(period)) return true;
    return false;
  }

  async #countSamples(): Promise<void> {
    const { figures } = this.#service.bigbrotr;
    await figures.rankRelays();
    await figures.countReferences();
    this.#samplesAtMs = performance.now();
  }

  async #countRecent(): Promise<void> {
    await this.#service.bigbrotr.figures.countRecent();
    this.#recentAtMs = performance.now();
  }

  async #report(): Promise<{ readonly days: number; readonly rebuild: number }> {
    const { bigbrotr, metrics } = this.#service;
    const waiting = await bigbrotr.figures.dirtyDays();
    metrics.figuresWaiting(waiting.days, waiting.behindSeconds);
    metrics.journalLag('refresher', await bigbrotr.journal.lag('refresher'));
    return waiting;
  }

  async #logProgress(): Promise<void> {
    if (performance.now() - this.#loggedAtMs < PROGRESS_MS) return;
    this.#loggedAtMs = performance.now();
    const { days, rebuild } = await this.#report();
    this.#service.log.info({ daysLeft: days, ofRebuild: rebuild }, 'recounting days');
  }

  /** @returns false: it is tried again soon */
  async #putOff(error: Error): Promise<boolean> {
    if (!isTransientFailure(error)) throw error;
    this.#service.noteStored(false, error.message);
    this.#service.logRepeated({ reason: error.message }, 'figures cannot be refreshed');
    await this.#pause(UNAVAILABLE_MS);
    return false;
  }

  async #pause(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.#service.signal }).catch(() => {});
  }
}

/** A day since 1970-01-01 as text: `2026-11-30`. Days may lie after the last that JavaScript knows. */
function dateOf(day: number): string {
  const date = new Date(day * 86_400_000);
  return Number.isNaN(date.getTime()) ? `day ${day}` : (date.toISOString().split('T')[0] ?? '');
}
