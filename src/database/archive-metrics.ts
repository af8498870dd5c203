import type { ArchivePart, ArchiveSample } from '../telemetry/archive-metrics.ts';
import { NOW, type Query } from './connection.ts';

/**
 * Figures of the whole archive for Prometheus, in parts that are read one after the other. No part reads a large table as a
 * whole: sizes are estimates, coverage is that of a sample.
 */

/** Relays whose coverage is averaged, at most. */
const SAMPLED_RELAYS = 200;
/** Batches of the journal in which the latest with new events is looked for, at most. */
const JOURNAL_BATCHES = 5000;
/** The words of is_hole_reason(). */
const HOLE_REASONS = [
  ...['dense', 'overflow', 'oversized', 'quarantine_full'],
  ...['contradicted', 'unreadable', 'unanswered', 'withheld'],
];
/** A part that takes longer is left out, in milliseconds. */
const LONGEST_MS = 30_000;

const NO_LABELS = "'{}'::jsonb";

const SIZE = `
  select 'table_rows' as metric, jsonb_build_object('table', t.name) as labels, n.amount::float8 as value
  from unnest(array['events', 'sightings', 'withheld', 'quarantine']) t (name)
  cross join lateral rows_of(('public.' || t.name)::regclass) n
  union all
  select 'table_size_bytes', jsonb_build_object('table', t.name), (select sum(bytes) from unnest(shard_bytes('public.' || t.name, 'all')) bytes)
  from unnest(array['events', 'sightings']) t (name)
  union all
  select 'database_size_bytes', ${NO_LABELS}, pg_database_size(current_database())`;

const RELAYS = `
  select 'relays' as metric, jsonb_build_object('network', s.network, 'state', s.state) as labels, count(*)::float8 as value
  from (
      select r.network, case
          when c.relay_id is null then 'never_checked'
          when c.known_until < ${NOW} then 'unknown'
          else c.state
      end as state
      from relays r
      left join relay_schedule c on c.relay_id = r.relay_id
  ) s
  group by s.network, s.state
  union all
  select 'relays_readable', jsonb_build_object('network', n.network), count(l.relay_url)
  from (select distinct network from relays) n
  left join readable_relays l on l.network = n.network
  group by n.network
  union all
  select 'relays_paused', ${NO_LABELS}, count(*) from relay_manners where not_before - ${NOW} between 1 and 2595600
  union all
  select 'relay_rtt_seconds', jsonb_build_object('network', l.network, 'check', c.name, 'quantile', q.quantile::text),
         percentile_cont(q.quantile) within group (order by c.ms) / 1000
  from readable_relays l
  cross join lateral (values ('open', l.rtt_open), ('read', l.rtt_read), ('write', l.rtt_write)) c (name, ms)
  cross join unnest(array[0.5, 0.9]) q (quantile)
  where c.ms is not null
  group by l.network, c.name, q.quantile`;

const COVERAGE = `
  with sampled as materialized (
      select coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share,
             (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps
      from (select * from visits where not is_part order by md5(relay_id || ' ' || filter_id) limit ${SAMPLED_RELAYS}) v
      cross join lateral (
          select coalesce(range_agg(covered), '{}') as covered
          from coverage where relay_id = v.relay_id and filter_id = v.filter_id
      ) c
  )
  select s.metric, ${NO_LABELS} as labels, s.value::float8 as value
  from (select avg(share) as share, avg(gaps) as gaps, count(*) as relays from sampled) a
  cross join lateral (values
      ('coverage_share', a.share), ('coverage_gaps', a.gaps), ('coverage_sampled_relays', a.relays)
  ) s (metric, value)
  where s.value is not null
  union all
  select 'coverage_relays', jsonb_build_object('state', s.state), count(v.relay_id)
  from (values ('caught_up', true), ('backlog', false)) s (state, caught_up)
  left join visits v on v.caught_up = s.caught_up and not v.is_part
  group by s.state
  union all
  select 'coverage_oldest_proof_timestamp_seconds', ${NO_LABELS}, min(c.proven_at)
  from visits v
  join coverage c on c.relay_id = v.relay_id and c.filter_id = v.filter_id
  where v.caught_up and v.failures = 0 and v.ended_at > ${NOW} - 86400
  having min(c.proven_at) is not null
  union all
  select 'holes', jsonb_build_object('reason', w.reason), count(h.reason)
  from unnest($1::text[]) w (reason)
  left join holes h on h.reason = w.reason
  group by w.reason
  union all
  select 'latest_visits', jsonb_build_object('outcome', outcome), count(*)
  from visits where not is_part and outcome is not null group by outcome
  union all
  select 'relays_failing', ${NO_LABELS}, count(*) from visits where failures > 0 and not is_part
  union all
  select 'relay_offences', jsonb_build_object('reason', reason), sum(count) from relay_offences group by reason`;

