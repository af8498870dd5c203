import type { NostrEvent } from './event.ts';

/**
 * The address of a replaceable or addressable event, as it stands in tags a (NIP-01): kind, author and the value of its
 * first tag d. Null for other events.
 */
export function addressOf({ kind, pubkey, tags }: NostrEvent): string | null {
  const isReplaceable = kind === 0 || kind === 3 || (kind >= 10_000 && kind < 20_000);
  if (isReplaceable) return `${kind}:${pubkey}:`;
  if (kind < 30_000 || kind >= 40_000) return null;
  return `${kind}:${pubkey}:${tags.find(([name]) => name === 'd')?.[1] ?? ''}`;
}
