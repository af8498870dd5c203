import { serializeEvent, storageObstacle } from '../nostr/event.ts';
import type { VerifiedEvent } from '../nostr/verify.ts';
import type { Hole, Window } from '../nostr/window.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { isDataError, type Query } from './connection.ts';
import { type Offence, recordOffences } from './offences.ts';
import { tokenOf } from './relays.ts';
import { type Shown, sortById, statementOfShown, storeShown } from './sightings.ts';

/** Writes a batch: events, sightings, quarantine and what the batch proves, all or nothing. */

export type Evidence = 'paging' | 'finish' | 'nip77' | 'silence';

/** What is written together: events, their sightings, and what they prove. */
export interface Batch extends Shown {
  readonly filterId: number;
  readonly proven: readonly Window[];
  readonly evidence: Evidence;
  readonly holes: readonly Hole[];
  /** Where earlier batches of this visit could not keep every event: these stretches become holes in what is proven. */
  readonly refused?: readonly Refused[];
  /** What the relay sent and the archive refused since the previous batch, each reason once. */
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
  /** Another process holds the claim on the relay now: events and sightings were stored, what they prove was not. */
  readonly claimLost?: true;
  /** Keys of new events, hex id → key; without those that another writer has stored at the same time. */
  readonly keys?: ReadonlyMap<string, string>;
  /** Some of the keys of known events that were given are those of deleted events. */
  readonly isStale?: true;
}

/** Events that the columns cannot hold exactly, with the reason. */
type Aside = readonly { event: VerifiedEvent; reason: string }[];

/** New events of a batch, sorted by id: those for the table `events`, and those for the quarantine. */
export interface Sorted {
  readonly plain: VerifiedEvent[];
  readonly aside: Aside;
}

/** Limits of the quarantine for each relay, in events and bytes: nothing else bounds the raw data of untrusted relays. */
const MAX_QUARANTINED = 10_000;
const MAX_QUARANTINED_BYTES = 64 * 1024 * 1024;

/**
 * Stores a batch in one statement, which is most of them: a transaction would take four ways to the server.
 *
 * @param shards number of shards of `events`
 * @returns null where it takes a transaction ({@link storeBatch}); `isWhole` is false where something was deleted
 *   meanwhile: what is there was stored, nothing is proven, and a transaction has to store the rest
 */
export async function storeAtOnce(
  query: Query,
  batch: Batch,
  { plain, aside }: Sorted,
  shards: number,
): Promise<(Stored & { readonly isWhole: boolean }) | null> {
  if (aside.length > 0 || (batch.offences ?? []).length > 0) return null;
  const statement = await statementOfShown(query, { ...batch, events: plain }, shards);
  if (!statement) return null;
  const { source, values, keys, wanted } = statement;
  const first = values.length + 2;
  const proof = proofOf(batch, batch.refused ?? []);
  const { rows } = await query<{ events: number; sightings: number; is_held: boolean | null }>(
    `select stored.new_events as events, stored.sightings,
            case when stored.matched < $${first - 1} then null ${proof ? `else ${provenBy(first)}` : 'else true'} end as is_held
     from ${source}`,
    [...values, wanted, ...(proof ?? [])],
  );
  const { events = 0, sightings = 0, is_held: isHeld = null } = rows[0] ?? {};
  return {
    ...{ events, sightings, quarantined: 0, isWhole: isHeld !== null },
    ...(keys.size > 0 && events === keys.size ? { keys } : {}),
    ...(isHeld === false ? ({ claimLost: true } as const) : {}),
  };
}

