/**
 * Chooses which of the due relays a free slot of a synchronizer takes.
 *
 * A relay is in one of three lanes (`Lane`): *caught up* (no gap below the newest proven second), *new* (never visited) or
 * *behind* (visited, with gaps left). Visits of caught-up relays take seconds, those of the other two, the backlog, up to
 * two minutes each. The end of a visit leads from one lane to another.
 *
 * 1. A free slot takes the caught-up relay that is most overdue.
 * 2. While backlog is due, a quarter of the slots (at least one) is reserved for it. A single slot is shared by time:
 *    after a visit of the backlog, caught-up relays have it for three times as long.
 * 3. The backlog takes every slot that caught-up relays leave free, alternating between new relays and relays that are
 *    behind, of which it takes the one that was visited longest ago.
 *
 * Guaranteed: neither caught-up relays nor the backlog starve the other, even when one alone could fill all slots; no slot
 * is idle while a relay is due that it could take.
 */
import type { Lane } from '../database/bigbrotr.ts';

/** The share of the slots reserved for the backlog while any of it is due. */
const BACKLOG_SHARE = 0.25;
/** With one slot: time for caught-up relays per time for the backlog. */
const CAUGHT_UP_TIMES = 3;
/** Assumed duration of a visit of the backlog until one was measured, in milliseconds. */
const FIRST_BACKLOG_MS = 30_000;

interface InLane {
  readonly lane: Lane;
}

/** Chooses by the rules above. */
export class Lanes {
  readonly #slots: number;
  #backlogTurn: 'new' | 'behind' = 'new';
  /** For a single slot: how long the latest visit of the backlog took, and those of caught-up relays since. */
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

  /** Notes how long a visit took. */
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
    const reserved = Math.max(1, Math.floor(this.#slots * BACKLOG_SHARE));
    return running.filter(({ lane }) => lane === 'caught_up').length < this.#slots - reserved;
  }
}
