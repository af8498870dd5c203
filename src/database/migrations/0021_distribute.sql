-- Distribution of events and sightings over the servers of Citus, where it is installed (docs/citus.md).

create or replace function archive_shards() returns integer
language plpgsql stable as $$
begin
    if to_regclass('pg_catalog.pg_dist_shard') is null then
        return 1;
    end if;
    return (select greatest(count(*), 1) from pg_dist_shard where logicalrelid = 'events'::regclass);
end $$;
comment on function archive_shards() is 'Into how many shards events and sightings are divided: 1 on one server.';

create or replace function distribute_archive(p_shards integer default null) returns integer
language plpgsql as $$
declare
    workers integer;
    held    regclass;
    called  regprocedure;
begin
    if not exists (select from pg_extension where extname = 'citus') then
        return 1;
    end if;
    -- Over one connection a worker, because the same transaction changes functions too.
    perform set_config('citus.multi_shard_modify_mode', 'sequential', true);
    select count(*) into workers
    from pg_dist_node where noderole = 'primary' and isactive and shouldhaveshards;
    if not exists (select from pg_dist_partition where logicalrelid = 'events'::regclass) then
        if workers = 0 then
            return 1;
        end if;
        -- Few shards: a batch is a statement for each shard that it has a day of.
        perform set_config('citus.shard_count', coalesce(p_shards, 4 * workers)::text, true);
        perform create_distributed_table('events', 'created_day');
        perform create_distributed_table('sightings', 'created_day', colocate_with := 'events');
        perform create_distributed_table('days', 'day', colocate_with := 'events');
        perform create_reference_table('relay_urls');
        -- Functions that statements call where the rows are. Those that are made where Citus is get there by themselves.
        for called in
            select oid::regprocedure from pg_proc
            where pronamespace = 'public'::regnamespace and proname in (
                'event_key_floor', 'event_key_day', 'event_tagvalues', 'event_d_key', 'kind_category', 'hex_key', 'is_distributed',
                'estimated_rows'
            )
        loop
            perform create_distributed_function(called);
        end loop;
        -- The rows were copied to the shards.
        foreach held in array array['events', 'sightings', 'days', 'relay_urls']::regclass[] loop
            perform truncate_local_data_after_distributing_table(held);
        end loop;
    end if;
    -- Shards are moved by logical replication, which needs a key for each row. While a dump is restored there is none yet.
    if to_regclass('sightings_relay_id_event_key_index') is not null then
        alter table sightings replica identity using index sightings_relay_id_event_key_index;
    end if;
    -- The shards of a statement are chosen by the days in it, so it is planned with their values.
    alter function store_sighted set plan_cache_mode = force_custom_plan;
    -- Joins of distributed and local tables are refused: Citus answers some of them wrongly, without an error.
    execute format('alter database %I set citus.local_table_join_policy = never', current_database());
    return archive_shards();
end $$;
comment on function distribute_archive(integer) is 'Distributes events, sightings and days over the workers of Citus, and relay_urls to each of them, once; p_shards: four a worker unless given. Does nothing without Citus or without workers. After store_sighted() was made anew it is to be called again. Returns the number of shards. Copies the rows that are there, and nothing can be written meanwhile.';

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
        (select relay_id from relays where url = p_relay_url), (p_seen_at - 1577836800)::integer, array[new_day],
        archive_shards() > 1, '{}',
        array[new_key], array[p_created_at], array[p_kind], array[encode(p_id, 'hex')], array[encode(p_pubkey, 'hex')],
        array[encode(p_sig, 'hex')], array[p_tags::text], array[event_tagvalues(p_tags)::text], array[p_content]
    );
    return stored.new_events > 0;
end $$;
comment on function insert_event is 'Adds one event and its sighting on a relay. The caller has verified it. True when the event was new.';

create or replace function is_distributed(p_table regclass) returns boolean
language plpgsql stable as $$
begin
    if to_regclass('pg_catalog.pg_dist_partition') is null then
        return false;
    end if;
    return exists (select from pg_dist_partition where logicalrelid = p_table);
end $$;
comment on function is_distributed(regclass) is 'Whether the rows of a table are on several servers (Citus).';

create or replace function shard_bytes(p_table regclass, p_size text) returns bigint[]
language plpgsql stable as $$
begin
    if not is_distributed(p_table) then
        return array[case p_size when 'rows' then pg_relation_size(p_table) else pg_total_relation_size(p_table) end];
    end if;
    return (
        select array_agg(result::bigint)
        from run_command_on_shards(p_table, format(
            'select %s(%%L)', case p_size when 'rows' then 'pg_relation_size' else 'pg_total_relation_size' end
        ))
    );
