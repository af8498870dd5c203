/** Holds the archive against the model: what each relay holds, and what is archived, claimed and named as missing. */
import { isEphemeralKind } from 'nostr-tools/kinds';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import type { ModelledRelay } from './relays.ts';
import type { Servers } from './servers.ts';

type Ask = Servers['query'];

interface Stretch {
  readonly since: number;
  readonly until: number;
}

/** What the archive says of one relay. */
interface Archived {
  /** Events with a sighting there, or set aside from there, by id. */
  readonly stored: ReadonlyMap<string, StoredEvent>;
  readonly covered: readonly Stretch[];
  readonly gaps: readonly Stretch[];
  /** The last second that was wanted; null when it was never visited. */
  readonly until: number | null;
  /** Whether a check has found it not to be readable, so that nobody visits it. */
  readonly unreadable: boolean;
}

/** An event that is archived of a relay; of one that is set aside the kind is not known. */
interface StoredEvent {
  readonly id: string;
  readonly kind: number | null;
  readonly created_at: number;
}

/** How the events of one relay fared. */
export interface Comparison {
  readonly relay: ModelledRelay;
  readonly held: number;
  readonly stored: number;
  /** Not archived, in time that is claimed. */
  readonly claimed: readonly NostrEvent[];
  /** Not archived, and no gap names their time. */
  readonly unnamed: readonly NostrEvent[];
  /** Not archived, in a named gap. */
  readonly named: readonly NostrEvent[];
  /** Archived, and never held by the relay as a valid event. */
  readonly invented: readonly StoredEvent[];
}

/** Compares one relay, coverage first: it only grows together with what it claims. */
export async function compareRelay(ask: Ask, relay: ModelledRelay): Promise<Comparison> {
  const archived = await archivedOf(ask, relay.url);
  const missing = [...relay.held.values()].filter(({ id }) => !archived.stored.has(id));
  const { covered, gaps, until, unreadable } = archived;
  const claimed = missing.filter((event) => isIn(covered, event));
  const rest = missing.filter((event) => !isIn(covered, event));
  const isNamed = (event: NostrEvent) =>
    until === null ? unreadable : isIn(gaps, event) || event.created_at > until;
  return {
    relay,
    held: relay.held.size,
    stored: archived.stored.size,
    claimed,
    named: rest.filter(isNamed),
    unnamed: rest.filter((event) => !isNamed(event)),
    invented: [...archived.stored.values()].filter(
      ({ id, kind }) => !relay.ever.has(id) && !isPassing(kind),
    ),
  };
}

/**
 * Whether relays pass the event on without storing it (NIP-01: ephemeral), such as the test events of the monitor. One that
 * arrives under the subscription of a page is archived (tests/db/sync/visit-ephemeral.test.ts).
 */
function isPassing(kind: number | null): boolean {
  return kind !== null && isEphemeralKind(kind);
}

/** Events that the relay has held all along and that are claimed and not archived: a lie of coverage, at any moment. */
export async function liesNow(ask: Ask, relay: ModelledRelay): Promise<NostrEvent[]> {
  const covered = await coveredOf(ask, relay.url);
  const stored = await storedOf(ask, relay.url);
  return [...relay.held.values()].filter(
    (event) => relay.lasting.has(event.id) && !stored.has(event.id) && isIn(covered, event),
  );
}

function isIn(stretches: readonly Stretch[], { created_at }: NostrEvent): boolean {
  return stretches.some(({ since, until }) => created_at >= since && created_at <= until);
}

async function archivedOf(ask: Ask, url: string): Promise<Archived> {
  const covered = await coveredOf(ask, url);
  const gaps = await ask<Stretch>(
    'select since::float, until::float from coverage_gaps where relay_url = $1',
    [url],
  );
  const [visit] = await ask<{ until: number }>(
    `select upper(wanted)::float - 1 as until from visits join relays using (relay_id) where url = $1`,
    [url],
  );
  const [check] = await ask<{ readable: boolean }>(
    'select readable from relay_metadata_latest where relay_url = $1',
    [url],
  );
  return {
    ...{ stored: await storedOf(ask, url), covered, gaps },
    ...{ until: visit?.until ?? null, unreadable: check?.readable === false },
  };
}

function coveredOf(ask: Ask, url: string): Promise<Stretch[]> {
  return ask<Stretch>(
    `select lower(stretch)::float as since, upper(stretch)::float - 1 as until
     from coverage join relays using (relay_id), unnest(covered) stretch where url = $1`,
    [url],
  );
}

async function storedOf(ask: Ask, url: string): Promise<Map<string, StoredEvent>> {
  const rows = await ask<StoredEvent>(
    `select encode(id, 'hex') as id, kind::int, created_at::float
     from events join sightings using (event_key) join relays using (relay_id) where url = $1
     union all
     select encode(id, 'hex'), null, created_at::float from quarantine join relays using (relay_id) where url = $1`,
    [url],
  );
  return new Map(rows.map((row) => [row.id, row]));
}

/** What must be nothing in any archive, by what it is. Tables are read, not their indexes, which a crash might have hurt. */
export async function inconsistencies(ask: Ask): Promise<Record<string, number>> {
  const [row] = await ask<Record<string, number>>(
    `select (select count(*) - count(distinct id) from events)::int as "events that are stored twice",
            (select count(*) - count(distinct (event_key, relay_id)) from sightings)::int
                as "sightings that are stored twice",
            (select count(*) - count(distinct url) from relays)::int as "relays that are stored twice",
            (select count(*) - count(distinct url) from named_relays)::int as "names that are stored twice",
            count_orphan_sightings()::int as "sightings without event or relay",
            (select count(*) from events e
             where not exists (select from sightings s where s.event_key = e.event_key))::int
                as "events that were seen nowhere",
            (select count(*) from coverage a join coverage b using (relay_id, filter_id)
             where (a.evidence, a.proven_on) < (b.evidence, b.proven_on) and a.covered && b.covered)::int
                as "stretches that are proven twice"`,
  );
  return row ?? {};
}
