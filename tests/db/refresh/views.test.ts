import { describe, expect } from 'vitest';
import { Refreshing } from '../../../src/refresh/refreshing.ts';
import { figureEvents } from '../../fixtures/figure-events.ts';
import { READ_FIRST } from '../../fixtures/figures-recount.ts';
import { batchOf, silent } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { relayAddress } from '../../relay/relays.ts';

const ONION = 'ws://oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';
const RELAYS = ['wss://one.example.com', 'wss://two.example.com', ONION, 'wss://empty.example.com'];
const NO_METRICS = { count: () => {}, figuresWaiting: () => {}, journalLag: () => {} };

const test = archiveTest
  .extend('refresh', ({ bigbrotr, database }) => async () => {
    await database.query(
      "insert into journal_readers (name) values ('refresher') on conflict do nothing",
    );
    const service = {
      ...{ bigbrotr, log: silent, signal: new AbortController().signal, metrics: NO_METRICS },
      ...{ detail: () => {}, logRepeated: () => {}, noteStored: () => {}, setBusy: () => {} },
    };
    await new Refreshing(service, 1).finish('all');
  })
  .extend('filled', async ({ bigbrotr, filterId, refresh }) => {
    const relays = await bigbrotr.relaysOf(RELAYS.map(relayAddress));
    const events = figureEvents(60);
    for (const [index, relay] of relays.slice(0, 3).entries()) {
      const held = events.filter((_, place) => index === 0 || place % (index + 1) > 0);
      await bigbrotr.store(batchOf({ relay, filterId, events: held }));
    }
    await refresh();
  });

const SEEN =
  'sightings s join events e on e.event_key = s.event_key join relays r on r.relay_id = s.relay_id';
const CATEGORY = `case
  when kind = 1 or kind = 2 or (kind >= 4 and kind <= 44) or (kind >= 1000 and kind <= 9999) then 'regular'
  when kind = 0 or kind = 3 or (kind >= 10000 and kind <= 19999) then 'replaceable'
  when kind >= 20000 and kind <= 29999 then 'ephemeral'
  when kind >= 30000 and kind <= 39999 then 'addressable'
  else 'other' end`;
const counted = (category: string) =>
  `count(*) filter (where ${CATEGORY} = '${category}') as ${category}_event_count`;
const since = (seconds: number, name: string) =>
  `count(*) filter (where created_at >= unix_now() - ${seconds}) as event_count_last_${name}`;
const BOUNDS = 'min(created_at) as first_event_timestamp, max(created_at) as last_event_timestamp';
const REPLACEABLE = 'kind = 0 or kind = 3 or kind between 10000 and 19999';

