-- Bigbrotr: the archive. PostgreSQL 15 to 17.
-- Idempotent: running it again on an archive of this version changes nothing. Runs in /docker-entrypoint-initdb.d and through pg.
-- Times are Unix seconds (bigint), as everywhere in Nostr. Ids, keys and signatures are bytea; \d+ explains each relation.
--
-- Contents, in this order. A section has its tables first, then their indexes, functions and views; a view with columns
-- of other sections stands in the last of them.
--   Version                                  which migrations this file contains
--   Time                                     unix_now()
--   Relays                                   every relay by its URL
--   Events and sightings                     the archive itself, and which relay holds which event
--   The journal                              what each transaction changed, for readers that follow the archive
--   Health of relays                         snapshots of NIP-11 and NIP-66, results of checks, relay_facts, readable_relays
--   When relays are checked                  the schedule of checks, states of relays as intervals, relay_uptime
--   Coverage                                 filters, windows that are proven, holes, visits, policies, offences, withheld
--                                            events; relay_coverage, coverage_gaps, unread_relays
--   Functions                                the functions that write, for programs of others too; deletion of orphans
--   The finder                               relay URLs that events and lists name, and what became of them
--   Claims                                   which process works on which relay
--   Figures                                  counts by day and totals that follow them, current events, edges, zaps
--   Runs of commands                         backups and verifications
--   Imports                                  files from which events were imported
--   What an operator asks                    explain_relay(), archive_status
--   Several servers                          distribution of events and sightings by Citus, where it is installed
--   Last                                     records the migrations, so that an interrupted run counts as none

set client_min_messages = warning;
-- Citus warns of each view that it does not copy to its workers.
do $$
begin
    if exists (select from pg_extension where extname = 'citus') then
        perform set_config('client_min_messages', 'error', false);
    end if;
end $$;

-- ---------------------------------------------------------------------------------------------------------------
-- Version: this file makes new archives; src/database/migrations brings older ones to the same schema
-- ---------------------------------------------------------------------------------------------------------------

do $$
begin
    if to_regclass('events') is not null and to_regclass('schema_migrations') is null then
        raise exception 'This archive was made by an older version of Bigbrotr, and init.sql makes new ones only.'
            using hint = 'Start the previous version once, which migrates it (docs/containers.md, Upgrades).';
    end if;
end $$;

create table if not exists schema_migrations (
    id     integer generated always as identity primary key,
    name   text not null,
    run_on timestamptz not null default now(),
    constraint schema_migrations_name_key unique (name)
);
comment on table schema_migrations is 'The migrations (src/database/migrations) that made this archive or were applied to it. Kept by node-pg-migrate.';
comment on column schema_migrations.id is 'Order in which they were applied.';
comment on column schema_migrations.name is 'Name of the file, without its ending.';
comment on column schema_migrations.run_on is 'When it was applied.';

do $$
begin
    if (select max(name collate "C") from schema_migrations) <> '0025_datasets' then
        raise exception 'This archive has had other migrations than this init.sql knows.'
            using hint = 'Run the initializer of the newer of the two versions.';
    end if;
end $$;

-- ---------------------------------------------------------------------------------------------------------------
-- Time
-- ---------------------------------------------------------------------------------------------------------------

create or replace function unix_now() returns bigint
language sql stable parallel safe
return floor(extract(epoch from now()))::bigint;
comment on function unix_now() is 'The current time in whole Unix seconds, rounded down as Node''s clock is: a cast alone rounds, half of the time to a second that has not come. All SQL of the archive uses it.';

create or replace function nostr_began() returns bigint
language sql immutable parallel safe
return 1604707200;
comment on function nostr_began() is '2020-11-07 00:00 UTC, the day of the first commit of Nostr, Unix seconds. Events dated before it exist, but say nothing of how long a relay has been there.';

-- ---------------------------------------------------------------------------------------------------------------
-- Relays
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists relays (
    relay_id    integer generated always as identity primary key,
    url         text not null,
    network     text not null,
    inserted_at bigint not null default unix_now(),
    priority    boolean not null default false,
    constraint relays_url_key unique (url),                                   -- a relay by its URL
    constraint relays_url_length check (octet_length(url) between 1 and 255),   -- longer ones are refused by src/network/url.ts
    constraint relays_network_check check (network in ('clearnet', 'tor', 'i2p', 'loki'))
);

comment on table relays is 'Every relay known, whether it answers or not.';
comment on column relays.relay_id is 'Short key of the relay, used by sightings and coverage.';
comment on column relays.url is 'Normalised WebSocket URL (NIP-01, RFC 3986): one spelling for one relay.';
comment on column relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column relays.inserted_at is 'When the relay was added, Unix seconds.';
comment on column relays.priority is 'Whether the priority synchronizer visits the relay instead of the synchronizer: it is listed in priority_relays.txt.';

-- Where events and sightings are distributed over several servers, each of them has this table, and not relays.
create table if not exists relay_urls (
    relay_id integer primary key,   -- the URL of a relay, for queries of sightings
    url      text not null,
    constraint relay_urls_url_key unique (url)   -- the sightings of a relay: where url = $1
);
comment on table relay_urls is 'The URLs of all relays, for joins with sightings. Triggers on relays keep it.';
comment on column relay_urls.relay_id is 'The relay (relays.relay_id).';
comment on column relay_urls.url is 'Its URL (relays.url).';

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

-- ---------------------------------------------------------------------------------------------------------------
-- Events and sightings
-- ---------------------------------------------------------------------------------------------------------------

create or replace function event_key_floor(p_created_at bigint) returns bigint
language sql immutable parallel safe
return p_created_at << 24;
comment on function event_key_floor(bigint) is
    'The smallest event_key of an event created at that second: event_key >= event_key_floor(a) and event_key < event_key_floor(b) is a <= created_at < b.';

create table if not exists events (
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
    -- Joins of sightings; the events of a stretch of time lie together. created_day is in every unique index, because it
    -- says on which server an event is, where there are several.
    constraint events_pkey primary key (event_key, created_day),
    constraint events_created_day_check check (created_day = created_at / 86400),
    constraint events_id_length check (octet_length(id) = 32),
    constraint events_pubkey_length check (octet_length(pubkey) = 32),
    constraint events_sig_length check (octet_length(sig) = 64),
    constraint events_created_at_range check (created_at >= 0 and created_at < 549755813888),
    constraint events_kind_range check (kind between 0 and 65535)
);

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

-- The newest events of one author: where pubkey = $1 order by created_at desc
create index if not exists events_pubkey_created_at_index on events (pubkey, created_at);
-- The events of one kind in a stretch of time: where kind = $1 and created_at between $2 and $3
create index if not exists events_kind_created_at_index on events (kind, created_at);
-- Stores each event once, and answers which events of a page are known: where created_at = $1 and id between $2 and $2 and
-- created_day = $3.
-- Time and id together identify what the id alone does, and keep the events of a page side by side in the index. (For
-- id = $2 the planner takes the hash index below, which has no such order.)
-- Also the events of a stretch of time, and the newest events: where created_at >= $1 order by created_at
create unique index if not exists events_created_at_id_index on events (created_at desc, id, created_day);
-- An event by its id: where id = $1. A hash index stores four bytes an event, a third of the size of a B-tree of ids.
create index if not exists events_id_index on events using hash (id);
-- Events that refer to something: where tagvalues @> '["e:5c83…"]'. jsonb_path_ops stores four bytes of a hash for each
-- value, a quarter of the size of the values.
create index if not exists events_tagvalues_index on events using gin (tagvalues jsonb_path_ops);

create table if not exists sightings (
    event_key   bigint not null,
    relay_id    integer not null,
    seen_at     integer not null,
    created_day integer not null
);

comment on table sightings is 'Which event was seen on which relay, in its stored form. Query events_relays instead: it gives id, URL and Unix time.';
comment on column sightings.event_key is 'The event (events.event_key). No foreign key: it would halve the rate of inserting; delete_events() deletes along, count_orphan_sightings() checks.';
comment on column sightings.relay_id is 'The relay (relays.relay_id).';
comment on column sightings.seen_at is 'When it was first seen there, seconds since 2020-01-01 UTC, so that four bytes last until 2088.';
comment on column sightings.created_day is 'The UTC day of created_at of the event (events.created_day).';

-- Descending, because history is read newest first: index pages are filled in order, where ascending ones would be split.
-- The events of a relay, in time order, because days and keys run along time: where relay_id = $1 and
-- (created_day, event_key) >= (event_key_day($2), $2) order by created_day, event_key
create unique index if not exists sightings_relay_id_event_key_index on sightings (relay_id, created_day desc, event_key desc);
-- The relays that hold an event: where event_key = $1. Deduplication stores the key once, however many relays hold the event.
create index if not exists sightings_event_key_index on sightings (event_key desc);

create table if not exists days (
    day integer primary key   -- joined by day: where day = any ($1)
);
comment on table days is 'The days for which events were stored (events.created_day). Writers join it: where events are distributed over several servers, it lets each insert its own rows.';
comment on column days.day is 'Days since 1970-01-01 UTC.';

create or replace view events_relays as
select e.id as event_id, r.url as relay_url, s.seen_at + 1577836800::bigint as seen_at
from sightings s
join events e on e.event_key = s.event_key and e.created_day = s.created_day
join relay_urls r on r.relay_id = s.relay_id;
comment on view events_relays is 'Which event (id) was seen on which relay (URL), and when first, Unix seconds. By either side it is answered through an index.';

create or replace view events_hex as
select encode(id, 'hex') as id, encode(pubkey, 'hex') as pubkey, created_at, kind, tags, content, encode(sig, 'hex') as sig
from events;
comment on view events_hex is 'Events with id, key and signature as hex, for reading and exporting. Search in events: its bytea columns are the indexed ones.';

create table if not exists quarantine (
    id         bytea not null,
    relay_id   integer not null references relays on delete cascade,
    created_at bigint not null,
    reason     text not null,
    raw        bytea not null,
    seen_at    bigint not null default unix_now(),
    constraint quarantine_pkey primary key (relay_id, id)
);
comment on table quarantine is 'Verified events that text and jsonb cannot hold exactly (NUL, lone surrogates), kept as the bytes they were, never cleaned. At most 10,000 events and 64 MB for each relay.';
comment on column quarantine.id is 'Id of the event, 32 bytes.';
comment on column quarantine.relay_id is 'The relay that sent it.';
comment on column quarantine.created_at is 'created_at of the event, Unix seconds.';
comment on column quarantine.reason is 'nul or lone_surrogate: what PostgreSQL cannot hold.';
comment on column quarantine.raw is 'The event as JSON in UTF-8, with the characters in question escaped: parsed again, it verifies.';
comment on column quarantine.seen_at is 'When it was first seen there, Unix seconds.';

-- Deletes the sightings of deleted relays; delete_events() those of events, without a trigger on events.
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

create or replace trigger relays_delete_sightings after delete on relays
referencing old table as deleted for each statement execute function delete_sightings_of_relays();

-- ---------------------------------------------------------------------------------------------------------------
-- The journal: what each transaction changed, for readers that follow the archive
-- ---------------------------------------------------------------------------------------------------------------

create or replace function event_key_day(p_event_key bigint) returns integer
language sql immutable parallel safe
return ((p_event_key >> 24) / 86400)::integer;
comment on function event_key_day(bigint) is 'The UTC day of created_at of an event, in days since 1970-01-01.';

create table if not exists journal (
    xid        xid8 not null default pg_current_xact_id(),
    batch_id   bigint generated by default as identity,
    cluster    bigint not null default (pg_control_system()).system_identifier,
    written_at bigint not null default unix_now(),
    relay_id   integer,
    event_keys bigint[] not null default '{}',
    days       integer[] not null,
    -- What a reader reads next: where (xid, batch_id) > ($1, $2) and xid < pg_snapshot_xmin(pg_current_snapshot())
    constraint journal_pkey primary key (xid, batch_id)
);
comment on table journal is 'What was stored and deleted, a row for each statement that changed events or sightings, in its transaction. Read in the order (xid, batch_id), and only below the oldest transaction that is running: no row can come before one that was read, whatever order writers commit in.';
comment on column journal.xid is 'The transaction. 0 in rows that were restored from another cluster (adopt_journal).';
comment on column journal.batch_id is 'Order within a transaction.';
comment on column journal.cluster is 'system_identifier of the cluster whose transaction it is: a dump takes rows to clusters that count transactions anew.';
comment on column journal.written_at is 'When its transaction began, Unix seconds.';
comment on column journal.relay_id is 'The relay of the sightings; null where events or a relay were deleted, or events were imported.';
comment on column journal.event_keys is 'The new events (events.event_key). Some may be deleted since.';
comment on column journal.days is 'The days (event_key_day) whose events or sightings changed: new ones, deleted ones, and sightings that another archive saw earlier.';

create table if not exists journal_readers (
    name     text primary key,
    xid      xid8 not null default '0',
    batch_id bigint not null default 0,
    cluster  bigint not null default (pg_control_system()).system_identifier,
    read_at  bigint
);
comment on table journal_readers is 'Who follows the journal, and how far it has read. Rows that one of them has not read are kept. Insert a row to begin with the oldest that is kept.';
comment on column journal_readers.name is 'Name of the reader. Processes that share it share the work: each row is handed to one of them.';
comment on column journal_readers.xid is 'Cursor: the latest row read (journal.xid), moved in the transaction of what was made of the rows.';
comment on column journal_readers.batch_id is 'Cursor: the latest row read (journal.batch_id).';
comment on column journal_readers.cluster is 'system_identifier of the cluster whose transactions the cursor counts.';
comment on column journal_readers.read_at is 'When it last read, Unix seconds; null: never.';

insert into journal_readers (name) values ('finder'), ('refresher') on conflict do nothing;

create or replace function adopt_journal() returns boolean
language plpgsql as $$
declare
    here  constant bigint := (select system_identifier from pg_control_system());
    start bigint;
begin
    if not exists (select from journal_readers where cluster <> here) then
        return false;
    end if;
    perform pg_advisory_xact_lock(hashtext('bigbrotr journal'));   -- as in trim (src/database/journal.ts)
    perform from journal_readers order by name for update;
    if not exists (select from journal_readers where cluster <> here) then
        return false;
    end if;
    -- A dump was restored in another cluster, whose transactions may have any numbers. What came with it goes before
    -- everything that is written here, in its order, so that each cursor keeps its place.
    select coalesce(max(batch_id), 0) into start from journal where cluster <> here;
    update journal_readers r
    set cluster = here, xid = '0',
        batch_id = start + (
            select count(*) from journal j
            where j.cluster <> here and (j.xid, j.batch_id) <= (r.xid, r.batch_id)
        )
    where cluster <> here;
    update journal j
    set cluster = here, xid = '0', batch_id = start + n.place
    from (
        select xid, batch_id, row_number() over (order by xid, batch_id) as place from journal where cluster <> here
    ) n
    where j.xid = n.xid and j.batch_id = n.batch_id and j.cluster <> here;
    return true;
end $$;
comment on function adopt_journal() is 'Makes the journal of a restored dump readable in this cluster, without repeating or leaving out a row; readers call it first. True when there was something to do.';

create or replace function delete_events(p_event_keys bigint[]) returns bigint
language plpgsql as $$
declare
    deleted bigint;
    changed integer[];
begin
    -- Who is writing a sighting ends first, who comes later finds the event gone and brings it again: without this an
    -- event that is sighted in the same moment would be lost, though coverage says that it is held.
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
comment on function delete_events(bigint[]) is 'Deletes events by their keys, with their sightings, and writes it into the journal; a plain delete leaves sightings of nothing (count_orphan_sightings). Returns how many. Writers wait meanwhile: 10,000 at a time.';

-- ---------------------------------------------------------------------------------------------------------------
-- Health of relays (NIP-11, NIP-66)
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists nip11 (
    id               bytea primary key,
    name             text,
    description      text,
    banner           text,
    icon             text,
    pubkey           text,
    contact          text,
    supported_nips   jsonb,
    software         text,
    version          text,
    privacy_policy   text,
    terms_of_service text,
    limitation       jsonb,
    extra_fields     jsonb
);
comment on table nip11 is 'Relay information documents (NIP-11), each different one once. What they say is claimed by the relay, not measured.';
comment on column nip11.id is 'SHA-256 of the document in its stored form.';
comment on column nip11.name is 'Name of the relay.';
comment on column nip11.description is 'Description for people.';
comment on column nip11.banner is 'URL of a banner picture.';
comment on column nip11.icon is 'URL of an icon.';
comment on column nip11.pubkey is 'Administrative contact: a public key.';
comment on column nip11.contact is 'Alternative contact: a URI.';
comment on column nip11.supported_nips is 'NIPs the relay says it supports: an array of numbers.';
comment on column nip11.software is 'URL of its software.';
comment on column nip11.version is 'Version of its software.';
comment on column nip11.privacy_policy is 'URL of the privacy policy.';
comment on column nip11.terms_of_service is 'URL of the terms of service.';
comment on column nip11.limitation is 'Limits the relay says it imposes (max_limit, auth_required, ...).';
comment on column nip11.extra_fields is 'Every other field of the document.';

create table if not exists nip66 (
    id        bytea primary key,
    openable  boolean not null,
    readable  boolean not null,
    writable  boolean not null,
    rtt_open  integer,
    rtt_read  integer,
    rtt_write integer,
    reason    text
);
comment on table nip66 is 'Results of relay checks (NIP-66), each different one once. Measured by the monitor.';
comment on column nip66.id is 'SHA-256 of the result in its stored form.';
comment on column nip66.openable is 'The WebSocket opened.';
comment on column nip66.readable is 'A REQ was answered with EVENT or EOSE.';
comment on column nip66.writable is 'A signed test event was accepted with OK true.';
comment on column nip66.rtt_open is 'Milliseconds to open.';
comment on column nip66.rtt_read is 'Milliseconds from REQ to the first answer.';
comment on column nip66.rtt_write is 'Milliseconds from EVENT to OK.';
comment on column nip66.reason is 'Why the first failing step failed; null when all succeeded.';

create table if not exists check_results (
    result_id integer generated always as identity primary key,   -- the results of a snapshot
    hash      bytea not null,
    name      text not null,
    success   boolean not null,
    reason    text,
    data      jsonb,
    constraint check_results_hash_key unique (hash),   -- whether a result is known
    constraint check_results_hash_length check (octet_length(hash) = 32)
);
comment on table check_results is 'Results of checks of relays, each different one once. Query relay_checks instead: it has the relay, the time and the duration.';
comment on column check_results.result_id is 'Short key of the result.';
comment on column check_results.hash is 'SHA-256 of name, success, reason and data (without ttl), see check_result_hash().';
comment on column check_results.name is 'open, read, write, nip11, tls, dns, net, geo, http or capabilities.';
comment on column check_results.success is 'The check got its answer. A bad certificate is an answer, a relay that cannot be reached gives none.';
comment on column check_results.reason is 'Why it failed, one stable word; null when it did not.';
comment on column check_results.data is 'What it found (src/nostr/check-result.ts); null when it failed. The ttl of dns is the largest seen with that answer: a resolver gives the time that is left.';

create table if not exists snapshots (
    relay_id     integer not null references relays on delete cascade,
    generated_at bigint not null,
    nip11_id     bytea references nip11,
    nip66_id     bytea references nip66,
    results      integer[],
    durations    integer[],
    constraint snapshots_pkey primary key (relay_id, generated_at)   -- the history of a relay, its latest snapshot
);
comment on table snapshots is 'One check of one relay, in its stored form. Query relay_metadata instead: it gives the URL.';
comment on column snapshots.relay_id is 'The relay.';
comment on column snapshots.generated_at is 'When it was checked, Unix seconds.';
comment on column snapshots.nip11_id is 'Its NIP-11 document then; null when it gave none.';
comment on column snapshots.nip66_id is 'Result of the check.';
comment on column snapshots.results is 'Results of its checks (check_results.result_id), in the order of their names above. No foreign key: an array has none.';
comment on column snapshots.durations is 'How long each of them took, milliseconds, in the same order.';

-- The snapshots that refer to a document: where nip11_id = $1, where nip66_id = $1 (delete_orphan_nip11(), delete_orphan_nip66())
create index if not exists snapshots_nip11_id_index on snapshots (nip11_id);
create index if not exists snapshots_nip66_id_index on snapshots (nip66_id);

create or replace view relay_metadata as
select r.url as relay_url, s.generated_at, s.nip11_id, s.nip66_id
from snapshots s
join relays r on r.relay_id = s.relay_id;
comment on view relay_metadata is 'Every snapshot of every relay: when it was checked, and what NIP-11 and NIP-66 gave.';

create or replace view relay_metadata_latest as
select
    r.url as relay_url, r.network, s.generated_at, s.nip66_id,
    h.openable, h.readable, h.writable, h.rtt_open, h.rtt_read, h.rtt_write, h.reason,
    s.nip11_id, d.name, d.description, d.banner, d.icon, d.pubkey, d.contact, d.supported_nips,
    d.software, d.version, d.privacy_policy, d.terms_of_service, d.limitation, d.extra_fields
from relays r
cross join lateral (
    select * from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
) s
left join nip66 h on h.id = s.nip66_id
left join nip11 d on d.id = s.nip11_id;
comment on view relay_metadata_latest is 'The latest snapshot of each relay, with everything NIP-11 and NIP-66 gave.';

