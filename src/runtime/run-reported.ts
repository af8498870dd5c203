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

/** Why a job has no result, one stable word. */
function wordOf({ crashesWorker, notStored }: Extract<JobOutcome<unknown>, { ok: false }>): string {
  if (crashesWorker) return WORKER_DIED;
  return notStored ? 'not_stored' : 'lost';
}
