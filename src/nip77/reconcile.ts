import type { EventFilter } from '../nostr/filter.ts';
import type { Window } from '../nostr/window.ts';
import type { RelayConnection } from '../relay-client/connection.ts';
import { type NeededRun, NegentropyInitiator } from './initiator.ts';
import type { LocalSet } from './local-set.ts';
import { NegentropyError } from './message.ts';
import { failed, Nip77Session, type ReconcileEnd, type SessionLimits } from './session.ts';

export interface ReconcileLimits extends SessionLimits {
  /** Most answers. With frames of 60 KB one answer lists about 1,900 ids. */
  readonly maxRounds: number;
  /** Most needed ids; with more it ends `blocked`, with `isFull`. */
  readonly maxNeed: number;
  /** Bytes of a message to the relay, before hex encoding: see `frameSizeFor`. */
  readonly frameSizeLimit: number;
}

export interface Reconciliation {
  readonly end: ReconcileEnd;
  /** Ids, in hex, that the relay holds and the local set lacks. Their times are unknown until their events are fetched. */
  readonly need: string[];
  /** The needed ids in the order of the relay's lists, between edges with known times. */
  readonly runs: readonly NeededRun[];
  /** Positions in the local set of ids that the relay does not hold (any more). */
  readonly have: number[];
  /** Number of ids of the window that the relay claims to hold; null unless done. */
  readonly relayIds: number | null;
  /**
   * `created_at` of the oldest id that both hold; null when there is none, or unless done. No older id was listed, apart
   * from needed ones: a relay that serves an older event to a REQ has truncated its list silently.
   */
  readonly oldestShared: number | null;
  /** Number of answers of the relay. */
  readonly rounds: number;
  /** Characters of NIP-77 messages, in both directions. */
  readonly bytes: number;
}

/**
 * Finds the events of a window that only the relay holds, and those that only the local set holds (NIP-77). No event
 * bodies are sent. The session is always closed, however it ends. Never throws.
 *
 * The filter has no `limit`: that would truncate the relay's set, and strfry would not use its precomputed trees.
 */
export async function reconcileWindow(
  connection: RelayConnection,
  filter: EventFilter,
  window: Window,
  local: LocalSet,
  limits: ReconcileLimits,
  signal?: AbortSignal,
): Promise<Reconciliation> {
  const session = new Nip77Session(connection, limits, signal);
  const initiator = new NegentropyInitiator(local, limits);
  try {
    session.send('NEG-OPEN', windowFilter(filter, window), initiator.open());
    const end = await exchangeMessages(session, initiator, limits);
    const need = [...initiator.need];
    const { runs } = initiator;
    const have = [...initiator.have];
    const { rounds, bytes } = session;
    if (end.type !== 'done')
      return { end, need, runs, have, relayIds: null, oldestShared: null, rounds, bytes };
    const relayIds = local.size - have.length + need.length;
    const oldestShared = oldestExcept(local, initiator.have);
    return { end, need, runs, have, relayIds, oldestShared, rounds, bytes };
  } finally {
    session.close();
  }
}

/** `created_at` of the first record of the set that is not excluded and whose time is known. */
function oldestExcept(local: LocalSet, excluded: ReadonlySet<number>): number | null {
  for (let index = 0; index < local.size; index++) {
    if (!excluded.has(index) && !local.unplaced.has(index)) return local.createdAt(index);
  }
  return null;
}

/** The filter of a session: without `since` where the window begins with the first second. */
export function windowFilter(filter: EventFilter, { since, until }: Window) {
  return since > 0 ? { ...filter, since, until } : { ...filter, until };
}

async function exchangeMessages(
  session: Nip77Session,
  initiator: NegentropyInitiator,
  { maxRounds }: ReconcileLimits,
): Promise<ReconcileEnd> {
  for (;;) {
    const answer = await session.answer();
    if (typeof answer !== 'string') return answer;
    try {
      const next = initiator.accept(answer);
      if (next === null) return { type: 'done' };
      if (session.rounds >= maxRounds)
        return failed('too_many_rounds', `not reconciled after ${maxRounds} rounds`);
      session.send('NEG-MSG', next);
    } catch (error) {
      if (!(error instanceof NegentropyError)) throw error;
      return endOf(error);
    }
  }
}

function endOf({ fault, message }: NegentropyError): ReconcileEnd {
  if (fault === 'too_many') return { type: 'blocked', text: message, isFull: true };
  if (fault === 'garbage') return failed('garbage', message);
  return { type: 'unsupported', text: message };
}
