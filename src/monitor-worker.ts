/** A worker thread of the monitor: its own pool of database connections, and checks of relays, stored in chunks. */
import { Bigbrotr, type Relay } from './bigbrotr.ts';
import { readCarried } from './checks/carried.ts';
import { GeoipDatabase } from './checks/geoip.ts';
import type { MonitorConfig } from './config.ts';
import { createWorkerLogger } from './logger.ts';
import type { NostrEvent } from './nostr/event.ts';
import { discoveryEvent } from './nostr/nip66-events.ts';
import { type RelayState, relayState } from './nostr/relay-state.ts';
import { type ProbeContext, probeRelay } from './probe.ts';
import { connectRelay } from './relay/connection.ts';
import { fetchNip11 } from './relay/nip11-fetch.ts';
import { SnapshotWriter } from './snapshot-writer.ts';
import { serveJobs } from './worker-thread.ts';

/** What the scheduling thread hears of a check. */
export interface ProbeReport {
  readonly state: RelayState;
  readonly openable: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Why there is no NIP-11 document, one stable word; null when there is one. */
  readonly nip11Reason: string | null;
  /** Why the first failing step failed; null when all succeeded. */
  readonly reason: string | null;
  /** What is published of a relay that is alive (NIP-66); null where nothing is. */
  readonly discovery: NostrEvent | null;
}

await serveJobs<MonitorConfig & { threadName: string }, Relay, ProbeReport>(async (config) => {
  const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
  const { cityPath, asnPath } = config.geoip;
  const geoip = {
    city: await GeoipDatabase.open('GEOIP_CITY_PATH', cityPath),
    asn: await GeoipDatabase.open('GEOIP_ASN_PATH', asnPath),
  };
  const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
  const writer = new SnapshotWriter(bigbrotr, config.chunkSize, config.frequencyMs / 1000);
  const context: Omit<ProbeContext, 'signal' | 'timeoutMs' | 'carried'> = {
    secretKey: Buffer.from(config.keys.secretKey, 'hex'),
    allowPrivate: config.allowPrivateRelays,
    torProxy: config.tor,
    eventFilter: config.eventFilter,
    selected: new Set(config.checks),
    capabilitiesSeconds: config.capabilitiesFrequencyMs / 1000,
    geoip,
    dnsServers: null,
    connect: connectRelay,
    fetchNip11,
    now: Date.now,
  };
  return {
    note: `checks ${config.checks.join(', ')}`,
    run: async (relay, signal) => {
      const { clearnet, tor } = config.timeoutsMs;
      const timeoutMs = relay.network === 'tor' ? tor : clearnet;
      const carried = async () => {
        const nip11Retry = await bigbrotr.retryTimes.document(relay);
        const checks = readCarried(await bigbrotr.carriedChecks(relay));
        return nip11Retry ? { ...checks, nip11Retry } : checks;
      };
      const snapshot = await probeRelay(relay, { ...context, timeoutMs, carried, signal });
      if (snapshot.retry) await bigbrotr.retryTimes.set(relay, snapshot.retry);
      await writer.write(snapshot);
      const { openable, readable, writable, reason } = snapshot.nip66;
      const state = relayState(snapshot.nip66);
      const discovery =
        config.publish !== null && state === 'up'
          ? discoveryEvent({ ...relay, ...snapshot }, context.secretKey)
          : null;
      const { nip11Reason } = snapshot;
      return { state, openable, readable, writable, nip11Reason, reason, discovery };
    },
    close: () => bigbrotr.close(),
  };
});
