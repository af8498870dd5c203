import type { Query } from '../database/connection.ts';
import {
  daysChangedSince,
  eventsOfDay,
  observationsOfDay,
  type Snapshot,
  setAsideOfDay,
} from '../database/dataset-events.ts';
import type { EventSelection } from '../database/event-keys.ts';
import { type NostrEvent, storageObstacle } from '../nostr/event.ts';
import { matchesFilter } from '../nostr/filter.ts';
import type { ExportOptions } from './export-options.ts';
import { areThere, type ExportedMonth, type ExportState } from './export-state.ts';
import { createEventWriter, createObservationWriter } from './formats.ts';
import type { ExportPolicy, LeftOutCounts } from './policy.ts';
import type { Progress } from './progress.ts';

/** What the months of an export have in common. */
export interface Exporting {
  readonly query: Query;
  readonly options: ExportOptions;
  readonly selection: EventSelection;
  readonly policy: ExportPolicy;
  readonly snapshot: Snapshot;
  /** Days with observations that were imported. */
  readonly withImported: ReadonlySet<number>;
  /** Days with events in quarantine. */
  readonly withAside: ReadonlySet<number>;
  readonly progress: Progress;
}

/**
 * The months whose files show the archive as it is now. Others have to be written again.
 * @returns `unknown`: months that may have changed, because the journal does not reach back to their snapshot
 */
export async function unchangedMonths(
  { query, options, policy }: Exporting,
  months: ReadonlyMap<string, readonly number[]>,
  state: ExportState,
): Promise<{ readonly same: Set<string>; readonly unknown: number }> {
  const bySnapshot = new Map<string, Set<number> | null>();
  const same = new Set<string>();
  let unknown = 0;
  for (const [name, days] of months) {
    const written = state.months[name];
    if (!written || written.policy !== policy.digest || !areThere(options.folder, written.files))
      continue;
    const key = `${written.snapshot.cluster} ${written.snapshot.snapshot}`;
    const known = bySnapshot.get(key);
    const changed = known === undefined ? await daysChangedSince(query, written.snapshot) : known;
    bySnapshot.set(key, changed);
    if (changed === null) unknown += 1;
    else if (!days.some((day) => changed.has(day))) same.add(name);
  }
  return { same, unknown };
}

/** Writes the events and the observations of a month. */
export async function exportMonth(
  exporting: Exporting,
  month: string,
  days: readonly number[],
): Promise<ExportedMonth> {
  const { options, policy, snapshot } = exporting;
  const leftOut: LeftOutCounts = { deleted: 0, vanished: 0, excluded_authors: 0 };
  const writer = createEventWriter(options, month);
  let quarantined = 0;
  try {
    for (const day of days)
      for await (const chunk of eventsInOrder(exporting, day)) {
        const kept: NostrEvent[] = [];
        for (const event of chunk) {
          const reason = policy.leavesOut(event);
          if (reason !== null) leftOut[reason] += 1;
          else kept.push(event);
        }
        quarantined += kept.filter((event) => storageObstacle(event) !== null).length;
        await writer.add(kept);
        exporting.progress.add(chunk.length);
      }
    const files = await writer.finish();
    if (options.observations) files.push(...(await exportObservations(exporting, month, days)));
    const { cluster, oldest } = snapshot;
    const shown = { cluster, snapshot: snapshot.snapshot, oldest };
    return { snapshot: shown, policy: policy.digest, files, quarantined, leftOut };
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

async function exportObservations(
  { query, options, selection, policy, withImported }: Exporting,
  month: string,
  days: readonly number[],
) {
  const writer = createObservationWriter(options, month);
  try {
    for (const day of days)
      for await (const chunk of observationsOfDay(query, day, selection, withImported.has(day)))
        await writer.add(chunk.filter((sighted) => policy.leavesOut(sighted) === null));
    return await writer.finish();
  } catch (error) {
    await writer.abandon();
    throw error;
  }
}

/** The selected events of a day, those in quarantine among them. */
async function* eventsInOrder(
  { query, options, selection, withAside }: Exporting,
  day: number,
): AsyncGenerator<NostrEvent[]> {
  if (!withAside.has(day)) {
    yield* eventsOfDay(query, day, selection);
    return;
  }
  const aside = setAsideOfDay(query, day);
  const nextAside = async (): Promise<NostrEvent | null> => {
    for (;;) {
      const { value, done } = await aside.next();
      if (done) return null;
      if (isSelected(value, options)) return value;
    }
  };
  let waiting = await nextAside();
  for await (const events of eventsOfDay(query, day, selection)) {
    if (waiting === null) yield events;
    else {
      const merged: NostrEvent[] = [];
      for (const event of events) {
        for (; waiting !== null && isBefore(waiting, event); waiting = await nextAside())
          merged.push(waiting);
        if (waiting?.id === event.id) waiting = await nextAside();
        merged.push(event);
      }
      yield merged;
    }
  }
  for (; waiting !== null; waiting = await nextAside()) yield [waiting];
}

function isBefore(a: NostrEvent, b: NostrEvent): boolean {
  return a.created_at < b.created_at || (a.created_at === b.created_at && a.id < b.id);
}

function isSelected(event: NostrEvent, { filter, since, until }: ExportOptions): boolean {
  if (since !== null && event.created_at < since) return false;
  if (until !== null && event.created_at >= until) return false;
  return matchesFilter(event, filter);
}
