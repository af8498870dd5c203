#!/bin/bash
# Writes what pgbouncer.ini includes and cannot hold itself, the database's name and the two
# passwords that PgBouncer needs, to /run/pgbouncer (memory), and starts PgBouncer.
set -euo pipefail
. /opt/bigbrotr/secrets.sh
require_secret PGBOUNCER_ADMIN_PASSWORD

database=${POSTGRES_DB:-bigbrotr}
[[ $database =~ ^[A-Za-z0-9_.-]+$ ]] || fail "POSTGRES_DB=$database: only letters, digits, dot, dash and underscore can name the database."
[[ $PGBOUNCER_ADMIN_PASSWORD != *$'\n'* ]] || fail "PGBOUNCER_ADMIN_PASSWORD holds a line break."

umask 077
cd /run/pgbouncer
printf '[databases]\n%s = host=postgres port=5432 dbname=%s auth_user=pgbouncer\n' "$database" "$database" >databases.ini
quoted=${PGBOUNCER_ADMIN_PASSWORD//\"/\"\"}
printf '"%s" "%s"\n' admin "$quoted" pgbouncer "$quoted" >users.txt
unset PGBOUNCER_ADMIN_PASSWORD quoted
exec pgbouncer "$@" /etc/pgbouncer/pgbouncer.ini
