-- Why visits stop is a word of a closed set, beside the sentence; since when a relay fails; what was refused of it; a share that
-- is measured from when Nostr began, with what is held and left; and one spelling of now, which never is a second ahead.

create or replace function unix_now() returns bigint
language sql stable parallel safe
return floor(extract(epoch from now()))::bigint;
comment on function unix_now() is 'Now in Unix seconds, as Node''s clock counts them: a cast alone rounds, half the time to a second that has not come. The only spelling of it in this archive.';

create or replace function nostr_began() returns bigint
language sql immutable parallel safe
return 1604707200;
comment on function nostr_began() is '2020-11-07 00:00 UTC, the day of the first commit of Nostr, Unix seconds. Events dated before it exist, but say nothing of how long a relay has been there.';

alter table relays alter column inserted_at set default unix_now();
alter table quarantine alter column seen_at set default unix_now();

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
comment on function recheck_relays(text[], integer) is 'Makes relays due at once that somebody names anew, however long they have been dead; not those that were checked within p_least_age seconds, so that names repeated all day do not undo the pauses. Returns how many.';

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

create or replace function insert_event(
    p_id bytea, p_pubkey bytea, p_created_at bigint, p_kind integer, p_tags jsonb, p_content text, p_sig bytea,
    p_relay_url text, p_relay_network text, p_seen_at bigint default unix_now()
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

create or replace function is_hole_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in ('dense', 'overflow', 'oversized', 'quarantine_full', 'contradicted', 'unreadable', 'withheld');
comment on function is_hole_reason(text) is 'The closed set of holes.reason, explained there. dense: the relay showed as many events as a page may hold; overflow: it sent more than is taken at once; oversized: it holds an event larger than is taken; quarantine_full: it holds events for which its quarantine has no room; contradicted: its answers contradict each other; unreadable: something in it ends every connection; withheld: the relay lists events that it does not serve.';

alter table holes add constraint holes_reason_check check (is_hole_reason(reason));
comment on column holes.reason is 'Why it is not proven. dense: as many events as a page may hold; overflow: more than is taken at once; oversized: an event larger than is taken; quarantine_full: it holds events that have no room in the quarantine of this relay; contradicted: answers that contradict each other; unreadable: something in it ends every connection; withheld: the relay lists events that it does not serve. A closed set: is_hole_reason().';

create or replace function is_stop_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'stopped', 'time_is_up', 'proxy_down', 'no_proxy', 'worker_died', 'not_stored',
    'dns', 'refused', 'unreachable', 'reset', 'tls', 'http_error', 'protocol', 'forbidden',
    'timeout', 'disconnected', 'closed', 'oversized', 'overflow', 'garbled', 'forged',
    'ignores_until', 'ignores_since', 'hides_events', 'more_without_events', 'events_after_eose', 'unsteady',
    'limit_refused', 'filter_refused', 'rate_limited', 'auth_required', 'restricted', 'blocked', 'holes', 'withheld'
);
comment on function is_stop_reason(text) is 'The closed set of visits.stop_reason; src/nostr/stop-reason.ts explains each word.';

alter table visits add column stop_reason text, add column failing_since bigint;
update visits
set stop_reason = case
        when outcome is null or outcome = 'complete' or detail is null then null
        when detail ~ '^http_[0-9]' then 'http_error'
        when detail ~ '^[a-z_]+(:| during |$)' and is_stop_reason(substring(detail from '^[a-z_]+')) then
            case when detail ~* '^closed: .*\mlimit\M' then 'limit_refused' else substring(detail from '^[a-z_]+') end
        when detail = 'time is up' then 'time_is_up'
        when detail = 'aborted' then 'stopped'
        when detail = 'ignores until' then 'ignores_until'
        when detail ~ '^ignores since' then 'ignores_since'
        when detail ~ 'forged or broken events' then 'forged'
        when detail ~ '^says that there is more' then 'more_without_events'
        when detail ~ 'has shown events' then 'hides_events'
        when detail ~ '^[0-9]+ stretches cannot be proven' then 'holes'
        when detail ~ 'worker died|thread' then 'worker_died'
        else 'protocol'
    end,
    failing_since = case when failures > 0 then coalesce(ended_at, started_at) end;