end $$;
comment on function shard_bytes(regclass, text) is 'Bytes of each shard of a table, of the table itself where it is on one server. p_size: rows, or all (with its indexes).';

create or replace function estimated_rows(p_table regclass) returns bigint
language plpgsql stable as $$
begin
    if is_distributed(p_table) then
        return (
            select sum(result::bigint) from run_command_on_shards(p_table, 'select public.estimated_rows(%L)')
        );
    end if;
    return (
        select case
            when c.relpages > 0 and c.reltuples > 0
                then c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::integer)
            else pg_stat_get_live_tuples(c.oid)
        end::bigint
        from pg_class c where c.oid = p_table
    );
end $$;
comment on function estimated_rows(regclass) is 'About how many rows a table has, without reading it: its density at the latest vacuum or analyze times its size now, as the planner estimates.';

create or replace function rows_of(p_table regclass, out amount bigint, out unit text, out age bigint)
language plpgsql stable as $$
declare
    since interval;
begin
    if (select sum(bytes) from unnest(shard_bytes(p_table, 'rows')) bytes) < 67108864 then
        execute format('select count(*) from %s', p_table) into amount;
        unit := 'count';
        age := 0;
        return;
    end if;
    amount := estimated_rows(p_table);
    unit := 'estimate';
    select to_timestamp(unix_now()) - greatest(last_vacuum, last_autovacuum, last_analyze, last_autoanalyze)
    into since from pg_stat_all_tables where relid = p_table;
    age := extract(day from since) * 86400 + extract(hour from since) * 3600 + extract(minute from since) * 60
        + ceil(extract(second from since));
end $$;
comment on function rows_of(regclass) is 'How many rows a table has: counted up to 64 MB, estimated above, and then how old the statistics are that it rests on, in seconds.';

