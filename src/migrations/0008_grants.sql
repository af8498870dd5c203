-- What the services may delete, and that the record of migrations is not theirs to write: dockerfiles/postgres/roles.sql
-- has run before an upgrade makes these tables, so that without this the rights would be other ones until the next start.
do $$
begin
    if exists (select from pg_roles where rolname = 'bigbrotr_writers') then
        grant delete on coverage, holes, relay_states, finder_queue, named_relays to bigbrotr_writers;
        revoke insert, update on schema_migrations from bigbrotr_writers;
    end if;
end $$;
