import type { NostrEvent } from '../nostr/event.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Window } from '../nostr/window.ts';
import type { Query } from './connection.ts';
import { dayGroups, dayOf } from './days.ts';
import { eventFields } from './event-fields.ts';
import type { Relay } from './relays.ts';

/** Reads the tables `events`, `sightings` and `quarantine`. */

/** An event as it was read back, not yet checked. */
export interface StoredEvent {
  /** The id under which it is stored. */
  readonly id: string;
  readonly place: 'events' | 'quarantine';
  readonly event: unknown;
}

/** Maximum number of records of one statement of `sightedRecords`: 400 KB; at twice that PostgreSQL starts its JIT compiler. */
const RECORDS_AT_A_TIME = 10_000;

/** Key and signature of an archived event. */
export interface Archived {
  /** `events.event_key`, in decimal: past 2^53 for events of our time. */
  readonly key: string;
  /** In lower-case hex. */
  readonly sig: string;
}

/** An archived event that was looked up by its id. */
export interface ArchivedId {
  readonly createdAt: number;
  /** `events.event_key`, in decimal. */
  readonly key: string;
}

/** Hex digits of an id, and of a record of `archivedEvents`: id, signature and key. */
const ID_DIGITS = 64;
const SIG_DIGITS = 128;
const RECORD_DIGITS = ID_DIGITS + SIG_DIGITS + 16;

/**
 * Returns key and signature of those of these events that are archived, by hex id. They are looked up by time and id, so
 * that the events of a page are adjacent in the index. Ids and records are sent as one value each, since the rows of a
 * page cost more than the look-up.
 */
export async function archivedEvents(
  query: Query,
  events: readonly Pick<NostrEvent, 'id' | 'created_at'>[],
  shards: number,
): Promise<Map<string, Archived>> {
  const archived = new Map<string, Archived>();
  const days = new Set(events.map(({ created_at }) => dayOf(created_at)));
  for (const group of dayGroups(days, shards)) {
    const asked = events.filter(({ created_at }) => group.has(dayOf(created_at)));
    const { rows } = await query<{ records: string | null }>(ARCHIVED, [
      Buffer.from(asked.map(({ id }) => id).join(''), 'hex'),
      asked.map(({ created_at }) => created_at),
      group.days,
      shards > 1,
    ]);
    addRecords(archived, rows[0]?.records ?? '');
  }
  return archived;
}

/** $4: on several servers the days ($3) are named, so that one of them answers. It costs where there is only one. */
const ARCHIVED = `
select encode(string_agg(e.id || e.sig || int8send(e.event_key), ''::bytea), 'hex') as records
from (
    select created_at, (created_at / 86400)::integer as day, substr($1::bytea, place::integer * 32 - 31, 32) as id
    from unnest($2::bigint[]) with ordinality as u (created_at, place)
) t
cross join lateral (
    select id, sig, event_key from events
    where (not $4 or created_day = any ($3)) and created_day = t.day and created_at = t.created_at
        and id between t.id and t.id limit 1 -- for id = … the hash index would be taken
) e`;

function addRecords(archived: Map<string, Archived>, records: string): void {
  for (let at = 0; at < records.length; at += RECORD_DIGITS) {
    const sigAt = at + ID_DIGITS;
    const keyAt = sigAt + SIG_DIGITS;
    const key = BigInt(`0x${records.slice(keyAt, at + RECORD_DIGITS)}`).toString();
    archived.set(records.slice(at, sigAt), { key, sig: records.slice(sigAt, keyAt) });
  }
}

/** Those of these ids, in hex, that the archive holds, with their `created_at` and their keys. */
export async function archivedIds(
  query: Query,
  ids: readonly string[],
): Promise<Map<string, ArchivedId>> {
  const { rows } = await query<ArchivedId & { id: string } & Record<string, unknown>>(
    `select encode(id, 'hex') as id, created_at as "createdAt", event_key::text as key
     from events where id = any ($1::bytea[])`,
    [bytesOf(ids)],
  );
  return new Map(rows.map(({ id, createdAt, key }) => [id, { createdAt, key }]));
}

