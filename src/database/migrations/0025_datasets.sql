-- Imports of datasets: what came from which file, and what of it no relay has shown.

create table if not exists imports (
    import_id   bigint generated always as identity primary key,
    source      text not null,
    sha256      bytea,
    records     bigint not null default 0,
    events      bigint not null default 0,
    known       bigint not null default 0,
    quarantined bigint not null default 0,
    sightings   bigint not null default 0,
    refused     jsonb not null default '{}',
    started_at  bigint not null default unix_now(),
    ended_at    bigint,
    constraint imports_sha256_length check (octet_length(sha256) = 32),
    constraint imports_sha256_key unique (sha256)   -- whether a file was imported, and how far
);
comment on table imports is 'Files from which events were imported (npm run import). An import proves nothing of a relay: it writes no coverage.';
comment on column imports.import_id is 'In the order in which they began.';
comment on column imports.source is 'The file as it was named, or - for standard input.';
comment on column imports.sha256 is 'SHA-256 of the file, by which an import that was broken off is found again; null for standard input.';
comment on column imports.records is 'How many lines or rows of it are done: where an import that was broken off goes on.';
comment on column imports.events is 'How many of its events were new.';
comment on column imports.known is 'How many were archived already.';
comment on column imports.quarantined is 'How many text and jsonb cannot hold exactly (imported_quarantine).';
comment on column imports.sightings is 'How many observations were taken from it (imported_sightings).';
comment on column imports.refused is 'What was refused, by reason: how many lines or rows.';
comment on column imports.started_at is 'Unix seconds.';
comment on column imports.ended_at is 'When the end of the file was reached, Unix seconds; null before.';

create table if not exists imported_quarantine (
    id         bytea not null,
    import_id  bigint not null references imports on delete cascade,
    created_at bigint not null,
    reason     text not null,
    raw        bytea not null,
    constraint imported_quarantine_pkey primary key (id),
    constraint imported_quarantine_id_length check (octet_length(id) = 32)
);
comment on table imported_quarantine is 'Imported events that text and jsonb cannot hold exactly, as quarantine has those of relays. At most 10,000 events and 64 MB for each import.';
comment on column imported_quarantine.id is 'Id of the event, 32 bytes.';
comment on column imported_quarantine.import_id is 'The import that brought it.';
comment on column imported_quarantine.created_at is 'created_at of the event, Unix seconds.';
comment on column imported_quarantine.reason is 'nul or lone_surrogate: what PostgreSQL cannot hold.';
comment on column imported_quarantine.raw is 'The event as JSON in UTF-8 (quarantine.raw).';

create table if not exists imported_sightings (
    created_day integer not null,
    id          bytea not null,
    relay_id    integer not null references relays on delete cascade,
    seen_at     bigint not null,
    import_id   bigint not null references imports on delete cascade,
    constraint imported_sightings_pkey primary key (created_day, id, relay_id),   -- the observations of a day
    constraint imported_sightings_id_length check (octet_length(id) = 32)
);
comment on table imported_sightings is 'Observations of another archive that were imported with --trust-observations. They are apart from sightings, so that no figure and no proof of completeness rests on them.';
comment on column imported_sightings.created_day is 'The UTC day of created_at of the event (events.created_day).';
comment on column imported_sightings.id is 'Id of the event, 32 bytes.';
comment on column imported_sightings.relay_id is 'The relay on which the other archive saw it.';
comment on column imported_sightings.seen_at is 'When it says that it saw it there first, Unix seconds.';
comment on column imported_sightings.import_id is 'The import that brought it.';

create or replace function store_imported(
    p_days integer[], p_is_distributed boolean,
    p_new bigint[], p_created_at bigint[], p_kinds integer[], p_ids text[], p_pubkeys text[], p_sigs text[], p_tags text[],
    p_tagvalues text[], p_contents text[]
) returns integer
language plpgsql
-- Where events are distributed, the shards of a statement are chosen by the days in it, so it is planned with their values.
set plan_cache_mode = force_custom_plan
as $$
declare
    added   bigint[] := '{}';
    changed integer[] := '{}';
    key     bigint;
begin
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
    if added <> '{}' then
        changed := array(select distinct event_key_day(k) from unnest(added) k order by 1);
        insert into journal (event_keys, days) values (added, changed);
    end if;
    return cardinality(added);
end $$;
comment on function store_imported is 'Stores new events of some days that no relay has shown, with a row of the journal. The parameters are those of store_sighted. The caller has verified the events. Returns how many were new.';

comment on column journal.relay_id is 'The relay of the sightings; null where events or a relay were deleted, or events were imported.';
comment on function delete_orphan_events() is 'Deletes events that no relay is known to hold, those that were imported among them. Returns how many.';
