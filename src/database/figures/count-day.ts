import type { Query } from '../connection.ts';

/**
 * Counts the events and sightings of one day in one statement that writes nothing: a transaction that has written is
 * waited for by every reader of the journal. apply-part.ts and apply-day.ts compare the counts with the previous ones.
 */

const DAY = 86_400;
const ID_BYTES = 32;
/** Memory of each sort and hash table of the count. Both spill to disk above it. */
const WORK_MEM = '32MB';
/** Missing authors that are inserted in one statement, which takes about a second. */
const AUTHORS_AT_A_TIME = 20_000;
/** An id of the sample begins with the hex digits 00, so that a 256th of all events belongs to it. */
const IN_SAMPLE = 'get_byte(id, 0) = 0';
/** A target of the sample of references begins with the same digits. */
const TARGET_SAMPLE = '^00[0-9a-f]{62}$';

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

/** Gives every author of a day a short key. The day is read before the first of them is written. */
export async function addAuthors(query: Query, day: number): Promise<void> {
  const { rows } = await query<{ keys: string[] }>(
    `with found as materialized (select distinct e.pubkey from events e where ${rowsOfDay('e')})
     select coalesce(array_agg(encode(f.pubkey, 'hex') order by f.pubkey), '{}') as keys
     from found f where not exists (select from authors a where a.pubkey = f.pubkey)`,
    rangeOf(day),
  );
  const keys = rows[0]?.keys ?? [];
  for (let done = 0; done < keys.length; done += AUTHORS_AT_A_TIME)
    await query(
      `insert into authors (pubkey) select decode(key, 'hex') from unnest($1::text[]) as t (key)
       on conflict do nothing`,
      [keys.slice(done, done + AUTHORS_AT_A_TIME)],
    );
}

/**
 * A row of the count. Its columns are array literals of PostgreSQL, of one length: they go back to the database as they
 * came.
 */
export interface CountRow extends Record<string, unknown> {
  readonly what: 'part' | 'scopes' | 'kinds' | 'only here' | 'replication' | 'samples' | 'sum';
  /** Of the authors whose `author_id % parts` it is. */
  readonly part: number;
  readonly columns: readonly string[];
}

/** A day is counted in so many parts, by author: each is applied in a transaction of its own. */
export interface DayParts {
  readonly day: number;
  /** A power of two that never falls, so that a part is split and two are never joined. */
  readonly parts: number;
}

/**
 * Counts a day into the cursor `counted` of the transaction: first rows of its parts, then of the whole day.
 *
 * @param query of a transaction
 */
export async function countDay(query: Query, { day, parts }: DayParts): Promise<void> {
  await query(`set local work_mem = '${WORK_MEM}'`);
  await query('set local cursor_tuple_fraction = 1');
  const { rows } = await query<{ ids: string; bits: string }>(
    `select coalesce(array_agg(relay_id), '{}')::text as ids,
            coalesce(array_agg(1 << -network_scope(network)), '{}')::text as bits
     from relays`,
  );
  await query(COUNT, [...rangeOf(day), rows[0]?.ids, rows[0]?.bits, parts]);
}

/** The next row of the count; null after the last. @param query of the transaction that counted the day */
export async function nextCount(query: Query): Promise<CountRow | null> {
  const { rows } = await query<CountRow>('fetch 1 from counted');
  return rows[0] ?? null;
}

/** SQL: several columns of a relation as array literals, sorted by the first ones. */
const columns = (names: readonly string[], order: string) =>
  `array[${names.map((name) => `coalesce(array_agg(${name} order by ${order}), '{}')::text`).join(', ')}]`;

/** SQL: the sum of the ids of `day_events` modulo 2^256, ids as little-endian numbers (NIP-77). */
const ID_SUM = `(${Array.from(
  { length: ID_BYTES },
  (_, byte) => `coalesce(sum(get_byte(id, ${byte})), 0)::numeric * ${256n ** BigInt(byte)}`,
).join(' + ')}) % ${2n ** 256n}`;

