import type { Query } from './connection.ts';
import { type EventSelection, selectedWhere } from './event-keys.ts';

/** Counts of events that match a filter. */

/** Rows of the journal that the refresher has not read, at most, for figures to be usable. */
export const MAX_UNREAD = 20_000;
/** Days that are counted beside the figures, at most. */
const MAX_CHANGED_DAYS = 1000;
const DAY = 86_400;

/** The events of days whose figures are current, and the days that changed since they were counted. */
interface DaysOfFigures {
  readonly events: number;
  readonly changed: readonly number[];
}

/**
 * SQL: the days that changed since they were counted: marked, or in rows of the journal that the refresher has not read.
 * Nothing is known of them unless `reader` has a row and `unread` has fewer than $1.
 */
export const CHANGED_DAYS = `
reader as (
    select xid, batch_id from journal_readers
    where name = 'refresher' and cluster = (select system_identifier from pg_control_system())
), unread as (
    select j.days from reader r
    cross join lateral (
        select days from journal where (xid, batch_id) > (r.xid, r.batch_id) limit $1
    ) j
), changed as (
    select day from dirty_days union select unnest(days) from unread
)`;

export const ARE_USABLE = 'exists (select from reader) and (select count(*) from unread) < $1';

/**
 * Counts events of some kinds, or of all, in a stretch of time: whole days from the figures, the others by an index.
 *
 * @param kinds null: all
 * @param since first second @param until last second
 * @returns null where the figures are too far behind
 */
export async function countByDays(
  query: Query,
  kinds: readonly number[] | null,
  since: number,
  until: number,
): Promise<number | null> {
  const first = Math.ceil(since / DAY);
  const last = Math.floor((until + 1) / DAY) - 1;
  if (first > last) return countBetween(query, kinds, [{ since, until }]);
  const figures = await daysOfFigures(query, kinds, first, last);
  if (figures === null) return null;
  const days = figures.changed.map((day) => ({ since: day * DAY, until: (day + 1) * DAY - 1 }));
  const edges = [
    { since, until: first * DAY - 1 },
    { since: (last + 1) * DAY, until },
  ].filter((edge) => edge.since <= edge.until);
  return figures.events + (await countBetween(query, kinds, [...days, ...edges]));
}

async function daysOfFigures(
  query: Query,
  kinds: readonly number[] | null,
  first: number,
  last: number,
): Promise<DaysOfFigures | null> {
  const table = kinds ? 'daily_kinds' : 'day_sums';
  const { rows } = await query<DaysOfFigures & { usable: boolean } & Record<string, unknown>>(
    `with ${CHANGED_DAYS}
     select ${ARE_USABLE} as usable,
            (select coalesce(array_agg(day order by day), '{}') from changed where day between $2 and $3) as changed,
            (select coalesce(sum(f.events), 0)::bigint from ${table} f
             where f.day between $2 and $3 ${kinds ? 'and f.kind = any ($4::integer[])' : ''}
                 and not exists (select from changed c where c.day = f.day)) as events`,
    [MAX_UNREAD, ...[first, last].map(asDay), ...(kinds ? [kinds] : [])],
  );
  const [found] = rows;
  if (!found?.usable || found.changed.length > MAX_CHANGED_DAYS) return null;
  return found;
}

/** Days are integers in SQL; no event is dated beyond. */
const asDay = (day: number) => Math.min(day, 2 ** 31 - 1);

async function countBetween(
  query: Query,
  kinds: readonly number[] | null,
  stretches: readonly { readonly since: number; readonly until: number }[],
): Promise<number> {
  if (stretches.length === 0) return 0;
  const { rows } = await query<{ events: number }>(
    `select coalesce(sum(n.events), 0)::bigint as events
     from unnest($1::bigint[], $2::bigint[]) s (since, until)
     cross join lateral (
         select count(*) as events from events
         where created_at between s.since and s.until ${kinds ? 'and kind = any ($3::integer[])' : ''}
     ) n`,
    [
      stretches.map(({ since }) => since),
      stretches.map(({ until }) => until),
      ...(kinds ? [kinds] : []),
    ],
  );
  return rows[0]?.events ?? 0;
}

/** The number of events that match any of several selections, each once. */
export async function countSelected(
  query: Query,
  selections: readonly EventSelection[],
): Promise<number> {
  const [only] = selections;
  if (selections.length === 1 && only) {
    const { text, values } = selectedWhere(only);
    const { rows } = await query<{ events: number }>(
      `select count(*) as events from events where ${text}`,
      values,
    );
    return rows[0]?.events ?? 0;
  }
  const { text, values } = unionOf(selections);
  const { rows } = await query<{ events: number }>(
    `select count(*) as events from (${text}) s`,
    values,
  );
  return rows[0]?.events ?? 0;
}

/** The keys of events that match any of several selections: each by its own index. */
function unionOf(selections: readonly EventSelection[]): { text: string; values: unknown[] } {
  const values: unknown[] = [];
  const parts = selections.map((selection) => {
    const where = selectedWhere(selection);
    const before = values.length;
    values.push(...where.values);
    const text = where.text.replace(/\$(\d+)/g, (_, place) => `$${Number(place) + before}`);
    return `select event_key, created_day from events where ${text}`;
  });
  return { text: parts.join(' union '), values };
}

/** For each value of one byte of the public key the lowest rest of a key behind it, both in hex, of events that match. */
export async function lowestKeys(
  query: Query,
  selection: EventSelection,
  offset: number,
): Promise<{ events: number; keys: readonly { byte: number; rest: string }[] }> {
  const { text, values } = selectedWhere(selection);
  const { rows } = await query<{ byte: number; rest: string; events: number }>(
    `select get_byte(pubkey, ${offset}) as byte, min(encode(substring(pubkey from ${offset + 2}), 'hex') collate "C") as rest,
            count(*) as events
     from events where ${text} group by 1`,
    values,
  );
  return { events: rows.reduce((sum, row) => sum + row.events, 0), keys: rows };
}

/** How many rows the planner expects for a selection. */
export async function estimateSelected(query: Query, selection: EventSelection): Promise<number> {
  const { text, values } = selectedWhere(selection);
  const { rows } = await query<{ 'QUERY PLAN': readonly { Plan: { 'Plan Rows': number } }[] }>(
    `explain (format json) select from events where ${text}`,
    values,
  );
  return Math.round(rows[0]?.['QUERY PLAN'][0]?.Plan['Plan Rows'] ?? 0);
}
