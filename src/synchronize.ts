/** What the two synchronizers share: everything but which relays they visit. */
import type { VisitReport } from './archive.ts';
import type { Relay } from './bigbrotr.ts';
import type { SynchronizerConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import { readBlocklist } from './relay/blocklist.ts';
import { afterVisit } from './relay/manners.ts';
import { networkOf } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { Scheduler } from './scheduler.ts';
import type { Round, Service, Work } from './service.ts';
import type { Progress } from './visit/visit.ts';

/** Relays are asked for this often, in milliseconds; each is visited when its own interval is over. */
const POLL_MS = 5000;
/** The same while the database does not take what is archived: as soon as it does, reading goes on. */
const NOT_STORED_POLL_MS = 1000;

/** Gives the relays that may be visited, the most urgent first: those whose latest visit is so many seconds old. */
export type RelaySource = (filterId: number, intervalSeconds: number) => Promise<Relay[]>;

/** Starts the workers of a synchronizer, which visit what the source gives, round after round. */
export async function beginSynchronizing(
  config: SynchronizerConfig,
  service: Service,
  source: RelaySource,
): Promise<Work> {
  const filterId = await service.bigbrotr.filterId(config.eventFilter);
  // Relays that asked who we are may have done so while there was no key to answer with.
  const forgiven = config.keys ? await service.bigbrotr.endPauses('auth_required') : 0;
  if (forgiven > 0)
    service.log.info({ relays: forgiven }, 'there is a key: relays that asked for one are tried');
  const live = config.live && !service.once;
  const unfollowed = { seats: new Set<number>(), relays: new Set<number>() };
  const scheduler = new Scheduler<Relay, VisitReport, Progress>({
    workerUrl: new URL('./sync-worker.js', import.meta.url),
    workerData: { ...config, live },
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore,
    log: service.log,
    onDead: service.fail,
    onProgress: (progress) => {
      countProgress(progress, service);
      if (progress.unfollowed !== undefined) unfollowed.relays.add(progress.unfollowed);
    },
    seatOf: ({ relayId }) => relayId, // one connection a relay: the worker that follows it also visits it
    onWorkerDied: (seat) => {
      if (live) unfollowed.seats.add(seat);
    },
  });
  await scheduler.start({
    signal: service.signal,
    waitMs: startWaitOf(config.database),
  });
  /** Relays whose worker died, or was without its database: visited, and so followed again, without waiting. */
  const alsoDue = async (due: readonly Relay[]): Promise<Relay[]> => {
    const all = await source(filterId, 0);
    const lost = ({ relayId }: Relay) =>
      unfollowed.seats.has(relayId % config.numCores) || unfollowed.relays.has(relayId);
    const known = new Set(due.map(({ relayId }) => relayId));
    const also = all.filter((relay) => lost(relay) && !known.has(relay.relayId));
    unfollowed.seats.clear();
    unfollowed.relays.clear();
    return also;
  };
  // Nobody is followed after a start until it was visited; and --once means every relay.
  let notStored = 0;
  let intervalSeconds = service.once || config.live ? 0 : config.loopIntervalMs / 1000;
  return {
    round: async () => {
      const blocklist = await readBlocklist(config.blocklistPath);
      const due = await source(filterId, intervalSeconds);
      intervalSeconds = config.loopIntervalMs / 1000;
      if (unfollowed.seats.size + unfollowed.relays.size > 0) due.push(...(await alsoDue(due)));
      const noTor = !service.once && service.torIsDown();
      const unreachable = ({ url }: Relay) => noTor && networkOf(url) === 'tor';
      const relays = due.filter((relay) => !blocklist.blocks(relay.url) && !unreachable(relay));
      const before = service.counted('visits_not_stored');
      const round = await visitRelays(relays, filterId, service, scheduler);
      notStored = service.counted('visits_not_stored') - before;
      return round;
    },
    get pauseMs() {
      return notStored > 0 ? NOT_STORED_POLL_MS : POLL_MS;
    },
    stop: () => scheduler.stop(),
  };
}

async function visitRelays(
  relays: readonly Relay[],
  filterId: number,
  service: Service,
  scheduler: Scheduler<Relay, VisitReport, Progress>,
): Promise<Round> {
  const lostBefore = service.counted('relays_lost');
  const reports = await Promise.all(
    relays.map((relay) => visit(relay, filterId, service, scheduler)),
  );
  const lost = service.counted('relays_lost') - lostBefore;
  if (service.once && lost > 0) service.fail(`${lost} visits were lost, for the reasons above`);
  return { relays: relays.length, failed: reports.filter((good) => !good).length };
}

/** @returns whether the visit went well. */
async function visit(
  relay: Relay,
  filterId: number,
  service: Service,
  scheduler: Scheduler<Relay, VisitReport, Progress>,
): Promise<boolean> {
  const outcome = await runShown('synchronising', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.deadly) await setAside(relay, filterId, outcome.reason, service);
    else if (!service.signal.aborted) {
      service.log.error({ relay: relay.url, reason: outcome.reason }, 'visit lost');
      service.count('relays_lost');
      if (outcome.notStored) {
        service.metrics.visitStopped('not_stored');
        service.count('visits_not_stored');
        service.stored(false, `${relay.url}: ${outcome.reason}`);
      }
    }
    return false;
  }
  if (networkOf(relay.url) === 'tor') noteTor(outcome.result, service);
  countReport(outcome.result, service);
  service.log.info({ relay: relay.url, ...outcome.result }, 'relay visited');
  return outcome.result.outcome !== 'failed';
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
