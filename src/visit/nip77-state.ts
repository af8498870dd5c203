/** What a visit has learnt of the NIP-77 of its relay. */
export class Nip77State {
  /** Most ids that the relay has listed at once; infinite when it says by itself what is too much. */
  longestList = 0;
  /** Windows that the relay called too large, in all and without one that it took between them. */
  blocked = 0;
  blockedInARow = 0;
  /** Whether NIP-42 was tried for it. */
  hasTriedAuthentication = false;
  /** Whether it has served an event by its id. */
  hasServed = false;
  /** Withheld ids that this visit has asked for. */
  readonly askedInVain = new Set<string>();
  /** REQs by ids that were refused. */
  refusedRequests = 0;
}
