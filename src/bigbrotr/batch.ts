import { crashPoint } from '../crash-point.ts';
import { isDataError, type Query } from '../database.ts';
import { serializeEvent } from '../nostr/event.ts';
import type { Window } from '../nostr/filter.ts';
import type { VerifiedEvent } from '../nostr/verify.ts';
import type { Hole } from '../relay/paging.ts';
import type { RelayAddress } from '../relay/url.ts';
import { type Offence, recordOffences } from './offences.ts';

/** The part of `Bigbrotr` that writes: one batch of events and what it proves, in the transaction of its caller. */

/** A relay of the archive: its address and its short key. */
export interface Relay extends RelayAddress {
  readonly relayId: number;
}

export type Evidence = 'paging' | 'finish' | 'nip77' | 'silence';

/** What is written together: events, their sightings, and what they prove. */
export interface Batch {
  readonly relay: Relay;
  readonly filterId: number;
  /** Unix seconds. */
  readonly seenAt: number;
  /** Events that the archive lacks, as far as it was asked. */
  readonly events: readonly VerifiedEvent[];
  /** Events that the archive holds: only their sightings are new. */
  readonly known: readonly VerifiedEvent[];
  /** Keys under which known events were found, hex id → key: those without one are looked up by id. */
  readonly keys?: ReadonlyMap<string, string>;
  /** Ids, in hex, of events that the archive holds and this relay says it holds (NIP-77): sightings without a body. */
  readonly sighted: readonly string[];
  readonly proven: readonly Window[];
  readonly evidence: Evidence;
  readonly holes: readonly Hole[];
  /** Where earlier batches of this visit could not keep everything: what is proven is proven without that. */
  readonly refused?: readonly Refused[];
  /** What of the relay was refused since the batch before, each reason once. */
  readonly offences?: readonly Offence[];
}

/** A stretch of time with events for which the quarantine of a relay has no room. */
export interface Refused extends Window {
  readonly count: number;
}

export interface Stored {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  /** Absent where everything was kept. */
  readonly refused?: Refused;
}

/** Events that the columns cannot hold exactly, and why. */
export type Aside = readonly { event: VerifiedEvent; reason: string }[];

/** Sightings count seconds from 2020-01-01 UTC (init.sql). */
const SEEN_AT_EPOCH = 1_577_836_800;
/** What one relay may have set aside, as events and as bytes: nothing else bounds what a stranger makes us keep raw. */
const MAX_QUARANTINED = 10_000;
const MAX_QUARANTINED_BYTES = 64 * 1024 * 1024;
const MAX_TAG_VALUE_BYTES = 255;
const ONE_LETTER = /^[A-Za-z]$/;

/** Writers that insert in the same order cannot deadlock (in random order 45 of 120 transactions did). */
export function sortById<T extends { id: string }>(events: readonly T[]): T[] {
  return [...events].sort((a, b) => (a.id < b.id ? -1 : 1));
}

export async function storeBatch(
  query: Query,
  batch: Batch,
  events: VerifiedEvent[],
  aside: Aside,
): Promise<Stored> {
  const stored = await storeSighted(query, batch, events);
  const { quarantined, refused } = await insertQuarantine(query, batch, aside);
  await recordCoverage(query, batch, [...(batch.refused ?? []), ...(refused ? [refused] : [])]);
  await recordOffences(query, batch.relay, batch.offences ?? []);
  crashPoint('before-commit', batch.relay.url);
  const counts = { ...stored, quarantined };
  return refused ? { ...counts, refused } : counts;
}

async function storeSighted(
  query: Query,
  batch: Batch,
  events: readonly VerifiedEvent[],
): Promise<Pick<Stored, 'events' | 'sightings'>> {
  const { keys, ids } = knownOf(batch, events);
  const { late, ...stored } = await insertSighted(query, batch, events, keys, ids);
  crashPoint('in-transaction', batch.relay.url);
  let { matched } = stored;
  if (late.length > 0) {
    // These have come another way: mostly the last of the page before, which this page begins with.
    const more = await insertSighted(query, batch, [], [], late);
    matched += more.matched;
    stored.sightings += more.sightings;
  }
  if (matched < events.length + keys.length + ids.length) {
    // An event that was known has been deleted since: its body is at hand, unless only its id was seen.
    const all = sortById([...events, ...batch.known]);
    const wanted = [...new Set([...all.map(({ id }) => id), ...batch.sighted])].sort();
    stored.events += await insertEvents(query, all);
    const more = await insertSighted(query, batch, [], [], wanted);
    if (more.matched < wanted.length)
      throw new Error(`${batch.relay.url}, or events it holds, were deleted while it was visited`);
    stored.sightings += more.sightings;
  }
  return { events: stored.events, sightings: stored.sightings };
}

