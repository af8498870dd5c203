-- The schema with which migrations begin: that of the unreleased version after its ninth migration. An archive of that version
-- is recognised by the migrations it records (src/database/earlier-migrations.ts) and does not run this file.

create table if not exists schema_migrations (
    id     integer generated always as identity primary key,
    name   text not null,
    run_on timestamptz not null default now(),
    constraint schema_migrations_name_key unique (name)
);
comment on table schema_migrations is 'The migrations (src/database/migrations) that this archive has had, or was made with. Kept by node-pg-migrate.';
comment on column schema_migrations.id is 'Order in which they came.';
comment on column schema_migrations.name is 'Name of the file, without its ending.';
comment on column schema_migrations.run_on is 'When it came.';

-- ---------------------------------------------------------------------------------------------------------------
-- Relays
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists relays (
    relay_id    integer generated always as identity primary key,
    url         text not null,
    network     text not null,
    inserted_at bigint not null default extract(epoch from now())::bigint,
    constraint relays_url_key unique (url),                                   -- a relay by its URL
    constraint relays_url_length check (octet_length(url) between 1 and 255),   -- longer ones are refused by src/network/url.ts
    constraint relays_network_check check (network in ('clearnet', 'tor', 'i2p', 'loki'))
);

comment on table relays is 'Every relay known, whether it answers or not.';
comment on column relays.relay_id is 'Short key of the relay, used by sightings and coverage.';
comment on column relays.url is 'Normalised WebSocket URL (NIP-01, RFC 3986): one spelling for one relay.';
comment on column relays.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column relays.inserted_at is 'When the archive first heard of the relay, Unix seconds.';

-- ---------------------------------------------------------------------------------------------------------------
-- Events and sightings
-- ---------------------------------------------------------------------------------------------------------------

create sequence if not exists event_key_sequence;
comment on sequence event_key_sequence is 'Its low 24 bits tell apart the events of one second in events.event_key.';

create or replace function event_key_floor(p_created_at bigint) returns bigint
language sql immutable parallel safe
return p_created_at << 24;
comment on function event_key_floor(bigint) is
    'The smallest event_key of an event created at that second: event_key >= event_key_floor(a) and event_key < event_key_floor(b) is a <= created_at < b.';

create table if not exists events (
    event_key  bigint primary key,     -- joins of sightings; the events of a stretch of time lie together
    created_at bigint not null,
    kind       integer not null,
    id         bytea not null,
    pubkey     bytea not null,
    sig        bytea not null,
    tags       jsonb not null,
    tagvalues  jsonb not null,
    content    text not null,
    constraint events_id_length check (octet_length(id) = 32),
    constraint events_pubkey_length check (octet_length(pubkey) = 32),
    constraint events_sig_length check (octet_length(sig) = 64),
    constraint events_created_at_range check (created_at >= 0 and created_at < 549755813888),
    constraint events_kind_range check (kind between 0 and 65535)
);

comment on table events is 'Every event archived, once, however many relays hold it. Only events whose id and signature were verified are here (NIP-01).';
comment on column events.event_key is 'Short key: created_at * 2^24 + a number, so that keys run along time and a range of keys is a range of time.';
comment on column events.created_at is 'When its author says it was made, Unix seconds. Authors may lie.';
comment on column events.kind is 'Kind of event (NIP-01).';
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
-- An event stands once. The id is a hash over the time too, so that time and id tell what the id alone does, but the events
-- of a page lie together here, where ids alone are anywhere: which of these events are known: where created_at = $1 and
-- id between $2 and $2 (for id = $2 the index below would be taken, which has no such order).
-- And the events of a stretch of time, the newest events: where created_at >= $1 order by created_at
create unique index if not exists events_created_at_id_index on events (created_at desc, id);
-- An event by its id: where id = $1. Four bytes of a hash for each: a third of what a B-tree of ids takes.
create index if not exists events_id_index on events using hash (id);
-- Events that refer to something: where tagvalues @> '["e:5c83…"]'. It holds four bytes of a hash for each value: a quarter
-- of what the values themselves would take.
create index if not exists events_tagvalues_index on events using gin (tagvalues jsonb_path_ops);

