/** What the two synchronizers share: everything but which relays they visit. */
import type { VisitReport } from './archive.ts';
import type { DueRelay, Picking, Relay } from './bigbrotr.ts';
import type { SynchronizerConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import { DueLoop, type Ending, type Found } from './due-loop.ts';
import { Followed } from './followed.ts';
import { Lanes } from './lanes.ts';
import { BlockedRelays } from './relay/blocked-relays.ts';
import { afterVisit } from './relay/manners.ts';
import { networkOf } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { Scheduler } from './scheduler.ts';
import type { Service, Work } from './service.ts';
import type { Progress } from './visit/visit.ts';

/** When nothing is due, relays are asked for this often, in milliseconds; each is due when its own interval is over. */
const POLL_MS = 5000;

/** Gives relays that are due: those whose latest visit began this many seconds ago. */
export type RelaySource = (
  filterId: number,
  intervalSeconds: number,
  picking: Partial<Picking>,
) => Promise<DueRelay[]>;

type VisitScheduler = Scheduler<Relay, VisitReport, Progress>;

/** Starts the workers of a synchronizer, which visit what the source gives. */
export async function beginSynchronizing(
  config: SynchronizerConfig,
  service: Service,
  source: RelaySource,
): Promise<Work> {
  const filterId = await service.bigbrotr.filterId(config.eventFilter);
  if (config.keys) await endPausesForWantOfKey(service);
  const live = config.live && !service.once;
  const followed = new Followed();
  const scheduler: VisitScheduler = new Scheduler({
    workerUrl: new URL('./sync-worker.js', import.meta.url),
    workerData: { ...config, live },
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore,
    log: service.log,
    onDead: service.fail,
    onProgress: (progress) => {
      countProgress(progress, service);
      if (progress.events + progress.sightings + progress.quarantined > 0) loop.stored();
      if (progress.followed !== undefined)
        followed.begin(progress.followed, scheduler.seatFor(progress.followed));
      if (progress.unfollowed !== undefined && followed.lost(progress.unfollowed)) loop.lookSoon();
    },
    seatOf: ({ relayId }) => relayId, // one connection a relay: the worker that follows it also visits it
    onWorkerDied: (seat) => {
      if (followed.lostAllOf(seat)) loop.lookSoon();
    },
  });
  const lanes = new Lanes(config.numCores * config.requestsPerCore);
  const loop = new DueLoop<DueRelay>({
    keyOf: ({ relayId }) => relayId,
    lookUp: lookUpWith({ config, service, source, filterId, scheduler, followed }),
    freeSlots: () => scheduler.freeInAll,
    hasRoom: ({ relayId }) => (scheduler.freeSlots()[scheduler.seatFor(relayId)] ?? 0) > 0,
    choose: (due, running) => lanes.choose(due, running),
    run: (relay) =>
      visitDue(relay, { lanes, followed }, () => visit(relay, filterId, service, scheduler)),
    pollMs: POLL_MS,
    reportMs: config.loopIntervalMs,
    onRound: service.roundFinished,
    onBusy: service.busy,
    onAway: ({ message }) => service.log.error({ reason: message }, 'relays cannot be looked up'),
    ends: service.once ? 'with the list' : 'never',
    signal: service.signal,
  });
  await scheduler.start({ signal: service.signal, waitMs: startWaitOf(config.database) });
  return {
    run: async () => {
      // Nobody is followed after a start until it was visited.
      if (live) followed.want((await source(filterId, 0, {})).map(({ relayId }) => relayId));
      await runLoop(loop, service);
    },
    stop: () => scheduler.stop(),
  };
}

/** Relays that asked who we are may have done so while there was no key to answer with. */
async function endPausesForWantOfKey({ bigbrotr, log }: Service): Promise<void> {
  const relays = await bigbrotr.endPauses('auth_required');
  if (relays > 0) log.info({ relays }, 'there is a key: relays that asked for one are tried');
}

/** Visits a relay that was chosen, and notes for the next choice how that went. */
async function visitDue(
  relay: DueRelay,
  { lanes, followed }: { readonly lanes: Lanes; readonly followed: Followed },
  run: () => Promise<Ending>,
): Promise<Ending> {
  followed.atOnce.delete(relay.relayId);
  const started = performance.now();
  const ending = await run();
  lanes.ended(relay, performance.now() - started);
  // The archive may not even know that the visit began.
  if (ending === 'not_stored') followed.atOnce.add(relay.relayId);
  return ending;
}

/** Runs until the loop ends. With `--once` lost visits are a failure. */
async function runLoop(loop: DueLoop<DueRelay>, service: Service): Promise<void> {
  const lostBefore = service.counted('relays_lost');
  await loop.run();
  const lost = service.counted('relays_lost') - lostBefore;
  if (service.once && lost > 0) service.fail(`${lost} visits were lost, for the reasons above`);
}

interface LookUpOptions {
  readonly config: SynchronizerConfig;
  readonly service: Service;
  readonly source: RelaySource;
  readonly filterId: number;
  readonly scheduler: VisitScheduler;
  readonly followed: Followed;
}

/** Looks up relays that are due, without those that are blocked and those whose worker has no free slot. */
function lookUpWith({ config, service, source, filterId, scheduler, followed }: LookUpOptions) {
  const blocked = new BlockedRelays(config.blocklistPath);
  const intervalSeconds = service.once ? 0 : config.loopIntervalMs / 1000;
  return async (limit: number | null, except: readonly number[]): Promise<Found<DueRelay>> => {
    const left = await blocked.read();
    const due = await source(filterId, intervalSeconds, {
      limit,
      except: [...except, ...left],
      atOnce: [...followed.atOnce],
      remainders: limit === null ? null : openRemainders(scheduler, config.numCores),
      withoutTor: !service.once && service.torIsDown(),
    });
    return { due: blocked.without(due), more: limit !== null && due.length >= limit };
  };
}

/** Keys of relays whose worker has a free slot, by what they leave when divided by the number of workers. */
function openRemainders(scheduler: VisitScheduler, workers: number): Picking['remainders'] {
  const free = scheduler.freeSlots();
  const all = Array.from({ length: workers }, (_, index) => index);
  return { of: workers, among: all.filter((index) => (free[scheduler.seatFor(index)] ?? 0) > 0) };
}

async function visit(
  relay: Relay,
  filterId: number,
  service: Service,
  scheduler: VisitScheduler,
): Promise<Ending> {
  const outcome = await runShown('synchronising', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.deadly) await setAside(relay, filterId, outcome.reason, service);
    else if (!service.signal.aborted) noteLost(relay, outcome, service);
    return outcome.notStored ? 'not_stored' : 'lost';
  }
  if (networkOf(relay.url) === 'tor') noteTor(outcome.result, service);
  countReport(outcome.result, service);
  service.log.info({ relay: relay.url, ...outcome.result }, 'relay visited');
  return outcome.result.outcome === 'failed' ? 'failed' : 'good';
}

