-- The roles of the archive (see docs/containers.md). Run as the superuser, any number of times.
--   POSTGRES_USER     what the services log in as: reads and writes rows, no DDL
--   bigbrotr_reader   what people log in as: reads, and no statement for longer than five minutes
--   bigbrotr_owner    owns the relations; for migrations
--   pgbouncer         asks for the SCRAM secret of a writer or reader, and can do nothing else
-- Further people and services: CREATE ROLE anna LOGIN PASSWORD '…' IN ROLE bigbrotr_readers;
\set ON_ERROR_STOP on
\getenv database POSTGRES_DB
\getenv writer WRITER_USER
\getenv writer_password WRITER_PASSWORD
\getenv reader_password READER_PASSWORD
\getenv owner_password OWNER_PASSWORD
\getenv pgbouncer_password PGBOUNCER_PASSWORD
-- A statement that fails is written to the server's log, and some below hold a password.
SET log_min_error_statement = panic;
SET log_statement = none;
SET client_min_messages = warning;
BEGIN;

SELECT format('CREATE ROLE %I', name)
  FROM unnest(ARRAY['bigbrotr_owner', 'bigbrotr_writers', 'bigbrotr_readers', 'bigbrotr_reader', 'pgbouncer', :'writer']) AS name
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

ALTER ROLE :"writer" LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
ALTER ROLE pgbouncer LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
GRANT bigbrotr_writers TO :"writer";
GRANT bigbrotr_readers TO bigbrotr_reader;

-- An empty password leaves what is there: no login for the reader and the owner until they get one.
SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', name, password)
  FROM (VALUES (:'writer', :'writer_password'), ('bigbrotr_reader', :'reader_password'),
               ('bigbrotr_owner', :'owner_password'), ('pgbouncer', :'pgbouncer_password')) AS wanted (name, password)
 WHERE password <> '' \gexec

ALTER ROLE :"writer" SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE bigbrotr_reader SET idle_in_transaction_session_timeout = '60s';
ALTER ROLE bigbrotr_reader SET statement_timeout = '5min';
ALTER ROLE bigbrotr_reader SET default_transaction_read_only = on;

ALTER DATABASE :"database" OWNER TO bigbrotr_owner;
REVOKE ALL ON DATABASE :"database", postgres, template1 FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO bigbrotr_writers, bigbrotr_readers, pgbouncer;

-- What is there, and (by default privileges) whatever the owner creates later.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO bigbrotr_writers;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO bigbrotr_writers;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO bigbrotr_readers;
ALTER DEFAULT PRIVILEGES FOR ROLE bigbrotr_owner IN SCHEMA public
  GRANT SELECT, INSERT, UPDATE ON TABLES TO bigbrotr_writers;
ALTER DEFAULT PRIVILEGES FOR ROLE bigbrotr_owner IN SCHEMA public
  GRANT USAGE, SELECT ON SEQUENCES TO bigbrotr_writers;
ALTER DEFAULT PRIVILEGES FOR ROLE bigbrotr_owner IN SCHEMA public
  GRANT SELECT ON TABLES TO bigbrotr_readers;

-- All that the services ever delete: coverage whose every stretch was proven anew in another row,
-- holes that were closed, parts of filters that a relay takes whole, states of a relay that are made anew from its snapshots,
-- withheld events that came after all, and what the finder has read or forgets. (At a first start they are not there yet; the service "roles" runs this again when they are.)
SELECT format('GRANT DELETE ON public.%I TO bigbrotr_writers', name)
  FROM unnest(ARRAY['coverage', 'holes', 'filter_parts', 'relay_states', 'finder_queue', 'named_relays', 'withheld']) AS name
 WHERE to_regclass('public.' || name) IS NOT NULL \gexec

-- Which version the archive is of is for the owner to say.
SELECT 'REVOKE INSERT, UPDATE ON public.schema_migrations FROM bigbrotr_writers'
 WHERE to_regclass('public.schema_migrations') IS NOT NULL \gexec

-- PgBouncer's auth_query. It answers for writers and readers alone: never for a superuser, nor for
-- a role that could become one by SET ROLE, nor for the owner.
CREATE SCHEMA IF NOT EXISTS pgbouncer;
REVOKE ALL ON SCHEMA pgbouncer FROM PUBLIC;
GRANT USAGE ON SCHEMA pgbouncer TO pgbouncer;
CREATE OR REPLACE FUNCTION pgbouncer.secret_of(wanted text)
RETURNS TABLE (username text, secret text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT login.rolname::text, login.rolpassword
    FROM pg_authid AS login
   WHERE login.rolname = wanted
     AND login.rolcanlogin
     AND (login.rolvaliduntil IS NULL OR login.rolvaliduntil > now())
     AND (pg_has_role(login.oid, 'bigbrotr_writers', 'MEMBER') OR pg_has_role(login.oid, 'bigbrotr_readers', 'MEMBER'))
     AND NOT EXISTS (SELECT FROM pg_authid AS super
                      WHERE super.rolsuper AND pg_has_role(login.oid, super.oid, 'MEMBER'))
$$;
REVOKE ALL ON FUNCTION pgbouncer.secret_of(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgbouncer.secret_of(text) TO pgbouncer;
COMMENT ON FUNCTION pgbouncer.secret_of(text) IS 'The SCRAM secret of a writer or reader, for PgBouncer (auth_query in pgbouncer.ini).';

COMMIT;
