import type { Query } from '../connection.ts';
import { dayOfKey } from '../days.ts';

/**
 * Table `current_events`: the newest event of each author, kind and tag `d` (NIP-01).
 *
 * Where there are several servers, events are on others than the tables of figures, and are not joined with them: they are
 * read into a temporary table first.
 */

/** An author whose current event of a kind is another one now, or none. */
export interface ChangedCurrent extends Record<string, unknown> {
  readonly author_id: number;
  readonly kind: number;
}

/** SQL: the kinds that replace each other. */
export const REPLACES = `kind_category(e.kind) in ('replaceable', 'addressable')`;

/** SQL: events by their keys, $1. Their days, $2, say on which servers they are; both are `keyParameters`. */
export const WITH_KEYS = 'e.event_key = any ($1::bigint[]) and e.created_day = any ($2::integer[])';

/** The parameters of `WITH_KEYS`. */
export function keyParameters(keys: readonly string[]): [keys: readonly string[], days: number[]] {
  return [keys, [...new Set(keys.map(dayOfKey))]];
}

const TAKEN_UP = `
create temporary table taken_up (event_key bigint, kind integer, pubkey bytea, id bytea, d_key text, tags jsonb)
on commit drop`;

const READ_EVENTS = `
insert into taken_up
select e.event_key, e.kind, e.pubkey, e.id, event_d_key(e.kind, e.tags), case when e.kind in (3, 9735) then e.tags end
from events e
where ${WITH_KEYS} and (${REPLACES} or e.kind = 9735)`;

/**
 * Reads replaceable events and zap receipts among some events into the temporary table `taken_up`.
 *
 * @param query of a transaction
 * @returns how many there are
 */
export async function readTakenUp(query: Query, keys: readonly string[]): Promise<number> {
  await query(TAKEN_UP);
  if (keys.length === 0) return 0;
  const { rowCount } = await query(READ_EVENTS, keyParameters(keys));
  await query('analyze taken_up (kind, pubkey)');
  return rowCount ?? 0;
}

/** Removes events from `taken_up` that were deleted since: what they gave may have been removed already. */
export async function forgetDeleted(query: Query): Promise<void> {
  const { rows } = await query<{ keys: string[] }>(
    `select coalesce(array_agg(event_key), '{}')::text[] as keys from taken_up`,
  );
  const gone = await missingKeys(query, rows[0]?.keys ?? []);
  if (gone.length > 0)
    await query('delete from taken_up where event_key = any ($1::bigint[])', [gone]);
}

/** Those of these keys that no event has. */
export async function missingKeys(query: Query, keys: readonly string[]): Promise<string[]> {
  if (keys.length === 0) return [];
  const { rows } = await query<{ keys: string[] }>(
    `select coalesce(array_agg(e.event_key), '{}')::text[] as keys from events e where ${WITH_KEYS}`,
    keyParameters(keys),
  );
  const present = new Set(rows[0]?.keys);
  return keys.filter((key) => !present.has(key));
}

/** Gives authors of replaceable events, and keys that their follow lists name, a short key. */
export async function addCurrentAuthors(query: Query): Promise<void> {
  await query(
    `insert into authors (pubkey)
     select distinct k.pubkey
     from (
         select pubkey from taken_up where kind <> 9735
         union all
         select hex_key(t.tag ->> 1) from taken_up e cross join lateral jsonb_array_elements(e.tags) as t (tag)
         where e.kind = 3 and t.tag ->> 0 = 'p'
     ) k
     where k.pubkey is not null and not exists (select from authors a where a.pubkey = k.pubkey)
     order by k.pubkey
     on conflict do nothing`,
  );
}

/**
 * Makes those of the events in `taken_up` current that are newer than the current ones. Their authors have short keys.
 * Current events of the same second are read first: of two, the one with the lower id is current.
 *
 * @param query of a transaction that holds the lock of `lockFigures`
 */
