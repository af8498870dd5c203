import { NOW, type Query } from '../connection.ts';
import { type CountRow, keysOfDay, secondsOf } from './count-day.ts';

/**
 * Replaces what was counted of a day as a whole, after its parts, and changes totals by the difference.
 */

/** Keeps other refreshers from changing figures until the transaction ends. */
export async function lockFigures(query: Query): Promise<void> {
  await query(`select pg_advisory_xact_lock(hashtext('bigbrotr figures'))`);
}

/** What was counted of a whole day: array literals by what they say. */
export type WholeDay = Readonly<Record<Exclude<CountRow['what'], 'part'>, readonly string[]>> & {
  readonly references: readonly string[];
};

/** @param query of a transaction that holds the lock of `lockFigures` */
export async function applyDay(query: Query, day: number, whole: WholeDay): Promise<void> {
  await applyScopes(query, day, whole);
  await applyReplication(query, day, whole.replication);
  await query('delete from daily_kinds where day = $1', [day]);
  await query(
    `insert into daily_kinds (day, kind, events, authors, content_bytes)
     select $1, * from unnest($2::integer[], $3::integer[], $4::integer[], $5::bigint[])`,
    [day, ...whole.kinds],
  );
  await replaceSum(query, day, whole.sum);
  await query('delete from daily_samples where day = $1', [day]);
  await query(
    `insert into daily_samples (day, relays, events)
     select $1, relays::integer[], events from unnest($2::text[], $3::integer[]) as t (relays, events)`,
    [day, ...whole.samples],
  );
  await query('delete from daily_references where day = $1', [day]);
  await query(
    `insert into daily_references (day, kind, target, "references")
     select $1, kind, decode(target, 'hex'), n from unnest($2::integer[], $3::text[], $4::integer[]) as t (kind, target, n)`,
    [day, ...whole.references],
  );
}

const SCOPE_TABLES = `
create temporary table day_scopes (scope integer, events integer, only_here integer, first_at bigint, last_at bigint)
on commit drop;
create temporary table scopes_before (scope integer, only_here integer) on commit drop`;

const COUNTED_SCOPES = `
insert into day_scopes
select s.scope, s.events, coalesce(o.events, 0), $7::bigint + s.first, $7::bigint + s.last
from unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[]) as s (scope, events, first, last)
left join unnest($5::integer[], $6::integer[]) as o (relay_id, events) on o.relay_id = s.scope`;

/** By the scopes of the archive, since the key of \`daily_scopes\` begins with the scope. */
const SCOPES_BEFORE = `
insert into scopes_before
select d.scope, d.only_here
from scope_stats s
cross join lateral (select * from daily_scopes d where d.scope = s.scope and d.day = $1 limit 1) d`;

const REMOVED_SCOPES = `
delete from daily_scopes d using scopes_before b
where d.day = $1 and d.scope = b.scope and not exists (select from day_scopes s where s.scope = b.scope)`;

const DAILY_SCOPES = `
insert into daily_scopes as d (scope, day, events, only_here, first_at, last_at)
select scope, $1, events, only_here, first_at, last_at from day_scopes order by scope
on conflict (scope, day) do update
set events = excluded.events, only_here = excluded.only_here, first_at = excluded.first_at, last_at = excluded.last_at
where (d.events, d.only_here, d.first_at, d.last_at)
    is distinct from (excluded.events, excluded.only_here, excluded.first_at, excluded.last_at)`;

const SCOPE_TOTALS = `
update scope_stats t
set only_here = t.only_here + c.only_here,
    first_at = coalesce((select first_at from daily_scopes d where d.scope = c.scope order by day limit 1), 0),
    last_at = coalesce((select last_at from daily_scopes d where d.scope = c.scope order by day desc limit 1), 0)
from (
    select scope, sum(only_here) as only_here
    from (
        select scope, only_here from day_scopes
        union all
        select scope, -only_here from scopes_before
    ) counts
    group by scope
) c
where t.scope = c.scope`;

/** A scope that has rows of another day keeps its totals until that day is counted. */
const EMPTY_SCOPES = `
delete from scope_stats t
where events = 0 and authors = 0 and only_here = 0 and not exists (select from daily_scopes d where d.scope = t.scope)`;

async function applyScopes(query: Query, day: number, whole: WholeDay): Promise<void> {
  await query(SCOPE_TABLES);
  const [since] = secondsOf(day);
  await query(COUNTED_SCOPES, [...whole.scopes, ...whole['only here'], since]);
  await query(SCOPES_BEFORE, [day]);
  await query(REMOVED_SCOPES, [day]);
  await query(DAILY_SCOPES, [day]);
  await query(SCOPE_TOTALS);
  await query(EMPTY_SCOPES);
}

async function applyReplication(query: Query, day: number, counted: readonly string[]) {
  await query(
    `insert into replication_totals (relays, events)
     select relays, sum(events)
     from (
         select * from unnest($2::integer[], $3::integer[]) as t (relays, events)
         union all
         select relays, -events from daily_replication where day = $1
     ) counts
     group by relays
     having sum(events) <> 0
     on conflict (relays) do update set events = replication_totals.events + excluded.events`,
    [day, ...counted],
  );
  await query('delete from replication_totals where events = 0');
  await query('delete from daily_replication where day = $1', [day]);
  await query(
    `insert into daily_replication (day, relays, events) select $1, * from unnest($2::integer[], $3::integer[])`,
    [day, ...counted],
  );
}

async function replaceSum(query: Query, day: number, sum: readonly string[]): Promise<void> {
  await query('delete from day_sums where day = $1', [day]);
  await query(
    `insert into day_sums (day, events, authors, kinds, id_sum, counted_at)
     select $1, $2::integer, $3, $4, $5, ${NOW} where $2::integer > 0`,
    [day, ...sum.slice(0, 4)],
  );
  await query('delete from daily_zaps where day = $1', [day]);
  await query(
    `insert into daily_zaps (day, zaps, senders, recipients, millisats)
     select $3, count(*), count(distinct sender_id), count(distinct recipient_id), coalesce(sum(millisats), 0)
     from zaps z where ${keysOfDay('z')} having count(*) > 0`,
    [...secondsOf(day), day],
  );
}
