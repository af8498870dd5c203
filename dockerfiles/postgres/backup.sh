#!/bin/bash
# backup.sh > FILE: writes the archive to standard output in pg_dump's own format, as it is at this moment; nobody
# has to stop for it. docs/containers.md, "Backup and restore".
set -euo pipefail
export PGUSER=${PGUSER:-postgres}
exec pg_dump --format=custom --no-password --dbname="${POSTGRES_DB:-bigbrotr}"