create or replace function relay_events_held(p_relay_id integer, out events bigint, out is_exact boolean)
language plpgsql stable as $$
begin
    -- The order makes it an index scan whatever share of the sightings is of this relay.
    select count(*) into events
    from (
        select 1 from sightings where relay_id = p_relay_id order by created_day desc, event_key desc limit 100001
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
comment on function relay_events_held(integer) is 'How many events were seen on a relay: counted up to 100,000, estimated by the planner''s statistics above.';

create or replace function events_created(p_since bigint, p_until bigint, out events bigint, out is_exact boolean)
language plpgsql stable as $$
declare
    width  constant bigint := greatest((p_until - p_since) / 10000, 1);
    since  bigint;
    sample bigint := 0;
begin
    select count(*) into events
    from (
        select 1 from events e where e.created_at >= p_since and e.created_at < p_until order by e.created_at desc limit 100001
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
comment on function events_created(bigint, bigint) is 'How many archived events were created from the one second to before the other: counted up to 100,000, above that from a sample of a hundredth of the time.';

create or replace function describe_archive() returns table (section text, name text, value text, unit text, age bigint)
language sql stable set jit = off as $$   -- to compile it takes longer than to run it
with sampled as (
    select coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share
    from (select * from visits where not is_part order by md5(relay_id || ' ' || filter_id) limit 200) v
    cross join lateral (
        select coalesce(range_agg(covered), '{}') as covered
        from coverage where relay_id = v.relay_id and filter_id = v.filter_id
    ) c
)
select section, name, value, unit, age
from (
    select 1 as part, 1 as place, 'version' as section, 'schema' as name, max(name collate "C") as value, 'text' as unit, 0::bigint as age
    from schema_migrations
    union all
    select 1, 2, 'version', 'PostgreSQL', current_setting('server_version'), 'text', 0
    union all
    select 2, 1, 'relays', 'known', count(*)::text, 'count', 0 from relays
    union all
    select 2, 2, 'relays', 'readable', count(*)::text, 'count', 0 from readable_relays
    union all
    select 2, 3, 'relays', s.network || ' ' || s.state, count(*)::text, 'count', 0
    from (
        select r.network, case
            when c.relay_id is null then 'never checked'
            when c.known_until < unix_now() then 'unknown'
            else c.state
        end as state
        from relays r
        left join relay_schedule c on c.relay_id = r.relay_id
    ) s
    group by s.network, s.state
    union all
    select 2, 4, 'relays', 'paused', count(*)::text, 'count', 0
    from relay_manners where not_before - unix_now() between 1 and 2595600
    union all
    select 3, t.place, 'archive', t.name, n.amount::text, n.unit, n.age
    from (values (1, 'events'), (2, 'sightings'), (3, 'withheld'), (4, 'quarantine')) t (place, name)
    cross join lateral rows_of(('public.' || t.name)::regclass) n
    union all
    select 3, 5, 'archive', 'events created in the last day', events::text, case when is_exact then 'count' else 'estimate' end, 0
    from events_created(unix_now() - 86400, unix_now())
    union all
    select 3, t.place, 'archive', t.name, t.size::text, 'bytes', 0
    from (values
        (6, 'size of the database', pg_database_size(current_database())),
        (7, 'size of events', (select sum(bytes) from unnest(shard_bytes('public.events', 'all')) bytes)),
        (8, 'size of sightings', (select sum(bytes) from unnest(shard_bytes('public.sightings', 'all')) bytes))
    ) t (place, name, size)
    union all
    select 4, t.place, 'coverage', t.name, t.value, t.unit, 0
    from (
        select count(*) as visited, count(*) filter (where caught_up) as caught_up,
               max(ended_at) as latest
        from visits where not is_part
    ) v
    cross join (select round(avg(share), 6) as share, count(*) as relays from sampled) s
    cross join lateral (values
        (1, 'mean share of a relay that is proven', s.share::text, 'share'),
        (2, 'relays in this mean, at most 200', s.relays::text, 'count'),
        (3, 'relays visited', v.visited::text, 'count'),
        (4, 'relays read to their end', v.caught_up::text, 'count'),
        (5, 'latest visit ended', utc_time(v.latest), 'time')
    ) t (place, name, value, unit)
    where t.value is not null
    union all
    select 5, t.place, 'working', t.name, t.value::text, 'count', 0
    from (
        select count(distinct holder) as processes, count(*) filter (where work = 'visit') as visits,
               count(*) filter (where work = 'check') as checks, count(*) filter (where work = 'try') as tries
        from claims where is_lease_valid(until)
    ) c
    cross join lateral (values
        (1, 'processes that hold claims', c.processes),
        (2, 'relays visited or followed live', c.visits),
        (3, 'relays being checked', c.checks),
        (4, 'candidates being tried', c.tries)
    ) t (place, name, value)
    union all
    select 6, t.place, 'waiting', t.name, t.value, t.unit, 0
    from (
        select count(*) filter (where c.relay_id is null or c.due_at <= unix_now() or c.seen_again_at is not null) as due,
               min(c.due_at) filter (where c.due_at > unix_now() and c.seen_again_at is null) as next_at,
               max(c.checked_at) as latest
        from relays r
        left join relay_schedule c on c.relay_id = r.relay_id
    ) k
    cross join (
        select count(*) as waiting, count(*) filter (where next_try_at <= unix_now()) as due, min(next_try_at) as next_at
        from relay_candidates
    ) n
    cross join (
        select count(*) as never
        from readable_relays l
        join relays r on r.url = l.relay_url
        where not exists (select from visits where relay_id = r.relay_id)
    ) u
    cross join (
        select count(j.batch_id) as batches
        from journal_readers r
        left join journal j on (j.xid, j.batch_id) > (r.xid, r.batch_id)
        where r.name = 'finder'
    ) q
    cross join lateral (values
        (1, 'relays due for a check', k.due::text, 'count'),
        (2, 'next check', case when k.due > 0 then 'due now' else utc_time(k.next_at) end, case when k.due > 0 then 'text' else 'time' end),
        (3, 'next check of the others', case when k.due > 0 then utc_time(k.next_at) end, 'time'),
        (4, 'latest check', utc_time(k.latest), 'time'),
        (5, 'readable relays never visited', u.never::text, 'count'),
        (6, 'batches of events the finder has not read', q.batches::text, 'count'),
        (7, 'candidates of the finder', n.waiting::text, 'count'),
        (8, 'candidates due for a try', n.due::text, 'count'),
        (9, 'next try of a candidate', case when n.due > 0 then 'due now' else utc_time(n.next_at) end, case when n.due > 0 then 'text' else 'time' end)
    ) t (place, name, value, unit)
    where t.value is not null
) s
order by part, place, name
$$;
comment on function describe_archive() is 'What archive_status shows.';

do $$ begin perform distribute_archive(); end $$;
