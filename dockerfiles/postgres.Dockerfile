# PostgreSQL 17 with the archive's roles. Build it from the repository's root.
FROM postgres:17
COPY --chmod=0644 dockerfiles/secrets.sh /opt/bigbrotr/secrets.sh
COPY --chmod=0755 dockerfiles/postgres/entrypoint.sh dockerfiles/postgres/roles.sh dockerfiles/postgres/backup.sh dockerfiles/postgres/restore.sh /opt/bigbrotr/
COPY --chmod=0644 dockerfiles/postgres/dump.sh /opt/bigbrotr/dump.sh
# Comes before the real psql, and refuses a dump that would be mixed with an archive.
COPY --chmod=0755 dockerfiles/postgres/bin/psql /opt/bigbrotr/bin/psql
ENV PATH=/opt/bigbrotr/bin:$PATH
COPY --chmod=0644 dockerfiles/postgres/roles.sql /opt/bigbrotr/roles.sql
# Not executable, so that the image's entrypoint sources it: what it exports holds for init.sql.
COPY --chmod=0644 dockerfiles/postgres/10-roles.sh /docker-entrypoint-initdb.d/10-roles.sh
# Some engines give a tmpfs the mode of the directory that it covers: PostgreSQL's socket goes there.
RUN chmod 3777 /var/run/postgresql
# The user of the image, from the first instant: the data directory is never touched as root.
USER postgres
ENTRYPOINT ["/opt/bigbrotr/entrypoint.sh"]
CMD ["postgres"]