create table if not exists sightings (
    event_key bigint not null,
    relay_id  integer not null,
    seen_at   integer not null   -- 8 + 4 + 4 bytes fill a row without padding
);

comment on table sightings is 'Which event was seen on which relay, in its stored form. Query events_relays instead: it gives id, URL and Unix time.';
comment on column sightings.event_key is 'The event (events.event_key). No foreign key: it would halve the rate of inserting; a trigger deletes along, count_orphan_sightings() checks.';
comment on column sightings.relay_id is 'The relay (relays.relay_id).';
comment on column sightings.seen_at is 'When it was first seen there, seconds since 2020-01-01 UTC, so that four bytes last until 2088.';

-- Descending, since history is read newest first: so pages are filled and left, where ascending ones are split in halves.
-- The events of a relay, in time order, since keys run along time: where relay_id = $1 and event_key >= event_key_floor($2)
create unique index if not exists sightings_relay_id_event_key_index on sightings (relay_id, event_key desc);
-- The relays that hold an event: where event_key = $1. The event stands in it once, however many relays hold it.
create index if not exists sightings_event_key_index on sightings (event_key desc);

create or replace view events_relays as
select e.id as event_id, r.url as relay_url, s.seen_at + 1577836800::bigint as seen_at
from sightings s
join events e on e.event_key = s.event_key
join relays r on r.relay_id = s.relay_id;
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
    seen_at    bigint not null default extract(epoch from now())::bigint,
    constraint quarantine_pkey primary key (relay_id, id)
);
comment on table quarantine is 'Verified events that text and jsonb cannot hold exactly (NUL, lone surrogates), kept as the bytes they were, never cleaned. At most 10,000 events and 64 MB for each relay.';
comment on column quarantine.id is 'Id of the event, 32 bytes.';
comment on column quarantine.relay_id is 'The relay that sent it.';
comment on column quarantine.created_at is 'created_at of the event, Unix seconds.';
comment on column quarantine.reason is 'nul or lone_surrogate: what PostgreSQL cannot hold.';
comment on column quarantine.raw is 'The event as JSON in UTF-8, with the characters in question escaped: parsed again, it verifies.';
comment on column quarantine.seen_at is 'When it was first seen there, Unix seconds.';

-- Deleting an event or a relay takes its sightings along. A statement-level trigger costs nothing while inserting.
create or replace function delete_sightings_of_events() returns trigger
language plpgsql as $$
begin
    delete from sightings s using deleted d where s.event_key = d.event_key;
    return null;
end $$;
comment on function delete_sightings_of_events() is 'Trigger: sightings go with their event.';

create or replace trigger events_delete_sightings after delete on events
referencing old table as deleted for each statement execute function delete_sightings_of_events();

create or replace function delete_sightings_of_relays() returns trigger
language plpgsql as $$
begin
    delete from sightings s using deleted d where s.relay_id = d.relay_id;
    return null;
end $$;
comment on function delete_sightings_of_relays() is 'Trigger: sightings go with their relay.';

create or replace trigger relays_delete_sightings after delete on relays
referencing old table as deleted for each statement execute function delete_sightings_of_relays();

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
comment on table check_results is 'What checks of relays gave, each different result once. Query relay_checks instead: it tells which relay, when and how long it took.';
comment on column check_results.result_id is 'Short key of the result.';
comment on column check_results.hash is 'SHA-256 of name, success, reason and data (without ttl), see check_result_hash().';
comment on column check_results.name is 'open, read, write, nip11, tls, dns, net, geo, http or capabilities.';
comment on column check_results.success is 'The check got its answer. A bad certificate is an answer, a relay that cannot be reached gives none.';
comment on column check_results.reason is 'Why it failed, one stable word; null when it did not.';
comment on column check_results.data is 'What it found (src/checks/result.ts); null when it failed. The ttl of dns is the largest seen with that answer: what a resolver tells is what is left of it.';

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

