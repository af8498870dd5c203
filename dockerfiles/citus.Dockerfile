# PostgreSQL 17 with Citus 13.2 and the archive's roles, for coordinator and workers. Build it from the repository's root.
FROM citusdata/citus:13.2.0
COPY --chmod=0644 dockerfiles/secrets.sh /opt/bigbrotr/secrets.sh
COPY --chmod=0755 dockerfiles/postgres/entrypoint.sh dockerfiles/postgres/roles.sh dockerfiles/postgres/backup.sh dockerfiles/postgres/restore.sh /opt/bigbrotr/
COPY --chmod=0755 dockerfiles/citus/citus-entrypoint.sh dockerfiles/citus/nodes.sh /opt/bigbrotr/
COPY --chmod=0644 dockerfiles/postgres/dump.sh /opt/bigbrotr/dump.sh
COPY --chmod=0755 dockerfiles/postgres/bin/psql /opt/bigbrotr/bin/psql
ENV PATH=/opt/bigbrotr/bin:$PATH
COPY --chmod=0644 dockerfiles/postgres/roles.sql /opt/bigbrotr/roles.sql
COPY --chmod=0644 dockerfiles/postgres/10-roles.sh /docker-entrypoint-initdb.d/10-roles.sh
# Some engines give a tmpfs the mode of the directory that it covers: sockets and passwords go there.
RUN chmod 3777 /var/run/postgresql && mkdir -m 1777 /run/citus
USER postgres
ENTRYPOINT ["/opt/bigbrotr/citus-entrypoint.sh"]
CMD ["postgres"]
