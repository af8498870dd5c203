-- Known events are looked up by time and id, so that those of a page lie together in the index; ids alone get a hash index,
-- a third as large as the B-tree that it replaces. What a visit proves is recorded by one call instead of three.

create unique index events_created_at_id_index on events (created_at desc, id);
create index events_id_index on events using hash (id);
alter table events drop constraint events_id_key;
drop index events_created_at_index;

create or replace function insert_event(
    p_id bytea, p_pubkey bytea, p_created_at bigint, p_kind integer, p_tags jsonb, p_content text, p_sig bytea,
    p_relay_url text, p_relay_network text, p_seen_at bigint default extract(epoch from now())::bigint
) returns boolean
language plpgsql as $$
declare
    is_new boolean;
begin
    perform insert_relay(p_relay_url, p_relay_network, p_seen_at);
    insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
    values (new_event_key(p_created_at), p_created_at, p_kind, p_id, p_pubkey, p_sig, p_tags, event_tagvalues(p_tags), p_content)
    on conflict (created_at, id) do nothing;
    is_new := found;
    insert into sightings (event_key, relay_id, seen_at)
    select e.event_key, r.relay_id, p_seen_at - 1577836800
    from events e, relays r
    where e.id = p_id and r.url = p_relay_url
    on conflict do nothing;
    return is_new;
end $$;
comment on function insert_event is 'Adds one event and its sighting on a relay. The caller has verified it. True when the event was new.';

create or replace function record_coverage(
    p_relay_id integer, p_filter_id integer, p_evidence text, p_proven int8multirange, p_holes jsonb
) returns void
language plpgsql as $$
declare
    today    constant date := (now() at time zone 'utc')::date;
    in_vain  constant int8multirange := coalesce((
        select range_agg(int8range(h.since, h.until, '[]')) from jsonb_to_recordset(p_holes) as h (since bigint, until bigint)
    ), '{}');
    is_moved boolean;
begin
    -- One writer at a time for the coverage of a relay and filter.
    perform from visits where relay_id = p_relay_id and filter_id = p_filter_id for update;
    update coverage set covered = covered - (p_proven + in_vain)
    where relay_id = p_relay_id and filter_id = p_filter_id and covered && (p_proven + in_vain)
        and (isempty(p_proven) or (evidence, proven_on) <> (p_evidence, today));
    is_moved := found;
    if not isempty(p_proven) then
        delete from holes where relay_id = p_relay_id and filter_id = p_filter_id and stretch <@ p_proven;
        insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
        values (p_relay_id, p_filter_id, p_evidence, today, p_proven - in_vain, extract(epoch from now())::bigint)
        on conflict (relay_id, filter_id, evidence, proven_on) do update
        set covered = coverage.covered + p_proven - in_vain, proven_at = excluded.proven_at;
    end if;
    if is_moved or not isempty(in_vain) then
        delete from coverage where relay_id = p_relay_id and filter_id = p_filter_id and isempty(covered);
    end if;
    insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
    select distinct on (h.since, h.until)
        p_relay_id, p_filter_id, int8range(h.since, h.until, '[]'), h.reason, h.count, extract(epoch from now())::bigint
    from jsonb_to_recordset(p_holes) as h (since bigint, until bigint, reason text, count integer)
    order by h.since, h.until, h.count desc
    on conflict (relay_id, filter_id, stretch) do update
    set reason = excluded.reason, events = excluded.events, noted_at = excluded.noted_at;
end $$;
comment on function record_coverage is 'Moves what is proven into today''s row of its evidence, so that each stretch stands once, with its latest proof. What was tried in vain (an array of {since, until, reason, count}) is no longer proven, whatever an earlier visit found. In the transaction that stores the events on which it rests.';
