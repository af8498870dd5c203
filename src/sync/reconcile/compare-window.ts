import type { WithheldOf } from '../../database/withheld.ts';
import { frameSizeFor } from '../../nip77/frame-size.ts';
import { type LocalSet, LocalSetBuilder, middleOf, type Unplaced } from '../../nip77/local-set.ts';
import {
  type ReconcileLimits,
  type Reconciliation,
  reconcileWindow,
} from '../../nip77/reconcile.ts';
import type { EventFilter } from '../../nostr/filter.ts';
import type { Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import { settleWithheld } from './withheld-times.ts';

/** Maximum number of local ids in one window: 40 bytes each. A window with more is divided. */
export const MAX_LOCAL_IDS = 250_000;
/** Maximum number of ids accepted from a relay at once: these are fetched, then the window is compared again. */
const MAX_NEEDED_IDS = 50_000;
const MAX_ROUNDS = 500;
/** Characters received in one session. */
export const MAX_BYTES = 64 * 1024 * 1024;

/** A reconciliation in which withheld events count as held: neither `need` nor `have` has any. */
export interface Comparison extends Reconciliation {
  readonly window: Window;
  readonly local: LocalSet;
  /** Withheld ids that the relay did not list, though they lie in this window. */
  readonly gone: readonly string[];
}

/** The key of what this relay withholds. */
export function withheldOf({ relay, context }: Visit): WithheldOf {
  return { relay, filterId: context.filterId };
}

/**
 * Compares the events of a window that this relay is known to hold, or to withhold, with those that it lists (NIP-77).
 *
 * @returns null when the local set is larger than `maxLocalIds`
 * @throws DatabaseError
 */
export async function compareWindow(visit: Visit, window: Window): Promise<Comparison | null> {
  const local = await localSet(visit, window);
  if (!local) return null;
  const { context } = visit;
  const result = await listWindow(visit, context.filter, local, {
    window,
    maxNeed: MAX_NEEDED_IDS,
  });
  const { withheld } = context.bigbrotr;
  const known = await withheld.among(withheldOf(visit), result.need);
  const settled = settleWithheld(result, local, window, known);
  await withheld.place(withheldOf(visit), settled.placed);
  return { ...result, ...settled, window, local };
}

/**
 * Compares a local set with what the relay lists for a filter in a window (NIP-77), at the pace and within the limits
 * of the visit. `maxNeed` bounds the ids taken from the relay at once.
 */
export async function listWindow(
  visit: Visit,
  filter: EventFilter,
  local: LocalSet,
  { window, maxNeed }: { readonly window: Window; readonly maxNeed: number },
): Promise<Reconciliation> {
  await visit.pace();
  const { context, session, terms } = visit;
  const { idleTimeoutMs, totalTimeoutMs } = visit.limits;
  const limits: ReconcileLimits = {
    ...{ idleTimeoutMs, totalTimeoutMs, maxNeed, maxRounds: MAX_ROUNDS, maxBytes: MAX_BYTES },
    frameSizeLimit: frameSizeFor(terms.limitation?.max_message_length ?? null),
  };
  return reconcileWindow(session.connection, filter, window, local, limits, context.signal);
}

async function localSet(visit: Visit, window: Window): Promise<LocalSet | null> {
  const { bigbrotr, filter } = visit.context;
  const builder = new LocalSetBuilder(maxLocalIds(visit));
  for await (const records of bigbrotr.sightedRecords(visit.relay, filter, window)) {
    if (!builder.addRecords(records)) return null;
  }
  for await (const rows of bigbrotr.withheld.in(withheldOf(visit), window)) {
    for (const row of rows) {
      if (isPlacedIn(window, row) && !builder.addUnplaced(row)) return null;
    }
  }
  return builder.build(window.since);
}

/** Maximum number of local ids that are in memory at a time. */
export function maxLocalIds({ context }: Visit): number {
  return context.maxLocalIds ?? MAX_LOCAL_IDS;
}

/** Whether a withheld id counts as one of this window: by the middle of the stretch in which it may lie. */
export function isPlacedIn({ since, until }: Window, unplaced: Unplaced): boolean {
  const middle = middleOf(unplaced);
  return middle >= since && middle <= until;
}