-- What refers to a document: delete_orphan_nip11(), delete_orphan_nip66()
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
comment on column carried_checks.etag is 'ETag of a document (RFC 9110): whether it is still the same is asked with it.';
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
    (c.found -> 'capabilities' ->> 'maxLimit')::integer as max_limit
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
-- When relays are checked, and since when they answer
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
comment on column relay_schedule.due_at is 'When it is to be checked again, Unix seconds: the later the longer it has been dead.';
comment on column relay_schedule.known_until is 'How long the latest check speaks for it, Unix seconds. Without another check its state is unknown from then on.';
comment on column relay_schedule.failures is 'Checks in a row that found it down; those that could tell nothing are passed over.';
comment on column relay_schedule.last_up_at is 'The latest check that found it up, Unix seconds; null when none ever did.';
comment on column relay_schedule.seen_again_at is 'When somebody named it anew since its latest check, Unix seconds: it is due at once. Null when nobody did.';

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
comment on column relay_states.from_at is 'The check that found it so first, or the moment from which nothing is known, Unix seconds.';
comment on column relay_states.to_at is 'When the next interval begins, Unix seconds; null for the latest one.';
comment on column relay_states.state is 'up: it answers a REQ, or opens and refuses (auth-required, restricted, blocked, rate-limited). down: it does not. unknown: the monitor could not tell, or was off.';

-- The present state of a relay, of which there is one; the relays that are up now: where state = 'up' and to_at is null
create unique index if not exists relay_states_open_index on relay_states (relay_id) where to_at is null;

create or replace function relay_state(p_openable boolean, p_readable boolean, p_reason text) returns text
language sql immutable parallel safe
return case
    when p_openable is null then 'unknown'
    when p_readable then 'up'
    when p_openable and p_reason in ('auth_required', 'restricted', 'blocked', 'rate_limited', 'limit') then 'up'
    when p_reason in ('no_proxy', 'proxy_down') then 'unknown'
    else 'down'
end;
comment on function relay_state(boolean, boolean, text) is 'What a NIP-66 result says of a relay: up, down or unknown (relay_states.state). One that refuses is alive; where there is no proxy for its network, or that one is down, nothing is known.';

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
comment on function relay_check_jitter(integer, bigint) is 'A number from 0 to below 1, as if by chance but the same for the same check, that spreads checks over time.';

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
comment on function record_relay_check(integer, bigint, text, integer) is 'Notes what a check found: the state of the relay, and when it is due again. p_interval is the interval of living relays in seconds. In any order of checks it ends the same. To be called with a new snapshot. True.';

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
comment on function rebuild_relay_states(integer, integer) is 'Makes the intervals and the schedule of a relay anew from its snapshots, as if it had been checked at that interval of seconds. Returns how many snapshots it has.';

create or replace function recheck_relays(p_urls text[], p_least_age integer default 28800) returns bigint
language plpgsql as $$
declare
    woken bigint;
begin
    update relay_schedule c
    set seen_again_at = extract(epoch from now())::bigint
    from (
        select relay_id from relay_schedule
        where relay_id in (select relay_id from relays where url = any (p_urls))
            and seen_again_at is null
            and checked_at <= extract(epoch from now())::bigint - p_least_age
        order by relay_id
        for update
    ) named
    where c.relay_id = named.relay_id;
    get diagnostics woken = row_count;
    return woken;
end $$;
comment on function recheck_relays(text[], integer) is 'Makes relays due at once that somebody names anew, however long they have been dead; not those that were checked within p_least_age seconds, so that names repeated all day do not undo the pauses. Returns how many.';

