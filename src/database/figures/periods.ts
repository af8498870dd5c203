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

/** SQL: whether an author has events of a kind, by the column `kinds` of `scope_authors`. */
const hasKind = (kinds: string, kind: number) =>
  `exists (select from kinds_of(${kinds}) k where k.kind = ${kind})`;

/**
 * Marks periods whose users may have changed: those of the day if its authors changed, and those in which an author may
 * have been active whose first event, or whose having a profile or follow list, changed. `day_authors` has the authors
 * as they were, `scope_authors` as they are.
 */
export async function markPeriods(query: Query, day: number): Promise<void> {
  await query(
    `with changed as (
         select range_agg(int4range(first_day, last_day, '[]')) as days
         from (
             select (least(b.old_first_at, a.first_at) / 86400)::integer as first_day,
                    (greatest(b.old_last_at, a.last_at) / 86400)::integer as last_day
             from day_authors b
             cross join lateral (
                 select * from scope_authors a where a.scope = 0 and a.author_id = b.author_id limit 1
             ) a
             where b.scope = 0 and b.before > 0 and (
                 a.first_at is distinct from b.old_first_at
                 or b.kinds && '{0,3}' and (
                     ${hasKind('b.old_kinds', 0)} <> ${hasKind('a.kinds', 0)}
                     or ${hasKind('b.old_kinds', 3)} <> ${hasKind('a.kinds', 3)}
                 )
             )
         ) active
         where first_day <= last_day
     )
     insert into dirty_periods (grain, start)
     select g.grain, period_start(g.grain, $1)
     from unnest('{day,week,month}'::text[]) as g (grain)
     where exists (select from day_authors where scope = 0 and kinds is not null)
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

/** $1 and $2: first day of the period and of the next; $3: first second of the period. Array literals of cohorts. */
const USERS = `
with active as materialized (
    select distinct u.author_id
    from daily_counts d
    cross join lateral unnest(d.author_ids) as u (author_id)
    where d.day >= $1 and d.day < $2
), counted as materialized (
    select a.first_at, ${hasKind('a.kinds', 0)} as has_profile, ${hasKind('a.kinds', 3)} as has_follows
    from active join scope_authors a on a.scope = 0 and a.author_id = active.author_id
)
select count(*) as users, count(*) filter (where first_at >= $3) as "newUsers",
       count(*) filter (where has_profile) as "withProfile", count(*) filter (where has_follows) as "withFollows",
       (
           select array[coalesce(array_agg(week order by week), '{}')::text, coalesce(array_agg(users order by week), '{}')::text]
           from (
               select period_start('week', (first_at / 86400)::integer) as week, count(*) as users
               from counted where first_at is not null group by 1
           ) w
       ) as cohorts
from counted`;

interface Users extends Record<string, unknown> {
  readonly users: number;
  readonly newUsers: number;
  readonly withProfile: number;
  readonly withFollows: number;
  readonly cohorts: readonly string[];
}

/** Counts before it writes: the transaction is short for readers of the journal, which wait for those that have written. */
async function replaceUsers(query: Query, { grain, start }: Period, before: number): Promise<void> {
  const { rows } = await query<Users>(USERS, [start, before, secondsOf(start)[0]]);
  const [counted] = rows;
  await query('delete from period_users where grain = $1 and start = $2', [grain, start]);
  if (grain === 'week') await query('delete from cohorts where week = $1', [start]);
  if (!counted || counted.users === 0) return;
  await query(
    `insert into period_users (grain, start, before, users, new_users, with_profile, with_follows, counted_at)
     values ($1, $2, $3, $4, $5, $6, $7, ${NOW})`,
    [
      ...[grain, start, before, counted.users, counted.newUsers],
      ...[counted.withProfile, counted.withFollows],
    ],
  );
  if (grain !== 'week') return;
  await query(
    `insert into cohorts (week, cohort_week, users)
     select $1, week, users from unnest($2::integer[], $3::bigint[]) as t (week, users)`,
    [start, ...counted.cohorts],
  );
}
