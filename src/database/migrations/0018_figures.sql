-- Figures that are kept: counts by day, and totals that follow them (docs/figures.md).

insert into journal_readers (name) values ('refresher') on conflict do nothing;

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
    is_rebuild boolean not null default false
);
comment on table dirty_days is 'Days whose events or sightings changed since they were counted. The refresher recounts them, the present day first.';
comment on column dirty_days.day is 'UTC day of created_at, in days since 1970-01-01 (event_key_day).';
comment on column dirty_days.since is 'When the first change began that is not counted yet, Unix seconds.';
comment on column dirty_days.marked_at is 'When the latest change was read from the journal, Unix seconds.';
comment on column dirty_days.marks is 'How often it was marked. A recount removes the row only if nothing was marked since it began.';
comment on column dirty_days.is_rebuild is 'Whether current events, edges and zaps of the day are to be made anew too (npm run refresher -- --rebuild).';

create or replace function network_scope(p_network text) returns integer
language sql immutable parallel safe
return case p_network when 'clearnet' then -1 when 'tor' then -2 when 'i2p' then -3 else -4 end;
comment on function network_scope(text) is 'The scope (scope_stats.scope) of all relays of a network together.';

create or replace function is_in_scope(p_event_key bigint, p_scope integer) returns boolean
language sql stable
return case
    when p_scope = 0 then true
    when p_scope > 0 then exists (select from sightings where event_key = p_event_key and relay_id = p_scope)
    else exists (
        select from sightings s join relays r on r.relay_id = s.relay_id
        where s.event_key = p_event_key and network_scope(r.network) = p_scope
    )
end;
comment on function is_in_scope(bigint, integer) is 'Whether an event counts for a scope: it was seen on that relay, or on one of that network.';

create table if not exists daily_counts (
    day        integer not null,
    scope      integer not null,
    events     integer not null,
    only_here  integer not null,
    first_at   bigint not null,
    last_at    bigint not null,
    author_ids integer[] not null,
    kinds      integer[] not null,
    counts     integer[] not null,
    constraint daily_counts_pkey primary key (day, scope)   -- what was counted of a day
);
comment on table daily_counts is 'What was counted of a day and scope: its events by author and kind, packed into arrays. The totals of scope_stats, scope_kinds and scope_authors are the sums of these rows: a recount changes them by the difference. Query daily_authors and daily_relays instead.';
comment on column daily_counts.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_counts.scope is 'What is counted (scope_stats.scope).';
comment on column daily_counts.events is 'Events of that day.';
comment on column daily_counts.only_here is 'Of a relay: events that were seen on no other. Otherwise 0.';
comment on column daily_counts.first_at is 'created_at of the first of them, Unix seconds.';
comment on column daily_counts.last_at is 'created_at of the last of them, Unix seconds.';
comment on column daily_counts.author_ids is 'Authors (authors.author_id), once for each kind.';
comment on column daily_counts.kinds is 'Kinds, in the order of author_ids.';
comment on column daily_counts.counts is 'Events of that author and kind, in the same order.';

-- The first and the last day of a scope: where scope = $1 order by day
create index if not exists daily_counts_scope_day_index on daily_counts (scope, day);

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

create table if not exists scope_authors (
    scope     integer not null,
    author_id integer not null,
    events    bigint not null,
    first_at  bigint,
    last_at   bigint,
    kinds     integer[] not null,
    counts    integer[] not null,
    constraint scope_authors_pkey primary key (scope, author_id)   -- the figures of an author
);
comment on table scope_authors is 'Totals by author. Query pubkey_counts and pubkey_counts_by_relay instead.';
comment on column scope_authors.scope is 'What is counted (scope_stats.scope).';
comment on column scope_authors.author_id is 'The author (authors.author_id).';
comment on column scope_authors.events is 'Events of that author.';
comment on column scope_authors.first_at is 'created_at of the first of them, Unix seconds. Null while the days that have it wait for a recount.';
comment on column scope_authors.last_at is 'created_at of the last of them, Unix seconds. Null likewise.';
comment on column scope_authors.kinds is 'Kinds of these events, ascending.';
comment on column scope_authors.counts is 'Events of each of these kinds.';

-- The authors with the most events: where scope = $1 order by events desc
create index if not exists scope_authors_events_index on scope_authors (scope, events);
-- One author on all relays: where author_id = $1
create index if not exists scope_authors_author_index on scope_authors (author_id);

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
create index if not exists zaps_recipient_index on zaps (recipient_id, event_key);

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
comment on table daily_samples is 'Of the events of a day whose id begins with the hex digit 0, a sixteenth of all: on which relays they were seen.';
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
    as_of        bigint not null
);
comment on table reference_totals is 'How many of daily_references lead to events that the archive lacks. Query dangling_references instead.';
comment on column reference_totals.kind is 'Kind of the events that refer.';
comment on column reference_totals."references" is 'Sampled references.';
comment on column reference_totals.missing is 'Those to events that the archive lacks.';
comment on column reference_totals.as_of is 'Everything that was stored until then is counted, Unix seconds.';

