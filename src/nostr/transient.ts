import { isKept } from './kinds.ts';

/** An event that expires within this, in seconds, may expire between two requests of a visit, or by a relay's clock. */
const EXPIRES_SOON = 3600;

/**
 * Whether a relay that has shown this event need not show it again: it is of an ephemeral kind (NIP-01), or has expired
 * or is about to (NIP-40).
 *
 * @param now Unix seconds
 */
export function isTransient(
  { kind, tags }: { readonly kind: number; readonly tags: readonly (readonly string[])[] },
  now: number,
): boolean {
  if (!isKept(kind)) return true;
  const expiration = tags.find(([name]) => name === 'expiration')?.[1];
  if (expiration === undefined || expiration.trim() === '') return false;
  const at = Number(expiration);
  return Number.isFinite(at) && at <= now + EXPIRES_SOON;
}
