-- Of which kinds the events are that relays list by NIP-77 and do not serve.

alter table withheld add column kind integer;
comment on column withheld.kind is 'Kind of the event, where the relay has listed it for a filter that names this kind; null where it is not known.';

create or replace view withheld_kinds as
select r.url as relay_url, f.filter, w.kind, count(*) as withheld, min(w.first_at) as first_at, max(w.last_at) as last_at,
       min(w.next_try_at) as next_try_at
from withheld w
join relays r on r.relay_id = w.relay_id
join filters f on f.filter_id = w.filter_id
group by r.url, f.filter, w.kind;
comment on view withheld_kinds is 'How many events of each kind a relay lists by NIP-77 and does not serve, as far as their kinds are known.';
comment on column withheld_kinds.relay_url is 'URL of the relay (relays.url).';
comment on column withheld_kinds.filter is 'The filter with which the relay was read, as JSON (filters.filter).';
comment on column withheld_kinds.kind is 'Kind of the events; null: those of which it is not known.';
comment on column withheld_kinds.withheld is 'How many are withheld.';
comment on column withheld_kinds.first_at is 'When the first of them was found so, Unix seconds.';
comment on column withheld_kinds.last_at is 'When one of them was last asked for, Unix seconds.';
comment on column withheld_kinds.next_try_at is 'When the next of them is asked for again, Unix seconds; of a kind that is known a sample is, in place of all.';
