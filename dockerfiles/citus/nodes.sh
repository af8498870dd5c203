#!/bin/bash
# nodes.sh WORKER...: makes the coordinator and these workers known to each other, as the superuser. Doing it again changes
# nothing; a worker that is not in the list any more stays (docs/citus.md says how to take one away).
set -euo pipefail
. /opt/bigbrotr/secrets.sh
require_secret POSTGRES_ADMIN_PASSWORD
export PGUSER=postgres PGPASSWORD=$POSTGRES_ADMIN_PASSWORD PGDATABASE=${POSTGRES_DB:-bigbrotr} PGCONNECT_TIMEOUT=10
coordinator=postgres

on() {
  local host=$1
  shift
  PGHOST=$host psql --no-psqlrc -qAt -v ON_ERROR_STOP=1 -v coordinator="$coordinator" "$@"
}

for host in "$@" "$coordinator"; do
  on "$host" -c 'create extension if not exists citus'
done
on "$coordinator" -o /dev/null <<'SQL'
select citus_set_coordinator_host(:'coordinator', 5432)
 where not exists (select from pg_dist_node where nodename = :'coordinator');
SQL
for host in "$@"; do
  on "$coordinator" -v worker="$host" -o /dev/null <<'SQL'
select citus_add_node(:'worker', 5432)
 where not exists (select from pg_dist_node where nodename = :'worker');
SQL
done
echo "coordinator and workers know each other: $*"
