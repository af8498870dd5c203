import type { BenchDatabase } from './server.ts';

/** The figures that the API is asked for, counted by one statement each: a recount day by day takes hours of millions. */
const STATEMENTS = [
  'insert into authors (pubkey) select distinct pubkey from events',
  `insert into scope_stats (scope, events, only_here, authors, kinds, first_at, last_at)
   select 0, count(*), 0, (select count(*) from authors), count(distinct kind), min(created_at), max(created_at) from events`,
  `insert into scope_kinds (scope, kind, events, authors)
   select 0, kind, count(*), count(distinct pubkey) from events group by kind`,
  `insert into scope_authors (scope, author_id, events, first_at, last_at, kinds)
   select 0, a.author_id, sum(k.events), min(k.first_at), max(k.last_at),
          '\\x04'::bytea || string_agg(substr(int4send(k.kind), 3) || int4send(k.events), ''::bytea order by k.kind)
   from (
       select pubkey, kind, count(*)::integer as events, min(created_at) as first_at, max(created_at) as last_at
       from events group by pubkey, kind
   ) k
   join authors a on a.pubkey = k.pubkey
   group by a.author_id`,
  `insert into day_sums (day, events, authors, kinds, id_sum, counted_at)
   select created_day, count(*), count(distinct pubkey), count(distinct kind), 0, 0 from events group by created_day`,
  `insert into daily_kinds (day, kind, events, authors, content_bytes)
   select created_day, kind, count(*), count(distinct pubkey), sum(octet_length(content)) from events group by created_day, kind`,
  `insert into replication_totals (relays, events)
   select relays, count(*) from (select count(*) as relays from sightings group by event_key) s group by relays
   on conflict (relays) do update set events = excluded.events`,
  'vacuum analyze',
];

export async function fillFigures(db: BenchDatabase): Promise<void> {
  for (const sql of STATEMENTS) await db.query(sql);
}
