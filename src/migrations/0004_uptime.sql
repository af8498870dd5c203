-- When relays are checked, and since when they answer. Filled from the snapshots that are there, as if relays had been
-- checked every eight hours, the default; a monitor with another interval is served by
-- select rebuild_relay_states(relay_id, 86400) from relays, here for one day. About half a minute for a million snapshots.

create table relay_schedule (
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

create table relay_states (
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
create unique index relay_states_open_index on relay_states (relay_id) where to_at is null;

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

select rebuild_relay_states(relay_id, 28800)
from relays r
where exists (select from snapshots s where s.relay_id = r.relay_id);
