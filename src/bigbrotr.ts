import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import {
  type Batch,
  type Relay,
  type Stored,
  sortById,
  storeBatch,
  storeOneByOne,
} from './bigbrotr-batch.ts';
import type { DatabaseConfig } from './config.ts';
import { Database, isDataError } from './database.ts';
import { type NostrEvent, storageObstacle } from './nostr/event.ts';
import { canonicalFilter, type EventFilter, type Window } from './nostr/filter.ts';
import type { Nip11Limitation } from './nostr/nip11.ts';
import { type Manners, NEW_RELAY } from './relay/manners.ts';
import type { Gap } from './relay/paging.ts';
import { parseRelayUrl, type RelayAddress } from './relay/url.ts';

export {
  type Batch,
  type Evidence,
  type Refused,
  type Relay,
  type Stored,
  tagValues,
} from './bigbrotr-batch.ts';

/** What a visit wants of a relay: everything of this filter in this window. */
export interface Wanted extends Window {
  readonly filterId: number;
}

/** Ages in seconds: of the youngest snapshot that still counts, and of a visit after which the next is due. */
export interface SynchronizeAges {
  readonly snapshotSeconds: number;
  readonly intervalSeconds: number;
}

export type VisitOutcome = 'complete' | 'partial' | 'unfinished' | 'failed';

export interface VisitEnd {
  readonly outcome: VisitOutcome;
  readonly detail: string | null;
  readonly pages: number;
}

/** One check of one relay, as the database takes it: documents as plain JSON. */
export interface SnapshotRow {
  readonly relay: RelayAddress;
  readonly generatedAt: number;
  readonly nip11: object | null;
  readonly nip66: object | null;
}

/** Claims of a relay's NIP-11 document, and what was learnt of it. */
export interface RelayTerms extends Manners {
  readonly limitation: Nip11Limitation | null;
  readonly supportedNips: readonly number[] | null;
}

/** An event as it was read back, not yet checked. */
export interface StoredEvent {
  /** The id that it stands under. */
  readonly id: string;
  readonly place: 'events' | 'quarantine';
  readonly event: unknown;
}

export interface Totals {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  readonly relays: number;
  readonly openable: number;
  readonly readable: number;
  readonly writable: number;
  readonly failing: number;
  readonly unchecked: number;
}

/** Records of one statement of `sightedRecords`: 400 KB; at twice that PostgreSQL starts its JIT compiler. */
const RECORDS_AT_A_TIME = 10_000;

/**
 * The archive. Every query of every service is here; what it takes carries its proof in its type
 * (`VerifiedEvent`, `RelayUrl`). All of it may be called again with the same arguments without harm.
 * Each method throws DatabaseError when the database stays away or refuses.
 */
export class Bigbrotr {
  readonly #database: Database;

  private constructor(database: Database) {
    this.#database = database;
  }

  /** @throws DatabaseError with one sentence that says what is wrong. */
  static async connect(config: DatabaseConfig, log: Logger): Promise<Bigbrotr> {
    const database = await Database.connect(config, log);
    const bigbrotr = new Bigbrotr(database);
    try {
      await database.query('select relay_id from visits limit 0'); // permanent and clear when init.sql was not loaded
    } catch (error) {
      await database.close();
      throw error;
    }
    return bigbrotr;
  }

  /** Makes the archive or brings it up to date: runs init.sql, which may be run again. @throws DatabaseError */
  static async load(config: DatabaseConfig, initSql: string, log: Logger): Promise<void> {
    const database = await Database.connect(config, log);
    try {
      await database.query(initSql);
    } finally {
      await database.close();
    }
  }

  close(): Promise<void> {
    return this.#database.close();
  }

  isUp(timeoutMs = 2000): Promise<boolean> {
    return this.#database.isUp(timeoutMs);
  }

  // Relays

