import fc from 'fast-check';
import { describe, expect } from 'vitest';
import type { SnapshotRow } from '../../../src/database/bigbrotr.ts';
import { type RelayState, relayState } from '../../../src/nostr/relay-state.ts';
import { type Check, type Interval, modelIntervals } from '../../fixtures/uptime-model.ts';
import { openBigbrotr } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { relayAddress } from '../../relay/relays.ts';

const test = archiveTest
  .extend(
    'record',
    ({ bigbrotr }) =>
      async (name: string, checks: readonly Check[], interval = INTERVAL): Promise<void> => {
        await bigbrotr.insertSnapshots(
          checks.map((each) => snapshot(name, each)),
          interval,
        );
      },
  )
  .extend(
    'stored',
    ({ database }) =>
      (name: string) =>
        database.query(
          `select s.state, s.from_at::integer as from, s.to_at::integer as to from relay_states s join relays using (relay_id)
     where url = $1 order by from_at`,
          [address(name).url],
        ) as Promise<Interval[]>,
  )
  .extend(
    'shown',
    ({ database }) =>
      (name: string) =>
        database.query(
          'select state, from_at::integer as from, to_at::integer as to from relay_uptime where relay_url = $1 order by from_at',
          [address(name).url],
        ) as Promise<Interval[]>,
  )
  .extend('availability', ({ database }) => async (name: string) => {
    const [row] = await database.query(
      `select network, state, up_1_day::float, up_7_days::float, up_30_days::float, up_90_days::float,
            known_90_days::float, flaps::integer
     from relay_availability where relay_url = $1`,
      [address(name).url],
    );
    return row;
  })
  /** Intervals as they would have been written, in days before now. */
  .extend(
    'write',
    ({ bigbrotr, database }) =>
      async (name: string, rows: readonly [RelayState, number, number | null][]) => {
        const at = now();
        const relay = address(name);
        await bigbrotr.insertRelays([relay]);
        const id = '(select relay_id from relays where url = $1)';
        for (const [state, from, to] of rows) {
          await database.query(
            `insert into relay_states (relay_id, from_at, to_at, state) values (${id}, $2, $3, $4)`,
            [relay.url, at - from * DAY, to === null ? null : at - to * DAY, state],
          );
        }
        await database.query(
          `insert into relay_schedule (relay_id, checked_at, due_at, known_until) values (${id}, $2, $2, $3)`,
          [relay.url, at, at + DAY],
        );
      },
  );

const HOUR = 3600;
const DAY = 24 * HOUR;
const INTERVAL = 8 * HOUR;
const now = () => Math.floor(Date.now() / 1000);
/** Midnight of some day, far enough back for a long history. */
const T = 1_780_012_800;
const address = (name: string) => relayAddress(`wss://${name}.example.com`);
const RESULT: Record<RelayState, object> = {
  up: { openable: true, readable: true, writable: false },
  down: { openable: false, readable: false, writable: false, reason: 'timeout' },
  unknown: { openable: false, readable: false, writable: false, reason: 'proxy_down' },
};
const snapshot = (
  name: string,
  { at, state }: Check,
  nip11: object | null = null,
): SnapshotRow => ({
  relay: address(name),
  generatedAt: at,
  nip11,
  nip66: RESULT[state],
});
const check = (at: number, state: RelayState): Check => ({ at, state });

