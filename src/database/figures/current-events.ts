import type { Query } from '../connection.ts';

/** Table `current_events`: the newest event of each author, kind and tag `d` (NIP-01). */

/** Some rows of `events`: a condition on the alias `e`, and its parameters. */
export interface SomeEvents {
  readonly condition: string;
  readonly values: readonly unknown[];
}

/** Events that were stored, by their keys. */
export function eventsOf(keys: readonly string[]): SomeEvents {
  return { condition: 'e.event_key = any ($1::bigint[])', values: [keys] };
}

/** An author whose current event of a kind is another one now, or none. */
export interface ChangedCurrent extends Record<string, unknown> {
  readonly author_id: number;
  readonly kind: number;
}

/** SQL: the kinds that replace each other. */
export const REPLACES = `kind_category(e.kind) in ('replaceable', 'addressable')`;

/** Gives authors of replaceable events, and keys that their follow lists name, a short key. */
export async function addCurrentAuthors(query: Query, { condition, values }: SomeEvents) {
  await query(
    `insert into authors (pubkey)
     select distinct k.pubkey
     from (
         select e.pubkey from events e where ${condition} and ${REPLACES}
         union all
         select hex_key(t.tag ->> 1) from events e cross join lateral jsonb_array_elements(e.tags) as t (tag)
         where ${condition} and e.kind = 3 and t.tag ->> 0 = 'p'
     ) k
     where k.pubkey is not null and not exists (select from authors a where a.pubkey = k.pubkey)
     order by k.pubkey
     on conflict do nothing`,
    values,
  );
}

/** Makes those of the events current that are newer than the current ones. Their authors have short keys. */
export async function setCurrent(query: Query, { condition, values }: SomeEvents) {
  const { rows } = await query<ChangedCurrent>(
    `insert into current_events as c (author_id, kind, d_key, event_key)
     select distinct on (a.author_id, e.kind, e.d_key) a.author_id, e.kind, e.d_key, e.event_key
     from (
         select e.event_key, e.pubkey, e.kind, e.created_at, e.id, event_d_key(e.kind, e.tags) as d_key
         from events e where ${condition} and ${REPLACES}
     ) e
     join authors a on a.pubkey = e.pubkey
     order by a.author_id, e.kind, e.d_key, e.created_at desc, e.id
     on conflict (author_id, kind, d_key) do update set event_key = excluded.event_key
     where c.event_key <> excluded.event_key and not exists (
         select from events old
         join events new on new.event_key = excluded.event_key
         where old.event_key = c.event_key and (old.created_at, new.id) > (new.created_at, old.id)
     )
     returning author_id, kind`,
    values,
  );
  return rows;
}

/** Replaces current events of these days that were deleted by the newest that is left. */
export async function replaceDeleted(query: Query, days: readonly number[]) {
  if (days.length === 0) return [];
  const { rows } = await query<ChangedCurrent>(REPLACE_DELETED, [days]);
  return rows;
}

const REPLACE_DELETED = `
with deleted as (
    select c.author_id, c.kind, c.d_key
    from unnest($1::integer[]) as d (day)
    join current_events c on c.event_key >= event_key_floor(d.day * 86400::bigint)
        and c.event_key < event_key_floor((d.day + 1) * 86400::bigint)
    where not exists (select from events e where e.event_key = c.event_key)
), newest as (
    select d.author_id, d.kind, d.d_key, n.event_key
    from deleted d
    join authors a on a.author_id = d.author_id
    left join lateral (
        select e.event_key from events e
        where e.pubkey = a.pubkey and e.kind = d.kind and event_d_key(e.kind, e.tags) = d.d_key
        order by e.created_at desc, e.id limit 1
    ) n on true
), replaced as (
    update current_events c set event_key = n.event_key
    from newest n
    where n.event_key is not null and c.author_id = n.author_id and c.kind = n.kind and c.d_key = n.d_key
), removed as (
    delete from current_events c using newest n
    where n.event_key is null and c.author_id = n.author_id and c.kind = n.kind and c.d_key = n.d_key
)
select author_id, kind from newest`;
