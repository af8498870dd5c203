-- From the first init.sql to the first version with migrations: manners of relays, holes as gaps of their own, a bound
-- for the quarantine, shorter URLs (longer ones were never written), an explanation for each column of each view.
-- Versions in between had some of it already, so each step does nothing where it is done.

alter table relays drop constraint relays_url_length;
alter table relays add constraint relays_url_length check (octet_length(url) between 1 and 255);

alter table coverage drop constraint coverage_evidence_check;
alter table coverage add constraint coverage_evidence_check check (evidence in ('paging', 'finish', 'nip77', 'silence'));
comment on column coverage.evidence is 'paging: newest-first pages that went past it; finish: NIP-67; nip77: a finished reconciliation; silence: the relay has never shown an event, and is asked again at each visit.';

comment on table schema_migrations is 'The migrations (src/migrations) that this archive has had, or was made with. Kept by node-pg-migrate.';
comment on column schema_migrations.id is 'Order in which they came.';
comment on column schema_migrations.name is 'Name of the file, without its ending.';
comment on column schema_migrations.run_on is 'When it came.';
comment on table quarantine is 'Verified events that text and jsonb cannot hold exactly (NUL, lone surrogates), kept as the bytes they were, never cleaned. At most 10,000 events and 64 MB for each relay.';
comment on column holes.reason is 'dense: as many events as a page may hold; overflow: more than we take at once; quarantine_full: it holds events that have no room in the quarantine of this relay.';

create table if not exists relay_manners (
    relay_id          integer primary key references relays on delete cascade,
    not_before        bigint not null default 0,
    reason            text,
    refusals          integer not null default 0,
    pace_ms           integer not null default 0,
    page_limit        integer,
    nip77_refused_at  bigint
);
comment on table relay_manners is 'How a relay wants to be treated, as it was learnt: pauses after refusals, a pace, and what it does not do.';
comment on column relay_manners.relay_id is 'The relay.';
comment on column relay_manners.not_before is 'It is not visited before this, Unix seconds.';
comment on column relay_manners.reason is 'Why it pauses: rate_limited, auth_required, restricted, blocked or failed; null when it does not.';
comment on column relay_manners.refusals is 'Refused or failed visits in a row; each doubles the pause.';
comment on column relay_manners.pace_ms is 'Least milliseconds from one REQ to the next.';
comment on column relay_manners.page_limit is 'Largest limit it is asked for, where it refused a larger one.';
comment on column relay_manners.nip77_refused_at is 'When it last did not do NIP-77 though it said so, Unix seconds; asked again after a week.';

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
            'coverage_gaps'::regclass, 'relay_coverage'::regclass
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

create or replace function delete_orphan_events() returns bigint
language plpgsql as $$
declare
    deleted bigint;
begin
    -- Who is writing a sighting ends first, who comes later finds the event gone and brings it again: without this an
    -- event that is sighted in the same moment would be lost, though coverage says that it is held.
    lock table sightings in share row exclusive mode;
    delete from events e where not exists (select from sightings s where s.event_key = e.event_key);
    get diagnostics deleted = row_count;
    return deleted;
end $$;
