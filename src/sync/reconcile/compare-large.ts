import { compareParts } from '../../nip77/compare-parts.ts';
import type { ReconcileEnd } from '../../nip77/session.ts';
import { type WindowPart, WindowSums } from '../../nip77/window-sums.ts';
import type { Gap, Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import { isPlacedIn, MAX_BYTES, maxLocalIds, withheldOf } from './compare-window.ts';

/** A window whose ids are too many to be held at once, compared by fingerprints of its parts. */
export interface LargeComparison {
  readonly end: ReconcileEnd;
  /** Number of ids that both hold; null where something differs. */
  readonly relayIds: number | null;
  /** The parts in which the relay has the same ids. */
  readonly same: readonly Window[];
  /** The parts in which it has others, to be compared one by one. */
  readonly different: readonly Gap[];
}

/**
 * Compares a window with what the relay lists (NIP-77) by one message of up to 64 fingerprints. Sightings are read once, and
 * none is kept: memory and traffic do not grow with the window.
 *
 * @returns null where the window cannot be divided
 * @throws DatabaseError
 */
export async function compareLarge(visit: Visit, gap: Gap): Promise<LargeComparison | null> {
  const window = { since: gap.anchor ?? gap.since, until: gap.until };
  const parts = await partsOf(visit, window);
  if (!parts) return null;
  await visit.pace();
  const { context, session } = visit;
  const { idleTimeoutMs, totalTimeoutMs } = visit.limits;
  const { end, differs } = await compareParts(
    session.connection,
    context.filter,
    window,
    parts,
    { idleTimeoutMs, totalTimeoutMs, maxBytes: MAX_BYTES },
    context.signal,
  );
  if (parts.length === 1 && differs[0]) return null;
  const stretches = parts.map(({ since }, at) => ({
    since: at === 0 ? gap.since : Math.max(since, gap.since),
    until: (parts[at + 1]?.since ?? gap.until + 1) - 1,
    anchor: at === 0 ? gap.anchor : null,
  }));
  const within = (isDifferent: boolean) =>
    stretches.filter(
      ({ since, until }, at) => since <= until && (differs[at] ?? true) === isDifferent,
    );
  const isSame = end.type === 'done' && !differs.includes(true);
  return {
    end,
    relayIds: isSame ? parts.reduce((sum, { ids }) => sum + ids, 0) : null,
    same: within(false).map(({ since, until }) => ({ since, until })),
    different: within(true),
  };
}

/** Fingerprints of what this relay is known to hold, or to withhold; null where too much has no place in the order of time. */
async function partsOf(visit: Visit, window: Window): Promise<WindowPart[] | null> {
  const { bigbrotr, filter } = visit.context;
  const sums = new WindowSums(window.since, maxLocalIds(visit));
  for await (const records of bigbrotr.sightedRecords(visit.relay, filter, window))
    if (!sums.addRecords(records)) return null;
  for await (const rows of bigbrotr.withheld.in(withheldOf(visit), window))
    for (const row of rows) if (isPlacedIn(window, row) && !sums.addUnplaced(row)) return null;
  return sums.build();
}