create table if not exists carried_checks (
    relay_id      integer not null references relays on delete cascade,
    name          text not null,
    result_id     integer not null references check_results,
    duration_ms   integer not null,
    measured_at   bigint not null,
    fresh_until   bigint not null,
    etag          text,
    last_modified text,
    constraint carried_checks_pkey primary key (relay_id, name)   -- what a check of a relay need not measure again
);
comment on table carried_checks is 'Results that later snapshots repeat without measuring: capabilities for a day, a NIP-11 document as long as its HTTP headers say.';
comment on column carried_checks.relay_id is 'The relay.';
comment on column carried_checks.name is 'nip11 or capabilities.';
comment on column carried_checks.result_id is 'The result (check_results.result_id).';
comment on column carried_checks.duration_ms is 'How long it took when it was measured, milliseconds.';
comment on column carried_checks.measured_at is 'When it was measured or confirmed, Unix seconds.';
comment on column carried_checks.fresh_until is 'It is repeated before this and measured again after it, Unix seconds.';
comment on column carried_checks.etag is 'ETag of a document (RFC 9110), for the next conditional request.';
comment on column carried_checks.last_modified is 'Last-Modified of a document, likewise.';

create or replace view relay_checks as
select r.url as relay_url, s.generated_at, c.name, c.success, t.duration_ms, c.reason, c.data
from snapshots s
join relays r on r.relay_id = s.relay_id
cross join lateral unnest(s.results, s.durations) as t (result_id, duration_ms)
join check_results c on c.result_id = t.result_id;
comment on view relay_checks is 'Every check of every snapshot of every relay, one row each: what it found, or why it failed.';

create or replace view relay_checks_latest as
select r.url as relay_url, s.generated_at, c.name, c.success, t.duration_ms, c.reason, c.data
from relays r
cross join lateral (
    select * from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
) s
cross join lateral unnest(s.results, s.durations) as t (result_id, duration_ms)
join check_results c on c.result_id = t.result_id;
comment on view relay_checks_latest is 'The checks of the latest snapshot of each relay, one row each.';

create or replace view relay_facts as
select
    r.url as relay_url, r.network, s.generated_at,
    h.openable, h.readable, h.writable, h.rtt_open, h.rtt_read, h.rtt_write,
    c.found -> 'geo' ->> 'country' as country,
    c.found -> 'geo' ->> 'city' as city,
    c.found -> 'geo' ->> 'geohash' as geohash,
    c.found -> 'net' ->> 'ip' as ip,
    (c.found -> 'net' ->> 'asn')::bigint as asn,
    c.found -> 'net' ->> 'organisation' as organisation,
    (c.found -> 'tls' ->> 'valid')::boolean as tls_valid,
    c.found -> 'tls' ->> 'problem' as tls_problem,
    c.found -> 'tls' ->> 'issuer' as tls_issuer,
    (c.found -> 'tls' ->> 'notAfter')::bigint as tls_not_after,
    c.found -> 'http' ->> 'server' as http_server,
    d.software, d.version, d.supported_nips,
    (c.found -> 'capabilities' ->> 'nip45')::boolean as nip45,
    (c.found -> 'capabilities' ->> 'nip50')::boolean as nip50,
    (c.found -> 'capabilities' ->> 'nip67')::boolean as nip67,
    (c.found -> 'capabilities' ->> 'nip77')::boolean as nip77,
    (c.found -> 'capabilities' ->> 'maxLimit')::integer as max_limit,
    c.found -> 'read' ->> 'asked' as read_asked
from relays r
cross join lateral (
    select * from snapshots where relay_id = r.relay_id order by generated_at desc limit 1
) s
cross join lateral (
    select jsonb_object_agg(name, data) filter (where success and name <> 'nip11') as found
    from check_results where result_id = any (s.results)
) c
left join nip66 h on h.id = s.nip66_id
left join nip11 d on d.id = s.nip11_id;
comment on view relay_facts is 'What the latest checks of each relay found, one row a relay: where it is, its certificate, what it runs and what it can do. Measured, but for software, version and supported_nips, which it claims.';

create or replace view readable_relays as
select relay_url, network, generated_at, rtt_open, rtt_read, rtt_write, writable
from relay_metadata_latest
where readable
order by rtt_read, rtt_open, relay_url;
comment on view readable_relays is 'Relays that answered a REQ in their latest snapshot, fastest first.';

-- ---------------------------------------------------------------------------------------------------------------
-- When relays are checked: the schedule, and since when they answer
--
-- A relay is new (it has no row in relay_schedule, and is due), up, down or unknown (relay_state() says which, by the
-- result of a check). What leads from one state to another, and when the next check is due:
--   up       after a check that a REQ answered or refused. Next check after one interval (MONITOR_FREQUENCY_HOUR).
--   down     after a check that failed by the relay. The first wait is one interval, or an eighth of it for a relay that
--            was up before; each further failure doubles it, up to 28 days.
--   unknown  after a check that failed by our proxy or network, or when the latest check no longer counts (known_until).
--            The first wait is a 32nd of the interval and doubles up to one interval. failures and last_up_at stay.
-- A relay that is named again while it waits (recheck_relays()) is due at once; its failures stay as they are.
--
-- Guaranteed: relay_states has no gap and no overlap from the first check on; the same checks give the same states and
-- schedule, in whatever order they are recorded (an older one rebuilds both); waits are shortened by a jitter (an eighth at
-- most; after a first or a late check most of the wait), so that relays that were checked together do not stay together.
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists relay_schedule (
    relay_id      integer primary key references relays on delete cascade,
    checked_at    bigint not null,
    state         text,
    due_at        bigint not null,
    known_until   bigint not null,
    failures      integer not null default 0,
    last_up_at    bigint,
    seen_again_at bigint
);
comment on table relay_schedule is 'When each relay that was ever checked is checked next. Written with the snapshot; a relay without a row is due.';
comment on column relay_schedule.relay_id is 'The relay.';
comment on column relay_schedule.checked_at is 'Its latest check, Unix seconds.';
comment on column relay_schedule.state is 'What that check found: up, down or unknown (relay_states.state).';
comment on column relay_schedule.due_at is 'When it is checked next, Unix seconds: the longer it has been down, the later.';
comment on column relay_schedule.known_until is 'Until when the latest check counts, Unix seconds. Without another check its state is unknown from then on.';
comment on column relay_schedule.failures is 'Checks in a row that found it down; checks that could not tell are ignored.';
comment on column relay_schedule.last_up_at is 'The latest check that found it up, Unix seconds; null when none ever did.';
comment on column relay_schedule.seen_again_at is 'When an event or a list named it again since its latest check, Unix seconds: it is due at once. Null when none did.';

create table if not exists relay_states (
    relay_id integer not null references relays on delete cascade,
    from_at  bigint not null,
    to_at    bigint,
    state    text not null,
    constraint relay_states_pkey primary key (relay_id, from_at),   -- the history of a relay
    constraint relay_states_order check (to_at > from_at),
    constraint relay_states_state_check check (state in ('up', 'down', 'unknown'))
);
comment on table relay_states is 'States of relays as intervals without gap or overlap, one row a change, in their stored form. Query relay_uptime instead: it gives the URL, and what became unknown since.';
comment on column relay_states.relay_id is 'The relay.';
comment on column relay_states.from_at is 'Time of the first check with this result, or the time from which nothing is known, Unix seconds.';
comment on column relay_states.to_at is 'When the next interval begins, Unix seconds; null for the latest one.';
comment on column relay_states.state is 'up: it answers a REQ, or opens and refuses (auth-required, restricted, blocked, rate-limited). down: it does not. unknown: the monitor could not tell, or was off.';

-- The present state of a relay, of which there is one; the relays that are up now: where state = 'up' and to_at is null
create unique index if not exists relay_states_open_index on relay_states (relay_id) where to_at is null;

create or replace function relay_state(p_openable boolean, p_readable boolean, p_reason text) returns text
language sql immutable parallel safe
return case
    when p_openable is null then 'unknown'
    when p_readable then 'up'
    when p_openable and p_reason in (
        'auth_required', 'restricted', 'blocked', 'rate_limited', 'limit', 'filter_refused', 'too_many_values'
    ) then 'up'
    when p_reason in ('no_proxy', 'proxy_down', 'network_down') then 'unknown'
    else 'down'
end;
comment on function relay_state(boolean, boolean, text) is 'State of a relay by a NIP-66 result: up, down or unknown (relay_states.state). A relay that refuses is up; without a proxy for its network, or with that proxy or our own network down, the state is unknown.';

create or replace function relay_check_interval(
    p_state text, p_failures integer, p_was_up boolean, p_last_wait bigint, p_interval integer
) returns integer
language sql immutable parallel safe
return case p_state
    when 'up' then p_interval
    when 'unknown' then least(greatest(p_last_wait * 2, p_interval / 32), p_interval)
    else least(
        p_interval * 2.0 ^ (least(p_failures, 30) - case when p_was_up then 4 else 1 end), greatest(p_interval, 2419200)
    )
end::integer;
comment on function relay_check_interval(text, integer, boolean, bigint, integer) is
    'Longest time to the next check, in seconds, where p_interval is that of living relays. A relay that was never up waits one interval after its first failure and twice as long after each further one, at most 28 days; one that was up begins at an eighth. Unknown is asked again after a 32nd, and twice as long after each further time (p_last_wait: the wait after the check before, where that told nothing either; else 0), at most one interval.';

create or replace function relay_check_jitter(p_relay_id integer, p_checked_at bigint) returns numeric
language sql immutable parallel safe
return ('x' || left(md5(p_relay_id || ' ' || p_checked_at), 4))::bit(16)::integer / 65536.0;
comment on function relay_check_jitter(integer, bigint) is 'A number from 0 to below 1 that spreads checks over time: pseudo-random, and the same for the same check.';

create or replace function relay_state_changes(p_before relay_schedule, p_checked_at bigint, p_state text)
returns table (from_at bigint, state text)
language sql immutable as $$
    -- Nothing is known of the time for which the check before does not speak.
    select p_before.known_until, 'unknown'
    where p_before.state <> 'unknown' and p_checked_at > p_before.known_until
    union all
    select p_checked_at, p_state
    where case
        when p_before.state is null then true
        when p_checked_at > p_before.known_until then p_state <> 'unknown'
        else p_state <> p_before.state
    end
    order by 1
$$;
comment on function relay_state_changes(relay_schedule, bigint, text) is 'The intervals that begin with a check, by what was known before it: none, one, or two where nothing was known in between.';

create or replace function next_relay_check(
    p_before relay_schedule, p_relay_id integer, p_checked_at bigint, p_state text, p_interval integer
) returns relay_schedule
language plpgsql immutable as $$
declare
    after relay_schedule;
    wait integer;
    jitter numeric;
begin
    after.relay_id := p_relay_id;
    after.checked_at := p_checked_at;
    after.state := p_state;
    after.failures := case p_state
        when 'down' then coalesce(p_before.failures, 0) + 1
        when 'up' then 0
        else coalesce(p_before.failures, 0)
    end;
    after.last_up_at := case p_state when 'up' then p_checked_at else p_before.last_up_at end;
    wait := relay_check_interval(
        p_state, after.failures, after.last_up_at is not null,
        case p_before.state when 'unknown' then p_before.due_at - p_before.checked_at else 0 end, p_interval
    );
    -- Relays that were first checked together, or waited for a monitor that was off, would come due together for ever.
    jitter := relay_check_jitter(p_relay_id, p_checked_at) * case
        when p_before.state is null or p_checked_at > p_before.due_at + p_interval / 8 then 0.9375
        else 0.125
    end;
    after.due_at := p_checked_at + floor(wait * (1 - jitter));
    after.known_until := p_checked_at + greatest(wait, p_interval) * 5::bigint / 4;
    return after;
end $$;
comment on function next_relay_check(relay_schedule, integer, bigint, text, integer) is 'The schedule of a relay after a check, by the one before it (null at the first check).';

create or replace function record_relay_check(
    p_relay_id integer, p_checked_at bigint, p_state text, p_interval integer
) returns boolean
language plpgsql as $$
declare
    before relay_schedule;
    after relay_schedule;
    change record;
begin
    loop
        select * into before from relay_schedule where relay_id = p_relay_id for update;
        exit when found;
        insert into relay_schedule (relay_id, checked_at, due_at, known_until) values (p_relay_id, -1, 0, 0)
        on conflict do nothing;
    end loop;
    if p_checked_at <= before.checked_at or (
        before.state is null
        and exists (select from snapshots where relay_id = p_relay_id and generated_at < p_checked_at)
    ) then
        perform rebuild_relay_states(p_relay_id, p_interval);
        return true;
    end if;

    for change in select * from relay_state_changes(before, p_checked_at, p_state) loop
        update relay_states set to_at = change.from_at where relay_id = p_relay_id and to_at is null;
        insert into relay_states (relay_id, from_at, state) values (p_relay_id, change.from_at, change.state);
    end loop;
    after := next_relay_check(before, p_relay_id, p_checked_at, p_state, p_interval);
    update relay_schedule
    set (checked_at, state, due_at, known_until, failures, last_up_at, seen_again_at)
        = (select after.checked_at, after.state, after.due_at, after.known_until, after.failures, after.last_up_at, after.seen_again_at)
    where relay_id = p_relay_id;
    return true;
end $$;
comment on function record_relay_check(integer, bigint, text, integer) is 'Records the result of a check: the state of the relay, and when it is due again. p_interval is the interval of living relays in seconds. The order of checks does not matter. Call it with a new snapshot. Always true.';

create or replace function record_relay_check(p_relay_url text, p_checked_at bigint, p_nip66 jsonb, p_interval integer)
returns boolean
language sql volatile as $$
    select record_relay_check(relay_id, p_checked_at, relay_state(h.openable, h.readable, h.reason), p_interval)
    from relays
    left join jsonb_to_record(p_nip66) as h (openable boolean, readable boolean, reason text) on true
    where url = p_relay_url
$$;
comment on function record_relay_check(text, bigint, jsonb, integer) is 'The same by URL and NIP-66 result, as insert_relay_metadata takes them.';

create or replace function rebuild_relay_states(p_relay_id integer, p_interval integer) returns bigint
language plpgsql as $$
declare
    plan relay_schedule;
    checked record;
    changes_at bigint[] := '{}';
    changes text[] := '{}';
    change record;
    times bigint := 0;
begin
    insert into relay_schedule (relay_id, checked_at, due_at, known_until)
    select p_relay_id, -1, 0, 0 where exists (select from snapshots where relay_id = p_relay_id)
    on conflict do nothing;
    perform from relay_schedule where relay_id = p_relay_id for update;
    for checked in
        select s.generated_at, relay_state(h.openable, h.readable, h.reason) as state
        from snapshots s
        left join nip66 h on h.id = s.nip66_id
        where s.relay_id = p_relay_id
        order by s.generated_at
    loop
        if checked.state is distinct from plan.state or checked.generated_at > plan.known_until then
            for change in select * from relay_state_changes(plan, checked.generated_at, checked.state) loop
                changes_at := changes_at || change.from_at;
                changes := changes || change.state;
            end loop;
        end if;
        plan := next_relay_check(plan, p_relay_id, checked.generated_at, checked.state, p_interval);
        times := times + 1;
    end loop;
    delete from relay_states where relay_id = p_relay_id;
    insert into relay_states (relay_id, from_at, to_at, state)
    select p_relay_id, from_at, lead(from_at) over (order by from_at), state
    from unnest(changes_at, changes) as c (from_at, state);
    update relay_schedule
    set (checked_at, state, due_at, known_until, failures, last_up_at, seen_again_at)
        = (select plan.checked_at, plan.state, plan.due_at, plan.known_until, plan.failures, plan.last_up_at, plan.seen_again_at)
    where relay_id = p_relay_id and times > 0;
    return times;
end $$;
comment on function rebuild_relay_states(integer, integer) is 'Rebuilds the intervals and the schedule of a relay from its snapshots, as if it had been checked at that interval of seconds. Returns how many snapshots it has.';

create or replace function recheck_relays(p_urls text[], p_least_age integer default 28800) returns bigint
language plpgsql as $$
declare
    woken bigint;
begin
    update relay_schedule c
    set seen_again_at = unix_now()
    from (
        select relay_id from relay_schedule
        where relay_id in (select relay_id from relays where url = any (p_urls))
            and seen_again_at is null
            and checked_at <= unix_now() - p_least_age
        order by relay_id
        for update
    ) named
    where c.relay_id = named.relay_id;
    get diagnostics woken = row_count;
    return woken;
end $$;
comment on function recheck_relays(text[], integer) is 'Makes relays that were named again due at once, however long they have been down; not those checked within p_least_age seconds, so that repeated names do not undo the back-off. Returns how many.';

create or replace view relay_uptime as
select r.url as relay_url, i.state, i.from_at, i.to_at
from relays r
join relay_states s on s.relay_id = r.relay_id
join relay_schedule c on c.relay_id = r.relay_id
cross join lateral (
    select s.to_at is null and s.state <> 'unknown' and c.known_until < unix_now() as lapsed
) l
cross join lateral (
    select s.state, s.from_at, case when l.lapsed then c.known_until else s.to_at end as to_at
    union all
    select 'unknown'::text as state, c.known_until as from_at, null::bigint as to_at where l.lapsed
) i;
comment on view relay_uptime is 'What is known of the state of each relay since its first check, as intervals: one row a change, the present one without end.';
comment on column relay_uptime.relay_url is 'URL of the relay (relays.url).';
comment on column relay_uptime.state is 'up: it answers a REQ, or opens and refuses (auth-required, restricted, blocked, rate-limited). down: it does not. unknown: the monitor could not tell, or was off.';
comment on column relay_uptime.from_at is 'Time of the first check with this result, or the time from which nothing is known, Unix seconds.';
comment on column relay_uptime.to_at is 'When the next interval begins, Unix seconds; null for the present one.';

create or replace view relay_availability as
select
    relay_url, network, state, since,
    round(up_1 / nullif(known_1, 0), 4) as up_1_day,
    round(up_7 / nullif(known_7, 0), 4) as up_7_days,
    round(up_30 / nullif(known_30, 0), 4) as up_30_days,
    round(up_90 / nullif(known_90, 0), 4) as up_90_days,
    round(known_90 / (90 * 86400), 4) as known_90_days,
    flaps
from (
    select
        i.relay_url, r.network,
        max(i.state) filter (where i.to_at is null) as state,
        max(i.from_at) filter (where i.to_at is null) as since,
        coalesce(sum(i.in_1) filter (where i.state = 'up'), 0) as up_1,
        coalesce(sum(i.in_7) filter (where i.state = 'up'), 0) as up_7,
        coalesce(sum(i.in_30) filter (where i.state = 'up'), 0) as up_30,
        coalesce(sum(i.in_90) filter (where i.state = 'up'), 0) as up_90,
        coalesce(sum(i.in_1) filter (where i.state <> 'unknown'), 0) as known_1,
        coalesce(sum(i.in_7) filter (where i.state <> 'unknown'), 0) as known_7,
        coalesce(sum(i.in_30) filter (where i.state <> 'unknown'), 0) as known_30,
        coalesce(sum(i.in_90) filter (where i.state <> 'unknown'), 0) as known_90,
        count(*) filter (where i.state = 'down' and i.known_before = 'up' and i.from_at > i.now - 90 * 86400) as flaps
    from (
        select
            u.relay_url, u.state, u.from_at, u.to_at, t.now,
            lag(u.state) over (partition by u.relay_url, u.state = 'unknown' order by u.from_at) as known_before,
            greatest(coalesce(u.to_at, t.now) - greatest(u.from_at, t.now - 86400), 0) as in_1,
            greatest(coalesce(u.to_at, t.now) - greatest(u.from_at, t.now - 7 * 86400), 0) as in_7,
            greatest(coalesce(u.to_at, t.now) - greatest(u.from_at, t.now - 30 * 86400), 0) as in_30,
            greatest(coalesce(u.to_at, t.now) - greatest(u.from_at, t.now - 90 * 86400), 0) as in_90
        from relay_uptime u
        cross join (select unix_now() as now) t
    ) i
    join relays r on r.url = i.relay_url
    group by i.relay_url, r.network
) s;
comment on view relay_availability is 'How much of the time each relay was up, of the time in which its state was known, and how often it went down.';
comment on column relay_availability.relay_url is 'URL of the relay (relays.url).';
comment on column relay_availability.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column relay_availability.state is 'Its present state: up, down or unknown (relay_uptime.state).';
comment on column relay_availability.since is 'Since when it is in that state, Unix seconds.';
comment on column relay_availability.up_1_day is 'Share of the last day that it was up, of the time in which its state was known: 1 when always. Null when nothing is known of that day.';
comment on column relay_availability.up_7_days is 'The same over the last 7 days.';
comment on column relay_availability.up_30_days is 'The same over the last 30 days.';
comment on column relay_availability.up_90_days is 'The same over the last 90 days.';
comment on column relay_availability.known_90_days is 'Share of the last 90 days in which its state was known: how much the other shares rest on.';
comment on column relay_availability.flaps is 'How often it went from up to down within the last 90 days; unknown in between does not count.';

create or replace view relay_software as
select d.software, d.version, count(*) as relays, round(count(*) / sum(count(*)) over (), 4) as share
from relay_states s
left join lateral (
    select nip11_id from snapshots
    where relay_id = s.relay_id and nip11_id is not null order by generated_at desc limit 1
) l on true
left join nip11 d on d.id = l.nip11_id
where s.state = 'up' and s.to_at is null
group by d.software, d.version
order by relays desc, d.software, d.version;
comment on view relay_software is 'What the relays run that their latest check found up, by their latest NIP-11 document, the most used first.';
comment on column relay_software.software is 'URL of the software, as the relay claims; null for those that do not say.';
comment on column relay_software.version is 'Version of the software, as the relay claims; null for those that do not say.';
comment on column relay_software.relays is 'How many relays that are up run it.';
comment on column relay_software.share is 'Their share of all relays that are up: 1 when all do.';

