-- A failure of our own network is none of the relay's: a word for visits that it stopped, and for checks.

create or replace function is_stop_reason(p_word text) returns boolean
language sql immutable parallel safe
return p_word in (
    'stopped', 'time_is_up', 'proxy_down', 'network_down', 'no_proxy', 'worker_died', 'not_stored',
    'dns', 'refused', 'unreachable', 'reset', 'tls', 'http_error', 'protocol', 'forbidden',
    'timeout', 'disconnected', 'closed', 'oversized', 'overflow', 'garbled', 'forged',
    'ignores_until', 'ignores_since', 'hides_events', 'more_without_events', 'events_after_eose', 'unsteady',
    'limit_refused', 'filter_refused', 'rate_limited', 'auth_required', 'restricted', 'blocked', 'holes', 'withheld'
);

comment on column visits.stop_reason is 'What stopped it, one word of the closed set is_stop_reason(): not reached (dns, refused, unreachable, reset, tls, http_error, protocol, forbidden, no_proxy), lost (timeout, disconnected, closed), refused (rate_limited, auth_required, restricted, blocked, limit_refused, filter_refused), not to be believed (forged, garbled, overflow, ignores_until, ignores_since, hides_events, more_without_events, events_after_eose, unsteady), partly not provable (holes, withheld, oversized), or a matter of ours (stopped, time_is_up, proxy_down, network_down, worker_died, not_stored). Null: nothing did. On a complete visit: forged, where most of what was sent was refused.';
comment on column relay_coverage.stop_reason is 'What stopped it, one word of the closed set is_stop_reason(): not reached (dns, refused, unreachable, reset, tls, http_error, protocol, forbidden, no_proxy), lost (timeout, disconnected, closed), refused (rate_limited, auth_required, restricted, blocked, limit_refused, filter_refused), not to be believed (forged, garbled, overflow, ignores_until, ignores_since, hides_events, more_without_events, events_after_eose, unsteady), partly not provable (holes, withheld, oversized), or a matter of ours (stopped, time_is_up, proxy_down, network_down, worker_died, not_stored). Null: nothing did. On a complete visit: forged, where most of what was sent was refused.';

create or replace function relay_state(p_openable boolean, p_readable boolean, p_reason text) returns text
language sql immutable parallel safe
return case
    when p_openable is null then 'unknown'
    when p_readable then 'up'
    when p_openable and p_reason in (
        'auth_required', 'restricted', 'blocked', 'rate_limited', 'limit', 'filter_refused', 'too_many_values'
    ) then 'up'
    when p_reason in ('no_proxy', 'proxy_down', 'network_down') then 'unknown'
    else 'down'
end;
comment on function relay_state(boolean, boolean, text) is 'What a NIP-66 result says of a relay: up, down or unknown (relay_states.state). One that refuses is alive; where there is no proxy for its network, or that one or our own network is down, nothing is known.';
