/** Entry: the monitor checks every relay that is due, by the schedule in the archive. */
import type { Relay } from './bigbrotr.ts';
import { loadMonitorConfig, type MonitorConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import type { ProbeReport } from './monitor-worker.ts';
import { toNip66Result } from './nostr/nip66.ts';
import { type Publishing, startPublishing } from './publishing.ts';
import { readBlocklist } from './relay/blocklist.ts';
import { networkOf } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { Scheduler, WORKER_DIED } from './scheduler.ts';
import { type Round, runService, type Service, type Work } from './service.ts';

/** Between rounds, relays that are new or were seen again are asked for this often, in milliseconds. */
const POLL_MS = 10_000;

await runService(() => loadMonitorConfig(), begin);

async function begin(config: MonitorConfig, service: Service): Promise<Work> {
  const scheduler = new Scheduler<Relay, ProbeReport>({
    workerUrl: new URL('./monitor-worker.js', import.meta.url),
    workerData: config,
    workers: config.numCores,
    jobsPerWorker: config.requestsPerCore,
    log: service.log,
    onDead: service.fail,
  });
  await scheduler.start({
    signal: service.signal,
    waitMs: startWaitOf(config.database),
  });
  const publishing = startPublishing(config, service);
  let nextRound = 0;
  /** Relays that did not wait for a round: when their check was lost they wait for the next one. */
  const tried = new Set<number>();
  const checkAndPublish = async (relays: readonly Relay[]): Promise<Round> => {
    const round = await checkRelays(relays, config, service, scheduler, publishing);
    await publishing?.flush();
    return round;
  };
  return {
    round: async () => {
      if (performance.now() < nextRound) {
        const due = await service.bigbrotr.relaysToCheckAtOnce();
        const untried = due.filter(({ relayId }) => !tried.has(relayId));
        for (const { relayId } of untried) tried.add(relayId);
        return checkAndPublish(untried);
      }
      const due = await service.bigbrotr.relaysToCheck({
        intervalSeconds: config.frequencyMs / 1000,
        aheadSeconds: service.once ? 0 : config.loopIntervalMs / 1000,
      });
      const round = await checkAndPublish(due);
      tried.clear();
      nextRound = performance.now() + config.loopIntervalMs;
      return round;
    },
    pauseMs: Math.min(POLL_MS, config.loopIntervalMs),
    stop: async () => {
      await Promise.all([scheduler.stop(), publishing?.publisher.stop()]);
    },
  };
}

async function checkRelays(
  due: readonly Relay[],
  config: MonitorConfig,
  service: Service,
  scheduler: Scheduler<Relay, ProbeReport>,
  publishing: Publishing | null,
): Promise<Round> {
  const blocklist = await readBlocklist(config.blocklistPath);
  const relays = due.filter(({ url }) => !blocklist.blocks(url));
  const reports = await Promise.all(
    relays.map((relay) => check(relay, config, service, scheduler, publishing)),
  );
  return { relays: relays.length, failed: reports.filter((readable) => !readable).length };
}

/** @returns whether the relay is readable. */
async function check(
  relay: Relay,
  config: MonitorConfig,
  service: Service,
  scheduler: Scheduler<Relay, ProbeReport>,
  publishing: Publishing | null,
): Promise<boolean> {
  const outcome = await runShown('checking', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.deadly) await setAside(relay, outcome.reason, config, service);
    else if (!service.signal.aborted) {
      service.log.error({ relay: relay.url, reason: outcome.reason }, 'check lost');
      if (outcome.notStored) service.stored(false, `${relay.url}: ${outcome.reason}`);
    }
    return false;
  }
  service.stored(true);
  const { discovery, ...report } = outcome.result;
  const { state, openable, readable, writable, nip11Reason, reason } = report;
  if (discovery) publishing?.publisher.publish(discovery);
  if (networkOf(relay.url) === 'tor') service.torSeen(reason !== 'proxy_down');
  service.metrics.relayVisited(readable ? 'readable' : (reason ?? 'unreadable'));
  service.count('relays_checked');
  service.count(`relays_${state}`);
  for (const [name, yes] of Object.entries({ openable, readable, writable }))
    if (yes) service.count(`relays_${name}`);
  service.count(nip11Reason === null ? 'nip11_documents' : `no_nip11_${nip11Reason}`);
  service.log.debug({ relay: relay.url, ...report }, 'relay checked');
  return readable;
}

/** A relay whose check kills a worker that does nothing else: it is due again as one that is down. */
async function setAside(
  relay: Relay,
  reason: string,
  { frequencyMs }: MonitorConfig,
  { bigbrotr, log, count, metrics }: Service,
): Promise<void> {
  log.error({ relay: relay.url, reason }, 'relay set aside: checks of it end their worker');
  for (const figure of ['relays_checked', 'relays_down', 'relays_set_aside']) count(figure);
  metrics.relayVisited(WORKER_DIED);
  const nip66 = toNip66Result({ ok: false, reason: WORKER_DIED });
  const generatedAt = Math.floor(Date.now() / 1000);
  const open = { name: 'open', success: false, reason: WORKER_DIED, data: null, duration_ms: 0 };
  const snapshot = { relay, generatedAt, nip11: null, nip66, checks: [open] };
  try {
    await bigbrotr.insertSnapshots([snapshot], frequencyMs / 1000);
  } catch (err) {
    log.error({ relay: relay.url, err }, 'what is known of a relay could not be written');
  }
}