describe('relay_state', () => {
  const cases: [boolean, boolean, string | null, RelayState][] = [
    [true, true, null, 'up'],
    [true, true, 'rejected', 'up'], // it does not take our event
    [true, false, 'auth_required', 'up'],
    [true, false, 'restricted', 'up'],
    [true, false, 'blocked', 'up'],
    [true, false, 'rate_limited', 'up'],
    [true, false, 'limit', 'up'],
    [true, false, 'timeout', 'down'], // it opens and says nothing
    [true, false, 'closed', 'down'],
    [true, false, 'disconnected', 'down'],
    [false, false, 'blocked', 'down'], // nobody that did not open has said so
    [false, false, 'refused', 'down'],
    [false, false, 'dns', 'down'],
    [false, false, 'http_403', 'down'],
    [false, false, 'proxy', 'down'], // Tor works, the onion service does not
    [false, false, 'proxy_down', 'unknown'],
    [false, false, 'no_proxy', 'unknown'],
    [false, false, 'network_down', 'unknown'],
    [false, false, null, 'down'],
  ];

  test.for(cases)(
    'openable %s, readable %s, %s: %s, here and in SQL',
    async ([openable, readable, reason, state], { database }) => {
      expect(relayState({ openable, readable, reason })).toBe(state);
      const rows = await database.query('select relay_state($1, $2, $3) as state', [
        openable,
        readable,
        reason,
      ]);
      expect(rows).toEqual([{ state }]);
    },
  );

  test('is unknown for a snapshot without results', async ({ bigbrotr, stored }) => {
    await bigbrotr.insertSnapshots([{ ...snapshot('a', check(T, 'up')), nip66: null }]);
    expect(await stored('a')).toEqual([{ state: 'unknown', from: T, to: null }]);
  });
});

