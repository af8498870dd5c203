import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { Logger } from './logger.ts';
import { JobQueue, MAX_TRIES } from './scheduler/job-queue.ts';
import { newSeat, type Seat, type Waiting } from './scheduler/seat.ts';
import { workerHeapMb } from './scheduler/worker-heap.ts';
import type { FromWorker, ToWorker } from './worker-thread.ts';

export interface SchedulerOptions<Job, Progress> {
  readonly workerUrl: URL;
  /** Plain data for each worker: its configuration. */
  readonly workerData: object;
  readonly workers: number;
  /** Jobs that one worker does at a time. */
  readonly jobsPerWorker: number;
  readonly log: Logger;
  /** Hears that no worker is left that works: nothing will be done any more. */
  readonly onDead: (reason: string) => void;
  /** Which worker does a job, as any number that stays the same for it (`seatFor`); else whichever is freest. */
  readonly seatOf?: (job: Job) => number;
  /**
   * Whether a job goes on until it is told to stop. It ends with its worker and is for its caller to begin anew; nobody
   * waits for its end, to have a worker to itself.
   */
  readonly isLasting?: (job: Job) => boolean;
  /** How often workers are asked for a sign of life, in milliseconds: 15,000 unless told. */
  readonly pingMs?: number;
  /** Hears what jobs tell while they run. */
  readonly onProgress?: (progress: Progress) => void;
  /** Hears that the worker of a seat died, with all that it held beside its jobs. Seats keep their number for good. */
  readonly onWorkerDied?: (seat: number) => void;
}

/**
 * How a job ended. `reason`: an error in the worker, or its death. `deadly`: the job is to blame for that.
 * `notStored`: the database did not take what the job had.
 */
export type JobOutcome<Result> =
  | { ok: true; result: Result }
  | { ok: false; reason: string; deadly?: true; notStored?: boolean };

const RESTART_DELAY_MS = 200;
/** The delay before each next start doubles so often: a worker whose database is away finds it within seconds. */
const MAX_DOUBLINGS = 4;
/** A worker that is not ready is ended when it has not stopped by itself in this time, in milliseconds. */
const STOP_UNREADY_MS = 1000;
/** A worker is asked for a sign of life this often, in milliseconds. */
const PING_MS = 15_000;
/** With so many in a row unanswered it is caught in something that never ends: it is ended, as one that died. */
const MAX_PINGS = 8;
/** Why a relay is set aside, in the archive and the metrics, whose jobs end the worker that does them. */
export const WORKER_DIED = 'worker_died';
/** A worker that dies this often without one result in between cannot work at all. */
const MAX_BARREN_RESTARTS = 5;
/** Its deaths by so many different jobs are the fault of those jobs; by more without a result in between, its own. */
const MAX_DEADLY_JOBS = 5;

/** How long a start of workers may wait for their database. */
export interface StartOptions {
  /** Ends the wait. */
  readonly signal?: AbortSignal;
  /** Milliseconds; Infinity: until it answers. Not at all unless told. */
  readonly waitMs?: number;
}

/** A worker could not start; `passing`: because its database is away. */
class StartFailure extends Error {
  readonly passing: boolean;

  constructor(message: string, passing: boolean) {
    super(message);
    this.passing = passing;
  }
}

/**
 * Worker threads and the jobs they do: a queue in front, a bounded number of jobs in each worker, a new worker
 * for one that died. A job that was running in it is done again, and given up when it kills a worker that it has to
 * itself.
 */
export class Scheduler<Job, Result, Progress = never> {
  readonly #options: SchedulerOptions<Job, Progress>;
  readonly #seats: Seat<Job, Result>[];
  readonly #queue: JobQueue<Job, Result>;
  #stopping = false;

  constructor(options: SchedulerOptions<Job, Progress>) {
    this.#options = options;
    this.#seats = Array.from({ length: options.workers }, (_, index) => newSeat(index));
    this.#queue = new JobQueue(this.#seats, options);
  }

  /** Jobs that are being done now. */
  get running(): number {
    return this.#seats.reduce((sum, seat) => sum + seat.running.size, 0);
  }

