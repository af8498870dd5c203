-- Events and sightings get created_day. They are copied to new tables in steps, copy_days_step(), each of which can be a
-- transaction of its own, since an archive may have hundreds of GB; 0016_days puts the copies in their place. Until then the
-- old tables can be read and not be written to.

-- Views of others would keep the old tables: better told now than after hours of copying.
do $$
declare
    views text := (
        select string_agg(distinct r.ev_class::regclass::text, ', ')
        from pg_depend d
        join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        where d.refclassid = 'pg_class'::regclass and d.refobjid in ('events'::regclass, 'sightings'::regclass)
            and r.ev_class not in ('events_relays'::regclass, 'events_hex'::regclass, 'relay_aliases'::regclass)
    );
begin
    if views is not null then
        raise exception 'these views of your own read events or sightings: %', views
            using hint = 'Drop them before the archive is migrated, and make them again after it.';
    end if;
end $$;

create table events_with_days (
    event_key   bigint not null,
    created_at  bigint not null,
    kind        integer not null,
    created_day integer not null,
    id          bytea not null,
    pubkey      bytea not null,
    sig         bytea not null,
    tags        jsonb not null,
    tagvalues   jsonb not null,
    content     text not null,
    constraint events_created_day_check check (created_day = created_at / 86400),
    constraint events_id_length check (octet_length(id) = 32),
    constraint events_pubkey_length check (octet_length(pubkey) = 32),
    constraint events_sig_length check (octet_length(sig) = 64),
    constraint events_created_at_range check (created_at >= 0 and created_at < 549755813888),
    constraint events_kind_range check (kind between 0 and 65535)
);

create table sightings_with_days (
    event_key   bigint not null,
    relay_id    integer not null,
    seen_at     integer not null,
    created_day integer not null
);

do $$
declare
    given record;
begin
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
        alter table events_with_days alter column content set compression lz4, alter column tags set compression lz4;
    end if;
    for given in
        select c.relname, a.privilege_type, case when a.grantee = 0 then 'public' else a.grantee::regrole::text end as grantee
        from pg_class c, aclexplode(c.relacl) a
        where c.oid in ('events'::regclass, 'sightings'::regclass) and a.grantee <> c.relowner
    loop
        execute format('grant %s on %I to %s', given.privilege_type, given.relname || '_with_days', given.grantee);
    end loop;
end $$;

create function refuse_while_copied() returns trigger
language plpgsql as $$
begin
    raise exception 'events and sightings are being migrated: run the initializer of this version to its end'
        using errcode = 'read_only_sql_transaction';   -- services of an earlier version that still run try again
end $$;

create trigger refuse_while_copied before insert or update or delete or truncate on events
for each statement execute function refuse_while_copied();
create trigger refuse_while_copied before insert or update or delete or truncate on sightings
for each statement execute function refuse_while_copied();

create table days_copy (
    step       integer primary key,
    relation   text not null,      -- what is copied
    command    text,               -- null: copying of rows
    weight     real not null,      -- seconds for each million rows, about, to say how long it will take
    next_block bigint not null default 0,
    is_done    boolean not null default false
);
insert into days_copy (step, relation, weight, command)
values
    (1, 'events', 40, null),
    (2, 'events', 7, 'alter table events_with_days add constraint events_with_days_pkey primary key (event_key, created_day)'),
    (3, 'events', 8, 'create index new_events_pubkey_created_at_index on events_with_days (pubkey, created_at)'),
    (4, 'events', 5, 'create index new_events_kind_created_at_index on events_with_days (kind, created_at)'),
    (5, 'events', 5, 'create unique index new_events_created_at_id_index on events_with_days (created_at desc, id, created_day)'),
    (6, 'events', 20, 'create index new_events_id_index on events_with_days using hash (id)'),
    (7, 'events', 60, 'create index new_events_tagvalues_index on events_with_days using gin (tagvalues jsonb_path_ops)'),
    (8, 'events', 5, 'analyze events_with_days'),
    (9, 'sightings', 4.5, null),
    (10, 'sightings', 4.5, 'create unique index new_sightings_relay_id_event_key_index on sightings_with_days (relay_id, created_day desc, event_key desc)'),
    (11, 'sightings', 1.5, 'create index new_sightings_event_key_index on sightings_with_days (event_key desc)'),
    (12, 'sightings', 1, 'analyze sightings_with_days');

-- One step: some blocks of a table, which is read in the order in which it lies on the disk, or an index. False: none is left.
create function copy_days_step(p_blocks integer) returns boolean
language plpgsql as $$
declare
    next   days_copy%rowtype;
    blocks bigint;
begin
    select * into next from days_copy where not is_done order by step limit 1 for update;
    if not found then
        return false;
    end if;
    if next.command is not null then
        execute next.command;
        update days_copy set is_done = true where step = next.step;
        return true;
    end if;
    if next.relation = 'events' then
        insert into events_with_days
            (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
        select event_key, created_at, kind, created_at / 86400, id, pubkey, sig, tags, tagvalues, content
        from events
        where ctid >= format('(%s,0)', next.next_block)::tid and ctid < format('(%s,0)', next.next_block + p_blocks)::tid;
    else
        insert into sightings_with_days (event_key, relay_id, seen_at, created_day)
        select event_key, relay_id, seen_at, event_key_day(event_key)
        from sightings
        where ctid >= format('(%s,0)', next.next_block)::tid and ctid < format('(%s,0)', next.next_block + p_blocks)::tid;
    end if;
    blocks := pg_relation_size(next.relation::regclass) / current_setting('block_size')::integer;
    update days_copy set next_block = next.next_block + p_blocks, is_done = next.next_block + p_blocks >= blocks
    where step = next.step;
    return true;
end $$;