create or replace view relay_uptime as
select r.url as relay_url, i.state, i.from_at, i.to_at
from relays r
join relay_states s on s.relay_id = r.relay_id
join relay_schedule c on c.relay_id = r.relay_id
cross join lateral (
    select s.to_at is null and s.state <> 'unknown' and c.known_until < extract(epoch from now())::bigint as lapsed
) l
cross join lateral (
    select s.state, s.from_at, case when l.lapsed then c.known_until else s.to_at end as to_at
    union all
    select 'unknown'::text as state, c.known_until as from_at, null::bigint as to_at where l.lapsed
) i;
comment on view relay_uptime is 'What is known of the state of each relay since its first check, as intervals: one row a change, the present one without end.';
comment on column relay_uptime.relay_url is 'URL of the relay (relays.url).';
comment on column relay_uptime.state is 'up: it answers a REQ, or opens and refuses (auth-required, restricted, blocked, rate-limited). down: it does not. unknown: the monitor could not tell, or was off.';
comment on column relay_uptime.from_at is 'The check that found it so first, or the moment from which nothing is known, Unix seconds.';
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
        cross join (select extract(epoch from now())::bigint as now) t
    ) i
    join relays r on r.url = i.relay_url
    group by i.relay_url, r.network
) s;
comment on view relay_availability is 'How much of the time each relay was up, of the time in which its state was known, and how often it went down.';
comment on column relay_availability.relay_url is 'URL of the relay (relays.url).';
comment on column relay_availability.network is 'clearnet, tor, i2p or loki: told by the host name.';
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
comment on table filters is 'Event filters that relays were read with. Another filter is another coverage.';
comment on column filters.filter_id is 'Short key of the filter.';
comment on column filters.filter is 'The filter as JSON with sorted keys and values; {} asks for every event.';

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

create table if not exists holes (
    relay_id  integer not null references relays on delete cascade,
    filter_id integer not null references filters on delete cascade,
    stretch   int8range not null,
    reason    text not null,
    events    integer not null,
    noted_at  bigint not null,
    constraint holes_pkey primary key (relay_id, filter_id, stretch)
);
comment on table holes is 'Stretches that could not be proven complete, though the relay was asked: they stay gaps, with the reason.';
comment on column holes.relay_id is 'The relay.';
comment on column holes.filter_id is 'The filter.';
comment on column holes.stretch is 'Seconds of created_at, upper end exclusive; mostly one second.';
comment on column holes.reason is 'dense: as many events as a page may hold; overflow: more than we take at once; oversized: an event larger than we take; quarantine_full: it holds events that have no room in the quarantine of this relay.';
comment on column holes.events is 'Events the relay showed there.';
comment on column holes.noted_at is 'When it was last found so, Unix seconds.';

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
    constraint visits_pkey primary key (relay_id, filter_id)
);
comment on table visits is 'The latest visit of each relay and filter: what was wanted and how it ended.';
comment on column visits.relay_id is 'The relay.';
comment on column visits.filter_id is 'The filter.';
comment on column visits.wanted is 'Seconds of created_at that were wanted, upper end exclusive.';
comment on column visits.started_at is 'When it began, Unix seconds.';
comment on column visits.ended_at is 'When it ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column visits.outcome is 'complete, partial, unfinished (stopped on purpose, goes on later) or failed.';
comment on column visits.detail is 'Why it is not complete.';
comment on column visits.failures is 'Failed visits in a row.';
comment on column visits.pages is 'Pages asked for.';