function bytesOf(ids: readonly string[]): Buffer[] {
  return ids.map((id) => Buffer.from(id, 'hex'));
}

/** The smallest `created_at` of these ids among archived events and the quarantine of this relay; null without any. */
export async function oldestOf(
  query: Query,
  relay: Relay,
  ids: readonly string[],
): Promise<number | null> {
  const { rows } = await query<{ oldest: number | null }>(
    `select least(
         (select min(created_at) from events where id = any ($1::bytea[])),
         (select min(created_at) from quarantine where relay_id = $2 and id = any ($1::bytea[]))
     ) as oldest`,
    [bytesOf(ids), relay.relayId],
  );
  return rows[0]?.oldest ?? null;
}

/**
 * Returns the events of a window that were seen on a relay, in packed records of 40 bytes: `created_at` as eight bytes,
 * the most significant first, then the id. They are in time order, except those in quarantine. A filter may have ids,
 * authors and kinds.
 */
export async function* sightedRecords(
  query: Query,
  relay: Relay,
  { ids, authors, kinds }: EventFilter,
  window: Window,
): AsyncGenerator<Buffer> {
  type Chunk = { records: Buffer | null; last: string | null; seen: number };
  const bytes = (hex: readonly string[] | undefined) => (hex ? bytesOf(hex) : null);
  const where = [relay.relayId, window.since, window.until];
  const filter = [bytes(ids), bytes(authors), kinds ?? null];
  for (let after: string | null = null, seen = RECORDS_AT_A_TIME; seen === RECORDS_AT_A_TIME; ) {
    const values: unknown[] = [...where, ...filter, after, RECORDS_AT_A_TIME];
    const result: { rows: Chunk[] } = await query<Chunk>(SIGHTED, values);
    const chunk: Chunk | undefined = result.rows[0];
    if (chunk?.records) yield chunk.records;
    after = chunk?.last ?? null;
    seen = chunk?.seen ?? 0;
  }
  if (filter.every((part) => part === null)) yield await quarantinedRecords(query, where);
}

/** One look-up an event, by a subquery: a plain join became a scan of all events (0.03 s against 0.5 to 7 s). */
const SIGHTED = `
select string_agg(int8send(s.event_key >> 24) || s.id, ''::bytea) as records,
       max(s.event_key)::text as last, count(*) as seen
from (
    select s.event_key, (
        select e.id from events e
        where e.event_key = s.event_key and e.created_day = s.created_day
            and ($4::bytea[] is null or e.id = any ($4)) and ($5::bytea[] is null or e.pubkey = any ($5))
            and ($6::integer[] is null or e.kind = any ($6))
    ) as id
    from sightings s
    where s.relay_id = $1
        and (s.created_day, s.event_key) > (
            event_key_day(greatest($7::bigint, event_key_floor($2) - 1)), greatest($7::bigint, event_key_floor($2) - 1)
        )
        and (s.created_day, s.event_key) < (event_key_day(event_key_floor($3 + 1)), event_key_floor($3 + 1))
    order by s.created_day, s.event_key limit $8
) s`;

async function quarantinedRecords(query: Query, where: readonly number[]): Promise<Buffer> {
  const { rows } = await query<{ records: Buffer | null }>(
    `select string_agg(int8send(created_at) || id, ''::bytea) as records
     from quarantine where relay_id = $1 and created_at between $2 and $3`,
    where,
  );
  return rows[0]?.records ?? Buffer.alloc(0);
}

/** Events read back at a time: each may have 4 MB. */
const EVENTS_AT_A_TIME = 100;

