import type { Query } from '../connection.ts';

/**
 * Counts the events and sightings of one day into temporary tables, which apply-day.ts compares with what was counted
 * of that day before. Reads `events` and `sightings` once each, by the range of their keys.
 */

const DAY = 86_400;
const ID_BYTES = 32;

/** SQL: the rows of a day of a table with `event_key`. $1 is the first second of the day, $2 that of the next. */
export const keysOfDay = (alias: string) =>
  `${alias}.event_key >= event_key_floor($1) and ${alias}.event_key < event_key_floor($2)`;

/**
 * SQL: the rows of a day of `events` or `sightings`; the parameters are those of `rangeOf`. The day itself says on which
 * server they are, where there are several.
 */
export const rowsOfDay = (alias: string) => `${alias}.created_day = $3 and ${keysOfDay(alias)}`;

/** The first second of a day and that of the next, Unix seconds. */
export function secondsOf(day: number): [since: number, before: number] {
  return [day * DAY, (day + 1) * DAY];
}

/** The parameters of `rowsOfDay`. */
export function rangeOf(day: number): [since: number, before: number, day: number] {
  return [...secondsOf(day), day];
}

/**
 * Gives every author of a day a short key, in a statement of its own: a transaction that adds authors blocks others that
 * add the same ones until it ends.
 */
export async function addAuthors(query: Query, day: number): Promise<void> {
  await query(
    `insert into authors (pubkey)
     select distinct e.pubkey from events e
     where ${rowsOfDay('e')} and not exists (select from authors a where a.pubkey = e.pubkey)
     order by e.pubkey
     on conflict do nothing`,
    rangeOf(day),
  );
}

/**
 * Fills the temporary tables `day_events`, `day_cells` (scope, author and kind), `day_scopes` and `day_relays`; they go
 * with the transaction.
 *
 * @param query of a transaction
 * @returns how many events and sightings were read
 */
export async function countDay(
  query: Query,
  day: number,
): Promise<{ readonly events: number; readonly sightings: number }> {
  await query(TABLES);
  await query(EVENTS, rangeOf(day));
  await query('analyze day_events');
  await query(STRAGGLERS);
  await query(CELLS);
  await query(SCOPES);
  await query('analyze day_cells');
  const { rows } = await query<{ events: number; sightings: number }>(
    `select count(*) as events, coalesce(sum(cardinality(relays)), 0)::bigint as sightings from day_events`,
  );
  return rows[0] ?? { events: 0, sightings: 0 };
}

const TABLES = `
create temporary table day_events (
    event_key bigint, id bytea, pubkey bytea, kind integer, created_at bigint, content_bytes integer, relays integer[]
) on commit drop;
create temporary table day_cells (
    scope integer, author_id integer, kind integer, events integer, first_at bigint, last_at bigint
) on commit drop;
create temporary table day_scopes (scope integer, only_here integer) on commit drop`;

const EVENTS = `
insert into day_events
select e.event_key, e.id, e.pubkey, e.kind, e.created_at, octet_length(e.content), coalesce(s.relays, '{}')
from events e
left join (
    select s.event_key, array_agg(s.relay_id) as relays from sightings s where ${rowsOfDay('s')} group by s.event_key
) s on s.event_key = e.event_key
where ${rowsOfDay('e')}`;

/** Authors of events that were stored after \`addAuthors\`. */
const STRAGGLERS = `
insert into authors (pubkey)
select distinct d.pubkey from day_events d
where not exists (select from authors a where a.pubkey = d.pubkey)
order by d.pubkey
on conflict do nothing`;

const CELLS = `
insert into day_cells
with known as materialized (
    select d.event_key, a.author_id, d.kind, d.created_at, d.relays
    from day_events d
    join authors a on a.pubkey = d.pubkey
), seen as (
    select k.event_key, k.author_id, k.kind, k.created_at, r.relay_id, network_scope(r.network) as network
    from known k
    cross join lateral unnest(k.relays) as u (relay_id)
    join relays r on r.relay_id = u.relay_id
), scoped as (
    select 0 as scope, author_id, kind, created_at from known
    union all
    select relay_id, author_id, kind, created_at from seen
    union all
    select network, author_id, kind, created_at
    from (select distinct event_key, network, author_id, kind, created_at from seen) once
)
select scope, author_id, kind, count(*), min(created_at), max(created_at) from scoped group by scope, author_id, kind`;

const SCOPES = `
insert into day_scopes
select s.scope, coalesce(o.events, 0)
from (select distinct scope from day_cells) s
left join (
    select relays[1] as relay_id, count(*)::integer as events from day_events where cardinality(relays) = 1 group by 1
) o on o.relay_id = s.scope`;

/** SQL: the sum of the ids of `day_events` modulo 2^256, ids as little-endian numbers (NIP-77). */
export const ID_SUM = `(${Array.from(
  { length: ID_BYTES },
  (_, byte) => `coalesce(sum(get_byte(id, ${byte})), 0)::numeric * ${256n ** BigInt(byte)}`,
).join(' + ')}) % ${2n ** 256n}`;
