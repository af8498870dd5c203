import { asRelayError, type ConnectOptions, connectRelay } from '../relay/connection.ts';
import { firstAnswer } from '../relay/first-answer.ts';
import { retryAfterOf } from '../relay/relay-error.ts';
import type { RelayUrl } from '../relay/url.ts';

export interface Answer {
  /** Null when it is a relay, else one stable word: why it is not known to be one. */
  readonly reason: string | null;
  /** How long the server asked to be left alone (`Retry-After`), in seconds; null where it did not. */
  readonly retryAfterSeconds: number | null;
}

/**
 * Asks whether somebody at this URL speaks Nostr: a REQ that is answered with an event, with EOSE, or with a CLOSED that
 * asks for NIP-42 first.
 *
 * @returns the reason is one of those of `connectRelay`, how the page ended, or how the REQ was refused
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function answerOf(
  url: RelayUrl,
  options: ConnectOptions & { readonly signal: AbortSignal },
): Promise<Answer> {
  const { signal } = options;
  signal.throwIfAborted();
  try {
    const connection = await connectRelay(url, options);
    try {
      const { reason } = await firstAnswer(connection, { limit: 1 }, options);
      return { reason: reason === 'auth_required' ? null : reason, retryAfterSeconds: null };
    } finally {
      connection.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    return { reason: asRelayError(error, url).reason, retryAfterSeconds: retryAfterOf(error) };
  } finally {
    signal.throwIfAborted();
  }
}
