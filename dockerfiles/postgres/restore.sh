#!/bin/bash
# restore.sh < FILE: puts what backup.sh wrote in the place of the archive, or there where none is. It is restored
# beside it first, so that a file that does not hold leaves the archive as it was; there must be room for both.
# Stop the services before: what they still have in mind belongs to the archive that is replaced.
# docs/containers.md, "Backup and restore".
set -euo pipefail
export PGUSER=${PGUSER:-postgres}
database=${POSTGRES_DB:-bigbrotr}
beside=${database}_restoring

ask() { psql --no-psqlrc --no-password -qAt -v ON_ERROR_STOP=1 -v database="$database" -v beside="$beside" "$@"; }

fail() {
  ask -d postgres <<<'DROP DATABASE IF EXISTS :"beside" WITH (FORCE);' || true
  echo "error: $*. The archive is as it was." >&2
  exit 1
}

export PGOPTIONS='-c client_min_messages=warning'
ask -d postgres <<'SQL'
DROP DATABASE IF EXISTS :"beside" WITH (FORCE);
CREATE DATABASE :"beside" OWNER bigbrotr_owner TEMPLATE template0;
SQL
pg_restore --exit-on-error --no-password --dbname="$beside" || fail 'this is not a whole backup, see above'
[ -n "$(ask -d "$beside" -c "SELECT to_regclass('public.events')")" ] || fail 'this backup holds no archive'
# A backup holds no statistics, and without them questions take the wrong ways.
ask -d "$beside" -c 'ANALYZE'
ask -d postgres <<'SQL'
DROP DATABASE IF EXISTS :"database" WITH (FORCE);
ALTER DATABASE :"beside" RENAME TO :"database";
SQL
echo "the archive is as the backup has it; docker compose up -d brings it to this version and starts the services"
