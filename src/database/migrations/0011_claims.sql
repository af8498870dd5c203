-- Any number of hosts: one holder a relay and kind of work, by leases and fencing tokens.
create sequence claim_token_sequence;
comment on sequence claim_token_sequence is 'Fencing tokens (claims.token): each claim gets a higher one than every claim before it.';
-- They begin with the time in microseconds: where an archive takes the place of another, no process holds a token of this one.
do $$
begin
    perform setval('claim_token_sequence', greatest(last_value, (extract(epoch from clock_timestamp()) * 1000000)::bigint))
    from claim_token_sequence;
end $$;

create table claims (
    work     text not null,
    relay_id integer not null,
    holder   text not null,
    token    bigint not null,
    since    bigint not null,
    until    bigint not null,
    constraint claims_pkey primary key (work, relay_id),
    constraint claims_work_check check (work in ('visit', 'check', 'try'))
) with (fillfactor = 50);   -- each row is renewed every 20 s: its versions stay on their page
comment on table claims is 'Which process works on which relay: one holder a relay and kind of work, over all hosts. claimed_relays shows it by URL.';
comment on column claims.work is 'visit: a synchronizer or the priority synchronizer visits the relay, or follows it live; check: the monitor checks it; try: the finder asks it whether it is a relay.';
comment on column claims.relay_id is 'The relay (relays.relay_id); of a try the name (named_relays.name_id).';
comment on column claims.holder is 'The process that works on it: host, process id and a random part.';
comment on column claims.token is 'Fencing token: what rests on the claim is written only while the row has the token of the writer (holds_claim).';
comment on column claims.since is 'When the holder took it, Unix seconds.';
comment on column claims.until is 'End of the lease, Unix seconds by the clock of the database: from then on another process may take the claim. Renewed three times in a lease. A visit claim with an ended lease makes its relay due at once: its holder stopped while it visited or followed it.';

create or replace function is_lease_valid(p_until bigint) returns boolean
language sql stable parallel safe
return p_until between unix_now() and unix_now() + 7200;
comment on function is_lease_valid(bigint) is 'Whether a lease (claims.until) has not ended. One that lies further ahead than any lease was noted while the clock was wrong.';

create or replace function take_claims(p_work text, p_relay_ids integer[], p_holder text, p_lease integer)
returns table (relay_id integer, token bigint)
language sql volatile as $$
    with ended as (
        -- A holder that writes under its claim at this moment has it locked (holds_claim): that one is skipped.
        select c.relay_id
        from claims c
        where c.work = p_work and c.relay_id = any (p_relay_ids) and (not is_lease_valid(c.until) or c.holder = p_holder)
        order by c.relay_id
        for update skip locked
    ), taken as (
        update claims c
        set holder = p_holder, token = nextval('claim_token_sequence'), since = unix_now(), until = unix_now() + p_lease
        from ended
        where c.work = p_work and c.relay_id = ended.relay_id
        returning c.relay_id, c.token
    ), added as (
        insert into claims (work, relay_id, holder, token, since, until)
        select p_work, wanted.id, p_holder, nextval('claim_token_sequence'), unix_now(), unix_now() + p_lease
        from (select distinct id from unnest(p_relay_ids) id order by id) wanted
        where not exists (select from claims c where c.work = p_work and c.relay_id = wanted.id)
        on conflict do nothing
        returning relay_id, token
    )
    select relay_id, token from taken
    union all
    select relay_id, token from added
$$;
comment on function take_claims(text, integer[], text, integer) is 'Claims relays for a holder, each for a lease of p_lease seconds: those that nobody holds, that the holder holds already, and whose lease has ended. Returns the claimed ones with their fencing tokens; the others are held by another process.';

create or replace function holds_claim(p_work text, p_relay_id integer, p_token bigint) returns boolean
language plpgsql volatile as $$
begin
    if p_token is null then
        return true;
    end if;
    -- "for key share" makes a take-over wait for the end of this transaction, and the renewal of the lease not.
    perform from claims c where c.work = p_work and c.relay_id = p_relay_id and c.token = p_token for key share;
    return found;
end $$;
comment on function holds_claim(text, integer, bigint) is 'Whether a claim still has this fencing token, in the transaction that writes what rests on it: nobody takes the claim over until that has ended. True without a token: commands of an operator need no claim.';

create or replace view claimed_relays as
select
    c.work, coalesce(r.url, n.url) as relay_url, c.holder, c.since, c.until, is_lease_valid(c.until) as is_valid
from claims c
left join relays r on c.work <> 'try' and r.relay_id = c.relay_id
left join named_relays n on c.work = 'try' and n.name_id = c.relay_id;
comment on view claimed_relays is 'Who holds which relay, and since when.';
comment on column claimed_relays.work is 'visit, check or try.';
comment on column claimed_relays.relay_url is 'Normalised WebSocket URL.';
comment on column claimed_relays.holder is 'The process: host, process id and a random part.';
comment on column claimed_relays.since is 'When it took the claim, Unix seconds.';
comment on column claimed_relays.until is 'When the lease ends unless it is renewed, Unix seconds.';
comment on column claimed_relays.is_valid is 'Whether the lease has not ended: false where the holder stopped working and nobody else has taken the relay yet.';

-- Set from priority_relays.txt by the initializer and the priority synchronizer.
alter table relays add column priority boolean not null default false;
comment on column relays.priority is 'Whether the priority synchronizer visits the relay instead of the synchronizer: it is listed in priority_relays.txt.';

-- dockerfiles/postgres/roles.sql grants this too, but it has run before this by the time of an upgrade.
do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on claims to bigbrotr_writers;
    end if;
end $$;
