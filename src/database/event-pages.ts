import type { NostrEvent } from '../nostr/event.ts';
import { type Query, TOOK_TOO_LONG } from './connection.ts';
import { codeOf } from './error.ts';
import { EVENT_BYTES, eventFields } from './event-fields.ts';

/**
 * Pages of events, newest first, by id where the second is the same (NIP-01). A page begins after the key of the last
 * event of the page before, so that its cost does not grow with its number.
 */

/** Which events are wanted; a list that is absent allows every value. */
export interface EventSelection {
  readonly ids?: readonly string[];
  readonly authors?: readonly string[];
  readonly kinds?: readonly number[];
  /** Both inclusive, Unix seconds. */
  readonly since?: number;
  readonly until?: number;
  /** For each letter one of these values has to be there. */
  readonly tags?: Readonly<Record<string, readonly string[]>>;
  /** One of these has to be there, each a letter, a colon and a value. */
  readonly references?: readonly string[];
}

/** Which index finds the events: that of the ids, of authors, of tags, of kinds, or of time. */
export type AccessPath = 'id' | 'author' | 'tag' | 'kind' | 'time';

/** The place of an event in the order of pages. */
export interface EventPlace {
  readonly createdAt: number;
  /** Hex. */
  readonly id: string;
}

export interface EventPage {
  readonly events: readonly NostrEvent[];
  /** Where the next page begins; null: no more. */
  readonly next: EventPlace | null;
  /** Why there are fewer than asked for though there may be more; null: there are not. */
  readonly cut: 'bytes' | 'time' | null;
}

export interface PageSize {
  readonly events: number;
  /** The page ends with the event that reaches this many bytes of content and tags. */
  readonly bytes: number;
  /** After this many milliseconds the page ends with the events found so far. */
  readonly ms: number;
}

/** Rows fetched at a time: what was fetched is kept when the time is up. */
const FETCHED = 200;

/** Collects the values of a statement. */
class Values {
  readonly list: unknown[] = [];

  /** @returns the parameter that stands for the value */
  add(value: unknown): string {
    this.list.push(value);
    return `$${this.list.length}`;
  }
}

const bytea = (hex: readonly string[]) => hex.map((text) => Buffer.from(text, 'hex'));

/** The conditions on an event but those that the access path has taken. */
function conditions(
  values: Values,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
): string {
  const { ids, authors, kinds, since, until, tags = {}, references } = selection;
  const all = ['true'];
  if (ids && path !== 'id') all.push(`id = any (${values.add(bytea(ids))}::bytea[])`);
  if (authors && path !== 'author')
    all.push(`pubkey = any (${values.add(bytea(authors))}::bytea[])`);
  if (kinds && path !== 'kind') all.push(`kind = any (${values.add(kinds)}::integer[])`);
  if (since !== undefined) all.push(`created_at >= ${values.add(since)}::bigint`);
  if (until !== undefined) all.push(`created_at <= ${values.add(until)}::bigint`);
  for (const [letter, texts] of Object.entries(tags)) {
    const arrays = texts.map((text) => JSON.stringify([`${letter}:${text}`]));
    all.push(`tagvalues @> any (${values.add(arrays)}::jsonb[])`);
  }
  if (references) {
    const arrays = references.map((text) => JSON.stringify([text]));
    all.push(`tagvalues @> any (${values.add(arrays)}::jsonb[])`);
  }
  if (after) {
    const second = `${values.add(after.createdAt)}::bigint`;
    const id = values.add(Buffer.from(after.id, 'hex'));
    all.push(`created_at <= ${second} and (created_at < ${second} or id > ${id})`);
  }
  return all.join(' and ');
}

/** The condition that events of a selection meet, for statements on `events` other than pages. */
export function selectedWhere(selection: EventSelection): { text: string; values: unknown[] } {
  const values = new Values();
  return { text: conditions(values, selection, 'time', null), values: values.list };
}

const NEWEST_FIRST = 'order by created_at desc, id';

/** From this number of authors or kinds on, a second is looked for first below which none of their events is on a page. */
const MANY = 8;

/**
 * SQL: the condition that events are not older than the last of a page may be. Of each of many values the newest few are
 * read; the last of the page that they make is a bound, and of each value only what is newer than that has to be merged.
 */
function notOlder(list: string, condition: string, limit: string, count: number): string {
  return ` and created_at >= coalesce((
      select min(created_at) from (
          select e.created_at from (select distinct unnest(${list}) as value) v
          cross join lateral (
              select created_at from events where ${condition} order by created_at desc limit 2 * ${limit} / ${count} + 1
          ) e
          order by e.created_at desc limit ${limit}
      ) s
      having count(*) >= ${limit}
  ), 0)`;
}