alter table visits add constraint visits_stop_reason_check check (is_stop_reason(stop_reason));
comment on column visits.detail is 'Why it is not complete, as a sentence; after a colon in the words of the relay.';
comment on column visits.failures is 'Visits in a row that failed, or used up their time without a proof. One that was stopped before it could prove anything counts neither way.';
comment on column visits.stop_reason is 'What stopped it, one word of the closed set is_stop_reason(): not reached (dns, refused, unreachable, reset, tls, http_error, protocol, forbidden, no_proxy), lost (timeout, disconnected, closed), refused (rate_limited, auth_required, restricted, blocked, limit_refused, filter_refused), not to be believed (forged, garbled, overflow, ignores_until, ignores_since, hides_events, more_without_events, events_after_eose, unsteady), partly not provable (holes, withheld, oversized), or a matter of ours (stopped, time_is_up, proxy_down, worker_died, not_stored). Null: nothing did. On a complete visit: forged, where most of what was sent was refused.';
comment on column visits.failing_since is 'When the first of the failures in a row was noted, Unix seconds; null when the latest visit that tells did not fail.';

create or replace function is_offence_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'not_object', 'id', 'pubkey', 'created_at', 'kind', 'tags', 'content', 'sig', 'too_large', 'id_mismatch', 'bad_signature',
    'filter_mismatch', 'not_json', 'not_a_message', 'too_many_elements', 'wrong_subscription', 'binary_frame',
    'after_eose', 'repeat', 'quarantine_full'
);
comment on function is_offence_reason(text) is 'The closed set of relay_offences.reason, explained there.';

