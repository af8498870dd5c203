/**
 * How a relay is treated after earlier visits: pauses that double while it refuses and end when it answers again, a pace
 * between requests, and features that it does not support. Pure; the database stores it across restarts.
 */
import type { ClientRefusal } from '../nostr/message.ts';

export interface RelayPolicy {
  /** Not visited before this, Unix seconds. */
  readonly notBefore: number;
  /** Why it is paused; null when it is not. */
  readonly reason: string | null;
  /** Refused or failed visits in a row. */
  readonly refusals: number;
  /** Minimum time from one REQ to the next, in milliseconds. */
  readonly paceMs: number;
  /** Largest `limit` of a REQ: the relay refused a larger one, or did not finish its page; null when none was learnt. */
  readonly pageLimit: number | null;
  /** When a larger limit last failed, Unix seconds; null when none was tried. */
  readonly pageLimitAt: number | null;
  /** NIP-77 is not tried before this, Unix seconds; null when it may be. */
  readonly nip77NotBefore: number | null;
  /** Why NIP-77 is not tried; null when it may be. */
  readonly nip77Reason: Nip77Obstacle | null;
  /** Maximum number of values in one list of a filter, learnt from a refusal; null when none was learnt. */
  readonly maxFilterValues: number | null;
  /** When the relay last refused more, Unix seconds; null when it did not. */
  readonly maxFilterValuesAt: number | null;
}

export const NEW_RELAY_POLICY: RelayPolicy = {
  notBefore: 0,
  reason: null,
  refusals: 0,
  paceMs: 0,
  pageLimit: null,
  pageLimitAt: null,
  nip77NotBefore: null,
  nip77Reason: null,
  maxFilterValues: null,
  maxFilterValuesAt: null,
};

const POLICY_FIELDS = Object.keys(NEW_RELAY_POLICY) as (keyof RelayPolicy)[];

export function isSamePolicy(a: RelayPolicy, b: RelayPolicy): boolean {
  return POLICY_FIELDS.every((field) => a[field] === b[field]);
}

/** How a visit ended, as far as the policy depends on it. */
export type VisitResult = 'ok' | 'failed' | ClientRefusal;

const MINUTE = 60;
const DAY = 24 * 60 * MINUTE;

/** First and maximum pause after each result, in seconds; each refusal in a row doubles it. */
const PAUSES: Record<Exclude<VisitResult, 'ok'>, { first: number; longest: number }> = {
  rate_limited: { first: MINUTE, longest: 6 * 60 * MINUTE },
  failed: { first: 5 * MINUTE, longest: 2 * 60 * MINUTE }, // possibly a failure of our own network
  auth_required: { first: DAY, longest: 30 * DAY },
  restricted: { first: DAY, longest: 30 * DAY },
  blocked: { first: DAY, longest: 30 * DAY },
};

/** The maximum of all pauses, in seconds. */
export const LONGEST_PAUSE = Math.max(...Object.values(PAUSES).map(({ longest }) => longest));
const FIRST_PACE_MS = 500;
const SLOWEST_PACE_MS = 30_000;
/** Larger pages are tried again after this, in seconds. */
const LARGER_PAGE_SECONDS = DAY;
/** A filter that the relay refused for its shape is tried again after this, in seconds: its software may have changed. */
const FILTER_RETRY_SECONDS = 7 * DAY;
/** Why a relay is read without NIP-77, and for how long, in seconds: its software and rules may change. */
const NIP77_DELAYS = {
  /** It does not support NIP-77, whatever its NIP-11 document claims. */
  unsupported: 7 * DAY,
  /** Its lists omit events that it holds. */
  cut: 7 * DAY,
  /** It withholds more events than can be recorded. */
  too_many_withheld: 7 * DAY,
  /** Every window is too large for it. */
  too_large: 7 * DAY,
  blocked: 7 * DAY,
  restricted: 7 * DAY,
  auth_required: DAY,
  /** An error, a timeout, garbage or a lost connection, which may be transient. */
  failed: DAY,
  rate_limited: 60 * MINUTE,
} as const;

/** Why NIP-77 is not used with a relay. */
export type Nip77Obstacle = keyof typeof NIP77_DELAYS;

