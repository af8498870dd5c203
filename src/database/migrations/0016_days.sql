-- Puts the copies of events and sightings that 0015_days-tables began in their place. What is not copied yet is copied here.

do $$
begin
    while copy_days_step(131072) loop
    end loop;
end $$;

create table if not exists relay_urls (
    relay_id integer primary key,   -- the URL of a relay, for queries of sightings
    url      text not null,
    constraint relay_urls_url_key unique (url)   -- the sightings of a relay: where url = $1
);

create or replace function keep_relay_urls() returns trigger
language plpgsql as $$
begin
    if tg_op = 'TRUNCATE' then
        delete from relay_urls;
    else
        insert into relay_urls (relay_id, url) values (new.relay_id, new.url)
        on conflict (relay_id) do update set url = excluded.url;
    end if;
    return null;
end $$;
comment on function keep_relay_urls() is 'Trigger: relay_urls has each relay. The trigger that deletes sightings deletes from it.';

create or replace trigger relays_keep_urls after insert or update of url on relays
for each row execute function keep_relay_urls();
create or replace trigger relays_truncate_urls after truncate on relays
for each statement execute function keep_relay_urls();

insert into relay_urls (relay_id, url) select relay_id, url from relays on conflict do nothing;

create table if not exists days (
    day integer primary key   -- joined by day: where day = any ($1)
);

alter table events rename to events_before;
alter table sightings rename to sightings_before;
alter table events_with_days rename to events;
alter table sightings_with_days rename to sightings;

create or replace view events_hex as
select encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, created_at, kind, tags, content, encode(sig, 'hex') as sig
from events;

create or replace view events_relays as
select e.id as event_id, r.url as relay_url, s.seen_at + 1577836800::bigint as seen_at
from sightings s
join events e on e.event_key = s.event_key and e.created_day = s.created_day
join relay_urls r on r.relay_id = s.relay_id;

create or replace function delete_sightings_of_relays() returns trigger
language plpgsql as $$
declare
    gone    constant integer[] := array(select relay_id from deleted);
    changed integer[];
begin
    changed := array(select distinct created_day from sightings where relay_id = any (gone) order by created_day);
    delete from sightings where relay_id = any (gone);
    delete from relay_urls where relay_id = any (gone);
    if changed <> '{}' then
        insert into journal (days) values (changed);
    end if;
    return null;
end $$;
comment on function delete_sightings_of_relays() is 'Trigger: sightings go with their relay, and its row of relay_urls.';

create or replace function delete_events(p_event_keys bigint[]) returns bigint
language plpgsql as $$
declare
    deleted bigint;
    changed integer[];
begin
    -- Transactions that insert sightings commit before this lock is granted; later ones wait, find the event missing and
    -- store it again. Without the lock, an event sighted meanwhile would be lost, though coverage says that it is held.
    lock table sightings in share row exclusive mode;
    changed := array(
        select created_day from events where event_key = any (p_event_keys)
        union
        select created_day from sightings where event_key = any (p_event_keys)
        order by 1
    );
    delete from sightings where event_key = any (p_event_keys);
    delete from events where event_key = any (p_event_keys);
    get diagnostics deleted = row_count;
    if changed <> '{}' then
        insert into journal (days) values (changed);
    end if;
    return deleted;
end $$;

create or replace function newest_sighting(p_relay_id integer, p_since bigint, p_until bigint) returns bigint
language plpgsql stable parallel safe as $$
declare
    first constant bigint := event_key_floor(p_since);
    last  constant bigint := event_key_floor(least(p_until, 549755813887)) + 16777215;
begin
    return (
        select event_key from sightings
        where relay_id = p_relay_id and (created_day, event_key) >= (event_key_day(first), first)
            and (created_day, event_key) <= (event_key_day(last), last)
        order by created_day desc, event_key desc limit 1
    );
end $$;
comment on function newest_sighting(integer, bigint, bigint) is 'Key of the newest event of these seconds, both ends inclusive, that was seen on a relay; null: none. One look-up.';

