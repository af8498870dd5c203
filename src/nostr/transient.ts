import type { NostrEvent } from './event.ts';
import { mayHaveTag } from './event-text.ts';
import { isKept } from './kinds.ts';

/** An event that expires within this, in seconds, may expire between two requests of a visit, or by a relay's clock. */
const EXPIRES_SOON = 3600;

/**
 * Whether a relay that has shown this event need not show it again: it is of an ephemeral kind (NIP-01), or has expired
 * or is about to (NIP-40).
 *
 * @param now Unix seconds
 */
export function isTransient(event: Pick<NostrEvent, 'kind' | 'tags'>, now: number): boolean {
  if (!isKept(event.kind)) return true;
  if (!mayHaveTag(event, 'expiration')) return false;
  const expiration = event.tags.find(([name]) => name === 'expiration')?.[1];
  if (expiration === undefined || expiration.trim() === '') return false;
  const at = Number(expiration);
  return Number.isFinite(at) && at <= now + EXPIRES_SOON;
}
