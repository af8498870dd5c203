/** The state of NIP-77 and of requests by ids in one visit. */
export class Nip77State {
  /** Most ids that the relay has listed at once; infinite when it refuses windows that are too large. */
  longestList = 0;
  /** Windows that the relay refused as too large: in all, and in a row. */
  blocked = 0;
  blockedInARow = 0;
  /** Most ids that the relay accepts in one REQ, if it refused more. */
  maxIds = Number.POSITIVE_INFINITY;
  /** Whether the relay has served an event by its id. */
  hasServed = false;
  /** Withheld ids that this visit has requested. */
  readonly notServed = new Set<string>();
  /** REQs by ids that were refused. */
  refusedRequests = 0;
  /** REQs by ids whose answer broke off, those of them without a known event for a check, and the time they took. */
  brokenAnswers = 0;
  brokenUnchecked = 0;
  brokenMs = 0;
  /** The slowest answer to a REQ by ids, in milliseconds. */
  slowestMs = 0;
}
