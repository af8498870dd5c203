import { describe, expect } from 'vitest';
import { databaseTest } from '../../postgres/fixtures.ts';

/** 2020-11-07, when Nostr began (init.sql). */
const BEGAN = 1_604_707_200;
const NOW = Math.floor(Date.now() / 1000);
const DAY = 86_400;
const RELAY = 'wss://one.example.com';

const test = databaseTest
  /** Notes that the seconds of `wanted` were wanted and those of `covered` are proven, both ends inclusive. */
  .extend(
    'covered',
    ({ database }) =>
      async (wanted: Stretch, ...stretches: Stretch[]): Promise<void> => {
        await database.query(
          `insert into visits (relay_id, filter_id, wanted, started_at) values (1, 1, int8range($1, $2, '[]'), 100)`,
          [...wanted],
        );
        const ranges = stretches.map(([since, until]) => `[${since},${until}]`).join(',');
        await database.query(
          `insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
     values (1, 1, 'paging', '2026-01-01', $1::int8multirange, 100)`,
          [`{${ranges}}`],
        );
      },
  )
  /** Sights one event at each of these seconds, apart from those before. */
  .extend('sighted', ({ database }) => async (...seconds: number[]): Promise<void> => {
    await database.query(
      `insert into sightings (event_key, relay_id, seen_at, created_day)
     select event_key_floor(second) + place, 1, 0, second / 86400 from unnest($1::bigint[]) with ordinality as t (second, place)`,
      [seconds],
    );
  })
  .extend('row', ({ database }) => async (): Promise<Row> => {
    const [found] = await database.query<Row>(
      `select share::float, events_held::int, events_left_estimate::float, estimate_basis from relay_coverage`,
    );
    if (!found) throw new Error('the relay has no coverage');
    return found;
  });
test.beforeEach(async ({ database }) => {
  await database.query('select insert_relay($1, $2)', [RELAY, 'clearnet']);
  await database.query("insert into filters (filter) values ('{}')");
});

type Stretch = readonly [since: number, until: number];

/** This number of seconds from one to another, evenly. */
const evenly = (count: number, [since, until]: Stretch) =>
  Array.from({ length: count }, (_, index) =>
    Math.floor(since + ((until - since) * (index + 0.5)) / count),
  );

interface Row {
  readonly share: number | null;
  readonly events_held: number;
  readonly events_left_estimate: number | null;
  readonly estimate_basis: string;
}

describe('the share of a relay', () => {
  test('that is paged half way from now to the start of Nostr is a half, not a part of the time since 1970', async ({
    covered,
    sighted,
    row,
  }) => {
    const middle = Math.floor((BEGAN + NOW) / 2);
    await covered([0, NOW], [middle, NOW]);
    await sighted(...evenly(1000, [middle, NOW]));
    const { share, ...rest } = await row();
    expect(share).toBeCloseTo(0.5, 3);
    expect(rest).toMatchObject({ events_held: 1000, estimate_basis: 'density' });
    expect(Math.abs((rest.events_left_estimate ?? 0) - 1000)).toBeLessThan(20);
  });

  test('with events dated to 1970 and 2001 is not counted from there', async ({
    covered,
    sighted,
    row,
  }) => {
    const middle = Math.floor((BEGAN + NOW) / 2);
    await covered([0, NOW], [middle, NOW]);
    await sighted(5, 1_000_000_000, ...evenly(100, [middle, NOW]));
    expect((await row()).share).toBeCloseTo(0.5, 3);
  });

  test('is 1 exactly when nothing wanted is missing', async ({ covered, row, database }) => {
    await covered([0, NOW], [0, NOW]);
    expect(await row()).toEqual({
      ...{ share: 1, events_held: 0, events_left_estimate: 0, estimate_basis: 'complete' },
    });
    await database.query("update coverage set covered = covered - '{[5,6)}'::int8multirange");
    expect((await row()).share).toBe(0.999999); // a second of 1970, of which nobody asks how long it is
    await database.query(
      `update coverage set covered = '{[0,${NOW + 1})}'::int8multirange - '{[${NOW - 60},${NOW - 59})}'::int8multirange`,
    );
    expect((await row()).share).toBe(0.999999);
  });

  test('whose bottom is proven is counted from its oldest event known, archived or in quarantine', async ({
    covered,
    sighted,
    database,
    row,
  }) => {
    const founded = NOW - 100 * DAY;
    await covered([0, NOW], [0, NOW - 50 * DAY]);
    await sighted(founded + DAY, NOW - 60 * DAY);
    await database.query(
      `insert into quarantine (id, relay_id, created_at, reason, raw) values ('\\x01', 1, ${founded}, 'nul', '\\x02')`,
    );
    expect((await row()).share).toBeCloseTo(0.5, 3);
    await database.query('delete from quarantine');
    expect((await row()).share).toBeCloseTo(49 / 99, 3);
    await database.query("update coverage set covered = covered - '{[1650000000,1650000001)}'");
    expect((await row()).share).toBeCloseTo((NOW - 50 * DAY - BEGAN) / (NOW - BEGAN), 3);
  });

  test('with a first second of its own is counted from there', async ({
    covered,
    sighted,
    row,
  }) => {
    await covered([NOW - 10 * DAY, NOW], [NOW - 4 * DAY, NOW]);
    await sighted(NOW - 1000 * DAY, NOW - 2 * DAY);
    expect((await row()).share).toBeCloseTo(0.4, 3);
    expect((await row()).events_held).toBe(1);
  });

  test('of a window before Nostr began is counted over all of it', async ({
    covered,
    sighted,
    row,
  }) => {
    await covered([100, 199], [150, 199]);
    await sighted(3, 160);
    expect(await row()).toMatchObject({ share: 0.5, events_held: 1 });
  });

  test('leaves out future seconds', async ({ covered, row, database }) => {
    await covered([NOW - 1000 * DAY, NOW + 1000 * DAY], [NOW - 500 * DAY, NOW + DAY]);
    expect((await row()).share).toBeCloseTo(0.5, 3);
    await database.query(
      `update coverage set covered = '{[${NOW - 1000 * DAY},${NOW + DAY})}'::int8multirange`,
    );
    expect(await row()).toMatchObject({ share: 1, estimate_basis: 'complete' });
  });

  test('is null when only future seconds are wanted', async ({ covered, row, database }) => {
    await covered([NOW + 1000, NOW + 2000]);
    expect((await row()).share).toBeNull();
    await database.query("update visits set wanted = 'empty'");
    expect((await row()).share).toBeNull();
  });

  test('is 0 when nothing is proven, and the estimate is unknown', async ({
    covered,
    sighted,
    row,
  }) => {
    await covered([0, NOW]);
    await sighted(NOW - 500); // of a live subscription
    expect(await row()).toEqual({
      ...{ share: 0, events_held: 1, events_left_estimate: null, estimate_basis: 'unknown' },
    });
  });
});

