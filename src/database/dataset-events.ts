import { type NostrEvent, parseEvent } from '../nostr/event.ts';
import type { Query, Row } from './connection.ts';
import { eventFields } from './event-fields.ts';
import { type EventSelection, eventConditions, Values } from './event-keys.ts';

/**
 * Reads what a dataset is made of, in one snapshot of the archive: days of events, each in the order of `created_at` and
 * id. Every function needs the query of the transaction that `beginSnapshot` has begun.
 */

/** What a reader sees, so that a later one can tell what has changed since. */
export interface Snapshot {
  /** system_identifier of the cluster that the snapshot is of. */
  readonly cluster: string;
  /** `pg_current_snapshot()`. */
  readonly snapshot: string;
  /** The latest row of the journal that is visible; null where it is empty. */
  readonly journal: {
    readonly xid: string;
    readonly batchId: string;
    readonly writtenAt: number;
  } | null;
  /** The oldest row of the journal: while it is kept, every later one is. Null where it is empty. */
  readonly oldest: { readonly xid: string; readonly batchId: string } | null;
  /** The newest migration of the archive. */
  readonly schema: string;
}

/** What of a snapshot tells what has changed since. */
export type EarlierSnapshot = Pick<Snapshot, 'cluster' | 'snapshot' | 'oldest'>;

/** Rows fetched at a time: with those that are read one by one left out, 16 MB at most. */
const FETCHED = 500;
/** Events with more bytes than this are read one by one, so that no fetch brings hundreds of 4 MB. */
const LARGE_BYTES = 32 * 1024;

/** The same statements one after the other, since a connection takes the next one when it has answered the last. */
export function oneAtATime(query: Query): Query {
  let last: Promise<unknown> = Promise.resolve();
  return (text, values) => {
    const answer = last.then(() => query(text, values)) as ReturnType<typeof query>;
    last = answer.catch(() => {});
    return answer as never;
  };
}

/** Makes the transaction see one snapshot of the archive, whatever is stored meanwhile. To be called first in it. */
export async function beginSnapshot(query: Query): Promise<Snapshot> {
  await query('set transaction isolation level repeatable read');
  const { rows } = await query<{ cluster: string; snapshot: string; schema: string }>(
    `select (pg_control_system()).system_identifier::text as cluster, pg_current_snapshot()::text as snapshot,
            (select max(name collate "C") from schema_migrations) as schema`,
  );
  const { rows: latest } = await query<{ xid: string; batchId: string; writtenAt: number }>(
    `select xid::text, batch_id::text as "batchId", written_at as "writtenAt"
     from journal order by xid desc, batch_id desc limit 1`,
  );
  const { rows: oldest } = await query<{ xid: string; batchId: string }>(
    `select xid::text, batch_id::text as "batchId" from journal order by xid, batch_id limit 1`,
  );
  const [now] = rows;
  if (!now) throw new Error('the archive does not say which snapshot it shows');
  return { ...now, journal: latest[0] ?? null, oldest: oldest[0] ?? null };
}

/**
 * The days whose events or sightings changed after an earlier snapshot; null where the journal does not reach back to it,
 * or the snapshot is of another cluster: then any day may have changed.
 */
export async function daysChangedSince(
  query: Query,
  earlier: EarlierSnapshot,
): Promise<Set<number> | null> {
  // What follows a row that is kept is kept too (trimJournal): the row that was the oldest then, or one below the oldest
  // transaction that was running.
  const { rows } = await query<{ isKept: boolean }>(
    `select exists (
         select from journal
         where cluster::text = $1 and cluster = (pg_control_system()).system_identifier and xid <> '0'
             and (xid < pg_snapshot_xmin($2::pg_snapshot) or (xid = $3::xid8 and batch_id = $4::bigint))
     ) as "isKept"`,
    [
      earlier.cluster,
      earlier.snapshot,
      earlier.oldest?.xid ?? null,
      earlier.oldest?.batchId ?? null,
    ],
  );
  if (!rows[0]?.isKept) return null;
  const { rows: changed } = await query<{ day: number }>(
    `select distinct unnest(days) as day from journal where not pg_visible_in_snapshot(xid, $1::pg_snapshot)`,
    [earlier.snapshot],
  );
  return new Set(changed.map(({ day }) => day));
}

