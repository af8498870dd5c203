/** Entry: the finder reads which relays events name, asks those that are not known yet, and adds the ones that answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import { CandidateLoop, type FinderScheduler, lost, networks } from './candidate-loop.ts';
import { ConfigError, type FinderConfig, loadFinderConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import type { FinderJob } from './finder/find-names.ts';
import { readBlocklist } from './relay/blocklist.ts';
import { readSeedFile, SeedListError } from './relay/seed-list.ts';
import { parseRelayUrl, type RelayUrl } from './relay/url.ts';
import { Scheduler } from './scheduler.ts';
import { isPassing, runService, type Service, type Work } from './service.ts';

/** The queue is looked at this often, in milliseconds. */
const POLL_MS = 10_000;
/** What failed because the database is away is tried again after this, in milliseconds. */
const AWAY_MS = 2000;
/** Relays on which the reports of other monitors are followed: the first ones of the priority list. */
const MAX_MONITORED = 20;
/** Before a relay whose connection was lost is followed again, in milliseconds; doubles while that goes on. */
const FOLLOW_AGAIN_MS = 60_000;
const FOLLOW_AGAIN_LONGEST_MS = 3_600_000;

type SourceJob = Extract<FinderJob, { url: RelayUrl }>;

/** Where names come from besides the archive. */
interface Sources {
  readonly lists: readonly RelayUrl[];
  readonly monitored: readonly RelayUrl[];
  /** Not asked before this, in `performance.now()` milliseconds: their servers said so (`Retry-After`). */
  readonly notBefore: Map<RelayUrl, number>;
}

await runService(() => loadFinderConfig(), begin);

async function begin(config: FinderConfig, service: Service): Promise<Work> {
  const sources: Sources = {
    lists: listUrls(config),
    monitored: await monitoredRelays(config, service),
    notBefore: new Map(),
  };
  const scheduler: FinderScheduler = new Scheduler({
    workerUrl: new URL('./finder-worker.js', import.meta.url),
    workerData: config,
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore + sources.monitored.length,
    isLasting: (job) => job.type === 'monitors' && job.live,
    log: service.log,
    onDead: service.fail,
    onProgress: (progress) => {
      service.stored(true); // told after what it tells of
      candidates.loop.stored();
      for (const [name, times] of Object.entries(progress))
        if (times > 0) service.count(name, times);
    },
  });
  await scheduler.start({
    signal: service.signal,
    waitMs: startWaitOf(config.database),
  });
  const following = new Set<Promise<void>>();
  if (!service.once)
    for (const url of sources.monitored) following.add(follow(url, service, scheduler));
  const candidates = new CandidateLoop(config, service, scheduler);
  return {
    run: async () => {
      if (service.once) {
        await readArchive(config, service, scheduler);
        candidates.failedSources = await askSources(sources, service, scheduler);
        await candidates.loop.run();
        return;
      }
      const every = (ms: number, work: () => Promise<unknown>) => repeat(ms, service, work);
      const sideLines = [
        every(POLL_MS, () => readArchive(config, service, scheduler)),
        every(config.frequencyMs, async () => {
          candidates.failedSources += await askSources(sources, service, scheduler);
        }),
      ];
      // One that fails ends the service, which ends the others.
      await Promise.all([candidates.loop.run(), ...sideLines]);
    },
    stop: async () => {
      await scheduler.stop();
      await Promise.all(following);
    },
  };
}

/** Does something again and again, so long after its end, until the service stops; sooner while the database is away. */
async function repeat(ms: number, service: Service, work: () => Promise<unknown>): Promise<void> {
  const { signal, log } = service;
  while (!signal.aborted) {
    const pause = await work().then(
      () => ms,
      (error: Error) => {
        if (!isPassing(error)) throw error;
        log.error({ reason: error.message }, 'the archive cannot be read');
        return AWAY_MS;
      },
    );
    await sleep(pause, undefined, { signal }).catch(() => {});
  }
}

