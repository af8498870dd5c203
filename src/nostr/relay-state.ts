import type { Nip66Result } from './nip66.ts';

/** What a check says of a relay. `unknown`: it could not be asked, which says nothing of the relay. */
export type RelayState = 'up' | 'down' | 'unknown';

/** Answers of a relay that is alive and does not serve us: they come after its WebSocket has opened. */
const REFUSALS: ReadonlySet<string | null> = new Set([
  'auth_required',
  'restricted',
  'blocked',
  'rate_limited',
  'limit',
  'filter_refused',
  'too_many_values',
]);

/** There is no proxy for its network, or the proxy itself is down: nobody asked the relay. */
const NOT_ASKED: ReadonlySet<string | null> = new Set(['no_proxy', 'proxy_down']);

/**
 * The state of a relay by the result of one check (NIP-66): up when it answers a REQ, and when it opens and refuses
 * (`auth-required:`, `restricted:` … of NIP-01 and NIP-42), since a relay that refuses is alive. The function
 * relay_state of init.sql says the same of what is stored; a test compares the two.
 */
export function relayState({
  openable,
  readable,
  reason,
}: Pick<Nip66Result, 'openable' | 'readable' | 'reason'>): RelayState {
  if (readable || (openable && REFUSALS.has(reason))) return 'up';
  return NOT_ASKED.has(reason) ? 'unknown' : 'down';
}
