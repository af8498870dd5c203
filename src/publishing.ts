import type { MonitorConfig } from './config.ts';
import { type MonitorSelf, monitorEvents } from './nostr/nip66-events.ts';
import { Publisher } from './publisher.ts';
import { readBlocklist } from './relay/blocklist.ts';
import { connectRelay, type RelayConnection, RelayError } from './relay/connection.ts';
import { networkOf, type RelayUrl } from './relay/url.ts';
import type { Service } from './service.ts';

/** Longest wait for what is still to be published at the end of `--once`, in milliseconds. */
const FLUSH_MS = 600_000;

/** Publishing as the monitor uses it. */
export interface Publishing {
  readonly publisher: Publisher;
  /** For the end of `--once`: waits until the relays have what they take. */
  flush(): Promise<void>;
}

/** Starts publishing where the operator asked for it (NIP-66). @returns null where not. */
export function startPublishing(config: MonitorConfig, service: Service): Publishing | null {
  const { publish, keys, timeoutsMs } = config;
  if (publish === null) return null;
  const showState = () => service.detail('publishing', publisher.state);
  const publisher: Publisher = new Publisher({
    relays: publish.relays,
    secretKey: Buffer.from(keys.secretKey, 'hex'),
    publicKey: keys.publicKey,
    self: () => monitorEvents(selfOf(config), Math.floor(Date.now() / 1000)),
    connect: (url, signal) => connect(url, config, signal),
    timeoutMs: Math.max(timeoutsMs.clearnet, timeoutsMs.tor),
    onOutcome: (_, outcome) => {
      service.count(outcome === 'accepted' ? 'published' : `publish_${outcome}`);
      service.metrics.eventPublished(outcome);
      showState();
    },
    log: service.log,
  });
  showState();
  return {
    publisher,
    flush: async () => {
      if (service.once) await publisher.flush(FLUSH_MS);
    },
  };
}

function selfOf({ publish, frequencyMs, timeoutsMs, checks }: MonitorConfig): MonitorSelf {
  return {
    name: publish?.name ?? '',
    frequencySeconds: frequencyMs / 1000,
    timeoutMs: timeoutsMs.clearnet,
    checks,
    geohash: publish?.geohash ?? null,
    relays: publish?.relays ?? [],
  };
}

/** A relay whose operator asked to be left out is not written to either. @throws RelayError, BlocklistError */
async function connect(
  url: RelayUrl,
  { blocklistPath, timeoutsMs, allowPrivateRelays, tor }: MonitorConfig,
  signal: AbortSignal,
): Promise<RelayConnection> {
  const blocklist = await readBlocklist(blocklistPath);
  if (blocklist.blocks(url)) throw new RelayError('blocklisted', `${url} is on the blocklist`);
  return connectRelay(url, {
    timeoutMs: networkOf(url) === 'tor' ? timeoutsMs.tor : timeoutsMs.clearnet,
    allowPrivate: allowPrivateRelays,
    torProxy: tor,
    signal,
  });
}
