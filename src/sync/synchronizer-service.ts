/** The two synchronizers as services. They share everything but which relays they visit. */

import type { SynchronizerConfig } from '../config/load.ts';
import type { DueRelay, Picking, Relay } from '../database/bigbrotr.ts';

import { afterVisit } from '../network/relay-policy.ts';
import { networkOf } from '../network/url.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { DueLoop, type DueLoopOptions, type Ending, endingOf } from '../runtime/due-loop.ts';
import { HeldBack } from '../runtime/held-back.ts';
import { Lanes } from '../runtime/lanes.ts';
import { reportLost, runReported } from '../runtime/run-reported.ts';
import { Scheduler, WORKER_DIED } from '../runtime/scheduler.ts';
import type { Service, ServiceOptions, Work } from '../runtime/service.ts';
import { createService } from '../runtime/service-host.ts';
import type { ServiceLife } from '../runtime/service-life.ts';
import {
  claimWith,
  lookUpReachable,
  lookWhenBack,
  relayLoop,
  startWorkers,
  workersOf,
} from '../runtime/service-parts.ts';
import type { JobOutcome } from '../runtime/worker-slot.ts';
import type { HealthNames } from '../telemetry/metrics.ts';
import { handOverRelays } from './hand-over.ts';
import { HeldRelays } from './held-relays.ts';
import { PriorityList } from './priority-list.ts';
import { RecentEvents } from './recent-events.ts';
import type { Progress } from './visit.ts';
import type { VisitReport } from './visit-relay.ts';

/** When nothing is due, relays are asked for this often, in milliseconds; each is due when its own interval is over. */
const POLL_MS = 5000;

const HEALTH_NAMES: HealthNames = {
  visits: 'relays_visited',
  outcomes: Object.fromEntries(
    ['complete', 'partial', 'unfinished', 'failed'].map((name) => [name, `relays_${name}`]),
  ),
  stops: {
    not_stored: 'visits_not_stored',
    proxy_down: 'visits_without_tor',
    network_down: 'visits_without_network',
    [WORKER_DIED]: 'relays_set_aside',
  },
};

/** Which relays a synchronizer visits. */
interface RelaySource {
  /** Whether those of the priority list, or all others. */
  readonly priority: boolean;
  /** Returns relays whose latest visit began at least this many seconds ago. */
  readonly due: (
    filterId: number,
    intervalSeconds: number,
    picking: Partial<Picking>,
  ) => Promise<DueRelay[]>;
}

type Lost = Extract<JobOutcome<VisitReport>, { ok: false }>;
type VisitScheduler = Scheduler<Relay, VisitReport, Progress>;

/** The synchronizer, not started yet: it visits readable relays, without those of the priority list (`relays.priority`). */
export function createSynchronizer(
  config: SynchronizerConfig,
  options: ServiceOptions,
): ServiceLife {
  return createWith(config, options, async (service) => {
    const snapshotSeconds = config.relayMetadataThresholdSeconds;
    return {
      priority: false,
      due: (filterId, intervalSeconds, picking) => {
        const ages = { snapshotSeconds, intervalSeconds };
        return service.bigbrotr.relaysToSynchronize(filterId, ages, picking);
      },
    };
  });
}

/** The priority synchronizer, not started yet: it visits the relays of the priority list, which it keeps in the archive. */
export function createPrioritySynchronizer(
  config: SynchronizerConfig,
  options: ServiceOptions,
): ServiceLife {
  return createWith(config, options, async ({ bigbrotr, log }) => {
    const list = await PriorityList.open(config.priorityRelaysPath, bigbrotr, log);
    return {
      priority: true,
      due: async (filterId, intervalSeconds, picking) => {
        await list.refresh();
        return bigbrotr.relaysDue('priority', filterId, intervalSeconds, picking);
      },
    };
  });
}

function createWith(
  config: SynchronizerConfig,
  options: ServiceOptions,
  sourceOf: (service: Service) => Promise<RelaySource>,
): ServiceLife {
  return createService(
    config,
    {
      healthNames: HEALTH_NAMES,
      workerUrl: new URL('./worker.js', import.meta.url),
      begin: async (complete, service, workerUrl) =>
        startSynchronizing(complete, service, { source: await sourceOf(service), workerUrl }),
    },
    options,
  );
}