  /** Keys of the jobs that are being done now. */
  runningKeys(): string[] {
    return this.#seats.flatMap(({ running }) => [...running.values()].map(({ key }) => key));
  }

  /** The seat that does the jobs of a number: always the same. When that is given up, one other, and no other job moves. */
  seatFor(number: number): number {
    return this.#queue.seatFor(number);
  }

  /** Jobs that could begin at once, by seat: none where the worker is being replaced. Jobs that wait for a seat count. */
  freeSlots(): number[] {
    return this.#queue.freeSlots();
  }

  /** Jobs that wait for a worker. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Jobs that could begin at once beside those that wait, in all. */
  get freeInAll(): number {
    return this.#queue.freeInAll;
  }

  /**
   * Starts every worker, or none. A worker whose database is away is started again with back-off.
   *
   * @throws Error with the sentence of the first worker that cannot start, AbortError when the signal aborts
   */
  async start({ signal, waitMs = 0 }: StartOptions = {}): Promise<void> {
    const stop = () => void this.stop();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      signal?.throwIfAborted();
      const until = performance.now() + waitMs;
      await Promise.all(this.#seats.map((seat) => this.#startFirst(seat, until)));
    } catch (error) {
      await this.stop(); // a thread that is left would keep the process alive
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  async #startFirst(seat: Seat<Job, Result>, until: number): Promise<void> {
    for (let doublings = 0; ; doublings = Math.min(doublings + 1, MAX_DOUBLINGS)) {
      try {
        return await this.#startWorker(seat);
      } catch (error) {
        const passing = error instanceof StartFailure && error.passing;
        const delay = RESTART_DELAY_MS * 2 ** doublings;
        if (!passing || this.#stopping || performance.now() + delay > until) throw error;
        const { message: reason } = error;
        this.#options.log.warn({ thread: seat.name, reason }, 'a worker waits for its database');
        await sleep(delay);
        if (this.#stopping) throw error;
      }
    }
  }

  /** Does one job as soon as a worker is free. Never rejects. */
  run(key: string, job: Job): Promise<JobOutcome<Result>> {
    return new Promise((resolve) => {
      if (this.#stopping || !this.#queue.isServed) {
        resolve({ ok: false, reason: this.#stopping ? 'stopping' : 'no worker is left' });
        return;
      }
      this.#queue.add(key, job, resolve);
      this.#queue.dispatch();
    });
  }

  /** Forgets the queue, lets running jobs end early, and waits until every worker is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#queue.giveUp('stopping');
    await Promise.all(this.#seats.map((seat) => this.#stopWorker(seat)));
  }

  #stopWorker(seat: Seat<Job, Result>): Promise<void> {
    const { worker } = seat;
    if (!worker) return Promise.resolve();
    return new Promise((resolve) => {
      // One that is not ready has nothing to store, and may wait for its database without looking at messages.
      const cut = setTimeout(() => !seat.ready && void worker.terminate(), STOP_UNREADY_MS);
      worker.once('exit', () => {
        clearTimeout(cut);
        resolve();
      });
      worker.postMessage({ type: 'stop' } satisfies ToWorker<Job>);
    });
  }

  #startWorker(seat: Seat<Job, Result>): Promise<void> {
    const { workerUrl, workerData, workers, jobsPerWorker, log } = this.#options;
    const worker = new Worker(workerUrl, {
      workerData: { ...workerData, threadName: seat.name },
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMb(workers, jobsPerWorker) },
    });
    seat.worker = worker;
    return new Promise((resolve, reject) => {
      let fatal: string | null = null;
      let passing = false;
      const watch = this.#watch(worker, seat, () => {
        fatal = 'no sign of life';
      });
      worker.on('message', (message: FromWorker<Result, Progress>) => {
        if (message.type === 'pong') return;
        if (message.type === 'ready') {
          seat.ready = true;
          seat.started = true;
          seat.vainStarts = 0;
          log.info({ thread: seat.name }, message.note);
          resolve();
          this.#queue.dispatch();
        } else if (message.type === 'fatal') ({ message: fatal, passing } = message);
        else if (message.type === 'progress') this.#options.onProgress?.(message.progress);
        else this.#settle(seat, message);
      });
      worker.on('error', (error) => {
        fatal = error.message;
        log.error({ thread: seat.name, err: error }, 'a worker thread failed');
      });
      worker.on('exit', (code) => {
        clearInterval(watch);
        const why = fatal ?? `a worker thread ended with code ${code} before it was ready`;
        reject(new StartFailure(why, passing));
        void this.#replace(seat, fatal ?? `exit code ${code}`, passing);
      });
    });
  }

  /** Ends a worker that answers no more. Pings are counted, not time: a machine that slept has not asked meanwhile. */
  #watch(worker: Worker, seat: Seat<Job, Result>, onHung: () => void): NodeJS.Timeout {
    let unanswered = 0;
    worker.on('message', () => {
      unanswered = 0;
    });
    return setInterval(() => {
      if (!seat.ready) return; // it may wait for its database for long
      if (unanswered >= MAX_PINGS) {
        onHung();
        void worker.terminate();
        return;
      }
      unanswered += 1;
      worker.postMessage({ type: 'ping' } satisfies ToWorker<Job>);
    }, this.#options.pingMs ?? PING_MS).unref();
  }

  #settle(
    seat: Seat<Job, Result>,
    message: Extract<FromWorker<Result, Progress>, { key: string }>,
  ): void {
    const waiting = seat.running.get(message.key);
    if (!waiting) return;
    seat.running.delete(message.key);
    seat.barrenRestarts = 0;
    seat.deadly.clear();
    waiting.resolve(
      message.type === 'result'
        ? { ok: true, result: message.result }
        : { ok: false, reason: message.reason, notStored: message.notStored },
    );
    this.#queue.dispatch();
  }

  /** A worker is gone: its jobs wait again or are given up, and another takes its seat. */
  async #replace(seat: Seat<Job, Result>, why: string, passing: boolean): Promise<void> {
    const orphans = [...seat.running.values()];
    seat.worker = null;
    seat.ready = false;
    seat.running = new Map();
    for (const orphan of orphans) this.#tryAgain(orphan, seat, `the worker died: ${why}`);
    if (this.#stopping || !seat.started) return;
    this.#options.onWorkerDied?.(seat.index);
    if (passing) seat.vainStarts += 1;
    else seat.barrenRestarts += 1;
    if (seat.barrenRestarts > MAX_BARREN_RESTARTS) {
      this.#abandon(seat, why);
      return;
    }
    this.#queue.dispatch(); // another worker may be idle
    this.#options.log.warn(
      { thread: seat.name, reason: why, jobs: orphans.length },
      'a worker died, starting another',
    );
    const doublings = Math.min(Math.max(seat.barrenRestarts, seat.vainStarts) - 1, MAX_DOUBLINGS);
    await sleep(RESTART_DELAY_MS * 2 ** doublings);
    if (!this.#stopping) await this.#startWorker(seat).catch(() => {}); // its exit brings us back here
  }

  #tryAgain(orphan: Waiting<Job, Result>, seat: Seat<Job, Result>, reason: string): void {
    if (this.#stopping || this.#queue.lasts(orphan)) orphan.resolve({ ok: false, reason });
    else if (orphan.tries < MAX_TRIES) this.#queue.putBack(orphan);
    else {
      seat.deadly.add(orphan.key);
      if (seat.deadly.size <= MAX_DEADLY_JOBS) seat.barrenRestarts = 0;
      orphan.resolve({ ok: false, reason, deadly: true });
    }
  }

  #abandon(seat: Seat<Job, Result>, why: string): void {
    this.#options.log.fatal(
      { thread: seat.name, reason: why },
      'a worker dies again and again: its seat stays empty',
    );
    seat.abandoned = true;
    if (this.#queue.isServed) {
      this.#queue.dispatch();
      return;
    }
    this.#queue.giveUp('no worker is left');
    this.#options.onDead(why);
  }
}
