/** The monitor as a service: it checks every relay that is due, by the schedule in the archive. */
import type { MonitorConfig } from '../config/load.ts';
import type { DueCheck, Relay } from '../database/bigbrotr.ts';

import { networkOf } from '../network/url.ts';
import { toNip66Result } from '../nostr/nip66.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { DueLoop, type DueLoopOptions, type Ending, endingOf } from '../runtime/due-loop.ts';
import { HeldBack } from '../runtime/held-back.ts';
import { reportLost, runReported } from '../runtime/run-reported.ts';
import { Scheduler, WORKER_DIED } from '../runtime/scheduler.ts';
import type { Service, ServiceOptions, Work } from '../runtime/service.ts';
import { createService } from '../runtime/service-host.ts';
import type { ServiceLife } from '../runtime/service-life.ts';
import {
  claimWith,
  endClaim,
  lookUpReachable,
  lookWhenBack,
  relayLoop,
  startWorkers,
  workersOf,
} from '../runtime/service-parts.ts';
import type { HealthNames } from '../telemetry/metrics.ts';
import { watchCertificate } from './own-certificate.ts';
import { type Publishing, startPublishing } from './publish/publishing.ts';
import { Webhooks } from './publish/webhooks.ts';
import type { ProbeReport } from './worker.ts';

/** Interval of look-ups while no relay is due, in milliseconds. */
const POLL_MS = 10_000;
/** A relay whose check was lost is checked again after this, in milliseconds. */
const LOST_MS = 60_000;
/** A relay is looked up this long before it is due, in seconds: time for the next look-up and a free slot. */
const AHEAD_SECONDS = 60;

/** Maximum wait for webhooks at the end of `--once`, in milliseconds. */
const WEBHOOKS_MS = 60_000;

const HEALTH_NAMES: HealthNames = {
  visits: 'relays_checked',
  outcomes: { readable: 'relays_readable', [WORKER_DIED]: 'relays_set_aside' },
  stops: { network_down: 'checks_without_network' },
};

/** The monitor, not started yet. */
export function createMonitor(config: MonitorConfig, options: ServiceOptions): ServiceLife {
  const workerUrl = new URL('./worker.js', import.meta.url);
  return createService(
    config,
    { healthNames: HEALTH_NAMES, workerUrl, begin: startMonitoring },
    options,
  );
}

async function startMonitoring(
  config: MonitorConfig,
  service: Service,
  workerUrl: URL,
): Promise<Work> {
  const scheduler = new Scheduler<Relay, ProbeReport>(workersOf(config, service, workerUrl));
  await startWorkers(scheduler, config, service);
  const publishing = await startPublishing(config, service);
  const webhooks = startWebhooks(config, service);
  /** Relays that are being checked, by their keys. */
  const checked = new Map<number, Relay>();
  service.claims.onLost('check', (relayId) => {
    const relay = checked.get(relayId);
    if (relay) scheduler.cancel(relay.url);
  });
  const heldBack = new HeldBack();
  const loop: DueLoop<DueCheck> = new DueLoop<DueCheck>({
    ...dueRelays(config, service, heldBack),
    keyOf: ({ relayId }) => relayId,
    freeSlots: () => scheduler.totalFreeSlots,
    claim: claimWith(service, 'check', null),
    run: async (relay) => {
      checked.set(relay.relayId, relay);
      const ending = await check(relay, config, service, {
        scheduler,
        publishing,
        heldBack,
        webhooks,
      });
      checked.delete(relay.relayId);
      endClaim(service, 'check', relay.relayId, ending);
      return ending;
    },
    pollMs: POLL_MS,
    lostMs: LOST_MS,
    ...relayLoop(service, config.loopIntervalSeconds),
  });
  lookWhenBack(service, heldBack, loop);
  return {
    run: async () => {
      if (config.apiPublicUrl !== null) void watchCertificate(config.apiPublicUrl, service);
      await loop.run();
      await publishing?.flush();
      if (service.once) await webhooks.flush(WEBHOOKS_MS);
    },
    stop: async () => {
      await Promise.all([scheduler.stop(), publishing?.publisher.stop(), webhooks.stop()]);
    },
  };
}

