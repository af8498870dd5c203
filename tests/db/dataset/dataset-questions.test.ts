import { expect } from 'vitest';
import { JUNE, type Rows, duckdbTest as test } from '../../fixtures/dataset-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { countFigures } from '../../fixtures/page-archive.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';

/** Each in SQL of DuckDB over the files, and of the archive over its views. */
const QUESTIONS: readonly [question: string, onFiles: string, inArchive: string][] = [
  [
    'events, authors and kinds',
    'select count(*) as n, count(distinct author) as authors, count(distinct kind) as kinds from e',
    'select event_count as n, unique_pubkeys as authors, unique_kinds as kinds from event_stats',
  ],
  [
    'events and authors of each kind',
    'select kind, count(*) as n, count(distinct author) as authors from e group by kind order by kind',
    'select kind, event_count as n, unique_pubkeys as authors from kind_counts order by kind',
  ],
  [
    'what each author wrote',
    'select author, count(*) as n, count(distinct kind) as kinds, min(created_at) as first, max(created_at) as last from e group by author order by author',
    'select pubkey as author, event_count as n, unique_kinds as kinds, first_event_timestamp as first, last_event_timestamp as last from pubkey_counts order by pubkey',
  ],
  [
    'events of each day',
    `select strftime(date '1970-01-01' + day, '%Y-%m-%d') as day, count(*) as n, count(distinct author) as authors from e group by e.day order by 1`,
    `select to_char(day, 'YYYY-MM-DD') as day, event_count as n, unique_pubkeys as authors from event_daily_counts order by 1`,
  ],
  [
    'what each relay holds, and what only it holds',
    `select relay_url, count(*) as n, count(*) filter (where relays = 1) as only_here
     from (select *, count(*) over (partition by hex) as relays from o) group by relay_url order by relay_url`,
    'select relay_url, event_count as n, only_here from relay_stats order by relay_url',
  ],
  [
    'kinds by relay',
    'select kind, relay_url, count(*) as n from e join o using (hex) group by all order by kind, relay_url',
    'select kind, relay_url, event_count as n from kind_counts_by_relay order by kind, relay_url',
  ],
  [
    'on how many relays an event is',
    'select relays, count(*) as events from (select count(*) as relays from o group by hex) group by relays order by relays',
    'select relays, events from replication order by relays',
  ],
  [
    'the current replaceable events',
    `select hex from e where kind in (0, 3) or kind between 10000 and 19999
     qualify row_number() over (partition by author, kind order by created_at desc, id) = 1 order by hex`,
    `select encode(id, 'hex') as hex from events_replaceable_latest order by 1`,
  ],
  [
    'the current addressable events',
    `select hex from e where kind between 30000 and 39999
     qualify row_number() over (partition by author, kind order by created_at desc, id) = 1 order by hex`,
    `select encode(id, 'hex') as hex from events_addressable_latest order by 1`,
  ],
  [
    'who is active in a month',
    `select strftime(date_trunc('month', date '1970-01-01' + day), '%Y-%m-%d') as start, count(distinct author) as users from e group by 1 order by 1`,
    `select to_char(start, 'YYYY-MM-DD') as start, users from active_users where grain = 'month' order by 1`,
  ],
];

test('DuckDB answers ten questions on the files as the archive does', async ({
  bigbrotr,
  store,
  other,
  filterId,
  exportTo,
  database,
  duckdb,
}) => {
  const days = signedEvents(400, {
    from: JUNE - 20 * 86_400,
    to: JUNE + 20 * 86_400,
    kinds: [0, 1, 3, 7, 10_002, 30_023, 20_001],
    authors: 12,
  });
  await store(days);
  const known = days.filter((_, index) => index % 3 === 0);
  await bigbrotr.store(batchOf({ relay: other, filterId, known }));
  await countFigures(bigbrotr);
  const { folder } = await exportTo('out', '--format', 'parquet');
  await duckdb(`create or replace view e as select *, lower(hex(pubkey)) as author, lower(hex(id)) as hex,
    (created_at // 86400)::integer as day from read_parquet('${folder}/events/*.parquet')`);
  await duckdb(`create or replace view o as select lower(hex(id)) as hex, relay_url
    from read_parquet('${folder}/observations/*.parquet')`);
  for (const [question, onFiles, inArchive] of QUESTIONS) {
    const plain = (rows: Rows) =>
      rows.map((row) =>
        Object.fromEntries(Object.entries(row).map(([name, value]) => [name, String(value)])),
      );
    const expected = plain(await database.query(inArchive));
    expect(expected.length, question).toBeGreaterThan(0);
    expect(plain(await duckdb(onFiles)), question).toEqual(expected);
  }
});
