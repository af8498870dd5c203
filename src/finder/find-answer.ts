import type { EventFilter } from '../nostr/filter.ts';
import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { asRelayError, type ConnectOptions, connectRelay } from '../relay/connection.ts';
import { firstAnswerOf } from '../relay/first-answer.ts';
import { retryAfterOf } from '../relay/relay-error.ts';
import type { RelayUrl } from '../relay/url.ts';

export type AnswerOptions = ConnectOptions & {
  readonly signal: AbortSignal;
  readonly eventFilter?: EventFilter;
};

/**
 * Asks whether somebody at this URL speaks Nostr: a REQ that is answered with an event, with EOSE, or with a CLOSED that
 * asks for NIP-42 first or finds fault with the filter. The question is the one that the synchronizer will ask.
 *
 * @param options `eventFilter`: what the synchronizers archive; all events unless told
 * @param onRetryAfter called with how long the server asked to be left alone (`Retry-After`), in seconds
 * @returns null when it is a relay, else one stable word: those of `connectRelay`, how the page ended, or how the REQ
 * was refused
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function answerOf(
  url: RelayUrl,
  options: AnswerOptions,
  onRetryAfter: (seconds: number) => void = () => {},
): Promise<string | null> {
  const { signal } = options;
  signal.throwIfAborted();
  try {
    const connection = await connectRelay(url, options);
    try {
      const { reason } = await firstAnswerOf(connection, options.eventFilter ?? {}, options);
      return reason === 'auth_required' || isFilterRefusal(reason) ? null : reason;
    } finally {
      connection.close();
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