/** Days that may have events, ascending: those for which some were ever stored. */
export interface DatasetDays {
  readonly days: readonly number[];
  /** Those of them with events in quarantine. */
  readonly withAside: ReadonlySet<number>;
}

/** @param first, last days since 1970-01-01, both inclusive */
export async function daysBetween(query: Query, first: number, last: number): Promise<DatasetDays> {
  const { rows } = await query<{ day: number }>(
    'select day from days where day between $1 and $2',
    [first, last],
  );
  const { rows: aside } = await query<{ day: number }>(
    `select distinct (created_at / 86400)::integer as day from ${SET_ASIDE} where created_at / 86400 between $1 and $2`,
    [first, last],
  );
  const days = new Set([...rows, ...aside].map(({ day }) => day));
  return {
    days: [...days].sort((a, b) => a - b),
    withAside: new Set(aside.map(({ day }) => day)),
  };
}

/** Events that PostgreSQL's text cannot hold: those of relays, and those that were imported. */
const SET_ASIDE = `(
    select id, created_at, raw from quarantine union all select id, created_at, raw from imported_quarantine
) aside`;

/** How many events the refresher has counted: for progress, not to be relied on. */
export async function estimateEvents(query: Query): Promise<number> {
  const { rows } = await query<{ events: number }>(
    `select coalesce((select sum(events) from day_sums), 0)::bigint as events`,
  );
  return rows[0]?.events ?? 0;
}

/** The events of a day that are selected, some hundreds at a time, in the order of `created_at` and id. */
export async function* eventsOfDay(
  query: Query,
  day: number,
  selection: EventSelection,
): AsyncGenerator<NostrEvent[]> {
  const values = new Values();
  const onDay = `created_day = ${values.add(day)}::integer`;
  const where = eventConditions(values, selection, 'time', null);
  const small = `octet_length(content) + pg_column_size(tags) <= ${LARGE_BYTES}`;
  const fetched = cursorRows<EventRow>(
    query,
    'dataset_events',
    `select event_key::text, encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, created_at, kind,
            case when ${small} then tags end as tags, case when ${small} then content end as content,
            encode(sig, 'hex') as sig
     from events where ${onDay} and ${where}
     order by events.created_at, events.id`,
    values.list,
  );
  for await (const rows of fetched) {
    const events: NostrEvent[] = [];
    for (const row of rows) {
      if (row.content !== null) events.push(withoutKey(row));
      else {
        if (events.length > 0) yield events.splice(0);
        yield [await largeEvent(query, row.event_key, day)];
      }
    }
    if (events.length > 0) yield events;
  }
}

type EventRow = NostrEvent & Row & { event_key: string };

function withoutKey({ event_key: _, ...event }: EventRow): NostrEvent {
  return event;
}

async function largeEvent(query: Query, key: string, day: number): Promise<NostrEvent> {
  const { rows } = await query<EventRow>(
    `select ${eventFields('e')} from events e where event_key = $1 and created_day = $2`,
    [key, day],
  );
  const [row] = rows;
  if (!row) throw new Error(`event ${key} is not in the snapshot that listed it`);
  return row;
}

/**
 * The events of a day that PostgreSQL's text cannot hold (NUL, lone surrogates), each once, in the order of `created_at`
 * and id.
 */
export async function* setAsideOfDay(query: Query, day: number): AsyncGenerator<NostrEvent> {
  const rows = cursorRows<{ raw: Buffer; id: string }>(
    query,
    'dataset_aside',
    `select distinct on (created_at, id) raw, encode(id, 'hex') as id
     from ${SET_ASIDE} where created_at / 86400 = $1 order by created_at, id, raw`,
    [day],
    20,
  );
  for await (const chunk of rows)
    for (const { raw, id } of chunk) {
      const parsed = parseEvent(JSON.parse(raw.toString('utf8')));
      if (!parsed.ok)
        throw new Error(
          `event ${id} of the quarantine is damaged (${parsed.reason}): npm run verify names all of them`,
        );
      yield parsed.event;
    }
}

