import { NOW, type Query } from '../connection.ts';
import { secondsOf } from './count-day.ts';

/** Tables `period_users` and `cohorts`: authors of days, weeks and months. */

export type Grain = 'day' | 'week' | 'month';

/** A day, week or month: its first day since 1970-01-01. */
export interface Period extends Record<string, unknown> {
  readonly grain: Grain;
  readonly start: number;
}

/** A period that ended more than a week ago is due this long after it was marked, in seconds; a later one after the second time. */
const OLD_AFTER = 21_600;
const PRESENT_AFTER = 300;
const WEEK = 7;

/** Remembers the authors of a day as they are counted now, for \`markPeriods\`. */
export async function rememberAuthors(query: Query): Promise<void> {
  await query(
    `create temporary table authors_before (
         author_id integer, first_at bigint, last_at bigint, has_profile boolean, has_follows boolean
     ) on commit drop`,
  );
  await query(
    `insert into authors_before
     select author_id, first_at, last_at, 0 = any (kinds), 3 = any (kinds)
     from scope_authors a
     where scope = 0 and author_id in (
         select author_id from day_cells where scope = 0 union select author_id from day_authors where scope = 0
     )`,
  );
}

/**
 * Marks periods whose users may have changed: those of the day if its authors changed, and those in which an author may
 * have been active whose first event, or whose having a profile or follow list, changed.
 */
export async function markPeriods(query: Query, day: number): Promise<void> {
  await query(
    `with changed as (
         select range_agg(int4range(first_day, last_day, '[]')) as days
         from (
             select (least(b.first_at, a.first_at) / 86400)::integer as first_day,
                    (greatest(b.last_at, a.last_at) / 86400)::integer as last_day
             from authors_before b
             join scope_authors a on a.scope = 0 and a.author_id = b.author_id
             where a.first_at is distinct from b.first_at
                 or b.has_profile <> (0 = any (a.kinds)) or b.has_follows <> (3 = any (a.kinds))
         ) active
         where first_day <= last_day
     )
     insert into dirty_periods (grain, start)
     select g.grain, period_start(g.grain, $1)
     from unnest('{day,week,month}'::text[]) as g (grain)
     where exists (select from day_changes where scope = 0)
     union
     select p.grain, p.start from period_users p, changed c where int4range(p.start, p.before) && c.days
     order by 1, 2
     on conflict (grain, start) do update set marks = dirty_periods.marks + 1`,
    [day],
  );
}

/** Periods to count, the latest first. @param wanted those that are due, or all that are marked */
export async function periodsToCount(
  query: Query,
  wanted: 'due' | 'all',
  limit: number,
): Promise<readonly Period[]> {
  const { rows } = await query<Period>(
    `select grain, start from dirty_periods
     where $1 or ${NOW} >= since + case
         when period_end(grain, start) > ${NOW} / 86400 - ${WEEK} then ${PRESENT_AFTER} else ${OLD_AFTER}
     end
     order by start desc, grain limit $2`,
    [wanted === 'all', limit],
  );
  return rows;
}

/** Counts the users of a period. @returns false if another refresher counts it, or has done so */
export async function countPeriod(query: Query, { grain, start }: Period): Promise<boolean> {
  const { rows: locks } = await query<{ locked: boolean }>(
    `select pg_try_advisory_xact_lock(hashtext('bigbrotr period ' || $1), $2) as locked`,
    [grain, start],
  );
  if (!locks[0]?.locked) return false;
  const { rows } = await query<{ marks: number; before: number }>(
    'select marks, period_end(grain, start) as before from dirty_periods where grain = $1 and start = $2',
    [grain, start],
  );
  const [marked] = rows;
  if (!marked) return false;
  await replaceUsers(query, { grain, start }, marked.before);
  const { rowCount } = await query(
    'delete from dirty_periods where grain = $1 and start = $2 and marks = $3',
    [grain, start, marked.marks],
  );
  if (rowCount === 0)
    await query(`update dirty_periods set since = ${NOW} where grain = $1 and start = $2`, [
      grain,
      start,
    ]);
  return true;
}

const COUNTED = `
create temporary table period_authors on commit drop as
select 0 as author_id, 0::bigint as first_at, false as has_profile, false as has_follows where false`;

const AUTHORS = `
insert into period_authors
select a.author_id, a.first_at, 0 = any (a.kinds), 3 = any (a.kinds)
from (
    select distinct u.author_id
    from daily_counts d
    cross join lateral unnest(d.author_ids) as u (author_id)
    where d.scope = 0 and d.day >= $1 and d.day < $2
) active
join scope_authors a on a.scope = 0 and a.author_id = active.author_id`;

async function replaceUsers(query: Query, { grain, start }: Period, before: number): Promise<void> {
  await query(COUNTED);
  await query(AUTHORS, [start, before]);
  await query('delete from period_users where grain = $1 and start = $2', [grain, start]);
  await query(
    `insert into period_users (grain, start, before, users, new_users, with_profile, with_follows, counted_at)
     select $1, $2, $3, count(*), count(*) filter (where first_at >= $4), count(*) filter (where has_profile),
            count(*) filter (where has_follows), ${NOW}
     from period_authors having count(*) > 0`,
    [grain, start, before, secondsOf(start)[0]],
  );
  if (grain !== 'week') return;
  await query('delete from cohorts where week = $1', [start]);
  await query(
    `insert into cohorts (week, cohort_week, users)
     select $1, period_start('week', (first_at / 86400)::integer), count(*) from period_authors
     where first_at is not null group by 2`,
    [start],
  );
}
