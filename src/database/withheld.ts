import type { Window } from '../nostr/window.ts';
import { IS_HELD, writeHeld } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import type { Relay } from './relays.ts';

/** Table `withheld`: events that relays list (NIP-77) and do not serve. */

/**
 * Why an event is withheld: EOSE without it, the reason of CLOSED, or every answer breaks off (`unreadable`; `oversized`
 * if it is above the size limit).
 */
export type WithheldReason =
  | 'not_served'
  | 'auth_required'
  | 'restricted'
  | 'refused'
  | 'unreadable'
  | 'oversized';

/** An event that a relay lists and does not serve: it was created in one of the seconds of its window. */
export interface Withheld extends Window {
  readonly id: string;
}

/** A withheld event that is due for another request. */
export interface DueWithheld extends Withheld {
  readonly reason: WithheldReason;
}

/** Key of the withheld events of one relay and filter. */
export interface WithheldOf {
  readonly relay: Relay;
  readonly filterId: number;
}

/** Maximum number of rows of one statement. */
const ROWS_AT_A_TIME = 10_000;
const DAY = 86_400;
const LONGEST_DELAY_DAYS = 30;
/** A retry further ahead than this, in seconds, was scheduled while the clock was wrong. */
const FURTHEST_AHEAD = (LONGEST_DELAY_DAYS + 1) * DAY;
const COLUMNS = `encode(id, 'hex') as id, lower(stretch) as since, upper(stretch) - 1 as until`;

/** Size of the sample of a kind that is requested in place of all withheld events of that kind. */
const KIND_SAMPLE = 20;

/** SQL: when an event is requested again after this number of failed tries. */
export function nextTryAfter(tries: string): string {
  return `${NOW} + ${DAY} * least(2 ^ least(${tries} - 1, 10), ${LONGEST_DELAY_DAYS})::bigint`;
}

/** SQL: whether an event is due; `authenticated` is the parameter for whether this connection is authenticated (NIP-42). */
export function isDueAgain(authenticated: string): string {
  return `(next_try_at <= ${NOW} or next_try_at > ${NOW} + ${FURTHEST_AHEAD} or (${authenticated} and not authenticated))`;
}

/** The withheld events ($1 relay, $2 filter, $3 authenticated) that are due: of each known kind a sample. */
export const DUE = `(
         select *
         from (
             select *, row_number() over (partition by kind order by next_try_at, withheld.id) as place
             from withheld where relay_id = $1 and filter_id = $2 and ${isDueAgain('$3')}
         ) ranked
         where kind is null or place <= ${KIND_SAMPLE}
     ) withheld`;

type Row = Withheld & Record<string, unknown>;

/** The number of withheld events. */
export async function countWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
): Promise<number> {
  const { rows } = await query<{ count: number }>(
    'select count(*) as count from withheld where relay_id = $1 and filter_id = $2',
    [relay.relayId, filterId],
  );
  return rows[0]?.count ?? 0;
}

/**
 * The number of distinct withheld events in a window, of this filter and its parts, after deleting those that the relay
 * has sent since.
 */
export async function countUnseenWithheld(
  query: Query,
  key: WithheldOf,
  window: Window,
): Promise<number> {
  if ((await countWithParts(query, key, window)) === 0) return 0;
  await forgetSighted(query, key);
  return countWithParts(query, key, window);
}

/** Withheld events that may lie in a window, in chunks. */
export async function* withheldIn(
  query: Query,
  { relay, filterId }: WithheldOf,
  window: Window,
): AsyncGenerator<Withheld[]> {
  for (let after = '', seen = ROWS_AT_A_TIME; seen === ROWS_AT_A_TIME; ) {
    const { rows }: { rows: Row[] } = await query<Row>(
      `select ${COLUMNS} from withheld
       where relay_id = $1 and filter_id = $2 and withheld.id > decode($5, 'hex')
           and stretch && int8range($3, $4::bigint + 1)
       order by withheld.id limit $6`,
      [relay.relayId, filterId, window.since, window.until, after, ROWS_AT_A_TIME],
    );
    if (rows.length > 0) yield rows;
    after = rows.at(-1)?.id ?? '';
    seen = rows.length;
  }
}

/** Those of these ids, in hex, that are withheld. */
export async function withheldAmong(
  query: Query,
  { relay, filterId }: WithheldOf,
  ids: readonly string[],
): Promise<Withheld[]> {
  if (ids.length === 0) return [];
  const { rows } = await query<Row>(
    `select ${COLUMNS} from withheld
     where relay_id = $1 and filter_id = $2
         and withheld.id in (select decode(t.id, 'hex') from unnest($3::text[]) as t (id))`,
    [relay.relayId, filterId, ids],
  );
  return rows;
}

/** Events that are due; after an authentication also those last requested without one. Of a known kind only a sample. */
export async function dueWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
  isAuthenticated: boolean,
  limit: number,
): Promise<DueWithheld[]> {
  const { rows } = await query<DueWithheld & Row>(
    `select ${COLUMNS}, reason
     from ${DUE}
     order by next_try_at, withheld.id limit $4`,
    [relay.relayId, filterId, isAuthenticated, limit],
  );
  return rows;
}