-- ---------------------------------------------------------------------------------------------------------------
-- Coverage: what is proven complete, by what evidence, and what is not
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists filters (
    filter_id integer generated always as identity primary key,
    filter    text not null,
    constraint filters_filter_key unique (filter),
    constraint filters_filter_length check (octet_length(filter) <= 2048)
);
comment on table filters is 'Event filters that relays were read with. Each filter has coverage of its own.';
comment on column filters.filter_id is 'Short key of the filter.';
comment on column filters.filter is 'The filter as JSON with sorted keys and values; {} asks for every event.';

create table if not exists filter_parts (
    relay_id   integer not null references relays on delete cascade,
    filter_id  integer not null references filters on delete cascade,
    part_id    integer not null references filters on delete cascade,
    divided_by text not null,
    refused_at bigint not null,
    constraint filter_parts_pkey primary key (relay_id, filter_id, part_id),   -- the parts of a filter
    constraint filter_parts_divided_by_check check (divided_by in ('values', 'kinds'))
);
comment on table filter_parts is 'With which filters a relay is asked in place of one that it refuses for its shape. A part may have parts of its own.';
comment on column filter_parts.relay_id is 'The relay.';
comment on column filter_parts.filter_id is 'The filter that it refuses.';
comment on column filter_parts.part_id is 'One of those that it is asked with instead.';
comment on column filter_parts.divided_by is 'values: the parts share the values of a list, and together they are the filter; kinds: each names some kinds, and together they are less than the filter.';
comment on column filter_parts.refused_at is 'When it last refused the filter, Unix seconds; it is asked with it again after a week.';

create table if not exists coverage (
    relay_id  integer not null references relays on delete cascade,
    filter_id integer not null references filters on delete cascade,
    evidence  text not null,
    proven_on date not null,
    covered   int8multirange not null,
    proven_at bigint not null,
    constraint coverage_pkey primary key (relay_id, filter_id, evidence, proven_on),   -- the coverage of a relay
    constraint coverage_evidence_check check (evidence in ('paging', 'finish', 'nip77', 'silence'))
);
comment on table coverage is 'Stretches of created_at that are proven complete for a relay and filter, by evidence and day of the proof. A stretch stands in one row: its latest proof.';
comment on column coverage.relay_id is 'The relay.';
comment on column coverage.filter_id is 'The filter.';
comment on column coverage.evidence is 'paging: newest-first pages that went past it; finish: NIP-67; nip77: a finished reconciliation; silence: the relay has never shown an event, and is asked again at each visit.';
comment on column coverage.proven_on is 'UTC day of the proof.';
comment on column coverage.covered is 'Seconds of created_at, upper ends exclusive.';
comment on column coverage.proven_at is 'Last proof that added to this row, Unix seconds.';

create or replace function is_hole_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'dense', 'overflow', 'oversized', 'quarantine_full', 'contradicted', 'unreadable', 'unanswered', 'withheld'
);
comment on function is_hole_reason(text) is 'The closed set of holes.reason, explained there. dense: the relay showed as many events as a page may hold; overflow: it sent more than is taken at once; oversized: it holds an event larger than is taken; quarantine_full: it holds events for which its quarantine has no room; contradicted: its answers contradict each other; unreadable: something in it ends every connection; unanswered: the relay lists events there by NIP-77 and gives no answer when it is asked for them; withheld: it lists more events that it does not serve than are remembered.';

create table if not exists holes (
    relay_id  integer not null references relays on delete cascade,
    filter_id integer not null references filters on delete cascade,
    stretch   int8range not null,
    reason    text not null,
    events    integer not null,
    noted_at  bigint not null,
    constraint holes_pkey primary key (relay_id, filter_id, stretch),
    constraint holes_reason_check check (is_hole_reason(reason))
);
comment on table holes is 'Stretches that could not be proven complete, though the relay was asked: they stay gaps, with the reason.';
comment on column holes.relay_id is 'The relay.';
comment on column holes.filter_id is 'The filter.';
comment on column holes.stretch is 'Seconds of created_at, upper end exclusive; mostly one second.';
comment on column holes.reason is 'Why it is not proven. dense: as many events as a page may hold; overflow: more than is taken at once; oversized: an event larger than is taken; quarantine_full: it holds events that have no room in the quarantine of this relay; contradicted: answers that contradict each other; unreadable: something in it ends every connection; unanswered: the relay lists events there by NIP-77 and gives no answer when it is asked for them, which is done at each visit; withheld: it lists more events that it does not serve than are remembered. A closed set: is_hole_reason().';
comment on column holes.events is 'Events the relay showed there.';
comment on column holes.noted_at is 'When it was last found so, Unix seconds.';

create or replace function is_stop_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'stopped', 'time_is_up', 'proxy_down', 'network_down', 'no_proxy', 'worker_died', 'not_stored',
    'dns', 'refused', 'unreachable', 'reset', 'tls', 'http_error', 'protocol', 'forbidden',
    'timeout', 'disconnected', 'closed', 'oversized', 'overflow', 'garbled', 'forged',
    'ignores_until', 'ignores_since', 'hides_events', 'more_without_events', 'events_after_eose', 'unsteady',
    'limit_refused', 'filter_refused', 'rate_limited', 'auth_required', 'restricted', 'blocked', 'holes', 'withheld'
);
comment on function is_stop_reason(text) is 'The closed set of visits.stop_reason; src/nostr/stop-reason.ts explains each word.';

create table if not exists visits (
    relay_id    integer not null references relays on delete cascade,
    filter_id   integer not null references filters on delete cascade,
    wanted      int8range not null,
    started_at  bigint not null,
    ended_at    bigint,
    outcome     text,
    detail      text,
    failures    integer not null default 0,
    pages       integer not null default 0,
    stop_reason   text,
    failing_since bigint,
    is_part       boolean not null default false,
    caught_up     boolean not null default false,
    constraint visits_pkey primary key (relay_id, filter_id),
    constraint visits_stop_reason_check check (is_stop_reason(stop_reason))
);
comment on table visits is 'The latest visit of each relay and filter: what was wanted and how it ended.';
comment on column visits.relay_id is 'The relay.';
comment on column visits.filter_id is 'The filter.';
comment on column visits.wanted is 'Seconds of created_at that were wanted, upper end exclusive.';
comment on column visits.started_at is 'When it began, Unix seconds.';
comment on column visits.ended_at is 'When it ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column visits.outcome is 'complete, partial, unfinished (stopped on purpose, goes on later) or failed.';
comment on column visits.detail is 'Why it is not complete, as a sentence; after a colon in the words of the relay.';
comment on column visits.failures is 'Visits in a row that failed, or used up their time without a proof. One that was stopped before it could prove anything counts neither way.';
comment on column visits.pages is 'Pages asked for.';
comment on column visits.stop_reason is 'What stopped it, one word of the closed set is_stop_reason(): not reached (dns, refused, unreachable, reset, tls, http_error, protocol, forbidden, no_proxy), lost (timeout, disconnected, closed), refused (rate_limited, auth_required, restricted, blocked, limit_refused, filter_refused), not to be believed (forged, garbled, overflow, ignores_until, ignores_since, hides_events, more_without_events, events_after_eose, unsteady), partly not provable (holes, withheld, oversized), or a matter of ours (stopped, time_is_up, proxy_down, network_down, worker_died, not_stored). Null: nothing did. On a complete visit: forged, where most of what was sent was refused.';
comment on column visits.failing_since is 'When the first of the failures in a row was recorded, Unix seconds; null when the latest visit that counts did not fail.';
comment on column visits.caught_up is 'Whether at its end nothing of what was wanted was missing below the newest second proven, but for holes. Such relays are visited before the others.';
comment on column visits.is_part is 'Only a part of a wanted filter, which the relay refuses (filter_parts).';

create table if not exists relay_manners (
    relay_id          integer primary key references relays on delete cascade,
    not_before        bigint not null default 0,
    reason            text,
    refusals          integer not null default 0,
    pace_ms           integer not null default 0,
    page_limit        integer,
    nip77_refused_at  bigint,
    page_limit_at     bigint,
    nip77_not_before  bigint,
    nip77_reason      text,
    max_filter_values    integer,
    max_filter_values_at bigint,
    retry_at          bigint,
    nip11_retry_at    bigint,
    nip11_retry_reason text
);
comment on table relay_manners is 'Policy of a relay, learnt from its answers: pauses after refusals, pace, page size, and features that it refuses.';
comment on column relay_manners.relay_id is 'The relay.';
comment on column relay_manners.not_before is 'It is not visited before this, Unix seconds.';
comment on column relay_manners.reason is 'Why it pauses: rate_limited, auth_required, restricted, blocked or failed; null when it does not.';
comment on column relay_manners.refusals is 'Refused or failed visits in a row; each doubles the pause.';
comment on column relay_manners.pace_ms is 'Minimum time between two REQs, milliseconds.';
comment on column relay_manners.page_limit is 'Largest limit it is asked for, where it refused a larger one or cut its pages short.';
comment on column relay_manners.page_limit_at is 'When a larger one did not work, Unix seconds; tried again after a day.';
comment on column relay_manners.nip77_refused_at is 'When NIP-77 last failed with this relay, Unix seconds; null when NIP-77 may be used.';
comment on column relay_manners.retry_at is 'Not connected to before this, Unix seconds: it refused a connection with Retry-After, which is honoured up to a day.';
comment on column relay_manners.nip11_retry_at is 'Its NIP-11 document is not asked for before this, Unix seconds: that request was refused with Retry-After.';
comment on column relay_manners.nip11_retry_reason is 'What that request was refused with, as in relay_checks: http_429, http_503 and the like.';
comment on column relay_manners.max_filter_values is 'Most values in one list of a filter that the relay takes, where it refused more.';
comment on column relay_manners.max_filter_values_at is 'When it last refused more, Unix seconds; forgotten after a week.';
comment on column relay_manners.nip77_not_before is 'NIP-77 is not tried with it before this, Unix seconds; null when NIP-77 may be used.';
comment on column relay_manners.nip77_reason is 'Why NIP-77 is not tried: unsupported, cut (its lists lack what it holds), too_many_withheld, too_large, blocked, restricted, auth_required, rate_limited or failed; null when it may be.';

create or replace function is_offence_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'not_object', 'id', 'pubkey', 'created_at', 'kind', 'tags', 'content', 'sig', 'too_large', 'id_mismatch', 'bad_signature',
    'filter_mismatch', 'not_json', 'not_a_message', 'too_many_elements', 'wrong_subscription', 'binary_frame',
    'after_eose', 'repeat', 'quarantine_full'
);
comment on function is_offence_reason(text) is 'The closed set of relay_offences.reason, explained there.';

create table if not exists relay_offences (
    relay_id   integer not null references relays on delete cascade,
    reason     text not null,
    count      bigint not null,
    first_at   bigint not null,
    last_at    bigint not null,
    example_id bytea,
    constraint relay_offences_pkey primary key (relay_id, reason),   -- what was refused of a relay
    constraint relay_offences_reason_check check (is_offence_reason(reason)),
    constraint relay_offences_count_check check (count > 0),
    constraint relay_offences_example_id_length check (octet_length(example_id) = 32)
);
comment on table relay_offences is 'What relays sent that was refused, one row a relay and reason: counted in the transaction of the batch with which it came. An event that is sent again at each visit counts each time; a batch whose commit was lost on its way back may count twice.';
comment on column relay_offences.relay_id is 'The relay.';
comment on column relay_offences.reason is 'bad_signature: the signature does not hold; id_mismatch: the id is another hash; not_object, id, pubkey, created_at, kind, tags, content or sig: that part is malformed; too_large: an event above 4 MiB; filter_mismatch: not what was asked for; repeat: shown again within one answer; wrong_subscription: under an id that was never used; after_eose: after the end of its answer; not_json, not_a_message, too_many_elements or binary_frame: no message of Nostr; quarantine_full: PostgreSQL cannot hold it, and the quarantine of the relay has no room. A closed set: is_offence_reason().';
comment on column relay_offences.count is 'How often, in visits and on followed connections.';
comment on column relay_offences.first_at is 'When the first was noted, Unix seconds.';
comment on column relay_offences.last_at is 'When the latest was noted, Unix seconds.';
comment on column relay_offences.example_id is 'The id that the first of them claimed, 32 bytes; null where none had one.';

create or replace view relay_offences_named as
select r.url as relay_url, o.reason, o.count, o.first_at, o.last_at, encode(o.example_id, 'hex') as example_id
from relay_offences o
join relays r on r.relay_id = o.relay_id;
comment on view relay_offences_named is 'What was refused of each relay, by reason, with its URL and an example as hex.';

create table if not exists withheld (
    relay_id      integer not null references relays on delete cascade,
    filter_id     integer not null references filters on delete cascade,
    id            bytea not null,
    stretch       int8range not null,
    reason        text not null,
    first_at      bigint not null,
    last_at       bigint not null,
    next_try_at   bigint not null,
    tries         integer not null default 1,
    authenticated boolean not null default false,
    kind          integer,
    constraint withheld_pkey primary key (relay_id, filter_id, id),   -- what a relay withholds
    constraint withheld_id_length check (octet_length(id) = 32),
    constraint withheld_reason_check check (reason in ('not_served', 'auth_required', 'restricted', 'refused', 'unreadable', 'oversized'))
);
-- Withheld events that are due: where relay_id = $1 and filter_id = $2 and next_try_at <= $3
create index if not exists withheld_next_try on withheld (relay_id, filter_id, next_try_at);

comment on table withheld is 'Events that a relay lists by NIP-77 and does not serve: all of the stretch but these is archived.';
comment on column withheld.relay_id is 'The relay.';
comment on column withheld.filter_id is 'The filter with which the relay was read.';
comment on column withheld.id is 'Id of the event, 32 bytes.';
comment on column withheld.stretch is 'Seconds in one of which it was created, upper end exclusive: the events listed before and after it bound them.';
comment on column withheld.reason is 'not_served: asked for by its id, the relay sends EOSE without it; auth_required, restricted, refused: CLOSED, by what it says; unreadable: every answer with it breaks off, while the relay serves others; oversized: the same, for it is larger than is taken.';
comment on column withheld.first_at is 'When it was first found so, Unix seconds.';
comment on column withheld.last_at is 'When it was last asked for, Unix seconds.';
comment on column withheld.next_try_at is 'When it is asked for again, Unix seconds.';
comment on column withheld.tries is 'How often it was asked for.';
comment on column withheld.authenticated is 'Whether it was last asked for after a successful authentication (NIP-42).';
comment on column withheld.kind is 'Kind of the event, where the relay has listed it for a filter that names this kind; null where it is not known.';

create or replace view withheld_kinds as
select r.url as relay_url, f.filter, w.kind, count(*) as withheld, min(w.first_at) as first_at, max(w.last_at) as last_at,
       min(w.next_try_at) as next_try_at
from withheld w
join relays r on r.relay_id = w.relay_id
join filters f on f.filter_id = w.filter_id
group by r.url, f.filter, w.kind;
comment on view withheld_kinds is 'How many events of each kind a relay lists by NIP-77 and does not serve, as far as their kinds are known.';
comment on column withheld_kinds.relay_url is 'URL of the relay (relays.url).';
comment on column withheld_kinds.filter is 'The filter with which the relay was read, as JSON (filters.filter).';
comment on column withheld_kinds.kind is 'Kind of the events; null: those of which it is not known.';
comment on column withheld_kinds.withheld is 'How many are withheld.';
comment on column withheld_kinds.first_at is 'When the first of them was found so, Unix seconds.';
comment on column withheld_kinds.last_at is 'When one of them was last asked for, Unix seconds.';
comment on column withheld_kinds.next_try_at is 'When the next of them is asked for again, Unix seconds; of a kind that is known a sample is, in place of all.';

create or replace function seconds_in(p_stretches int8multirange) returns numeric
language sql immutable parallel safe
return (select coalesce(sum((upper(stretch) - lower(stretch))::numeric), 0) from unnest(p_stretches) stretch);
comment on function seconds_in(int8multirange) is 'How many seconds these stretches hold together.';

create or replace function filter_leaves(p_relay_id integer, p_filter_id integer) returns setof integer
language sql stable
begin atomic
    with recursive parts as (
        select part_id from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id
        union
        select f.part_id
        from parts p
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = p.part_id
    )
    select p.part_id from parts p
    where not exists (select from filter_parts f where f.relay_id = p_relay_id and f.filter_id = p.part_id);
end;
comment on function filter_leaves(integer, integer) is 'The filters that a relay is asked with in place of one that it refuses; none where it takes that.';

create or replace function is_divided_by_kinds(p_relay_id integer, p_filter_id integer) returns boolean
language sql stable
begin atomic
    with recursive parts as (
        select part_id, divided_by from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id
        union
        select f.part_id, f.divided_by
        from parts p
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = p.part_id
    )
    select exists (select from parts where divided_by = 'kinds');
end;
comment on function is_divided_by_kinds(integer, integer) is 'Whether a relay is asked by kinds in place of this filter, so that events of other kinds are not asked for.';

create or replace function parts_covered(p_relay_id integer, p_filter_id integer) returns int8multirange
language sql stable
begin atomic
    select coalesce(range_intersect_agg(part.covered), '{}')
    from (
        select coalesce(range_agg(c.covered), '{}'::int8multirange) as covered
        from filter_leaves(p_relay_id, p_filter_id) leaf
        left join coverage c on c.relay_id = p_relay_id and c.filter_id = leaf
        group by leaf
    ) part;
end;
comment on function parts_covered(integer, integer) is 'What is proven complete for all filters that a relay is asked with in place of one that it refuses.';

create or replace function is_caught_up(p_relay_id integer, p_filter_id integer, p_wanted int8range) returns boolean
language plpgsql stable as $$
begin
    -- In PL/pgSQL, whose plans are kept: as an SQL function it was planned at the end of each visit, for a millisecond.
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
end $$;
comment on function is_caught_up(integer, integer, int8range) is
    'Whether nothing of what was wanted of a relay is missing below the newest second proven, but for holes (visits.caught_up). Of one that is asked with parts of the filter: of none of the parts, but for those that it refuses.';

create or replace function withheld_of(p_relay_id integer, p_filter_id integer, p_wanted int8range)
returns table (id bytea, stretch int8range)
language sql stable
begin atomic
    with recursive asked as (
        select p_filter_id as filter_id
        union
        select f.part_id
        from asked a
        join filter_parts f on f.relay_id = p_relay_id and f.filter_id = a.filter_id
    )
    select distinct on (w.id) w.id, w.stretch
    from asked
    join withheld w on w.relay_id = p_relay_id and w.filter_id = asked.filter_id and w.stretch && p_wanted
    order by w.id, lower(w.stretch) desc, upper(w.stretch);
end;
comment on function withheld_of(integer, integer, int8range) is 'Events of these seconds that a relay lists and does not serve, each once: of a filter, and of those that it is asked with in place of it.';