/**
 * Rows of a statement, some at a time, so that the server and this process hold few of them. The next ones are fetched while
 * the caller works on those that it has.
 * @param query that of `oneAtATime`
 */
export async function* cursorRows<T>(
  query: Query,
  name: string,
  statement: string,
  values: readonly unknown[] = [],
  fetched = FETCHED,
): AsyncGenerator<T[]> {
  await query(`declare ${name} no scroll cursor for ${statement}`, values);
  const fetchNext = () => {
    const fetching = query<T & Row>(`fetch ${fetched} from ${name}`);
    fetching.catch(() => {}); // thrown to whom awaits it
    return fetching;
  };
  let next = fetchNext();
  try {
    for (;;) {
      const { rows } = await next;
      const isLast = rows.length < fetched;
      if (!isLast) next = fetchNext();
      if (rows.length > 0) yield rows;
      if (isLast) break;
    }
  } finally {
    await next.catch(() => {});
    await query(`close ${name}`).catch(() => {}); // after an error the transaction is over, and the cursor with it
  }
}

/** A request to delete (NIP-09) or to vanish (NIP-62). */
export interface DeletionRequest {
  readonly pubkey: string;
  readonly kind: number;
  readonly created_at: number;
  readonly tags: string[][];
}

/** Every archived request to delete events (NIP-09) or an author (NIP-62), some hundreds at a time. */
export function deletionRequests(query: Query): AsyncGenerator<DeletionRequest[]> {
  return cursorRows<DeletionRequest>(
    query,
    'dataset_deletions',
    `select encode(pubkey, 'hex') as pubkey, kind, created_at, tags from events where kind in (5, 62)`,
  );
}

/** An observation: a relay holds an event, and when that was first seen, Unix seconds. */
export interface Observation {
  readonly id: string;
  readonly relay_url: string;
  readonly seen_at: number;
  /** Taken from another dataset (npm run import -- --trust-observations), not seen by this archive. */
  readonly imported: boolean;
}

export type SightedEvent = Observation &
  Pick<NostrEvent, 'created_at' | 'pubkey' | 'kind' | 'tags'>;

/**
 * The observations of the events of a day, in the order of the events and of relay URLs.
 * @param withImported whether to include those that were imported: the day has some
 */
export function observationsOfDay(
  query: Query,
  day: number,
  selection: EventSelection,
  withImported: boolean,
): AsyncGenerator<SightedEvent[]> {
  const values = new Values();
  const onDay = values.add(day);
  const where = eventConditions(values, selection, 'time', null);
  return cursorRows<SightedEvent>(
    query,
    'dataset_observations',
    `select encode(e.id, 'hex') as id, r.url as relay_url, s.seen_at, s.imported, e.created_at, encode(e.pubkey, 'hex') as pubkey,
            e.kind, case when e.kind = 1059 then e.tags else '[]' end as tags
     from (select * from events where created_day = ${onDay}::integer and ${where}) e
     join (${sighted(onDay, withImported)}) s on s.event_key = e.event_key and s.created_day = e.created_day
     join relay_urls r on r.relay_id = s.relay_id
     order by e.created_at, e.id, r.url collate "C"`,
    values.list,
    2 * FETCHED,
  );
}

/** SQL: the sightings of a day, and those that were imported and not seen here. */
function sighted(day: string, withImported: boolean): string {
  const own = `select event_key, created_day, relay_id, seen_at + 1577836800::bigint as seen_at, false as imported
     from sightings where created_day = ${day}::integer`;
  if (!withImported) return own;
  return `${own}
     union all
     select x.event_key, x.created_day, i.relay_id, i.seen_at, true
     from imported_sightings i
     join events x on x.created_day = i.created_day and x.id = i.id
     where i.created_day = ${day}::integer and not exists (
         select from sightings s
         where s.relay_id = i.relay_id and s.created_day = x.created_day and s.event_key = x.event_key
     )`;
}

/** Days with observations that were imported. */
export async function daysWithImported(query: Query): Promise<Set<number>> {
  const { rows } = await query<{ day: number }>(
    'select distinct created_day as day from imported_sightings',
  );
  return new Set(rows.map(({ day }) => day));
}
