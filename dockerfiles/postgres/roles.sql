-- The roles of the archive (docs/containers.md). Idempotent; run it as the superuser.
--   POSTGRES_USER     what the services log in as: reads and writes rows, no DDL
--   bigbrotr_reader   what people log in as: reads, and no statement for longer than five minutes
--   bigbrotr_api      what the API logs in as: reads, and no statement for longer than a minute
--   bigbrotr_owner    owns the relations; for migrations
--   admin             people inside this container (docker exec): everything. It has no password, so it
--                     logs in on the container's socket only
--   pgbouncer         asks for the SCRAM secret of a writer or reader, and can do nothing else
-- Further people and services: create role anna login password '…' in role bigbrotr_readers;
\set ON_ERROR_STOP on
\getenv database POSTGRES_DB
\getenv writer WRITER_USER
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD
\getenv owner_password OWNER_PASSWORD
\getenv api_password API_PASSWORD
\getenv pgbouncer_password PGBOUNCER_PASSWORD
-- The server logs statements that fail, and some below hold a password.
set log_min_error_statement = panic;
set log_statement = none;
set client_min_messages = warning;
begin;

select format('create role %I', name)
from unnest(array['bigbrotr_owner', 'bigbrotr_writers', 'bigbrotr_readers', 'bigbrotr_reader', 'bigbrotr_api', 'admin', 'pgbouncer', :'writer']) as name
where not exists (select from pg_roles where rolname = name) \gexec

alter role :"writer" login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
alter role admin login superuser password null;
alter role pgbouncer login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
grant bigbrotr_writers to :"writer";
grant bigbrotr_readers to bigbrotr_reader, bigbrotr_api;

-- An empty password changes nothing: the reader, the API and the owner cannot log in until they have one.
select format('alter role %I login password %L', name, password)
from (values (:'writer', :'writer_password'), ('bigbrotr_reader', :'reader_password'),
             ('bigbrotr_api', :'api_password'), ('bigbrotr_owner', :'owner_password'), ('pgbouncer', :'pgbouncer_password')) as wanted (name, password)
where password <> '' \gexec

alter role :"writer" set idle_in_transaction_session_timeout = '60s';
alter role bigbrotr_reader set idle_in_transaction_session_timeout = '60s';
alter role bigbrotr_reader set statement_timeout = '5min';
alter role bigbrotr_reader set default_transaction_read_only = on;
alter role bigbrotr_api set idle_in_transaction_session_timeout = '60s';
alter role bigbrotr_api set statement_timeout = '1min';
alter role bigbrotr_api set default_transaction_read_only = on;

alter database :"database" owner to bigbrotr_owner;
revoke all on database :"database", postgres, template1 from public;
grant connect on database :"database" to bigbrotr_writers, bigbrotr_readers, pgbouncer;
-- The refresher compares counts of a day in temporary tables.
grant temporary on database :"database" to bigbrotr_writers;

-- Existing relations, and (by default privileges) those that the owner creates later.
revoke create on schema public from public;
grant select, insert, update on all tables in schema public to bigbrotr_writers;
grant usage, select on all sequences in schema public to bigbrotr_writers;
grant select on all tables in schema public to bigbrotr_readers;
alter default privileges for role bigbrotr_owner in schema public
    grant select, insert, update on tables to bigbrotr_writers;
alter default privileges for role bigbrotr_owner in schema public
    grant usage, select on sequences to bigbrotr_writers;
alter default privileges for role bigbrotr_owner in schema public
    grant select on tables to bigbrotr_readers;

-- Services delete rows of these tables only: coverage that was proven again in another row, holes that were closed,
-- parts of filters that a relay takes whole, states that are rebuilt from snapshots, withheld events that arrived,
-- journal rows that are read and old, names that the finder forgets, and claims that were released. (Before a first start they do not exist; the service "roles" runs this again.)
select format('grant delete on public.%I to bigbrotr_writers', name)
from unnest(array['coverage', 'holes', 'filter_parts', 'relay_states', 'journal', 'named_relays', 'withheld', 'claims']) as name
where to_regclass('public.' || name) is not null \gexec

-- The refresher replaces figures, and empties them before it makes them anew.
select format('grant delete, truncate on public.%I to bigbrotr_writers', name)
from unnest(array[
    'dirty_days', 'daily_counts', 'daily_scopes', 'scope_stats', 'scope_kinds', 'scope_authors',
    'daily_kinds', 'daily_replication', 'replication_totals', 'day_sums', 'recent_events',
    'current_events', 'follow_edges', 'relay_list_edges', 'relay_list_totals', 'zaps',
    'daily_zaps', 'dirty_periods', 'period_users', 'cohorts', 'daily_samples',
    'cover_ranks', 'daily_references', 'reference_totals'
]) as name
where to_regclass('public.' || name) is not null \gexec

-- Only the owner records migrations.
select 'revoke insert, update on public.schema_migrations from bigbrotr_writers'
where to_regclass('public.schema_migrations') is not null \gexec

-- PgBouncer's auth_query, for writers and readers only: not for the owner, a superuser, or a role that could become a
-- superuser by set role.
create schema if not exists pgbouncer;
revoke all on schema pgbouncer from public;
grant usage on schema pgbouncer to pgbouncer;
create or replace function pgbouncer.secret_of(wanted text)
returns table (username text, secret text)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select login.rolname::text, login.rolpassword
    from pg_authid as login
    where login.rolname = wanted
        and login.rolcanlogin
        and (login.rolvaliduntil is null or login.rolvaliduntil > now())
        and (pg_has_role(login.oid, 'bigbrotr_writers', 'MEMBER') or pg_has_role(login.oid, 'bigbrotr_readers', 'MEMBER'))
        and not exists (
            select from pg_authid as super
            where super.rolsuper and pg_has_role(login.oid, super.oid, 'MEMBER')
        )
$$;
revoke all on function pgbouncer.secret_of(text) from public;
grant execute on function pgbouncer.secret_of(text) to pgbouncer;
comment on function pgbouncer.secret_of(text) is 'The SCRAM secret of a writer or reader, for PgBouncer (auth_query in pgbouncer.ini).';

commit;
