import { asRelayError, retryAfterOf } from '../network/relay-error.ts';
import type { RelayUrl } from '../network/url.ts';
import type { EventFilter } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { type ConnectOptions, connectRelay } from '../relay-client/connection.ts';
import { firstAnswerOf } from '../relay-client/first-answer.ts';
import { answerOrOlder } from '../relay-client/older-answer.ts';
import { RenewableSession } from '../relay-client/renewable-session.ts';

export type AnswerOptions = ConnectOptions & {
  readonly signal: AbortSignal;
  readonly eventFilter?: EventFilter;
};

/**
 * Probes whether the server at this URL is a relay: it answers a REQ with an event, with EOSE, or with a CLOSED that
 * requires NIP-42 or refuses the shape of the filter; or it sends a challenge (NIP-42) and is silent. The REQ is that of
 * the synchronizer; if the answer is lost, older events are requested.
 *
 * @param options `eventFilter`: what the synchronizers archive; default: all events
 * @param onRetryAfter called with the pause that the server asked for (`Retry-After`), in seconds
 * @returns null when it is a relay, else one stable word: a reason of `connectRelay`, how the page ended, or how the REQ
 * was refused
 * @throws the signal's reason when it aborts, and nothing else
 */
export async function probeCandidate(
  url: RelayUrl,
  options: AnswerOptions,
  onRetryAfter: (seconds: number) => void = () => {},
): Promise<string | null> {
  const { signal } = options;
  signal.throwIfAborted();
  try {
    const candidate: RenewableSession = new RenewableSession(
      await connectRelay(url, options),
      null,
      (timeoutMs) => {
        candidate.connection.close(); // a candidate gets one connection at a time
        return connectRelay(url, { ...options, timeoutMs });
      },
    );
    try {
      const reason = await failureOf(candidate, options);
      return reason === 'auth_required' || isFilterRefusal(reason) ? null : reason;
    } finally {
      candidate.connection.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    const seconds = retryAfterOf(error);
    if (seconds !== null) onRetryAfter(seconds);
    return asRelayError(error, url).reason;
  } finally {
    signal.throwIfAborted();
  }
}

/** Why the REQ got no answer; null when it got one. */
async function failureOf(
  candidate: RenewableSession,
  options: AnswerOptions,
): Promise<string | null> {
  const { eventFilter = {}, timeoutMs, signal } = options;
  const ask = async (limitMs: number, until?: number): Promise<string | null> => {
    const waits = { timeoutMs: limitMs, signal };
    const { reason } = await firstAnswerOf(candidate.connection, eventFilter, waits, until);
    // Only a relay sends a challenge: silence after it means that NIP-42 is required.
    const isHeldBack = reason === 'timeout' && candidate.authenticator.mayHoldBack;
    return isHeldBack ? 'auth_required' : reason;
  };
  const { answer } = await answerOrOlder(await ask(timeoutMs), {
    ask: (until, limitMs) => ask(limitMs, until),
    reasonOf: (reason) => reason,
    isOpen: () => candidate.connection.isOpen,
    reconnect: (limitMs) => candidate.renew(limitMs),
    ...{ timeoutMs, signal, now: unixNow },
  });
  return answer;
}
