import { isDataError, type Query } from './database.ts';
import { serializeEvent } from './nostr/event.ts';
import type { Window } from './nostr/filter.ts';
import type { VerifiedEvent } from './nostr/verify.ts';
import type { Hole } from './relay/paging.ts';
import type { RelayAddress } from './relay/url.ts';

/** The part of `Bigbrotr` that writes: one batch of events and what it proves, in the transaction of its caller. */

/** A relay of the archive: its address and its short key. */
export interface Relay extends RelayAddress {
  readonly relayId: number;
}

export type Evidence = 'paging' | 'finish' | 'nip77';

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
  readonly proven: readonly Window[];
  readonly evidence: Evidence;
  readonly holes: readonly Hole[];
}

export interface Stored {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
}

/** Events that the columns cannot hold exactly, and why. */
export type Aside = readonly { event: VerifiedEvent; reason: string }[];

/** Sightings count seconds from 2020-01-01 UTC (init.sql). */
const SEEN_AT_EPOCH = 1_577_836_800;
const MAX_TAG_VALUE_BYTES = 255;
const ONE_LETTER = /^[A-Za-z]$/;

/** Writers that insert in the same order cannot deadlock (LESSONS 23: 45 of 120 transactions, then none). */
export function sortById<T extends { id: string }>(events: readonly T[]): T[] {
  return [...events].sort((a, b) => (a.id < b.id ? -1 : 1));
}

export async function storeBatch(
  query: Query,
  batch: Batch,
  events: VerifiedEvent[],
  aside: Aside,
): Promise<Stored> {
  const inserted = await insertEvents(query, events);
  const all = sortById([...events, ...batch.known]);
  let sightings = await insertSightings(query, batch, all);
  if (sightings.matched < all.length) {
    // An event that was known has been deleted since: its body is at hand.
    await insertEvents(query, all);
    sightings = await insertSightings(query, batch, all);
  }
  const quarantined = await insertQuarantine(query, batch, aside);
  await recordCoverage(query, batch);
  return { events: inserted, sightings: sightings.inserted, quarantined };
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
  return { ...rest, events: inserted };
}

async function insertEvents(query: Query, events: readonly VerifiedEvent[]): Promise<number> {
  if (events.length === 0) return 0;
  const { rowCount } = await query(
    `insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
     select new_event_key(created_at), created_at, kind, decode(id, 'hex'), decode(pubkey, 'hex'), decode(sig, 'hex'),
            tags::jsonb, tagvalues::text[], content
     from unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
         as t (created_at, kind, id, pubkey, sig, tags, tagvalues, content)
     on conflict (id) do nothing`,
    [
      events.map((event) => event.created_at),
      events.map((event) => event.kind),
      events.map((event) => event.id),
      events.map((event) => event.pubkey),
      events.map((event) => event.sig),
      events.map((event) => JSON.stringify(event.tags)),
      events.map((event) => arrayLiteral(tagValues(event))),
      events.map((event) => event.content),
    ],
  );
  return rowCount ?? 0;
}

async function insertSightings(query: Query, batch: Batch, events: readonly VerifiedEvent[]) {
  if (events.length === 0) return { matched: 0, inserted: 0 };
  const { rows } = await query<{ matched: number; inserted: number }>(
    `with matched as (
         select e.event_key
         from unnest($1::text[]) as t (id)
         join events e on e.id = decode(t.id, 'hex')
     ), inserted as (
         insert into sightings (event_key, relay_id, seen_at)
         select event_key, $2, $3 from matched order by event_key
         on conflict do nothing
         returning 1
     )
     select (select count(*) from matched) as matched, (select count(*) from inserted) as inserted`,
    [events.map(({ id }) => id), batch.relay.relayId, batch.seenAt - SEEN_AT_EPOCH],
  );
  return rows[0] ?? { matched: 0, inserted: 0 };
}

async function insertQuarantine(query: Query, batch: Batch, aside: Aside): Promise<number> {
  let inserted = 0;
  for (const { event, reason } of aside) {
    const { rowCount } = await query(
      `insert into quarantine (id, relay_id, created_at, reason, raw, seen_at)
       values (decode($1, 'hex'), $2, $3, $4, $5, $6)
       on conflict do nothing`,
      [
        event.id,
        batch.relay.relayId,
        event.created_at,
        reason,
        Buffer.from(serializeEvent(event)),
        batch.seenAt,
      ],
    );
    inserted += rowCount ?? 0;
  }
  return inserted;
}

/** Moves what is proven into today's row of its evidence, so that each stretch stands once, with its latest proof. */
async function recordCoverage(query: Query, batch: Batch): Promise<void> {
  const { relay, filterId, proven, holes } = batch;
  if (proven.length === 0 && holes.length === 0) return;
  // One writer at a time for the coverage of a relay and filter.
  await query('select from visits where relay_id = $1 and filter_id = $2 for update', [
    relay.relayId,
    filterId,
  ]);
  if (proven.length > 0) {
    const stretches = `{${proven.map(({ since, until }) => `[${since},${until}]`).join(',')}}`;
    const where = [relay.relayId, filterId, stretches];
    await query(
      `update coverage set covered = covered - $3::int8multirange
       where relay_id = $1 and filter_id = $2 and covered && $3::int8multirange`,
      where,
    );
    await query(
      `insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
       values ($1, $2, $4, (now() at time zone 'utc')::date, $3, extract(epoch from now())::bigint)
       on conflict (relay_id, filter_id, evidence, proven_on) do update
       set covered = coverage.covered + excluded.covered, proven_at = excluded.proven_at`,
      [...where, batch.evidence],
    );
    await query(
      'delete from coverage where relay_id = $1 and filter_id = $2 and isempty(covered)',
      where.slice(0, 2),
    );
    await query(
      'delete from holes where relay_id = $1 and filter_id = $2 and stretch <@ $3::int8multirange',
      where,
    );
  }
  for (const hole of holes) {
    await query(
      `insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
       values ($1, $2, int8range($3, $4, '[]'), $5, $6, extract(epoch from now())::bigint)
       on conflict (relay_id, filter_id, stretch) do update
       set reason = excluded.reason, events = excluded.events, noted_at = excluded.noted_at`,
      [relay.relayId, filterId, hole.since, hole.until, hole.reason, hole.count],
    );
  }
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

/** A text[] in PostgreSQL's notation (chapter 8.15.6), for a row of a larger array. */
function arrayLiteral(values: readonly string[]): string {
  return `{${values.map((value) => `"${value.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
