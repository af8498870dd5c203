import { randomInt } from 'node:crypto';
import type { VerifiedEvent } from '../nostr/verify.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import type { Query } from './connection.ts';
import { addDays, type DayGroup, dayGroups, dayOf, dayOfKey, eventKey } from './days.ts';
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

/** One statement for each group of days. */
async function storeParts(
  query: Query,
  shown: Shown,
  parts: Parts,
  shards: number,
): Promise<StoredParts> {
  const stored = { events: 0, matched: 0, sightings: 0, keys: new Map<string, string>() };
  for (const group of groupsOf(parts, shards)) {
    const { values, keys } = valuesOf(shown, parts, group, shards);
    const { rows } = await query<Row>(
      `select new_events as events, matched, sightings from ${STORE_SIGHTED}`,
      values,
    );
    if (rows[0]?.events === keys.size) for (const [id, key] of keys) stored.keys.set(id, key);
    stored.events += rows[0]?.events ?? 0;
    stored.matched += rows[0]?.matched ?? 0;
    stored.sightings += rows[0]?.sightings ?? 0;
  }
  return stored;
}

function groupsOf({ events, known }: Parts, shards: number): DayGroup[] {
  const days = daysOf(events);
  for (const { day } of known) days.add(day);
  return dayGroups(days, shards);
}

const STORE_SIGHTED = 'store_sighted($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)';

/** The values of `STORE_SIGHTED`, and the keys that they give to new events, by id. */
interface GroupValues {
  readonly values: readonly unknown[];
  readonly keys: ReadonlyMap<string, string>;
}

/** Draws new keys each time: of two events with the same key one batch is retried. */
function valuesOf(
  { relay, seenAt }: Shown,
  { events, known }: Parts,
  group: DayGroup,
  shards: number,
): GroupValues {
  const bodies = events.filter((event) => group.has(dayOf(event.created_at)));
  const keys = newKeys(bodies);
  const values = [
    relay.relayId,
    seenAt - SEEN_AT_EPOCH,
    group.days,
    shards > 1,
    known.filter(({ day }) => group.has(day)).map(({ key }) => key),
    [...keys.values()],
    ...eventColumns(bodies),
  ];
  return { values, keys };
}

/** A statement that stores all that was shown. Its row `stored` has `new_events`, `matched` and `sightings`. */
export interface StatementOfShown extends GroupValues {
  /** For the clause `from`. */
  readonly source: string;
  /** `stored.matched` is less where known events, or the relay, were deleted meanwhile: then something is not stored. */
  readonly wanted: number;
}

/** What `storeShown` stores, as one statement; null where there is nothing to store, or where it takes several. */
export async function statementOfShown(
  query: Query,
  shown: Shown,
  shards: number,
): Promise<StatementOfShown | null> {
  const { wanted, ...parts } = await partsOf(query, shown);
  const [group, ...others] = groupsOf(parts, shards);
  if (!group || others.length > 0) return null;
  return {
    source: `${STORE_SIGHTED} as stored`,
    ...valuesOf(shown, parts, group, shards),
    wanted,
  };
}

/** Fresh keys of new events by their ids, in the order of the events, each of them once. */
export function newKeys(events: readonly VerifiedEvent[]): Map<string, string> {
  const start = randomInt(2 ** 24);
  return new Map(
    events.map(({ id, created_at }, index) => [id, eventKey(created_at, start + index)]),
  );
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
