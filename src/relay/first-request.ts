/**
 * The first request of a connection. Some relays (nostream 2.0) lose one that arrives right after the handshake, and
 * many greet a new connection with a NOTICE that refers to nothing.
 */
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';

/** After this silence the first request is sent once more, in milliseconds. */
const SEND_AGAIN_MS = 3000;
/** Or after this part of the longest silence. */
const PART_OF_SILENCE = 4;

interface Requests {
  /** Id of the first request, once it was sent a second time. */
  sentAgain: string | null;
  /** Messages that may still come of its second answer. */
  copiesLeft: number;
}

/** Messages of a second answer beside its events. */
const COPIES_BESIDE_EVENTS = 10;

const REQUESTS = new WeakMap<RelayConnection, Requests>();

/** Notes that a request is sent. @returns whether it is the first one of the connection */
export function beginRequest(connection: RelayConnection): boolean {
  if (REQUESTS.has(connection)) return false;
  REQUESTS.set(connection, { sentAgain: null, copiesLeft: 0 });
  return true;
}

/**
 * Sends the first request of a connection once more, with its id, where nothing has come for it after a short silence.
 * A relay that has received the first one replaces it (NIP-01, NIP-77) or answers both.
 *
 * @param send sends it again; @returns whether it did
 * @returns a function that cancels it: something has come for the request, or it has ended
 */
export function sendAgainWhenSilent(
  connection: RelayConnection,
  id: string,
  idleTimeoutMs: number,
  send: () => boolean,
): () => void {
  return deadline(Math.min(SEND_AGAIN_MS, idleTimeoutMs / PART_OF_SILENCE), () => {
    const requests = REQUESTS.get(connection);
    if (requests && connection.isOpen && !connection.isPausedByUs && send())
      requests.sentAgain = id;
  });
}

/** Whether this request was sent twice: its answer may come twice, the second time after its EOSE. */
export function wasSentAgain(connection: RelayConnection, id: string): boolean {
  return REQUESTS.get(connection)?.sentAgain === id;
}

/** Notes that an answer has ended, after so many events: as many may come of the second one. */
export function endRequest(connection: RelayConnection, id: string, events: number): void {
  const requests = REQUESTS.get(connection);
  if (requests?.sentAgain === id) requests.copiesLeft = events + COPIES_BESIDE_EVENTS;
}

/** Whether a message that comes after the end of this request is part of its second answer. A flood of them is not. */
export function isLateCopy(connection: RelayConnection, id: string): boolean {
  const requests = REQUESTS.get(connection);
  if (requests?.sentAgain !== id || requests.copiesLeft === 0) return false;
  requests.copiesLeft -= 1;
  return true;
}
