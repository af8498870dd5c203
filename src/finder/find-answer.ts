import { asRelayError, type ConnectOptions, connectRelay } from '../relay/connection.ts';
import { firstAnswer } from '../relay/first-answer.ts';
import { retryAfterOf } from '../relay/relay-error.ts';
import type { RelayUrl } from '../relay/url.ts';

/**
 * Asks whether somebody at this URL speaks Nostr: a REQ that is answered with an event, with EOSE, or with a CLOSED that
 * asks for NIP-42 first.
 *
 * @param onRetryAfter hears how long the server asked to be left alone (`Retry-After`), in seconds
 * @returns null when it is a relay, else one stable word: those of `connectRelay`, how the page ended, or how the REQ
 * was refused
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function answerOf(
  url: RelayUrl,
  options: ConnectOptions & { readonly signal: AbortSignal },
  onRetryAfter: (seconds: number) => void = () => {},
): Promise<string | null> {
  const { signal } = options;
  signal.throwIfAborted();
  try {
    const connection = await connectRelay(url, options);
    try {
      const { reason } = await firstAnswer(connection, { limit: 1 }, options);
      return reason === 'auth_required' ? null : reason;
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
