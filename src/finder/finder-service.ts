/** The finder as a service: it reads relay names in events and lists, probes unknown ones, and adds those that answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError, type FinderConfig } from '../config/load.ts';

import { BlockedRelays } from '../network/blocked-relays.ts';
import { readBlocklist } from '../network/blocklist.ts';
import { readSeedFile, SeedListError } from '../network/seed-list.ts';
import { parseRelayUrl, type RelayUrl } from '../network/url.ts';
import { isTransientFailure } from '../runtime/failure.ts';
import { reportLost } from '../runtime/run-reported.ts';
import { Scheduler, WORKER_DIED } from '../runtime/scheduler.ts';
import type { Service, ServiceOptions, Work } from '../runtime/service.ts';
import { createService } from '../runtime/service-host.ts';
import type { ServiceLife } from '../runtime/service-life.ts';
import { startWorkers, workersOf } from '../runtime/service-parts.ts';
import type { JobOutcome } from '../runtime/worker-slot.ts';
import type { HealthNames } from '../telemetry/metrics.ts';
import { CandidateLoop, type FinderScheduler, reachableNetworks } from './candidate-loop.ts';
import type { FinderJob, FinderReport } from './find-names.ts';
import { JournalKeeper } from './journal-keeper.ts';
import { SourceClaim } from './source-claim.ts';

/** Interval at which the journal is read, and at which the claim on the other sources is tried, in milliseconds. */
const POLL_MS = 10_000;
/** Interval at which the lag in reading the journal is measured, in milliseconds. */
const LOOK_MS = 15_000;
/** Pause before a retry while the database is unavailable, in milliseconds. */
const UNAVAILABLE_MS = 2000;
/** The reports of other monitors are read from at most this many relays, the first of the priority list. */
const MAX_MONITORED = 20;
/** Pause before reports are followed again after the connection ended, in milliseconds; it doubles up to the maximum. */
const FOLLOW_PAUSE_MS = 60_000;
const MAX_FOLLOW_PAUSE_MS = 3_600_000;

/** Interval at which it is seen whether this finder reads the sources now, in milliseconds. */
const WATCH_MS = 500;
/** A source that our own network failed to reach is asked again after this, in milliseconds, once our network is up. */
const NETWORK_AGAIN_MS = 2000;
/** It may have an address family only that this machine does not have. */
const MAX_NETWORK_TRIES = 5;

type SourceJob = Extract<FinderJob, { url: RelayUrl }>;

/** Sources of names other than the archive. */
interface Sources {
  readonly lists: readonly RelayUrl[];
  readonly monitored: readonly RelayUrl[];
  /** Earliest time of the next request (`Retry-After`), in `performance.now()` milliseconds. */
  readonly notBeforeMs: Map<RelayUrl, number>;
  /** Under which this finder, and no other, reads them. */
  readonly claim: SourceClaim;
}

const HEALTH_NAMES: HealthNames = {
  visits: 'candidates_asked',
  outcomes: { answered: 'candidates_answered', [WORKER_DIED]: 'candidates_set_aside' },
};

/** The finder, not started yet. */
export function createFinder(config: FinderConfig, options: ServiceOptions): ServiceLife {
  const workerUrl = new URL('./worker.js', import.meta.url);
  return createService(
    config,
    { healthNames: HEALTH_NAMES, workerUrl, begin: startFinding },
    options,
  );
}

async function startFinding(config: FinderConfig, service: Service, workerUrl: URL): Promise<Work> {
  const lists = listUrls(config);
  const monitored = await monitoredRelays(config, service);
  const scheduler: FinderScheduler = new Scheduler({
    ...workersOf(config, service, workerUrl),
    jobsPerWorker: config.requestsPerCore + monitored.length,
    isEndless: (job) => job.type === 'monitors' && job.live,
    onProgress: (progress) => {
      service.noteStored(true); // progress is reported after it is stored
      candidates.loop.resultStored();
      service.metrics.count(progress);
      if ((progress.candidates ?? 0) > 0) candidates.noteNewNames();
    },
  });
  await startWorkers(scheduler, config, service);
  const claim = new SourceClaim([...lists, ...monitored], service, () => {
    for (const url of monitored) scheduler.cancel(url); // a list is read within a minute
  });
  const sources: Sources = { lists, monitored, notBeforeMs: new Map(), claim };
  const following = new Set<Promise<void>>();
  if (!service.once)
    for (const url of monitored) following.add(follow(url, claim, service, scheduler));
  const blocked = new BlockedRelays(config.blocklistPath, service.log);
  const candidates = new CandidateLoop(config, service, scheduler);
  const keeper = new JournalKeeper(service, config.journalDays);
  let nextReadMs = 0;
  const readAll = async () => {
    if (lists.length + monitored.length === 0 || !(await claim.take())) return;
    if (performance.now() < nextReadMs) return;
    nextReadMs = performance.now() + config.frequencyMs;
    const failed = await readSources(sources, service, scheduler);
    candidates.failedSources += failed;
  };
  return {
    run: async () => {
      if (service.once) {
        await readArchive(config, service, scheduler, blocked);
        await readAll();
        await candidates.loop.run();
        await keeper.look();
        return;
      }
      // An error of one ends the service, and with it the others.
      await Promise.all([
        candidates.loop.run(),
        repeat(POLL_MS, service, () => readArchive(config, service, scheduler, blocked)),
        repeat(POLL_MS, service, readAll),
        repeat(LOOK_MS, service, () => keeper.look()),
      ]);
    },
    stop: async () => {
      await scheduler.stop();
      await Promise.all(following);
    },
  };
}

