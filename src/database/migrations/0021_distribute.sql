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
        -- The rows were copied to the shards.
        foreach held in array array['events', 'sightings', 'days', 'relay_urls']::regclass[] loop
            perform truncate_local_data_after_distributing_table(held);
        end loop;
    end if;
    -- Shards are moved by logical replication, which needs a key for each row.
    alter table sightings replica identity using index sightings_relay_id_event_key_index;
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

do $$ begin perform distribute_archive(); end $$;
