import type { StopReason } from '../../nostr/stop-reason.ts';

/**
 * Why paging stopped before every window was proven. The caller of the pager sets the refusals; `events_after_eose` and
 * `unsteady` are set for events outside the pages.
 */
export type PagerStop = Extract<
  StopReason,
  | 'timeout'
  | 'disconnected'
  | 'closed'
  | 'oversized'
  | 'overflow'
  | 'garbled'
  | 'forged'
  | 'ignores_until'
  | 'ignores_since'
  | 'hides_events'
  | 'more_without_events'
  | 'limit_refused'
  | 'events_after_eose'
  | 'unsteady'
  | 'stopped'
  | 'rate_limited'
  | 'auth_required'
  | 'restricted'
  | 'blocked'
  | 'filter_refused'
>;

/** A stop with the text of the relay, or a description; the text may be empty. */
export interface Stopped {
  readonly reason: PagerStop;
  readonly text: string;
}

/** A stop as a sentence: `closed: error: too busy`. */
export function stopText({ reason, text }: Stopped): string {
  return text === '' ? reason : `${reason}: ${text}`;
}
