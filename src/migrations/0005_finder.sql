-- The finder: a queue of new events, and the relays that they name. It is filled with the keys of all events
-- that an older archive holds.

create table finder_queue (
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

create table named_relays (
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
create index named_relays_next_try_at_index on named_relays (next_try_at) where next_try_at is not null;
-- Tries of the last hour, for the budgets: where last_try_at > $1
create index named_relays_last_try_at_index on named_relays (last_try_at) where last_try_at is not null;
-- Candidates that one author brought: where authors[1] = $1
create index named_relays_first_heard_index on named_relays ((authors[1])) where next_try_at is not null;
-- Names on one host: where host = $1
create index named_relays_host_index on named_relays (host);
-- Relays found under each domain: where answered_at is not null group by domain
create index named_relays_answered_index on named_relays (domain) where answered_at is not null;
-- Names that were given up the longest ago: where dropped_at is not null order by dropped_at
create index named_relays_dropped_at_index on named_relays (dropped_at) where dropped_at is not null;

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

-- What is in the archive already, the newest first. No event is read here, only its key: the services wait for this.
insert into finder_queue (event_keys)
select array_agg(event_key order by event_key desc)
from (select event_key, (row_number() over (order by event_key desc) - 1) / 1000 as chunk from events) keys
group by chunk
order by chunk;

-- dockerfiles/postgres/roles.sql grants this too, but it has run before this by the time of an upgrade.
do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on finder_queue, named_relays to bigbrotr_writers;
    end if;
end $$;
