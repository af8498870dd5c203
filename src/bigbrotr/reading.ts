import type { Query } from '../database.ts';
import type { IdentifiedEvent, NostrEvent } from '../nostr/event.ts';
import type { EventFilter, Window } from '../nostr/filter.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that reads events back. */

/** An event as it was read back, not yet checked. */
export interface StoredEvent {
  /** The id that it stands under. */
  readonly id: string;
  readonly place: 'events' | 'quarantine';
  readonly event: unknown;
}

/** Records of one statement of `sightedRecords`: 400 KB; at twice that PostgreSQL starts its JIT compiler. */
const RECORDS_AT_A_TIME = 10_000;

/** What the archive holds under an id. */
export interface Archived {
  /** `events.event_key`, in decimal: past 2^53 for events of our time. */
  readonly key: string;
  /** In lower-case hex. */
  readonly sig: string;
}

/** Hex digits of an id, and of a record of `archivedEvents`: id, signature and key. */
const ID_DIGITS = 64;
const SIG_DIGITS = 128;
const RECORD_DIGITS = ID_DIGITS + SIG_DIGITS + 16;

/**
 * Which of these events the archive holds, with what it holds: hex id → key and signature. They are looked up by time
 * and id, so that the events of a page lie together in the index, and the ids go and the records come as one value each,
 * since the rows of a page cost more than the looking up.
 */
export async function archivedEvents(
  query: Query,
  events: readonly Pick<IdentifiedEvent, 'id' | 'created_at'>[],
): Promise<Map<string, Archived>> {
  const archived = new Map<string, Archived>();
  if (events.length === 0) return archived;
  const { rows } = await query<{ records: string | null }>(
    `select encode(string_agg(e.id || e.sig || int8send(e.event_key), ''::bytea), 'hex') as records
     from (
         select created_at, substr($1::bytea, place::integer * 32 - 31, 32) as id
         from unnest($2::bigint[]) with ordinality as u (created_at, place)
     ) t
     cross join lateral (
         select id, sig, event_key from events
         where created_at = t.created_at and id between t.id and t.id limit 1 -- for id = … the hash index would be taken
     ) e`,
    [
      Buffer.from(events.map(({ id }) => id).join(''), 'hex'),
      events.map(({ created_at }) => created_at),
    ],
  );
  const records = rows[0]?.records ?? '';
  for (let at = 0; at < records.length; at += RECORD_DIGITS) {
    const sigAt = at + ID_DIGITS;
    const keyAt = sigAt + SIG_DIGITS;
    const key = BigInt(`0x${records.slice(keyAt, at + RECORD_DIGITS)}`).toString();
    archived.set(records.slice(at, sigAt), { key, sig: records.slice(sigAt, keyAt) });
  }
  return archived;
}

/** Those of these ids, in hex, that the archive holds, with their `created_at`. */
export async function archivedIds(
  query: Query,
  ids: readonly string[],
): Promise<Map<string, number>> {
  const { rows } = await query<{ id: string; created_at: number }>(
    `select t.id, e.created_at
     from unnest($1::text[]) as t (id)
     cross join lateral (select created_at from events where id = decode(t.id, 'hex') limit 1) e`,
    [ids],
  );
  return new Map(rows.map(({ id, created_at }) => [id, created_at]));
}

/** The smallest `created_at` among events of these ids that are archived, or set aside from this relay; null without any. */
export async function oldestOf(
  query: Query,
  relay: Relay,
  ids: readonly string[],
): Promise<number | null> {
  const { rows } = await query<{ oldest: number | null }>(
    `select least(min(e.created_at), min(q.created_at)) as oldest
     from unnest($1::text[]) as t (id)
     left join lateral (select created_at from events where id = decode(t.id, 'hex') limit 1) e on true
     left join quarantine q on q.id = decode(t.id, 'hex') and q.relay_id = $2`,
    [ids, relay.relayId],
  );
  return rows[0]?.oldest ?? null;
}

/**
 * The events of a window that were seen on a relay, in packed records of 40 bytes: `created_at` as eight bytes, the
 * most significant first, then the id. They come in time order, but for those in quarantine. A filter may name ids,
 * authors and kinds.
 */
