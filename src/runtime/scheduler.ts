/**
 * Runs jobs in worker threads: one queue, a bounded number of jobs in each worker, and a new worker for each one that
 * crashes.
 *
 * A *worker slot* has a number and is in one of four states:
 * - *starting*: its worker thread connects to the database. It leads to *ready*; while the database is unavailable, the
 *   worker is started again with back-off (200 ms, doubled up to 3.2 s).
 * - *ready*: its worker takes up to `jobsPerWorker` jobs. It leads to *replaced* when the worker ends: by an uncaught
 *   error, by its heap limit, or terminated after eight pings (two minutes) without an answer.
 * - *replaced*: it waits with the same back-off, then is *starting* again.
 * - *abandoned*, permanently: after five restarts in a row without a result. When all slots are abandoned, `onDead` is
 *   called and every job fails.
 *
 * A *job* is *waiting* in the queue, *running* in a slot, or *settled*. When its worker crashes, a running job returns to
 * the head of the queue, twice at most; the third time it has the worker to itself. If that crashes too, the job is the
 * cause: it settles with `crashesWorker`. Up to five different jobs may crash a slot's workers before the slot itself
 * is considered broken (its restarts count only from then on); any result resets both counts. An endless job
 * (`isEndless`) is not retried: it settles as failed, and its caller starts it again.
 *
 * Guaranteed: `run` never rejects and settles exactly once; other jobs on a worker that one job crashed are retried and
 * get their result; a job with `slotOf` runs in the same slot until that slot is abandoned; after `stop` no thread is
 * left.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import type { NetworkNews } from '../network/own-network.ts';
import type { Logger } from '../telemetry/logger.ts';
import { JobQueue, MAX_TRIES, type QueueOptions } from './job-queue.ts';
import { workerHeapMb } from './worker-heap.ts';
import { type JobOutcome, newWorkerSlot, type QueuedJob, type WorkerSlot } from './worker-slot.ts';
import type { FromWorker, ToWorker } from './worker-thread.ts';

export interface SchedulerOptions<Job, Progress> extends QueueOptions<Job> {
  readonly workerUrl: URL;
  /** Plain data for each worker: its configuration. */
  readonly workerData: object;
  readonly workers: number;
  readonly log: Logger;
  /** Called when every slot is abandoned: no job can run any more. */
  readonly onDead: (reason: string) => void;
  /** Interval of pings to the workers, in milliseconds. Default: 15,000. */
  readonly pingMs?: number;
  /** Waits before a restart. Default: a timer. */
  readonly delay?: (ms: number) => Promise<unknown>;
  /** Receives the progress that running jobs report. */
  readonly onProgress?: (progress: Progress) => void;
  /** Receives what worker threads see of our own network. */
  readonly onNetwork?: (news: NetworkNews) => void;
  /** Called when the worker of a slot ended: whatever it held besides its jobs, such as connections, is lost. */
  readonly onWorkerDied?: (slot: number) => void;
}

const RESTART_DELAY_MS = 200;
/** The delay before a start doubles at most this many times: a worker notices within seconds that its database is back. */
const MAX_DOUBLINGS = 4;
/** A worker that is not ready is terminated when it has not stopped by itself within this time, in milliseconds. */
const STOP_UNREADY_MS = 1000;
const PING_MS = 15_000;
/** After this many unanswered pings in a row the event loop of a worker is considered blocked: it is terminated. */
const MAX_PINGS = 8;
/** The reason, in the archive and the metrics, of a relay that is set aside because its jobs crash their worker. */
export const WORKER_DIED = 'worker_died';
/** A slot whose workers end more often than this without a result in between is abandoned. */
const MAX_RESTARTS_WITHOUT_RESULT = 5;
/** Up to this many different jobs may crash a slot's workers without a result in between before restarts are counted. */
const MAX_CRASHING_JOBS = 5;

/** Limits of how long the workers may wait for their database when they start. */
interface StartOptions {
  /** Ends the wait. */
  readonly signal?: AbortSignal;
  /** Milliseconds; Infinity: until it answers. Default: 0. */
  readonly waitMs?: number;
}

/** A worker could not start; `transient`: because its database is unavailable. */
class StartFailure extends Error {
  readonly transient: boolean;

  constructor(message: string, transient: boolean) {
    super(message);
    this.transient = transient;
  }
}

