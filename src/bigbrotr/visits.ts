import { NOW, type Query } from '../database.ts';
import type { Window } from '../nostr/filter.ts';
import { LONGEST_PAUSE } from '../relay/manners.ts';
import type { Gap } from '../relay/paging.ts';
import type { StopReason } from '../relay/stop-reason.ts';
import { multirange, type Relay } from './batch.ts';
import type { RelayRow } from './monitor.ts';
import { ASKED_TO_WAIT, CLOCK_SLACK } from './retry-times.ts';

/** The part of `Bigbrotr` that knows what visits have proven of a relay, and what they still lack. */

/** What a visit wants of a relay: everything of this filter in this window. */
export interface Wanted extends Window {
  readonly filterId: number;
}

export type VisitOutcome = 'complete' | 'partial' | 'unfinished' | 'failed';

/** Whether a visit shows that the relay can be read: it resets the failures in a row, adds to them or leaves them. */
export type VisitCount = 'success' | 'failure' | 'neither';

export interface VisitEnd {
  readonly outcome: VisitOutcome;
  /** What stopped it; null when nothing did. */
  readonly reason: StopReason | null;
  /** The same as a sentence. */
  readonly detail: string | null;
  readonly pages: number;
  /** Of an unfinished visit, which else counts neither way; the other outcomes say it. */
  readonly countsAs?: VisitCount;
}

/** Ages in seconds: of the newest coverage that is read again, and of a proof that is made anew. */
export interface VisitAges {
  readonly overlapSeconds: number;
  readonly reproveSeconds: number;
}

/** What a visit has to read. */
export interface VisitGaps {
  /** Wanted and not proven. */
  readonly missing: Gap[];
  /** Proven too long ago. */
  readonly stale: Gap[];
}

/**
 * Where a visit goes on that wants what is new, in Unix seconds: at the newest second proven, less the overlap.
 * While the visits before it have not read all that they wanted, it is where they began: 0 at first.
 */
export async function resumeFrom(
  query: Query,
  relay: Relay,
  filterId: number,
  overlapSeconds: number,
): Promise<number> {
  const { rows } = await query<{ since: number | null }>(
    `select case when outcome = 'complete' then (
                select greatest(max(upper(covered)) - $3, 0) from coverage where relay_id = $1 and filter_id = $2
            ) else lower(wanted) end as since
     from visits where relay_id = $1 and filter_id = $2`,
    [relay.relayId, filterId, overlapSeconds],
  );
  return rows[0]?.since ?? 0;
}

/**
 * Whether a relay `m` (relay_manners) may be visited, `v` (visits) being so many seconds ($3) ago. What lies further
 * ahead than any pause, or a visit of the future, was noted while the clock was wrong.
 */
const IS_DUE = `(coalesce(m.not_before, 0) <= ${NOW}
              or m.not_before > ${NOW} + ${LONGEST_PAUSE + CLOCK_SLACK})
         and not ${ASKED_TO_WAIT}
         and (v.outcome is null or v.outcome = 'unfinished' or v.started_at <= ${NOW} - $3
              or v.started_at > ${NOW} + ${CLOCK_SLACK} or r.relay_id = any ($6))`;

/** How a relay stands between two visits: `new` was never visited, `behind` was not read to its end (src/lanes.ts). */
export type Lane = 'caught_up' | 'new' | 'behind';

/** Which of the relays that are due a look-up wants. */
export interface Picking {
  /** The most of each lane; null: all. */
  readonly limit: number | null;
  /** Keys of relays that are left out. */
  readonly except: readonly number[];
  readonly exceptUrls: readonly string[];
  /** Keys of relays whose interval counts as over. */
  readonly atOnce: readonly number[];
  /** Relays whose key, divided by `of`, leaves one of these; null: any. */
  readonly remainders: { readonly of: number; readonly among: readonly number[] } | null;
  /** Whether relays that are reached through Tor are left out. */
  readonly withoutTor: boolean;
}

const ALL: Picking = {
  limit: null,
  except: [],
  exceptUrls: [],
  atOnce: [],
  remainders: null,
  withoutTor: false,
};

/** Whether the latest snapshot that says something of a relay, and is young enough ($2), found it readable. */
const IS_READABLE = `(
             select h.readable
             from snapshots s
             left join nip66 h on h.id = s.nip66_id
             where s.relay_id = d.relay_id and s.generated_at >= ${NOW} - $2::bigint
                 and h.reason is distinct from 'proxy_down'
             order by s.generated_at desc limit 1
         )`;