export async function* sightedRecords(
  query: Query,
  relay: Relay,
  { ids, authors, kinds }: EventFilter,
  window: Window,
): AsyncGenerator<Buffer> {
  type Chunk = { records: Buffer | null; last: string | null; seen: number };
  const bytes = (hex: readonly string[] | undefined) =>
    hex?.map((text) => Buffer.from(text, 'hex')) ?? null;
  const where = [relay.relayId, window.since, window.until];
  const filter = [bytes(ids), bytes(authors), kinds ?? null];
  // One look-up an event, by lateral: a plain join became a scan of all events (0.03 s against 0.5 to 7 s).
  const text = `
    select string_agg(int8send(s.event_key >> 24) || e.id, ''::bytea) filter (where e.wanted) as records,
           max(s.event_key)::text as last, count(*) as seen
    from (
        select event_key from sightings
        where relay_id = $1 and event_key >= event_key_floor($2) and event_key < event_key_floor($3 + 1)
          and event_key > coalesce($7::bigint, -1)
        order by event_key limit $8
    ) s
    left join lateral (
        select id, ($4::bytea[] is null or id = any ($4)) and ($5::bytea[] is null or pubkey = any ($5))
            and ($6::integer[] is null or kind = any ($6)) as wanted
        from events where event_key = s.event_key limit 1
    ) e on true`;
  for (let after: string | null = null, seen = RECORDS_AT_A_TIME; seen === RECORDS_AT_A_TIME; ) {
    const values: unknown[] = [...where, ...filter, after, RECORDS_AT_A_TIME];
    const result: { rows: Chunk[] } = await query<Chunk>(text, values);
    const chunk: Chunk | undefined = result.rows[0];
    if (chunk?.records) yield chunk.records;
    after = chunk?.last ?? null;
    seen = chunk?.seen ?? 0;
  }
  if (filter.every((part) => part === null)) yield await quarantinedRecords(query, where);
}

async function quarantinedRecords(query: Query, where: readonly number[]): Promise<Buffer> {
  const { rows } = await query<{ records: Buffer | null }>(
    `select string_agg(int8send(created_at) || id, ''::bytea) as records
     from quarantine where relay_id = $1 and created_at between $2 and $3`,
    where,
  );
  return rows[0]?.records ?? Buffer.alloc(0);
}

/** Events read back at a time: each may have 4 MB, and all of them may. */
const EVENTS_AT_A_TIME = 100;

/** Every archived event in time order, then those in quarantine, in chunks. */
export async function* storedEvents(query: Query): AsyncGenerator<StoredEvent[]> {
  let after: string | null = '-1';
  while (after !== null) {
    const { rows }: { rows: EventRow[] } = await query<EventRow>(
      `select ${EVENT_COLUMNS} from events where event_key > $1 order by events.event_key limit $2`, // by the number, not by its text
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
}

/** Tries for each event wanted of a sample: places where rows were deleted have none. */
const TRIES_A_SAMPLE = 3;

/**
 * So many archived events, each of a page of the table taken at random (PostgreSQL chapter 5.6, ctid): fewer where
 * many were deleted, none of an empty archive.
 */
export async function* sampledEvents(query: Query, count: number): AsyncGenerator<StoredEvent[]> {
  let left = count;
  for (let tries = count * TRIES_A_SAMPLE; left > 0 && tries > 0; ) {
    const wanted = Math.min(left, EVENTS_AT_A_TIME, tries);
    const { rows } = await query<EventRow>(
      `select ${EVENT_COLUMNS}
       from (
           select floor(random() * pg_relation_size('events') / current_setting('block_size')::integer)::bigint as page
           from generate_series(1, $1)
       ) p
       cross join lateral (
           select * from events
           where ctid >= format('(%s,0)', page)::tid and ctid < format('(%s,0)', page + 1)::tid
           order by random() limit 1
       ) e`,
      [wanted],
    );
    if (rows.length > 0) yield rows.map(asStoredEvent);
    left -= rows.length;
    tries -= wanted;
  }
}

const EVENT_COLUMNS = `event_key::text, encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, created_at, kind, tags,
    content, encode(sig, 'hex') as sig`;

type EventRow = NostrEvent & { event_key: string } & Record<string, unknown>;
type AsideRow = { relay_id: number; raw_id: Buffer; id: string; raw: Buffer };

function asStoredEvent({ event_key: _, ...event }: EventRow): StoredEvent {
  return { id: event.id, place: 'events', event };
}

/** Null for what is no JSON in UTF-8. */
function asJson(raw: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(raw));
  } catch {
    return null;
  }
}
