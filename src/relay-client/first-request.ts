/**
 * The first request of a connection. Some relays (nostream 2.0) lose a request that arrives right after the handshake, so
 * it is sent again after a short silence. Many relays greet a new connection with a NOTICE that refers to no request.
 */

import { deadline } from '../network/deadline.ts';
import type { RelayConnection } from './connection.ts';

/** The first request is sent again after this silence, in milliseconds. */
const SEND_AGAIN_MS = 3000;
/** Or after this part of the idle timeout, if that is shorter. */
const PART_OF_TIMEOUT = 4;

interface Requests {
  /** Id of the first request, once it was sent a second time. */
  sentAgain: string | null;
  /** Messages of its second answer that may still arrive. */
  copiesLeft: number;
}

/** Messages of a second answer besides its events. */
const COPIES_BESIDE_EVENTS = 10;

const REQUESTS = new WeakMap<RelayConnection, Requests>();

/** Records that a request is sent. @returns whether it is the first one of the connection */
export function beginRequest(connection: RelayConnection): boolean {
  if (REQUESTS.has(connection)) return false;
  REQUESTS.set(connection, { sentAgain: null, copiesLeft: 0 });
  return true;
}

/**
 * Sends the first request of a connection again, with the same id, when nothing has arrived for it after a short silence.
 * A relay that did receive it replaces the first one (NIP-01, NIP-77) or answers both.
 *
 * @param send sends it again; returns whether it did
 * @returns a function that cancels this: an answer has arrived, or the request has ended
 */
export function resendAfterSilence(
  connection: RelayConnection,
  id: string,
  idleTimeoutMs: number,
  send: () => boolean,
): () => void {
  return deadline(Math.min(SEND_AGAIN_MS, idleTimeoutMs / PART_OF_TIMEOUT), () => {
    const requests = REQUESTS.get(connection);
    if (requests && connection.isOpen && !connection.isReadingPaused && send())
      requests.sentAgain = id;
  });
}

/** Whether this request was sent twice: its answer may arrive twice, the second time after its EOSE. */
export function wasSentAgain(connection: RelayConnection, id: string): boolean {
  return REQUESTS.get(connection)?.sentAgain === id;
}

/** Records that an answer has ended after `events` events: the second answer may have as many. */
export function endRequest(connection: RelayConnection, id: string, events: number): void {
  const requests = REQUESTS.get(connection);
  if (requests?.sentAgain === id) requests.copiesLeft = events + COPIES_BESIDE_EVENTS;
}

/** Whether a message after the end of this request belongs to its second answer. Bounded: a flood does not. */
export function isLateCopy(connection: RelayConnection, id: string): boolean {
  const requests = REQUESTS.get(connection);
  if (requests?.sentAgain !== id || requests.copiesLeft === 0) return false;
  requests.copiesLeft -= 1;
  return true;
}
