-- Figures in a fifth of the space, counted in parts, so that no transaction of a recount is long (docs/decisions/figures.md).
-- What was counted is counted anew by the refresher: the old rows cannot be compared with the new ones.

drop view daily_authors;
drop view daily_relays;
drop table daily_counts;
drop view pubkey_counts;
drop view pubkey_counts_by_relay;
drop table scope_authors;

alter table dirty_days add column claim bigint not null default 0;
comment on column dirty_days.claim is 'The transaction (pg_current_xact_id) that began its latest recount; 0: none. What an earlier one has counted is not applied any more.';

create table if not exists daily_counts (
    day        integer not null,
    part       integer not null,
    parts      integer not null,
    author_ids integer[] not null,
    scopes     integer[] not null,
    kinds      integer[] not null,
    counts     integer[] not null,
    places     smallint[] not null,
    constraint daily_counts_pkey primary key (day, part)   -- what was counted of a day
);
comment on table daily_counts is 'What was counted of a day, in parts by author: its events by scope, author and kind, packed into arrays. The totals of scope_stats, scope_kinds and scope_authors are the sums of these rows: a recount changes them by the difference. Query daily_authors instead.';
comment on column daily_counts.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_counts.part is 'Part of the day: the authors whose author_id % parts it is.';
comment on column daily_counts.parts is 'Number of parts of the day, a power of two: about one for each 8,192 events.';
comment on column daily_counts.author_ids is 'Authors of the part (authors.author_id), ascending.';
comment on column daily_counts.scopes is 'What is counted (scope_stats.scope), once for each author and kind.';
comment on column daily_counts.kinds is 'Kinds, in the order of scopes.';
comment on column daily_counts.counts is 'Events of that scope, author and kind, in the same order. Sorted by scope, kind and this, so that the three arrays are compressed to next to nothing.';
comment on column daily_counts.places is 'The author of each: its place in author_ids, from -32768.';

create or replace function is_counted(p_day integer, p_scope integer, p_author_id integer) returns boolean
language sql stable
return exists (
    select from daily_counts d
    cross join lateral (select array_position(d.author_ids, p_author_id) - 32769 as place offset 0) a
    where d.day = p_day and d.part = p_author_id % d.parts and exists (
        select from unnest(d.scopes, d.places) as u (scope, place) where u.scope = p_scope and u.place = a.place
    )
);
comment on function is_counted(integer, integer, integer) is 'Whether events of an author were counted of a day and scope.';

create table if not exists daily_scopes (
    scope     integer not null,
    day       integer not null,
    events    integer not null,
    only_here integer not null,
    first_at  bigint not null,
    last_at   bigint not null,
    constraint daily_scopes_pkey primary key (scope, day)   -- the first and the last day of a scope
);
comment on table daily_scopes is 'Events by day and scope. Query daily_relays instead.';
comment on column daily_scopes.scope is 'What is counted (scope_stats.scope).';
comment on column daily_scopes.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_scopes.events is 'Events of that day.';
comment on column daily_scopes.only_here is 'Of a relay: events that were seen on no other. Otherwise 0.';
comment on column daily_scopes.first_at is 'created_at of the first of them, Unix seconds.';
comment on column daily_scopes.last_at is 'created_at of the last of them, Unix seconds.';

create or replace function kinds_of(p_kinds bytea) returns table (kind integer, events integer)
language sql immutable parallel safe as $$
    select (get_byte(p_kinds, i) << 8) + get_byte(p_kinds, i + 1),
           (get_byte(p_kinds, i + 2) << 24) + (get_byte(p_kinds, i + 3) << 16) + (get_byte(p_kinds, i + 4) << 8)
               + get_byte(p_kinds, i + 5)
    from generate_series(0, length(p_kinds) - 6, 6) as i
$$;
comment on function kinds_of(bytea) is 'The kinds of an author and the events of each (scope_authors.kinds).';

create table if not exists scope_authors (
    scope     integer not null,
    author_id integer not null,
    events    bigint not null,
    first_at  bigint,
    last_at   bigint,
    kinds     bytea not null,
    constraint scope_authors_pkey primary key (scope, author_id)   -- the figures of an author
);
comment on table scope_authors is 'Totals by author. Query pubkey_counts and pubkey_counts_by_relay instead.';
comment on column scope_authors.scope is 'What is counted (scope_stats.scope).';
comment on column scope_authors.author_id is 'The author (authors.author_id).';
comment on column scope_authors.events is 'Events of that author.';
comment on column scope_authors.first_at is 'created_at of the first of them, Unix seconds. Null while the days that have it wait for a recount.';
comment on column scope_authors.last_at is 'created_at of the last of them, Unix seconds. Null likewise.';
comment on column scope_authors.kinds is 'Kinds of these events, ascending, and the events of each: two and four bytes, the highest first. kinds_of reads them; arrays would take twice the space.';

