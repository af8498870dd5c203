import type { OwnNetwork } from './own-network.ts';
import { attributeFailure as attributeToTor, type TorOptions } from './tor.ts';
import { addressOf } from './transport.ts';
import { networkOf, type RelayUrl } from './url.ts';

export interface AttributionOptions extends TorOptions {
  /** Our network, where it is tested. */
  readonly ownNetwork?: OwnNetwork | null;
  /** When what failed began, on the clock of `performance.now`; the latest attempt to reach the relay unless given. */
  readonly sinceMs?: number;
}

/**
 * Attributes a failure to Tor, to our own network or to the relay: our failure is not theirs.
 *
 * @param reason why a connection or request to this relay failed
 * @returns `proxy_down` when Tor failed, `network_down` when our network did, else `reason`
 */
export async function attributeFailure<Reason extends string>(
  url: RelayUrl,
  reason: Reason,
  options: AttributionOptions,
): Promise<Reason | 'proxy_down' | 'network_down'> {
  const { ownNetwork, sinceMs, signal = new AbortController().signal } = options;
  const network = networkOf(url);
  if (network === 'tor') return attributeToTor(url, reason, options);
  if (!ownNetwork || network !== 'clearnet') return reason;
  return ownNetwork.attribute(addressOf(new URL(url)).host, reason, signal, sinceMs);
}

/** Whether a relay could not be reached for reasons of our own: it is not judged by that. */
export function isOurFailure(reason: string | null): reason is 'proxy_down' | 'network_down' {
  return reason === 'proxy_down' || reason === 'network_down';
}