/** Relays that are due by the schedule. New relays, and those that were named again, are due immediately. */
function dueRelays(
  { frequencySeconds, loopIntervalSeconds, blocklistPath, tor }: MonitorConfig,
  service: Service,
  heldBack: HeldBack,
): Pick<DueLoopOptions<DueCheck>, 'lookUp'> {
  const { bigbrotr, claims, once, network } = service;
  const ages = {
    intervalSeconds: frequencySeconds,
    aheadSeconds: once ? 0 : AHEAD_SECONDS,
    leastSeconds: once ? 0 : loopIntervalSeconds,
  };
  return {
    lookUp: lookUpReachable(
      { blocklistPath, heldBack, network: once ? null : network },
      service,
      (limit, except) =>
        bigbrotr.relaysToCheck(ages, {
          ...{ limit, except, holder: claims.holder },
          withoutTor: tor === null,
        }),
    ),
  };
}

/** What the checks of a monitor share. */
interface Checking {
  readonly scheduler: Scheduler<Relay, ProbeReport>;
  readonly publishing: Publishing | null;
  readonly heldBack: HeldBack;
  readonly webhooks: Webhooks;
}

function startWebhooks({ webhooks, keys }: MonitorConfig, { log, metrics }: Service): Webhooks {
  return new Webhooks({
    ...{ webhooks, log },
    secretKey: Buffer.from(keys.secretKey, 'hex'),
    onOutcome: (outcome) => metrics.webhookCalled(outcome),
  });
}

/** Reports a change of the state of a relay that this check has found. @param began when the check began, Unix seconds */
async function reportChange(
  relay: Relay,
  { reason }: Pick<ProbeReport, 'reason'>,
  began: number,
  { bigbrotr, log }: Service,
  webhooks: Webhooks,
): Promise<void> {
  if (!webhooks.isWatched(relay.url)) return;
  try {
    const change = await bigbrotr.reports.stateChange(relay);
    if (change === null || change.since < began) return;
    webhooks.report(relay.url, { ...change, reason: change.state === 'up' ? null : reason });
  } catch (err) {
    log.error({ relay: relay.url, err }, 'webhooks could not be called');
  }
}

async function check(
  relay: Relay,
  config: MonitorConfig,
  service: Service,
  { scheduler, publishing, heldBack, webhooks }: Checking,
): Promise<Ending> {
  const beganMs = performance.now();
  const began = unixNow();
  const outcome = await runReported('checking', relay.url, relay, scheduler, service);
  if (!outcome.ok) {
    if (outcome.crashesWorker) await setAside(relay, outcome.reason, config, service);
    else if (outcome.claimLost)
      service.log.warn({ relay: relay.url }, 'check given up: another process checks the relay');
    else reportLost({ relay: relay.url }, 'check lost', outcome, service);
    return endingOf(outcome);
  }
  const { discovery, ...report } = outcome.result;
  const { state, openable, readable, writable, nip11Reason, reason } = report;
  if (reason === 'network_down') {
    heldBack.add(relay.relayId, beganMs);
    service.metrics.visitStopped(reason);
    service.log.debug({ relay: relay.url }, 'relay not checked: our network is down');
    return 'held_back';
  }
  service.noteStored(true);
  if (!readable) service.noteFailure(reason ?? 'unreadable');
  if (discovery) publishing?.publisher.publish(discovery);
  if (networkOf(relay.url) === 'tor') service.noteCircuit(reason !== 'proxy_down');
  const seconds = (performance.now() - beganMs) / 1000;
  service.metrics.relayVisited(readable ? 'readable' : (reason ?? 'unreadable'), seconds);
  service.metrics.count({
    [`relays_${state}`]: 1,
    relays_openable: Number(openable),
    relays_writable: Number(writable),
    [nip11Reason === null ? 'nip11_documents' : `no_nip11_${nip11Reason}`]: 1,
  });
  service.log.debug({ relay: relay.url, ...report }, 'relay checked');
  await reportChange(relay, report, began, service, webhooks);
  return readable ? 'good' : 'failed';
}

/** Schedules a relay as down because its check crashes a worker that runs nothing else. */
async function setAside(
  relay: Relay,
  reason: string,
  { frequencySeconds }: MonitorConfig,
  { bigbrotr, log, metrics }: Service,
): Promise<void> {
  log.error({ relay: relay.url, reason }, 'relay set aside: its checks crash their worker');
  metrics.relayVisited(WORKER_DIED);
  metrics.count({ relays_down: 1 });
  const nip66 = toNip66Result({ ok: false, reason: WORKER_DIED });
  const generatedAt = unixNow();
  const open = { name: 'open', success: false, reason: WORKER_DIED, data: null, duration_ms: 0 };
  const snapshot = { relay, generatedAt, nip11: null, nip66, checks: [open] };
  try {
    await bigbrotr.insertSnapshots([snapshot], frequencySeconds);
  } catch (err) {
    log.error({ relay: relay.url, err }, 'setting a relay aside could not be stored');
  }
}