create table if not exists relay_manners (
    relay_id          integer primary key references relays on delete cascade,
    not_before        bigint not null default 0,
    reason            text,
    refusals          integer not null default 0,
    pace_ms           integer not null default 0,
    page_limit        integer,
    nip77_refused_at  bigint,
    page_limit_at     bigint
);
comment on table relay_manners is 'How a relay wants to be treated, as it was learnt: pauses after refusals, a pace, and what it does not do.';
comment on column relay_manners.relay_id is 'The relay.';
comment on column relay_manners.not_before is 'It is not visited before this, Unix seconds.';
comment on column relay_manners.reason is 'Why it pauses: rate_limited, auth_required, restricted, blocked or failed; null when it does not.';
comment on column relay_manners.refusals is 'Refused or failed visits in a row; each doubles the pause.';
comment on column relay_manners.pace_ms is 'Least milliseconds from one REQ to the next.';
comment on column relay_manners.page_limit is 'Largest limit it is asked for, where it refused a larger one or cut its pages short.';
comment on column relay_manners.page_limit_at is 'When a larger one did not work, Unix seconds; tried again after a day.';
comment on column relay_manners.nip77_refused_at is 'When it last did not do NIP-77 though it said so, Unix seconds; asked again after a week.';

create or replace function seconds_in(p_stretches int8multirange) returns numeric
language sql immutable parallel safe
return (select coalesce(sum((upper(stretch) - lower(stretch))::numeric), 0) from unnest(p_stretches) stretch);
comment on function seconds_in(int8multirange) is 'How many seconds these stretches hold together.';

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
    select gap, null::text as hole, null::integer as hole_events
    from unnest(c.missing - coalesce((
        select range_agg(stretch) from holes where relay_id = v.relay_id and filter_id = v.filter_id
    ), '{}')) gap
    union all
    select stretch, reason, events
    from holes where relay_id = v.relay_id and filter_id = v.filter_id and stretch && c.missing
) g;
comment on view coverage_gaps is 'One row a gap: a stretch of created_at (both ends inclusive) that was wanted of a relay and is not proven complete; hole says why, where it was tried in vain.';

create or replace view relay_coverage as
select
    r.url as relay_url, f.filter,
    round(seconds_in(c.covered * v.wanted::int8multirange) / nullif(seconds_in(v.wanted::int8multirange), 0), 6) as share,
    lower(c.covered) as first_second, upper(c.covered) - 1 as last_second,
    (select count(*) from unnest(v.wanted::int8multirange - c.covered)) as gaps,
    (select count(*) from holes h where h.relay_id = v.relay_id and h.filter_id = v.filter_id) as holes,
    extract(epoch from now())::bigint - c.oldest_proof as oldest_proof_age,
    v.outcome, v.detail, v.ended_at as visited_at
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered, min(proven_at) as oldest_proof
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c;
comment on view relay_coverage is 'For each relay and filter: share of the wanted time that is proven complete, its first and last second, gaps, holes, age of the oldest proof in seconds, and how the latest visit ended.';

