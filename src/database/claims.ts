import { NOW, type Query } from './connection.ts';
import { type Relay, tokenOf } from './relays.ts';

/** Table `claims`: which process works on which relay, by leases and fencing tokens (docs/hosts.md). */

/** Kinds of work that are claimed: a visit of a synchronizer, a check of the monitor, a try of the finder, and its sources. */
export type ClaimedWork = 'visit' | 'check' | 'try' | 'sources';

/** A claim of this process. */
export interface Claim {
  readonly work: ClaimedWork;
  /** Key of the relay; of a try that of the name, of sources a hash of their URLs. */
  readonly key: number;
  /** Fencing token. */
  readonly token: number;
}

/** A relay to be claimed, as it stood when it was looked up; or sources of the finder, which have no latest time. */
export interface Claimable {
  readonly key: number;
  /** When its latest visit began, or its latest check was, Unix seconds; null: never. */
  readonly seenAt: number | null;
}

/** Another process holds the claim now: writes that rest on it were rejected. Not a failure of the relay. */
export class ClaimLost extends Error {
  override readonly name = 'ClaimLost';

  constructor(work: ClaimedWork, key: number) {
    super(`the claim for the ${work} of ${key} was lost: another process holds it`);
  }
}

/**
 * Ensures that a claim is held until the end of this transaction: a take-over waits for it.
 *
 * @param query of the transaction that writes what rests on the claim
 * @throws ClaimLost
 */
export async function requireClaim(
  query: Query,
  work: ClaimedWork,
  { relayId, token }: Pick<Relay, 'relayId' | 'token'>,
): Promise<void> {
  if (token === undefined) return;
  const { rows } = await query<{ held: boolean }>('select holds_claim($1, $2, $3) as held', [
    ...[work, relayId, token],
  ]);
  if (!rows[0]?.held) throw new ClaimLost(work, relayId);
}

/** In the SQL of `writeHeld`: whether the claim is held. */
export const IS_HELD = '(select held from claim)';

/**
 * Writes what rests on the claim for a visit, in one statement: nothing where another process holds it now.
 *
 * @param write a statement for the relay in $1, which writes where `IS_HELD`
 * @throws ClaimLost
 */
export async function writeHeld(
  query: Query,
  relay: Pick<Relay, 'relayId' | 'token'>,
  write: string,
  values: readonly unknown[],
): Promise<void> {
  const { rows } = await query<{ held: boolean }>(
    `with claim as materialized (
         select holds_claim('visit', $1, $${values.length + 2}) as held
     ), written as (${write})
     select held from claim`,
    [relay.relayId, ...values, tokenOf(relay)],
  );
  if (!rows[0]?.held) throw new ClaimLost('visit', relay.relayId);
}

/** SQL: whether a process other than `holder` works on the relay in `key`. */
export function isHeldByOthers(work: ClaimedWork, key: string, holder: string): string {
  return `exists (
             select from claims c
             where c.work = '${work}' and c.relay_id = ${key} and c.holder is distinct from ${holder} and is_lease_valid(c.until)
         )`;
}

/** SQL: when a relay in `key` was last visited with the filter $1, or last checked; null of sources. */
const LATEST = {
  visit: (key: string) =>
    `(select started_at from visits where relay_id = ${key} and filter_id = $1::integer)`,
  check: (key: string) =>
    `(select checked_at from relay_schedule where relay_id = ${key} and $1::integer is null)`,
  sources: () => '(select null::bigint where $1::integer is null)',
} as const;

/**
 * Claims relays for visits or checks, or sources, in one statement: those that no other process holds and that were not visited or
 * checked since they were looked up.
 *
 * @param filterId the filter of the visits; else null
 * @param leaseSeconds how long the claims last unless they are renewed
 * @returns the claims; the other relays are held, or were visited or checked meanwhile, by another process
 */
export async function takeClaims(
  query: Query,
  work: keyof typeof LATEST,
  filterId: number | null,
  wanted: readonly Claimable[],
  holder: string,
  leaseSeconds: number,
): Promise<Claim[]> {
  const { rows } = await query<{ key: number; token: number }>(
    `select relay_id as key, token
     from take_claims($2, array(
         select key from unnest($3::integer[], $4::bigint[]) w (key, seen_at)
         where ${LATEST[work]('w.key')} is not distinct from w.seen_at
     ), $5, $6)`,
    [
      filterId,
      work,
      wanted.map(({ key }) => key),
      wanted.map(({ seenAt }) => seenAt),
      holder,
      leaseSeconds,
    ],
  );
  return rows.map(({ key, token }) => ({ work, key, token }));
}

/** SQL: the claims in the columns $1, $2 and $3, and whether the claim `c` is one of them and was not taken over. */
const HELD_CLAIMS = 'unnest($1::text[], $2::integer[], $3::bigint[]) as held (work, key, token)';
const IS_SAME_CLAIM = 'c.work = held.work and c.relay_id = held.key and c.token = held.token';

/** Renews the leases of these claims. @returns those that are still held; the others have been taken over */
export async function renewClaims(
  query: Query,
  claims: readonly Claim[],
  leaseSeconds: number,
): Promise<Claim[]> {
  if (claims.length === 0) return [];
  const { rows } = await query<Claim & Record<string, unknown>>(
    `update claims c set until = ${NOW} + $4 from ${HELD_CLAIMS} where ${IS_SAME_CLAIM}
     returning c.work, c.relay_id as key, c.token`,
    [...columnsOf(claims), leaseSeconds],
  );
  return rows;
}

/** How claims are released: `ended` work is done; an `interrupted` visit is due at once, for any process. */
export interface Released {
  readonly ended: readonly Claim[];
  readonly interrupted: readonly Claim[];
}

/** Releases claims. Those that another process has taken over meanwhile are unchanged. */
export async function releaseClaims(query: Query, { ended, interrupted }: Released): Promise<void> {
  if (ended.length > 0)
    await query(
      `delete from claims c using ${HELD_CLAIMS} where ${IS_SAME_CLAIM}`,
      columnsOf(ended),
    );
  if (interrupted.length > 0)
    await query(
      `update claims c set until = ${NOW} - 1 from ${HELD_CLAIMS} where ${IS_SAME_CLAIM}`,
      columnsOf(interrupted),
    );
}

/** Holders with valid leases whose names begin with this. */
export async function holdersLike(query: Query, beginning: string): Promise<string[]> {
  const { rows } = await query<{ holder: string }>(
    'select distinct holder from claims where starts_with(holder, $1) and is_lease_valid(until)',
    [beginning],
  );
  return rows.map(({ holder }) => holder);
}

/** Ends the leases of dead processes: the relays that they visited or followed are due at once. */
export async function endLeasesOf(query: Query, holders: readonly string[]): Promise<void> {
  await query(
    `update claims set until = ${NOW} - 1 where holder = any ($1) and is_lease_valid(until)`,
    [holders],
  );
}

/** How long claims are kept after the end of their lease, in seconds: until then they make their relays due at once. */
const KEPT_SECONDS = 86_400;

/** Deletes claims whose lease ended long ago: of relays that are no longer worked on. @returns how many */
export async function forgetOldClaims(query: Query): Promise<number> {
  const { rowCount } = await query(`delete from claims where until < ${NOW} - $1`, [KEPT_SECONDS]);
  return rowCount ?? 0;
}

function columnsOf(claims: readonly Claim[]): [string[], number[], number[]] {
  return [
    claims.map(({ work }) => work),
    claims.map(({ key }) => key),
    claims.map(({ token }) => token),
  ];
}
