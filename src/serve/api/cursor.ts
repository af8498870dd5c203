import { createHash } from 'node:crypto';
import type { z } from 'zod';
import { Problem } from './problem.ts';

/** Cursors of lists: the key of the last row shown, for the same question only. Opaque to clients. */

/** Parameters that may differ between the pages of one list. */
const OF_THE_PAGE = new Set(['cursor', 'limit', 'format']);
const TAG_LENGTH = 8;

/** What a list was asked for: its path and its parameters but those of the page. */
export function questionTag(path: string, query: Readonly<Record<string, unknown>>): string {
  const asked = Object.entries(query)
    .filter(([name, value]) => !OF_THE_PAGE.has(name) && value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([path, asked]);
  return createHash('sha256').update(text).digest('base64url').slice(0, TAG_LENGTH);
}

export function encodeCursor(question: string, key: readonly unknown[]): string {
  return Buffer.from(JSON.stringify([question, ...key])).toString('base64url');
}

/** @throws Problem for a cursor that is malformed, or of another question */
export function decodeCursor<Key extends z.ZodType>(
  cursor: string,
  question: string,
  key: Key,
): z.output<Key> {
  const [tag, ...rest] = parts(cursor);
  const parsed = key.safeParse(rest);
  const isOurs = encodeCursor(question, rest) === cursor; // another spelling of the same bytes is not
  if (tag === question && isOurs && parsed.success) return parsed.data;
  throw new Problem(
    'invalid-request',
    'cursor must be the next_cursor of an answer to the same question; leave it out to begin anew.',
    { parameter: 'cursor' },
  );
}

function parts(cursor: string): unknown[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
    return Array.isArray(value) ? value : [];
  } catch {
    return [];
  }
}