/** What is known already, each event once: by its key where that was found, else by its id. */
function knownOf(batch: Batch, events: readonly VerifiedEvent[]) {
  const keys: string[] = [];
  const ids: string[] = [];
  const taken = new Set(events.map(({ id }) => id));
  for (const { id } of batch.known) {
    if (taken.has(id)) continue;
    taken.add(id);
    const key = batch.keys?.get(id);
    if (key === undefined) ids.push(id);
    else keys.push(key);
  }
  for (const id of batch.sighted) if (!taken.has(id)) ids.push(id);
  return { keys, ids: [...new Set(ids)] };
}

/** After a value that broke a batch: each event in a savepoint of its own, and the one to blame set aside. */
export async function storeOneByOne(
  query: Query,
  batch: Batch,
  events: VerifiedEvent[],
  aside: Aside,
): Promise<Stored> {
  const good: VerifiedEvent[] = [];
  const bad: { event: VerifiedEvent; reason: string }[] = [];
  let inserted = 0;
  for (const event of events) {
    await query('savepoint one');
    try {
      inserted += await insertEvents(query, [event]);
      good.push(event);
    } catch (error) {
      if (!isDataError(error)) throw error;
      await query('rollback to savepoint one');
      bad.push({ event, reason: `sqlstate_${(error as { code: string }).code}` });
    }
    await query('release savepoint one');
  }
  const rest = await storeBatch(query, batch, good, [...aside, ...bad]);
  return { ...rest, events: inserted + rest.events };
}

/**
 * Inserts what is new and the sightings of it and of what is known, in one statement. The relay's row is locked against
 * being deleted, as a foreign key on the sightings would do for each of them: a relay that is gone has no sightings.
 * `matched` counts the events that are there, of a relay that is there; `late` are those of the new ones that had come
 * already. Sightings that are there are left out by a look-up of each: `on conflict` would write a record of 45 bytes
 * for each of the others. When two batches of a relay meet, the unique index stops one, which is then tried again.
 */
async function insertSighted(
  query: Query,
  { relay, seenAt }: Batch,
  events: readonly VerifiedEvent[],
  keys: readonly string[],
  ids: readonly string[],
): Promise<{ events: number; matched: number; sightings: number; late: readonly string[] }> {
  const nothing = { events: 0, matched: 0, sightings: 0, late: null };
  const values = [relay.relayId, seenAt - SEEN_AT_EPOCH, keys, ids];
  const isIdle = events.length + keys.length + ids.length === 0;
  const { rows } = isIdle
    ? { rows: [] }
    : await query<Omit<typeof nothing, 'late'> & { late: string[] | null }>(
        events.length > 0 ? NEW_AND_KNOWN : KNOWN_ALONE,
        events.length > 0 ? [...values, ...eventColumns(events)] : values,
      );
  const { late, ...counts } = rows[0] ?? nothing;
  return { ...counts, late: late ?? [] };
}

const insertEventsFrom = (columns: string) =>
  `insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
     select new_event_key(created_at), created_at, kind, decode(id, 'hex'), decode(pubkey, 'hex'), decode(sig, 'hex'),
            tags::jsonb, tagvalues::jsonb, content
     from unnest(${columns}) as t (created_at, kind, id, pubkey, sig, tags, tagvalues, content)
     on conflict (created_at, id) do nothing`;

const insertSightingsOf = (added: string, matched: string, late: string) => `
     with relay as (
         select relay_id from relays where relay_id = $1 for key share
     ), added as (
         ${added}
     ), matched as (
         ${matched}select e.event_key from unnest($3::bigint[]) as t (event_key) join events e on e.event_key = t.event_key
         union all
         select e.event_key
         from unnest($4::text[]) as t (id)
         cross join lateral (select event_key from events where id = decode(t.id, 'hex') limit 1) e
     ), sighted as (
         select event_key, relay_id from matched cross join relay
     ), inserted as (
         insert into sightings (event_key, relay_id, seen_at)
         select event_key, relay_id, $2 from sighted
         where (
             select s.relay_id from sightings s where s.relay_id = sighted.relay_id and s.event_key = sighted.event_key
         ) is null
         order by event_key desc
         returning 1
     )
     select (select count(*) from added) as events, (select count(*) from sighted) as matched,
            (select count(*) from inserted) as sightings, ${late} as late`;

const KNOWN_ALONE = insertSightingsOf('select where false', '', 'null');
const NEW_AND_KNOWN = insertSightingsOf(
  `${insertEventsFrom('$5::bigint[], $6::integer[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[]')}
     returning event_key, id`,
  `select event_key from added
         union all
         `,
  `case when (select count(*) from added) < cardinality($5) then array(
                select t.id from unnest($7::text[]) as t (id) where decode(t.id, 'hex') not in (select id from added)
            ) end`,
);
const NEW_ALONE = insertEventsFrom(
  '$1::bigint[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]',
);