export class Scheduler<Job, Result, Progress = never> {
  readonly #options: SchedulerOptions<Job, Progress>;
  readonly #slots: WorkerSlot<Job, Result>[];
  readonly #queue: JobQueue<Job, Result>;
  readonly #delay: (ms: number) => Promise<unknown>;
  #stopping = false;

  constructor(options: SchedulerOptions<Job, Progress>) {
    this.#options = options;
    this.#delay = options.delay ?? ((ms) => sleep(ms));
    this.#slots = Array.from({ length: options.workers }, (_, index) => newWorkerSlot(index));
    this.#queue = new JobQueue(this.#slots, options);
  }

  /** Jobs that run now. */
  get running(): number {
    return this.#slots.reduce((sum, slot) => sum + slot.running.size, 0);
  }

  /** Keys of the jobs that run now. */
  runningKeys(): string[] {
    return this.#slots.flatMap(({ running }) => [...running.values()].map(({ key }) => key));
  }

  /** The slot that runs the jobs with a number. When it is abandoned, another slot does, and no other number moves. */
  slotFor(number: number): number {
    return this.#queue.slotFor(number);
  }

  /** Jobs that could start at once, by slot: 0 while a worker is replaced. Jobs that wait for a slot are subtracted. */
  freeSlots(): number[] {
    return this.#queue.freeSlots();
  }

  /** Jobs that wait for a worker. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Jobs that could start at once, of all slots. Waiting jobs are subtracted. */
  get totalFreeSlots(): number {
    return this.#queue.totalFreeSlots;
  }

  /**
   * Starts every worker, or none. A worker whose database is unavailable is started again with back-off.
   *
   * @throws Error with the message of the first worker that cannot start, AbortError when the signal aborts
   */
  async start({ signal, waitMs = 0 }: StartOptions = {}): Promise<void> {
    const stop = () => void this.stop();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      signal?.throwIfAborted();
      const until = performance.now() + waitMs;
      await Promise.all(this.#slots.map((slot) => this.#startFirst(slot, until)));
    } catch (error) {
      await this.stop(); // a remaining thread would keep the process alive
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
    }
  }

