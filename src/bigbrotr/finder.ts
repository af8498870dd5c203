import { NOW, type Query } from '../database.ts';
import { MAX_CONTENT_CHARS } from '../nostr/relay-hints.ts';
import type { NamedRelay, NamingEvent } from '../relay/relay-names.ts';
import type { Network } from '../relay/url.ts';
import {
  type Candidate,
  claimCandidates,
  type NameBounds,
  promoteCandidate,
  putOffCandidate,
  tidyNames,
} from './candidates.ts';

/** The part of `Bigbrotr` that the finder asks: the queue of new events, the names in them, and what became of those. */

/** Candidates that wait at a time by the word of the author of whom they were heard first. */
const MAX_CANDIDATES_OF_AUTHOR = 2000;
/** Names with a path on one host and port: a server may answer on any. The host alone always has room. */
const MAX_NAMES_OF_HOST = 16;
const DAY = 86_400;
/** A name that was dropped and gets another chance begins here. */
const TRIES_OF_REVIVED = 4;
const REVIVE_AFTER = 90 * DAY;
/** How old an event may be that wakes a relay that is thought dead, and how long ago its latest check has to be, in seconds. */
const NAMED_OF_LATE = 2 * DAY;
const RECHECK_AFTER = DAY;
/** Events read at a time: each may have 4 MB. */
const EVENTS_AT_A_TIME = 100;
/** Names gathered before they are written; one event may bring a thousand. */
const NAMES_AT_A_TIME = 5000;

type Transaction = <T>(work: (query: Query) => Promise<T>) => Promise<T>;

/** Gathers the names in events. A new one for each part of a scan, which may be begun again. */
export interface NameGatherer {
  addEvent(event: NamingEvent): void;
  named(): NamedRelay[];
  readonly size: number;
  /** Texts that gave no name, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

/** What a scan has read, or what was written of it. */
export interface Scanned {
  /** Rows of the queue. */
  readonly batches: number;
  /** Events that may name a relay. */
  readonly events: number;
  /** Different names, counted once for each part of the scan that brought them. */
  readonly names: number;
  /** Names never heard before, relays apart. */
  readonly candidates: number;
  /** Names for which there was no room: of that author, or on that host. */
  readonly crowded: number;
  /** Texts that gave no name, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

export type Written = Pick<Scanned, 'names' | 'candidates' | 'crowded'>;

/** What the finder asks of the archive. Each method throws DatabaseError when the database stays away or refuses. */
export class FinderArchive {
  readonly #query: Query;
  readonly #transaction: Transaction;

  constructor(query: Query, transaction: Transaction) {
    this.#query = query;
    this.#transaction = transaction;
  }

  /** See `scanQueue`. */
  scan(rows: number, gather: () => NameGatherer): Promise<Scanned> {
    return this.#transaction((query) => scanQueue(query, rows, gather));
  }

  /** See `recordNames`. */
  record(names: readonly NamedRelay[]): Promise<Written> {
    return this.#transaction((query) => recordNames(query, names));
  }

