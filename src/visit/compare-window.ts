import type { WithheldOf } from '../bigbrotr/withheld.ts';
import type { Window } from '../nostr/filter.ts';
import { frameSizeFor } from '../relay/frame-size.ts';
import { type LocalSet, LocalSetBuilder } from '../relay/local-set.ts';
import { type ReconcileLimits, type Reconciliation, reconcileWindow } from '../relay/reconcile.ts';
import type { Visit } from './visit.ts';
import { settleWithheld } from './withheld-times.ts';

/** Ids of ours in one window: 40 bytes each. A window with more is halved. */
const MAX_LOCAL_IDS = 250_000;
/** Ids taken from a relay at once: these are fetched, then the window is compared again. */
const MAX_NEEDED_IDS = 50_000;
const MAX_ROUNDS = 500;
const MAX_BYTES = 64 * 1024 * 1024;

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
 * Compares what this relay is known to hold in a window, or to withhold, with what it says it holds (NIP-77).
 *
 * @returns null when more is known than one comparison takes
 * @throws DatabaseError
 */
export async function compareWindow(visit: Visit, window: Window): Promise<Comparison | null> {
  const local = await localSet(visit, window);
  if (!local) return null;
  await visit.pace();
  const { context, session, terms } = visit;
  const { idleTimeoutMs, totalTimeoutMs } = visit.limits;
  const limits: ReconcileLimits = {
    idleTimeoutMs,
    totalTimeoutMs,
    maxRounds: MAX_ROUNDS,
    maxNeed: MAX_NEEDED_IDS,
    maxBytes: MAX_BYTES,
    frameSizeLimit: frameSizeFor(terms.limitation?.max_message_length ?? null),
  };
  const { connection } = session;
  const result = await reconcileWindow(
    connection,
    context.filter,
    window,
    local,
    limits,
    context.signal,
  );
  const { withheld } = context.bigbrotr;
  const known = await withheld.among(withheldOf(visit), result.need);
  const settled = settleWithheld(result, local, window, known);
  await withheld.place(withheldOf(visit), settled.placed);
  return { ...result, ...settled, window, local };
}

async function localSet(visit: Visit, window: Window): Promise<LocalSet | null> {
  const { bigbrotr, filter } = visit.context;
  const builder = new LocalSetBuilder(MAX_LOCAL_IDS);
  for await (const records of bigbrotr.sightedRecords(visit.relay, filter, window)) {
    if (!builder.addRecords(records)) return null;
  }
  for await (const rows of bigbrotr.withheld.in(withheldOf(visit), window)) {
    for (const row of rows) {
      const middle = Math.floor((row.since + row.until) / 2);
      const isInside = middle >= window.since && middle <= window.until;
      if (isInside && !builder.addUnplaced(row)) return null;
    }
  }
  return builder.build(window.since);
}
