-- Relays that refuse a filter for its shape are asked with parts of it; and what the read check asked with.

create or replace function relay_state(p_openable boolean, p_readable boolean, p_reason text) returns text
language sql immutable parallel safe
return case
    when p_openable is null then 'unknown'
    when p_readable then 'up'
    when p_openable and p_reason in (
        'auth_required', 'restricted', 'blocked', 'rate_limited', 'limit', 'filter_refused', 'too_many_values'
    ) then 'up'
    when p_reason in ('no_proxy', 'proxy_down') then 'unknown'
    else 'down'
end;

create or replace view relay_facts as
select
    r.url as relay_url, r.network, s.generated_at,
    h.openable, h.readable, h.writable, h.rtt_open, h.rtt_read, h.rtt_write,
    c.found -> 'geo' ->> 'country' as country,
    c.found -> 'geo' ->> 'city' as city,
    c.found -> 'geo' ->> 'geohash' as geohash,
    c.found -> 'net' ->> 'ip' as ip,
    (c.found -> 'net' ->> 'asn')::bigint as asn,
    c.found -> 'net' ->> 'organisation' as organisation,
    (c.found -> 'tls' ->> 'valid')::boolean as tls_valid,
    c.found -> 'tls' ->> 'problem' as tls_problem,
    c.found -> 'tls' ->> 'issuer' as tls_issuer,
    (c.found -> 'tls' ->> 'notAfter')::bigint as tls_not_after,
    c.found -> 'http' ->> 'server' as http_server,
    d.software, d.version, d.supported_nips,
    (c.found -> 'capabilities' ->> 'nip45')::boolean as nip45,
    (c.found -> 'capabilities' ->> 'nip50')::boolean as nip50,
    (c.found -> 'capabilities' ->> 'nip67')::boolean as nip67,
    (c.found -> 'capabilities' ->> 'nip77')::boolean as nip77,
    (c.found -> 'capabilities' ->> 'maxLimit')::integer as max_limit,
    c.found -> 'read' ->> 'asked' as read_asked
from relays r
cross join lateral (
    select * from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
) s
cross join lateral (
    select jsonb_object_agg(name, data) filter (where success and name <> 'nip11') as found
    from check_results where result_id = any (s.results)
) c
left join nip66 h on h.id = s.nip66_id
left join nip11 d on d.id = s.nip11_id;
comment on column relay_facts.read_asked is 'With what it was readable: bare (any event), filter (the archived one) or kinds. Null: not readable, or not told yet.';

create table filter_parts (
    relay_id   integer not null references relays on delete cascade,
    filter_id  integer not null references filters on delete cascade,
    part_id    integer not null references filters on delete cascade,
    divided_by text not null,
    refused_at bigint not null,
    constraint filter_parts_pkey primary key (relay_id, filter_id, part_id),   -- the parts of a filter
    constraint filter_parts_divided_by_check check (divided_by in ('values', 'kinds'))
);
comment on table filter_parts is 'With which filters a relay is asked in place of one that it refuses for its shape. A part may have parts of its own.';
comment on column filter_parts.relay_id is 'The relay.';
comment on column filter_parts.filter_id is 'The filter that it refuses.';
comment on column filter_parts.part_id is 'One of those that it is asked with instead.';
comment on column filter_parts.divided_by is 'values: the parts share the values of a list, and together they are the filter; kinds: each names some kinds, and together they are less than the filter.';
comment on column filter_parts.refused_at is 'When it last refused the filter, Unix seconds; it is asked with it again after a week.';

alter table visits add column is_part boolean not null default false;
comment on column visits.is_part is 'Only a part of a wanted filter, which the relay refuses (filter_parts).';

alter table relay_manners add column max_filter_values integer, add column max_filter_values_at bigint;
comment on column relay_manners.max_filter_values is 'Most values in one list of a filter that it is asked with, where it refused more.';
comment on column relay_manners.max_filter_values_at is 'When it last refused more, Unix seconds; forgotten after a week.';

create or replace function filter_leaves(p_relay_id integer, p_filter_id integer) returns setof integer
language sql stable
begin atomic
    with recursive parts as (
        select part_id from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id
        union
        select f.part_id
        from parts p
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = p.part_id
    )
    select p.part_id from parts p
    where not exists (select from filter_parts f where f.relay_id = p_relay_id and f.filter_id = p.part_id);
end;
comment on function filter_leaves(integer, integer) is 'The filters that a relay is asked with in place of one that it refuses; none where it takes that.';

