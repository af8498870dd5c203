/** The refresher as a service: it follows the journal and recounts the days that changed. */
import type { RefresherConfig } from '../config/load.ts';
import type { Service, ServiceOptions, Work } from '../runtime/service.ts';
import { createService } from '../runtime/service-host.ts';
import type { ServiceLife } from '../runtime/service-life.ts';
import type { HealthNames } from '../telemetry/metrics.ts';
import { Refreshing } from './refreshing.ts';

/** The argument with which it makes all figures anew and ends. */
export const REBUILD = '--rebuild';

const HEALTH_NAMES: HealthNames = {};

/** The refresher, not started yet. */
export function createRefresher(config: RefresherConfig, options: ServiceOptions): ServiceLife {
  const begin = (given: RefresherConfig, service: Service) =>
    beginRefreshing(given, service, options.flags?.includes(REBUILD) ?? false);
  // It has no worker threads: the database does the work.
  const workerUrl = new URL(import.meta.url);
  return createService(config, { healthNames: HEALTH_NAMES, workerUrl, begin }, options);
}

async function beginRefreshing(
  { cpuShare }: RefresherConfig,
  service: Service,
  rebuilds: boolean,
): Promise<Work> {
  const refreshing = new Refreshing(service, cpuShare);
  return {
    run: () => {
      if (rebuilds) return refreshing.rebuild();
      return service.once ? refreshing.finish('all') : refreshing.follow();
    },
    stop: async () => {}, // a transaction under way is short, or rolled back without loss
  };
}
