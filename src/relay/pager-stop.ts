import type { Refusal } from '../nostr/message.ts';

/**
 * Why reading a relay page by page stopped before every window was proven. The refusals are set by whoever reads the
 * answers, `events_after_eose` and `unsteady` by what the relay sent beside them.
 */
export const PAGER_STOPS = [
  'timeout',
  'disconnected',
  'closed',
  'oversized',
  'overflow',
  'garbled',
  'forged',
  'ignores_until',
  'ignores_since',
  'hides_events',
  'more_without_events',
  'limit_refused',
  'events_after_eose',
  'unsteady',
  'aborted',
  'rate_limited',
  'auth_required',
  'restricted',
  'blocked',
  'filter_refused',
] as const satisfies readonly (string | Refusal)[];

export type PagerStop = (typeof PAGER_STOPS)[number];

/** A stop and what the relay said with it, or what it did; the text may be empty. */
export interface Stopped {
  readonly reason: PagerStop;
  readonly text: string;
}

/** A stop as people read it: `closed: error: too busy`. */
export function stopText({ reason, text }: Stopped): string {
  return text === '' ? reason : `${reason}: ${text}`;
}