create or replace function is_divided_by_kinds(p_relay_id integer, p_filter_id integer) returns boolean
language sql stable
begin atomic
    with recursive parts as (
        select part_id, divided_by from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id
        union
        select f.part_id, f.divided_by
        from parts p
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = p.part_id
    )
    select exists (select from parts where divided_by = 'kinds');
end;
comment on function is_divided_by_kinds(integer, integer) is 'Whether a relay is asked by kinds in place of this filter, so that events of other kinds are not asked for.';

create or replace function parts_covered(p_relay_id integer, p_filter_id integer) returns int8multirange
language sql stable
begin atomic
    select coalesce(range_intersect_agg(part.covered), '{}')
    from (
        select coalesce(range_agg(c.covered), '{}'::int8multirange) as covered
        from filter_leaves(p_relay_id, p_filter_id) leaf
        left join coverage c on c.relay_id = p_relay_id and c.filter_id = leaf
        group by leaf
    ) part;
end;
comment on function parts_covered(integer, integer) is 'What is proven complete for all filters that a relay is asked with in place of one that it refuses.';

create or replace function withheld_of(p_relay_id integer, p_filter_id integer, p_wanted int8range)
returns table (id bytea, stretch int8range)
language sql stable
begin atomic
    with recursive asked as (
        select p_filter_id as filter_id
        union
        select f.part_id
        from asked a
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = a.filter_id
    )
    select distinct on (w.id) w.id, w.stretch
    from asked
    join withheld w on w.relay_id = p_relay_id and w.filter_id = asked.filter_id and w.stretch && p_wanted
    order by w.id, lower(w.stretch) desc, upper(w.stretch);
end;
comment on function withheld_of(integer, integer, int8range) is 'Events of these seconds that a relay lists and does not serve, each once: of a filter, and of those that it is asked with in place of it.';

