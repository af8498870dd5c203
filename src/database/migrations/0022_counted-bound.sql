-- The first and last events of an author in a scope, where events are on other servers than authors and relays (docs/citus.md).

-- In PL/pgSQL, and by one table at a time: where there are several servers, sightings and relays are not on the same ones.
create or replace function is_in_scope(p_event_key bigint, p_scope integer) returns boolean
language plpgsql stable as $$
declare
    seen_on integer[];
begin
    if p_scope = 0 then
        return true;
    end if;
    select array_agg(relay_id) into seen_on
    from sightings
    where event_key = p_event_key and created_day = event_key_day(p_event_key) and (p_scope < 0 or relay_id = p_scope);
    if p_scope > 0 then
        return seen_on is not null;
    end if;
    return exists (select from relays where relay_id = any (seen_on) and network_scope(network) = p_scope);
end $$;
comment on function is_in_scope(bigint, integer) is 'Whether an event counts for a scope: it was seen on that relay, or on one of that network.';

create or replace function counted_bound(p_scope integer, p_author_id integer, p_from bigint, p_is_first boolean) returns bigint
language plpgsql stable as $$
declare
    author constant bytea := (select pubkey from authors where author_id = p_author_id);
    place  bigint;
    keys   bigint[];
    key    bigint;
begin
    loop
        if p_is_first then
            select array_agg(event_key order by event_key) into keys
            from (
                select event_key from events
                where pubkey = author and created_at >= p_from and (place is null or event_key > place)
                order by created_at, event_key limit 100
            ) e;
        else
            select array_agg(event_key order by event_key desc) into keys
            from (
                select event_key from events
                where pubkey = author and created_at < p_from and (place is null or event_key < place)
                order by created_at desc, event_key desc limit 100
            ) e;
        end if;
        if keys is null then
            return null;
        end if;
        foreach key in array keys loop
            if is_counted(event_key_day(key), p_scope, p_author_id) and is_in_scope(key, p_scope) then
                return key >> 24;
            end if;
        end loop;
        place := key;
    end loop;
end $$;
comment on function counted_bound(integer, integer, bigint, boolean) is 'When the first event of an author in a scope was created from a second on, or the last one before it; only days that are counted. Null without any. Reads a hundred events of the author at a time, newer or older ones.';
