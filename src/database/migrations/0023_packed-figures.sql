-- Figures in less space: places of a day's authors and numbers of an author's kinds in as many bytes as they need, and an
-- index of zaps without the key (docs/decisions/figures.md). What was counted stays.

drop view daily_authors;
drop view pubkey_counts;
drop view pubkey_counts_by_relay;
drop function is_counted(integer, integer, integer);

create or replace function place_bytes(p_above integer) returns bytea
language sql immutable parallel safe
return decode(repeat('ff', p_above / 255), 'hex') || set_byte('\x00', 0, p_above % 255);
comment on function place_bytes(integer) is 'A number from 0 as bytes: 255 for each 255 of it, then the rest.';

create or replace function places_of(p_places bytea, p_authors integer) returns setof integer
language sql immutable parallel safe as $$
    select (s.total % p_authors)::integer + 1
    from (
        select b.i, b.byte, sum(b.byte) over (order by b.i) as total
        from (
            -- The empty string makes a copy that is not compressed: get_byte would decompress it for each byte.
            select i, get_byte(p.places, i) as byte
            from (select p_places || ''::bytea as places offset 0) p
            cross join lateral generate_series(0, length(p.places) - 1) as i
        ) b
    ) s
    where s.byte < 255
    order by s.i
$$;
comment on function places_of(bytea, integer) is 'The places in daily_counts.author_ids that daily_counts.places says, from 1, in its order. The second argument is the number of authors.';

create function pg_temp.packed_places(p_places smallint[], p_authors integer) returns bytea
language sql as $$
    select coalesce(string_agg(place_bytes((place - before + p_authors) % p_authors), ''::bytea order by i), '')
    from (
        select i, place, lag(place, 1, 0) over (order by i) as before
        from (select i, place + 32768 as place from unnest(p_places) with ordinality as u (place, i)) u
    ) p
$$;
alter table daily_counts
    alter column places type bytea using pg_temp.packed_places(places, cardinality(author_ids));
comment on column daily_counts.places is 'The author of each, as place_bytes: by how much its place in author_ids is above that of the cell before, modulo their number. places_of reads them: a byte for most.';

create or replace function is_counted(p_day integer, p_scope integer, p_author_id integer) returns boolean
language sql stable
return exists (
    select from daily_counts d
    cross join lateral (select array_position(d.author_ids, p_author_id) as place offset 0) a
    where d.day = p_day and d.part = p_author_id % d.parts and a.place is not null and exists (
        select from rows from (unnest(d.scopes), places_of(d.places, cardinality(d.author_ids))) as u (scope, place)
        where u.scope = p_scope and u.place = a.place
    )
);
comment on function is_counted(integer, integer, integer) is 'Whether events of an author were counted of a day and scope.';

create function pg_temp.packed_kinds(p_kinds bytea) returns bytea
language sql as $$
    select set_byte('\x00', 0, width)
           || string_agg(substring(p_kinds from i + 1 for 2) || substring(p_kinds from i + 7 - width for width), ''::bytea order by i)
    from (
        select i, case when max(events) over () < 256 then 1 when max(events) over () < 65536 then 2 else 4 end as width
        from (
            select i, (get_byte(p_kinds, i + 2) << 24) + (get_byte(p_kinds, i + 3) << 16) + (get_byte(p_kinds, i + 4) << 8)
                   + get_byte(p_kinds, i + 5) as events
            from generate_series(0, length(p_kinds) - 6, 6) as i
        ) e
    ) w
    group by width
$$;
alter table scope_authors alter column kinds type bytea using pg_temp.packed_kinds(kinds);
comment on column scope_authors.kinds is 'Kinds of these events, ascending, and the events of each: a byte that says how many bytes each number of events has (1, 2 or 4), then two bytes for a kind and these, the highest first. kinds_of reads them; arrays would take four times the space.';

create or replace function kinds_of(p_kinds bytea) returns table (kind integer, events integer)
language sql immutable parallel safe as $$
    select (get_byte(p_kinds, i) << 8) + get_byte(p_kinds, i + 1),
           case w.width
               when 1 then get_byte(p_kinds, i + 2)
               when 2 then (get_byte(p_kinds, i + 2) << 8) + get_byte(p_kinds, i + 3)
               else (get_byte(p_kinds, i + 2) << 24) + (get_byte(p_kinds, i + 3) << 16) + (get_byte(p_kinds, i + 4) << 8)
                   + get_byte(p_kinds, i + 5)
           end
    from (select get_byte(p_kinds, 0) as width where length(p_kinds) > 0) w
    cross join lateral generate_series(1, length(p_kinds) - 2 - w.width, 2 + w.width) as i
$$;
comment on function kinds_of(bytea) is 'The kinds of an author and the events of each (scope_authors.kinds).';

create or replace function kind_count(p_kinds bytea) returns integer
language sql immutable parallel safe
return (length(p_kinds) - 1) / (2 + get_byte(p_kinds, 0));
comment on function kind_count(bytea) is 'How many kinds kinds_of gives (scope_authors.kinds).';

drop index zaps_recipient_index;
-- What an author received: where recipient_id = $1
create index if not exists zaps_recipient_index on zaps (recipient_id);

create or replace view daily_authors as
select d.day, a.pubkey, sum(d.events) as events, count(*) as kinds
from (
    select d.day, d.part, u.events, u.place
    from daily_counts d
    cross join lateral rows from (
        unnest(d.scopes), unnest(d.counts), places_of(d.places, cardinality(d.author_ids))
    ) as u (scope, events, place)
    where u.scope = 0
) d
join (
    select d.day, d.part, u.author_id, u.place::integer as place
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

create or replace view pubkey_counts as
select
    encode(a.pubkey, 'hex') as pubkey, t.events as event_count, kind_count(t.kinds) as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, (select figures_as_of()) as as_of
from scope_authors t
join authors a on a.author_id = t.author_id
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
    r.url as relay_url, encode(a.pubkey, 'hex') as pubkey, t.events as event_count, kind_count(t.kinds) as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, (select figures_as_of()) as as_of, t.scope as relay_id
from scope_authors t
join relays r on r.relay_id = t.scope
join authors a on a.author_id = t.author_id
where t.events >= 2;
comment on view pubkey_counts_by_relay is 'Events by author and relay, for authors with at least two events on it.';
comment on column pubkey_counts_by_relay.relay_url is 'URL of the relay.';
comment on column pubkey_counts_by_relay.pubkey is 'Public key of the author, hex.';
comment on column pubkey_counts_by_relay.event_count is 'Events of that author that were seen on it.';
comment on column pubkey_counts_by_relay.unique_kinds is 'Different kinds of them.';
comment on column pubkey_counts_by_relay.first_event_timestamp is 'created_at of the first of them, Unix seconds.';
comment on column pubkey_counts_by_relay.last_event_timestamp is 'created_at of the last of them, Unix seconds.';
comment on column pubkey_counts_by_relay.as_of is 'Everything that was stored until then is counted (figures_as_of).';
comment on column pubkey_counts_by_relay.relay_id is 'The relay (relays.relay_id). The authors with the most events of one are found by an index where this is compared, and sorted where relay_url is.';