create or replace view coverage_gaps as
select r.url as relay_url, f.filter, lower(g.gap) as since, upper(g.gap) - 1 as until, g.hole, g.hole_events
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral (
    select v.wanted::int8multirange - coalesce(range_agg(covered), '{}') as missing
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c
cross join lateral (
    select gap, null::integer as hole_events,
           case
               when v.detail like 'filter_refused%' or is_divided_by_kinds(v.relay_id, v.filter_id) then 'filter_refused'
           end as hole
    from unnest(c.missing - coalesce((
        select range_agg(stretch) from holes where relay_id = v.relay_id and filter_id = v.filter_id
    ), '{}')) gap
    union all
    select stretch, events, reason
    from holes where relay_id = v.relay_id and filter_id = v.filter_id and stretch && c.missing
    union all
    select int8range(min(lower(stretch)), max(upper(stretch))) as stretch, count(*)::integer as events, 'withheld' as reason
    from (
        select stretch, count(*) filter (where is_apart) over (order by lower(stretch), upper(stretch), id) as island
        from (
            select id, stretch, lower(stretch) > max(upper(stretch)) over (
                order by lower(stretch), upper(stretch), id rows between unbounded preceding and 1 preceding
            ) as is_apart
            from withheld_of(v.relay_id, v.filter_id, v.wanted)
        ) w
    ) w
    group by island
) g
where not v.is_part;
comment on view coverage_gaps is 'One row a gap: a stretch of created_at (both ends inclusive) that was wanted of a relay and is not proven complete; hole says why, where it was tried in vain. hole withheld: all of it but the hole_events that the relay lists and does not serve (withheld).';

-- Functions that read events or sightings are in PL/pgSQL and take relays by their key: where events are distributed over
-- several servers, each of their statements is answered there, and tables like relays are not.

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
comment on function sightings_in(integer, int8range) is 'How many events of these seconds were seen on a relay. Reads one index entry an event: about a million a second on a busy machine.';

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
comment on function oldest_known(integer, int8range) is 'The first of these seconds, not before Nostr began, of which a relay is known to hold an event, archived or in quarantine; null when none is known. One look-up.';

create or replace function coverage_share(p_wanted int8range, p_covered int8multirange, p_oldest bigint) returns numeric
language sql stable parallel safe
return (
    select case
        when isempty(come) then null
        when isempty(missing) then 1.000000
        else least(round(seconds_in(measured - missing) / nullif(seconds_in(measured), 0), 6), 0.999999)
    end
    from (select p_wanted * int8range(null, unix_now() + 1) as come) c
    cross join lateral (select come::int8multirange - p_covered as missing) m
    cross join lateral (
        select case when upper(come) > nostr_began() then greatest(lower(come), nostr_began()) else lower(come) end as since
    ) n
    cross join lateral (
        select (come * int8range(
            case when p_oldest > since and not missing && int8range(null, p_oldest) then p_oldest else since end, null
        ))::int8multirange as measured
    ) d
);
comment on function coverage_share(int8range, int8multirange, bigint) is 'The share that relay_coverage shows: proven seconds of the wanted ones that have come, measured from when Nostr began, since time before it is empty but for backdated events; or from the oldest event known of the relay, where all below it is proven. 1 exactly when nothing that has come is missing, else at most 0.999999; null when nothing was wanted that has come.';

create or replace function seconds_that_count(p_wanted int8range) returns int8range
language sql stable parallel safe
return p_wanted * int8range(case when upper(p_wanted) > nostr_began() then nostr_began() end, unix_now() + 1);
comment on function seconds_that_count(int8range) is 'Wanted seconds that have come, without those from before Nostr began, unless only those were wanted.';

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
comment on function events_left(integer, int8range, int8multirange) is 'How many events are left to be archived of what is wanted, if the gaps are as dense as what is next to them: each is taken to hold as many events a second as the 500 nearest on either side, less those in it that are archived already. 0 when nothing is missing, null when all is. Nothing is estimated for the time before Nostr.';

create or replace view relay_coverage as
select
    r.url as relay_url, f.filter,
    coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share,
    lower(c.covered) as first_second, upper(c.covered) - 1 as last_second,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = v.filter_id) as holes,
    unix_now() - c.oldest_proof as oldest_proof_age,
    v.outcome, v.detail, v.ended_at as visited_at,
    v.stop_reason, v.failures, v.failing_since,
    case when m.not_before - unix_now() between 1 and 2595600 then m.not_before end as paused_until,
    (select coalesce(sum(o.count), 0)::bigint from relay_offences o where o.relay_id = v.relay_id) as offences,
    sightings_in(v.relay_id, v.wanted) as events_held,
    events_left(v.relay_id, v.wanted, c.covered) as events_left_estimate,
    case
        when isempty((v.wanted * int8range(null, unix_now() + 1))::int8multirange - c.covered) then 'complete'
        when not c.covered && seconds_that_count(v.wanted) then 'unknown'
        else 'density'
    end as estimate_basis,
    case
        when asked.parts = 0 then 'filter'
        when is_divided_by_kinds(v.relay_id, v.filter_id) then 'kinds'
        else 'parts'
    end as asked_by,
    greatest(asked.parts, 1) as filters_asked,
    coverage_share(
        v.wanted, case when asked.parts = 0 then c.covered else parts_covered(v.relay_id, v.filter_id) end,
        oldest_known(v.relay_id, v.wanted)
    ) as asked_share,
    (select count(*) from withheld_of(v.relay_id, v.filter_id, v.wanted)) as withheld
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
left join relay_manners m on m.relay_id = v.relay_id
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered, min(proven_at) as oldest_proof
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c
cross join lateral (
    select count(*) as parts from filter_leaves(v.relay_id, v.filter_id)
) asked
where not v.is_part;
comment on view relay_coverage is 'For each relay and filter: share of the wanted time that is proven complete, its first and last second, gaps, holes, age of the oldest proof in seconds, how the latest visit ended and what stopped it, since when it fails, what was refused, and how many events are archived and left. events_held counts them one by one, about a million a second, where it is asked for, and events_left_estimate those within gaps: leave them out where that is too slow, and they cost nothing. What was never visited is in unread_relays.';

create or replace view unread_relays as
select
    r.url as relay_url, r.network,
    case
        when latest.generated_at is null then 'never_checked'
        when h.readable then 'never_visited'
        else 'not_readable'
    end as reason,
    h.reason as check_reason,
    case
        when latest.generated_at is null or h.readable then r.inserted_at
        else (
            select min(generated_at) from snapshots
            where relay_id = r.relay_id and generated_at > coalesce((
                select s.generated_at from snapshots s join nip66 g on g.id = s.nip66_id
                where s.relay_id = r.relay_id and g.readable order by s.generated_at desc limit 1
            ), -1)
        )
    end as since,
    latest.generated_at as checked_at, c.due_at as next_check_at,
    (select max(ended_at) from visits where relay_id = r.relay_id) as visited_at
from relays r
left join relay_schedule c on c.relay_id = r.relay_id
left join lateral (
    select * from (
        -- A check while Tor was down tells nothing: the one before it counts, where there is one.
        (select s.generated_at, s.nip66_id, 1 as place from snapshots s left join nip66 k on k.id = s.nip66_id
         where s.relay_id = r.relay_id and k.reason is distinct from 'proxy_down' order by s.generated_at desc limit 1)
        union all
        (select s.generated_at, s.nip66_id, 2 from snapshots s where s.relay_id = r.relay_id order by s.generated_at desc limit 1)
    ) either
    order by place limit 1
) latest on true
left join nip66 h on h.id = latest.nip66_id
where h.readable is not true or not exists (select from visits where relay_id = r.relay_id);
comment on view unread_relays is 'Relays that the synchronizer does not visit, because their latest check did not find them readable or there was none, and those that were never visited for another cause: with the reason of that check, since when, and when they are checked again. Together with relay_coverage it has every relay. Priority relays are visited whatever their checks find.';

create or replace view relay_part_coverage as
select
    r.url as relay_url, f.filter, p.filter as part,
    coverage_share(v.wanted, c.covered, oldest_known(v.relay_id, v.wanted)) as share,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = leaf) as holes,
    part_visit.outcome, part_visit.detail, part_visit.ended_at as visited_at
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral filter_leaves(v.relay_id, v.filter_id) leaf
join filters p on p.filter_id = leaf
left join visits part_visit on part_visit.relay_id = v.relay_id and part_visit.filter_id = leaf
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered from coverage where relay_id = v.relay_id and filter_id = leaf
) c
where not v.is_part;
comment on view relay_part_coverage is 'For each relay that refuses a wanted filter for its shape: the filters that it is asked with instead, and for each the share of the wanted time that is proven complete, gaps, holes, and how its latest reading ended.';

-- A column of a view with the name of the column that it comes from means the same; the others are explained below.
do $$
declare
    wanted record;
begin
    for wanted in
        select distinct on (v.oid, c.attname) v.relname, c.attname, col_description(s.attrelid, s.attnum) as meaning
        from pg_class v
        join pg_attribute c on c.attrelid = v.oid and c.attnum > 0
        join pg_rewrite w on w.ev_class = v.oid
        join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
        join pg_attribute s on s.attrelid = d.refobjid and s.attnum = d.refobjsubid and s.attname = c.attname and s.attrelid <> v.oid
        where v.oid in (
            'events_hex'::regclass, 'relay_metadata'::regclass, 'relay_metadata_latest'::regclass,
            'coverage_gaps'::regclass, 'relay_coverage'::regclass, 'relay_offences_named'::regclass,
            'relay_checks'::regclass, 'relay_checks_latest'::regclass, 'relay_facts'::regclass
        ) and col_description(s.attrelid, s.attnum) is not null
        order by v.oid, c.attname, s.attrelid
    loop
        execute format('comment on column %I.%I is %L', wanted.relname, wanted.attname, wanted.meaning);
    end loop;
end $$;

comment on column events_relays.event_id is 'Id of the event (events.id), 32 bytes.';
comment on column events_relays.relay_url is 'URL of the relay (relays.url).';
comment on column events_relays.seen_at is 'When the event was first seen there, Unix seconds.';
comment on column events_hex.id is 'SHA-256 of the NIP-01 serialisation, as 64 hex digits.';
comment on column events_hex.pubkey is 'Public key of the author, as 64 hex digits.';
comment on column events_hex.sig is 'BIP-340 signature over the id, as 128 hex digits.';
comment on column relay_metadata.relay_url is 'URL of the relay (relays.url).';
comment on column relay_metadata_latest.relay_url is 'URL of the relay (relays.url).';
comment on column readable_relays.relay_url is 'URL of the relay (relays.url).';
comment on column readable_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column readable_relays.generated_at is 'When it was checked, Unix seconds.';
comment on column readable_relays.rtt_open is 'Milliseconds to open.';
comment on column readable_relays.rtt_read is 'Milliseconds from REQ to the first answer.';
comment on column readable_relays.rtt_write is 'Milliseconds from EVENT to OK.';
comment on column readable_relays.writable is 'A signed test event was accepted with OK true.';
comment on column coverage_gaps.relay_url is 'URL of the relay (relays.url).';
comment on column coverage_gaps.since is 'First second of the gap, as in a filter.';
comment on column coverage_gaps.until is 'Last second of the gap, as in a filter.';
comment on column coverage_gaps.hole is 'Why it could not be proven complete though the relay was asked (holes.reason; filter_refused: it refuses the filter, or a part of it; withheld: it lists events that it does not serve); null when it is only not read yet.';
comment on column coverage_gaps.hole_events is 'Events the relay showed there (holes.events), or names and withholds.';
comment on column relay_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_coverage.share is 'Share of the wanted seconds that is proven complete: 1 when all that have come are, else less. Counted from 2020-11-07, when Nostr began, or from the oldest event known of the relay where all below it is proven; see coverage_share().';
comment on column relay_coverage.first_second is 'First second of created_at that is proven complete.';
comment on column relay_coverage.last_second is 'Last second of created_at that is proven complete.';
comment on column relay_coverage.gaps is 'How many gaps coverage_gaps shows.';
comment on column relay_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_coverage.oldest_proof_age is 'Seconds since the oldest proof that still stands; null when there is none.';
comment on column relay_coverage.withheld is 'Events of the wanted time that the relay lists by NIP-77 and does not serve, whether it is asked with the filter or with parts of it.';
comment on column relay_coverage.visited_at is 'When the latest visit ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column relay_coverage.paused_until is 'The relay is not visited before this, Unix seconds (relay_manners.not_before); null when it does not pause. What lies more than 30 days and an hour ahead was noted while the clock was wrong, and holds nothing up.';
comment on column relay_coverage.offences is 'How much of what the relay ever sent was refused, by whatever filter: the sum over relay_offences.';
comment on column relay_coverage.events_held is 'Events of the wanted time that were seen on this relay, by whatever filter. Counted one by one: see sightings_in().';
comment on column relay_coverage.events_left_estimate is 'How many events may be left to archive: see estimate_basis. Null when nothing tells.';
comment on column relay_coverage.estimate_basis is 'What the estimate rests on. complete: nothing that has come is missing, so that it is 0; density: the gaps are taken to be as dense as what was archived next to them (events_left()); unknown: nothing next to them is known.';
comment on column unread_relays.relay_url is 'URL of the relay (relays.url).';
comment on column unread_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column unread_relays.reason is 'never_checked: it waits for its first check; not_readable: its latest check got no answer to a REQ; never_visited: it is readable and waits for its first visit, or the blocklist has it.';
comment on column unread_relays.check_reason is 'Why that check failed (nip66.reason): timeout, dns, auth_required, …; null when it did not, or there was none.';
comment on column unread_relays.since is 'The first check since the last one that found it readable; for the other reasons when it became known. Unix seconds.';
comment on column unread_relays.checked_at is 'When it was checked, Unix seconds; null when it never was.';
comment on column unread_relays.next_check_at is 'When it is checked again, Unix seconds; null: as soon as there is room.';
comment on column unread_relays.visited_at is 'When it was last visited, Unix seconds; null when it never was.';
comment on column relay_offences_named.relay_url is 'URL of the relay (relays.url).';
comment on column relay_offences_named.example_id is 'The id that the first of them claimed, as 64 hex digits; null where none had one.';
comment on column relay_coverage.asked_by is 'filter: the relay takes the filter; parts: it is asked with several that are the filter together; kinds: it is asked by kinds, and events of other kinds are not asked for, so that share counts what was proven of the filter itself.';
comment on column relay_coverage.filters_asked is 'With how many filters it is asked.';
comment on column relay_coverage.asked_share is 'Share of the wanted seconds that is proven complete for all filters it is asked with.';
comment on column relay_part_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_part_coverage.filter is 'The wanted filter, which the relay refuses.';
comment on column relay_part_coverage.part is 'A filter that it is asked with instead.';
comment on column relay_part_coverage.share is 'Share of the wanted seconds that is proven complete for this part: 1 when all are.';
comment on column relay_part_coverage.gaps is 'How many stretches of the wanted time are not proven for it.';
comment on column relay_part_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_part_coverage.outcome is 'complete, partial, unfinished or failed; null when it was not read yet.';
comment on column relay_part_coverage.detail is 'Why it is not complete.';
comment on column relay_part_coverage.visited_at is 'When its latest reading ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column relay_checks.relay_url is 'URL of the relay (relays.url).';
comment on column relay_checks.duration_ms is 'How long it took, milliseconds.';
comment on column relay_checks_latest.relay_url is 'URL of the relay (relays.url).';
comment on column relay_checks_latest.duration_ms is 'How long it took, milliseconds.';
comment on column relay_facts.relay_url is 'URL of the relay (relays.url).';
comment on column relay_facts.country is 'Country of its IP address, ISO 3166-1 alpha-2; null: not known.';
comment on column relay_facts.city is 'City of its IP address, in English; null: not known.';
comment on column relay_facts.geohash is 'Geohash of the location of its IP address, nine characters.';
comment on column relay_facts.ip is 'IP address that the monitor connected to, or the first one that DNS returned.';
comment on column relay_facts.asn is 'Number of the autonomous system (AS) that its IP address belongs to.';
comment on column relay_facts.organisation is 'Name of the organisation that the autonomous system is registered to.';
comment on column relay_facts.tls_valid is 'Whether its TLS certificate is valid for its host name. Null: no TLS, or not checked.';
comment on column relay_facts.tls_problem is 'Why the certificate is not valid, as an error code of OpenSSL, such as CERT_HAS_EXPIRED. Null: it is valid, or not checked.';
comment on column relay_facts.tls_issuer is 'Issuer of its certificate.';
comment on column relay_facts.tls_not_after is 'When its certificate expires, Unix seconds.';
comment on column relay_facts.http_server is 'The Server header of its response to the WebSocket upgrade.';
comment on column relay_facts.nip45 is 'Whether it answers COUNT (NIP-45). Null: the check was inconclusive.';
comment on column relay_facts.nip50 is 'Whether it answers search filters (NIP-50). Null: the check was inconclusive.';
comment on column relay_facts.nip67 is 'Whether its EOSE says if more events match (NIP-67). Null: the check was inconclusive.';
comment on column relay_facts.nip77 is 'Whether it reconciles (NIP-77). Null: the check was inconclusive.';
comment on column relay_facts.max_limit is 'Maximum number of events that it sends for one REQ; 1000 means 1000 or more. Null: the check was inconclusive.';
comment on column relay_facts.read_asked is 'Which filter its read check succeeded with: bare (any event), filter (the archived filter) or kinds (a filter by kinds). Null: not readable, or an older check that did not record it.';

-- ---------------------------------------------------------------------------------------------------------------
-- Functions. All idempotent: the same call twice leaves the archive as one call does. Errors are raised, never hidden.
-- ---------------------------------------------------------------------------------------------------------------

create or replace function event_tagvalues(p_tags jsonb) returns jsonb
language sql immutable parallel safe
return (
    select coalesce(jsonb_agg(distinct (tag ->> 0) || ':' || (tag ->> 1)), '[]')
    from jsonb_array_elements(p_tags) tag
    where (tag ->> 0) ~ '^[A-Za-z]$' and octet_length(tag ->> 1) <= 255
);
comment on function event_tagvalues(jsonb) is 'Indexable tags as letter:value. Values above 255 bytes are left out: no filter asks for them.';

create or replace function insert_relay(
    p_url text, p_network text, p_inserted_at bigint default unix_now()
) returns boolean
language sql volatile as $$
    with inserted as (
        insert into relays (url, network, inserted_at) values (p_url, p_network, p_inserted_at)
        on conflict (url) do nothing
        returning 1
    )
    select exists (select from inserted)
$$;
comment on function insert_relay(text, text, bigint) is 'Adds a relay unless it is known. True when it was new.';

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
        (select relay_id from relays where url = p_relay_url), (p_seen_at - 1577836800)::integer, array[new_day],
        archive_shards() > 1, '{}',
        array[new_key], array[p_created_at], array[p_kind], array[encode(p_id, 'hex')], array[encode(p_pubkey, 'hex')],
        array[encode(p_sig, 'hex')], array[p_tags::text], array[event_tagvalues(p_tags)::text], array[p_content]
    );
    return stored.new_events > 0;
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
        values (p_relay_id, p_filter_id, p_evidence, today, p_proven - in_vain, unix_now())
        on conflict (relay_id, filter_id, evidence, proven_on) do update
        set covered = coverage.covered + p_proven - in_vain, proven_at = excluded.proven_at;
    end if;
    if is_moved or not isempty(in_vain) then
        delete from coverage where relay_id = p_relay_id and filter_id = p_filter_id and isempty(covered);
    end if;
    insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
    select distinct on (h.since, h.until)
        p_relay_id, p_filter_id, int8range(h.since, h.until, '[]'), h.reason, h.count, unix_now()
    from jsonb_to_recordset(p_holes) as h (since bigint, until bigint, reason text, count integer)
    order by h.since, h.until, h.count desc
    on conflict (relay_id, filter_id, stretch) do update
    set reason = excluded.reason, events = excluded.events, noted_at = excluded.noted_at;
end $$;
comment on function record_coverage is 'Moves what is proven into today''s row of its evidence, so that each stretch stands once, with its latest proof. What was tried in vain (an array of {since, until, reason, count}) is no longer proven, whatever an earlier visit found. In the transaction that stores the events on which it rests.';

create or replace function record_offences(p_relay_id integer, p_offences jsonb) returns void
language sql volatile as $$
    insert into relay_offences as known (relay_id, reason, count, first_at, last_at, example_id)
    select r.relay_id, o.reason, o.count, unix_now(), unix_now(), decode(o.example, 'hex')
    from relays r
    cross join jsonb_to_recordset(p_offences) as o (reason text, count bigint, example text)
    where r.relay_id = p_relay_id
    order by o.reason
    on conflict (relay_id, reason) do update
    set count = known.count + excluded.count, last_at = greatest(known.last_at, excluded.last_at),
        example_id = coalesce(known.example_id, excluded.example_id)
$$;
comment on function record_offences(integer, jsonb) is 'Adds to what was refused of a relay: an array of {reason, count, example}, each reason once; example is an id in hex or null. In the transaction of the batch with which it came.';

create or replace function divide_filter(
    p_relay_id integer, p_filter_id integer, p_parts integer[], p_divided_by text, p_refused_at bigint
) returns void
language plpgsql as $$
declare
    added constant integer[] := array(
        select part from unnest(p_parts) part
        where not exists (
            select from filter_parts where relay_id = p_relay_id and filter_id = p_filter_id and part_id = part
        )
    );
begin
    insert into filter_parts (relay_id, filter_id, part_id, divided_by, refused_at)
    select p_relay_id, p_filter_id, part, p_divided_by, p_refused_at from unnest(p_parts) part
    on conflict (relay_id, filter_id, part_id) do update
    set divided_by = excluded.divided_by, refused_at = excluded.refused_at;
    insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
    select c.relay_id, part, c.evidence, c.proven_on, c.covered - had.covered, c.proven_at
    from coverage c
    cross join unnest(added) part
    cross join lateral (
        select coalesce(range_agg(covered), '{}') as covered from coverage where relay_id = p_relay_id and filter_id = part
    ) had
    where c.relay_id = p_relay_id and c.filter_id = p_filter_id and c.evidence <> 'silence'
        and not isempty(c.covered - had.covered)
    on conflict (relay_id, filter_id, evidence, proven_on) do update
    set covered = coverage.covered + excluded.covered, proven_at = least(coverage.proven_at, excluded.proven_at);
end $$;
comment on function divide_filter is 'Notes the parts that a relay is asked with in place of a filter. What was proven of the filter is proven of each that is new; what was taken back of another stays so.';

create or replace function record_parts_coverage(p_relay_id integer, p_filter_id integer) returns void
language plpgsql as $$
declare
    leaves constant integer[] := array(select filter_leaves(p_relay_id, p_filter_id));
    whole  constant int8multirange := parts_covered(p_relay_id, p_filter_id);
begin
    if cardinality(leaves) = 0 or is_divided_by_kinds(p_relay_id, p_filter_id) then
        return;
    end if;
    perform from visits where relay_id = p_relay_id and filter_id = p_filter_id for update;
    delete from coverage where relay_id = p_relay_id and filter_id = p_filter_id;
    insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
    with part as (
        select * from coverage where relay_id = p_relay_id and filter_id = any (leaves)
    ), evidences as (
        select evidence, array_position(array['silence', 'paging', 'finish', 'nip77'], evidence) as strength,
               range_agg(covered) as covered
        from part group by evidence
    ), weakest as (
        select evidence, covered - coalesce(range_agg(covered) over weaker, '{}') as covered
        from evidences window weaker as (order by strength rows between unbounded preceding and 1 preceding)
    ), days as (
        select proven_on, min(proven_at) as proven_at, range_agg(covered) as covered from part group by proven_on
    ), oldest as (
        select proven_on, proven_at, covered - coalesce(range_agg(covered) over older, '{}') as covered
        from days window older as (order by proven_on rows between unbounded preceding and 1 preceding)
    )
    select p_relay_id, p_filter_id, weakest.evidence, oldest.proven_on, whole * weakest.covered * oldest.covered, oldest.proven_at
    from weakest cross join oldest
    where not isempty(whole * weakest.covered * oldest.covered);
    delete from holes where relay_id = p_relay_id and filter_id = p_filter_id;
    insert into holes (relay_id, filter_id, stretch, reason, events, noted_at)
    select p_relay_id, p_filter_id, stretch, min(reason), sum(events), min(noted_at)
    from holes where relay_id = p_relay_id and filter_id = any (leaves)
    group by stretch;
