import type { RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';

/** Ids of the open requests of one connection, the oldest first. */
export interface OpenRequests {
  /** REQs. */
  readonly subscriptions: Set<string>;
  /** Reconciliations (NIP-77). */
  readonly exchanges: Set<string>;
}

const OPEN = new WeakMap<RelayConnection, OpenRequests>();

/** The open requests of a connection: each adds its id, and removes it when it ends. */
export function openRequests(connection: RelayConnection): OpenRequests {
  const open = OPEN.get(connection) ?? { subscriptions: new Set(), exchanges: new Set() };
  OPEN.set(connection, open);
  return open;
}

/** Whether the message answers one of the open requests: then it is not junk, and the others ignore it. */
export function isAnswer(
  message: RelayMessage,
  { subscriptions, exchanges }: OpenRequests,
): boolean {
  if (!('subscription' in message)) return false;
  return subscriptions.has(message.subscription) || exchanges.has(message.subscription);
}
