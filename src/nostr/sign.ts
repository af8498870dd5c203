import { type EventTemplate, finalizeEvent } from 'nostr-tools/pure';
import type { NostrEvent } from './event.ts';

/** Signs an event. Copies the members of NIP-01 alone: nostr-tools adds a symbol to what it has signed. */
export function signEvent(template: EventTemplate, secretKey: Uint8Array): NostrEvent {
  const { id, pubkey, created_at, kind, tags, content, sig } = finalizeEvent(template, secretKey);
  return { id, pubkey, created_at, kind, tags, content, sig };
}
