import type { RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';

/** Ids of what is open on one connection, the oldest first. */
export interface OpenRequests {
  /** REQs. */
  readonly subscriptions: Set<string>;
  /** Reconciliations (NIP-77). */
  readonly exchanges: Set<string>;
}

const OPEN = new WeakMap<RelayConnection, OpenRequests>();

/** What is open on this connection: each request adds its id, and takes it away in the end. */
export function openRequests(connection: RelayConnection): OpenRequests {
  const open = OPEN.get(connection) ?? { subscriptions: new Set(), exchanges: new Set() };
  OPEN.set(connection, open);
  return open;
}

/** Whether the message answers one of the requests that are open: it is no junk, and no matter of the others. */
export function isAnswer(
  message: RelayMessage,
  { subscriptions, exchanges }: OpenRequests,
): boolean {
  if (!('subscription' in message)) return false;
  return subscriptions.has(message.subscription) || exchanges.has(message.subscription);
}
