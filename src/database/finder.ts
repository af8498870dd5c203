import type { NamedRelay, NamingEvent } from '../network/named-relay.ts';
import { MAX_CONTENT_CHARS } from '../nostr/relay-hints.ts';
import { unixNow } from '../nostr/unix-time.ts';
import { NOW, type Query } from './connection.ts';
import { advanceReader, type JournalRead, readNext } from './journal.ts';

/** Table `named_relays`: relay URLs named in the new events of the journal. */

/** Maximum number of waiting candidates whose first mention is by one author. */
const MAX_CANDIDATES_OF_AUTHOR = 2000;
/** Maximum number of URLs with a path on one host and port: a server may answer on any path. The URL without a path always has room. */
const MAX_NAMES_OF_HOST = 16;
const DAY = 86_400;
/** Number of tries from which a dropped name that is named again continues. */
const TRIES_OF_REVIVED = 4;
const REVIVE_AFTER = 90 * DAY;
/** Maximum age of an event that makes a down relay due again, and minimum age of its latest check, in seconds. */
const NAMED_OF_LATE = 2 * DAY;
const RECHECK_AFTER = DAY;
/** Events read at a time: each may have 4 MB. */
const EVENTS_AT_A_TIME = 100;
/** Names collected before they are written; one event may have a thousand. */
const NAMES_AT_A_TIME = 5000;

/** Collects the names in events. Each part of a scan uses a new one, because it may be retried. */
export interface NameGatherer {
  addEvent(event: NamingEvent): void;
  named(): NamedRelay[];
  readonly size: number;
  /** Texts that gave no name, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

/** Counts of a scan. */
export interface Scanned {
  /** Whether it read rows of the journal, or why it read none. */
  readonly state: JournalRead['state'];
  /** Rows of the journal. */
  readonly batches: number;
  /** Events that may name a relay. */
  readonly events: number;
  /** Distinct names, counted once for each part of the scan that has them. */
  readonly names: number;
  /** Names that are new and not relays. */
  readonly candidates: number;
  /** Names above the limit of their author or host. */
  readonly crowded: number;
  /** Texts that gave no name, by reason. */
  readonly refused: Readonly<Record<string, number>>;
}

export type Written = Pick<Scanned, 'names' | 'candidates' | 'crowded'>;

/** Event keys read in one transaction, at most ten batches of new events. */
const EVENT_KEYS_AT_A_TIME = 10_000;

/**
 * Reads up to `rows` rows of the journal and writes the names in their events, in the transaction of its caller: names
 * and cursor are written together. Reads nothing while another finder reads.
 *
 * @param gather creates an empty gatherer
 */
export async function scanJournal(
  query: Query,
  rows: number,
  gather: () => NameGatherer,
): Promise<Scanned> {
  const read = await readNext(query, 'finder', { rows, eventKeys: EVENT_KEYS_AT_A_TIME });
  const taken = read.state === 'rows' ? read.rows : [];
  const keys = taken.flatMap(({ eventKeys }) => eventKeys);
  const refused: Record<string, number> = {};
  const counts = { events: 0, names: 0, candidates: 0, crowded: 0 };
  const done = { state: read.state, batches: taken.length, ...counts, refused };
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
  const latest = taken.at(-1);
  if (latest) await advanceReader(query, 'finder', latest);
  return done;
}

/**
 * The events that still exist and may name a relay, about a quarter, with only the searched part of their content. A
 * cheap filter on the server, so that the others are not transferred; `relayHints` extracts the names.
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
 * Writes names with their authors. A name that is not a relay becomes a candidate that is due at once, within the limits
 * per author and host. A dropped name is tried again when a new author names it, or after 90 days.
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
 * Makes down relays due for a check when a recent event names them, even with weeks of back-off left; at most once a day,
 * because dead relays are still named often.
 */
async function recheckDead(query: Query, names: readonly NamedRelay[]): Promise<void> {
  const since = unixNow() - NAMED_OF_LATE;
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