/**
 * Relays that are due for a visit, lane by lane: caught up, the most overdue first; never visited; behind, those first
 * that were visited longest ago. Before all in their lane come those that are wanted at once.
 *
 * @param among those that were readable in a snapshot of these seconds, or some relays by their keys
 */
export async function relaysDue(
  query: Query,
  filterId: number,
  among: { readonly readableWithin: number } | { readonly relayIds: readonly number[] },
  intervalSeconds: number,
  picking: Partial<Picking> = {},
): Promise<(RelayRow & { lane: Lane })[]> {
  const { limit, except, exceptUrls, atOnce, remainders, withoutTor } = { ...ALL, ...picking };
  const byKey = 'relayIds' in among;
  const { rows } = await query<RelayRow & { lane: Lane }>(
    `with due as materialized (
         select r.relay_id, r.url, v.started_at, r.relay_id = any ($6) as at_once,
                case when v.relay_id is null then 'new' when v.caught_up then 'caught_up' else 'behind' end as lane
         from relays r
         left join relay_manners m on m.relay_id = r.relay_id
         left join visits v on v.relay_id = r.relay_id and v.filter_id = $1
         where ${IS_DUE}
             and r.relay_id <> all ($5) and mod(r.relay_id, $7) = any ($8) and not ($9 and r.network = 'tor')
             and r.url <> all ($10)
             ${byKey ? 'and r.relay_id = any ($2)' : ''}
     )
     select picked.relay_id, picked.url, lanes.lane
     from unnest(array['caught_up', 'new', 'behind']) with ordinality lanes (lane, place)
     cross join lateral (
         select d.* from (
             select * from due where lane = lanes.lane order by not at_once, started_at, relay_id
         ) d
         ${byKey ? '' : `where ${IS_READABLE}`}
         limit $4
     ) picked
     order by lanes.place, not picked.at_once, picked.started_at, picked.relay_id`,
    [
      filterId,
      byKey ? among.relayIds : among.readableWithin,
      intervalSeconds,
      limit,
      except,
      atOnce,
      remainders?.of ?? 1,
      remainders?.among ?? [0],
      withoutTor,
      exceptUrls,
    ],
  );
  return rows;
}

/**
 * Notes that a visit begins, and gives what to read: what is wanted and not proven, and what was proven too long
 * ago. The newest `overlapSeconds` of what is proven are missing again, since events arrive late; the age at which
 * a proof is stale differs by relay, a quarter to either side, so that relays read in one day do not come due in one. A hole
 * is tried again after that age too.
 * Each gap comes with its anchor, the newest second below it at which an event of this filter was seen on this
 * relay, and with the newest such second inside it: an answer that does not show them is not believed at once. Both are
 * known for the filter {} only. What rests on the silence of a relay that has shown nothing is asked for in each visit.
 * A filter that is only a part of a wanted one (`isPart`) is not shown as wanted itself.
 * Nothing counts as proven that has not come yet, nor by a proof of the future: the clock was wrong for a while.
 */
export async function beginVisit(
  query: Query,
  relay: Relay,
  wanted: Wanted,
  { overlapSeconds, reproveSeconds }: VisitAges,
  isPart = false,
): Promise<VisitGaps> {
  await noteBegin(query, relay, wanted, isPart);
  await forgetUncertain(query, relay, wanted);
  const { rows } = await query<Gap & { stale: boolean } & Record<string, unknown>>(
    `with proven as (
         select coalesce(range_agg(covered), '{}') as covered,
                coalesce(range_agg(covered) filter (where proven_at < ${NOW}
                    - $6::bigint * (0.75 + mod(relay_id * 7919::bigint, 512) / 1024.0)), '{}') as old
         from coverage where relay_id = $1 and filter_id = $2
     ), settled as (
         select covered * int8range(null, upper(covered) - $5)::int8multirange as covered, old from proven
     ), tried as (
         select coalesce(range_agg(stretch), '{}') as in_vain from holes
         where relay_id = $1 and filter_id = $2 and noted_at between ${NOW} - $6::bigint + 1
                 and ${NOW} + ${CLOCK_SLACK}
     ), gaps as (
         select gap, false as stale
         from settled, tried, unnest(int8range($3, $4::bigint + 1)::int8multirange - covered - in_vain) gap
         union all
         select gap, true
         from settled, unnest(int8range($3, $4::bigint + 1)::int8multirange * covered * old) gap
     )
     select lower(gap) as since, upper(gap) - 1 as until, anchor.created_at as anchor, known.created_at as known, stale
     from gaps
     left join lateral (
         select s.event_key >> 24 as created_at
         from sightings s
         where s.relay_id = $1 and s.event_key < event_key_floor(lower(gap))
           and (select filter from filters where filter_id = $2) = '{}'
         order by s.event_key desc
         limit 1
     ) anchor on true
     left join lateral (
         select s.event_key >> 24 as created_at
         from sightings s
         where s.relay_id = $1 and s.event_key >= event_key_floor(lower(gap)) and s.event_key < event_key_floor(upper(gap))
           and (select filter from filters where filter_id = $2) = '{}'
         order by s.event_key desc
         limit 1
     ) known on true
     order by lower(gap) desc`,
    [relay.relayId, wanted.filterId, wanted.since, wanted.until, overlapSeconds, reproveSeconds],
  );
  return {
    missing: rows.filter(({ stale }) => !stale),
    stale: rows.filter(({ stale }) => stale),
  };
}

