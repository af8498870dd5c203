/**
 * What stops a visit before it has everything, as a closed set of words: `visits.stop_reason`, `relay_coverage`, the log
 * and the label of `bigbrotr_visits_stopped_total`. A new word also goes into `is_stop_reason()` of init.sql.
 */
export const STOP_REASONS = [
  // Ours
  'stopped', // the service was told to stop
  'time_is_up', // the visit has used its time, and goes on later
  'proxy_down', // Tor does not work
  'no_proxy', // the relay needs a proxy that is not configured
  'worker_died', // the worker thread died of it
  'not_stored', // the database did not take what was read
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
  'closed', // CLOSED for no reason that is known
  // What it sent cannot be used
  'oversized', // an event larger than is taken
  'overflow', // more than is taken at once
  'garbled', // events under foreign subscription ids, floods of other messages
  'forged', // events whose id or signature does not hold, or that are malformed
  // Its answers prove nothing
  'ignores_until',
  'ignores_since',
  'hides_events', // nothing where it has shown events
  'more_without_events', // NIP-67 `more` and no event
  'events_after_eose',
  'unsteady', // the same question is answered differently
  // It refuses
  'limit_refused', // the smallest page
  'filter_refused', // the shape of the filter
  'rate_limited',
  'auth_required',
  'restricted',
  'blocked',
  // Everything was asked for, and some of it cannot be proven
  'holes',
  'withheld', // events that it lists and does not serve
] as const;

export type StopReason = (typeof STOP_REASONS)[number];

const WORDS: ReadonlySet<string> = new Set(STOP_REASONS);

/** Whether a word is one of the closed set. */
export function isStopReason(word: string): word is StopReason {
  return WORDS.has(word);
}