/** The views with the columns of release 6.6.9, and what each must show, as a query of events and sightings. */
const VIEWS: Readonly<Record<string, string>> = {
  event_stats: `select 1 as singleton_key, count(*) as event_count, count(distinct pubkey) as unique_pubkeys,
    count(distinct kind) as unique_kinds, min(created_at) as earliest_event_timestamp,
    max(created_at) as latest_event_timestamp, ${counted('regular')}, ${counted('replaceable')}, ${counted('ephemeral')},
    ${counted('addressable')}, ${since(3600, '1h')}, ${since(86_400, '24h')}, ${since(604_800, '7d')},
    ${since(2_592_000, '30d')},
    round(count(*) / greatest((max(created_at) - min(created_at)) / 86400.0, 1), 2) as events_per_day from events`,
  relay_stats: `select r.url as relay_url, r.network, r.inserted_at as discovered_at, ${BOUNDS}, null::numeric as avg_rtt_open,
    null::numeric as avg_rtt_read, null::numeric as avg_rtt_write, count(e.event_key) as event_count,
    count(distinct e.pubkey) as unique_pubkeys, count(distinct e.kind) as unique_kinds, null as nip11_name,
    null as nip11_software, null as nip11_version
    from relays r left join sightings s on s.relay_id = r.relay_id left join events e on e.event_key = s.event_key
    group by r.relay_id`,
  kind_counts: `select kind, count(*) as event_count, count(distinct pubkey) as unique_pubkeys, ${CATEGORY} as category
    from events group by kind`,
  kind_counts_by_relay: `${READ_FIRST} select e.kind, r.url as relay_url, count(*) as event_count,
    count(distinct e.pubkey) as unique_pubkeys from ${SEEN} group by e.kind, r.url`,
  pubkey_counts: `select encode(pubkey, 'hex') as pubkey, count(*) as event_count, count(distinct kind) as unique_kinds,
    ${BOUNDS} from events group by pubkey`,
  pubkey_counts_by_relay: `${READ_FIRST} select r.url as relay_url, encode(e.pubkey, 'hex') as pubkey, count(*) as event_count,
    count(distinct e.kind) as unique_kinds, ${BOUNDS} from ${SEEN} group by e.pubkey, r.url having count(*) >= 2`,
  network_stats: `select r.network, count(distinct r.relay_id) as relay_count, count(distinct e.id) as event_count,
    count(distinct e.pubkey) as unique_pubkeys, count(distinct e.kind) as unique_kinds
    from relays r left join sightings s on s.relay_id = r.relay_id left join events e on e.event_key = s.event_key
    group by r.network`,
  event_daily_counts: `select '1970-01-01'::date + (created_at / 86400)::integer as day, count(*) as event_count,
    count(distinct pubkey) as unique_pubkeys, count(distinct kind) as unique_kinds from events group by 1`,
  events_replaceable_latest: `select distinct on (pubkey, kind) id, pubkey, created_at, kind, tags, tagvalues, content, sig
    from events where ${REPLACEABLE} order by pubkey, kind, created_at desc, id`,
  events_addressable_latest: `select distinct on (pubkey, kind, d_tag) id, pubkey, created_at, kind, tags, tagvalues, content,
    sig, d_tag
    from (
        select *, coalesce(jsonb_path_query_first(tags, 'strict $[*] ? (@[0] == "d")') ->> 1, '') as d_tag
        from events where kind between 30000 and 39999
    ) e order by pubkey, kind, d_tag, created_at desc, id`,
};

describe('views with the names of release 6.6.9', () => {
  test.for(Object.entries(VIEWS))(
    '%s shows what a query of events and sightings shows',
    async ([view, recount], { database, filled: _filled }) => {
      const sorted = async (sql: string) =>
        (await database.query(sql)).map((row) => JSON.stringify(row)).sort();
      const expected = await database.query(recount);
      const columns = Object.keys(expected[0] ?? {}).join(', ');
      expect(expected.length).toBeGreaterThan(0);
      const text = (sql: string) => `select row_to_json(t)::text as row from (${sql}) t`;
      expect(await sorted(text(`select ${columns} from ${view}`))).toEqual(
        await sorted(text(recount)),
      );
    },
  );

  test('relay_stats, relay_software_counts and supported_nip_counts read the latest documents and ten checks', async ({
    database,
  }) => {
    const add = (relay: string, at: number, nip11: object | null, rtt: number | null) =>
      database.query('select insert_relay_metadata($1, $2, $3, $4, $5)', [
        ...[relay, 'clearnet', at, nip11 && JSON.stringify(nip11)],
        JSON.stringify({
          ...{ openable: true, readable: rtt !== null, writable: false },
          ...{ rtt_open: rtt, rtt_read: rtt },
        }),
      ]);
    const [one = '', two = ''] = RELAYS;
    await add(one, 1, { name: 'One', software: 'old', supported_nips: [1] }, 9000);
    for (let at = 2; at <= 11; at += 1) await add(one, at, null, at);
    await add(
      one,
      12,
      { name: 'Uno', software: 'new', version: '2', supported_nips: [1, 11, 'x'] },
      12,
    );
    await add(two, 1, { software: 'new', version: '2', supported_nips: 'many' }, null);
    await add(two, 2, null, null);
    expect(
      await database.query(
        `select relay_url, avg_rtt_open::float8, avg_rtt_write, nip11_name, nip11_software, nip11_version from relay_stats order by 1`,
      ),
    ).toEqual([
      {
        ...{ relay_url: one, avg_rtt_open: 7.5, avg_rtt_write: null },
        ...{ nip11_name: 'Uno', nip11_software: 'new', nip11_version: '2' },
      },
      {
        ...{ relay_url: two, avg_rtt_open: null, avg_rtt_write: null },
        ...{ nip11_name: null, nip11_software: 'new', nip11_version: '2' },
      },
    ]);
    expect(
      await database.query('select software, version, relay_count from relay_software_counts'),
    ).toEqual([{ software: 'new', version: '2', relay_count: '2' }]);
    expect(
      await database.query('select nip, relay_count from supported_nip_counts order by nip'),
    ).toEqual([
      { nip: 1, relay_count: '1' },
      { nip: 11, relay_count: '1' },
    ]);
  });

  test('as_of is now when nothing waits, and before the first change that is not counted', async ({
    database,
    bigbrotr,
    relay,
    filterId,
    refresh,
  }) => {
    const asOf = async () => {
      const [row] = await database.query<{ behind: number }>(
        'select (unix_now() - as_of)::integer as behind from event_stats',
      );
      return row?.behind ?? -1;
    };
    await refresh();
    expect(await asOf()).toBe(0);
    await bigbrotr.store(batchOf({ relay, filterId, events: figureEvents(3) }));
    await database.query('update journal set written_at = written_at - 500');
    expect(await asOf()).toBeGreaterThan(500);
    while ((await bigbrotr.figures.followJournal()) !== 'end') {}
    expect(await asOf()).toBeGreaterThan(500);
    await refresh();
    expect(await asOf()).toBe(0);
  });
});

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly Plans?: readonly PlanNode[];
}