create or replace function newest_lasting_sighting(
    p_relay_id integer, p_since bigint, p_until bigint, p_expires_before bigint
) returns bigint
language plpgsql stable as $$
declare
    first   constant bigint := event_key_floor(p_since);
    last    constant bigint := event_key_floor(least(p_until, 549755813887)) + 16777215;
    sighted record;
begin
    for sighted in
        select event_key, created_day from sightings
        where relay_id = p_relay_id and (created_day, event_key) >= (event_key_day(first), first)
            and (created_day, event_key) <= (event_key_day(last), last)
        order by created_day desc, event_key desc limit 20
    loop
        if (
            select kind not between 20000 and 29999 and not jsonb_path_exists(
                tags, 'strict $[*] ? (@[0] == "expiration" && @[1].double() <= $soon)',
                jsonb_build_object('soon', p_expires_before), true
            )
            from events where event_key = sighted.event_key and created_day = sighted.created_day
        ) then
            return sighted.event_key;
        end if;
    end loop;
    return null;
end $$;
comment on function newest_lasting_sighting(integer, bigint, bigint, bigint) is 'The same of events that are neither ephemeral nor expire before that second (src/nostr/transient.ts), which the relay must show again; looked for among the newest 20.';

create or replace function oldest_sighting(p_relay_id integer, p_since bigint, p_until bigint) returns bigint
language plpgsql stable parallel safe as $$
declare
    first constant bigint := event_key_floor(p_since);
    last  constant bigint := event_key_floor(least(p_until, 549755813887)) + 16777215;
begin
    return (
        select event_key from sightings
        where relay_id = p_relay_id and (created_day, event_key) >= (event_key_day(first), first)
            and (created_day, event_key) <= (event_key_day(last), last)
        order by created_day, event_key limit 1
    );
end $$;
comment on function oldest_sighting(integer, bigint, bigint) is 'Key of the oldest event of these seconds, both ends inclusive, that was seen on a relay; null: none. One look-up.';

create or replace function ids_seen_on(p_relay_id integer, p_ids bytea[]) returns bytea[]
language plpgsql stable as $$
begin
    -- One look-up an id, by a subquery: as a join it scanned all sightings for each of 3,462 ids, over a minute.
    return array(
        select id from events e
        where id = any (p_ids) and (
            select s.relay_id from sightings s
            where s.relay_id = p_relay_id and s.event_key = e.event_key and s.created_day = e.created_day
        ) is not null
    );
end $$;
comment on function ids_seen_on(integer, bytea[]) is 'Those of these ids whose events were seen on a relay.';

create or replace function archived_kinds(p_limit integer) returns integer[]
language plpgsql stable as $$
declare
    kinds  integer[] := '{}';
    latest integer := -1;
begin
    while cardinality(kinds) < p_limit loop
        select min(kind) into latest from events
        where kind > case when latest between 19999 and 29999 then 29999 else latest end;
        exit when latest is null;
        if latest not between 20000 and 29999 then
            kinds := kinds || latest;
        end if;
    end loop;
    return kinds;
end $$;
comment on function archived_kinds(integer) is 'The kinds of archived events, ascending, without ephemeral ones. One look-up a kind.';

create or replace function sightings_in(p_relay_id integer, p_stretch int8range) returns bigint
language plpgsql stable parallel safe as $$
declare
    first constant bigint := event_key_floor(lower(p_stretch));
    last  constant bigint := event_key_floor(least(upper(p_stretch), 549755813888) - 1) + 16777215;
begin
    return (
        select count(*) from sightings
        where relay_id = p_relay_id and (created_day, event_key) >= (event_key_day(first), first)
            and (created_day, event_key) <= (event_key_day(last), last)
    );
end $$;

create or replace function oldest_known(p_relay_id integer, p_stretch int8range) returns bigint
language plpgsql stable parallel safe as $$
declare
    since constant bigint := greatest(lower(p_stretch), nostr_began());
begin
    return least(
        oldest_sighting(p_relay_id, since, 549755813887) >> 24,
        (select min(created_at) from quarantine where relay_id = p_relay_id and created_at >= since)
    );
end $$;