  async #startFirst(slot: WorkerSlot<Job, Result>, until: number): Promise<void> {
    for (let doublings = 0; ; doublings = Math.min(doublings + 1, MAX_DOUBLINGS)) {
      try {
        return await this.#startWorker(slot);
      } catch (error) {
        const isTransient = error instanceof StartFailure && error.transient;
        const delay = RESTART_DELAY_MS * 2 ** doublings;
        if (!isTransient || this.#stopping || performance.now() + delay > until) throw error;
        const { message: reason } = error;
        this.#options.log.warn({ thread: slot.name, reason }, 'a worker waits for its database');
        await this.#delay(delay);
        if (this.#stopping) throw error;
      }
    }
  }

  /** Runs one job as soon as a worker is free. Never rejects. */
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

  /** Ends whatever runs or waits for a key, in every worker: its claim was lost. Running jobs are aborted and settle by themselves. */
  cancel(key: string): void {
    this.#queue.cancel(key);
    for (const { worker } of this.#slots)
      worker?.postMessage({ type: 'cancel', name: key } satisfies ToWorker<Job>);
  }

  /** Fails the waiting jobs, aborts the running ones, and waits until every worker has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#queue.giveUp('stopping');
    await Promise.all(this.#slots.map((slot) => this.#stopWorker(slot)));
  }

  #stopWorker(slot: WorkerSlot<Job, Result>): Promise<void> {
    const { worker } = slot;
    if (!worker) return Promise.resolve();
    return new Promise((resolve) => {
      // A worker that is not ready has nothing to store, and does not read messages while it waits for its database.
      const cut = setTimeout(() => !slot.ready && void worker.terminate(), STOP_UNREADY_MS);
      worker.once('exit', () => {
        clearTimeout(cut);
        resolve();
      });
      worker.postMessage({ type: 'stop' } satisfies ToWorker<Job>);
    });
  }

  #startWorker(slot: WorkerSlot<Job, Result>): Promise<void> {
    const { workerUrl, workerData, workers, jobsPerWorker, log } = this.#options;
    const worker = new Worker(workerUrl, {
      workerData: { ...workerData, threadName: slot.name },
      resourceLimits: { maxOldGenerationSizeMb: workerHeapMb(workers, jobsPerWorker) },
    });
    slot.worker = worker;
    return new Promise((resolve, reject) => {
      let fatal: string | null = null;
      let transient = false;
      const watch = this.#watch(worker, slot, () => {
        fatal = 'no sign of life';
      });
      worker.on('message', (message: FromWorker<Result, Progress>) => {
        if (message.type === 'pong') return;
        if (message.type === 'ready') {
          slot.ready = true;
          slot.started = true;
          slot.startsWithoutDatabase = 0;
          log.info({ thread: slot.name }, message.note);
          resolve();
          this.#queue.dispatch();
        } else if (message.type === 'fatal') ({ message: fatal, transient } = message);
        else if (message.type === 'network') this.#options.onNetwork?.(message.news);
        else if (message.type === 'progress') this.#options.onProgress?.(message.progress);
        else this.#settle(slot, message);
      });
      worker.on('error', (error) => {
        fatal = error.message;
        log.error({ thread: slot.name, err: error }, 'a worker thread failed');
      });
      worker.on('exit', (code) => {
        clearInterval(watch);
        const why = fatal ?? `a worker thread ended with code ${code} before it was ready`;
        reject(new StartFailure(why, transient));
        void this.#replace(slot, fatal ?? `exit code ${code}`, transient);
      });
    });
  }

  /** Terminates a worker that does not answer pings. Pings are counted, not time: a suspended machine sends none. */
  #watch(worker: Worker, slot: WorkerSlot<Job, Result>, onHung: () => void): NodeJS.Timeout {
    let unanswered = 0;
    worker.on('message', () => {
      unanswered = 0;
    });
    return setInterval(() => {
      if (!slot.ready) return; // it does not answer while it waits for its database
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
    slot: WorkerSlot<Job, Result>,
    message: Extract<FromWorker<Result, Progress>, { key: string }>,
  ): void {
    const waiting = slot.running.get(message.key);
    if (!waiting) return;
    slot.running.delete(message.key);
    slot.restartsWithoutResult = 0;
    slot.crashingJobs.clear();
    waiting.resolve(
      message.type === 'result'
        ? { ok: true, result: message.result }
        : {
            ok: false,
            reason: message.reason,
            notStored: message.notStored,
            claimLost: message.claimLost,
          },
    );
    this.#queue.dispatch();
  }

  /** Replaces a worker that has ended: its jobs are queued again or settled. */
  async #replace(slot: WorkerSlot<Job, Result>, why: string, transient: boolean): Promise<void> {
    const orphans = [...slot.running.values()];
    slot.worker = null;
    slot.ready = false;
    slot.running = new Map();
    for (const orphan of orphans) this.#retry(orphan, slot, `the worker died: ${why}`);
    if (this.#stopping || !slot.started) return;
    this.#options.onWorkerDied?.(slot.index);
    if (transient) slot.startsWithoutDatabase += 1;
    else slot.restartsWithoutResult += 1;
    if (slot.restartsWithoutResult > MAX_RESTARTS_WITHOUT_RESULT) {
      this.#abandon(slot, why);
      return;
    }
    this.#queue.dispatch(); // another worker may be idle
    this.#options.log.warn(
      { thread: slot.name, reason: why, jobs: orphans.length },
      'a worker died, starting another',
    );
    const doublings = Math.min(
      Math.max(slot.restartsWithoutResult, slot.startsWithoutDatabase) - 1,
      MAX_DOUBLINGS,
    );
    await this.#delay(RESTART_DELAY_MS * 2 ** doublings);
    if (!this.#stopping) await this.#startWorker(slot).catch(() => {}); // its exit calls this again
  }

  #retry(orphan: QueuedJob<Job, Result>, slot: WorkerSlot<Job, Result>, reason: string): void {
    if (this.#stopping || this.#queue.isEndless(orphan)) orphan.resolve({ ok: false, reason });
    else if (orphan.tries < MAX_TRIES) this.#queue.putBack(orphan);
    else {
      slot.crashingJobs.add(orphan.key);
      if (slot.crashingJobs.size <= MAX_CRASHING_JOBS) slot.restartsWithoutResult = 0;
      orphan.resolve({ ok: false, reason, crashesWorker: true });
    }
  }

  #abandon(slot: WorkerSlot<Job, Result>, why: string): void {
    this.#options.log.fatal(
      { thread: slot.name, reason: why },
      'worker slot abandoned: its workers keep crashing',
    );
    slot.abandoned = true;
    if (this.#queue.isServed) {
      this.#queue.dispatch();
      return;
    }
    this.#queue.giveUp('no worker is left');
    this.#options.onDead(why);
  }
}