create or replace view coverage_gaps as
select r.url as relay_url, f.filter, lower(g.gap) as since, upper(g.gap) - 1 as until, g.hole, g.hole_events
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral (
    select v.wanted::int8multirange - coalesce(range_agg(covered), '{}') as missing
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c
cross join lateral (
    select gap, null::integer as hole_events,
           case
               when v.detail like 'filter_refused%' or is_divided_by_kinds(v.relay_id, v.filter_id) then 'filter_refused'
           end as hole
    from unnest(c.missing - coalesce((
        select range_agg(stretch) from holes where relay_id = v.relay_id and filter_id = v.filter_id
    ), '{}')) gap
    union all
    select stretch, events, reason
    from holes where relay_id = v.relay_id and filter_id = v.filter_id and stretch && c.missing
    union all
    select int8range(min(lower(stretch)), max(upper(stretch))) as stretch, count(*)::integer as events, 'withheld' as reason
    from (
        select stretch, count(*) filter (where is_apart) over (order by lower(stretch), upper(stretch), id) as island
        from (
            select id, stretch, lower(stretch) > max(upper(stretch)) over (
                order by lower(stretch), upper(stretch), id rows between unbounded preceding and 1 preceding
            ) as is_apart
            from withheld_of(v.relay_id, v.filter_id, v.wanted)
        ) w
    ) w
    group by island
) g
where not v.is_part;
comment on view coverage_gaps is 'One row a gap: a stretch of created_at (both ends inclusive) that was wanted of a relay and is not proven complete; hole says why, where it was tried in vain. hole withheld: all of it but the hole_events that the relay lists and does not serve (withheld).';
comment on column coverage_gaps.relay_url is 'URL of the relay (relays.url).';
comment on column coverage_gaps.since is 'First second of the gap, as in a filter.';
comment on column coverage_gaps.until is 'Last second of the gap, as in a filter.';
comment on column coverage_gaps.hole is 'Why it could not be proven complete though the relay was asked (holes.reason; filter_refused: it refuses the filter, or a part of it; withheld: it lists events that it does not serve); null when it is only not read yet.';
comment on column coverage_gaps.hole_events is 'Events the relay showed there (holes.events), or names and withholds.';

create or replace view relay_coverage as
select
    r.url as relay_url, f.filter,
    coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share,
    lower(c.covered) as first_second, upper(c.covered) - 1 as last_second,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = v.filter_id) as holes,
    unix_now() - c.oldest_proof as oldest_proof_age,
    v.outcome, v.detail, v.ended_at as visited_at,
    v.stop_reason, v.failures, v.failing_since,
    case when m.not_before - unix_now() between 1 and 2595600 then m.not_before end as paused_until,
    (select coalesce(sum(o.count), 0)::bigint from relay_offences o where o.relay_id = v.relay_id) as offences,
    sightings_in(v.relay_id, v.wanted) as events_held,
    events_left(v.relay_id, v.wanted, c.covered) as events_left_estimate,
    case
        when isempty((v.wanted * int8range(null, unix_now() + 1))::int8multirange - c.covered) then 'complete'
        when not c.covered && seconds_that_count(v.wanted) then 'unknown'
        else 'density'
    end as estimate_basis,
    case
        when asked.parts = 0 then 'filter'
        when is_divided_by_kinds(v.relay_id, v.filter_id) then 'kinds'
        else 'parts'
    end as asked_by,
    greatest(asked.parts, 1) as filters_asked,
    coverage_share(
        v.wanted, case when asked.parts = 0 then c.covered else parts_covered(v.relay_id, v.filter_id) end,
        oldest_known(v.relay_id, v.wanted)
    ) as asked_share,
    (select count(*) from withheld_of(v.relay_id, v.filter_id, v.wanted)) as withheld
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
left join relay_manners m on m.relay_id = v.relay_id
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered, min(proven_at) as oldest_proof
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c
cross join lateral (
    select count(*) as parts from filter_leaves(v.relay_id, v.filter_id)
) asked
where not v.is_part;
comment on view relay_coverage is 'For each relay and filter: share of the wanted time that is proven complete, its first and last second, gaps, holes, age of the oldest proof in seconds, how the latest visit ended and what stopped it, since when it fails, what was refused, and how many events are archived and left. events_held counts them one by one, about a million a second, where it is asked for, and events_left_estimate those within gaps: leave them out where that is too slow, and they cost nothing. What was never visited is in unread_relays.';
comment on column relay_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_coverage.share is 'Share of the wanted seconds that is proven complete: 1 when all that have come are, else less. Counted from 2020-11-07, when Nostr began, or from the oldest event known of the relay where all below it is proven; see coverage_share().';
comment on column relay_coverage.first_second is 'First second of created_at that is proven complete.';
comment on column relay_coverage.last_second is 'Last second of created_at that is proven complete.';
comment on column relay_coverage.gaps is 'How many gaps coverage_gaps shows.';
comment on column relay_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_coverage.oldest_proof_age is 'Seconds since the oldest proof that still stands; null when there is none.';
comment on column relay_coverage.withheld is 'Events of the wanted time that the relay lists by NIP-77 and does not serve, whether it is asked with the filter or with parts of it.';
comment on column relay_coverage.visited_at is 'When the latest visit ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column relay_coverage.paused_until is 'The relay is not visited before this, Unix seconds (relay_manners.not_before); null when it does not pause. What lies more than 30 days and an hour ahead was noted while the clock was wrong, and holds nothing up.';
comment on column relay_coverage.offences is 'How much of what the relay ever sent was refused, by whatever filter: the sum over relay_offences.';
comment on column relay_coverage.events_held is 'Events of the wanted time that were seen on this relay, by whatever filter. Counted one by one: see sightings_in().';
comment on column relay_coverage.events_left_estimate is 'How many events may be left to archive: see estimate_basis. Null when nothing tells.';
comment on column relay_coverage.estimate_basis is 'What the estimate rests on. complete: nothing that has come is missing, so that it is 0; density: the gaps are taken to be as dense as what was archived next to them (events_left()); unknown: nothing next to them is known.';
comment on column relay_coverage.asked_by is 'filter: the relay takes the filter; parts: it is asked with several that are the filter together; kinds: it is asked by kinds, and events of other kinds are not asked for, so that share counts what was proven of the filter itself.';
comment on column relay_coverage.filters_asked is 'With how many filters it is asked.';
comment on column relay_coverage.asked_share is 'Share of the wanted seconds that is proven complete for all filters it is asked with.';

