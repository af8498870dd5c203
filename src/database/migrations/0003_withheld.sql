-- Events that a relay lists by NIP-77 and does not serve are withheld; and the time to try NIP-77 again is stored as that.

alter table relay_manners add column nip77_not_before bigint, add column nip77_reason text;
update relay_manners set nip77_not_before = nip77_refused_at + 604800, nip77_reason = 'failed' where nip77_refused_at is not null;
-- A connection that was lost during NIP-77 was noted as a refusal of six days before.
comment on column relay_manners.nip77_refused_at is 'When NIP-77 was last found not to work with it, Unix seconds; null where nothing speaks against it.';
comment on column relay_manners.nip77_not_before is 'NIP-77 is not tried with it before this, Unix seconds; null where nothing speaks against it.';
comment on column relay_manners.nip77_reason is 'Why NIP-77 is not tried: unsupported, cut (its lists lack what it holds), too_many_withheld, too_large, blocked, restricted, auth_required, rate_limited or failed; null when it may be.';

create table withheld (
    relay_id      integer not null references relays on delete cascade,
    filter_id     integer not null references filters on delete cascade,
    id            bytea not null,
    stretch       int8range not null,
    reason        text not null,
    first_at      bigint not null,
    last_at       bigint not null,
    next_try_at   bigint not null,
    tries         integer not null default 1,
    authenticated boolean not null default false,
    constraint withheld_pkey primary key (relay_id, filter_id, id),   -- what a relay withholds
    constraint withheld_id_length check (octet_length(id) = 32),
    constraint withheld_reason_check check (reason in ('not_served', 'auth_required', 'restricted', 'refused'))
);
create index withheld_next_try on withheld (relay_id, filter_id, next_try_at);   -- those due

comment on table withheld is 'Events that a relay lists by NIP-77 and does not serve: all of the stretch but these is archived.';
comment on column withheld.relay_id is 'The relay.';
comment on column withheld.filter_id is 'The filter with which the relay was read.';
comment on column withheld.id is 'Id of the event, 32 bytes.';
comment on column withheld.stretch is 'Seconds in one of which it was created, upper end exclusive: the events listed before and after it bound them.';
comment on column withheld.reason is 'not_served: asked for by its id, the relay sends EOSE without it; auth_required, restricted, refused: CLOSED, by what it says.';
comment on column withheld.first_at is 'When it was first found so, Unix seconds.';
comment on column withheld.last_at is 'When it was last asked for, Unix seconds.';
comment on column withheld.next_try_at is 'When it is asked for again, Unix seconds.';
comment on column withheld.tries is 'How often it was asked for.';
comment on column withheld.authenticated is 'Whether it was last asked for after a successful authentication (NIP-42).';

do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on withheld to bigbrotr_writers;
    end if;
end $$;