/** Starts the workers, which visit what the source gives. */
async function startSynchronizing(
  config: SynchronizerConfig,
  service: Service,
  { source, workerUrl }: { readonly source: RelaySource; readonly workerUrl: URL },
): Promise<Work> {
  const filterId = await service.bigbrotr.filterId(config.eventFilter);
  const startedAt = await service.bigbrotr.now();
  if (config.keys) await endPausesForWantOfKey(service);
  const live = config.live && !service.once;
  const heldBack = new HeldBack();
  const scheduler: VisitScheduler = new Scheduler({
    ...workersOf(config, service, workerUrl),
    workerData: { ...config, live, recentEvents: RecentEvents.allocate() },
    onProgress: (progress) => {
      countProgress(progress, service);
      if (progress.events + progress.sightings + progress.quarantined > 0) loop.resultStored();
      const { followed, unfollowed, followEnded } = progress;
      if (followed !== undefined) held.followBegins(followed, scheduler.slotFor(followed));
      if (unfollowed !== undefined) held.followEnds(unfollowed, false);
      if (followEnded !== undefined) held.followEnds(followEnded, true);
    },
    slotOf: ({ relayId }) => relayId, // one connection a relay: the worker that follows it also visits it
    onWorkerDied: (slot) => held.workerDied(slot),
  });
  const held = new HeldRelays({
    claims: service.claims,
    cancel: ({ url }) => scheduler.cancel(url),
    signal: service.signal,
  });
  const lanes = new Lanes(config.numCores * config.requestsPerCore);
  const loop = new DueLoop<DueRelay>({
    keyOf: ({ relayId }) => relayId,
    lookUp: lookUpWith({ config, service, source, filterId, scheduler, startedAt, heldBack }),
    freeSlots: () => scheduler.totalFreeSlots,
    hasRoom: ({ relayId }, chosen) => {
      const slot = scheduler.slotFor(relayId);
      const taken = chosen.filter((other) => scheduler.slotFor(other.relayId) === slot);
      return (scheduler.freeSlots()[slot] ?? 0) > taken.length;
    },
    choose: (due, running) => lanes.choose(due, running),
    claim: claimWith(service, 'visit', filterId),
    run: (relay) =>
      visitClaimed(relay, { lanes, held }, () =>
        visit(relay, service, { filterId, scheduler, heldBack }),
      ),
    pollMs: POLL_MS,
    ...relayLoop(service, config.loopIntervalSeconds),
  });
  lookWhenBack(service, heldBack, loop);
  await startWorkers(scheduler, config, service);
  return {
    run: async () => {
      const [{ lost }] = await Promise.all([
        loop.run(),
        live ? handOverRelays(held, source.priority, service) : null,
      ]);
      if (service.once && lost > 0) service.fail(`${lost} visits were lost, for the reasons above`);
    },
    stop: () => scheduler.stop(),
  };
}

/** Relays that demanded authentication may have done so while there was no key to answer with. */
async function endPausesForWantOfKey({ bigbrotr, log }: Service): Promise<void> {
  const relays = await bigbrotr.endPauses('auth_required');
  if (relays > 0)
    log.info({ relays }, 'secret key is set: relays that required AUTH are tried again');
}

/** Visits a relay that was claimed; its claim ends with the visit, unless it is followed from then on. */
async function visitClaimed(
  relay: DueRelay,
  { lanes, held }: { readonly lanes: Lanes; readonly held: HeldRelays },
  run: () => Promise<Ending>,
): Promise<Ending> {
  held.visitBegins(relay);
  const started = performance.now();
  const ending = await run();
  lanes.ended(relay, performance.now() - started);
  held.visitEnds(relay, ending);
  return ending;
}

interface LookUpOptions {
  readonly config: SynchronizerConfig;
  readonly service: Service;
  readonly source: RelaySource;
  readonly filterId: number;
  readonly scheduler: VisitScheduler;
  /** When the service started, by the clock of the database, Unix seconds. */
  readonly startedAt: number;
  readonly heldBack: HeldBack;
}

