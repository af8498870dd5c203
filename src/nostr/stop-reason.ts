/**
 * Why a visit ends before everything is proven, as a closed set of words: `visits.stop_reason`, `relay_coverage`, the log
 * and the label of `bigbrotr_visits_stopped_total`. A new word also goes into `is_stop_reason()` of init.sql.
 */
export const STOP_REASONS = [
  // Ours
  'stopped', // the service is shutting down
  'time_is_up', // the visit used up its time, and continues later
  'proxy_down', // Tor has no circuit or cannot be reached
  'network_down', // our own network failed: no name or no address outside could be reached
  'no_proxy', // the relay needs a proxy that is not configured
  'worker_died', // the worker thread crashed
  'not_stored', // the database did not store what was read
  // The relay was not reached
  'dns',
  'refused',
  'unreachable',
  'reset',
  'tls',
  'http_error', // the upgrade was answered with another HTTP status
  'protocol', // the upgrade, or what came after it, is not WebSocket
  'forbidden', // its address is never connected to
  // It stopped answering
  'timeout',
  'disconnected',
  'closed', // CLOSED without a known reason
  // Its messages cannot be used
  'oversized', // an event above the size limit
  'overflow', // more events or bytes than are accepted at once
  'garbled', // events under foreign subscription ids, floods of other messages
  'forged', // events that are malformed, or whose id or signature is invalid
  // Its answers prove nothing
  'ignores_until',
  'ignores_since',
  'hides_events', // no events where it has sent some before
  'more_without_events', // NIP-67 `more` and no event
  'events_after_eose',
  'unsteady', // different answers to the same request
  // It refuses
  'limit_refused', // even the smallest page
  'filter_refused', // the shape of the filter
  'rate_limited',
  'auth_required',
  'restricted',
  'blocked',
  // Everything was requested, and some of it cannot be proven
  'holes',
  'withheld', // events that it lists (NIP-77) and does not serve
] as const;

export type StopReason = (typeof STOP_REASONS)[number];

const WORDS: ReadonlySet<string> = new Set(STOP_REASONS);

/** Whether a word is one of the closed set. */
export function isStopReason(word: string): word is StopReason {
  return WORDS.has(word);
}
