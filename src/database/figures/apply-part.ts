import type { Query } from '../connection.ts';
import { type CountRow, secondsOf } from './count-day.ts';
import { CELLS_TABLE, type DayPart, packCells, storedCells } from './day-cells.ts';
import { markPeriods } from './periods.ts';

/**
 * Replaces what was counted of a part of a day, and changes totals by the difference. What it reads and writes is in
 * proportion to the part: rows of totals are looked up by their keys.
 *
 * @param query of a transaction that holds the lock of `lockFigures`
 * @param columns of the row of the count; empty: the part has no events any more
 */
export async function applyPart(
  query: Query,
  part: DayPart,
  columns: CountRow['columns'],
): Promise<void> {
  const { day } = part;
  const seconds = secondsOf(day);
  await query(CELLS_TABLE);
  await query(CHANGE_TABLES);
  if (columns.length > 0) await query(CELLS, [...columns, seconds[0]]);
  await query('analyze day_cells (scope, author_id)');
  await query(CHANGES, [day, part.part]);
  await query('analyze day_authors (scope, author_id)');
  await query(GONE_AUTHORS);
  await query(AUTHORS, seconds);
  await query(LOST_BOUNDS, seconds);
  await markPeriods(query, day);
  const { rows } = await query<{ changed: boolean }>(
    'select exists (select from day_authors where kinds is not null) as changed',
  );
  if (!rows[0]?.changed) return;
  await query(KIND_CHANGES);
  await query(KINDS);
  await query(EMPTY_KINDS);
  await query(SCOPES);
  await query(KINDS_OF_SCOPES);
  if (columns.length > 0) await packCells(query, part);
  else await query('delete from daily_counts where day = $1 and part = $2', [day, part.part]);
}

const CHANGE_TABLES = `
create temporary table day_authors (
    scope integer, author_id integer, change integer, kinds integer[], changes integer[],
    first_at bigint, last_at bigint, before bigint, old_kinds bytea, old_first_at bigint, old_last_at bigint
) on commit drop;
create temporary table day_kinds (scope integer, kind integer, events integer, authors integer) on commit drop`;

const CELLS = `
insert into day_cells
select scope, author_id, kind, events, $7::bigint + first, $7::bigint + last
from unnest($1::integer[], $2::integer[], $3::integer[], $4::integer[], $5::integer[], $6::integer[])
    as t (scope, author_id, kind, events, first, last)`;

/**
 * Every author of the part in every scope: what differs by kind from the previous count (null: nothing), first and last
 * event of the day (null: none any more), and the totals before. `limit` keeps the look-up an index scan for each: as a
 * join it read the whole table for each day.
 */
const CHANGES = `
insert into day_authors
select g.scope, g.author_id, g.change, g.kinds, g.changes, g.first_at, g.last_at,
       coalesce(a.events, 0), coalesce(a.kinds, ''), a.first_at, a.last_at
from (
    select scope, author_id, sum(change)::integer as change,
           array_agg(kind order by kind) filter (where change <> 0) as kinds,
           array_agg(change order by kind) filter (where change <> 0) as changes,
           min(first_at) as first_at, max(last_at) as last_at
    from (
        select scope, author_id, kind, sum(events)::integer as change, min(first_at) as first_at, max(last_at) as last_at
        from (
            select scope, author_id, kind, events, first_at, last_at from day_cells
            union all
            select scope, author_id, kind, -events, null, null from ${storedCells('d.day = $1 and d.part = $2')} s
        ) counts
        group by scope, author_id, kind
    ) kinds
    group by scope, author_id
) g
left join lateral (
    select * from scope_authors a where a.scope = g.scope and a.author_id = g.author_id limit 1
) a on true`;

const GONE_AUTHORS = `
delete from scope_authors a using day_authors d
where d.before + d.change = 0 and a.scope = d.scope and a.author_id = d.author_id`;

/**
 * Totals of authors. Where the day has the first event of an author, that is the first one of the new count; where it
 * had it and has no event of the author any more, LOST_BOUNDS looks it up.
 */
