import { refusalOf } from '../nostr/message.ts';
import { asRelayError, type ConnectOptions, connectRelay } from '../relay/connection.ts';
import { type PageEnd, readPage } from '../relay/subscription.ts';
import type { RelayUrl } from '../relay/url.ts';

/** Far more than one event with `limit: 1` needs. */
const LIMITS = { maxEvents: 500, maxBytes: 16 * 1024 * 1024 };

/**
 * Asks whether somebody at this URL speaks Nostr: a REQ that is answered with an event, with EOSE, or with a CLOSED that
 * asks for NIP-42 first.
 *
 * @returns null when it is a relay, else one stable word: those of `connectRelay`, how the page ended, or how the REQ
 * was refused
 * @throws the signal's reason when it aborts, and nothing else.
 */
export async function answerOf(
  url: RelayUrl,
  options: ConnectOptions & { readonly signal: AbortSignal },
): Promise<string | null> {
  const { signal, timeoutMs } = options;
  signal.throwIfAborted();
  try {
    const connection = await connectRelay(url, options);
    try {
      const limits = { ...LIMITS, idleTimeoutMs: timeoutMs, totalTimeoutMs: timeoutMs };
      return await judge(readPage(connection, { limit: 1 }, limits, signal));
    } finally {
      connection.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    return asRelayError(error, url).reason;
  } finally {
    signal.throwIfAborted();
  }
}

async function judge(page: AsyncGenerator<unknown[], PageEnd>): Promise<string | null> {
  try {
    for (;;) {
      const step = await page.next();
      if (step.done) return judgeEnd(step.value);
      if (step.value.some((event) => typeof event === 'object' && event !== null)) return null;
    }
  } finally {
    await page.return({ type: 'aborted' });
  }
}

function judgeEnd(end: PageEnd): string | null {
  if (end.type === 'finish' || end.type === 'more' || end.type === 'eose') return null;
  if (end.type !== 'closed') return end.type;
  const refusal = refusalOf(end.text);
  if (refusal === 'auth_required') return null;
  return refusal === 'other' ? 'closed' : refusal;
}