/** Repeats work until the service stops, with pauses of `ms`; shorter pauses while the database is unavailable. */
async function repeat(ms: number, service: Service, work: () => Promise<unknown>): Promise<void> {
  const { signal, logRepeated } = service;
  while (!signal.aborted) {
    const pauseMs = await work().then(
      () => ms,
      (error: Error) => {
        if (!isTransientFailure(error)) throw error;
        logRepeated({ reason: error.message }, 'the archive cannot be read');
        return UNAVAILABLE_MS;
      },
    );
    await sleep(pauseMs, undefined, { signal }).catch(() => {});
  }
}

/** @throws ConfigError for invalid URLs */
function listUrls({ urls }: FinderConfig): RelayUrl[] {
  return urls.map((url) => {
    const parsed = parseRelayUrl(url.replace(/^http/i, 'ws'));
    if (!parsed.ok)
      throw new ConfigError([`FINDER_URLS has ${url}, which cannot be fetched: ${parsed.reason}.`]);
    return parsed.url;
  });
}

/** Invalid lines of the list are skipped without a warning: the priority synchronizer reports them. */
async function monitoredRelays(
  { priorityRelaysPath, tor, blocklistPath }: FinderConfig,
  { log }: Service,
): Promise<RelayUrl[]> {
  const blocklist = await readBlocklist(blocklistPath);
  const reachable = reachableNetworks(tor !== null);
  try {
    const { relays } = await readSeedFile(priorityRelaysPath);
    return relays
      .filter(({ url, network }) => reachable.includes(network) && !blocklist.blocks(url))
      .slice(0, MAX_MONITORED)
      .map(({ url }) => url);
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    log.info(
      { path: priorityRelaysPath },
      'no priority relays: reports of other monitors are not read',
    );
    return [];
  }
}

/** Reads the journal to its end. The blocklist is read first so that an error in it ends the service. */
async function readArchive(
  config: FinderConfig,
  service: Service,
  scheduler: FinderScheduler,
  blocked: BlockedRelays,
) {
  await blocked.read();
  service.detail('reading', 'new events');
  const jobs = Array.from({ length: config.numCores }, () =>
    scheduler.run('the archive', { type: 'scan', waits: service.once }),
  );
  for (const outcome of await Promise.all(jobs))
    if (!outcome.ok) reportLost({ subject: 'the archive' }, 'job lost', outcome, service);
  service.detail('reading', '');
}

/** Fetches the lists, and with `--once` the reports of other monitors. @returns how many sources failed */
async function readSources(sources: Sources, service: Service, scheduler: FinderScheduler) {
  const jobs: SourceJob[] = sources.lists.map((url) => ({ type: 'list', url }));
  if (service.once)
    for (const url of sources.monitored) jobs.push({ type: 'monitors', url, live: false });
  const now = performance.now();
  const due = jobs.filter(({ url }) => (sources.notBeforeMs.get(url) ?? 0) <= now);
  const outcomes = await Promise.all(
    due.map((job) => readSource(job, sources, service, scheduler)),
  );
  return outcomes.filter((succeeded) => !succeeded).length;
}

/** @returns whether the source answered */
async function readSource(
  job: SourceJob,
  { notBeforeMs }: Sources,
  service: Service,
  scheduler: FinderScheduler,
) {
  const url = job.type === 'list' ? job.url.replace(/^ws/, 'http') : job.url;
  let outcome = await scheduler.run(url, job);
  for (let tries = 0; tries < MAX_NETWORK_TRIES && failedByNetwork(outcome); tries += 1) {
    if (service.once) break;
    const { network, signal } = service;
    await sleep(NETWORK_AGAIN_MS, undefined, { signal }).catch(() => {});
    await network.whenUp(signal);
    outcome = await scheduler.run(url, job);
  }
  if (!outcome.ok) {
    reportLost({ subject: url }, 'job lost', outcome, service);
    return false;
  }
  const { reason, retryAfterSeconds } = outcome.result;
  notBeforeMs.set(job.url, performance.now() + (retryAfterSeconds ?? 0) * 1000);
  if (reason !== null) {
    service.noteFailure(reason);
    service.log.warn({ url, reason }, 'source of relays failed');
  }
  return reason === null;
}

function failedByNetwork(outcome: JobOutcome<FinderReport>): boolean {
  return outcome.ok && outcome.result.reason === 'network_down';
}

/** Follows the reports of other monitors on a relay, while this finder holds the claim, until the service stops. */
async function follow(
  url: RelayUrl,
  claim: SourceClaim,
  service: Service,
  scheduler: FinderScheduler,
): Promise<void> {
  const { signal } = service;
  let pauseMs = FOLLOW_PAUSE_MS;
  while (!signal.aborted) {
    if (!claim.isHeld) {
      await sleep(WATCH_MS, undefined, { signal }).catch(() => {});
      continue;
    }
    const startedMs = performance.now();
    const outcome = await scheduler.run(url, { type: 'monitors', url, live: true });
    const reason = outcome.ok ? outcome.result.reason : outcome.reason;
    service.log.debug({ relay: url, reason }, 'reports are no longer followed');
    if (service.network.isDown) {
      await service.network.whenUp(service.signal);
      pauseMs = FOLLOW_PAUSE_MS;
      continue;
    }
    const wasLong = performance.now() - startedMs > MAX_FOLLOW_PAUSE_MS;
    pauseMs = wasLong ? FOLLOW_PAUSE_MS : Math.min(2 * pauseMs, MAX_FOLLOW_PAUSE_MS);
    const retryAfterMs = outcome.ok ? (outcome.result.retryAfterSeconds ?? 0) * 1000 : 0;
    await sleep(Math.max(pauseMs, retryAfterMs), undefined, { signal }).catch(() => {});
  }
}