create or replace view relay_part_coverage as
select
    r.url as relay_url, f.filter, p.filter as part,
    coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = leaf) as holes,
    part_visit.outcome, part_visit.detail, part_visit.ended_at as visited_at
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral filter_leaves(v.relay_id, v.filter_id) leaf
join filters p on p.filter_id = leaf
left join visits part_visit on part_visit.relay_id = v.relay_id and part_visit.filter_id = leaf
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered from coverage where relay_id = v.relay_id and filter_id = leaf
) c
where not v.is_part;
comment on view relay_part_coverage is 'For each relay that refuses a wanted filter for its shape: the filters that it is asked with instead, and for each the share of the wanted time that is proven complete, gaps, holes, and how its latest reading ended.';
comment on column relay_part_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_part_coverage.filter is 'The wanted filter, which the relay refuses.';
comment on column relay_part_coverage.part is 'A filter that it is asked with instead.';
comment on column relay_part_coverage.share is 'Share of the wanted seconds that is proven complete for this part: 1 when all are.';
comment on column relay_part_coverage.gaps is 'How many stretches of the wanted time are not proven for it.';
comment on column relay_part_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_part_coverage.outcome is 'complete, partial, unfinished or failed; null when it was not read yet.';
comment on column relay_part_coverage.detail is 'Why it is not complete.';
comment on column relay_part_coverage.visited_at is 'When its latest reading ended, Unix seconds; null while it goes on or when it was cut off.';

create or replace function divide_filter(
    p_relay_id integer, p_filter_id integer, p_parts integer[], p_divided_by text, p_refused_at bigint
) returns void
language plpgsql as $$
declare
    added constant integer[] := array(
        select part from unnest(p_parts) part
        where not exists (
            select from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id and part_id = part
        )
    );
begin
    insert into filter_parts (relay_id, filter_id, part_id, divided_by, refused_at)
    select p_relay_id, p_filter_id, part, p_divided_by, p_refused_at from unnest(p_parts) part
    on conflict (relay_id, filter_id, part_id) do update
    set divided_by = excluded.divided_by, refused_at = excluded.refused_at;
    insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
    select c.relay_id, part, c.evidence, c.proven_on, c.covered - had.covered, c.proven_at
    from coverage c
    cross join unnest(added) part
    cross join lateral (
        select coalesce(range_agg(covered), '{}') as covered from coverage where relay_id = p_relay_id and filter_id = part
    ) had
    where c.relay_id = p_relay_id and c.filter_id = p_filter_id and c.evidence <> 'silence'
        and not isempty(c.covered - had.covered)
    on conflict (relay_id, filter_id, evidence, proven_on) do update
    set covered = coverage.covered + excluded.covered, proven_at = least(coverage.proven_at, excluded.proven_at);
end $$;
comment on function divide_filter is 'Notes the parts that a relay is asked with in place of a filter. What was proven of the filter is proven of each that is new; what was taken back of another stays so.';

create or replace function record_parts_coverage(p_relay_id integer, p_filter_id integer) returns void
language plpgsql as $$
declare
    leaves constant integer[] := array(select filter_leaves(p_relay_id, p_filter_id));
    whole  constant int8multirange := parts_covered(p_relay_id, p_filter_id);
begin
    if cardinality(leaves) = 0 or is_divided_by_kinds(p_relay_id, p_filter_id) then
        return;
    end if;
    perform from visits where relay_id = p_relay_id and filter_id = p_filter_id for update;
    delete from coverage where relay_id = p_relay_id and filter_id = p_filter_id;
    insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
    with part as (
        select * from coverage where relay_id = p_relay_id and filter_id = any (leaves)
    ), evidences as (
        select evidence, array_position(array['silence', 'paging', 'finish', 'nip77'], evidence) as strength,
               range_agg(covered) as covered
        from part group by evidence
    ), weakest as (
        select evidence, covered - coalesce(range_agg(covered) over weaker, '{}') as covered
        from evidences window weaker as (order by strength rows between unbounded preceding and 1 preceding)
    ), days as (
        select proven_on, min(proven_at) as proven_at, range_agg(covered) as covered from part group by proven_on
    ), oldest as (
        select proven_on, proven_at, covered - coalesce(range_agg(covered) over older, '{}') as covered
        from days window older as (order by proven_on rows between unbounded preceding and 1 preceding)
    )
    select p_relay_id, p_filter_id, weakest.evidence, oldest.proven_on, whole * weakest.covered * oldest.covered, oldest.proven_at
    from weakest cross join oldest
    where not isempty(whole * weakest.covered * oldest.covered);
    delete from holes where relay_id = p_relay_id and filter_id = p_filter_id;
    insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
    select p_relay_id, p_filter_id, stretch, min(reason), sum(events), min(noted_at)
    from holes where relay_id = p_relay_id and filter_id = any (leaves)
    group by stretch;
end $$;
comment on function record_parts_coverage is 'Records as proven of a filter what is proven of all its parts, by the weakest evidence and the oldest proof, and the holes of them all. Of one that is asked for by kinds nothing is recorded: events of other kinds were not asked for.';

do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on filter_parts to bigbrotr_writers;
    end if;
end $$;
