/** The refresher as a service: it follows the journal and recounts the days that changed. */
import type { RefresherConfig } from '../config/load.ts';
import type { Service, ServiceOptions, Work } from '../runtime/service.ts';
import { createService } from '../runtime/service-host.ts';
import type { ServiceLife } from '../runtime/service-life.ts';
import type { HealthNames } from '../telemetry/metrics.ts';
import { exportArchive } from './archive-exporter.ts';
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
  const work = { healthNames: HEALTH_NAMES, hasWorkers: false, workerUrl, begin };
  return createService(config, work, options);
}

async function beginRefreshing(
  { cpuShare, metricsSeconds }: RefresherConfig,
  service: Service,
  rebuilds: boolean,
): Promise<Work> {
  const refreshing = new Refreshing(service, cpuShare);
  const { archiveMetrics: read } = service.bigbrotr.reports;
  return {
    run: async () => {
      if (rebuilds) return refreshing.rebuild();
      if (service.once) return refreshing.finish('all');
      await Promise.all([refreshing.follow(), exportArchive({ ...service, read }, metricsSeconds)]);
    },
    stop: async () => {}, // a transaction under way is short, or rolled back without loss
  };
}
