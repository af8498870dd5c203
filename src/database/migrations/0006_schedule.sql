-- Whether the history of a relay has been read: such relays are visited before the others, which take their time.
alter table visits add column caught_up boolean not null default false;
comment on column visits.caught_up is 'Whether at its end nothing of what was wanted was missing below the newest second proven, but for holes. Such relays are visited before the others.';

create or replace function is_caught_up(p_relay_id integer, p_filter_id integer, p_wanted int8range) returns boolean
language sql stable
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
comment on function is_caught_up(integer, integer, int8range) is
    'Whether nothing of what was wanted of a relay is missing below the newest second proven, but for holes (visits.caught_up). Of one that is asked with parts of the filter: of none of the parts, but for those that it refuses.';

update visits set caught_up = true where ended_at is not null and is_caught_up(relay_id, filter_id, wanted);
