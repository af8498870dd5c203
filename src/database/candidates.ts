import type { Network, RelayAddress } from '../network/url.ts';
import { ClaimLost, isHeldByOthers } from './claims.ts';
import { NOW, type Query } from './connection.ts';

/** Table `named_relays`: which candidates are tried next, and the result. */

export interface NameBounds {
  /** Maximum number of candidates; beyond it those that failed most often and that the fewest authors named are deleted. */
  readonly candidates: number;
  /** Maximum number of dropped names; beyond it the oldest are deleted. */
  readonly dropped: number;
}

const BOUNDS: NameBounds = { candidates: 100_000, dropped: 100_000 };
/** Tries in an hour: in all, for the names of one author, and under one domain. */
const TRIES_AN_HOUR = 3600;
const TRIES_AN_HOUR_OF_AUTHOR = 60;
const TRIES_AN_HOUR_OF_DOMAIN = 30;
/** Maximum number of relays under one domain: with a wildcard in DNS any name under it may answer. */
const MAX_RELAYS_OF_DOMAIN = 2000;

const HOUR = 3600;
const DAY = 24 * HOUR;
/** Delay after the first, the second, … failed try, in seconds; after one more the name is dropped, in its second month. */
const NEXT_TRY_AFTER = [2 * HOUR, 8 * HOUR, DAY, 3 * DAY, 7 * DAY, 14 * DAY, 28 * DAY];
/** Key of the advisory lock under which candidates are chosen: two finders must not spend one budget twice. */
const BUDGET_LOCK = 7_203_915_518;
/** A try further ahead than the longest delay was scheduled while the clock was wrong. */
const IS_DUE = `(n.next_try_at <= ${NOW}
                 or n.next_try_at > ${NOW} + ${1.5 * Math.max(...NEXT_TRY_AFTER)})`;

/** A name that is to be tried now. */
export interface Candidate extends Pick<RelayAddress, 'network'> {
  readonly nameId: number;
  /** As stored: parsed again before it is used. */
  readonly url: string;
  /** Fencing token of the claim under which it is tried; absent if none is needed. */
  readonly token?: number;
}

/** The process that tries candidates, and how long its claims last unless they are renewed. */
export interface CandidateHolder {
  readonly holder: string;
  readonly leaseSeconds: number;
}

/**
 * Claims candidates that are due, within the hourly budgets. Authors take turns; each try is charged to the author whose
 * turn it is, so that no author can use up the budget of another. A candidate is due again after its try, or when the
 * lease of its claim has ended.
 *
 * @param query of a transaction
 */
export async function claimCandidates(
  query: Query,
  limit: number,
  networks: readonly Network[],
  { holder, leaseSeconds }: CandidateHolder,
): Promise<Candidate[]> {
  await query('select pg_advisory_xact_lock($1)', [BUDGET_LOCK]);
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
             and not ${isHeldByOthers('try', 'n.name_id', 'null')}
     ), charged as (
         select distinct on (name_id) * from turns
         where turn <= $3 or author = '' order by name_id, turn, author
     ), allowed as (
         select c.*, coalesce(d.spent, 0) + row_number() over (partition by c.domain order by c.turn, c.name_id) as place
         from charged c left join of_domain d on d.domain = c.domain
     ), chosen as (
         select name_id, author from allowed where place <= $4 order by turn, name_id
         limit greatest(0, least($1, $5 - (select count(*) from tried)))
     ), claimed as (
         select t.relay_id as name_id, t.token
         from take_claims('try', array(select name_id from chosen), $8, $6) t
     )
     update named_relays n
     set last_try_at = ${NOW}, charged_to = c.author
     from chosen c
     join claimed on claimed.name_id = c.name_id
     where n.name_id = c.name_id
     returning n.name_id as "nameId", n.url, n.network, claimed.token`,
    [
      limit,
      networks,
      TRIES_AN_HOUR_OF_AUTHOR,
      TRIES_AN_HOUR_OF_DOMAIN,
      TRIES_AN_HOUR,
      leaseSeconds,
      MAX_RELAYS_OF_DOMAIN,
      holder,
    ],
  );
  return rows;
}

type Asked = Pick<Candidate, 'nameId' | 'token'>;

/** Adds a candidate that has answered as a relay. @returns whether the relay is new. @throws ClaimLost */
export async function promoteCandidate(query: Query, { nameId, token }: Asked): Promise<boolean> {
  const { rows } = await query<{ held: boolean; is_new: boolean | null }>(
    `with claim as materialized (
         select holds_claim('try', $1, $2) as held
     ), answered as (
         update named_relays
         set next_try_at = null, dropped_at = null, reason = null, tries = tries + 1,
             answered_at = ${NOW}
         where name_id = $1 and answered_at is null and (select held from claim)
         returning url, network
     )
     select held, (select insert_relay(url, network) from answered) as is_new from claim`,
    [nameId, token ?? null],
  );
  if (!rows[0]?.held) throw new ClaimLost('try', nameId);
  return rows[0].is_new ?? false;
}

/**
 * Postpones a candidate that has not answered, with back-off and a jitter of a quarter; the eighth time it is dropped.
 *
 * @param atLeast the `Retry-After` of the server, in seconds
 * @throws ClaimLost
 */
export async function putOffCandidate(
  query: Query,
  { nameId, token }: Asked,
  reason: string,
  atLeast: number | null = null,
): Promise<void> {
  const { rows } = await query<{ held: boolean }>(
    `with claim as materialized (
         select holds_claim('try', $1, $5) as held
     ), put_off as (
         update named_relays
         set tries = tries + 1, reason = $2,
             next_try_at = ${NOW} + case when tries < cardinality($3::bigint[])
                 then greatest(($3::bigint[])[tries + 1] * (0.75 + random() / 2), $4) end,
             dropped_at = case when tries >= cardinality($3::bigint[]) then ${NOW} end
         where name_id = $1 and next_try_at is not null and (select held from claim)
     )
     select held from claim`,
    [nameId, reason, NEXT_TRY_AFTER, atLeast ?? 0, token ?? null],
  );
  if (!rows[0]?.held) throw new ClaimLost('try', nameId);
}

/**
 * Ends the tries of candidates that became relays in another way, and deletes names beyond the bounds.
 * @returns how many were deleted
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
