import type { Query } from './connection.ts';

/**
 * The days of events (`events.created_day`). On PostgreSQL alone the events of a batch are stored and looked up together;
 * where they are distributed over the shards of Citus, those of each shard are, so that one server answers each statement.
 */

const DAY = 86_400;
/** Bits of an event key below its second. */
const KEY_BITS = 24n;
/** Days that are remembered; beyond, all are forgotten and written again. */
const MAX_REMEMBERED = 100_000;

/** The UTC day of a second, in days since 1970-01-01. */
export function dayOf(createdAt: number): number {
  return Math.floor(createdAt / DAY);
}

/** The day of the event with this key. */
export function dayOfKey(eventKey: string): number {
  return dayOf(Number(BigInt(eventKey) >> KEY_BITS));
}

/** `events.event_key` of an event of that second; `number` is taken modulo 2^24. */
export function eventKey(createdAt: number, number: number): string {
  return ((BigInt(createdAt) << KEY_BITS) | (BigInt(number) & 0xffffffn)).toString();
}

/** Days whose events are in one shard, ascending. */
export interface DayGroup {
  readonly days: readonly number[];
  has(day: number): boolean;
}

/**
 * Groups days by their shard, in the order of the shards: writers that all take this order cannot deadlock. With one shard
 * there is one group.
 */
export function dayGroups(days: Iterable<number>, shards: number): DayGroup[] {
  const groups = new Map<number, Set<number>>();
  for (const day of days) {
    const shard = shardOf(day, shards);
    const group = groups.get(shard);
    if (group) group.add(day);
    else groups.set(shard, new Set([day]));
  }
  return [...groups]
    .sort(([a], [b]) => a - b)
    .map(([, group]) => ({
      days: [...group].sort((a, b) => a - b),
      has: (day) => group.has(day),
    }));
}

/** The shard of a day: Citus divides the values of `hashint4` into ranges of the same length (its table pg_dist_shard). */
export function shardOf(day: number, shards: number): number {
  if (shards === 1) return 0;
  const range = Math.floor(2 ** 32 / shards);
  return Math.min(Math.floor((hashInt4(day) + 2 ** 31) / range), shards - 1);
}

/** PostgreSQL's `hashint4`: `hash_bytes_uint32` of src/common/hashfn.c, by Bob Jenkins (lookup3). */
export function hashInt4(value: number): number {
  let [a, b, c] = [INITIAL + value, INITIAL, INITIAL] as [number, number, number];
  c = ((c ^ b) - rotated(b, 14)) | 0;
  a = ((a ^ c) - rotated(c, 11)) | 0;
  b = ((b ^ a) - rotated(a, 25)) | 0;
  c = ((c ^ b) - rotated(b, 16)) | 0;
  a = ((a ^ c) - rotated(c, 4)) | 0;
  b = ((b ^ a) - rotated(a, 14)) | 0;
  return ((c ^ b) - rotated(b, 24)) | 0;
}

const INITIAL = 0x9e3779b9 + 4 + 3_923_095;

function rotated(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

/** Adds days to the table `days`, which statements that store events join. */
export async function addDays(query: Query, days: Iterable<number>): Promise<void> {
  const sorted = [...days].sort((a, b) => a - b);
  await query(
    'insert into days (day) select day from unnest($1::integer[]) as t (day) order by day on conflict do nothing',
    [sorted],
  );
}

/** Adds days that this process has not added yet. */
export class AddedDays {
  readonly #added = new Set<number>();

  async add(query: Query, days: ReadonlySet<number>): Promise<void> {
    const missing = [...days].filter((day) => !this.#added.has(day));
    if (missing.length === 0) return;
    await addDays(query, missing);
    if (this.#added.size + missing.length > MAX_REMEMBERED) this.#added.clear();
    for (const day of missing) this.#added.add(day);
  }
}