export async function setCurrent(query: Query): Promise<ChangedCurrent[]> {
  const { rows: ties } = await query<{ key: string }>(
    `select distinct c.event_key::text as key
     from taken_up e
     join authors a on a.pubkey = e.pubkey
     join current_events c on c.author_id = a.author_id and c.kind = e.kind and c.d_key = e.d_key
     where c.event_key >> 24 = e.event_key >> 24 and c.event_key <> e.event_key`,
  );
  if (ties.length > 0) await query(READ_EVENTS, keyParameters(ties.map(({ key }) => key)));
  const { rows } = await query<ChangedCurrent>(
    `insert into current_events as c (author_id, kind, d_key, event_key)
     select distinct on (a.author_id, e.kind, e.d_key) a.author_id, e.kind, e.d_key, e.event_key
     from taken_up e
     join authors a on a.pubkey = e.pubkey
     where e.kind <> 9735
     order by a.author_id, e.kind, e.d_key, e.event_key >> 24 desc, e.id
     on conflict (author_id, kind, d_key) do update set event_key = excluded.event_key
     where c.event_key <> excluded.event_key and c.event_key >> 24 <= excluded.event_key >> 24
     returning author_id, kind`,
  );
  return rows;
}

/** Replaces current events of these days that were deleted by the newest that is left. */
export async function replaceDeleted(
  query: Query,
  days: readonly number[],
): Promise<ChangedCurrent[]> {
  const replaced: ChangedCurrent[] = [];
  for (const day of days) {
    const { rows } = await query<{ keys: string[] }>(
      `select coalesce(array_agg(event_key), '{}')::text[] as keys from current_events
       where event_key >= event_key_floor($1::integer * 86400::bigint)
           and event_key < event_key_floor(($1::integer + 1) * 86400::bigint)`,
      [day],
    );
    const deleted = await missingKeys(query, rows[0]?.keys ?? []);
    for (let done = 0; done < deleted.length; done += REPLACED_AT_A_TIME)
      replaced.push(...(await replaceKeys(query, deleted.slice(done, done + REPLACED_AT_A_TIME))));
  }
  return replaced;
}

/** Their authors' events of the same kinds are read at once. */
const REPLACED_AT_A_TIME = 200;

/** A current event that was deleted. */
interface DeletedCurrent extends Record<string, unknown> {
  readonly author_id: number;
  readonly pubkey: Buffer;
  readonly kind: number;
}

async function replaceKeys(query: Query, keys: readonly string[]): Promise<ChangedCurrent[]> {
  const { rows: deleted } = await query<DeletedCurrent>(
    `select c.author_id, a.pubkey, c.kind from current_events c join authors a on a.author_id = c.author_id
     where c.event_key = any ($1::bigint[])`,
    [keys],
  );
  const { rows: left } = await query<Record<'pubkey' | 'kind' | 'd_key' | 'key', unknown>>(
    `select distinct on (pubkey, kind, event_d_key(kind, tags)) pubkey, kind, event_d_key(kind, tags) as d_key, event_key::text as key
     from events
     where pubkey = any ($1::bytea[]) and kind = any ($2::integer[])
     order by pubkey, kind, event_d_key(kind, tags), created_at desc, id`,
    [deleted.map(({ pubkey }) => pubkey), [...new Set(deleted.map(({ kind }) => kind))]],
  );
  await query(REPLACE, [
    keys,
    ...(['pubkey', 'kind', 'd_key', 'key'] as const).map((name) => left.map((row) => row[name])),
  ]);
  return deleted.map(({ author_id, kind }) => ({ author_id, kind }));
}

/** $1: the deleted events; $2 to $5: the newest that are left of their authors, by key, kind and tag `d`. */
const REPLACE = `
with newest as (
    select c.author_id, c.kind, c.d_key, n.event_key
    from current_events c
    join authors a on a.author_id = c.author_id
    left join unnest($2::bytea[], $3::integer[], $4::text[], $5::bigint[]) as n (pubkey, kind, d_key, event_key)
        on n.pubkey = a.pubkey and n.kind = c.kind and n.d_key = c.d_key
    where c.event_key = any ($1::bigint[])
), replaced as (
    update current_events c set event_key = n.event_key
    from newest n
    where n.event_key is not null and c.author_id = n.author_id and c.kind = n.kind and c.d_key = n.d_key
)
delete from current_events c using newest n
where n.event_key is null and c.author_id = n.author_id and c.kind = n.kind and c.d_key = n.d_key`;