end $$;
comment on function record_parts_coverage is 'Records as proven of a filter what is proven of all its parts, by the weakest evidence and the oldest proof, and the holes of them all. Of one that is asked for by kinds nothing is recorded: events of other kinds were not asked for.';

create or replace function check_result_hash(p_check jsonb) returns bytea
language sql stable parallel safe   -- as jsonb_build_array() is, so that it is taken apart where it is called
return sha256(convert_to(
    jsonb_build_array(p_check -> 'name', p_check -> 'success', p_check -> 'reason', nullif(p_check -> 'data', 'null') - 'ttl')::text, 'UTF8'
));
comment on function check_result_hash(jsonb) is 'SHA-256 by which a check result is known again. The ttl of dns runs down from one question to the next and does not make another result.';

create or replace function insert_check_results(p_checks jsonb) returns void
language plpgsql as $$
begin
    lock table check_results in row exclusive mode;   -- before it is looked into: see delete_orphan_check_results()
    insert into check_results as known (hash, name, success, reason, data)
    select distinct on (h.hash) h.hash, c.name, c.success, c.reason, c.data
    from jsonb_array_elements(p_checks) item
    cross join lateral (select check_result_hash(item) as hash) h
    cross join lateral jsonb_to_record(item) as c (name text, success boolean, reason text, data jsonb)
    where not exists (   -- else each would use up a key
        select from check_results k
        where k.hash = h.hash and coalesce((k.data ->> 'ttl')::bigint >= (c.data ->> 'ttl')::bigint, true)
    )
    order by h.hash, (c.data ->> 'ttl')::bigint desc nulls last
    on conflict (hash) do update set data = excluded.data
    where (excluded.data ->> 'ttl')::bigint > (known.data ->> 'ttl')::bigint;
end $$;
comment on function insert_check_results(jsonb) is 'Adds those of an array of check results that are not known yet, in the order of their hashes: writers in any order can deadlock.';

create or replace function insert_relay_metadata(
    p_relay_url text, p_relay_network text, p_generated_at bigint, p_nip11 jsonb, p_nip66 jsonb,
    p_checks jsonb default null
) returns boolean
language plpgsql as $$
declare
    nip11_hash bytea := sha256(convert_to(p_nip11::text, 'UTF8'));
    nip66_hash bytea := sha256(convert_to(p_nip66::text, 'UTF8'));
begin
    perform insert_relay(p_relay_url, p_relay_network, p_generated_at);
    if p_nip11 is not null then
        insert into nip11
        select nip11_hash, d.*
        from jsonb_to_record(p_nip11) as d (
            name text, description text, banner text, icon text, pubkey text, contact text, supported_nips jsonb,
            software text, version text, privacy_policy text, terms_of_service text, limitation jsonb, extra_fields jsonb
        )
        on conflict (id) do nothing;
    end if;
    if p_nip66 is not null then
        insert into nip66
        select nip66_hash, h.*
        from jsonb_to_record(p_nip66) as h (
            openable boolean, readable boolean, writable boolean, rtt_open integer, rtt_read integer, rtt_write integer, reason text
        )
        on conflict (id) do nothing;
    end if;
    perform insert_check_results(p_checks);
    insert into carried_checks as known (relay_id, name, result_id, duration_ms, measured_at, fresh_until, etag, last_modified)
    select r.relay_id, item ->> 'name', (select result_id from check_results where hash = check_result_hash(item)),
           (item ->> 'duration_ms')::integer, p_generated_at, c.fresh_until, c.etag, c.last_modified
    from relays r
    cross join jsonb_array_elements(p_checks) item
    cross join lateral jsonb_to_record(item -> 'carried') as c (fresh_until bigint, etag text, last_modified text)
    where r.url = p_relay_url and jsonb_typeof(item -> 'carried') = 'object'
    on conflict (relay_id, name) do update
    set result_id = excluded.result_id, duration_ms = excluded.duration_ms, measured_at = excluded.measured_at,
        fresh_until = excluded.fresh_until, etag = excluded.etag, last_modified = excluded.last_modified
    where excluded.measured_at >= known.measured_at;
    insert into snapshots (relay_id, generated_at, nip11_id, nip66_id, results, durations)
    select r.relay_id, p_generated_at, nip11_hash, nip66_hash, c.results, c.durations
    from relays r
    cross join lateral (
        select array_agg((select result_id from check_results where hash = check_result_hash(t.item)) order by t.place) as results,
               array_agg((t.item ->> 'duration_ms')::integer order by t.place) as durations
        from jsonb_array_elements(p_checks) with ordinality as t (item, place)
    ) c
    where r.url = p_relay_url
    on conflict do nothing;
    return found;
end $$;
comment on function insert_relay_metadata is 'Adds one snapshot of a relay; NIP-11, NIP-66 and check results (an array of objects with name, success, reason, data, duration_ms and, to be carried on, carried) are kept once for each different content (SHA-256). True when the snapshot was new.';

create or replace function delete_orphan_events() returns bigint
language plpgsql as $$
begin
    lock table sightings in share row exclusive mode;   -- before it is looked into: see delete_events()
    return delete_events(array(
        select event_key from events e
        where not exists (select from sightings s where s.event_key = e.event_key and s.created_day = e.created_day)
    ));
end $$;
comment on function delete_orphan_events() is 'Deletes events that no relay is known to hold, those that were imported among them. Returns how many.';

create or replace function delete_orphan_nip11() returns bigint
language plpgsql as $$
declare
    deleted bigint;
begin
    delete from nip11 d where not exists (select from snapshots s where s.nip11_id = d.id);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
comment on function delete_orphan_nip11() is 'Deletes NIP-11 documents that no snapshot refers to. Returns how many.';

create or replace function delete_orphan_nip66() returns bigint
language plpgsql as $$
declare
    deleted bigint;
begin
    delete from nip66 h where not exists (select from snapshots s where s.nip66_id = h.id);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
comment on function delete_orphan_nip66() is 'Deletes NIP-66 results that no snapshot refers to. Returns how many.';

create or replace function delete_orphan_check_results() returns bigint
language plpgsql as $$
declare
    deleted bigint;
begin
    -- Who is writing a snapshot ends first, who comes later finds the result gone and adds it again.
    lock table check_results in share row exclusive mode;
    delete from check_results c
    where not exists (select from (select unnest(results) as result_id from snapshots) s where s.result_id = c.result_id)
      and not exists (select from carried_checks k where k.result_id = c.result_id);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
comment on function delete_orphan_check_results() is 'Deletes check results that no snapshot refers to. Returns how many.';

create or replace function count_orphan_sightings() returns bigint
language plpgsql stable as $$
begin
    return (
        select count(*) from sightings s
        where not exists (select from events e where e.event_key = s.event_key and e.created_day = s.created_day)
           or not exists (select from relay_urls r where r.relay_id = s.relay_id)
    );
end $$;
comment on function count_orphan_sightings() is 'Sightings whose event or relay is gone: 0 in a sound archive.';

-- ---------------------------------------------------------------------------------------------------------------
-- The finder: which relays events name, who named them, and which of them answer
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists named_relays (
    name_id        integer generated always as identity primary key,
    url            text not null,
    network        text not null,
    host           text not null,
    domain         text not null,
    times          bigint not null,
    first_named_at bigint not null,
    first_event    bytea,
    first_author   bytea,
    first_source   text not null,
    last_named_at  bigint not null,
    authors        bytea[] not null,
    tries          integer not null default 0,
    last_try_at    bigint,
    charged_to     bytea,
    next_try_at    bigint,
    reason         text,
    answered_at    bigint,
    dropped_at     bigint,
    constraint named_relays_url_key unique (url),   -- what is known of a name
    constraint named_relays_url_length check (octet_length(url) between 1 and 255),
    constraint named_relays_network_check check (network in ('clearnet', 'tor', 'i2p', 'loki')),
    constraint named_relays_authors_length check (cardinality(authors) between 1 and 16)
);
comment on table named_relays is 'Every relay that an event or a list of the operator named, in its stored form: relays, candidates, and names that never answered. Query relay_provenance and relay_candidates instead.';
comment on column named_relays.name_id is 'Short key of the name.';
comment on column named_relays.url is 'Normalised WebSocket URL, as in relays.url.';
comment on column named_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column named_relays.host is 'Host and port: at most 16 names with a path on one, since a server may answer on any.';
comment on column named_relays.domain is 'Registrable domain, network of an address, or tor: names under one share a budget of tries.';
comment on column named_relays.times is 'How many events and lists have named it.';
comment on column named_relays.first_named_at is 'When it was first named, Unix seconds, by created_at of the event: authors may lie.';
comment on column named_relays.first_event is 'Id of that event, 32 bytes; null for a list.';
comment on column named_relays.first_author is 'Public key of its author, 32 bytes; null for a list.';
comment on column named_relays.first_source is 'Where the name stood: relay_list, e_hint, monitor, … (src/nostr/relay-hints.ts), or list.';
comment on column named_relays.last_named_at is 'When it was last named, Unix seconds, by created_at; never later than when that was read.';
comment on column named_relays.authors is 'Different authors in the order in which their events were read: the first 16. An empty one stands for the lists of the operator.';
comment on column named_relays.tries is 'How often it was asked without an answer, plus one when it answered.';
comment on column named_relays.last_try_at is 'When it was last asked, Unix seconds.';
comment on column named_relays.charged_to is 'The author whose hourly budget the latest try was taken from.';
comment on column named_relays.next_try_at is 'When it is asked next, Unix seconds; null when it is no candidate (any more).';
comment on column named_relays.reason is 'Why the latest try failed; null when it did not.';
comment on column named_relays.answered_at is 'When the finder found that it is a relay, Unix seconds; null when it was one already, or has not answered.';
comment on column named_relays.dropped_at is 'When it was given up, Unix seconds: only a new author, or 90 days, give it another chance.';

-- Candidates that are due: where next_try_at <= $1
create index if not exists named_relays_next_try_at_index on named_relays (next_try_at) where next_try_at is not null;
-- Tries of the last hour, for the budgets: where last_try_at > $1
create index if not exists named_relays_last_try_at_index on named_relays (last_try_at) where last_try_at is not null;
-- Candidates that one author brought: where authors[1] = $1
create index if not exists named_relays_first_heard_index on named_relays ((authors[1])) where next_try_at is not null;
-- Names on one host: where host = $1
create index if not exists named_relays_host_index on named_relays (host);
-- Relays found under each domain: where answered_at is not null group by domain
create index if not exists named_relays_answered_index on named_relays (domain) where answered_at is not null;
-- Names that were dropped the longest ago: where dropped_at is not null order by dropped_at
create index if not exists named_relays_dropped_at_index on named_relays (dropped_at) where dropped_at is not null;

create or replace view relay_candidates as
select
    n.url as relay_url, n.network, n.first_named_at, n.first_author, n.first_source, n.last_named_at, n.times,
    cardinality(array_remove(n.authors, ''::bytea)) as authors,
    n.tries, n.last_try_at, n.reason, n.next_try_at
from named_relays n
where n.next_try_at is not null and not exists (select from relays r where r.url = n.url)
order by n.next_try_at, n.url;
comment on view relay_candidates is 'Names that may be relays and have not answered yet, in the order in which they are due.';
comment on column relay_candidates.relay_url is 'Normalised WebSocket URL.';
comment on column relay_candidates.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column relay_candidates.first_named_at is 'When it was first named, Unix seconds, by created_at of the event: authors may lie.';
comment on column relay_candidates.first_author is 'Public key of the author of that event, 32 bytes; null for a list of the operator.';
comment on column relay_candidates.first_source is 'Where the name stood: relay_list, e_hint, monitor, …, or list.';
comment on column relay_candidates.last_named_at is 'When it was last named, Unix seconds, by created_at.';
comment on column relay_candidates.times is 'How many events and lists have named it.';
comment on column relay_candidates.authors is 'By how many different authors; 16 means 16 or more.';
comment on column relay_candidates.tries is 'How often it was asked in vain.';
comment on column relay_candidates.last_try_at is 'When it was last asked, Unix seconds.';
comment on column relay_candidates.reason is 'Why it did not answer.';
comment on column relay_candidates.next_try_at is 'When it is asked next, Unix seconds: when there is room in the hourly budgets.';

create or replace view relay_provenance as
select
    n.url as relay_url, n.network,
    case when r.relay_id is not null then 'relay' when n.dropped_at is not null then 'dropped' else 'candidate' end as state,
    n.first_named_at, n.first_author, n.first_source, n.first_event, n.last_named_at, n.times,
    cardinality(array_remove(n.authors, ''::bytea)) as authors, ''::bytea = any (n.authors) as listed,
    r.inserted_at, n.answered_at
from named_relays n
left join relays r on r.url = n.url;
comment on view relay_provenance is 'Who named a relay first, by its own word, and how many did: relays, candidates and names that were given up. A relay that only the seed file names is not here.';
comment on column relay_provenance.relay_url is 'Normalised WebSocket URL.';
comment on column relay_provenance.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column relay_provenance.state is 'relay, candidate (it has not answered yet) or dropped (it never did).';
comment on column relay_provenance.first_named_at is 'When it was first named, Unix seconds, by created_at of the event: authors may lie.';
comment on column relay_provenance.first_author is 'Public key of the author of that event, 32 bytes; null for a list of the operator.';
comment on column relay_provenance.first_source is 'Where the name stood: relay_list, e_hint, monitor, …, or list.';
comment on column relay_provenance.first_event is 'Id of that event, 32 bytes; null for a list.';
comment on column relay_provenance.last_named_at is 'When it was last named, Unix seconds, by created_at.';
comment on column relay_provenance.times is 'How many events and lists have named it.';
comment on column relay_provenance.authors is 'By how many different authors; 16 means 16 or more.';
comment on column relay_provenance.listed is 'Whether a list of the operator names it (FINDER_URLS).';
comment on column relay_provenance.inserted_at is 'When it became a relay of the archive, Unix seconds.';
comment on column relay_provenance.answered_at is 'When the finder found that it answers, Unix seconds; null when it was known already.';

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
comment on view relay_aliases is 'Relays that seem to be one under several URLs: the same NIP-11 document, with a key in it, and nine tenths of the newest events. Each is shown beside the one known first. Nothing is merged: what looks the same may be a mirror.';
comment on column relay_aliases.relay_url is 'The URL that was known first (relays.url).';
comment on column relay_aliases.alias_url is 'The other URL.';
comment on column relay_aliases.pubkey is 'The key in the document of both.';
comment on column relay_aliases.same_address is 'Whether the latest check of each found the same address; null where one found none. Behind several addresses it may differ.';
comment on column relay_aliases.events_compared is 'Events held by either: the newest hundred of each, from the newest that both could hold.';
comment on column relay_aliases.events_shared is 'Those of them that both hold.';

-- ---------------------------------------------------------------------------------------------------------------
-- Claims
-- ---------------------------------------------------------------------------------------------------------------

-- Which process works on which relay, over any number of hosts.
create sequence if not exists claim_token_sequence;
comment on sequence claim_token_sequence is 'Fencing tokens (claims.token): each claim gets a higher one than every claim before it.';
-- They begin with the time in microseconds: where an archive takes the place of another, no process holds a token of this one.
do $$
begin
    perform setval('claim_token_sequence', greatest(last_value, unix_now() * 1000000))
    from claim_token_sequence;
end $$;

create table if not exists claims (
    work     text not null,
    relay_id integer not null,
    holder   text not null,
    token    bigint not null,
    since    bigint not null,
    until    bigint not null,
    constraint claims_pkey primary key (work, relay_id),
    constraint claims_work_check check (work in ('visit', 'check', 'try', 'sources'))
) with (fillfactor = 50);   -- each row is renewed every 20 s: its versions stay on their page
comment on table claims is 'Which process works on which relay: one holder a relay and kind of work, over all hosts. claimed_relays shows it by URL.';
comment on column claims.work is 'visit: a synchronizer or the priority synchronizer visits the relay, or follows it live; check: the monitor checks it; try: the finder asks it whether it is a relay; sources: the finder reads lists of relays and the reports of other monitors.';
comment on column claims.relay_id is 'The relay (relays.relay_id); of a try the name (named_relays.name_id); of sources a hash of their URLs: finders that read the same ones share a claim.';
comment on column claims.holder is 'The process that works on it: host, process id and a random part.';
comment on column claims.token is 'Fencing token: what rests on the claim is written only while the row has the token of the writer (holds_claim).';
comment on column claims.since is 'When the holder took it, Unix seconds.';
comment on column claims.until is 'End of the lease, Unix seconds by the clock of the database: from then on another process may take the claim. Renewed three times in a lease. A visit claim with an ended lease makes its relay due at once: its holder stopped while it visited or followed it.';

create or replace function is_lease_valid(p_until bigint) returns boolean
language sql stable parallel safe
return p_until between unix_now() and unix_now() + 7200;
comment on function is_lease_valid(bigint) is 'Whether a lease (claims.until) has not ended. One that lies further ahead than any lease was noted while the clock was wrong.';

create or replace function take_claims(p_work text, p_relay_ids integer[], p_holder text, p_lease integer)
returns table (relay_id integer, token bigint)
language plpgsql volatile as $$
#variable_conflict use_column
begin
    return query
    with ended as (
        -- A holder that writes under its claim at this moment has it locked (holds_claim): that one is skipped.
        select c.relay_id
        from claims c
        where c.work = p_work and c.relay_id = any (p_relay_ids) and (not is_lease_valid(c.until) or c.holder = p_holder)
        order by c.relay_id
        for update skip locked
    ), taken as (
        update claims c
        set holder = p_holder, token = nextval('claim_token_sequence'), since = unix_now(), until = unix_now() + p_lease
        from ended
        where c.work = p_work and c.relay_id = ended.relay_id
        returning c.relay_id, c.token
    ), added as (
        insert into claims (work, relay_id, holder, token, since, until)
        select p_work, wanted.id, p_holder, nextval('claim_token_sequence'), unix_now(), unix_now() + p_lease
        from (select distinct id from unnest(p_relay_ids) id order by id) wanted
        where not exists (select from claims c where c.work = p_work and c.relay_id = wanted.id)
        on conflict do nothing
        returning relay_id, token
    )
    select taken.relay_id, taken.token from taken
    union all
    select added.relay_id, added.token from added;
end $$;
comment on function take_claims(text, integer[], text, integer) is 'Claims relays for a holder, each for a lease of p_lease seconds: those that nobody holds, that the holder holds already, and whose lease has ended. Returns the claimed ones with their fencing tokens; the others are held by another process.';

create or replace function holds_claim(p_work text, p_relay_id integer, p_token bigint) returns boolean
language plpgsql volatile as $$
begin
    if p_token is null then
        return true;
    end if;
    -- "for key share" makes a take-over wait for the end of this transaction, and the renewal of the lease not.
    perform from claims c where c.work = p_work and c.relay_id = p_relay_id and c.token = p_token for key share;
    return found;
end $$;
comment on function holds_claim(text, integer, bigint) is 'Whether a claim still has this fencing token, in the transaction that writes what rests on it: nobody takes the claim over until that has ended. True without a token: commands of an operator need no claim.';

create or replace function begin_visit(
    p_relay_id integer, p_filter_id integer, p_since bigint, p_until bigint, p_overlap bigint, p_reprove bigint,
    p_is_part boolean, p_token bigint
) returns jsonb
language plpgsql as $$
declare
    now_at   constant bigint := unix_now();
    slack    constant bigint := 3600;    -- a clock that is wrong by less goes unnoticed
    wanted   constant int8multirange := int8range(p_since, p_until + 1)::int8multirange;
    soon     constant bigint := now_at + 3600;   -- events that expire before that need not be shown (src/nostr/transient.ts)
    is_whole constant boolean := (select filter = '{}' from filters where filter_id = p_filter_id);
