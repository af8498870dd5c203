import { NOW, type Query } from '../database.ts';
import type { Window } from '../nostr/filter.ts';
import { LONGEST_PAUSE } from '../relay/manners.ts';
import type { Gap } from '../relay/paging.ts';
import type { Relay } from './batch.ts';

/** The part of `Bigbrotr` that knows what visits have proven of a relay, and what they still lack. */

/** What a visit wants of a relay: everything of this filter in this window. */
export interface Wanted extends Window {
  readonly filterId: number;
}

export type VisitOutcome = 'complete' | 'partial' | 'unfinished' | 'failed';

export interface VisitEnd {
  readonly outcome: VisitOutcome;
  readonly detail: string | null;
  readonly pages: number;
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

/** What was noted so many seconds ahead of now was noted while the clock was wrong. */
const CLOCK_SLACK = 3600;

/**
 * Whether a relay `m` (relay_manners) may be visited, `v` (visits) being so many seconds ($3) ago. What lies further
 * ahead than any pause, or a visit of the future, was noted while the clock was wrong.
 */
export const IS_DUE = `(coalesce(m.not_before, 0) <= ${NOW}
              or m.not_before > ${NOW} + ${LONGEST_PAUSE + CLOCK_SLACK})
         and (v.outcome is null or v.outcome = 'unfinished' or v.started_at <= ${NOW} - $3
              or v.started_at > ${NOW} + ${CLOCK_SLACK})`;

/**
 * Notes that a visit begins, and gives what to read: what is wanted and not proven, and what was proven too long
 * ago. The newest `overlapSeconds` of what is proven are missing again, since events arrive late; the age at which
 * a proof is stale differs by relay, a quarter to either side, so that relays read in one day do not come due in one. A hole
 * is tried again after that age too.
 * Each gap comes with its anchor, the newest second below it at which an event of this filter was seen on this
 * relay, and with the newest such second inside it: an answer that does not show them is not believed at once. Both are
 * known for the filter {} only. What rests on the silence of a relay that has shown nothing is asked for in each visit.
 * Nothing counts as proven that has not come yet, nor by a proof of the future: the clock was wrong for a while.
 */
export async function beginVisit(
  query: Query,
  relay: Relay,
  wanted: Wanted,
  { overlapSeconds, reproveSeconds }: VisitAges,
): Promise<VisitGaps> {
  await query(
    `insert into visits (relay_id, filter_id, wanted, started_at)
     values ($1, $2, int8range($3, $4::bigint + 1), ${NOW})
     on conflict (relay_id, filter_id) do update
     set wanted = excluded.wanted, started_at = excluded.started_at, ended_at = null, outcome = null, detail = null`,
    [relay.relayId, wanted.filterId, wanted.since, wanted.until],
  );
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

/** Stretches inside what is wanted that were tried in vain and are not proven. */
export async function countHoles(query: Query, relay: Relay, wanted: Wanted): Promise<number> {
  const { rows } = await query<{ holes: number }>(
    `select count(*) as holes from holes
     where relay_id = $1 and filter_id = $2 and stretch && int8range($3, $4::bigint + 1)`,
    [relay.relayId, wanted.filterId, wanted.since, wanted.until],
  );
  return rows[0]?.holes ?? 0;
}

/** Notes how a visit ended. Failures in a row are counted, each once. */
export async function endVisit(
  query: Query,
  relay: Relay,
  filterId: number,
  end: VisitEnd,
): Promise<void> {
  await query(
    `update visits
     set ended_at = ${NOW}, outcome = $3, detail = $4, pages = $5,
         failures = case when $3 = 'failed' then failures + (ended_at is null)::integer else 0 end
     where relay_id = $1 and filter_id = $2`,
    [relay.relayId, filterId, end.outcome, end.detail, end.pages],
  );
}
