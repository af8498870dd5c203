import { NOW, type Query } from '../connection.ts';
import type { JournalRow } from '../journal.ts';

/** Table `dirty_days`: the days that are to be recounted. */

/** A dirty day is due this long after its first uncounted change, in seconds: the present day and later ones. */
const TODAY_AFTER = 60;
/** The same for the six days before. */
const THIS_WEEK_AFTER = 900;
/** The same for older days, and the time without a change after which they are due earlier. */
const OLDER_AFTER = 86_400;
const OLDER_QUIET = 900;

const TODAY = `(${NOW} / 86400)`;

/** The days to recount: those that are due by their age, or every dirty one. */
export type DaysWanted = 'due' | 'all';

/** Marks the days of journal rows as dirty, in the transaction that moves the cursor of the reader past them. */
export async function markDays(query: Query, rows: readonly JournalRow[]): Promise<void> {
  const marks = rows.flatMap(({ days, writtenAt }) => days.map((day) => ({ day, writtenAt })));
  await query(
    `insert into dirty_days (day, since)
     select day, min(since) from unnest($1::integer[], $2::bigint[]) as t (day, since) group by day order by day
     on conflict (day) do update
     set marks = dirty_days.marks + 1, marked_at = ${NOW}, since = least(dirty_days.since, excluded.since)`,
    [marks.map(({ day }) => day), marks.map(({ writtenAt }) => writtenAt)],
  );
}

/** Days to recount, the nearest to today first. */
export async function daysToCount(
  query: Query,
  wanted: DaysWanted,
  limit: number,
): Promise<number[]> {
  const { rows } = await query<{ day: number }>(
    `select day from dirty_days
     where $1 or is_rebuild or ${NOW} >= case
         when day >= ${TODAY} then since + ${TODAY_AFTER}
         when day > ${TODAY} - 7 then since + ${THIS_WEEK_AFTER}
         else least(since + ${OLDER_AFTER}, marked_at + ${OLDER_QUIET})
     end
     order by abs(day - ${TODAY}), day limit $2`,
    [wanted === 'all', limit],
  );
  return rows.map(({ day }) => day);
}

/** A dirty day whose recount has begun. */
export interface ClaimedDay {
  readonly day: number;
  readonly marks: number;
  /** Names this recount: what an earlier one counted is not applied any more. */
  readonly claim: string;
  readonly isRebuild: boolean;
  /** When its recount began, Unix seconds: changes that were committed before are counted. */
  readonly startedAt: number;
}

/**
 * Keeps other refreshers from recounting the day until the transaction ends. Nothing is written: readers of the journal do
 * not wait for it.
 *
 * @param query of a transaction
 * @returns whether nobody else recounts it
 */
export async function holdDay(query: Query, day: number): Promise<boolean> {
  const { rows: locks } = await query<{ locked: boolean }>(
    `select pg_try_advisory_xact_lock(hashtext('bigbrotr day'), $1) as locked`,
    [day],
  );
  return locks[0]?.locked === true;
}

/** Begins the recount of a day that is held. @returns null if it is not dirty any more */
export async function claimDay(query: Query, day: number): Promise<ClaimedDay | null> {
  const { rows } = await query<ClaimedDay & Record<string, unknown>>(
    `update dirty_days set claim = pg_current_xact_id()::text::bigint where day = $1
     returning day, marks, claim::text, is_rebuild as "isRebuild", ${NOW} as "startedAt"`,
    [day],
  );
  return rows[0] ?? null;
}

/**
 * Whether no other recount of the day has begun, which happens when the connection that holds the day is lost.
 *
 * @param query of a transaction that holds the lock of `lockFigures`
 */
export async function isClaimed(query: Query, { day, claim }: ClaimedDay): Promise<boolean> {
  const { rows } = await query('select from dirty_days where day = $1 and claim = $2', [
    day,
    claim,
  ]);
  return rows.length > 0;
}

/** Removes the mark of a day that was recounted. A day that was marked meanwhile stays dirty, for a rebuild too. */
export async function cleanDay(
  query: Query,
  { day, marks, isRebuild, startedAt }: ClaimedDay,
): Promise<void> {
  const { rowCount } = await query('delete from dirty_days where day = $1 and marks = $2', [
    day,
    marks,
  ]);
  if (rowCount === 0)
    await query(
      'update dirty_days set since = $2, is_rebuild = is_rebuild and not $3 where day = $1',
      [day, startedAt, isRebuild],
    );
}

/** How many days are dirty, how many of them belong to a rebuild, and since when the oldest change is not counted. */
export async function dirtyDays(
  query: Query,
): Promise<{ readonly days: number; readonly rebuild: number; readonly behindSeconds: number }> {
  const { rows } = await query<{ days: number; rebuild: number; behindSeconds: number }>(
    `select count(*) as days, count(*) filter (where is_rebuild) as rebuild,
            greatest(0, ${NOW} - figures_as_of()) as "behindSeconds"
     from dirty_days`,
  );
  return rows[0] ?? { days: 0, rebuild: 0, behindSeconds: 0 };
}
