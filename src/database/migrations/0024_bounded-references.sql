-- Dangling references are looked up for a bounded number of targets: the sample shrinks as the archive grows.

alter table reference_totals add column sampled integer not null default 256;
comment on column reference_totals.sampled is 'Targets whose second byte is below this are counted, of 256: fewer where there are more than can be looked up (samples.ts).';

create or replace view dangling_references as
select t.kind, t."references", t.missing, round(t.sampled / 65536.0, 6) as sample_share, t.as_of
from reference_totals t;
comment on view dangling_references is 'References to events (tag e) that the archive lacks, by kind of the events that refer. Counted for targets whose id begins with the hex digits 00, or a part of them.';

-- What as_of says is read once for each query, not for each row.

create or replace view relay_stats as
select
    r.url as relay_url,
    r.network,
    r.inserted_at as discovered_at,
    s.first_at as first_event_timestamp,
    s.last_at as last_event_timestamp,
    t.rtt_open as avg_rtt_open,
    t.rtt_read as avg_rtt_read,
    t.rtt_write as avg_rtt_write,
    coalesce(s.events, 0) as event_count,
    coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0) as unique_kinds,
    d.name as nip11_name,
    d.software as nip11_software,
    d.version as nip11_version,
    coalesce(s.only_here, 0) as only_here,
    (select figures_as_of()) as as_of
from relays r
left join scope_stats s on s.scope = r.relay_id
left join lateral (
    select round(avg(h.rtt_open), 2) as rtt_open, round(avg(h.rtt_read), 2) as rtt_read, round(avg(h.rtt_write), 2) as rtt_write
    from (
        select nip66_id from snapshots
        where relay_id = r.relay_id and nip66_id is not null order by generated_at desc limit 10
    ) latest
    join nip66 h on h.id = latest.nip66_id
) t on true
left join lateral (
    select nip11_id from snapshots
    where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
) l on true
left join nip11 d on d.id = l.nip11_id;

create or replace view kind_counts as
select k.kind, k.events as event_count, k.authors as unique_pubkeys, kind_category(k.kind) as category, (select figures_as_of()) as as_of
from scope_kinds k
where k.scope = 0;

create or replace view kind_counts_by_relay as
select k.kind, r.url as relay_url, k.events as event_count, k.authors as unique_pubkeys, (select figures_as_of()) as as_of
from scope_kinds k
join relays r on r.relay_id = k.scope;

create or replace view network_stats as
select
    n.network, n.relay_count, coalesce(s.events, 0) as event_count, coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0)::bigint as unique_kinds, (select figures_as_of()) as as_of
from (select network, count(*) as relay_count from relays group by network) n
left join scope_stats s on s.scope = network_scope(n.network);

create or replace view event_daily_counts as
select
    date '1970-01-01' + s.day as day, s.events as event_count, s.authors as unique_pubkeys, s.kinds as unique_kinds,
    s.counted_at, (select figures_as_of()) as as_of
from day_sums s;

create or replace view replication as
select
    t.relays, t.events, round(t.events / sum(t.events) over (), 6) as share, (select figures_as_of()) as as_of
from replication_totals t;

create or replace view relay_distribution as
select t.relay_url, t.authors, t.readers, t.writers, r.relay_id is not null as is_known, (select figures_as_of()) as as_of
from relay_list_totals t
left join relays r on r.url = t.relay_url;

create or replace view zap_stats as
select date '1970-01-01' + z.day as day, z.zaps, z.senders, z.recipients, z.millisats, (select figures_as_of()) as as_of
from daily_zaps z;

create or replace view active_users as
select
    p.grain, date '1970-01-01' + p.start as start, p.users, p.with_profile, p.with_follows, p.new_users, p.counted_at,
    least((select figures_as_of()), (select min(since) - 1 from dirty_periods)) as as_of
from period_users p;

create or replace view retention as
select
    date '1970-01-01' + c.cohort_week as cohort_week, (c.week - c.cohort_week) / 7 as age_weeks, c.users,
    least((select figures_as_of()), (select min(since) - 1 from dirty_periods)) as as_of
from cohorts c;