-- A column of a view that bears the name of the column it comes from means the same; the others are explained below.
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
            'coverage_gaps'::regclass, 'relay_coverage'::regclass,
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
comment on column readable_relays.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column readable_relays.generated_at is 'When it was checked, Unix seconds.';
comment on column readable_relays.rtt_open is 'Milliseconds to open.';
comment on column readable_relays.rtt_read is 'Milliseconds from REQ to the first answer.';
comment on column readable_relays.rtt_write is 'Milliseconds from EVENT to OK.';
comment on column readable_relays.writable is 'A signed test event was accepted with OK true.';
comment on column coverage_gaps.relay_url is 'URL of the relay (relays.url).';
comment on column coverage_gaps.since is 'First second of the gap, as in a filter.';
comment on column coverage_gaps.until is 'Last second of the gap, as in a filter.';
comment on column coverage_gaps.hole is 'Why it could not be proven complete though the relay was asked (holes.reason); null when it is only not read yet.';
comment on column coverage_gaps.hole_events is 'Events the relay showed there (holes.events).';
comment on column relay_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_coverage.share is 'Share of the wanted seconds that is proven complete: 1 when all are.';
comment on column relay_coverage.first_second is 'First second of created_at that is proven complete.';
comment on column relay_coverage.last_second is 'Last second of created_at that is proven complete.';
comment on column relay_coverage.gaps is 'How many gaps coverage_gaps shows.';
comment on column relay_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_coverage.oldest_proof_age is 'Seconds since the oldest proof that still stands; null when there is none.';
comment on column relay_coverage.visited_at is 'When the latest visit ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column relay_checks.relay_url is 'URL of the relay (relays.url).';
comment on column relay_checks.duration_ms is 'How long it took, milliseconds.';
comment on column relay_checks_latest.relay_url is 'URL of the relay (relays.url).';
comment on column relay_checks_latest.duration_ms is 'How long it took, milliseconds.';
comment on column relay_facts.relay_url is 'URL of the relay (relays.url).';
comment on column relay_facts.country is 'Country of its address, ISO 3166-1 alpha-2.';
comment on column relay_facts.city is 'City of its address.';
comment on column relay_facts.geohash is 'Geohash of its address, nine characters.';
comment on column relay_facts.ip is 'Its address: the one connected to, or the first that DNS gave.';
comment on column relay_facts.asn is 'Autonomous system of its address.';
comment on column relay_facts.organisation is 'Whose autonomous system that is.';
comment on column relay_facts.tls_valid is 'Its certificate is valid for its name.';
comment on column relay_facts.tls_problem is 'Why it is not, as OpenSSL calls it: CERT_HAS_EXPIRED and the like.';
comment on column relay_facts.tls_issuer is 'Who issued its certificate.';
comment on column relay_facts.tls_not_after is 'When its certificate expires, Unix seconds.';
comment on column relay_facts.http_server is 'What its web server calls itself.';
comment on column relay_facts.nip45 is 'It answers COUNT (NIP-45); null: could not be told.';
comment on column relay_facts.nip50 is 'It searches (NIP-50); null: could not be told.';
comment on column relay_facts.nip67 is 'It says at EOSE whether that was all (NIP-67); null: could not be told.';
comment on column relay_facts.nip77 is 'It reconciles (NIP-77); null: could not be told.';
comment on column relay_facts.max_limit is 'Most events that one REQ brings; 1,000 is that or more. Null: could not be told.';

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
comment on function event_tagvalues(jsonb) is 'Indexable tags as letter:value. Values above 255 bytes are left out: they name nothing that is asked for.';

create or replace function new_event_key(p_created_at bigint) returns bigint
language sql volatile
return event_key_floor(p_created_at) + (nextval('event_key_sequence') & 16777215);
comment on function new_event_key(bigint) is 'A key for a new event of that second. Taken twice only when 2^24 events were archived in between; the caller then tries again.';

