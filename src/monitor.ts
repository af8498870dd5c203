/** Entry: the monitor checks every relay that is due, by the schedule in the archive. */
import type { Relay } from './bigbrotr.ts';
import { loadMonitorConfig, type MonitorConfig } from './config.ts';
import { startWaitOf } from './database.ts';
import { DueLoop, type DueLoopOptions, type Ending } from './due-loop.ts';
import type { ProbeReport } from './monitor-worker.ts';
import { toNip66Result } from './nostr/nip66.ts';
import { type Publishing, startPublishing } from './publishing.ts';
import { BlockedRelays } from './relay/blocked-relays.ts';
import { networkOf } from './relay/url.ts';
import { runShown } from './run-shown.ts';
import { Scheduler, WORKER_DIED } from './scheduler.ts';
import { runService, type Service, type Work } from './service.ts';

/** When nothing is due, relays are asked for this often, in milliseconds. */
const POLL_MS = 10_000;
/** A relay whose check was lost is tried again after this, in milliseconds. */
const LOST_MS = 60_000;
/** A relay is checked this long before it is due, in seconds: it may have to wait for a look-up, and for a slot. */
const AHEAD_SECONDS = 60;

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
  const loop = new DueLoop<Relay>({
    ...dueRelays(config, service),
    keyOf: ({ relayId }) => relayId,
    freeSlots: () => scheduler.freeInAll,
    run: (relay) => check(relay, config, service, scheduler, publishing),
    pollMs: POLL_MS,
    lostMs: LOST_MS,
    reportMs: config.loopIntervalMs,
    onRound: service.roundFinished,
    onBusy: service.busy,
    onAway: ({ message }) => service.log.error({ reason: message }, 'relays cannot be looked up'),
    ends: service.once ? 'with the list' : 'never',
    signal: service.signal,
  });
  return {
    run: async () => {
      await loop.run();
      await publishing?.flush();
    },
    stop: async () => {
      await Promise.all([scheduler.stop(), publishing?.publisher.stop()]);
    },
  };
}

/** Relays that are due by the schedule, or wait for nothing: new ones, and those that were named anew. */
function dueRelays(
  { frequencyMs, loopIntervalMs, blocklistPath }: MonitorConfig,
  { bigbrotr, once }: Service,
): Pick<DueLoopOptions<Relay>, 'lookUp'> {
  const blocked = new BlockedRelays(blocklistPath);
  const ages = {
    intervalSeconds: frequencyMs / 1000,
    aheadSeconds: once ? 0 : AHEAD_SECONDS,
    leastSeconds: once ? 0 : loopIntervalMs / 1000,
  };
  return {
    lookUp: async (limit, except) => {
      const left = await blocked.read();
      const due = await bigbrotr.relaysToCheck(ages, limit, [...except, ...left]);
      return { due: blocked.without(due), more: limit !== null && due.length >= limit };
    },
  };
}

async function check(
  relay: Relay,
  config: MonitorConfig,
  service: Service,
  scheduler: Scheduler<Relay, ProbeReport>,
  publishing: Publishing | null,
): Promise<Ending> {
  const outcome = await runShown('checking', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.deadly) await setAside(relay, outcome.reason, config, service);
    else if (!service.signal.aborted) {
      service.log.error({ relay: relay.url, reason: outcome.reason }, 'check lost');
      if (outcome.notStored) service.stored(false, `${relay.url}: ${outcome.reason}`);
    }
    return outcome.notStored ? 'not_stored' : 'lost';
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
  return readable ? 'good' : 'failed';
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
