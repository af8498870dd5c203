/** /v1/stats and /v1/authors: what the refresher keeps. */
import { npubEncode } from 'nostr-tools/nip19';
import { describe, expect } from 'vitest';
import { apiTest } from '../../fixtures/api-test.ts';

const KEYS = ['11', '22', '33'].map((pair) => pair.repeat(32));
const DAY = 19_000; // 2022-01-08

/** Tests with figures of three authors: the first follows the others. */
const test = apiTest.extend('counted', async ({ database, other: _known }) => {
  await database.query(
    'truncate authors, scope_stats, scope_kinds, scope_authors, day_sums, daily_kinds, follow_edges restart identity cascade',
  );
  for (const key of KEYS)
    await database.query("insert into authors (pubkey) values (decode($1, 'hex'))", [key]);
  await database.query(
    `insert into scope_stats (scope, events, only_here, authors, kinds, first_at, last_at) values (0, 60, 0, 3, 2, 100, 900)`,
  );
  await database.query(
    `insert into scope_kinds (scope, kind, events, authors) values (0, 1, 50, 3), (0, 3, 10, 1)`,
  );
  await database.query(
    `insert into scope_authors (scope, author_id, events, first_at, last_at, kinds)
     values (0, 1, 30, 100, 900, '\\x0100011400030a'), (0, 2, 20, 100, 900, '\\x01000114'),
            (0, 3, 10, 100, 900, '\\x0100010a')`,
  );
  await database.query(
    `insert into day_sums (day, events, authors, kinds, id_sum, counted_at)
     select $1 + n, 10 + n, 3, 2, 0, 1000 from generate_series(0, 4) n`,
    [DAY],
  );
  await database.query(
    `insert into daily_kinds (day, kind, events, authors, content_bytes) select $1 + n, k, 5, 2, 300
     from generate_series(0, 1) n, unnest('{1,3}'::integer[]) k`,
    [DAY],
  );
  await database.query(
    `insert into replication_totals (relays, events) values (1, 40), (2, 20)
     on conflict (relays) do update set events = excluded.events`,
  );
  await database.query(
    `insert into daily_zaps (day, zaps, senders, recipients, millisats) values ($1, 2, 1, 1, 21000)
     on conflict do nothing`,
    [DAY],
  );
  await database.query(
    `insert into relay_list_totals (relay_url, authors, readers, writers) values ('wss://elsewhere.example.com', 3, 2, 3)
     on conflict do nothing`,
  );
  await database.query(
    `insert into period_users (grain, start, before, users, new_users, with_profile, with_follows, counted_at)
     values ('day', $1, 0, 3, 1, 2, 1, 1000) on conflict do nothing`,
    [DAY],
  );
  await database.query(
    'insert into cover_ranks (rank, relay_id, new_events, covered, sampled, as_of) values (1, (select min(relay_id) from relays), 8, 8, 10, 1000)',
  );
  await database.query(
    'insert into reference_totals (kind, "references", missing, as_of) values (7, 12, 5, 1000)',
  );
  await database.query(
    'insert into cohorts (week, cohort_week, users) values ($1, $2, 2) on conflict do nothing',
    [DAY + 7, DAY],
  );
  await database.query(
    'insert into follow_edges (follower_id, followed_id) values (1, 2), (1, 3), (2, 3)',
  );
});