  /** See `claimCandidates`. */
  claim(limit: number, networks: readonly Network[]): Promise<Candidate[]> {
    return claimCandidates(this.#query, limit, networks);
  }

  /** See `promoteCandidate`. */
  promote(nameId: number): Promise<boolean> {
    return promoteCandidate(this.#query, nameId);
  }

  /** See `putOffCandidate`. */
  putOff(nameId: number, reason: string, atLeast: number | null = null): Promise<void> {
    return putOffCandidate(this.#query, nameId, reason, atLeast);
  }

  /** See `tidyNames`. */
  tidy(bounds?: NameBounds): Promise<number> {
    return this.#transaction((query) => tidyNames(query, bounds));
  }
}

/**
 * Reads so many rows of the queue and writes what their events name, in the transaction of its caller: the rows are
 * gone when the names are there. Rows that another finder reads are left to it.
 *
 * @param gather makes an empty gatherer
 */
export async function scanQueue(
  query: Query,
  rows: number,
  gather: () => NameGatherer,
): Promise<Scanned> {
  const { rows: taken } = await query<{ batch_id: string; event_keys: string[] }>(
    `select batch_id::text, event_keys::text[] from finder_queue order by batch_id limit $1 for update skip locked`,
    [rows],
  );
  const keys = taken.flatMap(({ event_keys }) => event_keys);
  const refused: Record<string, number> = {};
  const done = { batches: taken.length, events: 0, names: 0, candidates: 0, crowded: 0, refused };
  let gatherer = gather();
  const write = async () => {
    const { names, candidates, crowded } = await recordNames(query, gatherer.named());
    done.names += names;
    done.candidates += candidates;
    done.crowded += crowded;
    for (const [reason, times] of Object.entries(gatherer.refused))
      refused[reason] = (refused[reason] ?? 0) + times;
    gatherer = gather();
  };
  for (let from = 0; from < keys.length; from += EVENTS_AT_A_TIME) {
    const events = await namingEvents(query, keys.slice(from, from + EVENTS_AT_A_TIME));
    for (const event of events) {
      gatherer.addEvent(event);
      if (gatherer.size >= NAMES_AT_A_TIME) await write();
    }
    done.events += events.length;
  }
  await write();
  if (taken.length > 0) {
    await query('delete from finder_queue where batch_id = any ($1::bigint[])', [
      taken.map(({ batch_id }) => batch_id),
    ]);
  }
  return done;
}

/**
 * Those that are not deleted by now and may name a relay, about a quarter, with no more of their content than is looked
 * through. This is a first look, which spares the others the way; what they name is for `relayHints`.
 */
async function namingEvents(query: Query, keys: readonly string[]): Promise<NamingEvent[]> {
  const { rows } = await query<NamingEvent & Record<string, unknown>>(
    `select encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, created_at, kind, tags, left(content, $2) as content
     from events
     where event_key = any ($1::bigint[])
         and (tags::text ~* 'wss?:' or content ~* 'wss?:|n(profile|event|addr)1')`,
    [keys, MAX_CONTENT_CHARS + 1],
  );
  return rows;
}

/**
 * Writes names and who named them. What is no relay yet becomes a candidate that is due at once, as far as there is
 * room for one more of its author and on its host. One that was dropped gets another chance when an author names it
 * who has not done so before, or after 90 days.
 */
export async function recordNames(query: Query, names: readonly NamedRelay[]): Promise<Written> {
  if (names.length === 0) return { names: 0, candidates: 0, crowded: 0 };
  const { rows } = await query<Written & Record<string, unknown>>(RECORD_NAMES, [
    JSON.stringify(names),
    MAX_CANDIDATES_OF_AUTHOR,
    MAX_NAMES_OF_HOST,
    TRIES_OF_REVIVED,
    REVIVE_AFTER,
  ]);
  await recheckDead(query, names);
  const written = rows[0] ?? { candidates: 0, crowded: 0 };
  return { ...written, names: names.length };
}

/**
 * Relays that were down are checked again when an event of these days names them, though their pause may have weeks to
 * go; once a day at most, since many go on naming relays that are gone.
 */
async function recheckDead(query: Query, names: readonly NamedRelay[]): Promise<void> {
  const since = Date.now() / 1000 - NAMED_OF_LATE;
  const urls = names.filter(({ lastAt }) => lastAt >= since).map(({ url }) => url);
  if (urls.length === 0) return;
  await query(
    `select recheck_relays(array(
         select r.url from relays r join relay_schedule c on c.relay_id = r.relay_id
         where r.url = any ($1) and c.failures > 0
     ), $2)`,
    [urls, RECHECK_AFTER],
  );
}

const RECORD_NAMES = `
with given as (
    select g.url, g.network, g.host, g.domain, g.times, g."firstAt" as first_at, g."firstSource" as first_source,
           decode(g."firstEvent", 'hex') as first_event, decode(g."firstAuthor", 'hex') as first_author,
           least(g."lastAt", ${NOW}) as last_at,
           (select array_agg(decode(author, 'hex') order by place)
            from jsonb_array_elements_text(g.authors) with ordinality a (author, place)) as authors,
           r.relay_id is null as is_candidate, r.relay_id is null and n.name_id is null as is_new
    from jsonb_to_recordset($1::jsonb) as g (
        url text, network text, host text, domain text, times bigint, "firstAt" bigint, "firstSource" text,
        "firstEvent" text, "firstAuthor" text, "lastAt" bigint, authors jsonb
    )
    left join relays r on r.url = g.url
    left join named_relays n on n.url = g.url
), of_author as (
    select authors[1] as author, count(*) as held from named_relays
    where next_try_at is not null and authors[1] in (select authors[1] from given where is_new) group by 1
), of_host as (
    select host, count(*) as held from named_relays where host in (select host from given where is_new) group by 1
), placed as (
    select g.*,
           coalesce(a.held, 0) + row_number() over (partition by g.is_new, g.authors[1] order by g.url) as place_of_author,
           coalesce(h.held, 0) + row_number() over (partition by g.is_new, g.host order by g.url) as place_on_host
    from given g
    left join of_author a on a.author = g.authors[1]
    left join of_host h on h.host = g.host
), admitted as (
    select * from placed
    where not is_new or (place_on_host <= $3 or url !~ '^wss?://[^/]+/') and (place_of_author <= $2 or authors[1] = '')
), written as (
    insert into named_relays as n (
        url, network, host, domain, times, first_named_at, first_event, first_author, first_source, last_named_at,
        authors, next_try_at
    )
    select url, network, host, domain, times, first_at, first_event, first_author, first_source, last_at, authors,
           case when is_candidate then ${NOW} end
    from admitted order by url
    on conflict (url) do update set
        times = n.times + excluded.times,
        first_named_at = least(n.first_named_at, excluded.first_named_at),
        first_event = case when excluded.first_named_at < n.first_named_at then excluded.first_event else n.first_event end,
        first_author = case when excluded.first_named_at < n.first_named_at then excluded.first_author else n.first_author end,
        first_source = case when excluded.first_named_at < n.first_named_at then excluded.first_source else n.first_source end,
        last_named_at = greatest(n.last_named_at, excluded.last_named_at),
        authors = case when cardinality(n.authors) >= 16 or excluded.authors <@ n.authors then n.authors else (
            select array_agg(author order by place)
            from (
                select author, min(place) as place from unnest(n.authors || excluded.authors) with ordinality a (author, place)
                group by author order by place limit 16
            ) different
        ) end,
        tries = case when n.dropped_at is null then n.tries else $4 end,
        next_try_at = case
            when n.dropped_at is null then n.next_try_at
            when cardinality(n.authors) < 16 and not excluded.authors <@ n.authors
                or n.dropped_at < ${NOW} - $5 then ${NOW}
        end,
        dropped_at = case
            when cardinality(n.authors) < 16 and not excluded.authors <@ n.authors
                or n.dropped_at < ${NOW} - $5 then null
            else n.dropped_at
        end
)
select count(*) filter (where is_new and admitted.url is not null) as candidates,
       count(*) filter (where admitted.url is null) as crowded
from placed left join admitted using (url, is_new)`;
