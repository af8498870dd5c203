import type { NostrEvent } from '../nostr/event.ts';
import { parseRelayMessage, refusalOf } from '../nostr/message.ts';
import { refusalOfOk } from '../nostr/nip66.ts';
import { isAboutWriting } from '../nostr/notice.ts';
import { answerDeadline } from './answer-deadline.ts';
import { type Authenticator, askAuthenticated } from './authentication.ts';
import { refusalOfClose } from './close-frame.ts';
import type { RelayConnection } from './connection.ts';
import { beginRequest } from './first-request.ts';

/**
 * How publishing one event ended, in one stable word: `accepted`, `timeout`, `disconnected`, `aborted`, or what the
 * relay refused with (`rate_limited`, `auth_required`, `restricted`, `blocked`, `pow`, `invalid`, `error`, `rejected`).
 */
export type PublishOutcome = string;

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
    { authenticator, timeoutMs, signal },
  );
  return answer === 'auth_required' && authentication === 'refused' ? 'restricted' : answer;
}

/** NOTICE names no event: one that refuses is believed when no OK comes. */
function publishOnce(
  connection: RelayConnection,
  event: NostrEvent,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<PublishOutcome> {
  return new Promise((resolve) => {
    let refusal: PublishOutcome | null = null;
    const finish = (outcome: PublishOutcome) => {
      cancel();
      stopListening();
      stopWatching();
      signal.removeEventListener('abort', onAbort);
      resolve(outcome);
    };
    const onAbort = () => finish('aborted');
    const stopListening = connection.onMessage((data) => {
      const message = parseRelayMessage(data);
      if (message.type === 'OK' && message.id === event.id)
        finish(refusalOfOk(message.accepted, message.text) ?? 'accepted');
      else if (
        message.type === 'NOTICE' &&
        refusalOf(message.text, 'event') !== 'other' &&
        isAboutWriting(message.text, event.id)
      )
        refusal = refusalOf(message.text, 'event');
    });
    const stopWatching = connection.onClosed((closed) =>
      finish(refusalOfClose(closed) ?? refusal ?? 'disconnected'),
    );
    const cancel = answerDeadline(connection, timeoutMs, () => finish(refusal ?? 'timeout'));
    signal.addEventListener('abort', onAbort, { once: true });
    beginRequest(connection);
    if (signal.aborted) onAbort();
    else connection.send(['EVENT', event]);
  });
}
