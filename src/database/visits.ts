import { LONGEST_PAUSE } from '../network/relay-policy.ts';
import type { StopReason } from '../nostr/stop-reason.ts';
import type { Gap, Window } from '../nostr/window.ts';
import { multirange } from './batch.ts';
import { ClaimLost, requireClaim } from './claims.ts';
import { NOW, type Query } from './connection.ts';
import { type Relay, type RelayRow, tokenOf } from './relays.ts';
import { ASKED_TO_WAIT, CLOCK_SLACK } from './retry-times.ts';

/** Tables `visits`, `coverage` and `holes`: proven and missing windows of a relay. */

/** The events that a visit reads: all that match this filter in this window. */
export interface Wanted extends Window {
  readonly filterId: number;
}

export type VisitOutcome = 'complete' | 'partial' | 'unfinished' | 'failed';

/** Whether a visit resets the failures in a row, adds to them or does not count. */
export type VisitCount = 'success' | 'failure' | 'neither';

export interface VisitEnd {
  readonly outcome: VisitOutcome;
  /** Why it stopped; null if it did not. */
  readonly reason: StopReason | null;
  /** The same as a sentence. */
  readonly detail: string | null;
  readonly pages: number;
  /** For an unfinished visit, which does not count by default; the other outcomes imply it. */
  readonly countsAs?: VisitCount;
}

/** Ages in seconds: of the newest coverage that is read again (the overlap), and of a stale proof. */
export interface VisitAges {
  readonly overlapSeconds: number;
  readonly reproveSeconds: number;
}

/** The gaps that a visit reads. */
export interface VisitGaps {
  /** Wanted and not proven. */
  readonly missing: Gap[];
  /** Proven too long ago. */
  readonly stale: Gap[];
  /** Holes with events that the relay has listed by NIP-77 and did not answer for. */
  readonly unanswered: Window[];
}

/**
 * Where a visit for new events continues, in Unix seconds: at the newest second proven, less the overlap. Until a visit
 * has read all that it wanted, this is where that visit began: 0 at first.
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

/** Whether the holder of the claim `c` on a relay stopped while it visited or followed it. Never null. */
const IS_INTERRUPTED = '(c.holder is not null and not is_lease_valid(c.until))';

/**
 * Whether a relay `m` (relay_manners) may be visited: its latest visit `v` began at least $3 seconds ago. Times beyond
 * the longest pause, and visits of the future, were recorded while the clock was wrong.
 */
const IS_DUE = `(coalesce(m.not_before, 0) <= ${NOW}
              or m.not_before > ${NOW} + ${LONGEST_PAUSE + CLOCK_SLACK})
         and not ${ASKED_TO_WAIT}
         and (v.outcome is null or v.outcome = 'unfinished' or v.started_at <= ${NOW} - $3
              or v.started_at > ${NOW} + ${CLOCK_SLACK} or ${IS_INTERRUPTED})
         and ($10::bigint is null or v.ended_at is null or v.ended_at <= $10 or v.ended_at > ${NOW} + ${CLOCK_SLACK})`;

/** State of a relay between two visits: `new` was never visited, `behind` was not read to its end (src/runtime/lanes.ts). */
export type Lane = 'caught_up' | 'new' | 'behind';

/** Limits the relays that a look-up of due visits returns. */
export interface Picking {
  /** Maximum number of each lane; null: all. */
  readonly limit: number | null;
  /** Keys of excluded relays. */
  readonly except: readonly number[];
  /** The calling process: relays held by others are excluded. */
  readonly holder: string;
  /** Relays whose latest visit ended after this are excluded, Unix seconds by the clock of the database; null: none. */
  readonly notSince: number | null;
  /** Relays whose key, divided by `of`, leaves one of these; null: any. */
  readonly remainders: { readonly of: number; readonly among: readonly number[] } | null;
  /** Whether relays that are reached through Tor are excluded. */
  readonly withoutTor: boolean;
}

const ALL: Picking = {
  limit: null,
  except: [],
  holder: '',
  notSince: null,
  remainders: null,
  withoutTor: false,
};