async function insertEvents(query: Query, events: readonly VerifiedEvent[]): Promise<number> {
  if (events.length === 0) return 0;
  const { rowCount } = await query(NEW_ALONE, eventColumns(events));
  return rowCount ?? 0;
}

function eventColumns(events: readonly VerifiedEvent[]): unknown[][] {
  return [
    events.map((event) => event.created_at),
    events.map((event) => event.kind),
    events.map((event) => event.id),
    events.map((event) => event.pubkey),
    events.map((event) => event.sig),
    events.map((event) => JSON.stringify(event.tags)),
    events.map((event) => JSON.stringify(tagValues(event))),
    events.map((event) => event.content),
  ];
}

/** Sets events aside as far as the relay's quarantine has room; those that are in it already need none. */
async function insertQuarantine(query: Query, batch: Batch, aside: Aside) {
  if (aside.length === 0) return { quarantined: 0, refused: null };
  const { held, ...used } = await quarantineOf(query, batch, aside);
  const refused: number[] = [];
  let quarantined = 0;
  for (const { event, reason } of [...aside].sort((a, b) => (a.event.id < b.event.id ? -1 : 1))) {
    if (held.has(event.id)) continue;
    const raw = Buffer.from(serializeEvent(event));
    used.rows += 1;
    used.bytes += raw.length;
    if (used.rows > MAX_QUARANTINED || used.bytes > MAX_QUARANTINED_BYTES) {
      refused.push(event.created_at);
      continue;
    }
    const { rowCount } = await query(
      `insert into quarantine (id, relay_id, created_at, reason, raw, seen_at)
       values (decode($1, 'hex'), $2, $3, $4, $5, $6)
       on conflict do nothing`,
      [event.id, batch.relay.relayId, event.created_at, reason, raw, batch.seenAt],
    );
    quarantined += rowCount ?? 0;
  }
  return { quarantined, refused: stretchOf(refused) };
}

/** What the relay's quarantine holds, and which of these events. */
async function quarantineOf(query: Query, { relay }: Batch, aside: Aside) {
  const { rows } = await query<{ rows: number; bytes: number; held: string[] | null }>(
    `select count(*) as rows, coalesce(sum(octet_length(raw)), 0)::bigint as bytes,
            array_agg(encode(id, 'hex')) filter (where id = any ($2::bytea[])) as held
     from quarantine where relay_id = $1`,
    [relay.relayId, aside.map(({ event }) => Buffer.from(event.id, 'hex'))],
  );
  const { rows: count = 0, bytes = 0, held = null } = rows[0] ?? {};
  return { rows: count, bytes, held: new Set(held) };
}

function stretchOf(seconds: readonly number[]): Refused | null {
  if (seconds.length === 0) return null;
  return { since: Math.min(...seconds), until: Math.max(...seconds), count: seconds.length };
}

/** Records what was proven and what was tried in vain; where something was refused the proof is good for the rest. */
async function recordCoverage(
  query: Query,
  batch: Batch,
  refused: readonly Refused[],
): Promise<void> {
  const { relay, filterId, evidence, proven } = batch;
  const holes = [...batch.holes, ...holesIn(proven, refused)];
  if (proven.length === 0 && holes.length === 0) return;
  await query('select record_coverage($1, $2, $3, $4::int8multirange, $5)', [
    ...[relay.relayId, filterId, evidence, multirange(proven), JSON.stringify(holes)],
  ]);
}

/** The parts of proven windows where events were refused. */
function holesIn(proven: readonly Window[], refused: readonly Refused[]) {
  return proven.flatMap((window) =>
    refused.flatMap(({ count, ...stretch }) => {
      const since = Math.max(window.since, stretch.since);
      const until = Math.min(window.until, stretch.until);
      return since <= until ? [{ since, until, reason: 'quarantine_full', count }] : [];
    }),
  );
}

/** An int8multirange in PostgreSQL's notation (chapter 8.17.5). */
export function multirange(windows: readonly Window[]): string {
  return `{${windows.map(({ since, until }) => `[${since},${until}]`).join(',')}}`;
}

/** The same values as event_tagvalues() of init.sql, made here because that costs the server a quarter of its rate. */
export function tagValues(event: Pick<VerifiedEvent, 'tags'>): string[] {
  const values = new Set<string>();
  for (const [name, value] of event.tags) {
    if (name === undefined || value === undefined || !ONE_LETTER.test(name)) continue;
    if (Buffer.byteLength(value) <= MAX_TAG_VALUE_BYTES) values.add(`${name}:${value}`);
  }
  return [...values];
}
