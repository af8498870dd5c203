import type { Window } from '../nostr/filter.ts';
import { type LocalSet, LocalSetBuilder } from '../relay/local-set.ts';
import {
  frameSizeFor,
  type ReconcileLimits,
  type Reconciliation,
  reconcileWindow,
} from '../relay/reconcile.ts';
import type { Visit } from './visit.ts';

/** Ids of ours in one window: 40 bytes each. A window with more is halved. */
const MAX_LOCAL_IDS = 250_000;
/** Ids taken from a relay for one window; with more it is halved. */
const MAX_NEEDED_IDS = 50_000;
const MAX_ROUNDS = 500;
const MAX_BYTES = 64 * 1024 * 1024;

/**
 * Compares what this relay is known to hold in a window with what it says it holds (NIP-77).
 *
 * @returns null when more is known than one comparison takes
 * @throws DatabaseError
 */
export async function compareWindow(visit: Visit, window: Window): Promise<Reconciliation | null> {
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
  return reconcileWindow(session.connection, context.filter, window, local, limits, context.signal);
}

async function localSet({ context, relay }: Visit, window: Window): Promise<LocalSet | null> {
  const builder = new LocalSetBuilder(MAX_LOCAL_IDS);
  for await (const records of context.bigbrotr.sightedRecords(relay, context.filter, window)) {
    if (!builder.addRecords(records)) return null;
  }
  return builder.build(window.since);
}
