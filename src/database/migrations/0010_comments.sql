-- Comments in the words of the field, and the present names of files.

comment on table schema_migrations is 'The migrations (src/database/migrations) that made this archive or were applied to it. Kept by node-pg-migrate.';
comment on column schema_migrations.id is 'Order in which they were applied.';
comment on column schema_migrations.run_on is 'When it was applied.';
comment on function unix_now() is 'The current time in whole Unix seconds, rounded down as Node''s clock is: a cast alone rounds, half of the time to a second that has not come. All SQL of the archive uses it.';
comment on column relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column relays.inserted_at is 'When the relay was added, Unix seconds.';
comment on function event_tagvalues(jsonb) is 'Indexable tags as letter:value. Values above 255 bytes are left out: no filter asks for them.';
comment on table check_results is 'Results of checks of relays, each different one once. Query relay_checks instead: it has the relay, the time and the duration.';
comment on column check_results.data is 'What it found (src/nostr/check-result.ts); null when it failed. The ttl of dns is the largest seen with that answer: a resolver gives the time that is left.';
comment on column carried_checks.etag is 'ETag of a document (RFC 9110), for the next conditional request.';
comment on column relay_schedule.due_at is 'When it is checked next, Unix seconds: the longer it has been down, the later.';
comment on column relay_schedule.known_until is 'Until when the latest check counts, Unix seconds. Without another check its state is unknown from then on.';
comment on column relay_schedule.failures is 'Checks in a row that found it down; checks that could not tell are ignored.';
comment on column relay_schedule.seen_again_at is 'When an event or a list named it again since its latest check, Unix seconds: it is due at once. Null when none did.';
comment on column relay_states.from_at is 'Time of the first check with this result, or the time from which nothing is known, Unix seconds.';
comment on column relay_uptime.from_at is 'Time of the first check with this result, or the time from which nothing is known, Unix seconds.';
comment on function relay_state(boolean, boolean, text) is 'State of a relay by a NIP-66 result: up, down or unknown (relay_states.state). A relay that refuses is up; without a proxy for its network, or with that proxy or our own network down, the state is unknown.';
comment on function relay_check_jitter(integer, bigint) is 'A number from 0 to below 1 that spreads checks over time: pseudo-random, and the same for the same check.';
comment on function record_relay_check(integer, bigint, text, integer) is 'Records the result of a check: the state of the relay, and when it is due again. p_interval is the interval of living relays in seconds. The order of checks does not matter. Call it with a new snapshot. Always true.';
comment on function rebuild_relay_states(integer, integer) is 'Rebuilds the intervals and the schedule of a relay from its snapshots, as if it had been checked at that interval of seconds. Returns how many snapshots it has.';
comment on function recheck_relays(text[], integer) is 'Makes relays that were named again due at once, however long they have been down; not those checked within p_least_age seconds, so that repeated names do not undo the back-off. Returns how many.';
comment on column relay_availability.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on table filters is 'Event filters that relays were read with. Each filter has coverage of its own.';
comment on table relay_manners is 'Policy of a relay, learnt from its answers: pauses after refusals, pace, page size, and features that it refuses.';
comment on column relay_manners.pace_ms is 'Minimum time between two REQs, milliseconds.';
comment on column relay_manners.nip77_refused_at is 'When NIP-77 last failed with this relay, Unix seconds; null when NIP-77 may be used.';
comment on column relay_manners.nip77_not_before is 'NIP-77 is not tried with it before this, Unix seconds; null when NIP-77 may be used.';
comment on column relay_manners.retry_at is 'Not connected to before this, Unix seconds: it refused a connection with Retry-After, which is honoured up to a day.';
comment on column relay_manners.nip11_retry_reason is 'What that request was refused with, as in relay_checks: http_429, http_503 and the like.';
comment on column relay_manners.max_filter_values is 'Most values in one list of a filter that the relay takes, where it refused more.';
comment on column visits.failing_since is 'When the first of the failures in a row was recorded, Unix seconds; null when the latest visit that counts did not fail.';
comment on column readable_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column unread_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column named_relays.network is 'clearnet, tor, i2p or loki, by the host name.';
comment on column named_relays.authors is 'Different authors in the order in which their events were read: the first 16. An empty one stands for the lists of the operator.';
comment on column named_relays.tries is 'How often it was asked without an answer, plus one when it answered.';

-- As in init.sql: a column of a view with the name of the column that it comes from means the same.
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
            'coverage_gaps'::regclass, 'relay_coverage'::regclass, 'relay_offences_named'::regclass,
            'relay_checks'::regclass, 'relay_checks_latest'::regclass, 'relay_facts'::regclass
        ) and c.attname in ('network', 'data', 'failing_since', 'stop_reason') and col_description(s.attrelid, s.attnum) is not null
        order by v.oid, c.attname, s.attrelid
    loop
        execute format('comment on column %I.%I is %L', wanted.relname, wanted.attname, wanted.meaning);
    end loop;
end $$;