begin
    if not holds_claim('visit', p_relay_id, p_token) then
        return null;
    end if;
    insert into visits (relay_id, filter_id, wanted, started_at, is_part)
    values (p_relay_id, p_filter_id, int8range(p_since, p_until + 1), now_at, p_is_part)
    on conflict (relay_id, filter_id) do update
    set wanted = excluded.wanted, started_at = excluded.started_at, ended_at = null, outcome = null, detail = null,
        stop_reason = null, is_part = visits.is_part and excluded.is_part;
    -- Coverage of the future was recorded while the clock was wrong; coverage by silence is asked for in each visit.
    update coverage
    set covered = covered * int8range(null, greatest(now_at, p_until) + 1)::int8multirange
    where relay_id = p_relay_id and filter_id = p_filter_id and evidence <> 'silence' and proven_at <= now_at + slack
        and upper(covered) > greatest(now_at, p_until) + 1;
    delete from coverage
    where relay_id = p_relay_id and filter_id = p_filter_id and (evidence = 'silence' or proven_at > now_at + slack);
    return (
        with proven as (
            select coalesce(range_agg(covered), '{}') as covered,
                   coalesce(range_agg(covered) filter (
                       where proven_at < now_at - p_reprove * (0.75 + mod(p_relay_id * 7919::bigint, 512) / 1024.0)
                   ), '{}') as old
            from coverage where relay_id = p_relay_id and filter_id = p_filter_id
        ), settled as (
            select covered * int8range(null, upper(covered) - p_overlap)::int8multirange as covered, old from proven
        ), tried as (
            select coalesce(range_agg(stretch), '{}') as in_vain from holes
            where relay_id = p_relay_id and filter_id = p_filter_id
                and noted_at between now_at - p_reprove + 1 and now_at + slack
        ), gaps as (
            select gap, false as stale from settled, tried, unnest(wanted - covered - in_vain) gap
            union all
            select gap, true from settled, unnest(wanted * covered * old) gap
            union all
            select gap, null
            from proven, holes, unnest(wanted * stretch::int8multirange - covered) gap
            where relay_id = p_relay_id and filter_id = p_filter_id and reason = 'unanswered'
        )
        select coalesce(jsonb_agg(jsonb_build_object(
            'since', lower(gap), 'until', upper(gap) - 1, 'stale', stale,
            'anchor', case when is_whole then
                newest_lasting_sighting(p_relay_id, 0, lower(gap) - 1, soon) >> 24
            end,
            'known', case when is_whole then
                newest_lasting_sighting(p_relay_id, lower(gap), upper(gap) - 1, soon) >> 24
            end
        ) order by lower(gap) desc), '[]')
        from gaps
    );
end $$;
comment on function begin_visit is 'Notes the beginning of a visit and returns the gaps that it has to read (an array of {since, until, anchor, known, stale}; stale: null for holes that the relay lists and gave no answer for); null where another process holds the relay. One statement, whose plans are kept: a visit with nothing to read consists of little else.';

create or replace view claimed_relays as
select
    c.work, coalesce(r.url, n.url) as relay_url, c.holder, c.since, c.until, is_lease_valid(c.until) as is_valid
from claims c
left join relays r on c.work in ('visit', 'check') and r.relay_id = c.relay_id
left join named_relays n on c.work = 'try' and n.name_id = c.relay_id;
comment on view claimed_relays is 'Who holds which relay, and since when.';
comment on column claimed_relays.work is 'visit, check, try or sources.';
comment on column claimed_relays.relay_url is 'Normalised WebSocket URL; null of sources.';
comment on column claimed_relays.holder is 'The process: host, process id and a random part.';
comment on column claimed_relays.since is 'When it took the claim, Unix seconds.';
comment on column claimed_relays.until is 'When the lease ends unless it is renewed, Unix seconds.';
comment on column claimed_relays.is_valid is 'Whether the lease has not ended: false where the holder stopped working and nobody else has taken the relay yet.';

-- ---------------------------------------------------------------------------------------------------------------
-- Figures: kept by the refresher, which recounts each day of created_at that the journal names (docs/figures.md)
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists authors (
    author_id integer generated always as identity primary key,
    pubkey    bytea not null,
    constraint authors_pubkey_key unique (pubkey),   -- the short key of a public key
    constraint authors_pubkey_length check (octet_length(pubkey) = 32)
);
comment on table authors is 'A short key for each public key that figures count: authors of events, and those whom they follow or zap. Rows stay when the last event of an author is deleted.';
comment on column authors.author_id is 'Short key, used by the tables of figures.';
comment on column authors.pubkey is 'Public key, 32 bytes.';

-- An author by the hex form in which views show keys: where pubkey_counts.pubkey = $1
create index if not exists authors_hex_index on authors using hash (encode(pubkey, 'hex'));

create table if not exists dirty_days (
    day        integer primary key,
    since      bigint not null,
    marked_at  bigint not null default unix_now(),
    marks      bigint not null default 1,
    is_rebuild boolean not null default false,
    claim      bigint not null default 0
);
comment on table dirty_days is 'Days whose events or sightings changed since they were counted. The refresher recounts them, the present day first.';
comment on column dirty_days.day is 'UTC day of created_at, in days since 1970-01-01 (event_key_day).';
comment on column dirty_days.since is 'When the first change began that is not counted yet, Unix seconds.';
comment on column dirty_days.marked_at is 'When the latest change was read from the journal, Unix seconds.';
comment on column dirty_days.marks is 'How often it was marked. A recount removes the row only if nothing was marked since it began.';
comment on column dirty_days.is_rebuild is 'Whether current events, edges and zaps of the day are to be made anew too (npm run refresher -- --rebuild).';
comment on column dirty_days.claim is 'The transaction (pg_current_xact_id) that began its latest recount; 0: none. What an earlier one has counted is not applied any more.';

create or replace function network_scope(p_network text) returns integer
language sql immutable parallel safe
return case p_network when 'clearnet' then -1 when 'tor' then -2 when 'i2p' then -3 else -4 end;
comment on function network_scope(text) is 'The scope (scope_stats.scope) of all relays of a network together.';

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

create table if not exists daily_counts (
    day        integer not null,
    part       integer not null,
    parts      integer not null,
    author_ids integer[] not null,
    scopes     integer[] not null,
    kinds      integer[] not null,
    counts     integer[] not null,
    places     bytea not null,
    constraint daily_counts_pkey primary key (day, part)   -- what was counted of a day
);
comment on table daily_counts is 'What was counted of a day, in parts by author: its events by scope, author and kind, packed into arrays. The totals of scope_stats, scope_kinds and scope_authors are the sums of these rows: a recount changes them by the difference. Query daily_authors instead.';
comment on column daily_counts.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_counts.part is 'Part of the day: the authors whose author_id % parts it is.';
comment on column daily_counts.parts is 'Number of parts of the day, a power of two: about one for each 8,192 events.';
comment on column daily_counts.author_ids is 'Authors of the part (authors.author_id), ascending.';
comment on column daily_counts.scopes is 'What is counted (scope_stats.scope), once for each author and kind.';
comment on column daily_counts.kinds is 'Kinds, in the order of scopes.';
comment on column daily_counts.counts is 'Events of that scope, author and kind, in the same order. Sorted by scope, kind and this, so that the three arrays are compressed to next to nothing.';
comment on column daily_counts.places is 'The author of each, as place_bytes: by how much its place in author_ids is above that of the cell before, modulo their number. places_of reads them: a byte for most.';

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

create table if not exists daily_scopes (
    scope     integer not null,
    day       integer not null,
    events    integer not null,
    only_here integer not null,
    first_at  bigint not null,
    last_at   bigint not null,
    constraint daily_scopes_pkey primary key (scope, day)   -- the first and the last day of a scope
);
comment on table daily_scopes is 'Events by day and scope. Query daily_relays instead.';
comment on column daily_scopes.scope is 'What is counted (scope_stats.scope).';
comment on column daily_scopes.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_scopes.events is 'Events of that day.';
comment on column daily_scopes.only_here is 'Of a relay: events that were seen on no other. Otherwise 0.';
comment on column daily_scopes.first_at is 'created_at of the first of them, Unix seconds.';
comment on column daily_scopes.last_at is 'created_at of the last of them, Unix seconds.';

create table if not exists scope_stats (
    scope     integer primary key,
    events    bigint not null,
    only_here bigint not null,
    authors   bigint not null,
    kinds     integer not null,
    first_at  bigint not null,
    last_at   bigint not null
);
comment on table scope_stats is 'Totals of the whole archive, of each network and of each relay. Query event_stats, network_stats and relay_stats instead.';
comment on column scope_stats.scope is 'What is counted: 0 is the whole archive, relays.relay_id a relay, below 0 a network (network_scope): each event once, however many of its relays hold it.';
comment on column scope_stats.events is 'Events.';
comment on column scope_stats.only_here is 'Of a relay: events that were seen on no other. Otherwise 0.';
comment on column scope_stats.authors is 'Authors of these events.';
comment on column scope_stats.kinds is 'Different kinds of these events.';
comment on column scope_stats.first_at is 'created_at of the first of them, Unix seconds.';
comment on column scope_stats.last_at is 'created_at of the last of them, Unix seconds.';

create table if not exists scope_kinds (
    scope   integer not null,
    kind    integer not null,
    events  bigint not null,
    authors bigint not null,
    constraint scope_kinds_pkey primary key (scope, kind)   -- the kinds of a scope
);
comment on table scope_kinds is 'Totals by kind. Query kind_counts and kind_counts_by_relay instead.';
comment on column scope_kinds.scope is 'What is counted (scope_stats.scope).';
comment on column scope_kinds.kind is 'Kind of event.';
comment on column scope_kinds.events is 'Events of that kind.';
comment on column scope_kinds.authors is 'Authors of events of that kind.';

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

create table if not exists scope_authors (
    scope     integer not null,
    author_id integer not null,
    events    bigint not null,
    first_at  bigint,
    last_at   bigint,
    kinds     bytea not null,
    constraint scope_authors_pkey primary key (scope, author_id)   -- the figures of an author
);
comment on table scope_authors is 'Totals by author. Query pubkey_counts and pubkey_counts_by_relay instead.';
comment on column scope_authors.scope is 'What is counted (scope_stats.scope).';
comment on column scope_authors.author_id is 'The author (authors.author_id).';
comment on column scope_authors.events is 'Events of that author.';
comment on column scope_authors.first_at is 'created_at of the first of them, Unix seconds. Null while the days that have it wait for a recount.';
comment on column scope_authors.last_at is 'created_at of the last of them, Unix seconds. Null likewise.';
comment on column scope_authors.kinds is 'Kinds of these events, ascending, and the events of each: a byte that says how many bytes each number of events has (1, 2 or 4), then two bytes for a kind and these, the highest first. kinds_of reads them; arrays would take four times the space.';

-- The authors with the most events: where scope = $1 order by events desc
create index if not exists scope_authors_events_index on scope_authors (scope, events);

create table if not exists daily_kinds (
    day           integer not null,
    kind          integer not null,
    events        integer not null,
    authors       integer not null,
    content_bytes bigint not null,
    constraint daily_kinds_pkey primary key (day, kind)   -- the kinds of a day
);
comment on table daily_kinds is 'Events by day and kind.';
comment on column daily_kinds.day is 'UTC day of created_at, in days since 1970-01-01: date ''1970-01-01'' + day.';
comment on column daily_kinds.kind is 'Kind of event.';
comment on column daily_kinds.events is 'Events of that kind.';
comment on column daily_kinds.authors is 'Their authors.';
comment on column daily_kinds.content_bytes is 'Size of their contents in UTF-8, bytes.';

-- A kind over time: where kind = $1 order by day
create index if not exists daily_kinds_kind_day_index on daily_kinds (kind, day);

create table if not exists daily_replication (
    day    integer not null,
    relays integer not null,
    events integer not null,
    constraint daily_replication_pkey primary key (day, relays)   -- the replication of a day
);
comment on table daily_replication is 'On how many relays the events of a day were seen.';
comment on column daily_replication.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_replication.relays is 'Number of relays. 0: the relays of the event were removed from the archive.';
comment on column daily_replication.events is 'Events that were seen on exactly that many relays.';

create table if not exists replication_totals (
    relays integer primary key,
    events bigint not null
);
comment on table replication_totals is 'Sums of daily_replication over all days. Query replication instead.';
comment on column replication_totals.relays is 'Number of relays.';
comment on column replication_totals.events is 'Events that were seen on exactly that many relays.';

create table if not exists day_sums (
    day        integer primary key,
    events     integer not null,
    authors    integer not null,
    kinds      integer not null,
    id_sum     numeric(78, 0) not null,
    counted_at bigint not null
);
comment on table day_sums is 'Each day that has events, in one row.';
comment on column day_sums.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column day_sums.events is 'Events of that day.';
comment on column day_sums.authors is 'Their authors.';
comment on column day_sums.kinds is 'Their different kinds.';
comment on column day_sums.id_sum is 'Sum of their ids modulo 2^256, ids read as little-endian numbers: with the number of events it gives the fingerprint of NIP-77. Sums of days are added modulo 2^256.';
comment on column day_sums.counted_at is 'When the day was counted last, Unix seconds.';

create table if not exists recent_events (
    only_row   boolean primary key default true,
    counted_at bigint not null,
    last_hour  bigint not null,
    last_day   bigint not null,
    last_week  bigint not null,
    last_month bigint not null,
    constraint recent_events_only_row check (only_row)
);
comment on table recent_events is 'Events of the latest hour, day, week and 30 days, counted every minute. Query event_stats instead.';
comment on column recent_events.only_row is 'True: the table has one row.';
comment on column recent_events.counted_at is 'The moment from which they are counted back, Unix seconds.';
comment on column recent_events.last_hour is 'Events created within 3,600 seconds before, or dated after it.';
comment on column recent_events.last_day is 'Events created within 86,400 seconds before, or dated after it.';
comment on column recent_events.last_week is 'Events created within 7 days before, or dated after it.';
comment on column recent_events.last_month is 'Events created within 30 days before, or dated after it.';

create or replace function figures_as_of() returns bigint
language sql stable
return least(
    unix_now(),
    (select min(since) - 1 from dirty_days),
    (
        select j.written_at - 1
        from journal_readers r join journal j on (j.xid, j.batch_id) > (r.xid, r.batch_id)
        where r.name = 'refresher'
        order by j.xid, j.batch_id limit 1
    )
);
comment on function figures_as_of() is 'Everything that was stored or deleted until then is counted, Unix seconds: before the oldest change that is not. What came later may be counted already.';

create or replace function mark_all_days() returns bigint
language sql as $$
    with marked as (
        insert into dirty_days (day, since, is_rebuild)
        select day, 0, true from days order by day
        on conflict (day) do update set marks = dirty_days.marks + 1, is_rebuild = true, since = 0
        returning day
    )
    select count(*) from marked
$$;
comment on function mark_all_days() is 'Marks every day for which events were stored for a recount, and its current events, edges and zaps to be made anew. Returns how many.';

create or replace function event_d_key(p_kind integer, p_tags jsonb) returns text
language sql stable
return case when p_kind between 30000 and 39999 then (
    select case when octet_length(d) > 64 then 'sha256:' || encode(sha256(convert_to(d, 'UTF8')), 'hex') else d end
    from (
        select coalesce((
            select tag ->> 1 from jsonb_array_elements(p_tags) with ordinality as t (tag, place)
            where tag ->> 0 = 'd' order by place limit 1
        ), '') as d
    ) first
) else '' end;
comment on function event_d_key(integer, jsonb) is 'What tells addressable events of one author and kind apart (NIP-01): the value of the first tag d, empty if there is none, its SHA-256 above 64 bytes. Empty for other kinds.';

create or replace function hex_key(p_text text) returns bytea
language sql immutable parallel safe
return case when p_text ~ '^[0-9a-f]{64}$' then decode(p_text, 'hex') end;
comment on function hex_key(text) is 'The 32 bytes of an id or key in lower-case hex (NIP-01); null for any other text.';

create table if not exists current_events (
    author_id integer not null,
    kind      integer not null,
    d_key     text not null,
    event_key bigint not null,
    constraint current_events_pkey primary key (author_id, kind, d_key)   -- the current event of an address
);
comment on table current_events is 'The current replaceable and addressable events (NIP-01): the newest, of two of one second the one with the lower id. When it is deleted the one before is current again. Query events_replaceable_latest and events_addressable_latest instead.';
comment on column current_events.author_id is 'Author (authors.author_id).';
comment on column current_events.kind is 'Kind of event.';
comment on column current_events.d_key is 'Value of the tag d of addressable events, or its hash (event_d_key).';
comment on column current_events.event_key is 'The event (events.event_key).';

-- The current events of a stretch of time: where event_key between $1 and $2
create index if not exists current_events_event_key_index on current_events (event_key);
-- The current events of a kind: where kind = $1
create index if not exists current_events_kind_index on current_events (kind);

create table if not exists follow_edges (
    follower_id integer not null,
    followed_id integer not null,
    constraint follow_edges_pkey primary key (follower_id, followed_id)   -- whom an author follows
);
comment on table follow_edges is 'Who follows whom, by the current follow list (kind 3, NIP-02). Query follows instead: it has the keys.';
comment on column follow_edges.follower_id is 'Author of the list (authors.author_id).';
comment on column follow_edges.followed_id is 'Whom it names in a tag p (authors.author_id).';

-- The followers of an author: where followed_id = $1
create index if not exists follow_edges_followed_index on follow_edges (followed_id, follower_id);

create table if not exists relay_list_edges (
    author_id integer not null,
    relay_url text not null,
    reads     boolean not null,
    writes    boolean not null,
    constraint relay_list_edges_pkey primary key (author_id, relay_url)   -- the relays of an author
);
comment on table relay_list_edges is 'Which relays authors say they use, by their current relay list (kind 10002, NIP-65). Query relay_lists instead: it has the keys.';
comment on column relay_list_edges.author_id is 'Author of the list (authors.author_id).';
comment on column relay_list_edges.relay_url is 'Normalised URL, as in relays.url; the archive need not know the relay. Texts that are no relay URL are left out.';
comment on column relay_list_edges.reads is 'Whether the author reads there: marked read, or not marked.';
comment on column relay_list_edges.writes is 'Whether the author writes there: marked write, or not marked.';

-- The authors that name a relay: where relay_url = $1
create index if not exists relay_list_edges_relay_url_index on relay_list_edges (relay_url);

create table if not exists relay_list_totals (
    relay_url text primary key,
    authors   bigint not null,
    readers   bigint not null,
    writers   bigint not null
);
comment on table relay_list_totals is 'Sums of relay_list_edges by relay. Query relay_distribution instead.';
comment on column relay_list_totals.relay_url is 'Normalised URL.';
comment on column relay_list_totals.authors is 'Authors that name the relay.';
comment on column relay_list_totals.readers is 'Those that read there.';
comment on column relay_list_totals.writers is 'Those that write there.';

create table if not exists zaps (
    event_key    bigint primary key,
    sender_id    integer,
    recipient_id integer,
    target       bytea,
    millisats    bigint
);
comment on table zaps is 'Zap receipts (kind 9735, NIP-57), as they say: neither the payment nor the signature of the request is checked.';
comment on column zaps.event_key is 'The receipt (events.event_key).';
comment on column zaps.sender_id is 'Who zapped: the author of the zap request in the tag description, or the tag P (authors.author_id); null where neither is there.';
comment on column zaps.recipient_id is 'Who was zapped: the tag p (authors.author_id); null without one.';
comment on column zaps.target is 'Id of the event that was zapped: the tag e, 32 bytes; null for zaps of a person.';
comment on column zaps.millisats is 'Amount of the invoice in the tag bolt11, thousandths of a satoshi; null where it names none.';

-- What an author received: where recipient_id = $1
create index if not exists zaps_recipient_index on zaps (recipient_id);

create table if not exists daily_zaps (
    day        integer primary key,
    zaps       integer not null,
    senders    integer not null,
    recipients integer not null,
    millisats  numeric not null
);
comment on table daily_zaps is 'Zaps by day.';
comment on column daily_zaps.day is 'UTC day of created_at of the receipts, in days since 1970-01-01.';
comment on column daily_zaps.zaps is 'Receipts.';
comment on column daily_zaps.senders is 'Different senders.';
comment on column daily_zaps.recipients is 'Different recipients.';
comment on column daily_zaps.millisats is 'Sum of their amounts, thousandths of a satoshi.';

create or replace function period_start(p_grain text, p_day integer) returns integer
language sql immutable parallel safe
return case p_grain
    when 'day' then p_day
    when 'week' then p_day - (p_day + 3) % 7
    else date_trunc('month', (date '1970-01-01' + p_day)::timestamp)::date - date '1970-01-01'
end;
comment on function period_start(text, integer) is 'First day of the day, week (from Monday) or month that has a day, in days since 1970-01-01.';

create or replace function period_end(p_grain text, p_start integer) returns integer
language sql immutable parallel safe
return case p_grain
    when 'day' then p_start + 1
    when 'week' then p_start + 7
    else ((date '1970-01-01' + p_start)::timestamp + interval '1 month')::date - date '1970-01-01'
end;
comment on function period_end(text, integer) is 'First day after a period, in days since 1970-01-01.';

create table if not exists dirty_periods (
    grain text not null,
    start integer not null,
    since bigint not null default unix_now(),
    marks bigint not null default 1,
    constraint dirty_periods_pkey primary key (grain, start)
);
comment on table dirty_periods is 'Days, weeks and months whose active users are to be counted again.';
comment on column dirty_periods.grain is 'day, week or month.';
comment on column dirty_periods.start is 'Its first day, in days since 1970-01-01.';
comment on column dirty_periods.since is 'Since when its users are not counted as the days are, Unix seconds.';
comment on column dirty_periods.marks is 'How often it was marked. A recount removes the row only if nothing was marked since it began.';

create table if not exists period_users (
    grain        text not null,
    start        integer not null,
    before       integer not null,
    users        bigint not null,
    new_users    bigint not null,
    with_profile bigint not null,
    with_follows bigint not null,
    counted_at   bigint not null,
    constraint period_users_pkey primary key (grain, start)
);
comment on table period_users is 'Authors of days, weeks and months. Query active_users instead.';
comment on column period_users.grain is 'day, week (from Monday) or month.';
comment on column period_users.start is 'Its first day, in days since 1970-01-01.';
comment on column period_users.before is 'The first day after it.';
comment on column period_users.users is 'Authors of events of that time.';
comment on column period_users.new_users is 'Those whose first event is of that time.';
comment on column period_users.with_profile is 'Those of whom the archive has a profile (kind 0), of any time.';
comment on column period_users.with_follows is 'Those of whom the archive has a follow list (kind 3), of any time.';
comment on column period_users.counted_at is 'When they were counted, Unix seconds.';

