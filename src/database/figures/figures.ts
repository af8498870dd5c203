import { crashPoint } from '../../telemetry/crash-point.ts';
import { NOW, type Query } from '../connection.ts';
import { advanceReader, type JournalRead, readNext } from '../journal.ts';
import { lockFigures } from './apply-day.ts';
import { dirtyDays, markDays } from './dirty-days.ts';
import { takeUp } from './take-up.ts';

/** What the refresher does in one transaction each. */

/** Rows of the journal and event keys that are read in one transaction. */
const AT_A_TIME = { rows: 500, eventKeys: 10_000 };

/**
 * Marks the days of the next rows of the journal as dirty, and brings current events, edges and zaps up to date.
 *
 * @returns whether rows were read, or why not
 */
export async function followJournal(query: Query): Promise<JournalRead['state']> {
  const read = await readNext(query, 'refresher', AT_A_TIME);
  if (read.state !== 'rows') return read.state;
  const { rows } = read;
  const deleted = rows.flatMap(({ relayId, days }) => (relayId === null ? days : []));
  const keys = rows.flatMap(({ eventKeys }) => eventKeys);
  await takeUp(query, keys, [...new Set(deleted)]);
  await markDays(query, rows);
  await advanceReader(query, 'refresher', rows.at(-1) ?? rows[0]);
  crashPoint('days-marked', '');
  return read.state;
}

/**
 * Counts the events of the latest hour, day, week and 30 days: whole days from what was counted of them, the rest by the
 * index of `events` by time.
 */
export async function countRecent(query: Query): Promise<void> {
  const { rows: times } = await query<{ now: number }>(`select ${NOW} as now`);
  const now = times[0]?.now ?? 0;
  const stretches = RECENT_SECONDS.map((seconds) => now - seconds);
  const days = stretches.map((since) => Math.floor(since / DAY));
  const { rows } = await query<{ counts: number[] }>(
    `select array[${stretches.map((_, index) => `(select count(*) from events where created_at >= $${2 * index + 1} and created_at < $${2 * index + 2})`).join(', ')}]::integer[] as counts`,
    stretches.flatMap((since, index) => [since, ((days[index] ?? 0) + 1) * DAY]),
  );
  await query(
    `insert into recent_events (counted_at, last_hour, last_day, last_week, last_month)
     select $1, ${wholeDays(1)}, ${wholeDays(2)}, ${wholeDays(3)}, ${wholeDays(4)}
     on conflict (only_row) do update
     set counted_at = excluded.counted_at, last_hour = excluded.last_hour, last_day = excluded.last_day,
         last_week = excluded.last_week, last_month = excluded.last_month`,
    [now, days, rows[0]?.counts ?? []],
  );
}

const DAY = 86_400;
const RECENT_SECONDS = [3600, DAY, 7 * DAY, 30 * DAY];

/** SQL: the first day of a stretch, which is counted in part ($3), and the days after it ($2 is the first). */
const wholeDays = (place: number) =>
  `($3::integer[])[${place}] + (select coalesce(sum(events), 0) from day_sums where day > ($2::integer[])[${place}])`;

/** Tables that are made anew. Keys of authors stay. */
const FIGURES = [
  ...['daily_counts', 'daily_scopes', 'scope_stats', 'scope_kinds', 'scope_authors', 'daily_kinds'],
  ...['daily_replication', 'replication_totals', 'day_sums', 'recent_events', 'current_events'],
  ...['follow_edges', 'relay_list_edges', 'relay_list_totals', 'zaps', 'daily_zaps'],
  ...['dirty_periods', 'period_users', 'cohorts', 'daily_samples', 'cover_ranks'],
  ...['daily_references', 'reference_totals'],
].join(', ');

/**
 * Empties all figures and marks every day for a recount, unless an earlier rebuild is not finished: that goes on.
 *
 * @returns how many days are left
 */
export async function startRebuild(
  query: Query,
): Promise<{ readonly days: number; readonly isResumed: boolean }> {
  await lockFigures(query);
  const { rebuild } = await dirtyDays(query);
  if (rebuild > 0) return { days: rebuild, isResumed: true };
  await query(`truncate ${FIGURES}`);
  const { rows } = await query<{ days: number }>('select mark_all_days() as days');
  return { days: rows[0]?.days ?? 0, isResumed: false };
}
