import type { SubscriptionLimits } from '../relay-client/subscription.ts';

/** Longest time for one page: 10 times `requestTimeoutMs`, at most a quarter of the visit. */
const PAGE_TIMEOUTS = 10;
const PAGES_A_VISIT = 4;
/** Bounds of one page, for relays that ignore `limit`. */
const MAX_PAGE_EVENTS = 20_000;
const MAX_PAGE_BYTES = 64 * 1024 * 1024;

/** How long one answer may take and how large it may be. @param leftMs what is left of the visit, in milliseconds */
export function answerLimits(
  { requestTimeoutMs, visitMs }: { readonly requestTimeoutMs: number; readonly visitMs: number },
  leftMs: number,
): SubscriptionLimits {
  const longest = Math.min(requestTimeoutMs * PAGE_TIMEOUTS, visitMs / PAGES_A_VISIT);
  return {
    idleTimeoutMs: requestTimeoutMs,
    totalTimeoutMs: Math.max(Math.min(longest, leftMs), requestTimeoutMs),
    maxEvents: MAX_PAGE_EVENTS,
    maxBytes: MAX_PAGE_BYTES,
  };
}