/** @throws ConfigError for URLs that cannot be fetched under the address guard */
function listUrls({ urls }: FinderConfig): RelayUrl[] {
  return urls.map((url) => {
    const parsed = parseRelayUrl(url.replace(/^http/i, 'ws'));
    if (!parsed.ok)
      throw new ConfigError([`FINDER_URLS holds ${url}, which cannot be asked: ${parsed.reason}.`]);
    return parsed.url;
  });
}

/** The list is for the priority synchronizer in the first place: what is wrong with it is told there. */
async function monitoredRelays(
  { priorityRelaysPath, tor, blocklistPath }: FinderConfig,
  { log }: Service,
): Promise<RelayUrl[]> {
  const blocklist = await readBlocklist(blocklistPath);
  const reachable = networks(tor !== null);
  try {
    const { relays } = await readSeedFile(priorityRelaysPath);
    return relays
      .filter(({ url, network }) => reachable.includes(network) && !blocklist.blocks(url))
      .slice(0, MAX_MONITORED)
      .map(({ url }) => url);
  } catch (error) {
    if (!(error instanceof SeedListError)) throw error;
    log.info({ path: priorityRelaysPath }, 'no priority relays: no reports of other monitors');
    return [];
  }
}

/** Reads the queue to its end. A blocklist that cannot be read ends the service, here and not in a worker. */
async function readArchive(config: FinderConfig, service: Service, scheduler: FinderScheduler) {
  await readBlocklist(config.blocklistPath);
  service.detail('reading', 'new events');
  const jobs = Array.from({ length: config.numCores }, () =>
    scheduler.run('the archive', { type: 'scan' }),
  );
  for (const outcome of await Promise.all(jobs))
    if (!outcome.ok) lost('the archive', outcome, service);
  service.detail('reading', '');
}

/** Asks the lists, and for `--once` the priority relays for reports. @returns how many failed */
async function askSources(sources: Sources, service: Service, scheduler: FinderScheduler) {
  const jobs: SourceJob[] = sources.lists.map((url) => ({ type: 'list', url }));
  if (service.once)
    for (const url of sources.monitored) jobs.push({ type: 'monitors', url, live: false });
  const now = performance.now();
  const due = jobs.filter(({ url }) => (sources.notBefore.get(url) ?? 0) <= now);
  const outcomes = await Promise.all(due.map((job) => askSource(job, sources, service, scheduler)));
  return outcomes.filter((good) => !good).length;
}

async function askSource(
  job: SourceJob,
  { notBefore }: Sources,
  service: Service,
  scheduler: FinderScheduler,
) {
  const url = job.type === 'list' ? job.url.replace(/^ws/, 'http') : job.url;
  const outcome = await scheduler.run(url, job);
  if (!outcome.ok) {
    lost(url, outcome, service);
    return false;
  }
  const { reason, retryAfterSeconds } = outcome.result;
  notBefore.set(job.url, performance.now() + (retryAfterSeconds ?? 0) * 1000);
  if (reason !== null) service.log.warn({ url, reason }, 'no relays to be had from this source');
  return reason === null;
}

/** Listens to the reports of other monitors for as long as the service runs. */
async function follow(url: RelayUrl, service: Service, scheduler: FinderScheduler): Promise<void> {
  let pause = FOLLOW_AGAIN_MS;
  while (!service.signal.aborted) {
    const started = performance.now();
    const outcome = await scheduler.run(url, { type: 'monitors', url, live: true });
    const reason = outcome.ok ? outcome.result.reason : outcome.reason;
    service.log.debug({ relay: url, reason }, 'no longer listening for reports');
    const wasLong = performance.now() - started > FOLLOW_AGAIN_LONGEST_MS;
    pause = wasLong ? FOLLOW_AGAIN_MS : Math.min(2 * pause, FOLLOW_AGAIN_LONGEST_MS);
    const asked = outcome.ok ? (outcome.result.retryAfterSeconds ?? 0) * 1000 : 0;
    const { signal } = service;
    await sleep(Math.max(pause, asked), undefined, { signal }).catch(() => {});
  }
}
