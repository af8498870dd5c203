import type { Query } from './connection.ts';

/** What the archive knows of one relay, as pages of rows. Each is read by the indexes that begin with the relay. */

/** A stretch of `created_at` of one filter, both ends inclusive: proven complete, or a gap with its reason. */
export interface Stretch {
  readonly filter: string;
  readonly since: number;
  readonly until: number;
  readonly state: 'covered' | 'gap' | 'hole';
  /** Of a covered stretch: by what it is proven, and when, Unix seconds. */
  readonly evidence: string | null;
  readonly provenAt: number | null;
  /** Of a hole: why it cannot be proven, and the events shown there. */
  readonly reason: string | null;
  readonly events: number | null;
}

/** Stretches by filter and time, from after the given place on. */
export async function stretches(
  query: Query,
  url: string,
  after: readonly [filter: string, since: number, state: string] | null,
  limit: number,
): Promise<Stretch[]> {
  const { rows } = await query<Stretch & Record<string, unknown>>(
    `select * from (
         select f.filter, lower(s.stretch) as since, upper(s.stretch) - 1 as until, 'covered' as state,
                c.evidence, c.proven_at as "provenAt", null as reason, null::integer as events
         from relays r
         join coverage c on c.relay_id = r.relay_id
         join filters f on f.filter_id = c.filter_id
         cross join lateral unnest(c.covered) s (stretch)
         where r.url = $1
         union all
         select filter, since, until, case when hole is null then 'gap' else 'hole' end, null, null, hole, hole_events
         from coverage_gaps where relay_url = $1
     ) s
     where $2::text is null or (filter collate "C", since, state collate "C") > ($2, $3::bigint, $4)
     order by filter collate "C", since, state collate "C"
     limit $5`,
    [url, ...(after ?? [null, null, null]), limit],
  );
  return rows;
}

/** An interval of one state; `toAt` null: it goes on. Times are Unix seconds. */
export interface StateInterval {
  readonly state: string;
  readonly fromAt: number;
  readonly toAt: number | null;
}

/** States of a relay, the latest first. */
export async function stateIntervals(
  query: Query,
  url: string,
  before: number | null,
  limit: number,
): Promise<StateInterval[]> {
  const { rows } = await query<StateInterval & Record<string, unknown>>(
    `select state, from_at as "fromAt", to_at as "toAt" from relay_uptime
     where relay_url = $1 and ($2::bigint is null or from_at < $2)
     order by from_at desc limit $3`,
    [url, before, limit],
  );
  return rows;
}

/** One check: what it found, or why it failed. */
export interface CheckOfRelay {
  /** Unix seconds. */
  readonly checkedAt: number;
  readonly name: string;
  readonly success: boolean;
  readonly durationMs: number | null;
  readonly reason: string | null;
  readonly data: unknown;
}

/** Checks of a relay, the latest first. */
export async function checksOfRelay(
  query: Query,
  url: string,
  after: readonly [checkedAt: number, name: string] | null,
  limit: number,
): Promise<CheckOfRelay[]> {
  const { rows } = await query<CheckOfRelay & Record<string, unknown>>(
    `select generated_at as "checkedAt", name, success, duration_ms as "durationMs", reason, data
     from relay_checks
     where relay_url = $1 and ($2::bigint is null or generated_at <= $2)
         and ($2::bigint is null or generated_at < $2 or name > $3)
     order by generated_at desc, name limit $4`,
    [url, after?.[0] ?? null, after?.[1] ?? null, limit],
  );
  return rows;
}

/** What was refused of a relay, for one reason. */
export interface OffenceOfRelay {
  readonly reason: string;
  readonly count: number;
  readonly firstAt: number;
  readonly lastAt: number;
  readonly exampleId: string | null;
}

/** What was refused of a relay, the most frequent first; there are few reasons. */
export async function offencesOfRelay(query: Query, url: string): Promise<OffenceOfRelay[]> {
  const { rows } = await query<OffenceOfRelay & Record<string, unknown>>(
    `select reason, count, first_at as "firstAt", last_at as "lastAt", example_id as "exampleId"
     from relay_offences_named where relay_url = $1 order by count desc, reason`,
    [url],
  );
  return rows;
}

/** Figures of a relay. */
export interface RelayFigures {
  /** Events seen there, and whether they were counted: above 100,000 they are estimated. */
  readonly events: number;
  readonly eventsExact: boolean;
  /** Events that no other relay has; as of the latest count of figures, null before it. */
  readonly onlyHere: number | null;
  /** Unix seconds. */
  readonly oldestEventAt: number | null;
  readonly newestEventAt: number | null;
  readonly quarantined: number;
  readonly withheld: number;
  /** Shares of the known time of the last days in which it was up, 0 to 1. */
  readonly up_1_day: number | null;
  readonly up_7_days: number | null;
  readonly up_30_days: number | null;
  readonly up_90_days: number | null;
  readonly known_90_days: number | null;
  /** How often it went down in 90 days. */
  readonly flaps: number | null;
}

export async function figuresOfRelay(query: Query, url: string): Promise<RelayFigures | null> {
  const { rows } = await query<RelayFigures & Record<string, unknown>>(
    `select h.events, h.is_exact as "eventsExact",
            (select only_here from scope_stats where scope = r.relay_id) as "onlyHere",
            oldest_sighting(r.relay_id, 0, 549755813887) >> 24 as "oldestEventAt",
            newest_sighting(r.relay_id, 0, 549755813887) >> 24 as "newestEventAt",
            (select count(*) from quarantine where relay_id = r.relay_id) as quarantined,
            (select count(*) from withheld where relay_id = r.relay_id) as withheld,
            a.up_1_day::float8 as up_1_day, a.up_7_days::float8 as up_7_days, a.up_30_days::float8 as up_30_days,
            a.up_90_days::float8 as up_90_days, a.known_90_days::float8 as known_90_days, a.flaps
     from relays r
     cross join lateral relay_events_held(r.relay_id) h
     left join relay_availability a on a.relay_url = $1
     where r.url = $1`,
    [url],
  );
  return rows[0] ?? null;
}

/** How a relay is treated after its answers. Times are Unix seconds. */
export interface PolicyOfRelay {
  readonly pausedUntil: number | null;
  readonly reason: string | null;
  readonly paceMs: number;
  readonly pageLimit: number | null;
  readonly nip77Reason: string | null;
}

export async function policyOfRelay(query: Query, url: string): Promise<PolicyOfRelay | null> {
  const { rows } = await query<PolicyOfRelay & Record<string, unknown>>(
    `select case when m.not_before > unix_now() then m.not_before end as "pausedUntil", m.reason,
            m.pace_ms as "paceMs", m.page_limit as "pageLimit", m.nip77_reason as "nip77Reason"
     from relay_manners m
     join relays r on r.relay_id = m.relay_id
     where r.url = $1`,
    [url],
  );
  return rows[0] ?? null;
}
