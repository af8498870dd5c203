import { NOW, type Query } from '../connection.ts';
import { ID_SUM, keysOfDay, secondsOf } from './count-day.ts';
import { markPeriods, rememberAuthors } from './periods.ts';
import { replaceSamples } from './samples.ts';

/**
 * Replaces what was counted of a day by what `countDay` has counted now, and changes totals by the difference. One
 * refresher at a time: the caller holds the lock of `lockFigures`.
 */

/** Keeps other refreshers from changing figures until the transaction ends. */
export async function lockFigures(query: Query): Promise<void> {
  await query(`select pg_advisory_xact_lock(hashtext('bigbrotr figures'))`);
}

/** @param query of the transaction that counted the day */
export async function applyDay(query: Query, day: number): Promise<void> {
  await query(CHANGE_TABLES);
  await query(CHANGES, [day]);
  await query('analyze day_changes');
  await query(AUTHOR_CHANGES);
  await rememberAuthors(query);
  await query(GONE_AUTHORS);
  await query(AUTHORS);
  await query(KINDS);
  await query('delete from scope_kinds where events = 0');
  await query(REMOVED_SCOPES, [day]);
  await query(DAILY, [day]);
  await query(SCOPE_TOTALS, [day]);
  await query('delete from scope_stats where events = 0');
  await applyBounds(query, day);
  await markPeriods(query, day);
  await applyReplication(query, day);
  await replaceDay(query, day);
  await replaceSamples(query, day);
}

const CHANGE_TABLES = `
create temporary table day_changes (
    scope integer, author_id integer, kind integer, change integer, before integer, after integer
) on commit drop;
create temporary table day_authors (scope integer, author_id integer, change integer, before bigint, after bigint) on commit drop;
create temporary table day_before (scope integer, events integer, only_here integer) on commit drop`;

/** What differs between the previous count of the day and the new one, and the totals before and after. */
const CHANGES = `
insert into day_changes
select c.scope, c.author_id, c.kind, c.change, t.before, t.before + c.change
from (
    select scope, author_id, kind, sum(events)::integer as change
    from (
        select scope, author_id, kind, events from day_cells
        union all
        select d.scope, u.author_id, u.kind, -u.events
        from daily_counts d
        cross join lateral unnest(d.author_ids, d.kinds, d.counts) as u (author_id, kind, events)
        where d.day = $1
    ) counts
    group by scope, author_id, kind
    having sum(events) <> 0
) c
left join scope_authors a on a.scope = c.scope and a.author_id = c.author_id
cross join lateral (select coalesce(a.counts[array_position(a.kinds, c.kind)], 0) as before) t`;

const AUTHOR_CHANGES = `
insert into day_authors
select c.scope, c.author_id, c.change, coalesce(a.events, 0), coalesce(a.events, 0) + c.change
from (select scope, author_id, sum(change)::integer as change from day_changes group by scope, author_id) c
left join scope_authors a on a.scope = c.scope and a.author_id = c.author_id`;

const GONE_AUTHORS = `
delete from scope_authors a using day_authors d
where d.after = 0 and a.scope = d.scope and a.author_id = d.author_id`;

const AUTHORS = `
insert into scope_authors (scope, author_id, events, kinds, counts)
select scope, author_id, sum(events), array_agg(kind order by kind), array_agg(events order by kind)
from (
    select scope, author_id, kind, after as events from day_changes where after > 0
    union all
    select a.scope, a.author_id, u.kind, u.events
    from day_authors d
    join scope_authors a on a.scope = d.scope and a.author_id = d.author_id
    cross join lateral unnest(a.kinds, a.counts) as u (kind, events)
    where d.after > 0 and not exists (
        select from day_changes c where c.scope = a.scope and c.author_id = a.author_id and c.kind = u.kind
    )
) merged
group by scope, author_id
on conflict (scope, author_id) do update set events = excluded.events, kinds = excluded.kinds, counts = excluded.counts`;

const KINDS = `
insert into scope_kinds (scope, kind, events, authors)
select scope, kind, sum(change), count(*) filter (where before = 0) - count(*) filter (where after = 0)
from day_changes group by scope, kind
on conflict (scope, kind) do update
set events = scope_kinds.events + excluded.events, authors = scope_kinds.authors + excluded.authors`;

/** Keeps the previous counts for the difference, and drops the rows of scopes that have no event of the day any more. */
const REMOVED_SCOPES = `
with kept as (
    insert into day_before select scope, events, only_here from daily_counts where day = $1 returning scope
)
delete from daily_counts d
where d.day = $1 and not exists (select from day_scopes s where s.scope = d.scope)`;

const DAILY = `
insert into daily_counts as d (day, scope, events, only_here, first_at, last_at, author_ids, kinds, counts)
select $1, c.scope, c.events, s.only_here, c.first_at, c.last_at, c.author_ids, c.kinds, c.counts
from (
    select scope, sum(events)::integer as events, min(first_at) as first_at, max(last_at) as last_at,
           array_agg(author_id) as author_ids, array_agg(kind) as kinds, array_agg(events) as counts
    from (select * from day_cells order by scope, author_id, kind) sorted
    group by scope
) c
join day_scopes s on s.scope = c.scope
on conflict (day, scope) do update
set events = excluded.events, only_here = excluded.only_here, first_at = excluded.first_at, last_at = excluded.last_at,
    author_ids = excluded.author_ids, kinds = excluded.kinds, counts = excluded.counts
where (d.events, d.only_here, d.first_at, d.last_at)
        is distinct from (excluded.events, excluded.only_here, excluded.first_at, excluded.last_at)
    or d.scope in (select scope from day_changes)`;

