import { type Scheduler, WORKER_DIED } from './scheduler.ts';
import type { Service } from './service.ts';
import type { JobOutcome } from './worker-slot.ts';

/**
 * Runs a job of one relay, and shows it in `/health` and the metrics while it runs.
 *
 * @param detail the name in `details` of `/health` under which the relays in progress are listed
 */
export async function runReported<Job, Result, Progress>(
  detail: string,
  url: string,
  job: Job,
  scheduler: Scheduler<Job, Result, Progress>,
  service: Service,
): Promise<JobOutcome<Result>> {
  const report = () => {
    service.metrics.relaysInProgress(scheduler.running);
    service.detail(detail, scheduler.runningKeys().slice(0, 3).join(' '));
  };
  const running = scheduler.run(url, job);
  report();
  const outcome = await running;
  report();
  if (!outcome.ok) service.noteFailure(wordOf(outcome));
  return outcome;
}

type Lost = Extract<JobOutcome<unknown>, { ok: false }>;

/**
 * Reports that a job ended without a result, unless the stop of the service ended it.
 *
 * @param of whose job, under the name that it has in the log
 * @param msg `visit lost`, `check lost` or `job lost`
 */
export function reportLost(
  of: Readonly<Record<string, string>>,
  msg: string,
  { reason, notStored }: Lost,
  {
    signal,
    log,
    logRepeated,
    noteStored,
  }: Pick<Service, 'signal' | 'log' | 'logRepeated' | 'noteStored'>,
): void {
  if (signal.aborted) return;
  if (notStored) {
    logRepeated({ ...of, reason }, msg);
    noteStored(false, `${Object.values(of).join(' ')}: ${reason}`);
  } else log.error({ ...of, reason }, msg);
}

/** Why a job has no result, one stable word. */
function wordOf({ crashesWorker, notStored }: Lost): string {
  if (crashesWorker) return WORKER_DIED;
  return notStored ? 'not_stored' : 'lost';
}