create or replace function insert_relay(
    p_url text, p_network text, p_inserted_at bigint default extract(epoch from now())::bigint
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
declare
    deleted bigint;
begin
    -- Transactions that insert sightings commit before this lock is granted; later ones wait, find the event missing and
    -- store it again. Without the lock, an event sighted meanwhile would be lost, though coverage says that it is held.
    lock table sightings in share row exclusive mode;
    delete from events e where not exists (select from sightings s where s.event_key = e.event_key);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
comment on function delete_orphan_events() is 'Deletes events that no relay is known to hold. Returns how many.';

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
language sql stable
return (
    select count(*) from sightings s
    where not exists (select from events e where e.event_key = s.event_key)
       or not exists (select from relays r where r.relay_id = s.relay_id)
);
comment on function count_orphan_sightings() is 'Sightings whose event or relay is gone: 0 in a sound archive.';

-- ---------------------------------------------------------------------------------------------------------------
-- The finder: which relays events name, who named them, and which of them answer
-- ---------------------------------------------------------------------------------------------------------------

create table if not exists finder_queue (
    batch_id   bigint generated always as identity primary key,   -- what to read next: order by batch_id limit $1 for update skip locked
    event_keys bigint[] not null
);
comment on table finder_queue is 'New events, until the finder has read which relays they name: 8 bytes an event. Written with the events, deleted with what they name, so that each is read exactly once.';
comment on column finder_queue.batch_id is 'Order in which they came.';
comment on column finder_queue.event_keys is 'The events (events.event_key), at most 1,000. Some may be deleted since.';

create or replace function queue_events_for_finder() returns trigger
language plpgsql as $$
begin
    -- All of them: to look for names here would cost whoever archives a tenth of their rate.
    insert into finder_queue (event_keys)
    select array_agg(event_key)
    from (select event_key, (row_number() over () - 1) / 1000 as chunk from inserted) keys
    group by chunk;
    return null;
end $$;
comment on function queue_events_for_finder() is 'Trigger: new events are queued for the finder, whoever inserts them.';

create or replace trigger events_queue_for_finder after insert on events
referencing new table as inserted for each statement execute function queue_events_for_finder();

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
comment on column named_relays.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column named_relays.host is 'Host and port: at most 16 names with a path on one, since a server may answer on any.';
comment on column named_relays.domain is 'Registrable domain, network of an address, or tor: names under one share a budget of tries.';
comment on column named_relays.times is 'How many events and lists have named it.';
comment on column named_relays.first_named_at is 'When it was first named, Unix seconds, by created_at of the event: authors may lie.';
comment on column named_relays.first_event is 'Id of that event, 32 bytes; null for a list.';
comment on column named_relays.first_author is 'Public key of its author, 32 bytes; null for a list.';
comment on column named_relays.first_source is 'Where the name stood: relay_list, e_hint, monitor, … (src/nostr/relay-hints.ts), or list.';
comment on column named_relays.last_named_at is 'When it was last named, Unix seconds, by created_at; never later than when that was read.';
comment on column named_relays.authors is 'Different authors, in the order in which they were heard: the first 16. An empty one stands for the lists of the operator.';
comment on column named_relays.tries is 'How often it was asked in vain, and once more when it answered.';
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
-- Names that were given up the longest ago: where dropped_at is not null order by dropped_at
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
cross join lateral (
    select least(
        (select event_key from sightings where relay_id = a.relay_id order by event_key desc limit 1),
        (select event_key from sightings where relay_id = f.relay_id order by event_key desc limit 1)
    ) as newest
) both_hold
cross join lateral (
    select count(*) as compared, count(*) filter (
        where exists (select from sightings s where s.relay_id = a.relay_id and s.event_key = sample.event_key)
            and exists (select from sightings s where s.relay_id = f.relay_id and s.event_key = sample.event_key)
    ) as shared
    from (
        (select event_key from sightings where relay_id = a.relay_id and event_key <= newest order by event_key desc limit 100)
        union
        (select event_key from sightings where relay_id = f.relay_id and event_key <= newest order by event_key desc limit 100)
    ) sample
) e
where a.relay_id <> a.first_id and e.shared >= 0.9 * e.compared and e.compared > 0;
comment on view relay_aliases is 'Relays that seem to be one under several URLs: the same NIP-11 document, with a key in it, and nine tenths of the newest events. Each is shown beside the one known first. Nothing is merged: what looks the same may be a mirror.';
comment on column relay_aliases.relay_url is 'The URL that was known first (relays.url).';
comment on column relay_aliases.alias_url is 'The other URL.';
comment on column relay_aliases.pubkey is 'The key in the document of both.';
comment on column relay_aliases.same_address is 'Whether the latest check of each found the same address; null where one found none. Behind several addresses it may differ.';
comment on column relay_aliases.events_compared is 'Events held by either: the newest hundred of each, from the newest that both could hold.';
comment on column relay_aliases.events_shared is 'Those of them that both hold.';

-- lz4 compresses and expands TOAST faster than pglz at about the same size; not every build of PostgreSQL has it.
do $$
begin
    if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
        alter table events alter column content set compression lz4, alter column tags set compression lz4;
    end if;
end $$;
