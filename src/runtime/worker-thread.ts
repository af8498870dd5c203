/** The messages between the scheduling thread and its worker threads, and the worker's side of them. */
import { setMaxListeners } from 'node:events';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { ClaimLost } from '../database/claims.ts';
import { DatabaseError } from '../database/connection.ts';
import type { NetworkNews } from '../network/own-network.ts';

export type ToWorker<Job> =
  /** `name`: what it works on, by which it can be cancelled. */
  | { type: 'job'; key: string; name: string; job: Job }
  /** Aborts the jobs of this name, and whatever else the worker holds for it. */
  | { type: 'cancel'; name: string }
  /** Answered by `pong`, unless the event loop of the worker is blocked. */
  | { type: 'ping' }
  | { type: 'stop' };

export type FromWorker<Result, Progress> =
  | { type: 'ready'; note: string }
  | { type: 'pong' }
  | { type: 'progress'; progress: Progress }
  | { type: 'network'; news: NetworkNews }
  | { type: 'result'; key: string; result: Result }
  | { type: 'failed'; key: string; reason: string; notStored: boolean; claimLost: boolean }
  /** The worker cannot start; `transient`: because its database is unavailable. */
  | { type: 'fatal'; message: string; transient: boolean };

export interface JobHandler<Job, Result, Progress> {
  /** Logged when the worker is ready, such as the implementation it uses. */
  readonly note: string;
  /** Runs one job and reports its progress. When the signal aborts it ends soon, with the results so far. */
  run(job: Job, signal: AbortSignal, report: (progress: Progress) => void): Promise<Result>;
  /** Ends what the handler holds for a name besides its jobs: another process works on it now. */
  cancel?(name: string): void;
  /** Frees resources; called once, after the last job. */
  close(): Promise<void>;
}

interface Running {
  readonly name: string;
  readonly abort: AbortController;
  isCancelled: boolean;
}

/** The connection of a worker thread to its parent. */
interface ParentLink {
  /** Null in a thread that is not a worker. */
  readonly port: MessagePort | null;
  /** `workerData` of the thread. */
  readonly data: unknown;
}

/** Why the signal of a job aborts whose claim was lost: another process may work on the same from now on. */
export class JobCancelled extends DOMException {
  constructor() {
    super('the claim was lost', 'AbortError');
  }
}

/**
 * Serves jobs in a worker thread until the message `stop`: running jobs are then aborted, their results still sent, and
 * the thread ends by itself.
 *
 * @param create creates the handler from `workerData`, with a function that reports failures of our own network; when it
 * throws, the parent gets the message and the thread ends
 * @param parent default: the parent of this thread
 */
export async function serveJobs<Data, Job, Result, Progress = never>(
  create: (
    data: Data,
    onNetwork: (news: NetworkNews) => void,
  ) => Promise<JobHandler<Job, Result, Progress>>,
  { port, data }: ParentLink = { port: parentPort, data: workerData },
): Promise<void> {
  if (!port) throw new Error('this file runs as a worker thread only');
  const send = (message: FromWorker<Result, Progress>) => port.postMessage(message);
  let stopping = false;
  const running = new Map<Promise<void>, Running>();
  let handler: JobHandler<Job, Result, Progress>;
  try {
    handler = await create(data as Data, (news) => send({ type: 'network', news }));
  } catch (error) {
    const transient = error instanceof DatabaseError && !error.permanent;
    send({ type: 'fatal', message: messageOf(error), transient });
    return;
  }

  const report = (progress: Progress) => send({ type: 'progress', progress });
  const runJob = async (key: string, job: Job, state: Running): Promise<void> => {
    try {
      send({ type: 'result', key, result: await handler.run(job, state.abort.signal, report) });
    } catch (error) {
      const notStored = error instanceof DatabaseError;
      const claimLost = state.isCancelled || error instanceof ClaimLost;
      send({ type: 'failed', key, reason: messageOf(error), notStored, claimLost });
    }
  };
  const begin = ({ key, name, job }: Extract<ToWorker<Job>, { type: 'job' }>): void => {
    const abort = new AbortController();
    setMaxListeners(0, abort.signal); // one for each step of the job: many are not a leak
    if (stopping) abort.abort();
    const state: Running = { name, abort, isCancelled: false };
    const work = runJob(key, job, state);
    running.set(work, state);
    void work.then(() => running.delete(work));
  };
  const cancel = (cancelled: string): void => {
    for (const state of running.values()) {
      if (state.name !== cancelled) continue;
      state.isCancelled = true;
      state.abort.abort(new JobCancelled());
    }
    handler.cancel?.(cancelled);
  };
  const stop = async (): Promise<void> => {
    stopping = true;
    for (const { abort } of running.values()) abort.abort();
    await Promise.all(running.keys());
    await handler.close();
    port.close();
  };
  port.on('message', (message: ToWorker<Job>) => {
    if (message.type === 'ping') return send({ type: 'pong' });
    if (message.type === 'cancel') return cancel(message.name);
    if (message.type === 'job') return begin(message);
    if (!stopping) void stop();
  });
  send({ type: 'ready', note: handler.note });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
