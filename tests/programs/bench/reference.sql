-- The reference of the bench: how the first Bigbrotr, in Python, stored events. Written anew from its description.
-- Ids as hex in CHAR, the relay's URL in each row, tag values made by a generated column, an index for each column
-- that might be asked for, foreign keys, and one function call an event.

create table relays (
    url         text primary key,
    network     text not null,
    inserted_at bigint not null
);

create function tags_to_tagvalues(p_tags jsonb) returns text[]
language plpgsql immutable as $$
begin
    return (
        select array_agg((tag ->> 0) || ':' || (tag ->> 1))
        from jsonb_array_elements(p_tags) tag
        where length(tag ->> 0) = 1
    );
end $$;

create table events (
    id         char(64) primary key,
    pubkey     char(64) not null,
    created_at bigint not null,
    kind       integer not null,
    tags       jsonb not null,
    tagvalues  text[] generated always as (tags_to_tagvalues(tags)) stored,
    content    text not null,
    sig        char(128) not null
);
create index on events (pubkey);
create index on events (created_at);
create index on events (kind);
create index on events (kind, created_at);
create index on events (pubkey, created_at);
create index on events using gin (tagvalues);

create table events_relays (
    event_id  char(64) not null references events on delete cascade,
    relay_url text not null references relays on delete cascade,
    seen_at   bigint not null,
    primary key (event_id, relay_url)
);
create index on events_relays (event_id);
create index on events_relays (relay_url);
create index on events_relays (seen_at);

create function insert_event(
    p_id char(64), p_pubkey char(64), p_created_at bigint, p_kind integer, p_tags jsonb, p_content text,
    p_sig char(128), p_relay_url text, p_relay_network text, p_relay_inserted_at bigint, p_seen_at bigint
) returns void
language plpgsql as $$
begin
    insert into events (id, pubkey, created_at, kind, tags, content, sig)
    values (p_id, p_pubkey, p_created_at, p_kind, p_tags, p_content, p_sig)
    on conflict do nothing;
    insert into relays (url, network, inserted_at) values (p_relay_url, p_relay_network, p_relay_inserted_at)
    on conflict do nothing;
    insert into events_relays (event_id, relay_url, seen_at) values (p_id, p_relay_url, p_seen_at)
    on conflict do nothing;
end $$;
