const SMALLEST_FRAME = 2048;
const DEFAULT_FRAME = 60_000;
const LARGEST_FRAME = 500_000;
/** Characters of a NEG-MSG without its payload. */
const ENVELOPE = 64;

/**
 * Bytes of Negentropy that fit into a message to this relay.
 *
 * @param maxMessageLength `limitation.max_message_length` of its NIP-11 document; null gives 60,000, which is
 * below the 131,072 characters that strfry accepts by default
 */
export function frameSizeFor(maxMessageLength: number | null): number {
  if (maxMessageLength === null) return DEFAULT_FRAME;
  const fitting = Math.floor((maxMessageLength - ENVELOPE) / 2);
  return Math.min(LARGEST_FRAME, Math.max(SMALLEST_FRAME, fitting));
}
