import type { MonitorConfig } from '../../config/load.ts';
import { attributeFailure } from '../../network/attribute-failure.ts';
import { BlocklistWatch } from '../../network/blocklist-watch.ts';
import { RelayError } from '../../network/relay-error.ts';
import type { TransportOptions } from '../../network/transport.ts';
import { networkOf, type RelayUrl } from '../../network/url.ts';
import { type MonitorSelf, monitorEvents } from '../../nostr/nip66-events.ts';
import { unixNow } from '../../nostr/unix-time.ts';
import { connectRelay, type RelayConnection } from '../../relay-client/connection.ts';
import type { Service } from '../../runtime/service.ts';
import { Publisher } from './publisher.ts';

/** Maximum wait for unpublished events at the end of `--once`, in milliseconds. */
const FLUSH_MS = 600_000;

export interface Publishing {
  readonly publisher: Publisher;
  /** With `--once`: waits until every relay has all events or pauses. */
  flush(): Promise<void>;
}

/** Starts publishing if that is configured (NIP-66). @returns null if it is not */
export async function startPublishing(
  config: MonitorConfig,
  service: Service,
): Promise<Publishing | null> {
  const { publish, keys, timeoutsMs } = config;
  if (publish === null) return null;
  const blocklist = await BlocklistWatch.start(config.blocklistPath);
  const transportTo = (url: RelayUrl) => transportOptions(url, config, service);
  const showState = () => service.detail('publishing', publisher.state);
  const publisher: Publisher = new Publisher({
    relays: publish.relays,
    secretKey: Buffer.from(keys.secretKey, 'hex'),
    publicKey: keys.publicKey,
    self: () => monitorEvents(selfOf(config), unixNow()),
    connect: (url, signal) => connect(url, transportTo(url), blocklist, signal),
    attribute: (url, reason, sinceMs, signal) =>
      attributeFailure(url, reason, { ...transportTo(url), sinceMs, signal }),
    timeoutMs: Math.max(timeoutsMs.clearnet, timeoutsMs.tor),
    onOutcome: (_, outcome) => {
      service.metrics.eventPublished(outcome);
      showState();
    },
    log: service.log,
  });
  service.network.onReturned(() => publisher.networkReturned());
  showState();
  return {
    publisher,
    flush: async () => {
      if (service.once) await publisher.flush(FLUSH_MS);
    },
  };
}

function selfOf({ publish, frequencySeconds, timeoutsMs, checks }: MonitorConfig): MonitorSelf {
  return {
    name: publish?.name ?? '',
    frequencySeconds,
    timeoutMs: timeoutsMs.clearnet,
    checks,
    geohash: publish?.geohash ?? null,
    relays: publish?.relays ?? [],
  };
}

function transportOptions(
  url: RelayUrl,
  { timeoutsMs, allowPrivateRelays, tor }: MonitorConfig,
  { network }: Service,
): TransportOptions {
  return {
    timeoutMs: networkOf(url) === 'tor' ? timeoutsMs.tor : timeoutsMs.clearnet,
    allowPrivate: allowPrivateRelays,
    torProxy: tor,
    ownNetwork: network.own,
  };
}

/** Nothing is published to blocked relays. @throws RelayError */
async function connect(
  url: RelayUrl,
  options: TransportOptions,
  blocklist: BlocklistWatch,
  signal: AbortSignal,
): Promise<RelayConnection> {
  if (blocklist.blocks(url)) throw new RelayError('blocklisted', `${url} is on the blocklist`);
  const connection = await connectRelay(url, { ...options, signal });
  void connection.closed.then(blocklist.onBlocked(url, () => connection.close()));
  return connection;
}
