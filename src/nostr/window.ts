/** Windows of `created_at` in Unix seconds: requested, missing, or impossible to prove. Types only. */

/** A range of `created_at`, both ends inclusive, in seconds (like `since` and `until` of NIP-01). */
export interface Window {
  readonly since: number;
  readonly until: number;
}

/** A window to prove. */
export interface Gap extends Window {
  /** A second below it at which the relay is known to hold an event. */
  readonly anchor: number | null;
  /** A second inside it at which an earlier visit found an event. */
  readonly known?: number | null;
}

/**
 * Why a second stays unproven. `dense`: it holds as many events as a page may. `overflow`: more than are accepted.
 * `oversized`: an event above the size limit. `unreadable`: every request for it breaks off. `contradicted`: the relay has
 * sent an event of that second, and no longer does. `unanswered`: it lists events there (NIP-77) and does not answer a
 * request for them. `withheld`: it lists more events there than it serves, too many to be recorded one by one.
 */
export type HoleReason =
  | 'dense'
  | 'overflow'
  | 'oversized'
  | 'unreadable'
  | 'contradicted'
  | 'unanswered'
  | 'withheld';

/** A window that was requested and cannot be proven. */
export interface Hole extends Window {
  readonly reason: HoleReason;
  /** Events that the relay sent for it. */
  readonly count: number;
}
