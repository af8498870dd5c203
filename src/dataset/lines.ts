/** A line of a file: its text, or why it has none. */
export type Line =
  | { readonly number: number; readonly text: string }
  | { readonly number: number; readonly refused: 'too_large' | 'invalid_utf8' };

/** The longest line that is read: an event of 4 MiB with every character escaped fits. */
export const MAX_LINE_BYTES = 32 * 1024 * 1024;
const NEWLINE = 0x0a;

/**
 * Divides bytes into lines, counted from 1. Empty lines are counted and left out; the last one may lack its newline. A line
 * that is too long is skipped without being held.
 */
export async function* linesOf(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Line> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let number = 0;
  const take = (part: Uint8Array) => {
    bytes += part.length;
    if (bytes > MAX_LINE_BYTES) parts = [];
    else parts.push(part);
  };
  const line = (): Line | null => {
    const [held, length] = [parts, bytes];
    parts = [];
    bytes = 0;
    number += 1;
    if (length > MAX_LINE_BYTES) return { number, refused: 'too_large' };
    try {
      const text = decoder.decode(held.length === 1 ? held[0] : Buffer.concat(held)).trim();
      return text === '' ? null : { number, text };
    } catch {
      return { number, refused: 'invalid_utf8' };
    }
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, start)) {
      take(chunk.subarray(start, at));
      start = at + 1;
      const read = line();
      if (read) yield read;
    }
    if (start < chunk.length) take(chunk.slice(start));
  }
  const last = bytes > 0 ? line() : null;
  if (last) yield last;
}
