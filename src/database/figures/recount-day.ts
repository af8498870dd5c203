import { crashPoint } from '../../telemetry/crash-point.ts';
import type { Query } from '../connection.ts';
import { applyDay, lockFigures, type WholeDay } from './apply-day.ts';
import { applyPart } from './apply-part.ts';
import {
  addAuthors,
  type CountRow,
  countDay,
  countReferencesOf,
  nextCount,
  rangeOf,
  rowsOfDay,
} from './count-day.ts';
import { REPLACES } from './current-events.ts';
import { PART_EVENTS, partsOf, splitPart, storedParts } from './day-cells.ts';
import { type ClaimedDay, claimDay, cleanDay, holdDay, isClaimed } from './dirty-days.ts';
import { takeUp } from './take-up.ts';

/**
 * The recount of a day. One transaction holds the day and reads it, and never writes; what it has counted is applied by
 * others, each of which takes a few seconds at most. So no reader of the journal waits longer, however large the day is.
 * The first one reads no figures: until it ends, none of them could be emptied for a rebuild.
 */

/** What a recount has read. */
export interface Recounted {
  readonly events: number;
  readonly sightings: number;
}

/** The connections of a recount. */
export interface Connections {
  /** Runs one statement. */
  readonly query: Query;
  /** Runs a transaction. A recount runs some while one is open. */
  readonly transaction: <T>(work: (query: Query) => Promise<T>) => Promise<T>;
}

/** Replaceable events of a day that a rebuild takes up in one transaction. */
const TAKEN_UP_AT_A_TIME = 2000;

/** Recounts a dirty day. @returns null if another refresher recounts it, or has done so */
export function recountDay(connections: Connections, day: number): Promise<Recounted | null> {
  return connections.transaction(async (reading) => {
    const begun = await beginRecount(reading, connections, day);
    if (!begun) return null;
    crashPoint('day-counted', '');
    return applyRecount(reading, connections, begun);
  });
}

/** A day whose count can be read. */
export interface BegunRecount {
  readonly claimed: ClaimedDay;
  readonly parts: number;
}

/**
 * Holds the day and begins its count. It is claimed before its relays and authors are looked up: what is stored after
 * that marks it again.
 *
 * @param reading query of a transaction
 */
export async function beginRecount(
  reading: Query,
  { query }: Pick<Connections, 'query'>,
  day: number,
  partEvents = PART_EVENTS,
): Promise<BegunRecount | null> {
  await reading('set transaction read only');
  if (!(await holdDay(reading, day))) return null;
  const claimed = await claimDay(query, day);
  if (!claimed) return null;
  await addAuthors(query, day);
  const parts = await partsOf(query, day, partEvents);
  await countDay(reading, { day, parts });
  return { claimed, parts };
}

/** Changes figures to what was counted. @returns null if another refresher has begun to recount the day meanwhile */
export async function applyRecount(
  reading: Query,
  { query: once, transaction }: Connections,
  { claimed, parts }: BegunRecount,
): Promise<Recounted | null> {
  const { day } = claimed;
  /** Runs a transaction, unless the day is not ours any more. */
  const change = (work: (query: Query) => Promise<void>) =>
    transaction(async (query) => {
      await lockFigures(query);
      const isOurs = await isClaimed(query, claimed);
      if (isOurs) await work(query);
      return isOurs;
    });
  const stored = await storedParts(once, day);
  for (const part of stored)
    if (part.parts < parts && !(await change((query) => splitPart(query, part, parts))))
      return null;
  const left = new Set((await storedParts(once, day)).map(({ part }) => part));
  const whole = new Map<CountRow['what'], readonly string[]>();
  for (;;) {
    const row = await nextCount(reading);
    if (!row) break;
    const { what, part, columns } = row;
    if (what !== 'part') {
      whole.set(what, columns);
      continue;
    }
    left.delete(part);
    if (!(await change((query) => applyPart(query, { day, parts, part }, columns)))) return null;
    crashPoint('part-applied', '');
  }
  for (const part of left)
    if (!(await change((query) => applyPart(query, { day, parts, part }, [])))) return null;
  if (claimed.isRebuild) await takeUpDay(reading, transaction, day);
  const references = await countReferencesOf(reading, day);
  const counted = { ...Object.fromEntries(whole), references } as unknown as WholeDay;
  const isDone = await change(async (query) => {
    await applyDay(query, day, counted);
    await cleanDay(query, claimed);
    crashPoint('day-applied', '');
  });
  return isDone ? { events: Number(counted.sum[0]), sightings: Number(counted.sum[4]) } : null;
}

/**
 * Brings current events, edges and zaps up to date with all events of a day, a few thousand at a time. The newest come
 * first: those before change nothing.
 */
async function takeUpDay(
  reading: Query,
  transaction: Connections['transaction'],
  day: number,
): Promise<void> {
  const { rows } = await reading<{ keys: string[] }>(
    `select coalesce(array_agg(e.event_key order by e.event_key desc), '{}')::text[] as keys
     from events e where ${rowsOfDay('e')} and (${REPLACES} or e.kind = 9735)`,
    rangeOf(day),
  );
  const keys = rows[0]?.keys ?? [];
  await transaction((query) => takeUp(query, [], [day]));
  for (let done = 0; done < keys.length; done += TAKEN_UP_AT_A_TIME) {
    const some = keys.slice(done, done + TAKEN_UP_AT_A_TIME);
    await transaction((query) => takeUp(query, some, []));
  }
}
