#!/bin/bash
# Runs once at each "docker compose up", against the running PostgreSQL: passwords and grants
# follow .env and this version of roles.sql, and what a first start that was cut off left out (the
# database, the relations of init.sql) is made now. Doing it again changes nothing.
set -euo pipefail
. /opt/bigbrotr/secrets.sh
export PGHOST=postgres PGCONNECT_TIMEOUT=10

as_admin() { PGUSER=postgres PGPASSWORD=$POSTGRES_ADMIN_PASSWORD psql --no-psqlrc -qAt -v ON_ERROR_STOP=1 "$@"; }

# keep NAME USER: forgets the password in the variable NAME where USER can log in with it already.
# Setting it again would change its salt, and PgBouncer's sessions of that user would be refused.
keep() {
  if [ -n "${!1}" ] && PGUSER=$2 PGPASSWORD=${!1} psql --no-psqlrc -qAt -c '' 2>/dev/null; then
    export "$1="
  fi
}

as_admin -d postgres -c '' || fail "the superuser postgres cannot log in. If POSTGRES_ADMIN_PASSWORD in .env was changed after the database was made, tell the database: docker compose exec postgres psql -U postgres -c '\\password'"
as_admin -d postgres <<'SQL'
\getenv database POSTGRES_DB
SELECT format('CREATE DATABASE %I', :'database')
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec
SQL
export PGDATABASE=$POSTGRES_DB
keep WRITER_PASSWORD "$WRITER_USER"
keep READER_PASSWORD bigbrotr_reader
keep OWNER_PASSWORD bigbrotr_owner
keep API_PASSWORD bigbrotr_api
keep PGBOUNCER_PASSWORD pgbouncer
as_admin -f /opt/bigbrotr/roles.sql

# init.sql writes down its version last: a record without an entry is that of a load that was cut off.
if [ -z "$(as_admin -c "SELECT to_regclass('public.events')")" ] ||
  [ "$(as_admin -c 'SELECT count(*) FROM public.schema_migrations' 2>/dev/null)" = 0 ]; then
  echo "the archive's relations are missing: loading init.sql"
  PGOPTIONS='-c role=bigbrotr_owner' as_admin --single-transaction -f /docker-entrypoint-initdb.d/20-init.sql
  as_admin -f /opt/bigbrotr/roles.sql
fi
echo "roles, passwords and grants are as .env and roles.sql say"
