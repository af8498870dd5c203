import { NOW, type Query } from './connection.ts';
import type { Relay } from './relays.ts';

/** The part of `Bigbrotr` that reads and trims the journal; each statement that stores something appends to it. */

/** Names of readers: rows of `journal_readers`. */
export type JournalReader = 'finder' | 'refresher';

/** What one statement stored or deleted. */
export interface JournalRow {
  readonly xid: string;
  readonly batchId: string;
  /** When its transaction began, Unix seconds. */
  readonly writtenAt: number;
  /** Null where events or a relay were deleted. */
  readonly relayId: number | null;
  /** Keys of new events; some may be deleted since. */
  readonly eventKeys: readonly string[];
  /** The days since 1970-01-01 whose events or sightings changed. */
  readonly days: readonly number[];
}

/** The next rows of a reader, or why there are none now. */
export type JournalRead =
  | { readonly state: 'rows'; readonly rows: readonly [JournalRow, ...JournalRow[]] }
  /** Everything is read. */
  | { readonly state: 'end' }
  /** There are more, and an older transaction is still running: its rows would come first. */
  | { readonly state: 'held_back' }
  /** Another process or thread with the same cursor is reading. */
  | { readonly state: 'busy' };

export interface JournalLimits {
  readonly rows: number;
  /** Maximum number of event keys, unless the first row alone has more. */
  readonly eventKeys: number;
}

/** Maximum number of rows dropped by one statement. */
const TRIMMED_AT_A_TIME = 5000;
const DAY = 86_400;

/** Appends a row for changed sightings of a relay, in the transaction of their change; none without a changed day. */
export async function appendToJournal(
  query: Query,
  { relayId }: Relay,
  changedDays: ReadonlySet<number>,
): Promise<void> {
  if (changedDays.size === 0) return;
  const days = [...changedDays].sort((a, b) => a - b);
  await query('insert into journal (relay_id, days) values ($1, $2)', [relayId, days]);
}

/**
 * Reads the next rows of a reader and locks its cursor until the transaction ends. Rows come in the order
 * (xid, batch_id), and only those below the oldest running transaction, so that late commits are not skipped. Rows are
 * read again unless `advanceReader` follows in the same transaction.
 *
 * @param query of a transaction
 * @throws Error for a reader that is not in `journal_readers`
 */
export async function readNext(
  query: Query,
  reader: JournalReader,
  limits: JournalLimits,
): Promise<JournalRead> {
  await query('select adopt_journal()');
  const { rows: cursors } = await query<{ xid: string; batch_id: string }>(
    'select xid::text, batch_id::text from journal_readers where name = $1 for update skip locked',
    [reader],
  );
  const [cursor] = cursors;
  if (!cursor) {
    await requireReader(query, reader);
    return { state: 'busy' };
  }
  const { rows } = await query<JournalRow & Record<string, unknown>>(READ_NEXT, [
    ...[cursor.xid, cursor.batch_id, limits.rows, limits.eventKeys],
  ]);
  const [first, ...others] = rows;
  if (first) return { state: 'rows', rows: [first, ...others] };
  const { rows: more } = await query(
    'select from journal where (xid, batch_id) > ($1::xid8, $2) limit 1',
    [cursor.xid, cursor.batch_id],
  );
  return { state: more.length > 0 ? 'held_back' : 'end' };
}

const READ_NEXT = `
select xid::text, batch_id::text as "batchId", written_at as "writtenAt", relay_id as "relayId",
       event_keys::text[] as "eventKeys", days
from (
    select n.*, sum(cardinality(event_keys)) over (order by xid, batch_id) - cardinality(event_keys) as keys_before
    from (
        select * from journal
        where (xid, batch_id) > ($1::xid8, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
        order by xid, batch_id limit $3
    ) n
) counted
where keys_before < $4
order by counted.xid, counted.batch_id`;

/** Moves the cursor of a reader past a row, in the transaction that writes the results of the rows up to it. */
export async function advanceReader(
  query: Query,
  reader: JournalReader,
  { xid, batchId }: Pick<JournalRow, 'xid' | 'batchId'>,
): Promise<void> {
  await query(
    `update journal_readers set xid = $2::xid8, batch_id = $3, read_at = ${NOW} where name = $1`,
    [reader, xid, batchId],
  );
}

/**
 * Drops rows that every reader has passed and that are older than the given number of days, or dated into the future by
 * a wrong clock; none that comes after one that is kept, so that what follows a row that is kept is kept too.
 *
 * @param query of a transaction
 * @returns how many, and whether there may be more
 */
export async function trimJournal(
  query: Query,
  days: number,
): Promise<{ readonly trimmed: number; readonly isDone: boolean }> {
  await query(`select pg_advisory_xact_lock(hashtext('bigbrotr journal'))`); // cursors of a restored dump move back
  const { rowCount } = await query(
    `delete from journal j
     using (
         select xid, batch_id, bool_and(
             (o.written_at < ${NOW} - $1::bigint * ${DAY} or o.written_at > ${NOW} + ${DAY})
             and not exists (
                 select from journal_readers r
                 where (r.xid, r.batch_id) < (o.xid, o.batch_id)
                     or r.cluster <> (select system_identifier from pg_control_system())
             )
         ) over (order by xid, batch_id) as is_old
         from (select * from journal order by xid, batch_id limit $2) o
     ) oldest
     where j.xid = oldest.xid and j.batch_id = oldest.batch_id and oldest.is_old`,
    [days, TRIMMED_AT_A_TIME],
  );
  const trimmed = rowCount ?? 0;
  return { trimmed, isDone: trimmed < TRIMMED_AT_A_TIME };
}

/** The age of the oldest row that a reader has not read, in seconds; 0 if it has read all. */
export async function readerLag(query: Query, reader: JournalReader): Promise<number> {
  const { rows } = await query<{ lag: number }>(
    `select coalesce((
         select greatest(0, ${NOW} - j.written_at) from journal j
         where (j.xid, j.batch_id) > (r.xid, r.batch_id) order by j.xid, j.batch_id limit 1
     ), 0) as lag
     from journal_readers r where r.name = $1`,
    [reader],
  );
  if (!rows[0]) throw unknownReader(reader);
  return rows[0].lag;
}

async function requireReader(query: Query, reader: JournalReader): Promise<void> {
  const { rows } = await query('select from journal_readers where name = $1', [reader]);
  if (rows.length === 0) throw unknownReader(reader);
}

function unknownReader(reader: JournalReader): Error {
  return new Error(`journal_readers has no row '${reader}': insert one, or load init.sql again`);
}
