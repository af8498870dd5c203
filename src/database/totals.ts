import type { Query } from './connection.ts';

/** Counts of the whole archive. Relays are counted by their latest snapshot. */
export interface Totals {
  readonly events: number;
  readonly sightings: number;
  readonly quarantined: number;
  readonly relays: number;
  readonly openable: number;
  readonly readable: number;
  readonly writable: number;
  readonly failing: number;
  readonly unchecked: number;
}

/** Counts events, sightings and relays. Exact, so it reads every row: for summaries, not for metrics. */
export async function totals(query: Query): Promise<Totals> {
  const { rows } = await query<Totals & Record<string, unknown>>(
    `select
         (select count(*) from events) as events,
         (select count(*) from sightings) as sightings,
         (select count(*) from quarantine) as quarantined,
         count(*) as relays,
         count(*) filter (where l.openable) as openable,
         count(*) filter (where l.readable) as readable,
         count(*) filter (where l.writable) as writable,
         count(*) filter (where not l.readable) as failing,
         count(*) filter (where l.relay_url is null) as unchecked
     from relays r
     left join relay_metadata_latest l on l.relay_url = r.url`,
  );
  if (!rows[0]) throw new Error('the totals query gave no row');
  return rows[0];
}