-- The authors with the most events: where scope = $1 order by events desc
create index if not exists scope_authors_events_index on scope_authors (scope, events);

create or replace view pubkey_counts as
select
    encode(a.pubkey, 'hex') as pubkey, t.events as event_count, length(t.kinds) / 6 as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, f.as_of
from scope_authors t
join authors a on a.author_id = t.author_id
cross join (select figures_as_of() as as_of) f
where t.scope = 0;
comment on view pubkey_counts is 'Events by author.';
comment on column pubkey_counts.pubkey is 'Public key of the author, hex.';
comment on column pubkey_counts.event_count is 'Events of that author.';
comment on column pubkey_counts.unique_kinds is 'Different kinds of them.';
comment on column pubkey_counts.first_event_timestamp is 'created_at of the first of them, Unix seconds.';
comment on column pubkey_counts.last_event_timestamp is 'created_at of the last of them, Unix seconds.';
comment on column pubkey_counts.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view pubkey_counts_by_relay as
select
    r.url as relay_url, encode(a.pubkey, 'hex') as pubkey, t.events as event_count, length(t.kinds) / 6 as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, f.as_of
from scope_authors t
join relays r on r.relay_id = t.scope
join authors a on a.author_id = t.author_id
cross join (select figures_as_of() as as_of) f
where t.events >= 2;
comment on view pubkey_counts_by_relay is 'Events by author and relay, for authors with at least two events on it.';
comment on column pubkey_counts_by_relay.relay_url is 'URL of the relay.';
comment on column pubkey_counts_by_relay.pubkey is 'Public key of the author, hex.';
comment on column pubkey_counts_by_relay.event_count is 'Events of that author that were seen on it.';
comment on column pubkey_counts_by_relay.unique_kinds is 'Different kinds of them.';
comment on column pubkey_counts_by_relay.first_event_timestamp is 'created_at of the first of them, Unix seconds.';
comment on column pubkey_counts_by_relay.last_event_timestamp is 'created_at of the last of them, Unix seconds.';
comment on column pubkey_counts_by_relay.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view daily_authors as
select d.day, a.pubkey, sum(d.events) as events, count(*) as kinds
from (
    select d.day, d.part, u.events, u.place
    from daily_counts d
    cross join lateral unnest(d.scopes, d.counts, d.places) as u (scope, events, place)
    where u.scope = 0
) d
join (
    select d.day, d.part, u.author_id, (u.place - 32769)::smallint as place
    from daily_counts d
    cross join lateral unnest(d.author_ids) with ordinality as u (author_id, place)
) l on l.day = d.day and l.part = d.part and l.place = d.place
join authors a on a.author_id = l.author_id
group by d.day, a.pubkey;
comment on view daily_authors is 'Events by day and author: where day = $1.';
comment on column daily_authors.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_authors.pubkey is 'Public key of the author, 32 bytes.';
comment on column daily_authors.events is 'Events of that author.';
comment on column daily_authors.kinds is 'Different kinds of them.';

create or replace view daily_relays as
select d.day, r.relay_id, d.events, d.only_here
from relays r
join daily_scopes d on d.scope = r.relay_id;
comment on view daily_relays is 'Events by day and relay.';
comment on column daily_relays.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_relays.relay_id is 'The relay (relays.relay_id).';
comment on column daily_relays.events is 'Events of that day that were seen on it.';
comment on column daily_relays.only_here is 'Those that were seen on no other relay.';

comment on table daily_samples is 'Of the events of a day whose id begins with the hex digits 00, a 256th of all: on which relays they were seen.';

create or replace view relay_cover as
select
    c.rank, r.url as relay_url, c.new_events, round(c.covered::numeric / nullif(c.sampled, 0), 6) as cumulative_share,
    c.sampled as sample_events, round(1 / 256.0, 6) as sample_share, c.as_of
from cover_ranks c
join relays r on r.relay_id = c.relay_id;
comment on view relay_cover is 'How much of the archive the first relays hold together (greedy set cover): each is the one that adds the most events to those before it. Counted on the events whose id begins with the hex digits 00.';

truncate scope_stats, scope_kinds, daily_kinds, daily_replication, replication_totals, day_sums,
    recent_events, current_events, follow_edges, relay_list_edges, relay_list_totals, zaps, daily_zaps, dirty_periods,
    period_users, cohorts, daily_samples, cover_ranks, daily_references, reference_totals;
select mark_all_days();

do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete, truncate on daily_counts, daily_scopes, scope_authors to bigbrotr_writers;
    end if;
end $$;