const AUTHORS = `
insert into scope_authors as t (scope, author_id, events, first_at, last_at, kinds)
select d.scope, d.author_id, d.before + d.change, d.first_at, d.last_at, m.kinds
from (
    select scope, author_id, change, before, old_kinds, kinds, changes,
           case when first_at is not null and coalesce(old_first_at >= $1, true) then first_at else old_first_at end as first_at,
           case when last_at is not null and coalesce(old_last_at < $2, true) then last_at else old_last_at end as last_at,
           old_first_at, old_last_at
    from day_authors
    where before + change > 0
) d
cross join lateral (
    select set_byte('\\x00', 0, width)
               || string_agg(substring(int4send(kind) from 3) || substring(int4send(events) from 5 - width), ''::bytea order by kind) as kinds
    from (
        select kind, sum(events)::integer as events,
               case when max(sum(events)) over () < 256 then 1 when max(sum(events)) over () < 65536 then 2 else 4 end as width
        from (
            select kind, events from kinds_of(d.old_kinds)
            union all
            select kind, change from unnest(d.kinds, d.changes) as u (kind, change)
        ) u
        group by kind
        having sum(events) <> 0
    ) merged
    group by width
) m
where d.kinds is not null or d.first_at is distinct from d.old_first_at or d.last_at is distinct from d.old_last_at
order by d.scope, d.author_id
on conflict (scope, author_id) do update
set events = excluded.events, first_at = excluded.first_at, last_at = excluded.last_at, kinds = excluded.kinds`;

/**
 * A day that changed since is recounted, and corrects the bounds then: so only days count that have the author. A relay
 * that was removed has no events: its authors are not looked for.
 */
const LOST_BOUNDS = `
update scope_authors a
set first_at = case when a.first_at >= $1 and a.first_at < $2 then counted_bound(a.scope, a.author_id, $2, true) else a.first_at end,
    last_at = case when a.last_at >= $1 and a.last_at < $2 then counted_bound(a.scope, a.author_id, $1, false) else a.last_at end
from day_authors l
where l.first_at is null and l.before + l.change > 0 and a.scope = l.scope and a.author_id = l.author_id
    and (a.first_at >= $1 and a.first_at < $2 or a.last_at >= $1 and a.last_at < $2)
    and (a.scope <= 0 or exists (select from relays r where r.relay_id = a.scope))`;

const KIND_CHANGES = `
insert into day_kinds
select d.scope, u.kind, sum(u.change), count(*) filter (where b.before = 0) - count(*) filter (where b.before + u.change = 0)
from day_authors d
cross join lateral unnest(d.kinds, d.changes) as u (kind, change)
cross join lateral (
    select coalesce((select k.events from kinds_of(d.old_kinds) k where k.kind = u.kind), 0) as before
) b
group by d.scope, u.kind`;

const KINDS = `
insert into scope_kinds (scope, kind, events, authors)
select scope, kind, events, authors from day_kinds order by scope, kind
on conflict (scope, kind) do update
set events = scope_kinds.events + excluded.events, authors = scope_kinds.authors + excluded.authors`;

const EMPTY_KINDS = `
delete from scope_kinds k using day_kinds d where k.scope = d.scope and k.kind = d.kind and k.events = 0`;

/** What spans all parts of a day is changed by \`applyDay\`. */
const SCOPES = `
insert into scope_stats as t (scope, events, only_here, authors, kinds, first_at, last_at)
select scope, sum(change), 0,
       count(*) filter (where before = 0 and change > 0) - count(*) filter (where before > 0 and before + change = 0),
       0, coalesce(min(first_at), 0), coalesce(max(last_at), 0)
from day_authors where kinds is not null group by scope
on conflict (scope) do update set events = t.events + excluded.events, authors = t.authors + excluded.authors`;

const KINDS_OF_SCOPES = `
update scope_stats t set kinds = (select count(*) from scope_kinds k where k.scope = t.scope)
where scope in (select scope from day_kinds)`;
