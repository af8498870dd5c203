import type { Withheld } from '../../database/withheld.ts';
import { LocalSetBuilder } from '../../nip77/local-set.ts';
import type { Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import { boundsOf } from '../windows.ts';
import { type Comparison, listWindow, MAX_LOCAL_IDS, withheldOf } from './compare-window.ts';
import { fetchListed } from './fetch-listed.ts';
import { canReconcile } from './read-reconciled.ts';

/** Fewer withheld events of unknown kind show no pattern. */
const LEAST_EVENTS = 20;
/** Kinds that relays list and serve only to sender and recipient: messages (NIP-04, NIP-59, NIP-EE). */
const PRIVATE_KINDS = [4, 1059, 445, 1060];
/** Number of listed ids that are looked up in the archive to check whether the relay applies `kinds`. */
const LOOKED_UP = 500;

/**
 * Requests withheld events that are due once more. Of a kind that is known to be withheld only a sample is requested:
 * while the relay serves none of it, all events of that kind count as requested. If many events of unknown kind were
 * requested without success, the relay is asked by NIP-77 which of them are of the kinds that are usually withheld.
 *
 * @param retry requests those that are due
 * @throws DatabaseError
 */
export async function retryByKind(visit: Visit, retry: () => Promise<void>): Promise<void> {
  const { withheld, withheldKinds } = visit.context.bigbrotr;
  const key = withheldOf(visit);
  if (!visit.terms.isWithholding && visit.nip77.notServed.size === 0) return;
  const samples = await withheldKinds.samples(key, visit.isAuthenticated);
  await retry();
  for (const [kind, ids] of samples) {
    const left = await withheld.among(key, ids);
    if (left.length < ids.length) await withheldKinds.forgetKind(key, kind);
    else if (ids.every((id) => visit.nip77.notServed.has(id)))
      await withheldKinds.noteAll(key, kind, visit.isAuthenticated);
  }
  const unknown = await withheldKinds.withoutKind(key, [...visit.nip77.notServed]);
  if (unknown.length >= LEAST_EVENTS) await findKinds(visit, unknown);
}

async function findKinds(visit: Visit, unknown: readonly Withheld[]): Promise<void> {
  const { context } = visit;
  const window = boundsOf(unknown);
  if (!window) return;
  const left = new Set(unknown.map(({ id }) => id));
  for (const kind of PRIVATE_KINDS) {
    if (context.filter.kinds?.includes(kind) === false) continue;
    if (left.size === 0 || visit.interruption() !== null || !canReconcile(visit)) return;
    const list = await listKind(visit, kind, window);
    const ids = list?.need.filter((id) => left.has(id)) ?? [];
    if (list) await fetchNew(visit, list);
    if (ids.length === 0) continue;
    await context.bigbrotr.withheldKinds.setKind(withheldOf(visit), kind, ids);
    for (const id of ids) left.delete(id);
  }
}

/** Fetches listed ids that are neither archived nor withheld: the relay has received them meanwhile. */
async function fetchNew(visit: Visit, list: Comparison): Promise<void> {
  const { withheld } = visit.context.bigbrotr;
  const known = await withheld.among(withheldOf(visit), list.need);
  const ids = new Set(known.map(({ id }) => id));
  await fetchListed(visit, { ...list, need: list.need.filter((id) => !ids.has(id)) }, false);
}

/** The ids that the relay lists for a kind, except those that it has shown; null if it ignores the kind. */
async function listKind(visit: Visit, kind: number, window: Window): Promise<Comparison | null> {
  const { context, relay } = visit;
  const filter = { ...context.filter, kinds: [kind] };
  const builder = new LocalSetBuilder(MAX_LOCAL_IDS);
  for await (const records of context.bigbrotr.sightedRecords(relay, filter, window))
    if (!builder.addRecords(records)) return null;
  const local = builder.build(window.since);
  const list = await listWindow(visit, filter, local, { window, maxNeed: MAX_LOCAL_IDS });
  const archived = await context.bigbrotr.archivedIds(list.need.slice(0, LOOKED_UP));
  return archived.size > 0 ? null : { ...list, window, local, gone: [] };
}
