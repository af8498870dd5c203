/** What the two synchronizers share: everything but which relays they visit. */
import type { VisitReport } from './archive.ts';
import type { Relay, Stored } from './bigbrotr.ts';
import type { SynchronizerConfig } from './config.ts';
import { Scheduler } from './scheduler.ts';
import type { Round, Service, Work } from './service.ts';

/** Relays are asked for this often, in milliseconds; each is visited when its own interval is over. */
const POLL_MS = 5000;

/** Gives the relays that may be visited, the most urgent first. */
export type RelaySource = (filterId: number) => Promise<Relay[]>;

/** Seconds between two visits of a relay; with `--once` every relay is due. */
export function intervalSeconds(config: SynchronizerConfig, service: Service): number {
  return service.once ? 0 : config.loopIntervalMs / 1000;
}

/** Starts the workers of a synchronizer, which visit what the source gives, round after round. */
export async function beginSynchronizing(
  config: SynchronizerConfig,
  service: Service,
  source: RelaySource,
): Promise<Work> {
  const filterId = await service.bigbrotr.filterId(config.eventFilter);
  const scheduler = new Scheduler<Relay, VisitReport, Stored>({
    workerUrl: new URL('./sync-worker.js', import.meta.url),
    workerData: config,
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore,
    log: service.log,
    onDead: service.fail,
    onProgress: (stored) => countStored(stored, service),
  });
  await scheduler.start();
  return {
    round: async () => visitRelays(await source(filterId), service, scheduler),
    pauseMs: POLL_MS,
    stop: () => scheduler.stop(),
  };
}

async function visitRelays(
  relays: readonly Relay[],
  service: Service,
  scheduler: Scheduler<Relay, VisitReport, Stored>,
): Promise<Round> {
  const reports = await Promise.all(relays.map((relay) => visit(relay, service, scheduler)));
  return { relays: relays.length, failed: reports.filter((good) => !good).length };
}

/** @returns whether the visit went well. */
async function visit(
  relay: Relay,
  service: Service,
  scheduler: Scheduler<Relay, VisitReport, Stored>,
): Promise<boolean> {
  const outcome = await scheduler.run(relay.url, relay);
  service.metrics.relaysInProgress(scheduler.running);
  service.detail('synchronising', scheduler.runningKeys().slice(0, 3).join(' '));
  if (!outcome.ok) {
    if (!service.signal.aborted)
      service.log.error({ relay: relay.url, reason: outcome.reason }, 'visit lost');
    return false;
  }
  countReport(outcome.result, service);
  service.log.info({ relay: relay.url, ...outcome.result }, 'relay visited');
  return outcome.result.outcome !== 'failed';
}

function countReport(report: VisitReport, { metrics, count }: Service): void {
  metrics.relayVisited(report.outcome);
  metrics.bytesReceived(report.bytes);
  count('relays_visited');
  count(`relays_${report.outcome}`);
  for (const [reason, times] of Object.entries(report.invalid)) {
    metrics.eventsInvalid(reason, times);
    count(`invalid_${reason}`, times);
  }
}

function countStored(
  { events, sightings, quarantined }: Stored,
  { metrics, count }: Service,
): void {
  metrics.eventsStored(events);
  metrics.sightingsStored(sightings);
  count('events', events);
  count('sightings', sightings);
  count('quarantined', quarantined);
}
