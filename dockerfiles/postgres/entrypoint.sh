#!/bin/bash
# Starts PostgreSQL, or with the argument "roles" brings a running one in line with .env.
#
# In .env, POSTGRES_USER and POSTGRES_PASSWORD are what the services log in with. The postgres
# image reads the same two names as the superuser that it creates, so they are swapped here; the
# passwords are checked before the image makes a database that would keep a bad one for ever.
set -euo pipefail
. /opt/bigbrotr/secrets.sh

require_secret POSTGRES_ADMIN_PASSWORD
require_secret POSTGRES_PASSWORD
require_secret PGBOUNCER_ADMIN_PASSWORD
load_secret POSTGRES_READER_PASSWORD
load_secret POSTGRES_OWNER_PASSWORD
load_secret API_DB_PASSWORD

case ${POSTGRES_USER:=bigbrotr} in
  postgres | admin | pgbouncer | bigbrotr_* | pg_*)
    fail "POSTGRES_USER=$POSTGRES_USER names a role that has another task here. Take another name, for example bigbrotr." ;;
esac

export POSTGRES_DB=${POSTGRES_DB:-bigbrotr}
export WRITER_USER=$POSTGRES_USER WRITER_PASSWORD=$POSTGRES_PASSWORD
export READER_PASSWORD=$POSTGRES_READER_PASSWORD OWNER_PASSWORD=$POSTGRES_OWNER_PASSWORD
export API_PASSWORD=$API_DB_PASSWORD
export PGBOUNCER_PASSWORD=$PGBOUNCER_ADMIN_PASSWORD
unset POSTGRES_PASSWORD_FILE POSTGRES_USER_FILE POSTGRES_DB_FILE

if [ "${1:-}" = roles ]; then
  exec /opt/bigbrotr/roles.sh
fi
if [ -d "$PGDATA" ] && [ ! -O "$PGDATA" ]; then
  fail "the data directory belongs to uid $(stat -c %u "$PGDATA"), and PostgreSQL runs as uid $(id -u) here. Give it away on the host: sudo chown -R $(id -u):$(id -g) DIRECTORY, where POSTGRES_DB_DATA_PATH names DIRECTORY. Or leave POSTGRES_DB_DATA_PATH empty: then Docker keeps the data in a volume."
fi
# Without room PostgreSQL fails again and again, with lines about corruption that bury the reason.
free_mib=$(($(stat -f -c '%a * %S' "$PGDATA") / 1048576))
if [ "$free_mib" -lt 64 ]; then
  echo "The disk that holds the database is full ($free_mib MiB are free): free space on it. Nothing is lost and nothing is corrupted, whatever the lines below say, and archiving goes on by itself then." >&2
fi
export POSTGRES_USER=postgres POSTGRES_PASSWORD=$POSTGRES_ADMIN_PASSWORD
exec docker-entrypoint.sh "$@"