create or replace function events_left(p_relay_id integer, p_wanted int8range, p_covered int8multirange) returns bigint
language plpgsql stable parallel safe as $$
declare
    come    constant int8range := seconds_that_count(p_wanted);
    missing constant int8multirange := come::int8multirange - p_covered;
    gap     int8range;
    newer   bigint;
    newest  bigint;
    older   bigint;
    oldest  bigint;
    around  bigint;
    left_in numeric;
begin
    if isempty(missing) then
        return 0;
    end if;
    for gap in select unnest(missing) loop
        select count(*), max(event_key >> 24) into newer, newest
        from (
            select event_key from sightings
            where relay_id = p_relay_id
                and (created_day, event_key) >= (event_key_day(event_key_floor(upper(gap))), event_key_floor(upper(gap)))
                and (created_day, event_key) < (event_key_day(event_key_floor(upper(come))), event_key_floor(upper(come)))
            order by created_day, event_key limit 500
        ) above;
        select count(*), min(event_key >> 24) into older, oldest
        from (
            select event_key from sightings
            where relay_id = p_relay_id
                and (created_day, event_key) < (event_key_day(event_key_floor(lower(gap))), event_key_floor(lower(gap)))
                and (created_day, event_key) >= (event_key_day(event_key_floor(lower(come))), event_key_floor(lower(come)))
            order by created_day desc, event_key desc limit 500
        ) below;
        around := case newer when 500 then newest - upper(gap) + 1 else upper(come) - upper(gap) end
            + case older when 500 then lower(gap) - oldest else lower(gap) - lower(come) end;
        if around > 0 then
            left_in := coalesce(left_in, 0) + greatest(
                (upper(gap) - lower(gap))::numeric * (newer + older) / around - sightings_in(p_relay_id, gap), 0
            );
        end if;
    end loop;
    return round(left_in);
end $$;

create or replace function store_sighted(
    p_relay_id integer, p_seen_at integer, p_days integer[], p_is_distributed boolean, p_known bigint[],
    p_new bigint[], p_created_at bigint[], p_kinds integer[], p_ids text[], p_pubkeys text[], p_sigs text[], p_tags text[],
    p_tagvalues text[], p_contents text[],
    out new_events integer, out matched integer, out sightings integer
)
language plpgsql
-- Planned once a connection: planning takes a tenth of a batch. Without the second setting a plan that was made for small
-- tables would read large ones whole.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    keys     bigint[] := p_known;
    added    bigint[] := '{}';
    sighted  bigint[] := '{}';
    changed  integer[] := '{}';
    key      bigint;
    key_day  integer;
