-- What an operator asks: everything about one relay (explain_relay), and how the archive stands (archive_status).

create or replace function utc_time(p_seconds bigint) returns text
language sql immutable parallel safe
return to_char(to_timestamp(p_seconds) at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"');
comment on function utc_time(bigint) is 'Unix seconds as people and programs read them: 2026-11-30T10:00:00Z.';

create or replace function estimated_rows(p_table regclass) returns bigint
language sql stable
return (
    select case
        when c.relpages > 0 and c.reltuples > 0
            then c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::integer)
        else pg_stat_get_live_tuples(c.oid)
    end::bigint
    from pg_class c where c.oid = p_table
);
comment on function estimated_rows(regclass) is 'About how many rows a table has, without reading it: its density at the latest vacuum or analyze times its size now, as the planner estimates.';

create or replace function rows_of(p_table regclass, out amount bigint, out unit text, out age bigint)
language plpgsql stable as $$
declare
    since interval;
begin
    if pg_relation_size(p_table) < 67108864 then
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
language sql stable as $$
    select case when n.counted <= 100000 then n.counted else greatest(n.counted, s.estimate)::bigint end, n.counted <= 100000
    from (
        -- The order makes it an index scan whatever share of the sightings is of this relay.
        select count(*) as counted
        from (select from sightings where relay_id = p_relay_id order by event_key desc limit 100001) first
    ) n
    left join lateral (
        -- The share of this relay among all sightings; of one that is not among the most common, the average of the others.
        select estimated_rows('sightings') * coalesce(
            most_common_freqs[array_position(most_common_vals::text::integer[], p_relay_id)],
            (1 - (select sum(f) from unnest(most_common_freqs) f))
                / greatest(n_distinct - cardinality(most_common_freqs), 1)
        ) as estimate
        from pg_stats where schemaname = 'public' and tablename = 'sightings' and attname = 'relay_id'
    ) s on n.counted > 100000
$$;
comment on function relay_events_held(integer) is 'How many events were seen on a relay: counted up to 100,000, estimated by the planner''s statistics above.';

create or replace function similar_relays(p_url text, p_limit integer default 5) returns table (url text, similarity numeric)
language sql stable as $$
    with wanted as materialized (
        select array_agg(distinct substr(name, place, 3)) as trigrams
        from (select ' ' || regexp_replace(lower(rtrim(btrim(p_url), '/')), '^wss?://', '') || ' ' as name) n
        cross join generate_series(1, length(name) - 2) place
    )
    select r.url, round(2.0 * t.shared / (cardinality(w.trigrams) + length(n.name) - 2), 4) as similarity
    from relays r
    cross join wanted w
    cross join lateral (select ' ' || substr(r.url, strpos(r.url, '://') + 3) || ' ' as name) n
    cross join lateral (select count(*) as shared from unnest(w.trigrams) trigram where strpos(n.name, trigram) > 0) t
    where 2.0 * t.shared >= 0.4 * (cardinality(w.trigrams) + length(n.name) - 2)
    order by 2 desc, 1
    limit p_limit
$$;
comment on function similar_relays(text, integer) is 'Known relays whose URL is most like this one, by the groups of three letters that both have (Dice''s coefficient).';

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
        ('oldest held', utc_time((
            select event_key >> 24 from sightings where relay_id = r.relay_id order by event_key limit 1
        )), 'time'),
        ('newest held', utc_time((
            select event_key >> 24 from sightings where relay_id = r.relay_id order by event_key desc limit 1
        )), 'time'),
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
language sql stable as $$
    select case
        when n.counted <= 100000 then n.counted
        else greatest(n.counted, (
            -- About a hundredth of the time, in a hundred places.
            select sum((
                select count(*) from events
                where created_at >= p_since + (p_until - p_since) * place / 100
                    and created_at < p_since + (p_until - p_since) * place / 100 + w.width
            ))::bigint * (p_until - p_since) / (100 * min(w.width))
            from (select greatest((p_until - p_since) / 10000, 1) as width) w
            cross join generate_series(0, 99) place
        ))
    end, n.counted <= 100000
    from (
        select count(*) as counted
        from (
            select from events where created_at >= p_since and created_at < p_until order by created_at desc limit 100001
        ) first
    ) n
$$;
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
        (7, 'size of events', pg_total_relation_size('public.events')),
        (8, 'size of sightings', pg_total_relation_size('public.sightings'))
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
    cross join (select count(*) as batches from finder_queue) q
    cross join lateral (values
        (1, 'relays due for a check', k.due::text, 'count'),
        (2, 'next check', utc_time(k.next_at), 'time'),
        (3, 'latest check', utc_time(k.latest), 'time'),
        (4, 'readable relays never visited', u.never::text, 'count'),
        (5, 'batches of events the finder has not read', q.batches::text, 'count'),
        (6, 'candidates of the finder', n.waiting::text, 'count'),
        (7, 'candidates due for a try', n.due::text, 'count'),
        (8, 'next try of a candidate', utc_time(n.next_at), 'time')
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
