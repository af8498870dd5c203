-- When the latest backup and the latest verification ran, and what they came to.

create table if not exists runs (
    run_id     bigint generated always as identity primary key,
    command    text not null,
    started_at bigint not null,
    ended_at   bigint not null default unix_now(),
    succeeded  boolean not null,
    detail     text not null,
    constraint runs_command_check check (command in ('backup', 'verify'))
);
comment on table runs is 'Runs of commands that protect the archive, written at their end: npm run status and the page say when the latest were. A run that was killed has no row.';
comment on column runs.run_id is 'In the order in which they ended.';
comment on column runs.command is 'backup: backup.sh in the container of PostgreSQL; verify: npm run verify.';
comment on column runs.started_at is 'Unix seconds.';
comment on column runs.ended_at is 'Unix seconds.';
comment on column runs.succeeded is 'Of a backup: pg_dump wrote all of it. Of a verification: nothing differs from what was stored.';
comment on column runs.detail is 'What it came to, as a sentence.';

-- The latest runs of a command: where command = $1 order by run_id desc
create index if not exists runs_command_index on runs (command, run_id);