const LONGEST_NIP77_DELAY = Math.max(...Object.values(NIP77_DELAYS));

/**
 * Whether a page larger than the learnt limit may be tried: a day after it was learnt, or if that time is far in the
 * future because the clock was wrong. @param now Unix seconds
 */
export function mayRaisePageLimit({ pageLimit, pageLimitAt }: RelayPolicy, now: number): boolean {
  return pageLimit !== null && Math.abs(now - (pageLimitAt ?? 0)) > LARGER_PAGE_SECONDS;
}

/**
 * The policy after a visit.
 *
 * @param now Unix seconds
 * @param atLeast the pause that the relay asked for (`Retry-After`), in seconds
 */
export function afterVisit(
  policy: RelayPolicy,
  result: VisitResult,
  now: number,
  atLeast: number | null = null,
): RelayPolicy {
  if (result === 'ok') {
    const paceMs = Math.floor(policy.paceMs * 0.8);
    return {
      ...policy,
      notBefore: 0,
      reason: null,
      refusals: 0,
      paceMs: paceMs < FIRST_PACE_MS / 4 ? 0 : paceMs,
    };
  }
  const { first, longest } = PAUSES[result];
  const usual = Math.min(first * 2 ** Math.min(policy.refusals, 20), longest);
  const pause = Math.max(usual, atLeast ?? 0);
  const slower = Math.min(Math.max(policy.paceMs * 2, FIRST_PACE_MS), SLOWEST_PACE_MS);
  return {
    ...policy,
    notBefore: now + pause,
    reason: result,
    refusals: policy.refusals + 1,
    paceMs: result === 'rate_limited' ? slower : policy.paceMs,
  };
}

/**
 * Whether NIP-77 may be tried on a relay that claims it. A retry time further ahead than any delay was stored while the
 * clock was wrong, and is ignored. @param now Unix seconds
 */
export function mayReconcile({ nip77NotBefore }: RelayPolicy, now: number): boolean {
  if (nip77NotBefore === null || now >= nip77NotBefore) return true;
  return nip77NotBefore > now + LONGEST_NIP77_DELAY;
}

/** The policy of a relay that is read without NIP-77 for some time. @param now Unix seconds */
export function withoutNip77(policy: RelayPolicy, why: Nip77Obstacle, now: number): RelayPolicy {
  return { ...policy, nip77NotBefore: now + NIP77_DELAYS[why], nip77Reason: why };
}

/** The policy after a successful authentication (NIP-42): NIP-77 may be tried again if it was refused for lack of it. */
export function afterAuthentication(policy: RelayPolicy): RelayPolicy {
  const { nip77Reason } = policy;
  if (nip77Reason !== 'auth_required' && nip77Reason !== 'restricted') return policy;
  return { ...policy, nip77NotBefore: null, nip77Reason: null };
}

/** Copies the members of the policy from a row that has more. */
export function policyOf(row: RelayPolicy): RelayPolicy {
  const { notBefore, reason, refusals, paceMs, pageLimit, pageLimitAt } = row;
  const { nip77NotBefore, nip77Reason, maxFilterValues, maxFilterValuesAt } = row;
  return {
    ...{ notBefore, reason, refusals, paceMs, pageLimit, pageLimitAt },
    ...{ nip77NotBefore, nip77Reason, maxFilterValues, maxFilterValuesAt },
  };
}

/**
 * Whether a filter that a relay refused at `refusedAt` may be tried again; also if that time is far in the future because
 * the clock was wrong. @param now Unix seconds
 */
export function mayRetryFilter(refusedAt: number, now: number): boolean {
  return Math.abs(now - refusedAt) > FILTER_RETRY_SECONDS;
}

/** The policy at the start of a visit: the learnt length of lists expires after a week. @param now Unix seconds */
export function withoutExpiredFilterLimit(policy: RelayPolicy, now: number): RelayPolicy {
  const { maxFilterValues, maxFilterValuesAt } = policy;
  if (maxFilterValues === null || !mayRetryFilter(maxFilterValuesAt ?? 0, now)) return policy;
  return { ...policy, maxFilterValues: null, maxFilterValuesAt: null };
}
