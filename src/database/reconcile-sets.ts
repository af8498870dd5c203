import type { Query } from './connection.ts';
import { ARE_USABLE, CHANGED_DAYS, MAX_UNREAD } from './event-counts.ts';
import { type EventSelection, selectedWhere } from './event-keys.ts';

/** Ids of events for reconciliation (NIP-77): packed records of 40 bytes, `created_at` and id. */

/** Records in one row of an answer. */
const RECORDS_AT_A_TIME = 10_000;

/** A day whose figures are current: how many events it has, and the sum of their ids modulo 2^256. */
export interface DaySum {
  readonly day: number;
  readonly events: number;
  readonly sum: bigint;
}

/** The days that have events. */
export interface DaySums {
  readonly counted: readonly DaySum[];
  /** Those that changed since they were counted. */
  readonly changed: readonly number[];
}

/** The figures of every day; null where they are too far behind. */
export async function daySums(query: Query): Promise<DaySums | null> {
  const { rows } = await query<{
    usable: boolean;
    changed: number[];
    days: number[];
    events: number[];
    sums: string[];
  }>(
    `with ${CHANGED_DAYS},
     counted as (
         select day, events, id_sum from day_sums s
         where not exists (select from changed c where c.day = s.day)
     )
     select ${ARE_USABLE} as usable,
            (select coalesce(array_agg(day order by day), '{}') from changed) as changed,
            coalesce(array_agg(day order by day), '{}') as days,
            coalesce(array_agg(events order by day), '{}') as events,
            coalesce(array_agg(id_sum::text order by day), '{}') as sums
     from counted`,
    [MAX_UNREAD],
  );
  const [found] = rows;
  if (!found?.usable) return null;
  const counted = found.days.map((day, place) => ({
    day,
    events: found.events[place] ?? 0,
    sum: BigInt(found.sums[place] ?? 0),
  }));
  return { counted, changed: found.changed };
}

/** The records of events that a filter selects, in the order of time and id; null where there are more than `most`. */
export async function recordsOf(
  query: Query,
  selection: EventSelection,
  most: number,
): Promise<Buffer | null> {
  const { text, values } = selectedWhere(selection);
  const limit = `$${values.length + 1}::integer`;
  const { rows } = await query<{ records: Buffer; events: number }>(
    `select string_agg(record, ''::bytea order by place) as records, count(*) as events
     from (
         select int8send(created_at) || id as record, row_number() over (order by created_at, id) as place
         from (select created_at, id from events where ${text} limit ${limit}) e
     ) s
     group by (place - 1) / ${RECORDS_AT_A_TIME} order by min(place)`,
    [...values, most + 1],
  );
  const events = rows.reduce((sum, row) => sum + row.events, 0);
  return events > most ? null : Buffer.concat(rows.map(({ records }) => records));
}