begin
    new_events := 0;
    matched := 0;
    sightings := 0;
    -- Against deletion, as a foreign key of the sightings would: a deleted relay has no sightings.
    perform from relays where relay_id = p_relay_id for key share;
    if not found then
        return;
    end if;
    if p_new <> '{}' then
        -- Writers that insert in the same order cannot deadlock (in random order 45 of 120 transactions did).
        for key in
            insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
            select t.event_key, t.created_at, t.kind, d.day, decode(t.id, 'hex'), decode(t.pubkey, 'hex'),
                   decode(t.sig, 'hex'), t.tags::jsonb, t.tagvalues::jsonb, t.content
            from unnest(p_new, p_created_at, p_kinds, p_ids, p_pubkeys, p_sigs, p_tags, p_tagvalues, p_contents)
                as t (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
            join days d on d.day = (t.created_at / 86400)::integer
            where d.day = any (p_days)
            order by t.id
            on conflict (created_at, id, created_day) do nothing
            returning event_key
        loop
            added := added || key;
        end loop;
        new_events := cardinality(added);
        keys := p_known || added;
        if new_events < cardinality(p_new) then
            -- Others were stored by another writer: mostly the last events of the previous page, with which this begins.
            keys := keys || array(
                select (
                    select e.event_key from events e
                    where (not p_is_distributed or e.created_day = any (p_days)) and e.created_day = t.day
                        and e.created_at = t.created_at and e.id between t.id and t.id
                )
                from (
                    select created_at, (created_at / 86400)::integer as day, decode(id, 'hex') as id
                    from unnest(p_new, p_created_at, p_ids) as u (event_key, created_at, id)
                    where event_key not in (select unnest(added))
                ) t
            );
        end if;
    end if;
    -- Sightings that are there are looked up: on conflict would write a WAL record of 45 bytes for each new one. When two
    -- batches of a relay insert the same sightings, the unique index stops one batch, which is tried again.
    for key in
        insert into sightings (event_key, relay_id, seen_at, created_day)
        select t.event_key, p_relay_id, p_seen_at, d.day
        from unnest(keys) as t (event_key)
        join days d on d.day = ((t.event_key >> 24) / 86400)::integer
        where d.day = any (p_days)
            and (
                t.event_key in (select unnest(added))
                or (
                    (
                        select s.relay_id from sightings s
                        where s.relay_id = p_relay_id and s.event_key = t.event_key and s.created_day = d.day
                            and (not p_is_distributed or s.created_day = any (p_days))
                    ) is null
                    and (
                        select e.created_day from events e
                        where e.event_key = t.event_key and e.created_day = d.day
                            and (not p_is_distributed or e.created_day = any (p_days))
                    ) is not null
                )
            )
        order by t.event_key desc
        returning event_key
    loop
        sighted := sighted || key;
        key_day := (key >> 24) / 86400;
        if key_day is distinct from changed[1] then
            changed := key_day || changed;
        end if;
    end loop;
    sightings := cardinality(sighted);
    matched := sightings;
    if sightings < cardinality(keys) then
        matched := sightings + (
            select count((
                select s.relay_id from sightings s
                where s.relay_id = p_relay_id and s.event_key = t.event_key and s.created_day = t.day
                    and (not p_is_distributed or s.created_day = any (p_days))
            ))
            from (
                select event_key, ((event_key >> 24) / 86400)::integer as day
                from unnest(keys) as u (event_key) where event_key not in (select unnest(sighted))
            ) t
        );
    end if;
    if sightings > 0 then
        insert into journal (relay_id, event_keys, days) values (p_relay_id, added, changed);
    end if;
end $$;
comment on function store_sighted is 'Stores new events of some days and the sightings of new and known events on a relay, with a row of the journal. p_seen_at counts as sightings.seen_at does, p_new and p_known are keys; days has all of p_days. p_is_distributed: the statements name the days for each table, so that one server answers them; it costs where there is one server only. matched: of how many the relay has a sighting now: fewer than given where known events or the relay were deleted. The caller has verified the events.';

create or replace function insert_event(
    p_id bytea, p_pubkey bytea, p_created_at bigint, p_kind integer, p_tags jsonb, p_content text, p_sig bytea,
    p_relay_url text, p_relay_network text, p_seen_at bigint default unix_now()
) returns boolean
language plpgsql as $$
declare
    new_day constant integer := p_created_at / 86400;
    new_key constant bigint := event_key_floor(p_created_at) + floor(random() * 16777216)::bigint;
    stored  record;
begin
    perform insert_relay(p_relay_url, p_relay_network, p_seen_at);
    insert into days (day) values (new_day) on conflict do nothing;
    select * into stored from store_sighted(
        (select relay_id from relays where url = p_relay_url), (p_seen_at - 1577836800)::integer, array[new_day], false, '{}',
        array[new_key], array[p_created_at], array[p_kind], array[encode(p_id, 'hex')], array[encode(p_pubkey, 'hex')],
        array[encode(p_sig, 'hex')], array[p_tags::text], array[event_tagvalues(p_tags)::text], array[p_content]
    );
    return stored.new_events > 0;
end $$;

create or replace function delete_orphan_events() returns bigint
language plpgsql as $$
begin
    lock table sightings in share row exclusive mode;   -- before it is looked into: see delete_events()
    return delete_events(array(
        select event_key from events e
        where not exists (select from sightings s where s.event_key = e.event_key and s.created_day = e.created_day)
    ));
end $$;

create or replace function count_orphan_sightings() returns bigint
language plpgsql stable as $$
begin
    return (
        select count(*) from sightings s
        where not exists (select from events e where e.event_key = s.event_key and e.created_day = s.created_day)
           or not exists (select from relay_urls r where r.relay_id = s.relay_id)
    );
end $$;

create or replace function newest_shared(p_relay_id integer, p_other_id integer, out compared bigint, out shared bigint)
language plpgsql stable as $$
declare
    newest constant bigint := least(
        newest_sighting(p_relay_id, 0, 549755813887), newest_sighting(p_other_id, 0, 549755813887)
    );
begin
    select count(*), count(*) filter (where relays = 2) into compared, shared
    from (
        select event_key, count(*) as relays
        from sightings
        where relay_id in (p_relay_id, p_other_id) and event_key = any (
            array(
                select event_key from sightings
                where relay_id = p_relay_id and (created_day, event_key) <= (event_key_day(newest), newest)
                order by created_day desc, event_key desc limit 100
            ) || array(
                select event_key from sightings
                where relay_id = p_other_id and (created_day, event_key) <= (event_key_day(newest), newest)
                order by created_day desc, event_key desc limit 100
            )
        )
        group by event_key
    ) sample;
end $$;
comment on function newest_shared(integer, integer) is 'Of the newest hundred events of each of two relays, from the newest that both could hold: how many there are, and how many both hold.';

create or replace view relay_aliases as
with documented as (
    select r.relay_id, r.url, s.nip11_id, d.pubkey, min(r.relay_id) over (partition by s.nip11_id) as first_id
    from relays r
    cross join lateral (
        select nip11_id from snapshots
        where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
    ) s
    join nip11 d on d.id = s.nip11_id and d.pubkey is not null
)
select
    f.url as relay_url, a.url as alias_url, a.pubkey,
    (select ip from relay_facts where relay_url = a.url) = (select ip from relay_facts where relay_url = f.url) as same_address,
    e.compared as events_compared, e.shared as events_shared
from documented a
join relays f on f.relay_id = a.first_id
cross join lateral newest_shared(a.relay_id, f.relay_id) e
where a.relay_id <> a.first_id and e.shared >= 0.9 * e.compared and e.compared > 0;

create or replace function relay_events_held(p_relay_id integer, out events bigint, out is_exact boolean)
language plpgsql stable as $$
begin
    -- The order makes it an index scan whatever share of the sightings is of this relay.
    select count(*) into events
    from (
        select from sightings where relay_id = p_relay_id order by created_day desc, event_key desc limit 100001
    ) first;
    is_exact := events <= 100000;
    if not is_exact then
        -- The share of this relay among all sightings; of one that is not among the most common, the average of the others.
        select greatest(events, estimated_rows('sightings') * coalesce(
            most_common_freqs[array_position(most_common_vals::text::integer[], p_relay_id)],
            (1 - (select sum(f) from unnest(most_common_freqs) f))
                / greatest(n_distinct - cardinality(most_common_freqs), 1)
        ))::bigint into events
        from (select) one
        left join pg_stats on schemaname = 'public' and tablename = 'sightings' and attname = 'relay_id';
    end if;
end $$;

create or replace function explain_relay_events(p_url text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relays r
    cross join lateral relay_events_held(r.relay_id) h
    cross join lateral (values
        ('held', h.events::text, case when h.is_exact then 'count' else 'estimate' end),
        ('oldest held', utc_time(oldest_sighting(r.relay_id, 0, 549755813887) >> 24), 'time'),
        ('newest held', utc_time(newest_sighting(r.relay_id, 0, 549755813887) >> 24), 'time'),
        ('in quarantine', (select count(*) from quarantine where relay_id = r.relay_id)::text, 'count')
    ) t (name, value, unit)
    where r.url = p_url and t.value is not null
    union all
    (
        select 'withheld: ' || w.reason, count(*)::text, 'count'
        from withheld w
        join relays r on r.relay_id = w.relay_id
        where r.url = p_url
        group by w.reason
        order by w.reason
    )
    union all
    (
        select 'refused: ' || o.reason, o.count::text, 'count'
        from relay_offences_named o where o.relay_url = p_url order by o.count desc, o.reason
    )
    union all
    select 'last refused', utc_time(max(o.last_at)), 'time'
    from relay_offences_named o where o.relay_url = p_url having count(*) > 0
$$;

create or replace function events_created(p_since bigint, p_until bigint, out events bigint, out is_exact boolean)
language plpgsql stable as $$
declare
    width  constant bigint := greatest((p_until - p_since) / 10000, 1);
    since  bigint;
    sample bigint := 0;
begin
    select count(*) into events
    from (
        select from events e where e.created_at >= p_since and e.created_at < p_until order by e.created_at desc limit 100001
    ) first;
    is_exact := events <= 100000;
    if not is_exact then
        -- About a hundredth of the time, in a hundred places.
        for place in 0..99 loop
            since := p_since + (p_until - p_since) * place / 100;
            sample := sample + (select count(*) from events e where e.created_at >= since and e.created_at < since + width);
        end loop;
        events := greatest(events, sample * (p_until - p_since) / (100 * width));
    end if;
end $$;

drop function new_event_key(bigint);
drop sequence event_key_sequence;
drop table events_before, sightings_before;
drop function copy_days_step(integer);
drop function refuse_while_copied();
drop table days_copy;

alter index events_with_days_pkey rename to events_pkey;
alter index new_events_pubkey_created_at_index rename to events_pubkey_created_at_index;
alter index new_events_kind_created_at_index rename to events_kind_created_at_index;
alter index new_events_created_at_id_index rename to events_created_at_id_index;
alter index new_events_id_index rename to events_id_index;
alter index new_events_tagvalues_index rename to events_tagvalues_index;
alter index new_sightings_relay_id_event_key_index rename to sightings_relay_id_event_key_index;
alter index new_sightings_event_key_index rename to sightings_event_key_index;

-- One look-up a day.
insert into days (day)
with recursive stored as (
    (select created_day as day from events order by created_at desc limit 1)
    union all
    select (select created_day from events where created_at < stored.day * 86400::bigint order by created_at desc limit 1)
    from stored where day is not null
)
select day from stored where day is not null;

comment on table relay_urls is 'The URLs of all relays, for joins with sightings. Triggers on relays keep it.';
comment on column relay_urls.relay_id is 'The relay (relays.relay_id).';
comment on column relay_urls.url is 'Its URL (relays.url).';
comment on table events is 'Every event archived, once, however many relays hold it. Only events whose id and signature were verified are here (NIP-01).';
comment on column events.event_key is 'Short key: created_at * 2^24 + a number that the writer draws, so that keys run along time and a range of keys is a range of time.';
comment on column events.created_at is 'When its author says it was made, Unix seconds. Authors may lie.';
comment on column events.kind is 'Kind of event (NIP-01).';
comment on column events.created_day is 'created_at / 86400, the UTC day: by it events and sightings can be distributed over several servers.';
comment on column events.id is 'SHA-256 of the NIP-01 serialisation, 32 bytes. encode(id, ''hex'') is the usual form.';
comment on column events.pubkey is 'Public key of the author, 32 bytes.';
comment on column events.sig is 'BIP-340 signature over the id, 64 bytes.';
comment on column events.tags is 'Tags: an array of arrays of strings, exactly as signed.';
comment on column events.tagvalues is 'Indexable tags, an array of ''letter:value'': those with a one-letter name and a value of at most 255 bytes (see event_tagvalues).';
comment on column events.content is 'Content, exactly as signed.';
comment on table sightings is 'Which event was seen on which relay, in its stored form. Query events_relays instead: it gives id, URL and Unix time.';
comment on column sightings.event_key is 'The event (events.event_key). No foreign key: it would halve the rate of inserting; delete_events() deletes along, count_orphan_sightings() checks.';
comment on column sightings.relay_id is 'The relay (relays.relay_id).';
comment on column sightings.seen_at is 'When it was first seen there, seconds since 2020-01-01 UTC, so that four bytes last until 2088.';
comment on column sightings.created_day is 'The UTC day of created_at of the event (events.created_day).';
comment on table days is 'The days for which events were stored (events.created_day). Writers join it: where events are distributed over several servers, it lets each insert its own rows.';
comment on column days.day is 'Days since 1970-01-01 UTC.';
