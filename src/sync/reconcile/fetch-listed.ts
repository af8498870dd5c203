import type { DueWithheld, Withheld, WithheldReason } from '../../database/withheld.ts';
import { withoutNip77 } from '../../network/relay-policy.ts';
import { ID_BYTES } from '../../nip77/local-set.ts';
import type { Window } from '../../nostr/window.ts';
import type { Visit } from '../visit.ts';
import { type Comparison, withheldOf } from './compare-window.ts';
import {
  chunks,
  type Fetched,
  fetchAlone,
  fetchByIds,
  IDS_A_REQ,
  newFetched,
  servesAny,
} from './fetch-ids.ts';
import { type ListedEvent, windowsOfListed } from './listed-ids.ts';
import { windowsOf } from './withheld-times.ts';

/** Maximum number of withheld ids stored for a relay: 40 bytes each in a comparison. */
const MAX_WITHHELD = 100_000;
/** Maximum number of withheld ids requested again in one visit, and of those that break off every answer. */
const MAX_RETRIED = 1000;
const MAX_RETRIED_ALONE = 5;
/** Number of known ids requested to check whether a relay serves events by id at all. */
const CONTROL_IDS = 3;
const DAY = 86_400;

/**
 * Fetches the events of a list that the archive lacks, also of a list that broke off. Listed events that are missing from
 * complete answers are stored as withheld. Listed events without an answer contradict every proof of the seconds in which
 * they may lie: what pages prove of these seconds is deferred until `settleListed`.
 *
 * Coverage of the seconds in which missing events may lie is taken back before the first of them is requested, so that a
 * crash leaves no false coverage. A finished reconciliation proves them again.
 *
 * @param isPaged whether the window was just read page by page, so that paging cannot find the missing events
 * @returns the windows of events that did not arrive and are not withheld
 * @throws DatabaseError
 */
export async function fetchListed(
  visit: Visit,
  list: Comparison,
  isPaged: boolean,
): Promise<Window[]> {
  const fetched = newFetched();
  const lacking = await noteArchived(visit, list.need, fetched);
  if (lacking.length === 0) return [];
  await retract(visit, windowsOf(list.runs, new Set(lacking), fetched.times, list.window));
  const wanted = lacking.filter((id) => !visit.listed.has(id));
  const known = async () => knownIds(list, 1)[0] ?? null;
  await fetchByIds(visit, wanted, fetched, known);
  const missing = new Set(lacking.filter((id) => !fetched.times.has(id)));
  if (missing.size === 0) return [];
  const events = windowsOf(list.runs, missing, fetched.times, list.window).map((event) => ({
    ...event,
    reason: fetched.withheld.get(event.id) ?? null,
  }));
  const isServed =
    fetched.withheld.size === 0 ||
    isPaged ||
    visit.nip77.hasServed ||
    (await servesKnownIds(visit, list));
  const isNoted = isServed && (await noteWithheld(visit, events));
  const lost = isNoted ? events.filter(({ reason }) => reason === null) : events;
  visit.listed.note(lost);
  return windowsOfListed(lost);
}

/** Takes back coverage of the seconds in which listed events may lie, of the wanted filter and of a part of it. */
async function retract(visit: Visit, events: readonly Withheld[]): Promise<void> {
  await visit.writer.flush();
  const { relay, context, wantedFilterId } = visit;
  for (const filterId of new Set([context.filterId, wantedFilterId]))
    for (const by of ['paging', 'nip77'] as const)
      await context.bigbrotr.retractCoverage(relay, filterId, by, windowsOfListed(events));
}

