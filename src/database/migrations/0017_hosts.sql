-- What every visit runs is planned once a session: in PL/pgSQL, and the beginning of a visit in one statement.

create or replace function is_caught_up(p_relay_id integer, p_filter_id integer, p_wanted int8range) returns boolean
language plpgsql stable as $$
begin
    -- In PL/pgSQL, whose plans are kept: as an SQL function it was planned at the end of each visit, for a millisecond.
    return (
        select proven <> '{}' and p_wanted::int8multirange * int8range(null, upper(proven))::int8multirange <@ settled
        from (
            select coalesce(range_intersect_agg(c.covered), '{}') as proven,
                   coalesce(range_intersect_agg(c.covered + h.in_vain), '{}') as settled
            from (
                select leaf as filter_id from filter_leaves(p_relay_id, p_filter_id) leaf
                where not exists (
                    select from visits where relay_id = p_relay_id and filter_id = leaf and stop_reason = 'filter_refused'
                )
                union all
                select p_filter_id where not exists (select from filter_leaves(p_relay_id, p_filter_id))
            ) asked
            cross join lateral (
                select coalesce(range_agg(covered), '{}') as covered
                from coverage where relay_id = p_relay_id and filter_id = asked.filter_id
            ) c
            cross join lateral (
                select coalesce(range_agg(stretch), '{}') as in_vain
                from holes where relay_id = p_relay_id and filter_id = asked.filter_id
            ) h
        ) asked
    );
end $$;

create or replace function take_claims(p_work text, p_relay_ids integer[], p_holder text, p_lease integer)
returns table (relay_id integer, token bigint)
language plpgsql volatile as $$
#variable_conflict use_column
begin
    return query
    with ended as (
        -- A holder that writes under its claim at this moment has it locked (holds_claim): that one is skipped.
        select c.relay_id
        from claims c
        where c.work = p_work and c.relay_id = any (p_relay_ids) and (not is_lease_valid(c.until) or c.holder = p_holder)
        order by c.relay_id
        for update skip locked
    ), taken as (
        update claims c
        set holder = p_holder, token = nextval('claim_token_sequence'), since = unix_now(), until = unix_now() + p_lease
        from ended
        where c.work = p_work and c.relay_id = ended.relay_id
        returning c.relay_id, c.token
    ), added as (
        insert into claims (work, relay_id, holder, token, since, until)
        select p_work, wanted.id, p_holder, nextval('claim_token_sequence'), unix_now(), unix_now() + p_lease
        from (select distinct id from unnest(p_relay_ids) id order by id) wanted
        where not exists (select from claims c where c.work = p_work and c.relay_id = wanted.id)
        on conflict do nothing
        returning relay_id, token
    )
    select taken.relay_id, taken.token from taken
    union all
    select added.relay_id, added.token from added;
end $$;

create or replace function begin_visit(
    p_relay_id integer, p_filter_id integer, p_since bigint, p_until bigint, p_overlap bigint, p_reprove bigint,
    p_is_part boolean, p_token bigint
) returns jsonb
language plpgsql as $$
declare
    now_at   constant bigint := unix_now();
    slack    constant bigint := 3600;    -- a clock that is wrong by less goes unnoticed
    wanted   constant int8multirange := int8range(p_since, p_until + 1)::int8multirange;
    soon     constant bigint := now_at + 3600;   -- events that expire before that need not be shown (src/nostr/transient.ts)
    is_whole constant boolean := (select filter = '{}' from filters where filter_id = p_filter_id);
begin
    if not holds_claim('visit', p_relay_id, p_token) then
        return null;
    end if;
    insert into visits (relay_id, filter_id, wanted, started_at, is_part)
    values (p_relay_id, p_filter_id, int8range(p_since, p_until + 1), now_at, p_is_part)
    on conflict (relay_id, filter_id) do update
    set wanted = excluded.wanted, started_at = excluded.started_at, ended_at = null, outcome = null, detail = null,
        stop_reason = null, is_part = visits.is_part and excluded.is_part;
    -- Coverage of the future was recorded while the clock was wrong; coverage by silence is asked for in each visit.
    update coverage
    set covered = covered * int8range(null, greatest(now_at, p_until) + 1)::int8multirange
    where relay_id = p_relay_id and filter_id = p_filter_id and evidence <> 'silence' and proven_at <= now_at + slack
        and upper(covered) > greatest(now_at, p_until) + 1;
    delete from coverage
    where relay_id = p_relay_id and filter_id = p_filter_id and (evidence = 'silence' or proven_at > now_at + slack);
    return (
        with proven as (
            select coalesce(range_agg(covered), '{}') as covered,
                   coalesce(range_agg(covered) filter (
                       where proven_at < now_at - p_reprove * (0.75 + mod(p_relay_id * 7919::bigint, 512) / 1024.0)
                   ), '{}') as old
            from coverage where relay_id = p_relay_id and filter_id = p_filter_id
        ), settled as (
            select covered * int8range(null, upper(covered) - p_overlap)::int8multirange as covered, old from proven
        ), tried as (
            select coalesce(range_agg(stretch), '{}') as in_vain from holes
            where relay_id = p_relay_id and filter_id = p_filter_id
                and noted_at between now_at - p_reprove + 1 and now_at + slack
        ), gaps as (
            select gap, false as stale from settled, tried, unnest(wanted - covered - in_vain) gap
            union all
            select gap, true from settled, unnest(wanted * covered * old) gap
            union all
            select gap, null
            from proven, holes, unnest(wanted * stretch::int8multirange - covered) gap
            where relay_id = p_relay_id and filter_id = p_filter_id and reason = 'unanswered'
        )
        select coalesce(jsonb_agg(jsonb_build_object(
            'since', lower(gap), 'until', upper(gap) - 1, 'stale', stale,
            'anchor', case when is_whole then
                newest_lasting_sighting(p_relay_id, 0, lower(gap) - 1, soon) >> 24
            end,
            'known', case when is_whole then
                newest_lasting_sighting(p_relay_id, lower(gap), upper(gap) - 1, soon) >> 24
            end
        ) order by lower(gap) desc), '[]')
        from gaps
    );
end $$;
comment on function begin_visit is 'Notes the beginning of a visit and returns the gaps that it has to read (an array of {since, until, anchor, known, stale}; stale: null for holes that the relay lists and gave no answer for); null where another process holds the relay. One statement, whose plans are kept: a visit with nothing to read consists of little else.';

-- One finder reads lists of relays and the reports of other monitors.
alter table claims drop constraint claims_work_check;
alter table claims add constraint claims_work_check check (work in ('visit', 'check', 'try', 'sources'));
comment on column claims.work is 'visit: a synchronizer or the priority synchronizer visits the relay, or follows it live; check: the monitor checks it; try: the finder asks it whether it is a relay; sources: the finder reads lists of relays and the reports of other monitors.';
comment on column claims.relay_id is 'The relay (relays.relay_id); of a try the name (named_relays.name_id); of sources a hash of their URLs: finders that read the same ones share a claim.';
create or replace view claimed_relays as
select
    c.work, coalesce(r.url, n.url) as relay_url, c.holder, c.since, c.until, is_lease_valid(c.until) as is_valid
from claims c
left join relays r on c.work in ('visit', 'check') and r.relay_id = c.relay_id
left join named_relays n on c.work = 'try' and n.name_id = c.relay_id;
comment on column claimed_relays.work is 'visit, check, try or sources.';
comment on column claimed_relays.relay_url is 'Normalised WebSocket URL; null of sources.';
