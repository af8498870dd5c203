-- What waits is said in one way, and only names that may be meant are suggested.

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
