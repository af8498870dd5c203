import type { Query } from './connection.ts';

/** The figures that are kept, as pages: each is a view of init.sql with the key that its pages follow. */

/** A column of a page's key: a name of the view, and its type; a `day` is a number of days since 1970-01-01. */
interface KeyColumn {
  readonly column: string;
  readonly type: 'bigint' | 'text' | 'date' | 'day';
}

/** SQL: a column with days since 1970-01-01 as a date. */
const date = (column: string) => `(date '1970-01-01' + ${column})::text as ${column}`;

interface StatView {
  /** What is selected; every name stands as the API shows it. */
  readonly select: string;
  readonly from: string;
  readonly key: readonly KeyColumn[];
  readonly descends: boolean;
  /** The column that `since` and `until` are about: a UTC day. */
  readonly day?: KeyColumn;
  /** The column that `kinds` is about. */
  readonly kind?: string;
}

const STATS = {
  // the primary key of day_sums
  days: {
    select: `${date('day')}, events as event_count, authors as unique_pubkeys, kinds as unique_kinds, counted_at`,
    from: 'day_sums',
    key: [{ column: 'day', type: 'day' }],
    descends: true,
    day: { column: 'day', type: 'day' },
  },
  // the primary key of daily_kinds
  day_kinds: {
    select: `${date('day')}, kind, events, authors, content_bytes`,
    from: 'daily_kinds',
    key: [
      { column: 'day', type: 'day' },
      { column: 'kind', type: 'bigint' },
    ],
    descends: true,
    day: { column: 'day', type: 'day' },
    kind: 'kind',
  },
  kinds: {
    select: 'kind, category, event_count, unique_pubkeys',
    from: 'kind_counts',
    key: [{ column: 'kind', type: 'bigint' }],
    descends: false,
  },
  // scope_authors_events_index
  authors: {
    select: 'pubkey, event_count, unique_kinds, first_event_timestamp, last_event_timestamp',
    from: 'pubkey_counts',
    key: [
      { column: 'event_count', type: 'bigint' },
      { column: 'pubkey', type: 'text' },
    ],
    descends: true,
  },
  networks: {
    select: 'network, relay_count, event_count, unique_pubkeys, unique_kinds',
    from: 'network_stats',
    key: [{ column: 'network', type: 'text' }],
    descends: false,
  },
  active_users: {
    select: 'grain, start::text, users, new_users, with_profile, with_follows, counted_at',
    from: 'active_users',
    key: [
      { column: 'start', type: 'date' },
      { column: 'grain', type: 'text' },
    ],
    descends: true,
    day: { column: 'start', type: 'date' },
  },
  retention: {
    select: 'cohort_week::text, age_weeks, users',
    from: 'retention',
    key: [
      { column: 'cohort_week', type: 'date' },
      { column: 'age_weeks', type: 'bigint' },
    ],
    descends: false,
    day: { column: 'cohort_week', type: 'date' },
  },
  replication: {
    select: 'relays, events, share::float8',
    from: 'replication',
    key: [{ column: 'relays', type: 'bigint' }],
    descends: false,
  },
  relay_lists: {
    select: 'relay_url, authors, readers, writers, is_known',
    from: 'relay_distribution',
    key: [
      { column: 'authors', type: 'bigint' },
      { column: 'relay_url', type: 'text' },
    ],
    descends: true,
  },
  zaps: {
    select: 'day::text, zaps, senders, recipients, millisats::text',
    from: 'zap_stats',
    key: [{ column: 'day', type: 'date' }],
    descends: true,
    day: { column: 'day', type: 'date' },
  },
  software: {
    select: 'software, version, relay_count',
    from: 'relay_software_counts',
    key: [
      { column: 'software', type: 'text' },
      { column: 'version', type: 'text' },
    ],
    descends: false,
  },
  nips: {
    select: 'nip, relay_count',
    from: 'supported_nip_counts',
    key: [{ column: 'nip', type: 'bigint' }],
    descends: false,
  },
  relay_cover: {
    select:
      'rank, relay_url, new_events, cumulative_share::float8, sample_events, sample_share::float8, as_of',
    from: 'relay_cover',
    key: [{ column: 'rank', type: 'bigint' }],
    descends: false,
  },
  dangling_references: {
    select: 'kind, "references", missing, sample_share::float8, as_of',
    from: 'dangling_references',
    key: [{ column: 'kind', type: 'bigint' }],
    descends: false,
  },
} as const satisfies Record<string, StatView>;

export type Stat = keyof typeof STATS;

/** A page of rows, and the time up to which everything is counted, Unix seconds. */
export interface StatPage {
  readonly rows: readonly Record<string, unknown>[];
  readonly asOf: number;
}

/** Which rows: those of some days, and of some kinds. */
export interface StatSelection {
  /** Days in the form YYYY-MM-DD: from the first up to, and without, the last. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly kinds?: readonly number[] | undefined;
}

/** Rows of a figure after a key, in its order. */
export async function statPage(
  query: Query,
  stat: Stat,
  { since, until, kinds }: StatSelection,
  after: readonly unknown[] | null,
  limit: number,
): Promise<StatPage> {
  const view: StatView = STATS[stat];
  const values: unknown[] = [limit];
  const add = (value: unknown, type: string) => `$${values.push(value)}::${type}`;
  const addKey = ({ type }: KeyColumn, value: unknown) =>
    type === 'day' ? `${add(value, 'date')} - date '1970-01-01'` : add(value, type);
  const where = ['true'];
  const { day } = view;
  if (day && since !== undefined) where.push(`${nameOf(day)} >= ${addKey(day, since)}`);
  if (day && until !== undefined) where.push(`${nameOf(day)} < ${addKey(day, until)}`);
  if (view.kind && kinds) where.push(`v.${view.kind} = any (${add(kinds, 'integer[]')})`);
  if (after) {
    const columns = view.key.map(nameOf).join(', ');
    const place = view.key.map((key, index) => addKey(key, after[index])).join(', ');
    where.push(`(${columns}) ${view.descends ? '<' : '>'} (${place})`);
  }
  const order = view.key.map((key) => `${nameOf(key)}${view.descends ? ' desc' : ''}`).join(', ');
  const { rows } = await query(
    `select ${view.select} from ${view.from} v where ${where.join(' and ')} order by ${order} limit $1`,
    values,
  );
  const { rows: times } = await query<{ asOf: number }>('select figures_as_of() as "asOf"');
  return { rows, asOf: times[0]?.asOf ?? 0 };
}

/** A column of the view: without `v` it would be what is selected, a day as text. Texts are compared by their bytes. */
function nameOf({ column, type }: KeyColumn): string {
  return type === 'text' ? `v.${column} collate "C"` : `v.${column}`;
}

/** The key of a row, for the cursor after it. */
export function keyOfStat(stat: Stat, row: Readonly<Record<string, unknown>>): unknown[] {
  return STATS[stat].key.map(({ column }) => row[column]);
}

/** The whole archive in one row of the view event_stats. */
export async function eventStats(query: Query): Promise<Record<string, unknown>> {
  const { rows } = await query(
    `select event_count, unique_pubkeys, unique_kinds, earliest_event_timestamp, latest_event_timestamp,
            regular_event_count::bigint, replaceable_event_count::bigint, ephemeral_event_count::bigint,
            addressable_event_count::bigint,
            event_count_last_1h, event_count_last_24h, event_count_last_7d, event_count_last_30d,
            events_per_day::float8, as_of
     from event_stats`,
  );
  if (!rows[0]) throw new Error('event_stats gave no row');
  return rows[0];
}
