import type { JobOutcome, Scheduler } from './scheduler.ts';
import type { Service } from './service.ts';

/**
 * Runs a job of one relay, and shows in `/health` and the metrics what is under way meanwhile.
 *
 * @param doing the text of `/health` under which relays stand that are under way
 */
export async function runShown<Job, Result, Progress>(
  doing: string,
  url: string,
  job: Job,
  scheduler: Scheduler<Job, Result, Progress>,
  service: Service,
): Promise<JobOutcome<Result>> {
  const show = () => {
    service.metrics.relaysInProgress(scheduler.running);
    service.detail(doing, scheduler.runningKeys().slice(0, 3).join(' '));
  };
  const running = scheduler.run(url, job);
  show();
  const outcome = await running;
  show();
  return outcome;
}