/** Those of these ids, in hex, that were seen on this relay or quarantined from it. */
export async function heldAmong(
  query: Query,
  { relay }: WithheldOf,
  ids: readonly string[],
): Promise<Set<string>> {
  const held = new Set<string>();
  for (let from = 0; from < ids.length; from += ROWS_AT_A_TIME) {
    const { rows } = await query<{ id: string }>(
      `select encode(id, 'hex') as id from unnest(ids_seen_on($1, $2::bytea[])) as t (id)
       union all
       select encode(id, 'hex') from quarantine where relay_id = $1 and id = any ($2::bytea[])`,
      [relay.relayId, ids.slice(from, from + ROWS_AT_A_TIME).map((id) => Buffer.from(id, 'hex'))],
    );
    for (const { id } of rows) held.add(id);
  }
  return held;
}

/**
 * Records that these were requested without success. They are due at the next visit, or after a day if they break off the
 * answer; then after a delay that doubles from one day to 30.
 * @throws ClaimLost
 */
export async function noteWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
  withheld: readonly (Withheld & { readonly reason: WithheldReason })[],
  isAuthenticated: boolean,
): Promise<void> {
  const sorted = [...withheld].sort((a, b) => (a.id < b.id ? -1 : 1));
  await writeHeld(
    query,
    relay,
    `insert into withheld
         (relay_id, filter_id, id, stretch, reason, first_at, last_at, next_try_at, authenticated)
     select $1::integer, $2::integer, decode(t.id, 'hex'), int8range(t.since, t.until, '[]'), t.reason, ${NOW}, ${NOW},
            ${NOW} + case when t.reason in ('unreadable', 'oversized') then ${DAY} else 0 end, $7
     from unnest($3::text[], $4::bigint[], $5::bigint[], $6::text[]) as t (id, since, until, reason)
     where ${IS_HELD}
     on conflict (relay_id, filter_id, id) do update
     set stretch = excluded.stretch, reason = excluded.reason, last_at = excluded.last_at,
         tries = withheld.tries + 1, authenticated = excluded.authenticated,
         next_try_at = ${nextTryAfter('withheld.tries')}`,
    [
      filterId,
      sorted.map(({ id }) => id),
      sorted.map(({ since }) => since),
      sorted.map(({ until }) => until),
      sorted.map(({ reason }) => reason),
      isAuthenticated,
    ],
  );
}

/** Stores narrower windows of these events. @throws ClaimLost */
export async function placeWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
  withheld: readonly Withheld[],
): Promise<void> {
  if (withheld.length === 0) return;
  await writeHeld(
    query,
    relay,
    `update withheld set stretch = int8range(t.since, t.until, '[]')
     from unnest($3::text[], $4::bigint[], $5::bigint[]) as t (id, since, until)
     where relay_id = $1 and filter_id = $2 and withheld.id = decode(t.id, 'hex') and ${IS_HELD}`,
    [
      filterId,
      withheld.map(({ id }) => id),
      withheld.map(({ since }) => since),
      withheld.map(({ until }) => until),
    ],
  );
}

/** Deletes these: the relay serves them now, or no longer lists them. @throws ClaimLost */
export async function forgetWithheld(
  query: Query,
  { relay, filterId }: WithheldOf,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  await writeHeld(
    query,
    relay,
    `delete from withheld
     where relay_id = $1 and filter_id = $2
         and withheld.id in (select decode(t.id, 'hex') from unnest($3::text[]) as t (id)) and ${IS_HELD}`,
    [filterId, ids],
  );
}

/** Deletes those, also of parts of the filter, that this relay has sent since, in a page or a live subscription. */
async function forgetSighted(query: Query, { relay, filterId }: WithheldOf): Promise<void> {
  await query(
    `with shown as (
         select unnest(ids_seen_on($1, array(select id from withheld_of($1, $2, int8range(null, null))))) as id
         union all
         select id from quarantine where relay_id = $1
     )
     delete from withheld where relay_id = $1 and id in (select id from shown)`,
    [relay.relayId, filterId],
  );
}

async function countWithParts(
  query: Query,
  { relay, filterId }: WithheldOf,
  window: Window,
): Promise<number> {
  const { rows } = await query<{ count: number }>(
    'select count(*) as count from withheld_of($1, $2, int8range($3, $4::bigint + 1))',
    [relay.relayId, filterId, window.since, window.until],
  );
  return rows[0]?.count ?? 0;
}

/** The covered stretch around a window, including it, that is proven by pages and not by NIP-77. */
export async function pagedAround(
  query: Query,
  { relay, filterId }: WithheldOf,
  { since, until }: Window,
): Promise<Window> {
  const { rows } = await query<{ since: number | null; until: number | null }>(
    `with paged as (
         select range_agg(covered) as covered from coverage
         where relay_id = $1 and filter_id = $2 and evidence in ('paging', 'finish')
     )
     select min(lower(stretch)) as since, max(upper(stretch)) - 1 as until
     from paged, unnest(covered) stretch
     where stretch && int8range($3, $4::bigint + 1) or stretch -|- int8range($3, $4::bigint + 1)`,
    [relay.relayId, filterId, since, until],
  );
  const [found] = rows;
  return {
    since: Math.min(since, found?.since ?? since),
    until: Math.max(until, found?.until ?? until),
  };
}