create or replace view daily_authors as
select d.day, a.pubkey, sum(u.events) as events, count(*) as kinds
from daily_counts d
cross join lateral unnest(d.author_ids, d.counts) as u (author_id, events)
join authors a on a.author_id = u.author_id
where d.scope = 0
group by d.day, a.pubkey;
comment on view daily_authors is 'Events by day and author: where day = $1.';
comment on column daily_authors.day is 'UTC day of created_at, in days since 1970-01-01.';
comment on column daily_authors.pubkey is 'Public key of the author, 32 bytes.';
comment on column daily_authors.events is 'Events of that author.';
comment on column daily_authors.kinds is 'Different kinds of them.';

create or replace view daily_relays as
select day, scope as relay_id, events, only_here from daily_counts where scope > 0;
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
    f.as_of
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
left join nip11 d on d.id = l.nip11_id
cross join (select figures_as_of() as as_of) f;
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
select k.kind, k.events as event_count, k.authors as unique_pubkeys, kind_category(k.kind) as category, f.as_of
from scope_kinds k
cross join (select figures_as_of() as as_of) f
where k.scope = 0;
comment on view kind_counts is 'Events by kind.';
comment on column kind_counts.kind is 'Kind of event.';
comment on column kind_counts.event_count is 'Events of that kind.';
comment on column kind_counts.unique_pubkeys is 'Their authors.';
comment on column kind_counts.category is 'regular, replaceable, ephemeral, addressable or other (kind_category).';
comment on column kind_counts.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view kind_counts_by_relay as
select k.kind, r.url as relay_url, k.events as event_count, k.authors as unique_pubkeys, f.as_of
from scope_kinds k
join relays r on r.relay_id = k.scope
cross join (select figures_as_of() as as_of) f;
comment on view kind_counts_by_relay is 'Events by kind and relay.';
comment on column kind_counts_by_relay.kind is 'Kind of event.';
comment on column kind_counts_by_relay.relay_url is 'URL of the relay.';
comment on column kind_counts_by_relay.event_count is 'Events of that kind that were seen on it.';
comment on column kind_counts_by_relay.unique_pubkeys is 'Their authors.';
comment on column kind_counts_by_relay.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view pubkey_counts as
select
    encode(a.pubkey, 'hex') as pubkey, t.events as event_count, cardinality(t.kinds) as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, f.as_of
from scope_authors t
join authors a on a.author_id = t.author_id
cross join (select figures_as_of() as as_of) f
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
    r.url as relay_url, encode(a.pubkey, 'hex') as pubkey, t.events as event_count, cardinality(t.kinds) as unique_kinds,
    t.first_at as first_event_timestamp, t.last_at as last_event_timestamp, f.as_of
from scope_authors t
join relays r on r.relay_id = t.scope
join authors a on a.author_id = t.author_id
cross join (select figures_as_of() as as_of) f
where t.events >= 2;
comment on view pubkey_counts_by_relay is 'Events by author and relay, for authors with at least two events on it.';
comment on column pubkey_counts_by_relay.relay_url is 'URL of the relay.';
comment on column pubkey_counts_by_relay.pubkey is 'Public key of the author, hex.';
comment on column pubkey_counts_by_relay.event_count is 'Events of that author that were seen on it.';
comment on column pubkey_counts_by_relay.unique_kinds is 'Different kinds of them.';
comment on column pubkey_counts_by_relay.first_event_timestamp is 'created_at of the first of them, Unix seconds.';
comment on column pubkey_counts_by_relay.last_event_timestamp is 'created_at of the last of them, Unix seconds.';
comment on column pubkey_counts_by_relay.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view network_stats as
select
    n.network, n.relay_count, coalesce(s.events, 0) as event_count, coalesce(s.authors, 0) as unique_pubkeys,
    coalesce(s.kinds, 0)::bigint as unique_kinds, f.as_of
from (select network, count(*) as relay_count from relays group by network) n
left join scope_stats s on s.scope = network_scope(n.network)
cross join (select figures_as_of() as as_of) f;
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
    s.counted_at, f.as_of