describe('GET /v1/stats', () => {
  test('pages through figures in their order, days as half-open ranges', async ({
    counted: _counted,
    get,
  }) => {
    const days = async (query: string) =>
      (await get(`/v1/stats/days?${query}`)).json.data.map(({ day }: { day: string }) => day);
    expect(await days('limit=2')).toEqual(['2022-01-12', '2022-01-11']);
    expect(await days('since=2022-01-08&until=2022-01-10')).toEqual(['2022-01-09', '2022-01-08']);
    expect((await get('/v1/stats/days?since=2022-02-31')).status).toBe(400);
    const authors: string[] = [];
    for (let cursor = ''; ; ) {
      const { json } = await get(`/v1/stats/authors?limit=1${cursor}`);
      authors.push(...json.data.map(({ pubkey }: { pubkey: string }) => pubkey));
      if (json.next_cursor === null) break;
      cursor = `&cursor=${json.next_cursor}`;
    }
    expect(authors).toEqual(KEYS);
    const { json } = await get('/v1/stats/day-kinds?limit=3');
    const rest = await get(`/v1/stats/day-kinds?cursor=${json.next_cursor}&limit=3`);
    expect([...json.data, ...rest.json.data].map(({ day, kind }) => [day, kind])).toEqual([
      ['2022-01-09', 3],
      ['2022-01-09', 1],
      ['2022-01-08', 3],
      ['2022-01-08', 1],
    ]);
    const ofKind = (await get('/v1/stats/day-kinds?kinds=3,7')).json.data;
    expect(ofKind.map(({ kind }: { kind: number }) => kind)).toEqual([3, 3]);
    expect((await get('/v1/stats/kinds')).json.data).toMatchObject([
      { kind: 1, event_count: 50, category: 'regular' },
      { kind: 3, event_count: 10, category: 'replaceable' },
    ]);
    expect((await get('/v1/stats/events')).json.data).toMatchObject({
      ...{ event_count: 60, unique_pubkeys: 3, unique_kinds: 2 },
    });
  });

  test('days after the year 9999 are later than the others', async ({
    counted: _counted,
    database,
    get,
  }) => {
    await database.query(
      `with day as (insert into day_sums (day, events, authors, kinds, id_sum, counted_at) values (6000000, 1, 1, 1, 0, 1000))
       insert into daily_kinds (day, kind, events, authors, content_bytes) values (6000000, 1, 1, 1, 0)`,
    );
    for (const figure of ['days', 'day-kinds']) {
      const first = (await get(`/v1/stats/${figure}?limit=1`)).json;
      expect(first.data, figure).toMatchObject([{ day: '18397-06-11' }]);
      const { data } = (await get(`/v1/stats/${figure}?limit=1&cursor=${first.next_cursor}`)).json;
      expect(data[0].day, figure).toMatch(/^2022-01-/);
    }
    const { json } = await get('/v1/stats/days?since=2022-01-12&until=18397-06-11');
    expect(json.data).toMatchObject([{ day: '2022-01-12' }]);
  });

  test.for([
    ['active-users', { grain: 'day', start: '2022-01-08', users: 3 }],
    ['retention', { cohort_week: '2022-01-08', age_weeks: 1, users: 2 }],
    ['replication', { relays: 1, events: 40, share: 0.666667 }],
    ['relay-lists', { relay_url: 'wss://elsewhere.example.com', authors: 3, is_known: false }],
    ['relay-cover', { rank: 1, new_events: 8, cumulative_share: 0.8, sample_share: 0.003906 }],
    ['dangling-references', { kind: 7, references: 12, missing: 5, as_of: 1000 }],
    ['zaps', { day: '2022-01-08', zaps: 2, millisats: '21000' }],
  ] as const)('%s has its rows', async ([name, row], { counted: _counted, get }) => {
    expect((await get(`/v1/stats/${name}`)).json.data[0]).toMatchObject(row);
  });

  test.for(['networks', 'software', 'nips'])(
    '%s is answered',
    async (name, { counted: _counted, get }) => {
      expect(await get(`/v1/stats/${name}`)).toMatchObject({
        status: 200,
        json: { next_cursor: null },
      });
    },
  );
});

describe('GET /v1/authors/{pubkey}', () => {
  test('has figures, follows and followers, by hex or Bech32', async ({
    counted: _counted,
    get,
  }) => {
    const [one = '', two = '', three = ''] = KEYS;
    const { json } = await get(`/v1/authors/${npubEncode(one)}`);
    expect(json.data).toEqual({
      ...{ pubkey: one, profile: null, relay_list: null },
      figures: {
        ...{ events: 30, kinds: 2, first_event_at: 100, last_event_at: 900 },
        ...{ follows: 2, followers: 0 },
      },
    });
    const list = async (path: string) =>
      (await get(`/v1/authors/${path}`)).json.data.map(({ pubkey }: { pubkey: string }) => pubkey);
    expect(await list(`${one}/follows`)).toEqual([two, three]);
    expect(await list(`${three}/followers`)).toEqual([one, two]);
    const first = (await get(`/v1/authors/${one}/follows?limit=1`)).json;
    expect(await list(`${one}/follows?limit=1&cursor=${first.next_cursor}`)).toEqual([three]);
    expect((await get(`/v1/authors/${'0'.repeat(64)}`)).status).toBe(404);
  });
});
