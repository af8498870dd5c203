import { type ClientRefusal, isClientRefusal, refusalOf } from '../nostr/message.ts';

/** "Try again later" (IANA registry of WebSocket close codes). */
const TRY_AGAIN_LATER = 1013;
/** No close frame was received (RFC 6455 section 7.1.5): the text is then that of a local error. */
const NO_CLOSE_FRAME = 1006;

/**
 * The refusal in a close frame, such as 1008 "rate-limited: too many connections".
 *
 * @returns null when the close frame has none, or none was received
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
  if (isClientRefusal(refusal)) return refusal;
  return code === TRY_AGAIN_LATER ? 'rate_limited' : null;
}
