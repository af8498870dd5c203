#!/bin/bash
# As entrypoint.sh, after it has written down with which passwords this server logs in at the others: libpq reads PGPASSFILE
# when a session of a role asks another server as that role.
set -euo pipefail
. /opt/bigbrotr/secrets.sh

require_secret POSTGRES_ADMIN_PASSWORD
require_secret POSTGRES_PASSWORD
load_secret POSTGRES_READER_PASSWORD
load_secret POSTGRES_OWNER_PASSWORD
load_secret API_DB_PASSWORD

# line ROLE PASSWORD: a line of the file (PostgreSQL 17, chapter 32.16), unless the role has no password.
line() {
  if [ -n "$2" ]; then
    printf '*:*:*:%s:%s\n' "$1" "$(printf %s "$2" | sed 's/[\\:]/\\&/g')"
  fi
}

if [ -n "${PGPASSFILE:-}" ]; then
  umask 077
  {
    line postgres "$POSTGRES_ADMIN_PASSWORD"
    line "${POSTGRES_USER:-bigbrotr}" "$POSTGRES_PASSWORD"
    line bigbrotr_reader "$POSTGRES_READER_PASSWORD"
    line bigbrotr_owner "$POSTGRES_OWNER_PASSWORD"
    line bigbrotr_api "$API_DB_PASSWORD"
  } >"$PGPASSFILE"
fi
exec /opt/bigbrotr/entrypoint.sh "$@"
