import { parseRelayUrl } from '../../network/url.ts';
import type { Query } from '../connection.ts';
import { type ChangedCurrent, keyParameters, WITH_KEYS } from './current-events.ts';

/** Tables `follow_edges` and `relay_list_edges`: what current follow lists and relay lists say. */

const FOLLOW_LIST = 3;
const RELAY_LIST = 10_002;

/** Makes the edges of authors anew whose current list is another one. */
export async function followLists(query: Query, changed: readonly ChangedCurrent[]): Promise<void> {
  const authorsOf = (wanted: number) => [
    ...new Set(changed.flatMap(({ author_id: id, kind }) => (kind === wanted ? [id] : []))),
  ];
  const followers = authorsOf(FOLLOW_LIST);
  if (followers.length > 0) await setFollows(query, followers);
  const listing = authorsOf(RELAY_LIST);
  if (listing.length > 0) await setRelayLists(query, listing);
}

/** The current events of authors of a kind. */
async function currentKeys(
  query: Query,
  authorIds: readonly number[],
  kind: number,
): Promise<readonly string[]> {
  const { rows } = await query<{ keys: string[] }>(
    `select coalesce(array_agg(event_key), '{}')::text[] as keys
     from current_events where author_id = any ($1::integer[]) and kind = $2`,
    [authorIds, kind],
  );
  return rows[0]?.keys ?? [];
}

const NAMED = `
    select c.author_id as follower_id, hex_key(t.tag ->> 1) as followed
    from current_events c
    join follow_lists e on e.event_key = c.event_key
    cross join lateral jsonb_array_elements(e.tags) as t (tag)
    where c.author_id = any ($1::integer[]) and c.kind = ${FOLLOW_LIST} and t.tag ->> 0 = 'p'`;

async function setFollows(query: Query, authorIds: readonly number[]): Promise<void> {
  const keys = await currentKeys(query, authorIds, FOLLOW_LIST);
  await query('create temporary table follow_lists (event_key bigint, tags jsonb) on commit drop');
  await query(
    `insert into follow_lists select e.event_key, e.tags from events e where ${WITH_KEYS}`,
    keyParameters(keys),
  );
  await query('analyze follow_lists (event_key)');
  await query(
    `insert into authors (pubkey)
     select distinct n.followed from (${NAMED}) n
     where n.followed is not null and not exists (select from authors a where a.pubkey = n.followed)
     order by n.followed
     on conflict do nothing`,
    [authorIds],
  );
  await query(
    `with wanted as materialized (
         select distinct n.follower_id, a.author_id as followed_id from (${NAMED}) n join authors a on a.pubkey = n.followed
     ), removed as (
         delete from follow_edges f
         where f.follower_id = any ($1::integer[]) and not exists (
             select from wanted w where w.follower_id = f.follower_id and w.followed_id = f.followed_id
         )
     )
     insert into follow_edges (follower_id, followed_id)
     select follower_id, followed_id from wanted on conflict do nothing`,
    [authorIds],
  );
}

interface RelayListEdge {
  readonly url: string;
  readonly reads: boolean;
  readonly writes: boolean;
}

async function setRelayLists(query: Query, authorIds: readonly number[]): Promise<void> {
  const { rows: current } = await query<{ id: number; key: string }>(
    `select author_id as id, event_key::text as key
     from current_events where author_id = any ($1::integer[]) and kind = ${RELAY_LIST}`,
    [authorIds],
  );
  const { rows: lists } = await query<{ key: string; tags: string[][] }>(
    `select e.event_key::text as key, e.tags from events e where ${WITH_KEYS}`,
    keyParameters(current.map(({ key }) => key)),
  );
  const authorOf = new Map(current.map(({ id, key }) => [key, id]));
  const edges = lists.flatMap(({ key, tags }) =>
    readRelayList(tags).map((edge) => ({ id: authorOf.get(key), ...edge })),
  );
  await query(addTotals('-'), [authorIds]);
  await query('delete from relay_list_edges where author_id = any ($1)', [authorIds]);
  await query(
    `insert into relay_list_edges (author_id, relay_url, reads, writes)
     select * from unnest($1::integer[], $2::text[], $3::boolean[], $4::boolean[])`,
    [
      edges.map(({ id }) => id),
      edges.map(({ url }) => url),
      edges.map(({ reads }) => reads),
      edges.map(({ writes }) => writes),
    ],
  );
  await query(addTotals('+'), [authorIds]);
  await query('delete from relay_list_totals where authors = 0');
}

/** SQL: adds the edges of authors to the totals, or takes them away. */
const addTotals = (sign: '+' | '-') => `
insert into relay_list_totals as t (relay_url, authors, readers, writers)
select relay_url, ${sign}count(*), ${sign}count(*) filter (where reads), ${sign}count(*) filter (where writes)
from relay_list_edges where author_id = any ($1) group by relay_url
on conflict (relay_url) do update
set authors = t.authors + excluded.authors, readers = t.readers + excluded.readers, writers = t.writers + excluded.writers`;

/** The relays of a relay list (NIP-65), each once: one that is named as read and as write is both. */
export function readRelayList(tags: readonly (readonly string[])[]): RelayListEdge[] {
  const found = new Map<string, RelayListEdge>();
  for (const [name, text = '', marker = ''] of tags) {
    const parsed = name === 'r' ? parseRelayUrl(text) : null;
    if (!parsed?.ok) continue;
    const before = found.get(parsed.url);
    const reads = marker !== 'write' || (before?.reads ?? false);
    const writes = marker !== 'read' || (before?.writes ?? false);
    found.set(parsed.url, { url: parsed.url, reads, writes });
  }
  return [...found.values()];
}
