/** A worker thread of the monitor: it checks relays and stores the snapshots in chunks, over its own database pool. */
import type { MonitorConfig } from '../config/load.ts';
import { Bigbrotr, type Relay } from '../database/bigbrotr.ts';
import { BlocklistWatch } from '../network/blocklist-watch.ts';
import { ownNetworkBy } from '../network/own-network.ts';
import type { NostrEvent } from '../nostr/event.ts';
import { discoveryEvent } from '../nostr/nip66-events.ts';
import { type RelayState, relayState } from '../nostr/relay-state.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { connectRelay } from '../relay-client/connection.ts';
import { serveJobs } from '../runtime/worker-thread.ts';
import { createWorkerLogger } from '../telemetry/logger.ts';
import { readCarried } from './checks/carried.ts';
import { GeoipDatabase } from './checks/geoip.ts';
import { fetchNip11 } from './checks/nip11-fetch.ts';
import { type ProbeContext, probeRelay } from './probe.ts';
import { SnapshotWriter } from './snapshot-writer.ts';

/** What a worker reports of a check to the scheduling thread. */
export interface ProbeReport {
  readonly state: RelayState;
  readonly openable: boolean;
  readonly readable: boolean;
  readonly writable: boolean;
  /** Why there is no NIP-11 document, as one stable word; null when there is one. */
  readonly nip11Reason: string | null;
  /** Why the first failed step failed; null when all succeeded. */
  readonly reason: string | null;
  /** The event to publish (NIP-66); null if the relay is not up or nothing is published. */
  readonly discovery: NostrEvent | null;
}

/** Of a check that failed because our own network did: nothing of it is stored. */
const NOT_JUDGED: ProbeReport = {
  ...{ state: 'unknown', openable: false, readable: false, writable: false },
  ...{ nip11Reason: 'not_asked', reason: 'network_down', discovery: null },
};

await serveJobs<MonitorConfig & { threadName: string }, Relay, ProbeReport>(
  async (config, onNetwork) => {
    const log = createWorkerLogger(config.service, config.logLevel, config.threadName);
    const { cityPath, asnPath } = config.geoip;
    const geoip = {
      city: await GeoipDatabase.open('GEOIP_CITY_PATH', cityPath),
      asn: await GeoipDatabase.open('GEOIP_ASN_PATH', asnPath),
    };
    const bigbrotr = await Bigbrotr.connect(config.database, log, { loginWorked: true });
    const writer = new SnapshotWriter(bigbrotr, config.chunkSize, config.frequencySeconds);
    const blocklist = await BlocklistWatch.start(config.blocklistPath);
    const context: Omit<ProbeContext, 'signal' | 'timeoutMs' | 'carried'> = {
      secretKey: Buffer.from(config.keys.secretKey, 'hex'),
      allowPrivate: config.allowPrivateRelays,
      torProxy: config.tor,
      ownNetwork: ownNetworkBy(config.networkTest, onNetwork),
      eventFilter: config.eventFilter,
      selected: new Set(config.checks),
      capabilitiesSeconds: config.capabilitiesFrequencySeconds,
      geoip,
      dnsServers: null,
      connect: connectRelay,
      fetchNip11,
      now: unixNow,
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
        const snapshot = await blocklist.run(relay.url, signal, (unblocked) =>
          probeRelay(relay, { ...context, timeoutMs, carried, signal: unblocked }),
        );
        // Nothing was learnt of the relay: what is known of it stays, and it stays due.
        if (snapshot.nip66.reason === 'network_down') return NOT_JUDGED;
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
      close: async () => {
        blocklist.close();
        await bigbrotr.close();
      },
    };
  },
);
