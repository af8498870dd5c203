import type { NostrEvent } from '../nostr/event.ts';
import { type Query, TOOK_TOO_LONG } from './connection.ts';
import { dayGroups } from './days.ts';
import { codeOf } from './error.ts';
import { eventsByKeys } from './event-bodies.ts';
import { EVENT_BYTES, eventFields } from './event-fields.ts';
import {
  type AccessPath,
  type EventPlace,
  type EventSelection,
  isOneLookUp,
  keysOf,
  Values,
} from './event-keys.ts';

/**
 * Pages of events, newest first, by id where the second is the same (NIP-01). A page begins after the key of the last
 * event of the page before, so that its cost does not grow with its number.
 */

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
 * @param shards number of shards of `events`
 * @throws an error with the code `TOOK_TOO_LONG` where no event was found in time
 */
export async function eventPage(
  query: Query,
  selection: EventSelection,
  path: AccessPath,
  after: EventPlace | null,
  size: PageSize,
  shards: number,
): Promise<EventPage> {
  if (shards > 1) return distributedPage(query, { selection, path, after, size }, shards);
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
  const limitTime = timeLimit(query, ms);
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

/** @returns what limits the next statement to what is left of the time */
function timeLimit(query: Query, ms: number): () => Promise<unknown> {
  const until = performance.now() + ms;
  return () =>
    query(`set local statement_timeout = ${Math.max(1, Math.ceil(until - performance.now()))}`);
}

/** A question for a page. */
interface PageQuestion {
  readonly selection: EventSelection;
  readonly path: AccessPath;
  readonly after: EventPlace | null;
  readonly size: PageSize;
}

/**
 * The same where events are on several servers: first the keys, then the events, some at a time. Citus answers no cursor
 * row by row, and joins no list with the events of all servers.
 */
async function distributedPage(
  query: Query,
  question: PageQuestion,
  shards: number,
): Promise<EventPage> {
  const { size } = question;
  const limitTime = timeLimit(query, size.ms);
  const found = await distributedKeys(query, question, shards, limitTime);
  const keys = found.slice(0, size.events).map(({ key }) => key);
  const events: NostrEvent[] = [];
  let bytes = 0;
  let read = 0;
  let isCut = false;
  await query('savepoint page');
  while (read < keys.length && bytes < size.bytes && !isCut)
    try {
      await limitTime();
      const some = keys.slice(read, read + FETCHED);
      const bodies = await eventsByKeys(query, some, size.bytes - bytes, shards);
      events.push(...bodies.events.values());
      bytes += bodies.bytes;
      read += bodies.read;
    } catch (error) {
      if (codeOf(error) !== TOOK_TOO_LONG || events.length === 0) throw error;
      await query('rollback to savepoint page');
      isCut = true;
    }
  const last = found[read - 1];
  const cut = isCut ? 'time' : read < keys.length ? 'bytes' : null;
  return { events, next: last && read < found.length ? placeOf(last) : null, cut };
}

interface FoundKey extends EventPlace {
  readonly key: string;
}

const placeOf = ({ createdAt, id }: FoundKey): EventPlace => ({ createdAt, id });

/** The keys of a page and of the event after it: by one statement, or where a path has several values by one for each shard. */
async function distributedKeys(
  query: Query,
  { selection, path, after, size }: PageQuestion,
  shards: number,
  limitTime: () => Promise<unknown>,
): Promise<FoundKey[]> {
  const limit = size.events + 1;
  const found: FoundKey[] = [];
  for (const days of isOneLookUp(selection, path)
    ? [undefined]
    : await daysByShard(query, selection, shards)) {
    const values = new Values();
    const keys = keysOf(values, selection, path, after, `${values.add(limit)}::integer`, days);
    await limitTime();
    const { rows } = await query<FoundKey & Record<string, unknown>>(
      `select event_key::text as key, created_at as "createdAt", encode(id, 'hex') as id from (${keys}) k`,
      values.list,
    );
    found.push(...rows);
  }
  return found.sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? -1 : 1)).slice(0, limit);
}

/** The days that have events of a stretch of time, those of each shard together. */
async function daysByShard(
  query: Query,
  { since, until }: EventSelection,
  shards: number,
): Promise<readonly (readonly number[])[]> {
  const { rows } = await query<{ days: number[] }>(
    `select coalesce(array_agg(day), '{}') as days from days
     where ($1::bigint is null or day >= $1::bigint / 86400) and ($2::bigint is null or day <= $2::bigint / 86400)`,
    [since ?? null, until ?? null],
  );
  return dayGroups(rows[0]?.days ?? [], shards).map(({ days }) => days);
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