/** As {@link storeAtOnce}, by several statements. @param query of a transaction */
export async function storeBatch(
  query: Query,
  batch: Batch,
  { plain, aside }: Sorted,
  shards: number,
): Promise<Stored> {
  const stored = await storeShown(query, { ...batch, events: plain }, shards);
  const { quarantined, refused } = await insertQuarantine(query, batch, aside);
  const allRefused = [...(batch.refused ?? []), ...(refused ? [refused] : [])];
  const isHeld = await recordCoverage(query, batch, allRefused);
  await recordOffences(query, batch.relay, batch.offences ?? []);
  crashPoint('before-commit', batch.relay.url);
  const counts = {
    ...stored,
    quarantined,
    ...(isHeld ? {} : ({ claimLost: true } as const)),
  };
  return refused ? { ...counts, refused } : counts;
}

/** Fallback after a data error: inserts events one by one in savepoints and quarantines those that fail. */
export async function storeOneByOne(
  query: Query,
  batch: Batch,
  { plain, aside }: Sorted,
  shards: number,
): Promise<Stored> {
  const bad: { event: VerifiedEvent; reason: string }[] = [];
  const inserted = { events: 0, sightings: 0 };
  for (const event of plain) {
    await query('savepoint one');
    try {
      const alone = { ...batch, events: [event], known: [], sighted: [] };
      const stored = await storeShown(query, alone, shards);
      inserted.events += stored.events;
      inserted.sightings += stored.sightings;
    } catch (error) {
      if (!isDataError(error)) throw error;
      await query('rollback to savepoint one');
      bad.push({ event, reason: `sqlstate_${(error as { code: string }).code}` });
    }
    await query('release savepoint one');
  }
  const rest = await storeBatch(query, batch, { plain: [], aside: [...aside, ...bad] }, shards);
  return {
    ...rest,
    events: inserted.events + rest.events,
    sightings: inserted.sightings + rest.sightings,
  };
}

/** Quarantines events as far as the relay's quarantine has room; those already in it need none. */
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

/**
 * Records what was proven, and holes: those that were found, and stretches of proven windows with refused events.
 * @returns false where another process holds the claim on the relay: nothing was recorded
 */
async function recordCoverage(
  query: Query,
  batch: Batch,
  refused: readonly Refused[],
): Promise<boolean> {
  const proof = proofOf(batch, refused);
  if (!proof) return true;
  const { rows } = await query<{ is_held: boolean }>(`select ${provenBy(1)} as is_held`, proof);
  return rows[0]?.is_held ?? false;
}

/** The values of {@link provenBy}; null where nothing was proven and no hole found. */
function proofOf(batch: Batch, refused: readonly Refused[]): unknown[] | null {
  const { relay, filterId, evidence, proven } = batch;
  const holes = [...batch.holes, ...holesIn(proven, refused)];
  if (proven.length === 0 && holes.length === 0) return null;
  return [
    ...[relay.relayId, filterId, evidence, multirange(proven), JSON.stringify(holes)],
    tokenOf(relay),
  ];
}

/** SQL: records what was proven, and gives whether the claim is held; six values from `$first` on. */
function provenBy(first: number): string {
  const [relay, filter, evidence, proven, holes, token] = [0, 1, 2, 3, 4, 5].map(
    (place) => `$${first + place}`,
  );
  return `case when holds_claim('visit', ${relay}, ${token})
                 then record_coverage(${relay}, ${filter}, ${evidence}, ${proven}::int8multirange, ${holes}) is not null
                 else false end`;
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

/** Counts of what two statements have stored. */
export function plus(first: Stored, rest: Stored): Stored {
  const { events, sightings } = first;
  return { ...rest, events: events + rest.events, sightings: sightings + rest.sightings };
}

/** Sorts as `store_sighted` inserts, and puts aside what the columns cannot hold exactly. */
export function sortOut(events: readonly VerifiedEvent[]): Sorted {
  const obstacles = new Map(events.map((event) => [event, storageObstacle(event)]));
  const plain = sortById(events.filter((event) => !obstacles.get(event)));
  const aside = events.flatMap((event) => {
    const reason = obstacles.get(event);
    return reason ? [{ event, reason: reason as string }] : [];
  });
  return { plain, aside };
}