/** Whether the latest conclusive snapshot of a relay, if it is recent enough ($2), found it readable. */
const IS_READABLE = `(
             select h.readable
             from snapshots s
             left join nip66 h on h.id = s.nip66_id
             where s.relay_id = d.relay_id and s.generated_at >= ${NOW} - $2::bigint
                 and h.reason is distinct from 'proxy_down'
             order by s.generated_at desc limit 1
         )`;

/** Which relays may be due: those that were readable in a snapshot of these seconds, those of the priority list, or some by their keys. */
export type Among =
  | { readonly readableWithin: number }
  | { readonly relayIds: readonly number[] }
  | 'priority';

export type DueRow = RelayRow & { lane: Lane; seenAt: number | null };

/**
 * Relays that are due for a visit and that no other process holds, lane by lane: caught up, the most overdue first; never
 * visited; behind, the longest ago visited first. Relays whose holder stopped while it visited or followed them come first
 * in their lane.
 */
export async function relaysDue(
  query: Query,
  filterId: number,
  among: Among,
  intervalSeconds: number,
  picking: Partial<Picking> = {},
): Promise<DueRow[]> {
  const { limit, except, holder, notSince, remainders, withoutTor } = { ...ALL, ...picking };
  const { isOne, isPicked, value } = conditionsOf(among);
  const { rows } = await query<DueRow>(
    `with due as materialized (
         select r.relay_id, r.url, v.started_at, ${IS_INTERRUPTED} as at_once,
                case when v.relay_id is null then 'new' when v.caught_up then 'caught_up' else 'behind' end as lane
         from relays r
         left join relay_manners m on m.relay_id = r.relay_id
         left join visits v on v.relay_id = r.relay_id and v.filter_id = $1
         left join claims c on c.work = 'visit' and c.relay_id = r.relay_id
         where ${IS_DUE} and (c.holder is null or c.holder = $6 or not is_lease_valid(c.until))
             and r.relay_id <> all ($5) and mod(r.relay_id, $7) = any ($8) and not ($9 and r.network = 'tor')
             and ${isOne}
     )
     select picked.relay_id, picked.url, lanes.lane, picked.started_at as "seenAt"
     from unnest(array['caught_up', 'new', 'behind']) with ordinality lanes (lane, place)
     cross join lateral (
         select d.* from (
             select * from due where lane = lanes.lane order by not at_once, started_at, relay_id
         ) d
         where ${isPicked}
         limit $4
     ) picked
     order by lanes.place, not picked.at_once, picked.started_at, picked.relay_id`,
    [
      filterId,
      value,
      intervalSeconds,
      limit,
      except,
      holder,
      remainders?.of ?? 1,
      remainders?.among ?? [0],
      withoutTor,
      notSince,
    ],
  );
  return rows;
}

/** SQL conditions for relays `r`, their order, and the value of $2. Priority relays are left to the priority synchronizer. */
function conditionsOf(among: Among) {
  if (among === 'priority')
    return { isOne: 'r.priority and $2::integer is null', isPicked: 'true', value: null };
  if ('relayIds' in among)
    return { isOne: 'r.relay_id = any ($2)', isPicked: 'true', value: among.relayIds };
  return { isOne: 'not r.priority', isPicked: IS_READABLE, value: among.readableWithin };
}

/**
 * Records the start of a visit and returns what to read: what is wanted and not proven, and what was proven too long
 * ago. The newest `overlapSeconds` of what is proven are missing again, because events arrive late. The age at which a
 * proof is stale has a jitter of a quarter by relay, so that relays read on one day do not come due together; holes are
 * tried again after the same age.
 * Each gap has its anchor, the newest second below it at which the relay is known to hold an event of this filter, and
 * the newest such second inside it: an answer without them is not believed at once. Both are known for the filter {}
 * only. Transient events (ephemeral or expired) do not count: the relay need not show them again. Coverage by silence is
 * asked for in each visit. A filter that is only a part of a wanted one (`isPart`) is not listed as wanted. Seconds of the future, and proofs of the future (the clock was wrong), do not count as proven.
 * @throws ClaimLost
 */
