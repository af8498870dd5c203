/** What the scheduling thread and its worker threads say to each other, and the worker's side of it. */
import { setMaxListeners } from 'node:events';
import { parentPort, workerData } from 'node:worker_threads';
import { DatabaseError } from './database.ts';

export type ToWorker<Job> =
  | { type: 'job'; key: string; job: Job }
  /** To be answered by `pong`: who does not is caught in something that never ends. */
  | { type: 'ping' }
  | { type: 'stop' };

export type FromWorker<Result, Progress> =
  | { type: 'ready'; note: string }
  | { type: 'pong' }
  | { type: 'progress'; progress: Progress }
  | { type: 'result'; key: string; result: Result }
  | { type: 'failed'; key: string; reason: string; notStored: boolean }
  /** It cannot work; `passing`: because its database is away, which ends by itself. */
  | { type: 'fatal'; message: string; passing: boolean };

export interface JobHandler<Job, Result, Progress> {
  /** One word or sentence on what this worker uses, for the log. */
  readonly note: string;
  /** Does one job, telling of its progress. When the signal aborts it ends soon, with what it has. */
  run(job: Job, signal: AbortSignal, tell: (progress: Progress) => void): Promise<Result>;
  /** Frees what the handler holds; called once, after the last job. */
  close(): Promise<void>;
}

/**
 * Serves jobs in a worker thread until it is told to stop: running jobs are then aborted, their results still
 * sent, and the thread ends by itself.
 *
 * @param create makes the handler from `workerData`; when it throws, the parent hears why and the thread ends.
 */
export async function serveJobs<Data, Job, Result, Progress = never>(
  create: (data: Data) => Promise<JobHandler<Job, Result, Progress>>,
): Promise<void> {
  const port = parentPort;
  if (!port) throw new Error('this file runs as a worker thread only');
  const send = (message: FromWorker<Result, Progress>) => port.postMessage(message);
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // one a job and more: many is no leak
  const running = new Set<Promise<void>>();
  let handler: JobHandler<Job, Result, Progress>;
  try {
    handler = await create(workerData as Data);
  } catch (error) {
    const passing = error instanceof DatabaseError && !error.permanent;
    send({ type: 'fatal', message: messageOf(error), passing });
    return;
  }

  const tell = (progress: Progress) => send({ type: 'progress', progress });
  const runJob = async (key: string, job: Job): Promise<void> => {
    try {
      send({ type: 'result', key, result: await handler.run(job, stopping.signal, tell) });
    } catch (error) {
      const notStored = error instanceof DatabaseError;
      send({ type: 'failed', key, reason: messageOf(error), notStored });
    }
  };
  const stop = async (): Promise<void> => {
    stopping.abort();
    await Promise.all(running);
    await handler.close();
    port.close();
  };
  port.on('message', (message: ToWorker<Job>) => {
    if (message.type === 'ping') return send({ type: 'pong' });
    if (message.type === 'stop') {
      if (!stopping.signal.aborted) void stop();
      return;
    }
    const work = runJob(message.key, message.job);
    running.add(work);
    void work.then(() => running.delete(work));
  });
  send({ type: 'ready', note: handler.note });
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
