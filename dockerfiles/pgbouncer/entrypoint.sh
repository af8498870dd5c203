#!/bin/bash
# Writes what pgbouncer.ini includes and cannot hold itself to /run/pgbouncer (memory): the database's name, the two
# passwords that PgBouncer needs, and of the instance for other hosts its TLS and how many connections it may open
# beside the other instance. Then starts PgBouncer. psql in this container reads the administrator's password from there too.
set -euo pipefail
. /opt/bigbrotr/secrets.sh
require_secret PGBOUNCER_ADMIN_PASSWORD

database=${POSTGRES_DB:-bigbrotr}
[[ $database =~ ^[A-Za-z0-9_.-]+$ ]] || fail "POSTGRES_DB=$database: only letters, digits, dot, dash and underscore can name the database."
[[ $PGBOUNCER_ADMIN_PASSWORD != *$'\n'* ]] || fail "PGBOUNCER_ADMIN_PASSWORD holds a line break."

umask 077
cd /run/pgbouncer
printf '[databases]\n%s = host=postgres port=5432 dbname=%s auth_user=pgbouncer\n' "$database" "$database" >databases.ini
# Without a section: it is included in [pgbouncer], and a second one of that name would reset the first.
case ${PGBOUNCER_TLS:-} in
  '') : >tls.ini ;;
  require)
    cat >tls.ini <<'INI'
client_tls_sslmode = require
client_tls_key_file = /run/tls/server.key
client_tls_cert_file = /run/tls/server.crt
max_db_connections = 40
INI
    ;;
  *) fail "PGBOUNCER_TLS=$PGBOUNCER_TLS: it is require or not set." ;;
esac
quoted=${PGBOUNCER_ADMIN_PASSWORD//\"/\"\"}
printf '"%s" "%s"\n' admin "$quoted" pgbouncer "$quoted" >users.txt
escaped=${PGBOUNCER_ADMIN_PASSWORD//\\/\\\\}
printf '127.0.0.1:6432:pgbouncer:admin:%s\n' "${escaped//:/\\:}" >pgpass
unset PGBOUNCER_ADMIN_PASSWORD PGPASSFILE PGHOST PGPORT quoted escaped
exec pgbouncer "$@" /etc/pgbouncer/pgbouncer.ini
