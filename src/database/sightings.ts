import { randomInt } from 'node:crypto';
import type { VerifiedEvent } from '../nostr/verify.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import type { Query } from './connection.ts';
import { addDays, dayGroups, dayOf, dayOfKey, eventKey } from './days.ts';
import { archivedIds } from './reading.ts';
import type { Relay } from './relays.ts';

/** Stores events and their sightings on a relay (`store_sighted` in init.sql), in the transaction of its caller. */

/** What a relay has shown. */
export interface Shown {
  readonly relay: Relay;
  /** Unix seconds. */
  readonly seenAt: number;
  /** Events that the archive lacked when it was last asked. */
  readonly events: readonly VerifiedEvent[];
  /** Events that the archive holds: only their sightings are new. */
  readonly known: readonly VerifiedEvent[];
  /** Keys of archived events, hex id → key: those without one are looked up. */
  readonly keys?: ReadonlyMap<string, string>;
  /** Ids, in hex, of events that the archive holds and this relay says it holds (NIP-77): sightings without a body. */
  readonly sighted: readonly string[];
}

/** Numbers of rows that were added. */
export interface StoredRows {
  readonly events: number;
  readonly sightings: number;
  /** Keys of new events, hex id → key; none of a group of days in which another writer has stored one at the same time. */
  readonly keys?: ReadonlyMap<string, string>;
  /** Some of the given keys were of deleted events. */
  readonly isStale?: true;
}

/** `matched`: events that have a sighting on the relay now. */
type Row = { events: number; matched: number; sightings: number };
type StoredParts = Row & { readonly keys: Map<string, string> };

/** Sightings count seconds from 2020-01-01 UTC (init.sql). */
export const SEEN_AT_EPOCH = 1_577_836_800;
const MAX_TAG_VALUE_BYTES = 255;
const ONE_LETTER = /^[A-Za-z]$/;

/** Sorts as `store_sighted` inserts. */
export function sortById<T extends { id: string }>(events: readonly T[]): T[] {
  return [...events].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The days of events. `store_sighted` needs their rows of `days` (`AddedDays`). */
export function daysOf(events: readonly VerifiedEvent[]): Set<number> {
  return new Set(events.map((event) => dayOf(event.created_at)));
}

/**
 * Stores new events, and sightings of new and known ones, each once. A known event that was deleted since is stored again.
 *
 * @param query of a transaction
 * @param shards number of shards of `events`
 * @throws Error if the relay, or an event of which only the id was seen, was deleted meanwhile
 */
export async function storeShown(query: Query, shown: Shown, shards: number): Promise<StoredRows> {
  const { wanted, ...parts } = await partsOf(query, shown);
  const stored = await storeParts(query, shown, parts, shards);
  crashPoint('in-transaction', shown.relay.url);
  const { events: added, matched, sightings, keys } = stored;
  if (matched === wanted) return { events: added, sightings, ...(keys.size > 0 && { keys }) };
  const events = sortById(withoutRepeats([...shown.events, ...shown.known]));
  await addDays(query, daysOf(events));
  const bodies = new Set(events.map(({ id }) => id));
  const ids = [...new Set(shown.sighted)].filter((id) => !bodies.has(id));
  const known = await knownById(query, ids);
  const again = await storeParts(query, shown, { events, known }, shards);
  if (again.matched < events.length + ids.length)
    throw new Error(`${shown.relay.url}, or events it holds, were deleted while it was visited`);
  return {
    events: added + again.events,
    sightings: sightings + again.sightings,
    isStale: true,
  };
}

/** An archived event. */
interface Known {
  readonly key: string;
  readonly day: number;
}

interface Parts {
  readonly events: readonly VerifiedEvent[];
  readonly known: readonly Known[];
}

/** Each event once: by its key if that is known, else by its body, else by the key of its id. `wanted` counts them. */
async function partsOf(query: Query, shown: Shown): Promise<Parts & { wanted: number }> {
  const { keys = NO_KEYS } = shown;
  const taken = new Set(shown.events.map(({ id }) => id));
  const isNew = (id: string) => taken.size < taken.add(id).size;
  const known: Known[] = [];
  const bodies: VerifiedEvent[] = [];
  const ids: string[] = [];
  for (const event of shown.known) {
    if (!isNew(event.id)) continue;
    const key = keys.get(event.id);
    if (key === undefined) bodies.push(event);
    else known.push({ key, day: dayOf(event.created_at) });
  }
  for (const id of shown.sighted) {
    if (!isNew(id)) continue;
    const key = keys.get(id);
    if (key === undefined) ids.push(id);
    else known.push({ key, day: dayOfKey(key) });
  }
  known.push(...(await knownById(query, ids)));
  const events = bodies.length > 0 ? sortById([...shown.events, ...bodies]) : shown.events;
  return { events, known, wanted: taken.size };
}

const NO_KEYS: ReadonlyMap<string, string> = new Map();

async function knownById(query: Query, ids: readonly string[]): Promise<Known[]> {
  if (ids.length === 0) return [];
  const archived = await archivedIds(query, ids);
  return [...archived.values()].map(({ key, createdAt }) => ({ key, day: dayOf(createdAt) }));
}

/** One statement for each group of days. Draws new keys each time: of two events with the same key one batch is retried. */
async function storeParts(
  query: Query,
  { relay, seenAt }: Shown,
  { events, known }: Parts,
  shards: number,
): Promise<StoredParts> {
  const stored = { events: 0, matched: 0, sightings: 0, keys: new Map<string, string>() };
  const days = daysOf(events);
  for (const { day } of known) days.add(day);
  for (const group of dayGroups(days, shards)) {
    const bodies = events.filter((event) => group.has(dayOf(event.created_at)));
    const keys = newKeys(bodies);
    const { rows } = await query<Row>(STORE_SIGHTED, [
      relay.relayId,
      seenAt - SEEN_AT_EPOCH,
      group.days,
      shards > 1,
      known.filter(({ day }) => group.has(day)).map(({ key }) => key),
      keys,
      ...eventColumns(bodies),
    ]);
    if (rows[0]?.events === bodies.length)
      for (const [place, { id }] of bodies.entries()) stored.keys.set(id, keys[place] ?? '');
    stored.events += rows[0]?.events ?? 0;
    stored.matched += rows[0]?.matched ?? 0;
    stored.sightings += rows[0]?.sightings ?? 0;
  }
  return stored;
}

const STORE_SIGHTED = `select new_events as events, matched, sightings
   from store_sighted($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`;

/** Fresh keys of new events, in their order. */
export function newKeys(events: readonly VerifiedEvent[]): string[] {
  const start = randomInt(2 ** 24);
  return events.map((event, index) => eventKey(event.created_at, start + index));
}

/** The columns of new events beside their keys, in the order of the parameters of `store_sighted`. */
export function eventColumns(events: readonly VerifiedEvent[]): unknown[][] {
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

function withoutRepeats<T extends { id: string }>(events: readonly T[]): T[] {
  return [...new Map(events.map((event) => [event.id, event])).values()];
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
