import type { Worker } from 'node:worker_threads';

/**
 * How a job ended. `reason`: an error in the worker, or how the worker ended. `crashesWorker`: the job is the cause of
 * that. `notStored`: the database refused the result. `claimLost`: another process works on it now.
 */
export type JobOutcome<Result> =
  | { ok: true; result: Result }
  | { ok: false; reason: string; crashesWorker?: true; notStored?: boolean; claimLost?: boolean };

/** A job that waits for a worker, or runs in one. */
export interface QueuedJob<Job, Result> {
  /** Unique, unlike the key. */
  readonly id: string;
  readonly key: string;
  readonly job: Job;
  readonly resolve: (outcome: JobOutcome<Result>) => void;
  /** How many times it was sent to a worker. */
  tries: number;
}

/** The numbered place of one worker thread, and of the threads that replace it. */
export interface WorkerSlot<Job, Result> {
  readonly index: number;
  readonly name: string;
  worker: Worker | null;
  ready: boolean;
  /** Whether one of its workers was ever ready: a failure of the first start is reported to the caller of `start`. */
  started: boolean;
  /** Whether its workers crashed too often: it stays empty and keeps its number. */
  abandoned: boolean;
  running: Map<string, QueuedJob<Job, Result>>;
  restartsWithoutResult: number;
  /** Starts in a row that failed because the database was unavailable. They never lead to *abandoned*. */
  startsWithoutDatabase: number;
  /** Keys of jobs that crashed their worker since the latest result. */
  readonly crashingJobs: Set<string>;
}

export function newWorkerSlot<Job, Result>(index: number): WorkerSlot<Job, Result> {
  return {
    index,
    name: `worker-${index + 1}`,
    worker: null,
    ready: false,
    started: false,
    abandoned: false,
    running: new Map(),
    restartsWithoutResult: 0,
    startsWithoutDatabase: 0,
    crashingJobs: new Set(),
  };
}
