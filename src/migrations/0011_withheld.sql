-- Events that a relay lists by NIP-77 and does not serve are withheld; and the time to try NIP-77 again is stored as that.

alter table relay_manners rename column nip77_refused_at to nip77_not_before;
alter table relay_manners add column nip77_reason text;
update relay_manners set nip77_not_before = nip77_not_before + 604800, nip77_reason = 'failed' where nip77_not_before is not null;
comment on column relay_manners.nip77_not_before is 'NIP-77 is not tried with it before this, Unix seconds; null where nothing speaks against it.';
comment on column relay_manners.nip77_reason is 'Why NIP-77 is not tried: unsupported, cut (its lists lack what it holds), too_many_withheld, too_large, blocked, restricted, auth_required, rate_limited or failed; null when it may be.';

create table withheld (
    relay_id      integer not null references relays on delete cascade,
    filter_id     integer not null references filters on delete cascade,
    id            bytea not null,
    stretch       int8range not null,
    reason        text not null,
    first_at      bigint not null,
    last_at       bigint not null,
    next_try_at   bigint not null,
    tries         integer not null default 1,
    authenticated boolean not null default false,
    constraint withheld_pkey primary key (relay_id, filter_id, id),   -- what a relay withholds
    constraint withheld_id_length check (octet_length(id) = 32),
    constraint withheld_reason_check check (reason in ('not_served', 'auth_required', 'restricted', 'refused'))
);
create index withheld_next_try on withheld (relay_id, filter_id, next_try_at);   -- those due

comment on table withheld is 'Events that a relay lists by NIP-77 and does not serve: all of the stretch but these is archived.';
comment on column withheld.relay_id is 'The relay.';
comment on column withheld.filter_id is 'The filter with which the relay was read.';
comment on column withheld.id is 'Id of the event, 32 bytes.';
comment on column withheld.stretch is 'Seconds in one of which it was created, upper end exclusive: the events listed before and after it bound them.';
comment on column withheld.reason is 'not_served: asked for by its id, the relay sends EOSE without it; auth_required, restricted, refused: CLOSED, by what it says.';
comment on column withheld.first_at is 'When it was first found so, Unix seconds.';
comment on column withheld.last_at is 'When it was last asked for, Unix seconds.';
comment on column withheld.next_try_at is 'When it is asked for again, Unix seconds.';
comment on column withheld.tries is 'How often it was asked for.';
comment on column withheld.authenticated is 'Whether it was last asked for after a successful authentication (NIP-42).';

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
    select gap, null::text as hole, null::integer as hole_events
    from unnest(c.missing - coalesce((
        select range_agg(stretch) from holes where relay_id = v.relay_id and filter_id = v.filter_id
    ), '{}')) gap
    union all
    select stretch, reason, events
    from holes where relay_id = v.relay_id and filter_id = v.filter_id and stretch && c.missing
    union all
    select int8range(min(lower(stretch)), max(upper(stretch))), 'withheld', count(*)::integer
    from (
        select stretch, count(*) filter (where is_apart) over (order by lower(stretch), upper(stretch), id) as island
        from (
            select id, stretch, lower(stretch) > max(upper(stretch)) over (
                order by lower(stretch), upper(stretch), id rows between unbounded preceding and 1 preceding
            ) as is_apart
            from withheld where relay_id = v.relay_id and filter_id = v.filter_id and stretch && v.wanted
        ) w
    ) w
    group by island
) g;
comment on view coverage_gaps is 'One row a gap: a stretch of created_at (both ends inclusive) that was wanted of a relay and is not proven complete; hole says why, where it was tried in vain. hole withheld: all of it but the hole_events that the relay lists and does not serve (withheld).';

create or replace view relay_coverage as
select
    r.url as relay_url, f.filter,
    round(seconds_in(c.covered * v.wanted::int8multirange) / nullif(seconds_in(v.wanted::int8multirange), 0), 6) as share,
    lower(c.covered) as first_second, upper(c.covered) - 1 as last_second,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = v.filter_id) as holes,
    extract(epoch from now())::bigint - c.oldest_proof as oldest_proof_age,
    v.outcome, v.detail, v.ended_at as visited_at,
    (select count(*) from withheld w where w.relay_id = v.relay_id and w.filter_id = v.filter_id and w.stretch && v.wanted) as withheld
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered, min(proven_at) as oldest_proof
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c;
comment on view relay_coverage is 'For each relay and filter: share of the wanted time that is proven complete, its first and last second, gaps, holes, age of the oldest proof in seconds, and how the latest visit ended.';

comment on column coverage_gaps.hole is 'Why it could not be proven complete though the relay was asked (holes.reason), or withheld; null when it is only not read yet.';
comment on column coverage_gaps.hole_events is 'Events the relay showed there (holes.events), or names and withholds.';
comment on column relay_coverage.withheld is 'Events of the wanted time that the relay lists by NIP-77 and does not serve.';

do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on withheld to bigbrotr_writers;
    end if;
end $$;