create table relay_offences (
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

create or replace view relay_offences_named as
select r.url as relay_url, o.reason, o.count, o.first_at, o.last_at, encode(o.example_id, 'hex') as example_id
from relay_offences o
join relays r on r.relay_id = o.relay_id;
comment on view relay_offences_named is 'What was refused of each relay, by reason, with its URL and an example as hex.';

create or replace function sightings_in(p_relay_id integer, p_stretch int8range) returns bigint
language sql stable parallel safe
return (
    select count(*) from sightings
    where relay_id = p_relay_id and not isempty(p_stretch) and event_key >= event_key_floor(lower(p_stretch))
        and event_key <= event_key_floor(least(upper(p_stretch), 549755813888) - 1) + 16777215
);
comment on function sightings_in(integer, int8range) is 'How many events of these seconds were seen on a relay. Reads one index entry an event: about a million a second on a busy machine.';

create or replace function oldest_known(p_relay_id integer, p_stretch int8range) returns bigint
language sql stable parallel safe
return least(
    (select event_key >> 24 from sightings
     where relay_id = p_relay_id and event_key >= event_key_floor(greatest(lower(p_stretch), nostr_began()))
     order by event_key limit 1),
    (select min(created_at) from quarantine
     where relay_id = p_relay_id and created_at >= greatest(lower(p_stretch), nostr_began()))
);
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
language sql stable parallel safe
return (
    select case when count(*) = 0 then 0 else round(sum(case when around > 0 then greatest(length * seen / around - held, 0) end))::bigint end
    from (
        select gap, (upper(gap) - lower(gap))::numeric as length, upper(come) as come_until, lower(come) as come_since
        from (select seconds_that_count(p_wanted) as come) c, unnest(come::int8multirange - p_covered) gap
    ) g
    cross join lateral (
        select count(*) as newer, max(event_key >> 24) as newest
        from (
            select event_key from sightings
            where relay_id = p_relay_id and event_key >= event_key_floor(upper(gap)) and event_key < event_key_floor(come_until)
            order by event_key limit 500
        ) above
    ) a
    cross join lateral (
        select count(*) as older, min(event_key >> 24) as oldest
        from (
            select event_key from sightings
            where relay_id = p_relay_id and event_key < event_key_floor(lower(gap)) and event_key >= event_key_floor(come_since)
            order by event_key desc limit 500
        ) below
    ) b
    cross join lateral (
        select newer + older as seen,
            case newer when 500 then newest - upper(gap) + 1 else come_until - upper(gap) end
            + case older when 500 then lower(gap) - oldest else lower(gap) - come_since end as around,
            sightings_in(p_relay_id, gap) as held
    ) d
);
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
    end as estimate_basis
from visits v
join relays r on r.relay_id = v.relay_id
join filters f on f.filter_id = v.filter_id
left join relay_manners m on m.relay_id = v.relay_id
cross join lateral (
    select coalesce(range_agg(covered), '{}') as covered, min(proven_at) as oldest_proof
    from coverage where relay_id = v.relay_id and filter_id = v.filter_id
) c;
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
        where v.oid in ('coverage_gaps'::regclass, 'relay_coverage'::regclass, 'relay_offences_named'::regclass)
            and col_description(s.attrelid, s.attnum) is not null
        order by v.oid, c.attname, s.attrelid
    loop
        execute format('comment on column %I.%I is %L', wanted.relname, wanted.attname, wanted.meaning);
    end loop;
end $$;

comment on column relay_coverage.relay_url is 'URL of the relay (relays.url).';
comment on column relay_coverage.share is 'Share of the wanted seconds that is proven complete: 1 when all that have come are, else less. Counted from 2020-11-07, when Nostr began, or from the oldest event known of the relay where all below it is proven; see coverage_share().';
comment on column relay_coverage.first_second is 'First second of created_at that is proven complete.';
comment on column relay_coverage.last_second is 'Last second of created_at that is proven complete.';
comment on column relay_coverage.gaps is 'How many gaps coverage_gaps shows.';
comment on column relay_coverage.holes is 'How many stretches were tried in vain.';
comment on column relay_coverage.oldest_proof_age is 'Seconds since the oldest proof that still stands; null when there is none.';
comment on column relay_coverage.visited_at is 'When the latest visit ended, Unix seconds; null while it goes on or when it was cut off.';
comment on column relay_coverage.paused_until is 'The relay is not visited before this, Unix seconds (relay_manners.not_before); null when it does not pause. What lies more than 30 days and an hour ahead was noted while the clock was wrong, and holds nothing up.';
comment on column relay_coverage.offences is 'How much of what the relay ever sent was refused, by whatever filter: the sum over relay_offences.';
comment on column relay_coverage.events_held is 'Events of the wanted time that were seen on this relay, by whatever filter. Counted one by one: see sightings_in().';
comment on column relay_coverage.events_left_estimate is 'How many events may be left to archive: see estimate_basis. Null when nothing tells.';
comment on column relay_coverage.estimate_basis is 'What the estimate rests on. complete: nothing that has come is missing, so that it is 0; density: the gaps are taken to be as dense as what was archived next to them (events_left()); unknown: nothing next to them is known.';
comment on column unread_relays.relay_url is 'URL of the relay (relays.url).';
comment on column unread_relays.network is 'clearnet, tor, i2p or loki: told by the host name.';
comment on column unread_relays.reason is 'never_checked: it waits for its first check; not_readable: its latest check got no answer to a REQ; never_visited: it is readable and waits for its first visit, or the blocklist has it.';
comment on column unread_relays.check_reason is 'Why that check failed (nip66.reason): timeout, dns, auth_required, …; null when it did not, or there was none.';
comment on column unread_relays.since is 'The first check since the last one that found it readable; for the other reasons when it became known. Unix seconds.';
comment on column unread_relays.checked_at is 'When it was checked, Unix seconds; null when it never was.';
comment on column unread_relays.next_check_at is 'When it is checked again, Unix seconds; null: as soon as there is room.';
comment on column unread_relays.visited_at is 'When it was last visited, Unix seconds; null when it never was.';
comment on column relay_offences_named.relay_url is 'URL of the relay (relays.url).';
comment on column relay_offences_named.example_id is 'The id that the first of them claimed, as 64 hex digits; null where none had one.';
comment on column coverage_gaps.relay_url is 'URL of the relay (relays.url).';
comment on column coverage_gaps.since is 'First second of the gap, as in a filter.';
comment on column coverage_gaps.until is 'Last second of the gap, as in a filter.';
comment on column coverage_gaps.hole is 'Why it could not be proven complete though the relay was asked (holes.reason); null when it is only not read yet.';
comment on column coverage_gaps.hole_events is 'Events the relay showed there (holes.events).';