/** Requests withheld events that are due once more, and stores those that arrive. @throws DatabaseError */
export async function retryWithheld(visit: Visit): Promise<void> {
  const { withheld } = visit.context.bigbrotr;
  const key = withheldOf(visit);
  const due = (await withheld.due(key, visit.isAuthenticated, MAX_RETRIED)).filter(
    ({ id }) => !visit.nip77.notServed.has(id),
  );
  if (due.length === 0) return;
  const fetched = newFetched();
  const ids = due.map(({ id }) => id);
  const lacking = new Set(await noteArchived(visit, ids, fetched));
  const [alone, together] = partsOf(due.filter(({ id }) => lacking.has(id)));
  const known = () => anyKnownId(visit);
  await fetchByIds(visit, together, fetched, known);
  await fetchAlone(visit, alone.slice(0, MAX_RETRIED_ALONE), fetched, known);
  await visit.writer.flush();
  await withheld.forget(
    key,
    ids.filter((id) => fetched.times.has(id)),
  );
  await noteWithheld(
    visit,
    due.map((event) => ({ ...event, reason: fetched.withheld.get(event.id) ?? null })),
  );
}

/** Divides ids into those that broke off every answer when they were last requested, and the others. */
function partsOf(due: readonly DueWithheld[]): [alone: string[], together: string[]] {
  const isAlone = ({ reason }: DueWithheld) => reason === 'unreadable' || reason === 'oversized';
  return [
    due.filter(isAlone).map(({ id }) => id),
    due.filter((event) => !isAlone(event)).map(({ id }) => id),
  ];
}

/**
 * Stores the events that have a reason as withheld.
 *
 * @returns false if the relay withholds more than `MAX_WITHHELD`; NIP-77 then ends for it
 * @throws DatabaseError
 */
export async function noteWithheld(visit: Visit, events: readonly ListedEvent[]): Promise<boolean> {
  const { withheld } = visit.context.bigbrotr;
  const key = withheldOf(visit);
  const rows = events.filter(hasReason);
  if (rows.length === 0) return true;
  const known = await withheld.among(
    key,
    rows.map(({ id }) => id),
  );
  if ((await withheld.count(key)) + rows.length - known.length > MAX_WITHHELD) {
    const now = visit.context.now();
    visit.policy.update((policy) => withoutNip77(policy, 'too_many_withheld', now));
    return false;
  }
  await withheld.note(key, rows, visit.isAuthenticated);
  for (const { id } of rows) visit.nip77.notServed.add(id);
  return true;
}

function hasReason(event: ListedEvent): event is Withheld & { readonly reason: WithheldReason } {
  return event.reason !== null;
}

/** Stores sightings of the events that are already archived. @returns the ids of the others */
async function noteArchived(
  visit: Visit,
  listed: readonly string[],
  { times }: Fetched,
): Promise<string[]> {
  const unknown: string[] = [];
  for (const ids of chunks(listed, IDS_A_REQ)) {
    const archived = await visit.context.bigbrotr.archivedIds(ids);
    for (const id of ids) {
      const held = archived.get(id);
      if (held === undefined) unknown.push(id);
      else {
        times.set(id, held.createdAt);
        await visit.writer.addSighted(id, held.key);
      }
    }
  }
  return unknown;
}

/** Requests ids that the relay is known to hold: if it shows none of them, it does not serve events by id. */
async function servesKnownIds(visit: Visit, list: Comparison): Promise<boolean> {
  const known = knownIds(list, CONTROL_IDS);
  return known.length > 0 && (await servesAny(visit, known));
}

/** The newest ids that the relay lists and that the archive has seen on it. */
function knownIds({ local, have }: Comparison, most: number): string[] {
  const missing = new Set(have);
  const known: string[] = [];
  for (let position = local.size - 1; position >= 0 && known.length < most; position--) {
    if (!missing.has(position) && !local.unplaced.has(position)) known.push(local.id(position));
  }
  return known;
}

/** An event that was seen on the relay, a recent one where there is any: old ones may be gone. */
async function anyKnownId({ relay, context }: Visit): Promise<string | null> {
  const { bigbrotr, filter } = context;
  const until = context.now();
  for (const since of [until - DAY, until - 30 * DAY, 0]) {
    for await (const records of bigbrotr.sightedRecords(relay, filter, { since, until })) {
      if (records.length > 0) return records.toString('hex', records.length - ID_BYTES);
    }
  }
  return null;
}