describe('relay_uptime', () => {
  test('has one row per change', async ({ record, stored }) => {
    await record('a', [
      check(T, 'up'),
      check(T + 8 * HOUR, 'up'),
      check(T + 16 * HOUR, 'down'),
      check(T + 17 * HOUR, 'down'),
      check(T + 19 * HOUR, 'up'),
      check(T + 27 * HOUR, 'up'),
    ]);
    expect(await stored('a')).toEqual([
      { state: 'up', from: T, to: T + 16 * HOUR },
      { state: 'down', from: T + 16 * HOUR, to: T + 19 * HOUR },
      { state: 'up', from: T + 19 * HOUR, to: null },
    ]);
  });

  test('is unknown while the monitor was off, from when the last check was too old', async ({
    record,
    stored,
  }) => {
    await record('a', [check(T, 'up'), check(T + 10 * HOUR, 'up'), check(T + 40 * HOUR, 'up')]);
    expect(await stored('a')).toEqual([
      { state: 'up', from: T, to: T + 20 * HOUR }, // ten hours are five quarters of the interval: just in time
      { state: 'unknown', from: T + 20 * HOUR, to: T + 40 * HOUR },
      { state: 'up', from: T + 40 * HOUR, to: null },
    ]);
    await record('b', [check(T, 'up'), check(T + 10 * HOUR + 1, 'down')]);
    expect(await stored('b')).toEqual([
      { state: 'up', from: T, to: T + 10 * HOUR },
      { state: 'unknown', from: T + 10 * HOUR, to: T + 10 * HOUR + 1 },
      { state: 'down', from: T + 10 * HOUR + 1, to: null },
    ]);
  });

  test('continues the state of a relay that is down between checks with back-off', async ({
    record,
    stored,
  }) => {
    // 8, 16, 32 and 64 hours from check to check, as the schedule wants it, and then five quarters of 128
    const times = [0, 8, 24, 56, 120, 280].map((hours) => T + hours * HOUR);
    await record(
      'dead',
      times.map((at) => check(at, 'down')),
    );
    expect(await stored('dead')).toEqual([{ state: 'down', from: T, to: null }]);
    await record('dead', [check(T + 281 * HOUR, 'up')]);
    expect(await stored('dead')).toEqual([
      { state: 'down', from: T, to: T + 281 * HOUR },
      { state: 'up', from: T + 281 * HOUR, to: null },
    ]);
  });

  test('is unknown while Tor is down', async ({ record, stored }) => {
    await record('onion', [
      check(T, 'up'),
      check(T + 7 * HOUR, 'unknown'),
      check(T + 8 * HOUR, 'up'),
    ]);
    expect(await stored('onion')).toEqual([
      { state: 'up', from: T, to: T + 7 * HOUR },
      { state: 'unknown', from: T + 7 * HOUR, to: T + 8 * HOUR },
      { state: 'up', from: T + 8 * HOUR, to: null },
    ]);
  });

  test('shows unknown from when the latest check is too old', async ({ record, stored, shown }) => {
    const last = now() - 11 * HOUR;
    await record('lapsed', [check(last - HOUR, 'down'), check(last, 'up')]);
    expect(await stored('lapsed')).toHaveLength(2);
    expect(await shown('lapsed')).toEqual([
      { state: 'down', from: last - HOUR, to: last },
      { state: 'up', from: last, to: last + 10 * HOUR },
      { state: 'unknown', from: last + 10 * HOUR, to: null },
    ]);
    await record('fresh', [check(now() - 9 * HOUR, 'up')]);
    expect(await shown('fresh')).toEqual(await stored('fresh'));
  });

  test('is the same after a replay in any order by two concurrent monitors', async ({
    record,
    stored,
    database,
    bigbrotr,
  }) => {
    const checks = ['up', 'up', 'down', 'unknown', 'down', 'up', 'down', 'down'].map(
      (state, index) => check(T + index * 5 * HOUR, state as RelayState),
    );
    await record('in-order', checks);
    const wanted = await stored('in-order');
    expect(wanted).toEqual(modelIntervals(checks, INTERVAL));
    await record('in-order', checks);
    expect(await stored('in-order')).toEqual(wanted);
    await record('backwards', checks.toReversed());
    expect(await stored('backwards')).toEqual(wanted);
    const other = await openBigbrotr(database);
    const halves = [bigbrotr, other].map(async (monitor, half) => {
      for (const [index, each] of checks.entries())
        if (index % 2 === half || index === 3)
          await monitor.insertSnapshots([snapshot('both', each)]);
    });
    await Promise.all(halves);
    await other.close();
    expect(await stored('both')).toEqual(wanted);
  });

  test('includes snapshots of an older version', async ({ database, stored, record }) => {
    await database.query("select insert_relay_metadata($1, 'clearnet', $2, null, $3)", [
      ...[address('a').url, T, JSON.stringify(RESULT.down)],
    ]);
    expect(await stored('a')).toEqual([]);
    await record('a', [check(T + HOUR, 'up')]);
    expect(await stored('a')).toEqual([
      { state: 'down', from: T, to: T + HOUR },
      { state: 'up', from: T + HOUR, to: null },
    ]);
  });

  test('by property: equals the model for any snapshots in any order', async ({
    record,
    stored,
    database,
  }) => {
    let relays = 0;
    const step = fc.record({
      // from minutes to months: living, flapping, forgotten, and monitors that were off
      after: fc.oneof(
        fc.integer({ min: 1, max: 2 * HOUR }),
        fc.integer({ min: 6 * HOUR, max: 11 * HOUR }),
        fc.integer({ min: 1, max: 60 * DAY }),
      ),
      state: fc.constantFrom<RelayState>('up', 'up', 'down', 'down', 'unknown'),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 25 }),
        fc.array(fc.nat(), { minLength: 25, maxLength: 25 }),
        fc.constantFrom(HOUR, INTERVAL, 30 * DAY),
        fc.boolean(),
        async (steps, places, interval, shuffled) => {
          relays += 1;
          const name = `r${relays}`;
          let at = T - 1000 * DAY;
          const checks = steps.map(({ after, state }) => {
            at += after;
            return check(at, state);
          });
          const order = shuffled
            ? checks
                .map((each, index) => [places[index] ?? 0, each] as const)
                .sort(([a], [b]) => a - b)
                .map(([, each]) => each)
            : checks;
          for (const each of order) await record(name, [each], interval);
          const wanted = modelIntervals(checks, interval);
          expect(await stored(name)).toEqual(wanted);
          await record(name, checks, interval);
          expect(await stored(name)).toEqual(wanted);
          await database.query(
            'select rebuild_relay_states(relay_id, $2) from relays where url = $1',
            [address(name).url, interval],
          );
          expect(await stored(name)).toEqual(wanted);
        },
      ),
      { numRuns: 60 },
    );
    expect(relays).toBeGreaterThanOrEqual(60);
  });
});

