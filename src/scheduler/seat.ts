import type { Worker } from 'node:worker_threads';
import type { JobOutcome } from '../scheduler.ts';

/** A job that waits for a worker, or is being done. */
export interface Waiting<Job, Result> {
  /** Tells apart what has the same key. */
  readonly id: string;
  readonly key: string;
  readonly job: Job;
  readonly resolve: (outcome: JobOutcome<Result>) => void;
  tries: number;
}

/** The place of one worker, and of those that replace it. */
export interface Seat<Job, Result> {
  readonly index: number;
  readonly name: string;
  worker: Worker | null;
  ready: boolean;
  /** Whether it was ever ready: a first start that fails is the caller's to hear. */
  started: boolean;
  /** Its workers died again and again: it stays empty, and keeps its number. */
  abandoned: boolean;
  running: Map<string, Waiting<Job, Result>>;
  barrenRestarts: number;
  /** Starts in a row that failed because the database was away: for that nobody gives up a seat. */
  vainStarts: number;
  /** Keys of jobs that were to blame for a death since the latest result. */
  readonly deadly: Set<string>;
}

export function newSeat<Job, Result>(index: number): Seat<Job, Result> {
  return {
    index,
    name: `worker-${index + 1}`,
    worker: null,
    ready: false,
    started: false,
    abandoned: false,
    running: new Map(),
    barrenRestarts: 0,
    vainStarts: 0,
    deadly: new Set(),
  };
}