  /** Adds relays that are not known yet. @returns how many were new. */
  async insertRelays(relays: readonly RelayAddress[]): Promise<number> {
    const sorted = [...relays].sort((a, b) => (a.url < b.url ? -1 : 1));
    const { rows } = await this.#database.query<{ count: number }>(
      `select count(*) filter (where insert_relay(url, network)) as count
       from unnest($1::text[], $2::text[]) as t (url, network)`,
      [sorted.map(({ url }) => url), sorted.map(({ network }) => network)],
    );
    return rows[0]?.count ?? 0;
  }

  /** Relays without a snapshot younger than that many seconds; those never checked first, then the oldest check. */
  async relaysToCheck(maxAgeSeconds: number): Promise<Relay[]> {
    const { rows } = await this.#database.query<RelayRow>(
      `select r.relay_id, r.url
       from relays r
       left join lateral (
           select generated_at from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
       ) s on true
       where s.generated_at is null or s.generated_at < extract(epoch from now())::bigint - $1
       order by s.generated_at nulls first, r.relay_id`,
      [maxAgeSeconds],
    );
    return asRelays(rows);
  }

  /**
   * Relays that were readable in a young enough snapshot and are due for a visit and do not pause; the furthest behind first.
   * A visit that stopped before its end is due at once.
   */
  async relaysToSynchronize(filterId: number, age: SynchronizeAges): Promise<Relay[]> {
    const { rows } = await this.#database.query<RelayRow>(
      `select r.relay_id, r.url
       from relays r
       cross join lateral (
           select generated_at, nip66_id from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
       ) s
       join nip66 h on h.id = s.nip66_id and h.readable
       left join relay_manners m on m.relay_id = r.relay_id
       left join visits v on v.relay_id = r.relay_id and v.filter_id = $1
       left join lateral (
           select max(upper(covered)) as until from coverage where relay_id = r.relay_id and filter_id = $1
       ) c on true
       where s.generated_at >= extract(epoch from now())::bigint - $2
         and coalesce(m.not_before, 0) <= extract(epoch from now())::bigint
         and (v.outcome is null or v.outcome = 'unfinished' or v.started_at <= extract(epoch from now())::bigint - $3)
       order by c.until nulls first, v.started_at nulls first, r.relay_id`,
      [filterId, age.snapshotSeconds, age.intervalSeconds],
    );
    return asRelays(rows);
  }

  /** Those of the given relays that are due for a visit, in the order of their latest visit. */
  async relaysDue(
    relays: readonly Relay[],
    filterId: number,
    intervalSeconds: number,
  ): Promise<Relay[]> {
    const { rows } = await this.#database.query<RelayRow>(
      `select r.relay_id, r.url
       from relays r
       left join relay_manners m on m.relay_id = r.relay_id
       left join visits v on v.relay_id = r.relay_id and v.filter_id = $2
       where r.relay_id = any ($1)
         and coalesce(m.not_before, 0) <= extract(epoch from now())::bigint
         and (v.outcome is null or v.outcome = 'unfinished' or v.started_at <= extract(epoch from now())::bigint - $3)
       order by v.started_at nulls first, r.relay_id`,
      [relays.map(({ relayId }) => relayId), filterId, intervalSeconds],
    );
    return asRelays(rows);
  }

  /** The relays of these URLs; those that are not known yet are added. In the order given. */
  async relaysOf(addresses: readonly RelayAddress[]): Promise<Relay[]> {
    await this.insertRelays(addresses);
    const { rows } = await this.#database.query<RelayRow>(
      `select r.relay_id, r.url
       from unnest($1::text[]) with ordinality as t (url, place)
       join relays r on r.url = t.url
       order by t.place`,
      [addresses.map(({ url }) => url)],
    );
    return asRelays(rows);
  }

  // Health

  /** Adds snapshots in one statement. @returns how many were new. */
  async insertSnapshots(snapshots: readonly SnapshotRow[]): Promise<number> {
    const sorted = [...snapshots].sort((a, b) => (a.relay.url < b.relay.url ? -1 : 1));
    const { rows } = await this.#database.query<{ count: number }>(
      `select count(*) filter (where insert_relay_metadata(url, network, generated_at, nip11, nip66)) as count
       from unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[], $5::jsonb[])
           as t (url, network, generated_at, nip11, nip66)`,
      [
        sorted.map(({ relay }) => relay.url),
        sorted.map(({ relay }) => relay.network),
        sorted.map(({ generatedAt }) => generatedAt),
        sorted.map(({ nip11 }) => nip11 && JSON.stringify(nip11)),
        sorted.map(({ nip66 }) => nip66 && JSON.stringify(nip66)),
      ],
    );
    return rows[0]?.count ?? 0;
  }

  // Manners

  /** What is known of how a relay wants to be treated: what its latest NIP-11 says, and what was learnt. */
  async relayTerms(relay: Relay): Promise<RelayTerms> {
    const { rows } = await this.#database.query<RelayTerms & Record<string, unknown>>(
      `select d.limitation, d.supported_nips as "supportedNips",
              coalesce(m.not_before, 0) as "notBefore", m.reason, coalesce(m.refusals, 0) as refusals,
              coalesce(m.pace_ms, 0) as "paceMs", m.page_limit as "pageLimit", m.nip77_refused_at as "nip77RefusedAt"
       from relays r
       left join relay_manners m on m.relay_id = r.relay_id
       left join lateral (
           select nip11_id from snapshots
           where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
       ) s on true
       left join nip11 d on d.id = s.nip11_id
       where r.relay_id = $1`,
      [relay.relayId],
    );
    return rows[0] ?? { ...NEW_RELAY, limitation: null, supportedNips: null };
  }

  /** Remembers how a relay wants to be treated. */
  async setManners(relay: Relay, manners: Manners): Promise<void> {
    await this.#database.query(
      `insert into relay_manners
           (relay_id, not_before, reason, refusals, pace_ms, page_limit, nip77_refused_at)
       values ($1, $2, $3, $4, $5, $6, $7)
       on conflict (relay_id) do update
       set not_before = excluded.not_before, reason = excluded.reason, refusals = excluded.refusals,
           pace_ms = excluded.pace_ms, page_limit = excluded.page_limit,
           nip77_refused_at = excluded.nip77_refused_at`,
      [
        relay.relayId,
        manners.notBefore,
        manners.reason,
        manners.refusals,
        manners.paceMs,
        manners.pageLimit,
        manners.nip77RefusedAt,
      ],
    );
  }

  // Coverage

  /** The key of a filter; the same for every spelling of it. */
  async filterId(filter: EventFilter): Promise<number> {
    const text = canonicalFilter(filter);
    await this.#database.query('insert into filters (filter) values ($1) on conflict do nothing', [
      text,
    ]);
    const { rows } = await this.#database.query<{ filter_id: number }>(
      'select filter_id from filters where filter = $1',
      [text],
    );
    const id = rows[0]?.filter_id;
    if (id === undefined) throw new Error(`filter ${text} vanished while it was looked up`);
    return id;
  }

  /**
   * Where a visit goes on that wants what is new, in Unix seconds: at the newest second proven, less the overlap.
   * While the visits before it have not read all that they wanted, it is where they began: 0 at first.
   */
  async resumeFrom(relay: Relay, filterId: number, overlapSeconds: number): Promise<number> {
    const { rows } = await this.#database.query<{ since: number | null }>(
      `select case when outcome = 'complete' then (
                  select greatest(max(upper(covered)) - $3, 0) from coverage where relay_id = $1 and filter_id = $2
              ) else lower(wanted) end as since
       from visits where relay_id = $1 and filter_id = $2`,
      [relay.relayId, filterId, overlapSeconds],
    );
    return rows[0]?.since ?? 0;
  }

  /**
   * Notes that a visit begins, and gives what to read: what is wanted and not proven, and what was proven too long
   * ago. The newest `overlapSeconds` of what is proven are missing again, since events arrive late; the age at which
   * a proof is stale differs by relay, a quarter to either side, so that relays read in one day do not come due in one. A hole
   * is tried again after that age too.
   * Each gap comes with its anchor, the newest second below it at which an event of this filter was seen on this
   * relay; known for the filter {} only.
   */
  async beginVisit(
    relay: Relay,
    wanted: Wanted,
    { overlapSeconds, reproveSeconds }: { overlapSeconds: number; reproveSeconds: number },
  ): Promise<{ missing: Gap[]; stale: Gap[] }> {
    return this.#database.transaction(async (query) => {
      await query(
        `insert into visits (relay_id, filter_id, wanted, started_at)
         values ($1, $2, int8range($3, $4::bigint + 1), extract(epoch from now())::bigint)
         on conflict (relay_id, filter_id) do update
         set wanted = excluded.wanted, started_at = excluded.started_at, ended_at = null, outcome = null, detail = null`,
        [relay.relayId, wanted.filterId, wanted.since, wanted.until],
      );
      const { rows } = await query<Gap & { stale: boolean } & Record<string, unknown>>(
        `with proven as (
             select coalesce(range_agg(covered), '{}') as covered,
                    coalesce(range_agg(covered) filter (where proven_at < extract(epoch from now())::bigint
                        - $6::bigint * (0.75 + mod(relay_id * 7919::bigint, 512) / 1024.0)), '{}') as old
             from coverage where relay_id = $1 and filter_id = $2
         ), settled as (
             select covered * int8range(null, upper(covered) - $5)::int8multirange as covered, old from proven
         ), tried as (
             select coalesce(range_agg(stretch), '{}') as in_vain from holes
             where relay_id = $1 and filter_id = $2 and noted_at > extract(epoch from now())::bigint - $6::bigint
         ), gaps as (
             select gap, false as stale
             from settled, tried, unnest(int8range($3, $4::bigint + 1)::int8multirange - covered - in_vain) gap
             union all
             select gap, true
             from settled, unnest(int8range($3, $4::bigint + 1)::int8multirange * covered * old) gap
         )
         select lower(gap) as since, upper(gap) - 1 as until, anchor.created_at as anchor, stale
         from gaps
         left join lateral (
             select s.event_key >> 24 as created_at
             from sightings s
             where s.relay_id = $1 and s.event_key < event_key_floor(lower(gap))
               and (select filter from filters where filter_id = $2) = '{}'
             order by s.event_key desc
             limit 1
         ) anchor on true
         order by lower(gap) desc`,
        [
          relay.relayId,
          wanted.filterId,
          wanted.since,
          wanted.until,
          overlapSeconds,
          reproveSeconds,
        ],
      );
      return {
        missing: rows.filter(({ stale }) => !stale),
        stale: rows.filter(({ stale }) => stale),
      };
    });
  }

  /** Stretches inside what is wanted that were tried in vain and are not proven. */
  async countHoles(relay: Relay, wanted: Wanted): Promise<number> {
    const { rows } = await this.#database.query<{ holes: number }>(
      `select count(*) as holes from holes
       where relay_id = $1 and filter_id = $2 and stretch && int8range($3, $4::bigint + 1)`,
      [relay.relayId, wanted.filterId, wanted.since, wanted.until],
    );
    return rows[0]?.holes ?? 0;
  }

  /** Notes how a visit ended. Failures in a row are counted, each once. */
  async endVisit(relay: Relay, filterId: number, end: VisitEnd): Promise<void> {
    await this.#database.query(
      `update visits
       set ended_at = extract(epoch from now())::bigint, outcome = $3, detail = $4, pages = $5,
           failures = case when $3 = 'failed' then failures + (ended_at is null)::integer else 0 end
       where relay_id = $1 and filter_id = $2`,
      [relay.relayId, filterId, end.outcome, end.detail, end.pages],
    );
  }

  // Events

  /** Which of these ids the archive holds, with the signature it holds: hex id → hex signature. */
  async archivedSignatures(ids: readonly string[]): Promise<Map<string, string>> {
    if (ids.length === 0) return new Map();
    const { rows } = await this.#database.query<{ id: string; sig: string }>(
      `select encode(e.id, 'hex') as id, encode(e.sig, 'hex') as sig
       from unnest($1::text[]) as t (id)
       join events e on e.id = decode(t.id, 'hex')`,
      [ids],
    );
    return new Map(rows.map(({ id, sig }) => [id, sig]));
  }

  /** The smallest `created_at` among events of these ids that are archived, or set aside from this relay; null without any. */
  async oldestOf(relay: Relay, ids: readonly string[]): Promise<number | null> {
    const { rows } = await this.#database.query<{ oldest: number | null }>(
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
  async *sightedRecords(
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
      const result: { rows: Chunk[] } = await this.#database.query<Chunk>(text, values);
      const chunk: Chunk | undefined = result.rows[0];
      if (chunk?.records) yield chunk.records;
      after = chunk?.last ?? null;
      seen = chunk?.seen ?? 0;
    }
    if (filter.every((part) => part === null)) yield await this.#quarantinedRecords(where);
  }

  async #quarantinedRecords(where: readonly number[]): Promise<Buffer> {
    const { rows } = await this.#database.query<{ records: Buffer | null }>(
      `select string_agg(int8send(created_at) || id, ''::bytea) as records
       from quarantine where relay_id = $1 and created_at between $2 and $3`,
      where,
    );
    return rows[0]?.records ?? Buffer.alloc(0);
  }

  /**
   * Writes a batch in one transaction: events, sightings, quarantine, coverage and holes, all or nothing.
   * An event that the columns cannot hold exactly is set aside in quarantine; the rest is stored.
   */
  async store(batch: Batch): Promise<Stored> {
    const obstacles = new Map(batch.events.map((event) => [event, storageObstacle(event)]));
    const plain = sortById(batch.events.filter((event) => !obstacles.get(event)));
    const aside = batch.events.flatMap((event) => {
      const reason = obstacles.get(event);
      return reason ? [{ event, reason: reason as string }] : [];
    });
    try {
      return await this.#database.transaction((query) => storeBatch(query, batch, plain, aside));
    } catch (error) {
      if (!isDataError((error as Error).cause ?? error)) throw error;
      return this.#database.transaction((query) => storeOneByOne(query, batch, plain, aside));
    }
  }

  // Reading back

  /** Every archived event in time order, then those in quarantine, in chunks of at most 1,000. */
  async *storedEvents(): AsyncGenerator<StoredEvent[]> {
    let after: string | null = '-1';
    while (after !== null) {
      const { rows }: { rows: EventRow[] } = await this.#database.query<EventRow>(
        `select ${EVENT_COLUMNS} from events where event_key > $1 order by event_key limit 1000`,
        [after],
      );
      if (rows.length > 0) yield rows.map(asStoredEvent);
      after = rows.at(-1)?.event_key ?? null;
    }
    for (let place: unknown[] = [-1, '\\x']; place.length > 0; ) {
      const { rows }: { rows: AsideRow[] } = await this.#database.query<AsideRow>(
        `select relay_id, id as raw_id, encode(id, 'hex') as id, raw
         from quarantine where (relay_id, id) > ($1, $2) order by relay_id, id limit 100`,
        place,
      );
      if (rows.length > 0)
        yield rows.map(({ id, raw }) => ({ id, place: 'quarantine', event: asJson(raw) }));
      const last = rows.at(-1);
      place = last ? [last.relay_id, last.raw_id] : [];
    }
  }

  /** So many archived events, each taken at random by its id. */
  async *sampledEvents(count: number): AsyncGenerator<StoredEvent[]> {
    for (let left = count; left > 0; left -= 1000) {
      const points = Array.from({ length: Math.min(left, 1000) }, () => randomBytes(32));
      const { rows } = await this.#database.query<EventRow>(
        `select ${EVENT_COLUMNS}
         from unnest($1::bytea[]) as t (point)
         cross join lateral (select * from events where id >= point order by id limit 1) e`,
        [points],
      );
      yield rows.map(asStoredEvent);
    }
  }

  // Figures

  /** Counts of the whole archive. Exact, so it reads every row: for summaries, not for metrics. */
  async totals(): Promise<Totals> {
    const { rows } = await this.#database.query<Totals & Record<string, unknown>>(
      `select
           (select count(*) from events) as events,
           (select count(*) from sightings) as sightings,
           (select count(*) from quarantine) as quarantined,
           count(*) as relays,
           count(*) filter (where l.openable) as openable,
           count(*) filter (where l.readable) as readable,
           count(*) filter (where l.writable) as writable,
           count(*) filter (where not l.readable) as failing,
           count(*) filter (where l.relay_url is null) as unchecked
       from relays r
       left join relay_metadata_latest l on l.relay_url = r.url`,
    );
    if (!rows[0]) throw new Error('the totals query gave no row');
    return rows[0];
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

type RelayRow = { relay_id: number; url: string };

/** URLs come back from the archive through the parser: nothing else makes a `RelayUrl`. */
function asRelays(rows: readonly RelayRow[]): Relay[] {
  return rows.flatMap(({ relay_id, url }) => {
    const parsed = parseRelayUrl(url);
    return parsed.ok ? [{ relayId: relay_id, url: parsed.url, network: parsed.network }] : [];
  });
}
