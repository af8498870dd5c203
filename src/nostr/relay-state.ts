import { FILTER_REFUSALS } from './filter-refusal.ts';
import { CLIENT_REFUSALS } from './message.ts';
import type { Nip66Result } from './nip66.ts';

/** The state of a relay after a check. `unknown`: it could not be reached for reasons of our own. */
export type RelayState = 'up' | 'down' | 'unknown';

/** Refusals of a relay that is alive: they come after its WebSocket has opened. */
export const REFUSALS_OF_LIVING_RELAYS = [...CLIENT_REFUSALS, 'limit', ...FILTER_REFUSALS] as const;
const REFUSALS: ReadonlySet<string | null> = new Set(REFUSALS_OF_LIVING_RELAYS);

/** There is no proxy for its network, or the proxy or our own network is down: the relay was not contacted. */
const NOT_CONTACTED: ReadonlySet<string | null> = new Set([
  'no_proxy',
  'proxy_down',
  'network_down',
]);

/**
 * The state of a relay by the result of one check (NIP-66): up when it answers a REQ, and when it opens and refuses
 * (`auth-required:`, `restricted:` … of NIP-01 and NIP-42), since a relay that refuses is alive. The function relay_state
 * of init.sql does the same for stored results; a test compares the two.
 */
export function relayState({
  openable,
  readable,
  reason,
}: Pick<Nip66Result, 'openable' | 'readable' | 'reason'>): RelayState {
  if (readable || (openable && REFUSALS.has(reason))) return 'up';
  return NOT_CONTACTED.has(reason) ? 'unknown' : 'down';
}