const reads = (node: PlanNode): string[] => [
  ...(node['Relation Name']
    ? [`${node['Relation Name']} ${node['Index Name'] ?? node['Node Type']}`]
    : []),
  ...(node.Plans ?? []).flatMap(reads),
];

describe('dangling_references', () => {
  test('are looked up for a part of the sample where it has too many, which its share says', async ({
    bigbrotr,
    database,
  }) => {
    // Two references to each of 128 targets: their second bytes are 0, 2, 4 and so on. None of them is archived.
    await database.query(
      `insert into daily_references (day, kind, target, "references")
       select 20000, 7, set_byte(set_byte(sha256(int4send(n)), 0, 0), 1, n * 2), 2 from generate_series(0, 127) n`,
    );
    const counted = async (most?: number) => {
      await bigbrotr.figures.countReferences(most);
      return database.query(
        'select "references"::integer, missing::integer, sample_share::float8 as share from dangling_references',
      );
    };
    expect(await counted()).toEqual([{ references: 256, missing: 256, share: 0.003906 }]);
    expect(await counted(128)).toEqual([{ references: 256, missing: 256, share: 0.003906 }]);
    expect(await counted(127)).toEqual([{ references: 128, missing: 128, share: 0.001953 }]);
    expect(await counted(20)).toEqual([{ references: 32, missing: 32, share: 0.000488 }]);
    expect(await counted(0)).toEqual([{ references: 2, missing: 2, share: 0.000015 }]);
  });
});

/** Views that show events: they are asked for some of them. */
const OF_EVENTS = ['events_relays', 'events_hex'];

describe('plans of views', () => {
  test('none of them scans events or sightings; current events are looked up by their key', async ({
    database,
    filled: _filled,
  }) => {
    const views = await database.query<{ name: string }>(
      `select viewname as name from pg_views where schemaname = 'public' order by 1`,
    );
    const figures = views.map(({ name }) => name).filter((name) => !OF_EVENTS.includes(name));
    expect(figures).toEqual(expect.arrayContaining(Object.keys(VIEWS)));
    await database.query(
      `insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
       select event_key_floor(n) + 1, n, 1, n / 86400, sha256(int4send(n)), sha256('a'), sha512('s'), '[]', '[]', repeat('text ', 40)
       from generate_series(1, 20000) n`,
    );
    await database.query('analyze');
    for (const view of figures) {
      const [row] = await database.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
        `explain (format json) select * from ${view}`,
      );
      const plan = row?.['QUERY PLAN'][0].Plan as PlanNode;
      const read = reads(plan).filter((each) => /^(events|sightings) /.test(each));
      const isCurrent = /^events_.+_latest$/.test(view);
      expect(read, view).toEqual(isCurrent ? ['events events_pkey'] : []);
    }
  });
});