async function noteBegin(
  query: Query,
  relay: Relay,
  wanted: Wanted,
  isPart: boolean,
): Promise<void> {
  await query(
    `insert into visits (relay_id, filter_id, wanted, started_at, is_part)
     values ($1, $2, int8range($3, $4::bigint + 1), ${NOW}, $5)
     on conflict (relay_id, filter_id) do update
     set wanted = excluded.wanted, started_at = excluded.started_at, ended_at = null, outcome = null, detail = null,
         stop_reason = null, is_part = visits.is_part and excluded.is_part`,
    [relay.relayId, wanted.filterId, wanted.since, wanted.until, isPart],
  );
}

/** Forgets coverage of the future, which was noted while the clock was wrong, and what rests on silence. */
async function forgetUncertain(query: Query, relay: Relay, wanted: Wanted): Promise<void> {
  await query(
    `with ahead as (
         update coverage
         set covered = covered * int8range(null, greatest(${NOW}, $3) + 1)::int8multirange
         where relay_id = $1 and filter_id = $2 and evidence <> 'silence'
             and proven_at <= ${NOW} + ${CLOCK_SLACK}
             and upper(covered) > greatest(${NOW}, $3) + 1
     )
     delete from coverage
     where relay_id = $1 and filter_id = $2
         and (evidence = 'silence' or proven_at > ${NOW} + ${CLOCK_SLACK})`,
    [relay.relayId, wanted.filterId, wanted.until],
  );
}

/**
 * Takes back what was proven of these windows by pages, or by NIP-77: the relay has contradicted it since. The one
 * rests on something else than the other.
 */
export async function retractCoverage(
  query: Query,
  relay: Relay,
  filterId: number,
  by: 'paging' | 'nip77',
  windows: readonly Window[],
): Promise<void> {
  if (windows.length === 0) return;
  await query(
    `with kept as (
         update coverage
         set covered = covered - $3::int8multirange
         where relay_id = $1 and filter_id = $2 and (evidence = 'nip77') = $4
             and covered && $3::int8multirange and not covered <@ $3::int8multirange
     )
     delete from coverage
     where relay_id = $1 and filter_id = $2 and (evidence = 'nip77') = $4 and covered <@ $3::int8multirange`,
    [relay.relayId, filterId, multirange(windows), by === 'nip77'],
  );
}

/** Notes windows as holes, because the relay gives different answers for them. */
export async function noteContradicted(
  query: Query,
  relay: Relay,
  filterId: number,
  windows: readonly Window[],
): Promise<void> {
  const holes = windows.map((window) => ({ ...window, reason: 'contradicted', count: 0 }));
  await query("select record_coverage($1, $2, 'paging', '{}', $3)", [
    ...[relay.relayId, filterId, JSON.stringify(holes)],
  ]);
}

/**
 * Notes how a visit ended. Failures in a row are counted, each once, with the time of the first. A relay is caught up when
 * nothing of what was wanted is missing below the newest second that is proven, but for holes: a page of its history is
 * not all of it.
 */
export async function endVisit(
  query: Query,
  relay: Relay,
  filterId: number,
  end: VisitEnd,
): Promise<void> {
  await query(
    `update visits
     set ended_at = ${NOW}, outcome = $3, detail = $4, pages = $5, stop_reason = $6,
         failures = case $7 when 'failure' then failures + (ended_at is null)::integer when 'success' then 0 else failures end,
         failing_since = case $7 when 'failure' then least(failing_since, ${NOW}) when 'neither' then failing_since end,
         caught_up = is_caught_up($1, $2, wanted)
     where relay_id = $1 and filter_id = $2`,
    [relay.relayId, filterId, end.outcome, end.detail, end.pages, end.reason, countOf(end)],
  );
}

function countOf({ outcome, countsAs = 'neither' }: VisitEnd): VisitCount {
  if (outcome === 'failed') return 'failure';
  return outcome === 'unfinished' ? countsAs : 'success';
}