create table if not exists cohorts (
    week        integer not null,
    cohort_week integer not null,
    users       bigint not null,
    constraint cohorts_pkey primary key (week, cohort_week)
);
comment on table cohorts is 'Authors of each week, by the week of their first event. Query retention instead.';
comment on column cohorts.week is 'First day of the week (Monday), in days since 1970-01-01.';
comment on column cohorts.cohort_week is 'First day of the week of their first event.';
comment on column cohorts.users is 'Authors of events of that week.';

create table if not exists daily_samples (
    day    integer not null,
    relays integer[] not null,
    events integer not null,
    constraint daily_samples_pkey primary key (day, relays)
);
comment on table daily_samples is 'Of the events of a day whose id begins with the hex digits 00, a 256th of all: on which relays they were seen.';
comment on column daily_samples.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_samples.relays is 'Relays (relays.relay_id), ascending.';
comment on column daily_samples.events is 'Sampled events that were seen on exactly these relays.';

create table if not exists cover_ranks (
    rank       integer primary key,
    relay_id   integer not null,
    new_events bigint not null,
    covered    bigint not null,
    sampled    bigint not null,
    as_of      bigint not null
);
comment on table cover_ranks is 'Relays in the order in which each adds the most sampled events to those before it. Query relay_cover instead.';
comment on column cover_ranks.rank is '1 is the relay with the most events.';
comment on column cover_ranks.relay_id is 'The relay (relays.relay_id).';
comment on column cover_ranks.new_events is 'Sampled events on it that none of the relays before it has.';
comment on column cover_ranks.covered is 'Sampled events that it or one of the relays before it has.';
comment on column cover_ranks.sampled is 'Sampled events on any relay.';
comment on column cover_ranks.as_of is 'Everything that was stored until then is counted, Unix seconds.';

create table if not exists daily_references (
    day          integer not null,
    kind         integer not null,
    target       bytea not null,
    "references" integer not null,
    constraint daily_references_pkey primary key (day, kind, target)
);
comment on table daily_references is 'References by the tag e in the events of a day, to ids that begin with the hex digits 00, a 256th of all.';
comment on column daily_references.day is 'UTC day of created_at of the events that refer, in days since 1970-01-01.';
comment on column daily_references.kind is 'Their kind.';
comment on column daily_references.target is 'The id that they refer to, 32 bytes.';
comment on column daily_references."references" is 'Events that refer to it.';

create table if not exists reference_totals (
    kind         integer primary key,
    "references" bigint not null,
    missing      bigint not null,
    as_of        bigint not null,
    sampled      integer not null default 256
);
comment on table reference_totals is 'How many of daily_references lead to events that the archive lacks. Query dangling_references instead.';
comment on column reference_totals.kind is 'Kind of the events that refer.';
comment on column reference_totals."references" is 'Sampled references.';
comment on column reference_totals.missing is 'Those to events that the archive lacks.';
comment on column reference_totals.as_of is 'Everything that was stored until then is counted, Unix seconds.';
comment on column reference_totals.sampled is 'Targets whose second byte is below this are counted, of 256: fewer where there are more than can be looked up (samples.ts).';

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

create or replace view daily_relays as
select d.day, r.relay_id, d.events, d.only_here
from relays r
join daily_scopes d on d.scope = r.relay_id;
comment on view daily_relays is 'Events by day and relay.';
comment on column daily_relays.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_relays.relay_id is 'The relay (relays.relay_id).';
comment on column daily_relays.events is 'Events of that day that were seen on it.';
comment on column daily_relays.only_here is 'Those that were seen on no other relay.';

create or replace function kind_category(p_kind integer) returns text
language sql immutable parallel safe
return case
    when p_kind in (0, 3) or p_kind between 10000 and 19999 then 'replaceable'
    when p_kind in (1, 2) or p_kind between 4 and 44 or p_kind between 1000 and 9999 then 'regular'
    when p_kind between 20000 and 29999 then 'ephemeral'
    when p_kind between 30000 and 39999 then 'addressable'
    else 'other'
end;
comment on function kind_category(integer) is 'regular, replaceable, ephemeral or addressable by NIP-01; other for kinds that it leaves open.';

create or replace view event_stats as
select
    1 as singleton_key,
    coalesce(s.events, 0) as event_count,
    coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0) as unique_kinds,
    s.first_at as earliest_event_timestamp,
    s.last_at as latest_event_timestamp,
    coalesce(k.regular, 0) as regular_event_count,
    coalesce(k.replaceable, 0) as replaceable_event_count,
    coalesce(k.ephemeral, 0) as ephemeral_event_count,
    coalesce(k.addressable, 0) as addressable_event_count,
    coalesce(r.last_hour, 0) as event_count_last_1h,
    coalesce(r.last_day, 0) as event_count_last_24h,
    coalesce(r.last_week, 0) as event_count_last_7d,
    coalesce(r.last_month, 0) as event_count_last_30d,
    round(coalesce(s.events / greatest((s.last_at - s.first_at) / 86400.0, 1), 0), 2) as events_per_day,
    r.counted_at,
    figures_as_of() as as_of
from (select 0 as scope) one
left join scope_stats s on s.scope = one.scope
left join recent_events r on r.only_row
cross join (
    select
        sum(events) filter (where kind_category(kind) = 'regular') as regular,
        sum(events) filter (where kind_category(kind) = 'replaceable') as replaceable,
        sum(events) filter (where kind_category(kind) = 'ephemeral') as ephemeral,
        sum(events) filter (where kind_category(kind) = 'addressable') as addressable
    from scope_kinds where scope = 0
) k;
comment on view event_stats is 'The whole archive in one row.';
comment on column event_stats.singleton_key is '1.';
comment on column event_stats.event_count is 'Events.';
comment on column event_stats.unique_pubkeys is 'Their authors.';
comment on column event_stats.unique_kinds is 'Their different kinds.';
comment on column event_stats.earliest_event_timestamp is 'created_at of the first event, Unix seconds.';
comment on column event_stats.latest_event_timestamp is 'created_at of the last event, Unix seconds; in the future if an author says so.';
comment on column event_stats.regular_event_count is 'Events of regular kinds (kind_category).';
comment on column event_stats.replaceable_event_count is 'Events of replaceable kinds, current or not.';
comment on column event_stats.ephemeral_event_count is 'Events of ephemeral kinds that a relay kept all the same.';
comment on column event_stats.addressable_event_count is 'Events of addressable kinds, current or not.';
comment on column event_stats.event_count_last_1h is 'Events dated within the hour before counted_at, or after it.';
comment on column event_stats.event_count_last_24h is 'Events dated within the 24 hours before counted_at, or after it.';
comment on column event_stats.event_count_last_7d is 'Events dated within the 7 days before counted_at, or after it.';
comment on column event_stats.event_count_last_30d is 'Events dated within the 30 days before counted_at, or after it.';
comment on column event_stats.events_per_day is 'Events for each day between the first and the last event.';
comment on column event_stats.counted_at is 'When the four counts of the latest hour to 30 days were made, Unix seconds.';
comment on column event_stats.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view relay_stats as
select
    r.url as relay_url,
    r.network,
    r.inserted_at as discovered_at,
    s.first_at as first_event_timestamp,
    s.last_at as last_event_timestamp,
    t.rtt_open as avg_rtt_open,
    t.rtt_read as avg_rtt_read,
    t.rtt_write as avg_rtt_write,
    coalesce(s.events, 0) as event_count,
    coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0) as unique_kinds,
    d.name as nip11_name,
    d.software as nip11_software,
    d.version as nip11_version,
    coalesce(s.only_here, 0) as only_here,
    (select figures_as_of()) as as_of
from relays r
left join scope_stats s on s.scope = r.relay_id
left join lateral (
    select round(avg(h.rtt_open), 2) as rtt_open, round(avg(h.rtt_read), 2) as rtt_read, round(avg(h.rtt_write), 2) as rtt_write
    from (
        select nip66_id from snapshots
        where relay_id = r.relay_id and nip66_id is not null order by generated_at desc limit 10
    ) latest
    join nip66 h on h.id = latest.nip66_id
) t on true
left join lateral (
    select nip11_id from snapshots
    where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
) l on true
left join nip11 d on d.id = l.nip11_id;
comment on view relay_stats is 'Each relay: what it holds, how fast it answers and what it runs.';
comment on column relay_stats.relay_url is 'URL of the relay.';
comment on column relay_stats.network is 'clearnet, tor, i2p or loki.';
comment on column relay_stats.discovered_at is 'When the relay was added (relays.inserted_at), Unix seconds.';
comment on column relay_stats.first_event_timestamp is 'created_at of the first event that was seen on it, Unix seconds; null without any.';
comment on column relay_stats.last_event_timestamp is 'created_at of the last event that was seen on it, Unix seconds; null without any.';
comment on column relay_stats.avg_rtt_open is 'Milliseconds to open, mean of the ten latest checks; null where none could be measured.';
comment on column relay_stats.avg_rtt_read is 'Milliseconds from REQ to the first answer, likewise.';
comment on column relay_stats.avg_rtt_write is 'Milliseconds from EVENT to OK, likewise.';
comment on column relay_stats.event_count is 'Events that were seen on it.';
comment on column relay_stats.unique_pubkeys is 'Their authors.';
comment on column relay_stats.unique_kinds is 'Their different kinds.';
comment on column relay_stats.nip11_name is 'Name in its latest NIP-11 document.';
comment on column relay_stats.nip11_software is 'URL of its software in that document.';
comment on column relay_stats.nip11_version is 'Version of its software in that document.';
comment on column relay_stats.only_here is 'Events that were seen on no other relay.';
comment on column relay_stats.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view kind_counts as
select k.kind, k.events as event_count, k.authors as unique_pubkeys, kind_category(k.kind) as category, (select figures_as_of()) as as_of
from scope_kinds k
where k.scope = 0;
comment on view kind_counts is 'Events by kind.';
comment on column kind_counts.kind is 'Kind of event.';
comment on column kind_counts.event_count is 'Events of that kind.';
comment on column kind_counts.unique_pubkeys is 'Their authors.';
comment on column kind_counts.category is 'regular, replaceable, ephemeral, addressable or other (kind_category).';
comment on column kind_counts.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view kind_counts_by_relay as
select k.kind, r.url as relay_url, k.events as event_count, k.authors as unique_pubkeys, (select figures_as_of()) as as_of
from scope_kinds k
join relays r on r.relay_id = k.scope;
comment on view kind_counts_by_relay is 'Events by kind and relay.';
comment on column kind_counts_by_relay.kind is 'Kind of event.';
comment on column kind_counts_by_relay.relay_url is 'URL of the relay.';
comment on column kind_counts_by_relay.event_count is 'Events of that kind that were seen on it.';
comment on column kind_counts_by_relay.unique_pubkeys is 'Their authors.';
comment on column kind_counts_by_relay.as_of is 'Everything that was stored until then is counted (figures_as_of).';

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

create or replace view network_stats as
select
    n.network, n.relay_count, coalesce(s.events, 0) as event_count, coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0)::bigint as unique_kinds, (select figures_as_of()) as as_of
from (select network, count(*) as relay_count from relays group by network) n
left join scope_stats s on s.scope = network_scope(n.network);
comment on view network_stats is 'Relays and events by network. An event counts once for a network, however many of its relays hold it.';
comment on column network_stats.network is 'clearnet, tor, i2p or loki.';
comment on column network_stats.relay_count is 'Relays of that network, whether they answer or not.';
comment on column network_stats.event_count is 'Events that were seen on one of them.';
comment on column network_stats.unique_pubkeys is 'Their authors.';
comment on column network_stats.unique_kinds is 'Their different kinds.';
comment on column network_stats.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view relay_software_counts as
select d.software, coalesce(d.version, 'unknown') as version, count(*) as relay_count, unix_now() as as_of
from relays r
cross join lateral (
    select nip11_id from snapshots
    where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
) l
join nip11 d on d.id = l.nip11_id
where d.software is not null
group by d.software, coalesce(d.version, 'unknown');
comment on view relay_software_counts is 'What relays run, by their latest NIP-11 document, whether they are up or not (relay_software: those that are up).';
comment on column relay_software_counts.software is 'URL of the software, as the relay claims.';
comment on column relay_software_counts.version is 'Version of the software; unknown where the document has none.';
comment on column relay_software_counts.relay_count is 'Relays that say they run it.';
comment on column relay_software_counts.as_of is 'The time of the query, Unix seconds: it is counted then.';

create or replace view supported_nip_counts as
select n.nip::integer as nip, count(*) as relay_count, unix_now() as as_of
from relays r
cross join lateral (
    select nip11_id from snapshots
    where relay_id = r.relay_id and nip11_id is not null order by generated_at desc limit 1
) l
join nip11 d on d.id = l.nip11_id
cross join lateral jsonb_array_elements_text(
    case jsonb_typeof(d.supported_nips) when 'array' then d.supported_nips else '[]' end
) as n (nip)
where n.nip ~ '^\d{1,9}$'
group by n.nip::integer;
comment on view supported_nip_counts is 'How many relays say that they support each NIP, by their latest NIP-11 document.';
comment on column supported_nip_counts.nip is 'Number of the NIP.';
comment on column supported_nip_counts.relay_count is 'Relays that list it. A relay that lists it twice counts twice, as in the Python original.';
comment on column supported_nip_counts.as_of is 'The time of the query, Unix seconds: it is counted then.';

create or replace view event_daily_counts as
select
    date '1970-01-01' + s.day as day, s.events as event_count, s.authors as unique_pubkeys, s.kinds as unique_kinds,
    s.counted_at, (select figures_as_of()) as as_of
from day_sums s;
comment on view event_daily_counts is 'Events by UTC day of created_at.';
comment on column event_daily_counts.day is 'The day.';
comment on column event_daily_counts.event_count is 'Events of that day.';
comment on column event_daily_counts.unique_pubkeys is 'Their authors.';
comment on column event_daily_counts.unique_kinds is 'Their different kinds.';
comment on column event_daily_counts.counted_at is 'When the day was counted last, Unix seconds.';
comment on column event_daily_counts.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view replication as
select
    t.relays, t.events, round(t.events / sum(t.events) over (), 6) as share, (select figures_as_of()) as as_of
from replication_totals t;
comment on view replication is 'On how many relays events were seen.';
comment on column replication.relays is 'Number of relays. 0: the relays of the event were removed from the archive.';
comment on column replication.events is 'Events that were seen on exactly that many relays.';
comment on column replication.share is 'Their share of all events: 1 when all are.';
comment on column replication.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view events_replaceable_latest as
select e.id, e.pubkey, e.created_at, e.kind, e.tags, e.tagvalues, e.content, e.sig
from current_events c
join events e on e.event_key = c.event_key
where c.kind < 30000;
comment on view events_replaceable_latest is 'The current replaceable event of each author and kind (NIP-01): kinds 0, 3 and 10000 to 19999. Found by key: where kind = $1, or by author through authors.';
comment on column events_replaceable_latest.id is 'Id, 32 bytes.';
comment on column events_replaceable_latest.pubkey is 'Public key of the author, 32 bytes.';
comment on column events_replaceable_latest.created_at is 'When its author says it was made, Unix seconds.';
comment on column events_replaceable_latest.kind is 'Kind of event.';
comment on column events_replaceable_latest.tags is 'Tags, exactly as signed.';
comment on column events_replaceable_latest.tagvalues is 'Indexable tags (events.tagvalues).';
comment on column events_replaceable_latest.content is 'Content, exactly as signed.';
comment on column events_replaceable_latest.sig is 'Signature, 64 bytes.';

create or replace view events_addressable_latest as
select
    e.id, e.pubkey, e.created_at, e.kind, e.tags, e.tagvalues, e.content, e.sig,
    coalesce((
        select tag ->> 1 from jsonb_array_elements(e.tags) with ordinality as t (tag, place)
        where tag ->> 0 = 'd' order by place limit 1
    ), '') as d_tag
from current_events c
join events e on e.event_key = c.event_key
where c.kind >= 30000;
comment on view events_addressable_latest is 'The current addressable event of each author, kind and tag d (NIP-01): kinds 30000 to 39999.';
comment on column events_addressable_latest.id is 'Id, 32 bytes.';
comment on column events_addressable_latest.pubkey is 'Public key of the author, 32 bytes.';
comment on column events_addressable_latest.created_at is 'When its author says it was made, Unix seconds.';
comment on column events_addressable_latest.kind is 'Kind of event.';
comment on column events_addressable_latest.tags is 'Tags, exactly as signed.';
comment on column events_addressable_latest.tagvalues is 'Indexable tags (events.tagvalues).';
comment on column events_addressable_latest.content is 'Content, exactly as signed.';
comment on column events_addressable_latest.sig is 'Signature, 64 bytes.';
comment on column events_addressable_latest.d_tag is 'Value of the first tag d; empty without one.';

create or replace view follows as
select a.pubkey as follower, b.pubkey as followed
from follow_edges f
join authors a on a.author_id = f.follower_id
join authors b on b.author_id = f.followed_id;
comment on view follows is 'Who follows whom, by current follow lists (kind 3). By either side it is answered through an index.';
comment on column follows.follower is 'Public key of the author of the list, 32 bytes.';
comment on column follows.followed is 'Public key that the list names, 32 bytes.';

create or replace view relay_lists as
select a.pubkey, l.relay_url, l.reads, l.writes
from relay_list_edges l
join authors a on a.author_id = l.author_id;
comment on view relay_lists is 'Which relays authors say they use, by current relay lists (kind 10002, NIP-65).';
comment on column relay_lists.pubkey is 'Public key of the author, 32 bytes.';
comment on column relay_lists.relay_url is 'Normalised URL of the relay.';
comment on column relay_lists.reads is 'Whether the author reads there.';
comment on column relay_lists.writes is 'Whether the author writes there.';

create or replace view relay_distribution as
select t.relay_url, t.authors, t.readers, t.writers, r.relay_id is not null as is_known, (select figures_as_of()) as as_of
from relay_list_totals t
left join relays r on r.url = t.relay_url;
comment on view relay_distribution is 'How many authors say that they use each relay (NIP-65).';
comment on column relay_distribution.relay_url is 'Normalised URL of the relay.';
comment on column relay_distribution.authors is 'Authors whose current relay list names it.';
comment on column relay_distribution.readers is 'Those that read there.';
comment on column relay_distribution.writers is 'Those that write there.';
comment on column relay_distribution.is_known is 'Whether the archive knows the relay.';
comment on column relay_distribution.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view zap_stats as
select date '1970-01-01' + z.day as day, z.zaps, z.senders, z.recipients, z.millisats, (select figures_as_of()) as as_of
from daily_zaps z;
comment on view zap_stats is 'Zaps by UTC day (NIP-57), as the receipts say.';
comment on column zap_stats.day is 'The day.';
comment on column zap_stats.zaps is 'Zap receipts.';
comment on column zap_stats.senders is 'Different senders.';
comment on column zap_stats.recipients is 'Different recipients.';
comment on column zap_stats.millisats is 'Sum of the amounts, thousandths of a satoshi.';
comment on column zap_stats.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view active_users as
select
    p.grain, date '1970-01-01' + p.start as start, p.users, p.with_profile, p.with_follows, p.new_users, p.counted_at,
    least((select figures_as_of()), (select min(since) - 1 from dirty_periods)) as as_of
from period_users p;
comment on view active_users is 'Authors of events by day, week and month.';
comment on column active_users.grain is 'day, week (from Monday) or month, in UTC.';
comment on column active_users.start is 'Its first day.';
comment on column active_users.users is 'Authors of events of that time.';
comment on column active_users.with_profile is 'Those of whom the archive has a profile (kind 0), of any time.';
comment on column active_users.with_follows is 'Those of whom the archive has a follow list (kind 3), of any time.';
comment on column active_users.new_users is 'Those whose first archived event is of that time.';
comment on column active_users.counted_at is 'When they were counted, Unix seconds.';
comment on column active_users.as_of is 'Everything that was stored until then is counted.';

create or replace view retention as
select
    date '1970-01-01' + c.cohort_week as cohort_week, (c.week - c.cohort_week) / 7 as age_weeks, c.users,
    least((select figures_as_of()), (select min(since) - 1 from dirty_periods)) as as_of
from cohorts c;
comment on view retention is 'How many authors, by the week of their first event, are active so many weeks later.';
comment on column retention.cohort_week is 'Week of the first archived event of these authors: its Monday.';
comment on column retention.age_weeks is 'Weeks since then. 0: all authors of the cohort.';
comment on column retention.users is 'Those of them that have events of that week.';
comment on column retention.as_of is 'Everything that was stored until then is counted.';

create or replace view relay_cover as
select
    c.rank, r.url as relay_url, c.new_events, round(c.covered::numeric / nullif(c.sampled, 0), 6) as cumulative_share,
    c.sampled as sample_events, round(1 / 256.0, 6) as sample_share, c.as_of
from cover_ranks c
join relays r on r.relay_id = c.relay_id;
comment on view relay_cover is 'How much of the archive the first relays hold together (greedy set cover): each is the one that adds the most events to those before it. Counted on the events whose id begins with the hex digits 00.';
comment on column relay_cover.rank is '1 is the relay with the most events.';
comment on column relay_cover.relay_url is 'URL of the relay.';
comment on column relay_cover.new_events is 'Sampled events on it that none of the relays before it has.';
comment on column relay_cover.cumulative_share is 'Share of the sampled events that it or one before it has: 1 when all.';
comment on column relay_cover.sample_events is 'Size of the sample: events on any relay.';
comment on column relay_cover.sample_share is 'Share of all ids that belong to the sample.';
comment on column relay_cover.as_of is 'Everything that was stored until then is counted, Unix seconds.';

