import type { NostrEvent } from '../nostr/event.ts';
import type { Query } from './connection.ts';
import { eventsByKeys } from './event-bodies.ts';

/**
 * What was stored, in the order of commits, for readers outside that keep their own cursor: each stored event once. Rows
 * of the journal are read below the oldest running transaction, as its readers in `journal_readers` do.
 */

/** A place in the journal: a row, and how many of its events were passed; null: all of it. */
export interface ChangeCursor {
  readonly xid: string;
  readonly batchId: string;
  readonly passed: number | null;
}

export const JOURNAL_START: ChangeCursor = { xid: '0', batchId: '0', passed: null };

/** An event that was stored. */
export interface Change {
  readonly cursor: ChangeCursor;
  /** When its transaction began, Unix seconds. */
  readonly storedAt: number;
  /** The relay that brought it; null where that was deleted since, or the event was imported. */
  readonly relay: string | null;
  readonly event: NostrEvent;
}

/** What follows a cursor. */
export type Changes =
  | {
      readonly state: 'read';
      readonly changes: readonly Change[];
      /** Where to go on; the same as before where nothing follows yet. */
      readonly cursor: ChangeCursor;
      /** Whether there may be more at once. */
      readonly hasMore: boolean;
    }
  /** The row of the cursor is no longer kept: what followed it may be gone too. */
  | { readonly state: 'expired' }
  /** The journal of a restored dump is not adopted yet: a reader of the archive does that. */
  | { readonly state: 'not_adopted' };

const ROWS_AT_A_TIME = 200;

/**
 * Reads what follows a cursor. Events that were deleted since are left out.
 *
 * @param limit events, at most
 * @param bytes the events end with the one that reaches this many bytes of content and tags
 * @param shards number of shards of `events`
 */
export async function changesAfter(
  query: Query,
  cursor: ChangeCursor,
  limit: number,
  bytes: number,
  shards: number,
): Promise<Changes> {
  const state = await cursorState(query, cursor);
  if (state !== 'read') return { state };
  const rows = await journalRows(query, cursor, limit);
  const keys = rows.flatMap((row) =>
    row.keys.slice(row.passed).map((key, index) => ({ row, key, place: row.passed + index + 1 })),
  );
  const wanted = keys.slice(0, limit);
  const { events, read } = await eventsByKeys(
    query,
    wanted.map(({ key }) => key),
    bytes,
    shards,
  );
  const changes = wanted.slice(0, read).flatMap(({ row, key, place }): Change[] => {
    const event = events.get(key);
    return event
      ? [{ cursor: placeIn(row, place), storedAt: row.storedAt, relay: row.relay, event }]
      : [];
  });
  const isWhole = read === keys.length;
  const last = isWhole ? rows.at(-1) : wanted[read - 1]?.row;
  const next = last
    ? placeIn(last, isWhole ? last.keys.length : (wanted[read - 1]?.place ?? 0))
    : cursor;
  const hasMore = !isWhole || wanted.length >= limit || rows.length === ROWS_AT_A_TIME;
  return { state, changes, cursor: next, hasMore };
}

/** The latest row that can be read: what follows it is new. */
export async function journalHead(query: Query): Promise<ChangeCursor> {
  const { rows } = await query<{ xid: string; batchId: string }>(
    `select xid::text, batch_id::text as "batchId" from journal
     where xid < pg_snapshot_xmin(pg_current_snapshot()) order by journal.xid desc, batch_id desc limit 1`,
  );
  return rows[0] ? { ...rows[0], passed: null } : JOURNAL_START;
}

async function cursorState(
  query: Query,
  { xid, batchId, passed }: ChangeCursor,
): Promise<Changes['state']> {
  const { rows } = await query<{ adopted: boolean; kept: boolean }>(
    `select not exists (
                select from journal_readers where cluster <> (select system_identifier from pg_control_system())
            ) as adopted,
            exists (select from journal where xid = $1::xid8 and batch_id = $2::bigint) as kept`,
    [xid, batchId],
  );
  if (!rows[0]?.adopted) return 'not_adopted';
  const isStart = xid === JOURNAL_START.xid && batchId === JOURNAL_START.batchId && passed === null;
  return isStart || rows[0].kept ? 'read' : 'expired';
}

interface JournalledRow {
  readonly xid: string;
  readonly batchId: string;
  readonly storedAt: number;
  readonly relay: string | null;
  readonly keys: readonly string[];
  /** Events of the row that come before the cursor. */
  readonly passed: number;
}

function placeIn({ xid, batchId, keys }: JournalledRow, place: number): ChangeCursor {
  return { xid, batchId, passed: place >= keys.length ? null : place };
}

/** The next rows with about as many events as wanted; the row of the cursor too where it is not passed as a whole. */
async function journalRows(
  query: Query,
  { xid, batchId, passed }: ChangeCursor,
  limit: number,
): Promise<JournalledRow[]> {
  const { rows } = await query<Omit<JournalledRow, 'passed'> & Record<string, unknown>>(
    `select n.xid::text, n.batch_id::text as "batchId", n.written_at as "storedAt", r.url as relay,
            n.event_keys::text[] as keys
     from (
         select j.*, sum(cardinality(event_keys)) over (order by xid, batch_id) - cardinality(event_keys) as keys_before
         from (
             select * from journal
             where (xid, batch_id) >= ($1::xid8, $2::bigint) and ($3 or (xid, batch_id) <> ($1::xid8, $2::bigint))
                 and xid < pg_snapshot_xmin(pg_current_snapshot())
             order by xid, batch_id limit $4
         ) j
     ) n
     left join relays r on r.relay_id = n.relay_id
     where keys_before < $5
     order by n.xid, n.batch_id`,
    [xid, batchId, passed !== null, ROWS_AT_A_TIME, limit + (passed ?? 0)],
  );
  return rows.map((row) => ({
    ...row,
    passed: row.xid === xid && row.batchId === batchId ? (passed ?? 0) : 0,
  }));
}