function noteLost(
  { url }: Relay,
  { reason, notStored }: { readonly reason: string; readonly notStored?: boolean },
  service: Service,
): void {
  service.log.error({ relay: url, reason }, 'visit lost');
  service.count('relays_lost');
  if (!notStored) return;
  service.metrics.visitStopped('not_stored');
  service.count('visits_not_stored');
  service.stored(false, `${url}: ${reason}`);
}

function noteTor({ reason, bytes }: VisitReport, { torSeen, count }: Service): void {
  if (reason === 'proxy_down') count('visits_without_tor');
  if (reason === 'proxy_down' || bytes > 0) torSeen(reason !== 'proxy_down');
}

/** A relay whose visit kills a worker that does nothing else: it pauses as one that fails, longer each time. */
async function setAside(
  relay: Relay,
  filterId: number,
  detail: string,
  { bigbrotr, log, count, metrics }: Service,
): Promise<void> {
  const reason = 'worker_died';
  log.error({ relay: relay.url, reason, detail }, 'relay set aside: visits to it end their worker');
  for (const figure of ['relays_visited', 'relays_failed', 'relays_set_aside']) count(figure);
  metrics.relayVisited('failed');
  metrics.visitStopped(reason);
  try {
    const terms = await bigbrotr.relayTerms(relay);
    await bigbrotr.setManners(relay, afterVisit(terms, 'failed', Math.floor(Date.now() / 1000)));
    await bigbrotr.endVisit(relay, filterId, { outcome: 'failed', reason, detail, pages: 0 });
  } catch (err) {
    log.error({ relay: relay.url, err }, 'what is known of a relay could not be written');
  }
}

function countReport(report: VisitReport, { metrics, count }: Service): void {
  metrics.relayVisited(report.outcome);
  if (report.reason !== null) metrics.visitStopped(report.reason);
  metrics.bytesReceived(report.bytes);
  count('relays_visited');
  count(`relays_${report.outcome}`);
}

function countProgress(
  { events, sightings, quarantined, invalid }: Progress,
  { metrics, count, stored }: Service,
): void {
  if (events + sightings + quarantined > 0) stored(true);
  metrics.eventsStored(events);
  metrics.sightingsStored(sightings);
  count('events', events);
  count('sightings', sightings);
  count('quarantined', quarantined);
  for (const [reason, times] of Object.entries(invalid)) {
    metrics.eventsInvalid(reason, times);
    count(`invalid_${reason}`, times);
  }
}
