# Sourced by the image's entrypoint when it has made a new data directory, before init.sql.
psql --no-psqlrc -U postgres -d "$POSTGRES_DB" -f /opt/bigbrotr/roles.sql
# From here on the image's psql works as the owner, so that every relation of init.sql is the
# owner's and none is the superuser's.
export PGOPTIONS='-c role=bigbrotr_owner'