/** The keys of the events of a page, by one index for each value where a path has several. */
function keysOf(
  values: Values,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
  limit: string,
): string {
  const where = conditions(values, selection, path, after);
  const newest = (condition: string) =>
    `select event_key, created_day, created_at, id from events where ${condition} ${NEWEST_FIRST} limit ${limit}`;
  const { ids = [], authors = [], kinds = [] } = selection;
  const each = (list: string, condition: string, bound = '') =>
    `select e.* from (select distinct unnest(${list}) as value) v
     cross join lateral (${newest(`${condition} and ${where}${bound}`)}) e ${NEWEST_FIRST} limit ${limit}`;
  const merged = (list: string, condition: string, count: number) =>
    each(
      list,
      condition,
      count < MANY ? '' : notOlder(list, `${condition} and ${where}`, limit, count),
    );
  switch (path) {
    case 'id': // events_id_index
      return each(`${values.add(bytea(ids))}::bytea[]`, 'id = v.value');
    case 'author': // events_pubkey_created_at_index
      return merged(`${values.add(bytea(authors))}::bytea[]`, 'pubkey = v.value', authors.length);
    case 'kind': // events_kind_created_at_index
      return merged(`${values.add(kinds)}::integer[]`, 'kind = v.value', kinds.length);
    case 'tag': // events_tagvalues_index, or that of time where the planner takes the tag for frequent
    case 'time': // events_created_at_id_index
      return newest(where);
  }
}

function pageStatement(
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
  size: PageSize,
): { text: string; values: unknown[] } {
  const values = new Values();
  const keys = keysOf(values, selection, path, after, `${values.add(size.events + 1)}::integer`);
  // The size of an event is known without reading it; the sum runs along, so that no row waits for the last.
  const text = `
    select ${eventFields('p')}, bytes_so_far
    from (
        select e.*, k.created_at as second, k.id as place, sum(e.bytes) over (
            order by k.created_at desc, k.id rows between unbounded preceding and current row
        )::bigint as bytes_so_far, e.bytes as own_bytes
        from (${keys}) k
        cross join lateral (
            select id, pubkey, created_at, kind, tags, content, sig,
                   ${EVENT_BYTES} as bytes
            from events where event_key = k.event_key and created_day = k.created_day limit 1
        ) e
    ) p
    where bytes_so_far - own_bytes < ${values.add(size.bytes)}::bigint`;
  return { text, values: values.list };
}

type EventRow = NostrEvent & { bytes_so_far: number } & Record<string, unknown>;

/**
 * Reads a page of events. When the time is up, the events found until then are the page.
 *
 * @param query of a transaction, in which nothing else follows after the time was up
 * @throws an error with the code `TOOK_TOO_LONG` where no event was found in time
 */
export async function eventPage(
  query: Query,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
  size: PageSize,
): Promise<EventPage> {
  const { text, values } = pageStatement(selection, path, after, size);
  const { rows, isCut } = await fetchInTime(query, text, values, size);
  const isFull = (rows.at(-1)?.bytes_so_far ?? 0) >= size.bytes;
  const hasMore = rows.length > size.events;
  const events = rows.slice(0, size.events).map(({ bytes_so_far: _, ...event }) => event);
  const last = events.at(-1);
  const cut = isCut ? 'time' : isFull && !hasMore ? 'bytes' : null;
  const goesOn = last !== undefined && (hasMore || cut !== null);
  return { events, next: goesOn ? { createdAt: last.created_at, id: last.id } : null, cut };
}

/** Reads rows until the time is up. Those that one fetch would bring are read without a cursor: four statements less. */
async function fetchInTime(
  query: Query,
  text: string,
  values: unknown[],
  { events: limit, ms }: PageSize,
): Promise<{ rows: EventRow[]; isCut: boolean }> {
  const until = performance.now() + ms;
  const limitTime = () =>
    query(`set local statement_timeout = ${Math.max(1, Math.ceil(until - performance.now()))}`);
  await limitTime();
  if (limit < FETCHED) return { rows: (await query<EventRow>(text, values)).rows, isCut: false };
  const rows: EventRow[] = [];
  await query('savepoint page');
  await query(`declare page no scroll cursor for ${text}`, values);
  try {
    for (;;) {
      await limitTime();
      const fetched = await query<EventRow>(`fetch ${FETCHED} from page`);
      rows.push(...fetched.rows);
      if (fetched.rows.length < FETCHED) return { rows, isCut: false };
    }
  } catch (error) {
    if (codeOf(error) !== TOOK_TOO_LONG || rows.length === 0) throw error;
    await query('rollback to savepoint page');
    return { rows, isCut: true };
  }
}

/** An event by its id, in hex; null if it is not archived. */
export async function eventById(query: Query, id: string): Promise<NostrEvent | null> {
  const { rows } = await query<NostrEvent & Record<string, unknown>>(
    `select ${eventFields('events')} from events where id = $1 limit 1`,
    [Buffer.from(id, 'hex')],
  );
  return rows[0] ?? null;
}

/** A relay that holds an event, and when it was first seen there, Unix seconds. */
export interface EventRelay {
  readonly url: string;
  readonly seenAt: number;
}

/** The relays that hold an event, in the order of their URLs. */
export async function relaysOfEvent(
  query: Query,
  id: string,
  after: string | null,
  limit: number,
): Promise<EventRelay[]> {
  const { rows } = await query<EventRelay & Record<string, unknown>>(
    `select relay_url as url, seen_at as "seenAt"
     from events_relays
     where event_id = $1 and ($2::text is null or relay_url collate "C" > $2)
     order by relay_url collate "C" limit $3`,
    [Buffer.from(id, 'hex'), after, limit],
  );
  return rows;
}
