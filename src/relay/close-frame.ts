import { isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type ClientRefusal, refusalOf } from '../nostr/message.ts';

/** "Try again later" (IANA registry of WebSocket close codes). */
const TRY_AGAIN_LATER = 1013;
/** No close frame came (RFC 6455 section 7.1.5): the text is then that of an error of ours. */
const NO_CLOSE_FRAME = 1006;

/**
 * What a relay refuses with in the close frame itself, such as 1008 "rate-limited: too many connections".
 *
 * @returns null where the connection ended without such a word
 */
export function refusalOfClose({
  code,
  reason,
}: {
  readonly code: number;
  readonly reason: string;
}): ClientRefusal | null {
  if (code === NO_CLOSE_FRAME) return null;
  const refusal = refusalOf(reason);
  if (refusal !== 'limit' && refusal !== 'other' && !isFilterRefusal(refusal)) return refusal;
  return code === TRY_AGAIN_LATER ? 'rate_limited' : null;
}
