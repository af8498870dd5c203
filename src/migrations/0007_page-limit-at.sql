-- When the largest limit of a relay was learnt, so that a larger one is tried again after a day; and a new reason of holes.

alter table relay_manners add column page_limit_at bigint;
comment on column relay_manners.page_limit is 'Largest limit it is asked for, where it refused a larger one or cut its pages short.';
comment on column relay_manners.page_limit_at is 'When a larger one did not work, Unix seconds; tried again after a day.';
comment on column holes.reason is 'dense: as many events as a page may hold; overflow: more than we take at once; oversized: an event larger than we take; quarantine_full: it holds events that have no room in the quarantine of this relay.';