export async function beginVisit(
  query: Query,
  relay: Relay,
  wanted: Wanted,
  { overlapSeconds, reproveSeconds }: VisitAges,
  isPart = false,
): Promise<VisitGaps> {
  const { rows } = await query<{ gaps: (Gap & { stale: boolean | null })[] | null }>(
    'select begin_visit($1, $2, $3, $4, $5, $6, $7, $8) as gaps',
    [
      ...[relay.relayId, wanted.filterId, wanted.since, wanted.until],
      ...[overlapSeconds, reproveSeconds, isPart, tokenOf(relay)],
    ],
  );
  const gaps = rows[0]?.gaps;
  if (!gaps) throw new ClaimLost('visit', relay.relayId);
  return {
    missing: gaps.filter(({ stale }) => stale === false),
    stale: gaps.filter(({ stale }) => stale === true),
    unanswered: gaps.filter(({ stale }) => stale === null),
  };
}

/**
 * Retracts what pages, or NIP-77, have proven of these windows, because the relay contradicted it. Either evidence
 * stands without the other.
 *
 * @param query of a transaction
 * @throws ClaimLost
 */
export async function retractCoverage(
  query: Query,
  relay: Relay,
  filterId: number,
  by: 'paging' | 'nip77',
  windows: readonly Window[],
): Promise<void> {
  if (windows.length === 0) return;
  await requireClaim(query, 'visit', relay);
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

/** Deletes `unanswered` holes in a window whose list (NIP-77) was read again, in a transaction. @throws ClaimLost */
export async function forgetUnanswered(
  query: Query,
  relay: Relay,
  filterId: number,
  { since, until }: Window,
): Promise<void> {
  await requireClaim(query, 'visit', relay);
  await query(
    `delete from holes
     where relay_id = $1 and filter_id = $2 and reason = 'unanswered' and stretch && int8range($3, $4::bigint + 1)`,
    [relay.relayId, filterId, since, until],
  );
}

/** Records windows as holes, because the relay gives different answers for them, in a transaction. @throws ClaimLost */
export async function noteContradicted(
  query: Query,
  relay: Relay,
  filterId: number,
  windows: readonly Window[],
): Promise<void> {
  await requireClaim(query, 'visit', relay);
  const holes = windows.map((window) => ({ ...window, reason: 'contradicted', count: 0 }));
  await query("select record_coverage($1, $2, 'paging', '{}', $3)", [
    ...[relay.relayId, filterId, JSON.stringify(holes)],
  ]);
}

/**
 * Records how a visit ended. Counts failures in a row, each visit once, with the time of the first. A relay is caught up
 * when nothing wanted is missing below the newest second proven, except holes.
 * @throws ClaimLost
 */
export async function endVisit(
  query: Query,
  relay: Relay,
  filterId: number,
  end: VisitEnd,
): Promise<void> {
  const { rowCount } = await query(
    `update visits
     set ended_at = ${NOW}, outcome = $3, detail = $4, pages = $5, stop_reason = $6,
         failures = case $7 when 'failure' then failures + (ended_at is null)::integer when 'success' then 0 else failures end,
         failing_since = case $7 when 'failure' then least(failing_since, ${NOW}) when 'neither' then failing_since end,
         caught_up = is_caught_up($1, $2, wanted)
     where relay_id = $1 and filter_id = $2 and holds_claim('visit', $1, $8)`,
    [
      ...[relay.relayId, filterId, end.outcome, end.detail, end.pages, end.reason, countOf(end)],
      tokenOf(relay),
    ],
  );
  if (rowCount === 0 && relay.token !== undefined) throw new ClaimLost('visit', relay.relayId);
}

function countOf({ outcome, countsAs = 'neither' }: VisitEnd): VisitCount {
  if (outcome === 'failed') return 'failure';
  return outcome === 'unfinished' ? countsAs : 'success';
}
