-- Whether the history of a relay has been read: such relays are visited before the others, which take their time.
alter table visits add column caught_up boolean not null default false;
comment on column visits.caught_up is 'Whether at its end nothing of what was wanted was missing below the newest second proven, but for holes. Such relays are visited before the others.';

create or replace function is_caught_up(p_relay_id integer, p_filter_id integer, p_wanted int8range) returns boolean
language sql stable parallel safe
return (
    select proven.covered <> '{}'
        and p_wanted::int8multirange * int8range(null, upper(proven.covered))::int8multirange
            <@ proven.covered + coalesce((
                select range_agg(stretch) from holes where relay_id = p_relay_id and filter_id = p_filter_id
            ), '{}')
    from (
        select coalesce(range_agg(covered), '{}') as covered
        from coverage where relay_id = p_relay_id and filter_id = p_filter_id
    ) proven
);
comment on function is_caught_up(integer, integer, int8range) is
    'Whether nothing of what was wanted of a relay is missing below the newest second proven, but for holes (visits.caught_up).';

update visits set caught_up = true where ended_at is not null and is_caught_up(relay_id, filter_id, wanted);
