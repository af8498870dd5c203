import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Change,
  type ChangeCursor,
  type Changes,
  changesAfter,
  JOURNAL_START,
  journalHead,
} from '../../database/changes.ts';
import type { Context } from './context.ts';
import { Problem } from './problem.ts';

/** What was stored, for clients that follow the archive: pages, waiting for one, and a stream of them. */

/** How often a client that has read everything looks again, in milliseconds. */
const POLL_MS = 1000;
/** A stream that has nothing to send sends a comment this often, so that nobody takes it for dead, in milliseconds. */
const HEARTBEAT_MS = 15_000;
const BYTES_AT_A_TIME = 1024 * 1024;
const EVENTS_AT_A_TIME = 200;

export const CURSOR = /^(\d{1,20})-(\d{1,19})(?:-(\d{1,9}))?$/;

const MAX_XID = 2n ** 64n - 1n;

export interface ChangePage {
  readonly changes: readonly Change[];
  readonly cursor: ChangeCursor;
  readonly hasMore: boolean;
}

export function cursorText({ xid, batchId, passed }: ChangeCursor): string {
  return passed === null ? `${xid}-${batchId}` : `${xid}-${batchId}-${passed}`;
}

/** Where a client begins: at the journal's beginning where it names nothing, `now`, or a cursor. @throws Problem */
export async function startOf(context: Context, text: string | undefined): Promise<ChangeCursor> {
  if (text === undefined) return JOURNAL_START;
  if (text === 'now') return context.read(journalHead);
  const [, xid, batchId, passed] = CURSOR.exec(text) ?? [];
  // PostgreSQL before 16 takes the largest number where one is too large.
  if (xid !== undefined && batchId !== undefined && BigInt(xid) <= MAX_XID)
    return { xid, batchId, passed: passed === undefined ? null : Number(passed) };
  throw new Problem('invalid-request', 'cursor must be one that an answer gave, or now.', {
    parameter: 'cursor',
  });
}

/** What follows a cursor, at once. @throws Problem */
export async function changePage(
  context: Context,
  cursor: ChangeCursor,
  limit: number,
): Promise<ChangePage> {
  return pageOf(
    await context.read((query, shards) =>
      changesAfter(query, cursor, limit, BYTES_AT_A_TIME, shards),
    ),
  );
}

function pageOf(changes: Changes): ChangePage {
  if (changes.state === 'read') return changes;
  if (changes.state === 'expired')
    throw new Problem(
      'cursor-expired',
      'What followed this cursor is no longer kept: begin anew without one, or catch up by /v1/events.',
      { parameter: 'cursor' },
    );
  throw new Problem('unavailable', 'A restored journal is being taken over: try again.', {
    retryAfter: 10,
  });
}

/**
 * What follows a cursor; while that is nothing, waits.
 *
 * @param ms how long, in milliseconds
 * @throws Problem
 */
export async function waitForChanges(
  context: Context,
  cursor: ChangeCursor,
  limit: number,
  ms: number,
  signal: AbortSignal,
): Promise<ChangePage> {
  const until = performance.now() + ms;
  let from = cursor;
  for (;;) {
    const page = await changePage(context, from, limit);
    const left = until - performance.now();
    if (page.changes.length > 0 || left <= 0 || signal.aborted) return page;
    from = page.cursor;
    if (!page.hasMore) await sleep(Math.min(POLL_MS, left), undefined, { signal }).catch(() => {});
  }
}

/** What follows a cursor as server-sent events, without end. A problem ends it, as an event of that name. */
export async function* changeStream(
  context: Context,
  first: ChangePage,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let page = first;
  let sentMs = performance.now();
  yield ': the archive as it grows\n\n';
  while (!signal.aborted) {
    if (page.changes.length > 0) {
      yield page.changes.map(eventText).join('');
      sentMs = performance.now();
    } else if (performance.now() - sentMs > HEARTBEAT_MS) {
      yield ': nothing new\n\n';
      sentMs = performance.now();
    }
    if (!page.hasMore) await sleep(POLL_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    try {
      page = await changePage(context, page.cursor, EVENTS_AT_A_TIME);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      yield `event: problem\ndata: ${JSON.stringify(error.details())}\n\n`;
      return;
    }
  }
}

function eventText(change: Change): string {
  return `id: ${cursorText(change.cursor)}\nevent: stored\ndata: ${JSON.stringify(changeRow(change))}\n\n`;
}

/** A change as the API shows it. */
export function changeRow({ cursor, storedAt, relay, event }: Change) {
  return { cursor: cursorText(cursor), stored_at: storedAt, relay, event };
}