const WORK = `
  select 'journal_lag_seconds' as metric, jsonb_build_object('reader', r.name) as labels,
         coalesce(greatest(${NOW} - j.written_at, 0), 0)::float8 as value
  from journal_readers r
  left join lateral (
      select written_at from journal where (xid, batch_id) > (r.xid, r.batch_id) order by xid, batch_id limit 1
  ) j on true
  union all
  select 'last_event_stored_timestamp_seconds', ${NO_LABELS}, written_at
  from (
      select written_at
      from (select * from journal order by xid desc, batch_id desc limit ${JOURNAL_BATCHES}) newest
      where event_keys <> '{}'
      order by xid desc, batch_id desc limit 1
  ) j
  union all
  select 'figures_as_of_timestamp_seconds', ${NO_LABELS}, figures_as_of()
  union all
  select 'claims', jsonb_build_object('work', w.work), count(c.work)
  from unnest(array['visit', 'check', 'try', 'sources']) w (work)
  left join claims c on c.work = w.work and is_lease_valid(c.until)
  group by w.work
  union all
  select 'claim_holders', ${NO_LABELS}, count(distinct holder) from claims where is_lease_valid(until)
  union all
  select s.metric, jsonb_build_object('command', r.command), s.value
  from unnest(array['backup', 'verify']) c (command)
  cross join lateral (select * from runs where command = c.command order by run_id desc limit 1) r
  left join lateral (
      select ended_at from runs where command = c.command and succeeded order by run_id desc limit 1
  ) good on true
  cross join lateral (values
      ('run_succeeded', r.succeeded::integer), ('run_timestamp_seconds', r.ended_at),
      ('run_success_timestamp_seconds', good.ended_at), ('run_duration_seconds', r.ended_at - r.started_at)
  ) s (metric, value)
  where s.value is not null`;

const SERVER = `
  select s.metric, ${NO_LABELS} as labels, s.value::float8 as value
  from pg_stat_database d
  cross join lateral (values
      ('database_deadlocks', d.deadlocks::float8),
      ('database_cache_hit_share', d.blks_hit::float8 / nullif(d.blks_hit + d.blks_read, 0)),
      ('database_backends', (select sum(numbackends) from pg_stat_database)),
      ('database_backends_max', current_setting('max_connections')::float8),
      ('database_oldest_xid_age', (select max(age(datfrozenxid)) from pg_database)),
      ('database_clock_offset_seconds', ${NOW} - $1)
  ) s (metric, value)
  where d.datname = current_database() and s.value is not null
  union all
  select 'replication_slot_active', jsonb_build_object('slot', slot_name), active::integer from pg_replication_slots
  union all
  select 'replication_lag_bytes', jsonb_build_object('slot', slot_name), pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)
  from pg_replication_slots where restart_lsn is not null`;

const STATEMENTS: Readonly<Record<ArchivePart, string>> = {
  size: SIZE,
  relays: RELAYS,
  coverage: COVERAGE,
  work: WORK,
  server: SERVER,
};

/** Reads a part. To be run in a transaction. @throws DatabaseError, also when it takes longer than 30 s */
export async function readArchivePart(query: Query, part: ArchivePart): Promise<ArchiveSample[]> {
  await query(`set local statement_timeout = ${LONGEST_MS}`);
  await query('set local jit = off'); // to compile these takes longer than to run them
  const values: Partial<Record<ArchivePart, readonly unknown[]>> = {
    coverage: [HOLE_REASONS], // one without a hole has a 0, so that its growth is seen
    server: [Math.round(Date.now() / 1000)],
  };
  const { rows } = await query<ArchiveSample & Record<string, unknown>>(
    STATEMENTS[part],
    values[part],
  );
  return rows;
}
