#!/bin/bash
# backup.sh > FILE: writes the archive to standard output in pg_dump's own format, as it is at this moment; nobody
# has to stop for it. Its outcome is recorded in the archive (table runs). docs/containers.md, "Backup and restore".
set -uo pipefail
export PGUSER=${PGUSER:-postgres}
database=${POSTGRES_DB:-bigbrotr}
started=$(date +%s)
pg_dump --format=custom --no-password --dbname="$database"
status=$?

# psql of PostgreSQL, not the one in bin/ that people get.
here=$(dirname "$0")
PATH=${PATH#"$here/bin":}
psql --no-psqlrc --no-password -q -v ON_ERROR_STOP=1 -v started="$started" -v status="$status" -d "$database" >&2 <<'SQL' ||
INSERT INTO runs (command, started_at, succeeded, detail)
SELECT 'backup', :started, :status = 0, CASE :status WHEN 0 THEN 'pg_dump wrote all of it' ELSE 'pg_dump ended with exit code ' || :status END;
SQL
  echo "note: this backup is not recorded for npm run status, see above; that does not change it" >&2
exit $status
