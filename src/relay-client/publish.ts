import type { NostrEvent } from '../nostr/event.ts';
import {
  type EventRefusal,
  eventRefusalOf,
  parseRelayMessage,
  refusalOfOk,
} from '../nostr/message.ts';
import { isAboutWriting } from '../nostr/notice.ts';
import { type Authenticator, askAuthenticated } from './authentication.ts';
import { refusalOfClose } from './close-frame.ts';
import type { RelayConnection } from './connection.ts';
import { beginRequest } from './first-request.ts';
import { waitOn } from './wait-on.ts';

/** How publishing one event ended: accepted, refused by the relay, or not answered. */
export type PublishOutcome = 'accepted' | EventRefusal | 'timeout' | 'disconnected' | 'aborted';

/** After a NOTICE that refuses, a relay that is going to say OK has done so within this time, in milliseconds. */
const REFUSAL_GRACE_MS = 2000;

/**
 * Publishes one event (NIP-01) and waits for its OK. When the relay asks for NIP-42 it is answered and the event sent
 * again. Never throws.
 *
 * @param timeoutMs longest wait for each answer, in milliseconds
 */
export async function publishEvent(
  connection: RelayConnection,
  authenticator: Authenticator,
  event: NostrEvent,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<PublishOutcome> {
  const { answer, authentication } = await askAuthenticated(
    () => publishOnce(connection, event, timeoutMs, signal),
    (outcome) => outcome === 'auth_required',
    { authenticator, timeoutMs, signal, isSilent: (outcome) => outcome === 'timeout' },
  );
  return answer === 'auth_required' && authentication === 'refused' ? 'restricted' : answer;
}

/**
 * Sends one event and waits for its OK. A NOTICE names no event: one that refuses is the outcome when no OK comes. It
 * shortens the wait, unless it may be the greeting of a new connection. Never throws.
 */
export function publishOnce(
  connection: RelayConnection,
  event: NostrEvent,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<PublishOutcome> {
  const isFirst = beginRequest(connection);
  let refusal: EventRefusal | null = null;
  const limits = {
    ...{ timeoutMs, signal },
    onTimeout: (): PublishOutcome => refusal ?? 'timeout',
    onClosed: (closed: Parameters<typeof refusalOfClose>[0]): PublishOutcome =>
      refusalOfClose(closed) ?? refusal ?? 'disconnected',
    onAbort: (): PublishOutcome => 'aborted',
  };
  return waitOn<PublishOutcome>(connection, limits, ({ finish, restart }) => {
    const receiveNotice = (text: string) => {
      const refused = eventRefusalOf(text);
      if (refused === null || !isAboutWriting(text, event.id)) return;
      refusal = refused;
      const mayBeGreeting = isFirst && !text.includes(event.id);
      if (!mayBeGreeting) restart(Math.min(REFUSAL_GRACE_MS, timeoutMs));
    };
    const stopListening = connection.onMessage((data) => {
      const message = parseRelayMessage(data);
      if (message.type === 'OK' && message.id === event.id)
        finish(refusalOfOk(message.accepted, message.text) ?? 'accepted');
      else if (message.type === 'NOTICE') receiveNotice(message.text);
    });
    connection.send(['EVENT', event]);
    return stopListening;
  });
}
