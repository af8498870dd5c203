#!/bin/bash
# restore.sh [--force] < FILE: puts a backup (of backup.sh, or of pg_dump in SQL) in the place of the archive, or there
# where none is. It is restored beside it first, so that a file that does not hold leaves the archive as it was; there
# must be room for both. It refuses while services run: what they have in memory belongs to the archive that is
# replaced. --force does it all the same. docs/containers.md, "Backup and restore".
set -euo pipefail
here=$(dirname "$0")
. "$here/dump.sh"
PATH=${PATH#"$here/bin":}
export PGUSER=${PGUSER:-postgres}
database=${POSTGRES_DB:-bigbrotr}
beside=${database}_restoring

ask() { psql --no-psqlrc --no-password -qAt -v ON_ERROR_STOP=1 -v database="$database" -v beside="$beside" "$@"; }

fail() {
  ask -d postgres <<<'DROP DATABASE IF EXISTS :"beside" WITH (FORCE);' || true
  echo "error: $*. The archive is as it was." >&2
  exit 1
}

# The sessions that worked on the archive within three seconds: each service asks the database something every second,
# while a connection that PgBouncer keeps open for nobody is idle. Readers are cut off and do no harm.
working() {
  ask -d postgres <<'SQL'
SELECT now() AS since \gset
SELECT pg_sleep(3) AS slept \gset
SELECT count(*) FROM pg_stat_activity
 WHERE datname = :'database' AND backend_type = 'client backend'
   AND (state <> 'idle' OR state_change > :'since')
   AND coalesce(pg_has_role(usesysid, to_regrole('bigbrotr_writers'), 'MEMBER'), true);
SQL
}

# The processes that hold claims on relays, on whichever host (docs/hosts.md). None where the archive is missing or older.
holders() {
  ask -d "$database" -c "SELECT string_agg(DISTINCT holder, ', ') FROM claims WHERE is_lease_valid(until)" 2>/dev/null || true
}

case ${1:-} in
  --force) ;;
  '')
    if [ "$(working)" != 0 ]; then
      echo "error: services are working on the archive. Stop them first: docker compose stop monitor synchronizer priority_synchronizer finder refresher. Or replace it under them with --force. Nothing was changed." >&2
      exit 1
    fi
    holding=$(holders)
    if [ -n "$holding" ]; then
      echo "error: services hold claims on relays: $holding. Stop them first, on whichever host they run; the claims of one that was killed end within a minute. Or replace the archive under them with --force. Nothing was changed." >&2
      exit 1
    fi
    ;;
  *)
    echo "error: $1 is not understood: restore.sh [--force] < FILE" >&2
    exit 1
    ;;
esac

export PGOPTIONS='-c client_min_messages=warning'
ask -d postgres <<'SQL'
DROP DATABASE IF EXISTS :"beside" WITH (FORCE);
CREATE DATABASE :"beside" OWNER bigbrotr_owner TEMPLATE template0;
SQL

# A backup of backup.sh begins with PGDMP, one of pg_dump in SQL does not.
IFS= read -r -N 5 head || true
if [ "$head" = PGDMP ]; then
  { printf %s "$head" && cat; } | pg_restore --exit-on-error --no-password --dbname="$beside" ||
    fail 'this is not a whole backup, see above'
else
  { printf %s "$head" && cat; } | whole_dump | ask -d "$beside" -o /dev/null -1 -f - || fail 'this is not a whole backup, see above'
fi
[ -n "$(ask -d "$beside" -c "SELECT to_regclass('public.events')")" ] || fail 'this backup holds no archive'
last_token=$(ask -d "$database" -c 'SELECT last_value FROM claim_token_sequence' 2>/dev/null || echo 0)
end_claims "$last_token" | ask -d "$beside" -f -
# A backup holds no statistics, and without them questions take the wrong ways.
ask -d "$beside" -c 'ANALYZE'
ask -d postgres <<'SQL'
DROP DATABASE IF EXISTS :"database" WITH (FORCE);
ALTER DATABASE :"beside" RENAME TO :"database";
SQL
echo "the archive is as the backup has it; docker compose up -d brings it to this version and starts the services"
