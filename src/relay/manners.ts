/**
 * How a relay is treated after what it said: pauses that grow while it refuses and end when it answers again,
 * a pace between requests, and what it was found not to do. Pure: kept by the database, so that it survives a restart.
 */
import type { ClientRefusal } from '../nostr/message.ts';

export interface Manners {
  /** Not visited before this, Unix seconds. */
  readonly notBefore: number;
  /** Why it pauses; null when it does not. */
  readonly reason: string | null;
  /** Refused or failed visits in a row. */
  readonly refusals: number;
  /** Least time from one REQ to the next, in milliseconds. */
  readonly paceMs: number;
  /** Largest `limit` that it is asked for, where it refused a larger one or did not get to the end of one. */
  readonly pageLimit: number | null;
  /** When a larger one did not work, Unix seconds; null when none was tried. */
  readonly pageLimitAt: number | null;
  /** NIP-77 is not tried before this, Unix seconds; null where nothing speaks against it. */
  readonly nip77NotBefore: number | null;
  /** Why it is not; null when it may be. */
  readonly nip77Reason: Nip77Obstacle | null;
  /** Most values in one list of a filter that it is asked with, where it refused more; null when it did not. */
  readonly maxFilterValues: number | null;
  /** When it last refused more, Unix seconds; null when it did not. */
  readonly maxFilterValuesAt: number | null;
}

export const NEW_RELAY: Manners = {
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

/** How a visit went, as far as manners are concerned. */
export type Reception = 'welcome' | 'failed' | ClientRefusal;

const MINUTE = 60;
const DAY = 24 * 60 * MINUTE;

/** First and longest pause for each reception, in seconds; each refusal in a row doubles it. */
const PAUSES: Record<Exclude<Reception, 'welcome'>, { first: number; longest: number }> = {
  rate_limited: { first: MINUTE, longest: 6 * 60 * MINUTE },
  failed: { first: 5 * MINUTE, longest: 2 * 60 * MINUTE }, // it may be our own line that was down
  auth_required: { first: DAY, longest: 30 * DAY },
  restricted: { first: DAY, longest: 30 * DAY },
  blocked: { first: DAY, longest: 30 * DAY },
};

/** No pause is longer, in seconds. */
export const LONGEST_PAUSE = Math.max(...Object.values(PAUSES).map(({ longest }) => longest));
const FIRST_PACE_MS = 500;
const SLOWEST_PACE_MS = 30_000;
/** After this a relay is tried with larger pages again. */
const LARGER_PAGE_SECONDS = DAY;
/** After this a filter is tried again that the relay refused for its shape: software and its settings are changed. */
const FILTER_ASK_AGAIN_SECONDS = 7 * DAY;
/** Why a relay is read without NIP-77 for a while, and for how long, in seconds: relays change their software and rules. */
const NIP77_DELAYS = {
  /** It does not do NIP-77, whatever its NIP-11 document says. */
  unsupported: 7 * DAY,
  /** Its lists lack events that it holds. */
  cut: 7 * DAY,
  /** It names more events that it does not serve than are remembered. */
  too_many_withheld: 7 * DAY,
  /** Every window is too large for it. */
  too_large: 7 * DAY,
  blocked: 7 * DAY,
  restricted: 7 * DAY,
  auth_required: DAY,
  /** An error, a timeout, garbage or a lost connection, which may have been chance. */
  failed: DAY,
  rate_limited: 60 * MINUTE,
} as const;

/** Why NIP-77 is not used with a relay. */
export type Nip77Obstacle = keyof typeof NIP77_DELAYS;

const LONGEST_NIP77_DELAY = Math.max(...Object.values(NIP77_DELAYS));

/**
 * Whether a larger page may be tried than was found to work, so that a bad day is not for ever; nor is one far in the
 * future, when the clock was wrong. @param now Unix seconds
 */
export function mayAskForMore({ pageLimit, pageLimitAt }: Manners, now: number): boolean {
  return pageLimit !== null && Math.abs(now - (pageLimitAt ?? 0)) > LARGER_PAGE_SECONDS;
}

/**
 * The manners after a visit.
 *
 * @param now Unix seconds
 * @param atLeast the pause that the relay asked for (`Retry-After`), in seconds
 */
export function afterVisit(
  manners: Manners,
  reception: Reception,
  now: number,
  atLeast: number | null = null,
): Manners {
  if (reception === 'welcome') {
    const paceMs = Math.floor(manners.paceMs * 0.8);
    return {
      ...manners,
      notBefore: 0,
      reason: null,
      refusals: 0,
      paceMs: paceMs < FIRST_PACE_MS / 4 ? 0 : paceMs,
    };
  }
  const { first, longest } = PAUSES[reception];
  const usual = Math.min(first * 2 ** Math.min(manners.refusals, 20), longest);
  const pause = Math.max(usual, atLeast ?? 0);
  const slower = Math.min(Math.max(manners.paceMs * 2, FIRST_PACE_MS), SLOWEST_PACE_MS);
  return {
    ...manners,
    notBefore: now + pause,
    reason: reception,
    refusals: manners.refusals + 1,
    paceMs: reception === 'rate_limited' ? slower : manners.paceMs,
  };
}

/**
 * Whether NIP-77 may be tried on a relay that claims it. A time to try again that lies further ahead than any delay was
 * noted while the clock was wrong, and counts as none. @param now Unix seconds
 */
export function mayReconcile({ nip77NotBefore }: Manners, now: number): boolean {
  if (nip77NotBefore === null || now >= nip77NotBefore) return true;
  return nip77NotBefore > now + LONGEST_NIP77_DELAY;
}

/** The manners of a relay that is read without NIP-77 for a while. @param now Unix seconds */
export function withoutNip77(manners: Manners, why: Nip77Obstacle, now: number): Manners {
  return { ...manners, nip77NotBefore: now + NIP77_DELAYS[why], nip77Reason: why };
}

/** The manners after a successful authentication (NIP-42): NIP-77 may be tried where it was refused for want of it. */
export function afterAuthentication(manners: Manners): Manners {
  const { nip77Reason } = manners;
  if (nip77Reason !== 'auth_required' && nip77Reason !== 'restricted') return manners;
  return { ...manners, nip77NotBefore: null, nip77Reason: null };
}

/** The manners alone, of a row that has more. */
export function mannersOf(row: Manners): Manners {
  const { notBefore, reason, refusals, paceMs, pageLimit, pageLimitAt } = row;
  const { nip77NotBefore, nip77Reason, maxFilterValues, maxFilterValuesAt } = row;
  return {
    ...{ notBefore, reason, refusals, paceMs, pageLimit, pageLimitAt },
    ...{ nip77NotBefore, nip77Reason, maxFilterValues, maxFilterValuesAt },
  };
}

/** Whether a filter that a relay refused at `refusedAt` is tried again, also when that is far to come. @param now Unix seconds */
export function mayAskFilterAgain(refusedAt: number, now: number): boolean {
  return Math.abs(now - refusedAt) > FILTER_ASK_AGAIN_SECONDS;
}

/** The manners at the begin of a visit: what was learnt of the length of lists holds for a week. @param now Unix seconds */
export function withFreshFilterValues(manners: Manners, now: number): Manners {
  const { maxFilterValues, maxFilterValuesAt } = manners;
  if (maxFilterValues === null || !mayAskFilterAgain(maxFilterValuesAt ?? 0, now)) return manners;
  return { ...manners, maxFilterValues: null, maxFilterValuesAt: null };
}
