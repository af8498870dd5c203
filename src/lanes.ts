/**
 * Which relay a free slot of a synchronizer takes, of those that are due.
 *
 * A relay stands in one of three lanes (`Lane`): *caught up* (nothing is missing below the newest second that is proven),
 * *new* (never visited) or *behind* (visited, and not read to its end). Visits of the first take seconds, those of the
 * other two, the backlog, up to two minutes each. The end of a visit leads from one lane to another.
 *
 * 1. A free slot takes the caught-up relay that is most overdue.
 * 2. While backlog is due, a quarter of the slots (at least one) is closed to caught-up relays. A single slot is shared by
 *    time: after a visit of the backlog, caught-up relays have it for three times as long.
 * 3. The backlog takes every slot that caught-up relays leave free, new relays and those behind by turns; of those behind
 *    the one that was visited longest ago.
 *
 * Guaranteed: neither lane starves another, even when one alone could fill all slots; and no slot is idle while a relay
 * is due that it could take.
 */
import type { Lane } from './bigbrotr.ts';

/** The part of the slots that backlog has to itself while any is due. */
const BACKLOG_SHARE = 0.25;
/** With one slot: time of caught-up relays for each of backlog. */
const CAUGHT_UP_TIMES = 3;
/** What a visit of backlog is taken to last before there was one, in milliseconds. */
const FIRST_BACKLOG_MS = 30_000;

interface InLane {
  readonly lane: Lane;
}

/** Chooses by the rules above. */
export class Lanes {
  readonly #slots: number;
  #backlogTurn: 'new' | 'behind' = 'new';
  /** For a single slot: how long the latest visit of backlog took, and those of caught-up relays since. */
  #backlogMs = FIRST_BACKLOG_MS;
  #caughtUpMs = 0;

  /** @param slots visits at a time, of all workers together */
  constructor(slots: number) {
    this.#slots = slots;
  }

  /** @param due relays that a free slot could take, each lane in its order */
  choose<Due extends InLane>(due: readonly Due[], running: readonly InLane[]): Due | undefined {
    const caughtUp = due.find(({ lane }) => lane === 'caught_up');
    const backlog = this.#nextOfBacklog(due);
    if (caughtUp && (!backlog || this.#isOpenToCaughtUp(running))) return caughtUp;
    if (backlog) this.#backlogTurn = backlog.lane === 'new' ? 'behind' : 'new';
    return backlog;
  }

  /** Takes note of how long a visit took. */
  ended({ lane }: InLane, ms: number): void {
    if (lane === 'caught_up') this.#caughtUpMs += ms;
    else {
      this.#backlogMs = ms;
      this.#caughtUpMs = 0;
    }
  }

  #nextOfBacklog<Due extends InLane>(due: readonly Due[]): Due | undefined {
    return (
      due.find(({ lane }) => lane === this.#backlogTurn) ??
      due.find(({ lane }) => lane !== 'caught_up')
    );
  }

  #isOpenToCaughtUp(running: readonly InLane[]): boolean {
    if (this.#slots === 1) return this.#caughtUpMs < CAUGHT_UP_TIMES * this.#backlogMs;
    const kept = Math.max(1, Math.floor(this.#slots * BACKLOG_SHARE));
    return running.filter(({ lane }) => lane === 'caught_up').length < this.#slots - kept;
  }
}
