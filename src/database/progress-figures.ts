import type { Query } from './connection.ts';

/** Counts and due work of the archive, for the progress display of `npm start`. */
export interface ProgressFigures {
  readonly events: number;
  /** Whether `events` is the estimate of PostgreSQL: counting many events takes minutes. */
  readonly isEstimate: boolean;
  readonly relays: number;
  readonly readable: number;
  /** When the next relay is checked, Unix seconds; null if no relay is known. */
  readonly nextCheckAt: number | null;
  /** Relays whose latest check failed, by reason, the most frequent first. */
  readonly failures: readonly { readonly reason: string; readonly relays: number }[];
}

/** From this many events on the count is estimated. */
const ESTIMATED_FROM = 1_000_000;

const FIGURES = `
  with latest as (
    select openable, readable, reason from relay_metadata_latest
  ), failing as (
    select coalesce(reason, 'not readable') as reason, count(*)::int as relays
    from latest where not readable group by 1 order by 2 desc, 1
  )
  select
    case when t.is_estimate then t.reltuples::bigint else (select count(*) from events) end as "events",
    t.is_estimate as "isEstimate",
    (select count(*) from relays) as "relays",
    (select count(*) from latest where readable) as "readable",
    (select min(due_at) from relay_schedule) as "nextCheckAt",
    (select coalesce(json_agg(failing), '[]') from failing) as "failures"
  from (
    select reltuples, reltuples >= $1 as is_estimate from pg_class where oid = 'public.events'::regclass
  ) t`;

/** Reads the figures. @throws DatabaseError */
export async function progressFigures(query: Query): Promise<ProgressFigures> {
  const { rows } = await query<ProgressFigures & Record<string, unknown>>(FIGURES, [
    ESTIMATED_FROM,
  ]);
  if (!rows[0]) throw new Error('the figures query gave no row');
  return rows[0];
}