const SCOPE_TOTALS = `
insert into scope_stats as t (scope, events, only_here, authors, kinds, first_at, last_at)
select c.scope, c.events, c.only_here, coalesce(a.authors, 0),
       (select count(*) from scope_kinds k where k.scope = c.scope),
       coalesce((select first_at from daily_counts d where d.scope = c.scope order by day limit 1), 0),
       coalesce((select last_at from daily_counts d where d.scope = c.scope order by day desc limit 1), 0)
from (
    select scope, sum(events) as events, sum(only_here) as only_here
    from (
        select scope, events, only_here from daily_counts where day = $1
        union all
        select scope, -events, -only_here from day_before
    ) counts
    group by scope
) c
left join (
    select scope, count(*) filter (where before = 0) - count(*) filter (where after = 0) as authors
    from day_authors group by scope
) a on a.scope = c.scope
on conflict (scope) do update
set events = t.events + excluded.events, only_here = t.only_here + excluded.only_here,
    authors = t.authors + excluded.authors, kinds = excluded.kinds,
    first_at = excluded.first_at, last_at = excluded.last_at`;

/**
 * First and last event of authors. Where the day has the first one, it is that of the new count; where it had it and
 * has it no more, it is looked up in the days that are counted.
 */
async function applyBounds(query: Query, day: number): Promise<void> {
  const seconds = secondsOf(day);
  await query(BOUNDS, seconds);
  await query(LOST_BOUNDS, seconds);
}

const BOUNDS = `
update scope_authors a
set first_at = case when coalesce(a.first_at >= $1, true) then n.first_at else a.first_at end,
    last_at = case when coalesce(a.last_at < $2, true) then n.last_at else a.last_at end
from (
    select scope, author_id, min(first_at) as first_at, max(last_at) as last_at from day_cells group by scope, author_id
) n
where a.scope = n.scope and a.author_id = n.author_id and (
    a.first_at is null or a.last_at is null
    or a.first_at >= $1 and a.first_at <> n.first_at or a.last_at < $2 and a.last_at <> n.last_at
)`;

/**
 * SQL: time of an event of author \`a\` in scope, on a counted day. A day that changed since is recounted, and corrects
 * it then: so only days count that have the author.
 */
const counted = (condition: string, order: string) => `(
    select e.created_at
    from authors k
    join events e on e.pubkey = k.pubkey
    where k.author_id = a.author_id and ${condition} and is_in_scope(e.event_key, a.scope) and exists (
        select from daily_counts d
        where d.day = event_key_day(e.event_key) and d.scope = a.scope and a.author_id = any (d.author_ids)
    )
    order by e.created_at ${order} limit 1
)`;

const LOST_BOUNDS = `
update scope_authors a
set first_at = case when a.first_at >= $1 and a.first_at < $2 then ${counted('e.created_at >= $2', 'asc')} else a.first_at end,
    last_at = case when a.last_at >= $1 and a.last_at < $2 then ${counted('e.created_at < $1', 'desc')} else a.last_at end
from day_authors l
where l.change < 0 and a.scope = l.scope and a.author_id = l.author_id
    and (a.first_at >= $1 and a.first_at < $2 or a.last_at >= $1 and a.last_at < $2)
    and not exists (select from day_cells c where c.scope = a.scope and c.author_id = a.author_id)`;

async function applyReplication(query: Query, day: number): Promise<void> {
  await query(
    `with counted as (
         select cardinality(relays) as relays, count(*)::integer as events from day_events group by 1
     ), changed as (
         select relays, sum(events) as change
         from (
             select relays, events from counted
             union all
             select relays, -events from daily_replication where day = $1
         ) counts
         group by relays
         having sum(events) <> 0
     )
     insert into replication_totals (relays, events) select relays, change from changed
     on conflict (relays) do update set events = replication_totals.events + excluded.events`,
    [day],
  );
  await query('delete from replication_totals where events = 0');
  await query('delete from daily_replication where day = $1', [day]);
  await query(
    `insert into daily_replication (day, relays, events)
     select $1, cardinality(relays), count(*) from day_events group by cardinality(relays)`,
    [day],
  );
}

async function replaceDay(query: Query, day: number): Promise<void> {
  await query('delete from daily_kinds where day = $1', [day]);
  await query(
    `insert into daily_kinds (day, kind, events, authors, content_bytes)
     select $1, kind, count(*), count(distinct pubkey), sum(content_bytes) from day_events group by kind`,
    [day],
  );
  await query('delete from day_sums where day = $1', [day]);
  await query(
    `insert into day_sums (day, events, authors, kinds, id_sum, counted_at)
     select $1, count(*), count(distinct pubkey), count(distinct kind), ${ID_SUM}, ${NOW}
     from day_events having count(*) > 0`,
    [day],
  );
  await query('delete from daily_zaps where day = $1', [day]);
  await query(
    `insert into daily_zaps (day, zaps, senders, recipients, millisats)
     select $3, count(*), count(distinct sender_id), count(distinct recipient_id), coalesce(sum(millisats), 0)
     from zaps z where ${keysOfDay('z')} having count(*) > 0`,
    [...secondsOf(day), day],
  );
}
