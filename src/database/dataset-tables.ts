import type { Query } from './connection.ts';
import { cursorRows } from './dataset-events.ts';

/** Tables of a dataset beside its events: relays, coverage and figures, each in a fixed order. */

/** How a column is typed in Parquet. In JSON, integers are numbers. */
export type ColumnType = 'string' | 'int64' | 'boolean';

/** A table of a dataset. Every column may be null. */
export interface DatasetTable {
  /** The file, without its ending. */
  readonly name: string;
  readonly holds: 'relays' | 'coverage' | 'figures';
  readonly columns: Readonly<Record<string, ColumnType>>;
  readonly statement: string;
}

/** Seconds of `created_at`, upper end exclusive; null: no limit. */
export interface DatasetWindow {
  readonly since: number | null;
  readonly until: number | null;
}

/** What no time of an event reaches, so that a window without limits is a range as well. */
const NO_LIMIT = 2 ** 39;
const RANGE = 'int8range($1::bigint, $2::bigint)';
const DAYS = 'day between $1::bigint / 86400 and ($2::bigint - 1) / 86400';
const DATE = `to_char(date '1970-01-01' + day, 'YYYY-MM-DD')`;

const RELAYS: DatasetTable = {
  name: 'relays',
  holds: 'relays',
  columns: {
    ...{ url: 'string', network: 'string', known_since: 'int64', state: 'string' },
    ...{ state_since: 'int64', checked_at: 'int64', readable: 'boolean', writable: 'boolean' },
    ...{ rtt_open: 'int64', rtt_read: 'int64', rtt_write: 'int64', country: 'string' },
    ...{ city: 'string', geohash: 'string', asn: 'int64', organisation: 'string' },
    ...{ software: 'string', version: 'string', supported_nips: 'string', nip45: 'boolean' },
    ...{ nip50: 'boolean', nip67: 'boolean', nip77: 'boolean', max_limit: 'int64' },
  },
  statement: `
    select r.url, r.network, r.inserted_at as known_since, s.state, s.from_at as state_since, f.generated_at as checked_at,
           f.readable, f.writable, f.rtt_open, f.rtt_read, f.rtt_write, f.country, f.city, f.geohash, f.asn, f.organisation,
           f.software, f.version, f.supported_nips::text as supported_nips, f.nip45, f.nip50, f.nip67, f.nip77, f.max_limit
    from relays r
    left join relay_states s on s.relay_id = r.relay_id and s.to_at is null
    left join relay_facts f on f.relay_url = r.url
    where $1::bigint <= $2::bigint
    order by r.url collate "C"`,
};

const COVERAGE: DatasetTable = {
  name: 'coverage',
  holds: 'coverage',
  columns: {
    ...{ relay_url: 'string', filter: 'string', state: 'string', since: 'int64', until: 'int64' },
    ...{ evidence: 'string', proven_at: 'int64', reason: 'string', events: 'int64' },
  },
  statement: `
    select relay_url, filter, state, lower(stretch) as since, upper(stretch) as until, evidence, proven_at, reason, events
    from (
        select r.url as relay_url, f.filter, 'covered' as state, c.stretch * ${RANGE} as stretch, c.evidence, c.proven_at,
               null as reason, null::integer as events
        from (select *, unnest(covered) as stretch from coverage) c
        join relays r on r.relay_id = c.relay_id
        join filters f on f.filter_id = c.filter_id
        union all
        select relay_url, filter, case when hole is null then 'gap' else 'hole' end,
               int8range(since, until, '[]') * ${RANGE}, null, null, hole, hole_events
        from coverage_gaps
    ) c
    where not isempty(stretch)
    order by relay_url collate "C", filter collate "C", lower(stretch), upper(stretch), state, evidence, reason`,
};

const figures = (
  name: string,
  columns: DatasetTable['columns'],
  statement: string,
): DatasetTable => ({ name: `figures/${name}`, holds: 'figures', columns, statement });

const FIGURES: readonly DatasetTable[] = [
  figures(
    'daily_events',
    { day: 'string', events: 'int64', authors: 'int64', kinds: 'int64', counted_at: 'int64' },
    `select ${DATE} as day, events, authors, kinds, counted_at from day_sums t where ${DAYS} order by t.day`,
  ),
  figures(
    'daily_kinds',
    { day: 'string', kind: 'int64', events: 'int64', authors: 'int64', content_bytes: 'int64' },
    `select ${DATE} as day, kind, events, authors, content_bytes from daily_kinds t where ${DAYS} order by t.day, kind`,
  ),
  figures(
    'daily_relays',
    { day: 'string', relay_url: 'string', events: 'int64', only_here: 'int64' },
    `select ${DATE} as day, r.url as relay_url, t.events, t.only_here from daily_relays t join relays r using (relay_id)
     where ${DAYS} order by t.day, r.url collate "C"`,
  ),
  figures(
    'daily_replication',
    { day: 'string', relays: 'int64', events: 'int64' },
    `select ${DATE} as day, relays, events from daily_replication t where ${DAYS} order by t.day, relays`,
  ),
];

/** The tables that a dataset may have, in the order of its files. */
export const DATASET_TABLES: readonly DatasetTable[] = [RELAYS, COVERAGE, ...FIGURES];

/** The rows of a table in a window, some hundreds at a time. */
export function tableRows(
  query: Query,
  { statement }: DatasetTable,
  window: DatasetWindow,
): AsyncGenerator<Record<string, unknown>[]> {
  return cursorRows(query, 'dataset_table', statement, [
    window.since ?? 0,
    window.until ?? NO_LIMIT,
  ]);
}

/** How complete a relay is in a window, by one filter with which it is read. */
export interface RelayCompleteness {
  readonly url: string;
  readonly filter: string;
  readonly wanted_seconds: number;
  readonly proven_seconds: number;
  readonly gaps: number;
  readonly largest_gaps: readonly { readonly since: number; readonly until: number }[];
}

/** Gaps of a relay that are named one by one. */
const LARGEST_GAPS = 10;

/** How complete each relay that was ever visited is, in the order of URLs. */
export async function relayCompleteness(
  query: Query,
  window: DatasetWindow,
): Promise<RelayCompleteness[]> {
  const { rows } = await query<RelayCompleteness & Record<string, unknown>>(
    `select r.url, f.filter, seconds_in(w.wanted)::bigint as wanted_seconds,
            seconds_in(w.wanted * c.proven)::bigint as proven_seconds,
            (select count(*) from unnest(w.wanted - c.proven)) as gaps,
            (
                select coalesce(jsonb_agg(jsonb_build_object('since', lower(gap), 'until', upper(gap)) order by gap), '[]')
                from (
                    select gap from unnest(w.wanted - c.proven) gap
                    order by upper(gap) - lower(gap) desc, gap limit ${LARGEST_GAPS}
                ) largest
            ) as largest_gaps
     from visits v
     join relays r on r.relay_id = v.relay_id
     join filters f on f.filter_id = v.filter_id
     cross join lateral (select int8multirange(v.wanted * ${RANGE}) as wanted) w
     cross join lateral (
         select coalesce(range_agg(covered), '{}') + parts_covered(v.relay_id, v.filter_id) as proven
         from coverage where relay_id = v.relay_id and filter_id = v.filter_id
     ) c
     where not v.is_part
     order by r.url collate "C", f.filter collate "C"`,
    [window.since ?? 0, window.until ?? NO_LIMIT],
  );
  return rows;
}