describe('relay_availability', () => {
  test('is the share of the known time', async ({ write, availability }) => {
    await write('a', [
      ['up', 100, 50],
      ['unknown', 50, 20],
      ['down', 20, 4],
      ['up', 4, 0.25],
      ['down', 0.25, null],
    ]);
    expect(await availability('a')).toEqual({
      network: 'clearnet',
      state: 'down',
      up_1_day: 0.75,
      up_7_days: 0.5357, // 3.75 of 7
      up_30_days: 0.1875, // 3.75 of 20: ten of the thirty are unknown
      up_90_days: 0.7292, // 40 + 3.75 of 60
      known_90_days: 0.6667,
      flaps: 2, // at 20 days, with unknown in between, and at 0.25
    });
  });

  test('is about the known time of a new relay, and null if nothing is known', async ({
    write,
    availability,
    bigbrotr,
  }) => {
    await write('new', [['up', 0.5, null]]);
    expect(await availability('new')).toMatchObject({
      ...{ state: 'up', up_1_day: 1, up_90_days: 1, known_90_days: 0.0056, flaps: 0 },
    });
    await write('onion', [['unknown', 3, null]]);
    expect(await availability('onion')).toMatchObject({
      ...{ state: 'unknown', up_1_day: null, up_90_days: null, known_90_days: 0, flaps: 0 },
    });
    await bigbrotr.insertRelays([address('never-checked')]);
    expect(await availability('never-checked')).toBeUndefined();
  });

  test('keeps the shares, and shows unknown, while the monitor is off', async ({
    record,
    availability,
  }) => {
    await record('a', [check(now() - 2 * DAY, 'up')]);
    expect(await availability('a')).toMatchObject({
      state: 'unknown',
      up_1_day: null,
      up_7_days: 1,
    });
  });

  test('counts changes from up to down as flaps', async ({ write, availability }) => {
    await write('flapping', [
      ['down', 95, 94],
      ['up', 94, 93],
      ['down', 93, 10], // before the ninety days
      ['up', 10, 9],
      ['down', 9, 8],
      ['up', 8, 7],
      ['unknown', 7, 6],
      ['up', 6, 5],
      ['down', 5, null],
    ]);
    expect(await availability('flapping')).toMatchObject({ flaps: 2 });
  });
});

describe('relay_software', () => {
  test('is counted over the relays that are up, by their latest document', async ({
    bigbrotr,
    database,
  }) => {
    const document = (software: string | null, version: string | null) => ({ software, version });
    const at = now();
    await bigbrotr.insertSnapshots([
      snapshot('a', check(at - HOUR, 'up'), document('strfry', '1.0')),
      snapshot('a', check(at, 'up')), // it gave no document this time
      snapshot('b', check(at, 'up'), document('strfry', '1.0')),
      snapshot('c', check(at - HOUR, 'up'), document('strfry', '1.0')),
      snapshot('c', check(at, 'up'), document('strfry', '2.0')),
      snapshot('d', check(at, 'up')),
      snapshot('gone', check(at - HOUR, 'up'), document('strfry', '1.0')),
      snapshot('gone', check(at, 'down')),
    ]);
    const rows = await database.query(
      'select software, version, relays::integer, share::float from relay_software',
    );
    expect(rows).toEqual([
      { software: 'strfry', version: '1.0', relays: 2, share: 0.5 },
      { software: 'strfry', version: '2.0', relays: 1, share: 0.25 },
      { software: null, version: null, relays: 1, share: 0.25 },
    ]);
  });
});
