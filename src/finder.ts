/** Entry: the finder reads which relays events name, asks those that are not known yet, and adds the ones that answer. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Candidate } from './bigbrotr/candidates.ts';
import { ConfigError, type FinderConfig, loadFinderConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import type { FinderJob, FinderProgress, FinderReport } from './finder/find-names.ts';
import { readBlocklist } from './relay/blocklist.ts';
import { readSeedFile, SeedListError } from './relay/seed-list.ts';
import { type Network, parseRelayUrl, type RelayUrl } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { type JobOutcome, Scheduler, WORKER_DIED } from './scheduler.ts';
import { type Round, runService, type Service, type Work } from './service.ts';

/** The queue is looked at this often, and candidates that are due are asked, in milliseconds. */
const POLL_MS = 10_000;
/** After a time without anybody to ask, within the budgets, the next is looked for, in milliseconds; new names at once. */
const LOOK_AGAIN_MS = 60_000;
/** Relays on which the reports of other monitors are followed: the first ones of the priority list. */
const MAX_MONITORED = 20;
/** Before a relay whose connection was lost is followed again, in milliseconds; doubles while that goes on. */
const FOLLOW_AGAIN_MS = 60_000;
const FOLLOW_AGAIN_LONGEST_MS = 3_600_000;
/** Candidates taken at a time, for each one that is asked at the same time. */
const CLAIM_AHEAD = 5;

type SourceJob = Extract<FinderJob, { url: RelayUrl }>;
type Lost = Extract<JobOutcome<FinderReport>, { ok: false }>;
type FinderScheduler = Scheduler<FinderJob, FinderReport, FinderProgress>;

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
  let askedAt = Number.NEGATIVE_INFINITY;
  let nobodyAt = Number.NEGATIVE_INFINITY;
  let heard = 0;
  return {
    round: async () => {
      await readBlocklist(config.blocklistPath); // a list that cannot be read ends the service, here and not in a worker
      await scan(config, service, scheduler);
      const isDue = performance.now() - askedAt >= config.frequencyMs;
      if (isDue) askedAt = performance.now();
      const failed = isDue ? await askSources(sources, service, scheduler) : 0;
      const isQuiet = service.counted('candidates') === heard;
      if (isQuiet && performance.now() - nobodyAt < LOOK_AGAIN_MS) return { relays: 0, failed };
      heard = service.counted('candidates');
      const asked = await askCandidates(config, service, scheduler);
      nobodyAt = performance.now();
      service.count('names_forgotten', await service.bigbrotr.finder.tidy());
      return { relays: asked, failed } satisfies Round;
    },
    pauseMs: POLL_MS,
    stop: async () => {
      await scheduler.stop();
      await Promise.all(following);
    },
  };
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

function networks(tor: boolean): Network[] {
  return tor ? ['clearnet', 'tor'] : ['clearnet'];
}

/** Reads the queue to its end. */
async function scan(config: FinderConfig, service: Service, scheduler: FinderScheduler) {
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

/** Asks the candidates whose turn it is, until none is left within the budgets of the hour. @returns how many */
async function askCandidates(config: FinderConfig, service: Service, scheduler: FinderScheduler) {
  const limit = config.numCores * config.requestsPerCore * CLAIM_AHEAD;
  let asked = 0;
  while (!service.signal.aborted) {
    const candidates = await service.bigbrotr.finder.claim(limit, networks(config.tor !== null));
    if (candidates.length === 0) break;
    asked += candidates.length;
    await Promise.all(
      candidates.map((candidate) => ask({ type: 'ask', candidate }, service, scheduler)),
    );
  }
  return asked;
}

async function ask(
  job: Extract<FinderJob, { type: 'ask' }>,
  service: Service,
  scheduler: FinderScheduler,
): Promise<void> {
  const { url } = job.candidate;
  const outcome = await runShown('asking', url, job, scheduler, service);
  if (!outcome.ok && outcome.deadly) return putOff(job.candidate, outcome.reason, service);
  if (!outcome.ok) return lost(url, outcome, service);
  service.stored(true);
  const { reason, isNew } = outcome.result;
  service.metrics.relayVisited(reason ?? 'answered');
  service.count('candidates_asked');
  if (reason === null) service.count('candidates_answered');
  if (!isNew) return;
  service.count('relays_found');
  service.log.info({ relay: url }, 'relay found');
}

/** A candidate that kills a worker which asks nobody else: it is tried again later and later, as one that is silent. */
async function putOff({ nameId, url }: Candidate, reason: string, service: Service): Promise<void> {
  const { bigbrotr, log, metrics, count } = service;
  log.error({ relay: url, reason }, 'candidate put off: asking it ends the worker');
  metrics.relayVisited(WORKER_DIED);
  for (const figure of ['candidates_asked', 'candidates_set_aside']) count(figure);
  try {
    await bigbrotr.finder.putOff(nameId, WORKER_DIED);
  } catch (err) {
    log.error({ relay: url, err }, 'what is known of a candidate could not be written');
  }
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

function lost(what: string, { reason, notStored }: Lost, service: Service): void {
  if (service.signal.aborted) return;
  service.log.error({ what, reason }, 'a job of the finder was lost');
  if (notStored) service.stored(false, `${what}: ${reason}`);
}