/** Every archived event in time order, then those in quarantine, in chunks. */
export async function* storedEvents(query: Query): AsyncGenerator<StoredEvent[]> {
  let after: string | null = '-1';
  while (after !== null) {
    const { rows }: { rows: EventRow[] } = await query<EventRow>(
      `select ${EVENT_COLUMNS} from events where event_key > $1 order by events.event_key limit $2`, // the numeric column, not its alias, which is text
      [after, EVENTS_AT_A_TIME],
    );
    if (rows.length > 0) yield rows.map(asStoredEvent);
    after = rows.at(-1)?.event_key ?? null;
  }
  for (let place: unknown[] = [-1, '\\x']; place.length > 0; ) {
    const { rows }: { rows: AsideRow[] } = await query<AsideRow>(
      `select relay_id, id as raw_id, encode(id, 'hex') as id, raw
       from quarantine where (relay_id, id) > ($1, $2) order by relay_id, id limit $3`,
      [...place, EVENTS_AT_A_TIME],
    );
    if (rows.length > 0)
      yield rows.map(({ id, raw }) => ({ id, place: 'quarantine', event: asJson(raw) }));
    const last = rows.at(-1);
    place = last ? [last.relay_id, last.raw_id] : [];
  }
  yield* storedAside(query);
}

/** Imported events that are in quarantine. */
async function* storedAside(query: Query): AsyncGenerator<StoredEvent[]> {
  for (let after: Buffer | null = Buffer.alloc(0); after !== null; ) {
    const { rows }: { rows: Omit<AsideRow, 'relay_id'>[] } = await query(
      `select id as raw_id, encode(id, 'hex') as id, raw
       from imported_quarantine where imported_quarantine.id > $1 order by imported_quarantine.id limit $2`,
      [after, EVENTS_AT_A_TIME],
    );
    if (rows.length > 0)
      yield rows.map(({ id, raw }) => ({ id, place: 'quarantine', event: asJson(raw) }));
    after = rows.at(-1)?.raw_id ?? null;
  }
}

/** Rows of a page of the table that are drawn: smaller than any event could fill. */
const ROWS_A_PAGE = 40;
/** Places that are drawn for an event: pages have about ten rows. */
const PLACES_AN_EVENT = 6;
/** Places that are drawn at least: where few are, a table with one event would mostly be missed. */
const LEAST_PLACES = 400;
/** Statements for a chunk of a sample: pages with deleted rows have fewer. */
const TRIES_A_CHUNK = 10;

/**
 * Returns up to `count` archived events from random places of the table (PostgreSQL chapter 5.5, ctid), each row as likely
 * as any other: fewer if many were deleted, none from an empty archive.
 */
export async function* sampledEvents(query: Query, count: number): AsyncGenerator<StoredEvent[]> {
  const chunks = Math.ceil(count / EVENTS_AT_A_TIME);
  for (let left = count, tries = chunks * TRIES_A_CHUNK; left > 0 && tries > 0; tries -= 1) {
    const wanted = Math.min(left, EVENTS_AT_A_TIME);
    const { rows } = await query<EventRow>(
      `select ${EVENT_COLUMNS}
       from events
       where ctid = any (array(
           select format('(%s,%s)', floor(random() * pages), 1 + floor(random() * $2))::tid
           from (
               select max(bytes) / current_setting('block_size')::integer as pages
               from unnest(shard_bytes('events', 'rows')) bytes
           ) p,
               generate_series(1, $3)
       ))
       order by random() limit $1`,
      [wanted, ROWS_A_PAGE, Math.max(wanted * PLACES_AN_EVENT, LEAST_PLACES)],
    );
    if (rows.length > 0) yield rows.map(asStoredEvent);
    left -= rows.length;
  }
}

const EVENT_COLUMNS = `event_key::text, ${eventFields('events')}`;

type EventRow = NostrEvent & { event_key: string } & Record<string, unknown>;
type AsideRow = { relay_id: number; raw_id: Buffer; id: string; raw: Buffer };

function asStoredEvent({ event_key: _, ...event }: EventRow): StoredEvent {
  return { id: event.id, place: 'events', event };
}

/** Parses JSON in UTF-8; null if it is invalid. */
function asJson(raw: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(raw));
  } catch {
    return null;
  }
}
