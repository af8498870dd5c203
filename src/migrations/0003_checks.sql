-- The checks of the monitor, each with a result of its own, beside what NIP-11 and NIP-66 gave. Snapshots that are there
-- have none. Nothing is rewritten: two columns without a default, and new tables.

create table check_results (
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

alter table snapshots add column results integer[], add column durations integer[];
comment on column snapshots.results is 'Results of its checks (check_results.result_id), in the order of their names above. No foreign key: an array has none.';
comment on column snapshots.durations is 'How long each of them took, milliseconds, in the same order.';

-- As it was: its "select *" knows the new columns, as it does in a new archive.
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

create table carried_checks (
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
        where v.oid in ('relay_checks'::regclass, 'relay_checks_latest'::regclass, 'relay_facts'::regclass)
        and col_description(s.attrelid, s.attnum) is not null
        order by v.oid, c.attname, s.attrelid
    loop
        execute format('comment on column %I.%I is %L', wanted.relname, wanted.attname, wanted.meaning);
    end loop;
end $$;

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

drop function insert_relay_metadata(text, text, bigint, jsonb, jsonb);
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