create or replace view dangling_references as
select t.kind, t."references", t.missing, round(t.sampled / 65536.0, 6) as sample_share, t.as_of
from reference_totals t;
comment on view dangling_references is 'References to events (tag e) that the archive lacks, by kind of the events that refer. Counted for targets whose id begins with the hex digits 00, or a part of them.';
comment on column dangling_references.kind is 'Kind of the events that refer.';
comment on column dangling_references."references" is 'Sampled references: an event that refers to the same one twice counts once.';
comment on column dangling_references.missing is 'Those to events that the archive lacks.';
comment on column dangling_references.sample_share is 'Share of all ids that belong to the sample.';
comment on column dangling_references.as_of is 'Everything that was stored until then is counted, Unix seconds.';

-- ---------------------------------------------------------------------------------------------------------------
-- Runs of commands
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists runs (
    run_id     bigint generated always as identity primary key,
    command    text not null,
    started_at bigint not null,
    ended_at   bigint not null default unix_now(),
    succeeded  boolean not null,
    detail     text not null,
    constraint runs_command_check check (command in ('backup', 'verify'))
);
comment on table runs is 'Runs of commands that protect the archive, written at their end: npm run status and the page say when the latest were. A run that was killed has no row.';
comment on column runs.run_id is 'In the order in which they ended.';
comment on column runs.command is 'backup: backup.sh in the container of PostgreSQL; verify: npm run verify.';
comment on column runs.started_at is 'Unix seconds.';
comment on column runs.ended_at is 'Unix seconds.';
comment on column runs.succeeded is 'Of a backup: pg_dump wrote all of it. Of a verification: nothing differs from what was stored.';
comment on column runs.detail is 'What it came to, as a sentence.';

-- The latest runs of a command: where command = $1 order by run_id desc
create index if not exists runs_command_index on runs (command, run_id);

-- ---------------------------------------------------------------------------------------------------------------
-- Imports: what came from which file
-- ---------------------------------------------------------------------------------------------------------------

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

-- ---------------------------------------------------------------------------------------------------------------
-- What an operator asks: everything about one relay, and the state of the archive. Rows of names and values, because most
-- values exist for some relays only. unit says how to read a value: text, time (UTC, ISO 8601), count, estimate (of a
-- count), share (0 to 1), milliseconds, bytes.
-- ---------------------------------------------------------------------------------------------------------------

create or replace function utc_time(p_seconds bigint) returns text
language sql immutable parallel safe
return to_char(to_timestamp(p_seconds) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
comment on function utc_time(bigint) is 'Unix seconds as people and programs read them: 2026-11-30T10:00:00Z.';

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

create or replace function edit_distance(p_left text, p_right text) returns integer
language plpgsql immutable parallel safe as $$
declare
    above integer[] := array(select generate_series(0, length(p_right)));
    line  integer[];
begin
    for i in 1..length(p_left) loop
        line := array[i];
        for j in 1..length(p_right) loop
            line := line || least(
                above[j + 1] + 1, line[j] + 1,
                above[j] + (substr(p_left, i, 1) <> substr(p_right, j, 1))::integer
            );
        end loop;
        above := line;
    end loop;
    return above[length(p_right) + 1];
end $$;
comment on function edit_distance(text, text) is 'How many letters must be added, left out or replaced to make one text of the other (Levenshtein). For short texts: the time is the product of both lengths.';

create or replace function similar_relays(p_url text, p_limit integer default 5) returns table (url text, similarity numeric)
language sql stable as $$
    with given as materialized (
        select regexp_replace(lower(rtrim(btrim(p_url), '/')), '^wss?://', '') as name
    ), wanted as materialized (
        select array_agg(distinct substr(' ' || name || ' ', place, 3)) as trigrams
        from given
        cross join generate_series(1, length(name)) place
    ), alike as materialized (
        select r.url, n.name, round(2.0 * t.shared / (cardinality(w.trigrams) + length(n.name)), 4) as similarity
        from relays r
        cross join wanted w
        cross join lateral (select substr(r.url, strpos(r.url, '://') + 3) as name) n
        cross join lateral (
            select count(*) as shared from unnest(w.trigrams) trigram where strpos(' ' || n.name || ' ', trigram) > 0
        ) t
        where 2.0 * t.shared >= 0.4 * (cardinality(w.trigrams) + length(n.name))
        order by 3 desc, 1
        limit 50
    )
    -- Most names share "relay." and ".com": by the groups of letters alone, any two of them are half alike.
    select a.url, a.similarity
    from alike a
    cross join given g
    where a.similarity >= 0.7
        or right(a.name, length(g.name) + 1) = '.' || g.name
        or right(g.name, length(a.name) + 1) = '.' || a.name
        or regexp_replace(a.name, '\.[a-z0-9-]+$', '') = regexp_replace(g.name, '\.[a-z0-9-]+$', '')
        or edit_distance(left(a.name, 100), left(g.name, 100)) <= greatest(2, length(g.name) / 8)
    order by 2 desc, 1
    limit p_limit
$$;
comment on function similar_relays(text, integer) is 'Known relays whose URL may be meant by this one: they are alike by 0.7, at most two letters differ (of long names one in eight), only the top-level domain differs, or one is a subdomain of the other. similarity: the share of groups of three letters that both have (Dice''s coefficient).';

create or replace function explain_relay_origin(p_url text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from (select) one
    left join relays r on r.url = p_url
    left join named_relays c on c.url = p_url
    left join relay_provenance n on n.relay_url = p_url
    cross join lateral (values
        ('status', case
            when r.relay_id is not null then 'known'
            when n.state = 'candidate' then 'candidate: it was named, and has not answered the finder yet'
            when n.state = 'dropped' then 'given up: it was named, and never answered the finder'
            else 'unknown to this archive'
        end, 'text'),
        ('network', coalesce(r.network, n.network), 'text'),
        ('known since', utc_time(r.inserted_at), 'time'),
        ('added by', case
            when n.answered_at is not null then 'the finder, which it answered'
            when r.relay_id is not null then 'the seed list, the priority list or SQL'
        end, 'text'),
        ('visited by', case when r.priority then 'the priority synchronizer' when r.relay_id is not null then 'the synchronizer' end, 'text'),
        ('first named', utc_time(n.first_named_at), 'time'),
        ('first named as', n.first_source, 'text'),
        ('first named in event', encode(n.first_event, 'hex'), 'text'),
        ('first named by', case
            when n.relay_url is not null then coalesce(encode(n.first_author, 'hex'), 'a list of the operator (FINDER_URLS)')
        end, 'text'),
        ('events and lists that name it', n.times::text, 'count'),
        ('authors that name it', case when n.authors >= 16 then '16 or more' else n.authors::text end,
            case when n.authors >= 16 then 'text' else 'count' end),
        ('last named', utc_time(n.last_named_at), 'time'),
        ('tries of the finder', case when r.relay_id is null then c.tries end::text, 'count'),
        ('last try', case when r.relay_id is null then utc_time(c.last_try_at) end, 'time'),
        ('why it failed', case when r.relay_id is null then c.reason end, 'text'),
        ('next try', case when r.relay_id is null then utc_time(c.next_try_at) end, 'time')
    ) t (name, value, unit)
    where t.value is not null
$$;
comment on function explain_relay_origin(text) is 'Part of explain_relay(): since when a relay is known, and who named it.';

create or replace function explain_relay_state(p_url text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relays r
    left join relay_availability a on a.relay_url = r.url
    left join relay_schedule c on c.relay_id = r.relay_id
    cross join lateral (values
        ('state', coalesce(a.state, 'unknown: it was never checked'), 'text'),
        ('since', utc_time(a.since), 'time'),
        ('last seen up', utc_time(c.last_up_at), 'time'),
        ('up in the last day', a.up_1_day::text, 'share'),
        ('up in the last 7 days', a.up_7_days::text, 'share'),
        ('up in the last 30 days', a.up_30_days::text, 'share'),
        ('up in the last 90 days', a.up_90_days::text, 'share'),
        ('known of these 90 days', a.known_90_days::text, 'share'),
        ('times it went down in these 90 days', a.flaps::text, 'count')
    ) t (name, value, unit)
    where r.url = p_url and t.value is not null
$$;
comment on function explain_relay_state(text) is 'Part of explain_relay(): the state of a relay and its uptime.';

create or replace function explain_relay_check(p_url text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relays r
    left join relay_metadata_latest l on l.relay_url = r.url
    left join relay_facts f on f.relay_url = r.url
    left join relay_schedule c on c.relay_id = r.relay_id
    left join claims h on h.work = 'check' and h.relay_id = r.relay_id and is_lease_valid(h.until)
    cross join lateral (values
        ('last check', coalesce(utc_time(l.generated_at), 'never'), case when l.relay_url is null then 'text' else 'time' end),
        ('result', case
            when l.readable then 'readable' || case when l.writable then ' and writable' else '' end
            when l.openable then 'opens, but cannot be read'
            when l.openable is not null then 'does not open'
        end, 'text'),
        ('why it failed', l.reason, 'text'),
        ('round trip to open', l.rtt_open::text, 'milliseconds'),
        ('round trip to read', l.rtt_read::text, 'milliseconds'),
        ('readable by', case f.read_asked
            when 'bare' then 'a filter for any event'
            when 'filter' then 'the filter that is archived'
            else f.read_asked
        end, 'text'),
        ('checks in a row that found it down', nullif(c.failures, 0)::text, 'count'),
        ('other checks that failed', (
            select string_agg(k.name || ' (' || k.reason || ')', ', ' order by k.name)
            from relay_checks_latest k
            where k.relay_url = p_url and not k.success and k.name not in ('open', 'read', 'write')
        ), 'text'),
        ('software', nullif(concat_ws(' ', f.software, f.version), ''), 'text'),
        ('address', f.ip, 'text'),
        ('certificate expires', utc_time(f.tls_not_after), 'time'),
        ('certificate problem', f.tls_problem, 'text'),
        ('next check', case
            when c.relay_id is null or c.due_at <= unix_now() then 'due now'
            when c.seen_again_at is not null then 'due now: it was named anew'
            else utc_time(c.due_at)
        end, case when c.due_at > unix_now() and c.seen_again_at is null then 'time' else 'text' end),
        ('being checked by', h.holder, 'text')
    ) t (name, value, unit)
    where r.url = p_url and t.value is not null
$$;
comment on function explain_relay_check(text) is 'Part of explain_relay(): the latest check of a relay, why it failed, and when the next one is due.';

create or replace function explain_relay_policy(p_url text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relays r
    left join relay_manners m on m.relay_id = r.relay_id
    cross join lateral (
        -- What lies further ahead was noted while the clock was wrong, and holds nothing up.
        select case when m.not_before - unix_now() between 1 and 2595600 then m.not_before end as paused_until,
               case when m.retry_at - unix_now() between 1 and 90000 then m.retry_at end as retry_at
    ) p
    cross join lateral (values
        ('paused until', coalesce(utc_time(p.paused_until), 'not paused'), case when p.paused_until is null then 'text' else 'time' end),
        ('paused for', case when p.paused_until is not null then m.reason end, 'text'),
        ('refused or failed visits in a row', nullif(m.refusals, 0)::text, 'count'),
        ('not connected to before (Retry-After)', utc_time(p.retry_at), 'time'),
        ('least time between requests', nullif(m.pace_ms, 0)::text, 'milliseconds'),
        ('largest limit it is asked for', m.page_limit::text, 'count'),
        ('most values in a list of a filter', m.max_filter_values::text, 'count'),
        ('NIP-77 not tried before', case when m.nip77_not_before > unix_now() then utc_time(m.nip77_not_before) end, 'time'),
        ('why NIP-77 is not tried', case when m.nip77_not_before > unix_now() then m.nip77_reason end, 'text')
    ) t (name, value, unit)
    where r.url = p_url and t.value is not null
$$;
comment on function explain_relay_policy(text) is 'Part of explain_relay(): until when a relay is paused and why, and how it is treated.';

create or replace function explain_relay_coverage(p_url text, p_filter text) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relay_coverage c
    cross join lateral (values
        ('filter', c.filter, 'text'),
        ('asked with', case c.asked_by
            when 'filter' then 'the filter'
            when 'parts' then c.filters_asked || ' filters that are the filter together'
            else c.filters_asked || ' filters by kinds: events of other kinds are not asked for'
        end, 'text'),
        ('share proven complete', c.share::text, 'share'),
        ('share of what is asked', case when c.asked_by <> 'filter' then c.asked_share::text end, 'share'),
        ('first second proven', utc_time(c.first_second), 'time'),
        ('last second proven', utc_time(c.last_second), 'time'),
        ('oldest proof', utc_time(unix_now() - c.oldest_proof_age), 'time')
    ) t (name, value, unit)
    where c.relay_url = p_url and c.filter = p_filter and t.value is not null
    union all
    (
        select 'part', p.part || coalesce(' ' || p.outcome, '') || coalesce(', ' || round(p.share * 100, 1) || ' %', ''), 'text'
        from relay_part_coverage p
        where p.relay_url = p_url and p.filter = p_filter
        order by p.part
        limit 8
    )
    union all
    (
        select t.*
        from (
            select g.hole, count(*) as gaps, min(g.since) as oldest, sum(g.hole_events) as events
            from coverage_gaps g
            where g.relay_url = p_url and g.filter = p_filter
            group by g.hole
        ) g
        cross join lateral (values
            (coalesce('holes: ' || g.hole, 'gaps that are not read yet'), g.gaps::text, 'count'),
            ('  the oldest', utc_time(g.oldest), 'time'),
            ('  events the relay showed there', nullif(g.events, 0)::text, 'count')
        ) t (name, value, unit)
        where t.value is not null
        order by g.hole nulls first
    )
$$;
comment on function explain_relay_coverage(text, text) is 'Part of explain_relay(): what of one filter is proven complete of a relay, and its gaps and holes.';

create or replace function explain_relay_visit(
    p_url text, p_filter text, p_visit_interval integer, p_readable_within integer
) returns table (name text, value text, unit text)
language sql stable as $$
    select t.*
    from relays r
    left join (
        select v.* from visits v join filters f on f.filter_id = v.filter_id where f.filter = p_filter
    ) v on v.relay_id = r.relay_id
    left join relay_manners m on m.relay_id = r.relay_id
    left join claims h on h.work = 'visit' and h.relay_id = r.relay_id
    cross join lateral (
        select is_lease_valid(h.until) as is_claimed, greatest(
            -- A claim whose lease has ended was interrupted.
            case when v.outcome <> 'unfinished' and v.started_at <= unix_now() and is_lease_valid(h.until) is not false then v.started_at + p_visit_interval else 0 end,
            case when m.not_before - unix_now() between 1 and 2595600 then m.not_before end,
            case when m.retry_at - unix_now() between 1 and 90000 then m.retry_at end
        ) as due_at,
        (
            select h.readable
            from snapshots s
            left join nip66 h on h.id = s.nip66_id
            where s.relay_id = r.relay_id and s.generated_at >= unix_now() - p_readable_within
                and h.reason is distinct from 'proxy_down'
            order by s.generated_at desc limit 1
        ) as is_readable
    ) d
    cross join lateral (values
        ('latest visit', coalesce(utc_time(v.started_at), 'never'), case when v.relay_id is null then 'text' else 'time' end),
        ('ended', case
            when v.relay_id is null then null
            when v.ended_at is not null then utc_time(v.ended_at)
            when d.is_claimed then 'under way'
            else 'cut off'
        end, case when v.ended_at is null then 'text' else 'time' end),
        ('outcome', v.outcome, 'text'),
        ('stopped by', v.stop_reason, 'text'),
        ('in words', v.detail, 'text'),
        ('pages asked for', v.pages::text, 'count'),
        ('failed visits in a row', nullif(v.failures, 0)::text, 'count'),
        ('failing since', utc_time(v.failing_since), 'time'),
        ('next visit', case
            when d.is_claimed and v.ended_at is null then null
            when d.due_at <= unix_now() then 'due now'
            else utc_time(d.due_at)
        end,
            case when d.due_at <= unix_now() then 'text' else 'time' end),
        ('held up', case
            when r.priority then null
            when d.is_readable is null then 'no check of the last ' || p_readable_within / 3600 || ' hours says that it can be read'
            when not d.is_readable then 'its latest check did not find it readable'
        end, 'text'),
        ('claimed by', case when d.is_claimed then h.holder end, 'text'),
        ('claimed since', case when d.is_claimed then utc_time(h.since) end, 'time')
    ) t (name, value, unit)
    where r.url = p_url and t.value is not null
$$;
comment on function explain_relay_visit(text, text, integer, integer) is 'Part of explain_relay(): the latest visit of a relay with one filter, what stopped it, and when the next one is due.';

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
comment on function explain_relay_events(text) is 'Part of explain_relay(): events of a relay that are held, withheld by it, and refused of it by reason.';

create or replace function explain_relay(
    p_url text, p_visit_interval integer default 900, p_readable_within integer default 43200
) returns table (section text, name text, value text, unit text)
language plpgsql stable set jit = off as $$   -- to compile its queries takes longer than to run them
#variable_conflict use_column
declare
    given constant text := rtrim(btrim(p_url), '/');
    known_url text := (
        select r.url
        from unnest(array[given, lower(given), 'wss://' || lower(given), 'ws://' || lower(given)]) with ordinality s (spelling, place)
        join relays r on r.url = s.spelling
        order by s.place limit 1
    );
    wanted text;
begin
    if known_url is null then
        return query select 'relay', o.* from (
            select 'url' as name, given as value, 'text' as unit
            union all select * from explain_relay_origin(given)
        ) o;
        return query select 'nearest', s.url, s.similarity::text, 'share' from similar_relays(given) s;
        return;
    end if;
    return query select 'relay', 'url', known_url, 'text';
    return query select 'relay', o.* from explain_relay_origin(known_url) o;
    return query select 'state', s.* from explain_relay_state(known_url) s;
    return query select 'check', c.* from explain_relay_check(known_url) c;
    return query select 'policy', m.* from explain_relay_policy(known_url) m;
    for wanted in
        select f.filter
        from relays r
        join visits v on v.relay_id = r.relay_id and not v.is_part
        join filters f on f.filter_id = v.filter_id
        where r.url = known_url
        order by v.started_at desc, f.filter
    loop
        return query select 'coverage', c.* from explain_relay_coverage(known_url, wanted) c;
        return query select 'visit', v.* from explain_relay_visit(known_url, wanted, p_visit_interval, p_readable_within) v;
    end loop;
    if not found then
        return query select 'visit', v.* from explain_relay_visit(known_url, null, p_visit_interval, p_readable_within) v;
    end if;
    return query select 'events', e.* from explain_relay_events(known_url) e;
end $$;
comment on function explain_relay(text, integer, integer) is 'Everything about one relay, as rows: who named it, its state, checks, pauses, coverage with gaps and holes, visits and events. Of an unknown one the nearest known URLs. p_visit_interval: SYNCHRONIZER_LOOP_INTERVAL_MINUTES in seconds; p_readable_within: SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS in seconds. Reads indexes only: select section, name, value from explain_relay(''wss://…''). The blocklist is a file that SQL does not see: npm run explain adds it.';

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

create or replace view archive_status as
select section, name, value, unit, age from describe_archive();
comment on view archive_status is 'How the archive stands, as rows: version, relays by network and state, events, sightings, size, coverage, and what waits. Nothing is counted that takes long: what is large is estimated, and unit says so.';
comment on column archive_status.section is 'version, relays, archive, coverage, working (by claims) or waiting.';
comment on column archive_status.name is 'What it is.';
comment on column archive_status.value is 'Its value, as text.';
comment on column archive_status.unit is 'How the value is to be read: text, time (UTC, ISO 8601), count, estimate (a count, about), share (0 to 1) or bytes.';
comment on column archive_status.age is 'How old the answer may be, in seconds: 0 where it was counted now; of an estimate the age of the statistics that it rests on (VACUUM, ANALYZE). Null: there are none yet.';

-- lz4 compresses and expands TOAST faster than pglz at about the same size; not every build of PostgreSQL has it.
do $$
begin
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
        alter table events alter column content set compression lz4, alter column tags set compression lz4;
    end if;
end $$;

-- ---------------------------------------------------------------------------------------------------------------
-- Several servers: where the extension Citus is installed and has workers, events and sightings are distributed over them
-- by created_day (docs/citus.md). All other tables stay on the coordinator.
-- ---------------------------------------------------------------------------------------------------------------

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

do $$ begin perform distribute_archive(); end $$;

-- Last, so that an archive whose creation was interrupted does not count as complete. Names every file of src/database/migrations.
insert into schema_migrations (name)
select name
from unnest(array['0001_baseline', '0002_visit-reasons', '0003_withheld', '0004_request-shape', '0005_retry-after', '0006_schedule', '0007_unanswered', '0008_withheld-kinds', '0009_network-down', '0010_comments', '0011_claims', '0012_explain', '0013_journal', '0014_due-now', '0015_days-tables', '0016_days', '0017_hosts', '0018_figures', '0019_figures-small', '0020_runs', '0021_distribute', '0022_counted-bound', '0023_packed-figures', '0024_bounded-references', '0025_datasets']) with ordinality as t (name, place)
where not exists (select from schema_migrations)
order by place;

reset client_min_messages;