/**
 * $4 and $5: relays and a bit for the network of each; $6: number of parts. Tables that may lie on several servers are
 * read in the first two queries, which name the day, and joined with others after them.
 */
const COUNT = `
declare counted no scroll cursor for
with seen as materialized (
    select s.event_key, array_agg(s.relay_id) as relays, bit_or(r.bit) as networks
    from sightings s
    join unnest($4::integer[], $5::integer[]) as r (relay_id, bit) on r.relay_id = s.relay_id
    where ${rowsOfDay('s')}
    group by s.event_key
), found as materialized (
    select e.pubkey, e.id, e.kind, (e.created_at - $1::bigint)::integer as second, octet_length(e.content) as bytes,
           coalesce(s.relays, '{}') as relays, coalesce(s.networks, 0) as networks
    from events e
    left join seen s on s.event_key = e.event_key
    where ${rowsOfDay('e')}
), day_events as materialized (
    select a.author_id, f.id, f.kind, f.second, f.bytes, f.relays, f.networks
    from found f
    join authors a on a.pubkey = f.pubkey
), cells as materialized (
    select scope, author_id, kind, count(*)::integer as events, min(second) as first, max(second) as last
    from (
        select 0 as scope, author_id, kind, second from day_events
        union all
        select u.relay_id, author_id, kind, second from day_events cross join lateral unnest(relays) as u (relay_id)
        union all
        select n.scope, author_id, kind, second
        from day_events join (values (-1, 2), (-2, 4), (-3, 8), (-4, 16)) as n (scope, bit) on networks & n.bit <> 0
    ) scoped
    group by scope, author_id, kind
)
select 'part' as what, author_id % $6::integer as part,
       ${columns(['scope', 'author_id', 'kind', 'events', 'first', 'last'], 'scope, author_id')} as columns
from cells group by author_id % $6::integer
union all
select 'scopes', 0, ${columns(['scope', 'events', 'first', 'last'], 'scope')}
from (
    select scope, sum(events)::integer as events, min(first) as first, max(last) as last from cells group by scope
) s
union all
select 'kinds', 0, ${columns(['kind', 'events', 'authors', 'bytes'], 'kind')}
from (
    select c.kind, c.events, c.authors, b.bytes
    from (select kind, sum(events) as events, count(*) as authors from cells where scope = 0 group by kind) c
    join (select kind, sum(bytes) as bytes from day_events group by kind) b on b.kind = c.kind
) k
union all
select 'only here', 0, ${columns(['relay_id', 'events'], 'relay_id')}
from (select relays[1] as relay_id, count(*) as events from day_events where cardinality(relays) = 1 group by 1) o
union all
select 'replication', 0, ${columns(['relays', 'events'], 'relays')}
from (select cardinality(relays) as relays, count(*) as events from day_events group by 1) r
union all
select 'samples', 0, ${columns(['relays', 'events'], 'relays')}
from (
    select relays::text as relays, count(*) as events
    from (
        select array(select unnest(relays) order by 1) as relays from day_events
        where ${IN_SAMPLE} and cardinality(relays) > 0
    ) sampled
    group by relays
) s
union all
select 'sum', 0, array[count(*)::text, count(distinct author_id)::text, count(distinct kind)::text, (${ID_SUM})::text,
       coalesce(sum(cardinality(relays)), 0)::text]
from day_events`;

/** References of a sample of targets: the events of a day by kind and target. Three array literals. */
export async function countReferencesOf(query: Query, day: number): Promise<readonly string[]> {
  const { rows } = await query<{ columns: string[] }>(
    `select ${columns(['kind', 'target', '"references"'], 'kind, target')} as columns
     from (
         select r.kind, r.target, count(*) as "references"
         from (
             select distinct e.event_key, e.kind, t.tag ->> 1 as target
             from events e
             cross join lateral jsonb_array_elements(e.tags) as t (tag)
             where ${rowsOfDay('e')} and t.tag ->> 0 = 'e' and t.tag ->> 1 ~ '${TARGET_SAMPLE}'
         ) r
         group by r.kind, r.target
     ) counted`,
    rangeOf(day),
  );
  return rows[0]?.columns ?? [];
}
