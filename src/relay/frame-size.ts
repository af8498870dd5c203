const SMALLEST_FRAME = 2048;
const DEFAULT_FRAME = 60_000;
const LARGEST_FRAME = 500_000;
/** A NEG-MSG without its payload. */
const ENVELOPE = 64;

/**
 * Bytes of Negentropy that fit into a message to this relay.
 *
 * @param maxMessageLength `limitation.max_message_length` of its NIP-11 document; null gives 60,000, which is
 * within the 131,072 characters that strfry takes unless told otherwise.
 */
export function frameSizeFor(maxMessageLength: number | null): number {
  if (maxMessageLength === null) return DEFAULT_FRAME;
  const fitting = Math.floor((maxMessageLength - ENVELOPE) / 2);
  return Math.min(LARGEST_FRAME, Math.max(SMALLEST_FRAME, fitting));
}