describe('the estimate of missing events', () => {
  test('has no basis exactly when it is unknown', async ({ database, covered, row }) => {
    const stretches: Stretch[][] = [
      [],
      [[0, BEGAN - 1]],
      [[BEGAN, BEGAN]],
      [[NOW, NOW]],
      [
        [5, 9],
        [NOW - 9, NOW - 5],
      ],
      [[0, NOW]],
    ];
    for (const proven of stretches) {
      await database.query('delete from visits; delete from coverage');
      await covered([0, NOW], ...proven);
      const { events_left_estimate: left, estimate_basis } = await row();
      expect(estimate_basis === 'unknown', JSON.stringify(proven)).toBe(left === null);
    }
  });

  test('uses the density next to each gap, less the archived events of the gap', async ({
    covered,
    sighted,
    row,
  }) => {
    const [top, dense, sparse] = [NOW - DAY, NOW - 11 * DAY, NOW - 31 * DAY];
    // Ten days of 1,000 events each, then twenty of 100 each; a gap of a day lies in either.
    await covered([sparse, top], [dense + 4 * DAY, top], [sparse + 6 * DAY, dense + 3 * DAY - 1], [
      sparse,
      sparse + 5 * DAY - 1,
    ] as const);
    const inGap = (second: number) =>
      (second >= dense + 3 * DAY && second < dense + 4 * DAY) ||
      (second >= sparse + 5 * DAY && second < sparse + 6 * DAY);
    const all = [...evenly(10_000, [dense, top]), ...evenly(2000, [sparse, dense])];
    await sighted(...all.filter((second) => !inGap(second)));
    const estimate = async () => (await row()).events_left_estimate ?? 0;
    expect(Math.abs((await estimate()) - 1100)).toBeLessThan(60);
    await sighted(...evenly(400, [dense + 3 * DAY, dense + 4 * DAY - 1]));
    expect(Math.abs((await estimate()) - 700)).toBeLessThan(60);
  });

  test('is small for a relay with few events, though a gap is long', async ({
    covered,
    sighted,
    row,
  }) => {
    await covered([0, NOW], [NOW - DAY, NOW]);
    await sighted(NOW - 10);
    const { events_left_estimate, estimate_basis } = await row();
    expect(estimate_basis).toBe('density');
    expect(Math.abs((events_left_estimate ?? 0) - (NOW - BEGAN) / DAY)).toBeLessThan(5);
  });

  test('counts events of the last second that an archive can hold', async ({
    covered,
    sighted,
    row,
  }) => {
    const last = 549_755_813_887;
    await covered([0, last]);
    await sighted(last, last - 1, 7);
    expect((await row()).events_held).toBe(3);
  });
});
