import type { Query } from '../connection.ts';
import { type DayParts, rangeOf, rowsOfDay } from './count-day.ts';

/** Table `daily_counts`: what was counted of a day, by scope, author and kind, packed into arrays. */

/** A part has about so many events, so that the transaction that applies it takes a few seconds at most. */
export const PART_EVENTS = 8192;

/** A larger day has larger parts. */
const MAX_PARTS = 16_384;

/**
 * SQL: the cells (scope, author_id, kind, events) of rows of `daily_counts`. The list of authors is joined by a hash
 * table: a subscript would expand the whole array for each cell.
 *
 * @param condition on the alias `d`
 */
export const storedCells = (condition: string) => `(
    select c.scope, l.author_id, c.kind, c.events
    from (
        select d.day, d.part, u.scope, u.kind, u.events, u.place
        from daily_counts d
        cross join lateral rows from (
            unnest(d.scopes), unnest(d.kinds), unnest(d.counts), places_of(d.places, cardinality(d.author_ids))
        ) as u (scope, kind, events, place)
        where ${condition}
    ) c
    join (
        select d.day, d.part, u.author_id, u.place::integer as place
        from daily_counts d
        cross join lateral unnest(d.author_ids) with ordinality as u (author_id, place)
        where ${condition}
    ) l on l.day = c.day and l.part = c.part and l.place = c.place
)`;

/** SQL: inserts the cells of the temporary table \`day_cells\`, or replaces those of their parts. $1: day, $2: parts. */
const PACK = `
insert into daily_counts as d (day, part, parts, author_ids, scopes, kinds, counts, places)
select $1, c.part, $2, l.author_ids, c.scopes, c.kinds, c.counts, c.places
from (
    select part, array_agg(scope order by scope, kind, events, place) as scopes,
           array_agg(kind order by scope, kind, events, place) as kinds,
           array_agg(events order by scope, kind, events, place) as counts,
           string_agg(place_bytes((place - before + authors) % authors), ''::bytea order by scope, kind, events, place) as places
    from (
        select a.part, a.authors, a.place, c.scope, c.kind, c.events,
               lag(a.place, 1, 0) over (partition by a.part order by c.scope, c.kind, c.events, a.place) as before
        from day_cells c
        join (
            select author_id, author_id % $2::integer as part,
                   (row_number() over (partition by author_id % $2::integer order by author_id))::integer - 1 as place,
                   (count(*) over (partition by author_id % $2::integer))::integer as authors
            from (select distinct author_id from day_cells) listed
        ) a on a.author_id = c.author_id
    ) placed
    group by part
) c
join (
    select author_id % $2::integer as part, array_agg(author_id order by author_id) as author_ids
    from (select distinct author_id from day_cells) listed
    group by author_id % $2::integer
) l on l.part = c.part
on conflict (day, part) do update
set parts = excluded.parts, author_ids = excluded.author_ids, scopes = excluded.scopes, kinds = excluded.kinds,
    counts = excluded.counts, places = excluded.places`;

/** Stores the cells of the temporary table `day_cells`. @param query of a transaction */
export async function packCells(query: Query, { day, parts }: DayParts): Promise<void> {
  await query(PACK, [day, parts]);
}

/** SQL: a temporary table of cells, which goes with the transaction. */
export const CELLS_TABLE = `
create temporary table day_cells (
    scope integer, author_id integer, kind integer, events integer, first_at bigint, last_at bigint
) on commit drop`;

/**
 * Into how many parts a day is divided now: by its events, and not fewer than what was counted of it is divided into.
 *
 * @param partEvents events of a part
 */
export async function partsOf(query: Query, day: number, partEvents: number): Promise<number> {
  const { rows } = await query<{ events: number }>(
    `select count(*) as events from events e where ${rowsOfDay('e')}`,
    rangeOf(day),
  );
  const { events } = rows[0] ?? { events: 0 };
  const [{ parts } = { parts: 1 }] = await storedParts(query, day);
  let wanted = 1;
  while (wanted * partEvents < events && wanted < MAX_PARTS) wanted *= 2;
  return Math.max(wanted, parts);
}

/** The parts of a day that are stored, those of the finest division first. */
export async function storedParts(query: Query, day: number): Promise<readonly DayPart[]> {
  const { rows } = await query<DayPart & Record<string, unknown>>(
    'select day, part, parts from daily_counts where day = $1 order by parts desc, part',
    [day],
  );
  return rows;
}

/** A part of a day: the authors whose \`author_id % parts\` it is. */
export interface DayPart extends DayParts {
  readonly part: number;
}

/** Divides what is stored as a part further, without a change of what it says. @param query of a transaction */
export async function splitPart(
  query: Query,
  { day, part }: DayPart,
  parts: number,
): Promise<void> {
  await query(CELLS_TABLE);
  await query(
    `insert into day_cells select scope, author_id, kind, events from ${storedCells('d.day = $1 and d.part = $2')} s`,
    [day, part],
  );
  await query('delete from daily_counts where day = $1 and part = $2', [day, part]);
  await packCells(query, { day, parts });
}
