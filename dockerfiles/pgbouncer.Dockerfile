# PgBouncer from Debian's packages, with psql for its console. Build it from the repository's root;
# pgbouncer.ini is mounted.
FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends pgbouncer postgresql-client \
 && rm -rf /var/lib/apt/lists/* /etc/pgbouncer/* \
 && useradd --system --user-group --no-create-home --shell /usr/sbin/nologin pgbouncer \
 # Some engines give a tmpfs the mode of the directory that it covers, above all on a restart.
 && install -d -m 1777 /run/pgbouncer
COPY --chmod=0644 dockerfiles/secrets.sh /opt/bigbrotr/secrets.sh
COPY --chmod=0755 dockerfiles/pgbouncer/entrypoint.sh dockerfiles/pgbouncer/healthcheck.sh /opt/bigbrotr/
COPY --chmod=0644 dockerfiles/pgbouncer/hba.conf /etc/pgbouncer/hba.conf
USER pgbouncer
# So that psql in this container reaches PgBouncer, and knows the administrator's password.
ENV PGHOST=127.0.0.1 PGPORT=6432 PGPASSFILE=/run/pgbouncer/pgpass
ENTRYPOINT ["/opt/bigbrotr/entrypoint.sh"]
# SIGTERM would wait for every client to leave by itself.
STOPSIGNAL SIGINT
