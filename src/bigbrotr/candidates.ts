import { NOW, type Query } from '../database.ts';
import type { Network, RelayAddress } from '../relay/url.ts';

/** The part of `Bigbrotr` that knows which names are asked next, and what became of them. */

export interface NameBounds {
  /** Names waiting at a time; beyond that those go that failed most often and that the fewest have named. */
  readonly candidates: number;
  /** Names remembered that never answered; the oldest are forgotten. */
  readonly dropped: number;
}

const BOUNDS: NameBounds = { candidates: 100_000, dropped: 100_000 };
/** Tries in an hour: in all, for the names of one author, and under one domain. */
const TRIES_AN_HOUR = 3600;
const TRIES_AN_HOUR_OF_AUTHOR = 60;
const TRIES_AN_HOUR_OF_DOMAIN = 30;
/** Relays found under one domain; no more are asked for: with a wildcard in DNS any name under it may answer. */
const MAX_RELAYS_OF_DOMAIN = 2000;

const HOUR = 3600;
const DAY = 24 * HOUR;
/** After the first, the second, … try in vain; after one more the name is dropped, in its second month. In seconds. */
const NEXT_TRY_AFTER = [2 * HOUR, 8 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];
/** A try that was begun and of which nothing is heard (the finder was killed) is due again after this, in seconds. */
const TRY_LEASE = 600;
/** What is put off for longer than names ever are was put off while the clock was wrong. */
const IS_DUE = `(n.next_try_at <= ${NOW}
                 or n.next_try_at > ${NOW} + ${1.5 * Math.max(...NEXT_TRY_AFTER)})`;

/** A name that is to be tried now. */
export interface Candidate extends Pick<RelayAddress, 'network'> {
  readonly nameId: number;
  /** As it is stored: it goes through the parser before it is used. */
  readonly url: string;
}

/**
 * Takes candidates that are due, as far as the budgets of the hour go. Authors take turns, each by each of the names
 * they gave; a name is charged to the author whose turn it is, so that nobody can use up another's. It comes back
 * by itself when nothing is heard of it.
 */
export async function claimCandidates(
  query: Query,
  limit: number,
  networks: readonly Network[],
): Promise<Candidate[]> {
  const { rows } = await query<Candidate & Record<string, unknown>>(
    `with tried as (
         select charged_to as author, domain from named_relays
         where last_try_at > ${NOW} - ${HOUR}
             and last_try_at <= ${NOW} + ${HOUR}
     ), of_author as (
         select author, count(*) as spent from tried group by 1
     ), of_domain as (
         select domain, count(*) as spent from tried group by 1
     ), full_domains as (
         select domain from named_relays where answered_at is not null group by 1 having count(*) >= $7
     ), turns as (
         select n.name_id, n.domain, a.author, coalesce(o.spent, 0)
             + row_number() over (partition by a.author order by n.tries, n.next_try_at, n.name_id) as turn
         from named_relays n
         cross join lateral unnest(n.authors) a (author)
         left join of_author o on o.author = a.author
         where ${IS_DUE} and n.network = any ($2)
             and n.domain not in (select domain from full_domains)
     ), charged as (
         select distinct on (name_id) * from turns
         where turn <= $3 or author = '' order by name_id, turn, author
     ), allowed as (
         select c.*, coalesce(d.spent, 0) + row_number() over (partition by c.domain order by c.turn, c.name_id) as place
         from charged c left join of_domain d on d.domain = c.domain
     ), chosen as (
         select name_id, author from allowed where place <= $4 order by turn, name_id
         limit greatest(0, least($1, $5 - (select count(*) from tried)))
     )
     update named_relays n
     set last_try_at = ${NOW}, charged_to = c.author,
         next_try_at = ${NOW} + $6
     from chosen c
     where n.name_id = c.name_id and ${IS_DUE}
     returning n.name_id as "nameId", n.url, n.network`,
    [
      limit,
      networks,
      TRIES_AN_HOUR_OF_AUTHOR,
      TRIES_AN_HOUR_OF_DOMAIN,
      TRIES_AN_HOUR,
      TRY_LEASE,
      MAX_RELAYS_OF_DOMAIN,
    ],
  );
  return rows;
}

/** Makes a relay of a candidate that has answered. @returns whether it is new */
export async function promoteCandidate(query: Query, nameId: number): Promise<boolean> {
  const { rows } = await query<{ is_new: boolean }>(
    `with answered as (
         update named_relays
         set next_try_at = null, dropped_at = null, reason = null, tries = tries + 1,
             answered_at = ${NOW}
         where name_id = $1 and answered_at is null
         returning url, network
     )
     select insert_relay(url, network) as is_new from answered`,
    [nameId],
  );
  return rows[0]?.is_new ?? false;
}

/**
 * Puts a candidate off that has not answered, longer each time, a quarter sooner or later; the eighth time it is dropped.
 *
 * @param atLeast how long the server asked to be left alone (`Retry-After`), in seconds
 */
export async function putOffCandidate(
  query: Query,
  nameId: number,
  reason: string,
  atLeast: number | null = null,
): Promise<void> {
  await query(
    `update named_relays
     set tries = tries + 1, reason = $2,
         next_try_at = ${NOW} + case when tries < cardinality($3::bigint[])
             then greatest(($3::bigint[])[tries + 1] * (0.75 + random() / 2), $4) end,
         dropped_at = case when tries >= cardinality($3::bigint[]) then ${NOW} end
     where name_id = $1 and next_try_at is not null`,
    [nameId, reason, NEXT_TRY_AFTER, atLeast ?? 0],
  );
}

/**
 * Takes candidates off the list that became relays by other ways, and keeps the number of names within its bounds.
 * @returns how many were forgotten
 */
export async function tidyNames(query: Query, bounds: NameBounds = BOUNDS): Promise<number> {
  const { candidates, dropped } = bounds;
  await query(
    `update named_relays n set next_try_at = null
     where next_try_at is not null and exists (select from relays r where r.url = n.url)`,
  );
  const { rowCount: waiting } = await query(
    `delete from named_relays where name_id in (
         select name_id from named_relays where next_try_at is not null
         order by tries desc, cardinality(authors), last_named_at
         limit greatest(0, (select count(*) from named_relays where next_try_at is not null) - $1)
     )`,
    [candidates],
  );
  const { rowCount: old } = await query(
    `delete from named_relays where name_id in (
         select name_id from named_relays where dropped_at is not null order by dropped_at
         limit greatest(0, (select count(*) from named_relays where dropped_at is not null) - $1)
     )`,
    [dropped],
  );
  return (waiting ?? 0) + (old ?? 0);
}