from day_sums s
cross join (select figures_as_of() as as_of) f;
comment on view event_daily_counts is 'Events by UTC day of created_at.';
comment on column event_daily_counts.day is 'The day.';
comment on column event_daily_counts.event_count is 'Events of that day.';
comment on column event_daily_counts.unique_pubkeys is 'Their authors.';
comment on column event_daily_counts.unique_kinds is 'Their different kinds.';
comment on column event_daily_counts.counted_at is 'When the day was counted last, Unix seconds.';
comment on column event_daily_counts.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view replication as
select
    t.relays, t.events, round(t.events / sum(t.events) over (), 6) as share, f.as_of
from replication_totals t
cross join (select figures_as_of() as as_of) f;
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
select t.relay_url, t.authors, t.readers, t.writers, r.relay_id is not null as is_known, f.as_of
from relay_list_totals t
left join relays r on r.url = t.relay_url
cross join (select figures_as_of() as as_of) f;
comment on view relay_distribution is 'How many authors say that they use each relay (NIP-65).';
comment on column relay_distribution.relay_url is 'Normalised URL of the relay.';
comment on column relay_distribution.authors is 'Authors whose current relay list names it.';
comment on column relay_distribution.readers is 'Those that read there.';
comment on column relay_distribution.writers is 'Those that write there.';
comment on column relay_distribution.is_known is 'Whether the archive knows the relay.';
comment on column relay_distribution.as_of is 'Everything that was stored until then is counted (figures_as_of).';

create or replace view zap_stats as
select date '1970-01-01' + z.day as day, z.zaps, z.senders, z.recipients, z.millisats, f.as_of
from daily_zaps z
cross join (select figures_as_of() as as_of) f;
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
    least(f.as_of, (select min(since) - 1 from dirty_periods)) as as_of
from period_users p
cross join (select figures_as_of() as as_of) f;
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
    least(f.as_of, (select min(since) - 1 from dirty_periods)) as as_of
from cohorts c
cross join (select figures_as_of() as as_of) f;
comment on view retention is 'How many authors, by the week of their first event, are active so many weeks later.';
comment on column retention.cohort_week is 'Week of the first archived event of these authors: its Monday.';
comment on column retention.age_weeks is 'Weeks since then. 0: all authors of the cohort.';
comment on column retention.users is 'Those of them that have events of that week.';
comment on column retention.as_of is 'Everything that was stored until then is counted.';

create or replace view relay_cover as
select
    c.rank, r.url as relay_url, c.new_events, round(c.covered::numeric / nullif(c.sampled, 0), 6) as cumulative_share,
    c.sampled as sample_events, round(1 / 16.0, 6) as sample_share, c.as_of
from cover_ranks c
join relays r on r.relay_id = c.relay_id;
comment on view relay_cover is 'How much of the archive the first relays hold together (greedy set cover): each is the one that adds the most events to those before it. Counted on the events whose id begins with the hex digit 0.';
comment on column relay_cover.rank is '1 is the relay with the most events.';
comment on column relay_cover.relay_url is 'URL of the relay.';
comment on column relay_cover.new_events is 'Sampled events on it that none of the relays before it has.';
comment on column relay_cover.cumulative_share is 'Share of the sampled events that it or one before it has: 1 when all.';
comment on column relay_cover.sample_events is 'Size of the sample: events on any relay.';
comment on column relay_cover.sample_share is 'Share of all ids that belong to the sample.';
comment on column relay_cover.as_of is 'Everything that was stored until then is counted, Unix seconds.';

create or replace view dangling_references as
select t.kind, t."references", t.missing, round(1 / 256.0, 6) as sample_share, t.as_of
from reference_totals t;
comment on view dangling_references is 'References to events (tag e) that the archive lacks, by kind of the events that refer. Counted for targets whose id begins with the hex digits 00.';
comment on column dangling_references.kind is 'Kind of the events that refer.';
comment on column dangling_references."references" is 'Sampled references: an event that refers to the same one twice counts once.';
comment on column dangling_references.missing is 'Those to events that the archive lacks.';
comment on column dangling_references.sample_share is 'Share of all ids that belong to the sample.';
comment on column dangling_references.as_of is 'Everything that was stored until then is counted, Unix seconds.';

-- What is archived already is counted by the refresher.
select mark_all_days();

do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete, truncate on dirty_days, daily_counts, scope_stats, scope_kinds, scope_authors, daily_kinds, daily_replication, replication_totals, day_sums, recent_events, current_events, follow_edges, relay_list_edges, relay_list_totals, zaps, daily_zaps, dirty_periods, period_users, cohorts, daily_samples, cover_ranks, daily_references, reference_totals to bigbrotr_writers;
        execute format('grant temporary on database %I to bigbrotr_writers', current_database());
    end if;
end $$;

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
