import { randomBytes } from 'node:crypto';
import type { Query } from '../database.ts';
import type { NostrEvent } from '../nostr/event.ts';
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
 * Which of these ids the archive holds, with what it holds: hex id → key and signature. They go and come as one value
 * each, since the rows of a page cost more than the looking up.
 */
export async function archivedEvents(
  query: Query,
  ids: readonly string[],
): Promise<Map<string, Archived>> {
  const archived = new Map<string, Archived>();
  if (ids.length === 0) return archived;
  const { rows } = await query<{ records: string | null }>(
    `select encode(string_agg(e.id || e.sig || int8send(e.event_key), ''::bytea), 'hex') as records
     from generate_series(0, $2::integer - 1) as place
     cross join lateral (
         select id, sig, event_key from events where id = substr($1::bytea, place * 32 + 1, 32) limit 1
     ) e`,
    [Buffer.from(ids.join(''), 'hex'), ids.length],
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

/** The smallest `created_at` among events of these ids that are archived, or set aside from this relay; null without any. */
export async function oldestOf(
  query: Query,
  relay: Relay,
  ids: readonly string[],
): Promise<number | null> {
  const { rows } = await query<{ oldest: number | null }>(
    `select least(min(e.created_at), min(q.created_at)) as oldest
     from unnest($1::text[]) as t (id)
     left join events e on e.id = decode(t.id, 'hex')
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

/** So many archived events, each taken at random by its id. */
export async function* sampledEvents(query: Query, count: number): AsyncGenerator<StoredEvent[]> {
  for (let left = count; left > 0; left -= EVENTS_AT_A_TIME) {
    const points = Array.from({ length: Math.min(left, EVENTS_AT_A_TIME) }, () => randomBytes(32));
    const { rows } = await query<EventRow>(
      `select ${EVENT_COLUMNS}
       from unnest($1::bytea[]) as t (point)
       cross join lateral (
           select * from (
               (select * from events where id >= point order by id limit 1)
               union all
               (select * from events order by id limit 1) -- past the last id is the first
           ) around order by id < point limit 1
       ) e`,
      [points],
    );
    yield rows.map(asStoredEvent);
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
