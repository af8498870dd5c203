-- When the largest limit of a relay was learnt, so that a larger one is tried again after a day.

alter table relay_manners add column page_limit_at bigint;
comment on column relay_manners.page_limit is 'Largest limit it is asked for, where it refused a larger one or cut its pages short.';
comment on column relay_manners.page_limit_at is 'When a larger one did not work, Unix seconds; tried again after a day.';