/** Looks up relays that are due, without those that are blocked and those whose worker has no free slot. */
function lookUpWith({
  config,
  service,
  source,
  filterId,
  scheduler,
  startedAt,
  heldBack,
}: LookUpOptions): DueLoopOptions<DueRelay>['lookUp'] {
  const intervalSeconds = service.once ? 0 : config.loopIntervalSeconds;
  const leftOut = {
    ...{ blocklistPath: config.blocklistPath, heldBack },
    network: service.once ? null : service.network,
  };
  return lookUpReachable(leftOut, service, (limit, except) =>
    source.due(filterId, intervalSeconds, {
      limit,
      except,
      holder: service.claims.holder,
      notSince: service.once ? startedAt : null,
      remainders: limit === null ? null : openRemainders(scheduler, config.numCores),
      withoutTor: config.tor === null || (!service.once && service.torIsDown()),
    }),
  );
}

/** Keys of relays whose worker has a free slot, by what they leave when divided by the number of workers. */
function openRemainders(scheduler: VisitScheduler, workers: number): Picking['remainders'] {
  const free = scheduler.freeSlots();
  const all = Array.from({ length: workers }, (_, index) => index);
  return { of: workers, among: all.filter((index) => (free[scheduler.slotFor(index)] ?? 0) > 0) };
}

async function visit(
  relay: Relay,
  service: Service,
  { filterId, scheduler, heldBack }: Pick<LookUpOptions, 'filterId' | 'scheduler' | 'heldBack'>,
): Promise<Ending> {
  const beganMs = performance.now();
  const outcome = await runReported('synchronising', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.crashesWorker) await setAside(relay, filterId, outcome.reason, service);
    else if (!service.signal.aborted) noteLost(relay, outcome, service);
    return endingOf(outcome);
  }
  if (networkOf(relay.url) === 'tor') noteCircuit(outcome.result, service);
  const isHeldBack = outcome.result.reason === 'network_down';
  if (isHeldBack) heldBack.add(relay.relayId, beganMs);
  if (isHeldBack && outcome.result.bytes === 0) {
    service.metrics.visitStopped('network_down');
    service.log.debug({ relay: relay.url }, 'relay not visited: our network is down');
    return 'held_back';
  }
  countReport(outcome.result, service);
  if (outcome.result.outcome === 'failed') service.noteFailure(outcome.result.reason ?? 'failed');
  service.log.info({ relay: relay.url, ...outcome.result }, 'relay visited');
  if (isHeldBack) return 'held_back';
  return outcome.result.outcome === 'failed' ? 'failed' : 'good';
}

function noteLost({ url }: Relay, lost: Lost, service: Service): void {
  if (lost.claimLost) {
    service.log.warn({ relay: url }, 'visit given up: another process holds the relay');
    return;
  }
  reportLost({ relay: url }, 'visit lost', lost, service);
  service.metrics.count({ relays_lost: 1 });
  if (lost.notStored) service.metrics.visitStopped('not_stored');
}

function noteCircuit({ reason, bytes }: VisitReport, service: Service): void {
  if (reason === 'proxy_down' || bytes > 0) service.noteCircuit(reason !== 'proxy_down');
}

/** A relay whose visit crashes a worker that does nothing else pauses as one that fails, longer each time. */
async function setAside(
  relay: Relay,
  filterId: number,
  detail: string,
  { bigbrotr, log, metrics }: Service,
): Promise<void> {
  const reason = WORKER_DIED;
  log.error({ relay: relay.url, reason, detail }, 'relay set aside: visits to it end their worker');
  metrics.relayVisited('failed');
  metrics.visitStopped(reason);
  try {
    const terms = await bigbrotr.relayTerms(relay);
    await bigbrotr.setRelayPolicy(relay, afterVisit(terms, 'failed', unixNow()));
    await bigbrotr.endVisit(relay, filterId, { outcome: 'failed', reason, detail, pages: 0 });
  } catch (err) {
    log.error({ relay: relay.url, err }, 'relay policy could not be stored');
  }
}

function countReport(report: VisitReport, { metrics }: Service): void {
  metrics.relayVisited(report.outcome);
  if (report.reason !== null) metrics.visitStopped(report.reason);
  metrics.bytesReceived(report.bytes);
}

function countProgress(
  { events, sightings, quarantined, invalid }: Progress,
  { metrics, noteStored }: Service,
): void {
  if (events + sightings + quarantined > 0) noteStored(true);
  metrics.eventsStored(events);
  metrics.sightingsStored(sightings);
  metrics.count({ quarantined });
  for (const [reason, times] of Object.entries(invalid)) {
    metrics.eventsInvalid(reason, times);
  }
}
