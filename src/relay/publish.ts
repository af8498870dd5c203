import type { NostrEvent } from '../nostr/event.ts';
import { parseRelayMessage, refusalOf } from '../nostr/message.ts';
import { refusalOfOk } from '../nostr/nip66.ts';
import type { Authenticator } from './authentication.ts';
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';

/**
 * How publishing one event ended, in one stable word: `accepted`, `timeout`, `disconnected`, `aborted`, or what the
 * relay refused with (`rate_limited`, `auth_required`, `restricted`, `blocked`, `pow`, `invalid`, `error`, `rejected`).
 */
export type PublishOutcome = string;

/**
 * Publishes one event (NIP-01) and waits for its OK. When the relay asks for NIP-42 it is answered and the event sent
 * once more. Never throws.
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
  const outcome = await publishOnce(connection, event, timeoutMs, signal);
  if (outcome !== 'auth_required') return outcome;
  const answer = await authenticator.authenticate(timeoutMs, signal);
  if (answer === 'refused') return 'restricted';
  return answer === 'accepted' ? publishOnce(connection, event, timeoutMs, signal) : outcome;
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
      else if (message.type === 'NOTICE' && refusalOf(message.text, 'event') !== 'other')
        refusal = refusalOf(message.text, 'event');
    });
    const stopWatching = connection.onClosed(() => finish(refusal ?? 'disconnected'));
    const cancel = deadline(timeoutMs, () => finish(refusal ?? 'timeout'));
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else connection.send(['EVENT', event]);
  });
}
