import type { NostrEvent } from '../nostr/event.ts';
import { canonicalFilter, type EventFilter } from '../nostr/filter.ts';
import type { Division } from '../nostr/filter-parts.ts';
import type { StopReason } from '../nostr/stop-reason.ts';
import { requireClaim } from './claims.ts';
import type { Query } from './connection.ts';
import type { Relay } from './relays.ts';
import type { VisitOutcome } from './visits.ts';

/** Tables `filters` and `filter_parts`: the filters that a relay is asked with in place of one that it refuses. */

/** A filter that is a part of another, and the state of its latest visit. */
export interface FilterPart {
  /** The filter that is refused. */
  readonly wholeId: number;
  readonly filterId: number;
  readonly filter: EventFilter;
  readonly dividedBy: Division;
  /** When the relay last refused the whole, Unix seconds. */
  readonly refusedAt: number;
  /** Start and end of the latest visit of the part, Unix seconds; null if there is none. */
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly outcome: VisitOutcome | null;
  /** Why its latest visit stopped; null if it did not. */
  readonly stop: { readonly reason: StopReason; readonly detail: string } | null;
}

/** Maximum number of events of a relay that are searched for control events. */
const MAX_SHOWN_LOOKED_UP = 2000;
/** Maximum number of steps through the index of kinds: each takes one look-up. */
const MAX_KINDS_LOOKED_UP = 3000;

/** All parts of all filters that this relay refuses. */
export async function partsOf(query: Query, relay: Relay): Promise<FilterPart[]> {
  type Row = Omit<FilterPart, 'filter'> & { filter: string } & Record<string, unknown>;
  const { rows } = await query<Row>(
    `select p.filter_id as "wholeId", p.part_id as "filterId", f.filter, p.divided_by as "dividedBy",
            p.refused_at as "refusedAt", v.started_at as "startedAt", v.ended_at as "endedAt", v.outcome,
            case when v.stop_reason is not null and v.detail is not null
                 then jsonb_build_object('reason', v.stop_reason, 'detail', v.detail) end as stop
     from filter_parts p
     join filters f on f.filter_id = p.part_id
     left join visits v on v.relay_id = p.relay_id and v.filter_id = p.part_id
     where p.relay_id = $1
     order by p.part_id`,
    [relay.relayId],
  );
  return rows.map((row) => ({ ...row, filter: JSON.parse(row.filter) as EventFilter }));
}

/**
 * Records the parts of a filter that a relay refuses. Coverage of the filter becomes coverage of its parts.
 * @throws ClaimLost
 */
export async function divideFilter(
  query: Query,
  relay: Relay,
  wholeId: number,
  parts: readonly EventFilter[],
  dividedBy: Division,
  refusedAt: number,
): Promise<void> {
  await requireClaim(query, 'visit', relay);
  const ids = await filterIds(query, parts);
  await query('select divide_filter($1, $2, $3, $4, $5)', [
    ...[relay.relayId, wholeId, ids, dividedBy, refusedAt],
  ]);
}

/** Deletes the parts of a filter, because the relay accepts the whole filter. @throws ClaimLost */
export async function joinFilter(query: Query, relay: Relay, wholeId: number): Promise<void> {
  await requireClaim(query, 'visit', relay);
  await query('delete from filter_parts where relay_id = $1 and filter_id = $2', [
    relay.relayId,
    wholeId,
  ]);
}

/**
 * Records coverage of a filter where all its parts are covered, unless they are less than the filter.
 * @throws ClaimLost
 */
export async function recordParts(query: Query, relay: Relay, wholeId: number): Promise<void> {
  await requireClaim(query, 'visit', relay);
  await query('select record_parts_coverage($1, $2)', [relay.relayId, wholeId]);
}

/** The kinds that the archive holds, ascending, without ephemeral ones. */
export async function archivedKinds(query: Query): Promise<number[]> {
  const { rows } = await query<{ kind: number }>(
    'select kind from unnest(archived_kinds($1)) as t (kind) order by kind',
    [MAX_KINDS_LOOKED_UP],
  );
  return rows.map(({ kind }) => kind);
}

/**
 * Events that this relay has shown: the newest of each kind among the newest of all; regular events, which are not
 * replaced (NIP-01), come first.
 */
export async function shownEvents(query: Query, relay: Relay): Promise<NostrEvent[]> {
  const { rows } = await query<NostrEvent & Record<string, unknown>>(
    `select * from (
         select distinct on (e.kind) encode(e.id, 'hex') as id, encode(e.pubkey, 'hex') as pubkey, e.created_at, e.kind,
                e.tags, '' as content, '' as sig
         from events e
         where event_key = any (array(
             select event_key from sightings where relay_id = $1 order by created_day desc, event_key desc limit $2
         ))
         order by e.kind, e.created_at desc
     ) newest
     order by kind in (0, 3) or kind between 10000 and 19999 or kind between 30000 and 39999, created_at desc`,
    [relay.relayId, MAX_SHOWN_LOOKED_UP],
  );
  return rows;
}

/** Whether there is any sighting on this relay. */
export async function hasSightings(query: Query, relay: Relay): Promise<boolean> {
  const { rowCount } = await query('select from sightings where relay_id = $1 limit 1', [
    relay.relayId,
  ]);
  return (rowCount ?? 0) > 0;
}

/** The key of a filter; the same for every spelling of it. */
export async function filterId(query: Query, filter: EventFilter): Promise<number> {
  const [id] = await filterIds(query, [filter]);
  if (id === undefined)
    throw new Error(`filter ${canonicalFilter(filter)} vanished while it was looked up`);
  return id;
}

/** The keys of filters, in their order; the same for every spelling of one. */
async function filterIds(query: Query, filters: readonly EventFilter[]): Promise<number[]> {
  const texts = filters.map(canonicalFilter);
  await query(
    `insert into filters (filter)
     select text from unnest($1::text[]) text
     where not exists (select from filters where filter = text)
     order by text
     on conflict do nothing`,
    [texts],
  );
  const { rows } = await query<{ filter_id: number }>(
    `select f.filter_id
     from unnest($1::text[]) with ordinality as t (filter, place)
     join filters f on f.filter = t.filter
     order by t.place`,
    [texts],
  );
  return rows.map(({ filter_id }) => filter_id);
}
