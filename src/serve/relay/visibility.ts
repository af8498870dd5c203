import type { NostrEvent } from '../../nostr/event.ts';

/** Kind of events that authenticate a client (NIP-42), which are never sent to others as they come. */
const AUTHENTICATION = 22_242;

/** Who asks, as far as it decides which events are shown. */
export interface Viewer {
  /** Whether protected events are shown to their authors only: where clients can authenticate. */
  readonly hidesProtected: boolean;
  /** Public keys for which the client has authenticated. */
  readonly keys: ReadonlySet<string>;
}

/**
 * Whether an event may be shown: an expired one (NIP-40) only where it is asked for by id, a protected one (NIP-70) only
 * to its author.
 *
 * @param isNamed whether the filter names ids
 * @param now Unix seconds
 */
export function isShown(event: NostrEvent, isNamed: boolean, viewer: Viewer, now: number): boolean {
  for (const tag of event.tags) {
    const [name, value] = tag;
    if (name === 'expiration' && !isNamed && isPast(value, now)) return false;
    if (name === '-' && viewer.hidesProtected && !viewer.keys.has(event.pubkey)) return false;
  }
  return true;
}

/** Whether an event that was just stored may be sent to subscriptions at all. */
export function isBroadcast({ kind }: NostrEvent): boolean {
  return kind !== AUTHENTICATION;
}

function isPast(value: string | undefined, now: number): boolean {
  return value !== undefined && /^\d{1,15}$/.test(value) && Number(value) <= now;
}
