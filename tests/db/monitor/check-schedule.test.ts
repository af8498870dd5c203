import { describe, expect } from 'vitest';
import type { Relay, SnapshotRow } from '../../../src/database/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { relayAddress } from '../../relay/relays.ts';

const test = archiveTest
  .extend('planOf', ({ database }) => async (name: string): Promise<Plan> => {
    const [plan] = await database.query<Plan>(
      `select checked_at::integer as checked, due_at::integer as due, failures from relay_schedule join relays using (relay_id)
     where url = $1`,
      [address(name).url],
    );
    if (!plan) throw new Error(`${name} has no schedule`);
    return plan;
  })
  .extend('recheck', ({ database }) => async (...given: string[]): Promise<number> => {
    const [row] = await database.query<{ woken: number }>(
      'select recheck_relays($1)::integer as woken',
      [given.map((name) => address(name).url)],
    );
    return row?.woken ?? 0;
  })
  .extend(
    'interval',
    ({ database }) =>
      async (state: string, failures: number, wasUp: boolean, lastWait = 0) => {
        const [row] = await database.query(
          'select relay_check_interval($1, $2, $3, $4, $5) as seconds',
          [...[state, failures, wasUp, lastWait, INTERVAL]],
        );
        return row?.seconds;
      },
  );

const HOUR = 3600;
const DAY = 24 * HOUR;
const INTERVAL = 8 * HOUR;
const AGES = { intervalSeconds: INTERVAL, aheadSeconds: 0 };
/** Only relays that wait for nothing: the schedule makes none due again. */
const AT_ONCE = { ...AGES, leastSeconds: 10 * 365 * DAY };
const now = () => Math.floor(Date.now() / 1000);
const address = (name: string) => relayAddress(`wss://${name}.example.com`);
const UP = { openable: true, readable: true, writable: false };
const DOWN = { openable: false, readable: false, writable: false, reason: 'timeout' };
const NO_TOR = { ...DOWN, reason: 'proxy_down' };
const snapshot = (name: string, generatedAt: number, nip66: object = UP): SnapshotRow => ({
  relay: address(name),
  generatedAt,
  nip11: null,
  nip66,
});
const names = (relays: readonly Relay[]) =>
  relays.map(({ url }) => new URL(url).hostname.replace('.example.com', ''));

interface Plan {
  readonly checked: number;
  readonly due: number;
  readonly failures: number;
}

describe('interval to the next check', () => {
  test('is the configured one for a relay that is up', async ({ interval }) => {
    expect(await interval('up', 0, true)).toBe(INTERVAL);
  });

  test('grows from hours to 28 days for a relay that was never up', async ({ interval }) => {
    const hours = [8, 16, 32, 64, 128, 256, 512, 672, 672];
    for (const [index, wanted] of hours.entries())
      expect(await interval('down', index + 1, false), `failure ${index + 1}`).toBe(wanted * HOUR);
    for (const failures of [31, 1000, 2_000_000_000])
      expect(await interval('down', failures, false)).toBe(28 * DAY);
  });

  test('starts at an eighth for a relay that was up before', async ({ interval }) => {
    const hours = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 672];
    for (const [index, wanted] of hours.entries())
      expect(await interval('down', index + 1, true), `failure ${index + 1}`).toBe(wanted * HOUR);
  });

  test('is short for an unknown state, and never longer than for a relay that is up', async ({
    interval,
  }) => {
    expect(await interval('unknown', 0, true)).toBe(HOUR / 4);
    expect(await interval('unknown', 9, false, HOUR)).toBe(2 * HOUR);
    expect(await interval('unknown', 9, false, 300 * DAY)).toBe(INTERVAL);
  });

  test('is never below the configured one if that is longer than 28 days', async ({ database }) => {
    const [row] = await database.query(
      "select relay_check_interval('down', 5, false, 0, 31536000) as seconds",
    );
    expect(row?.seconds).toBe(31_536_000);
  });
});

describe('relay_schedule', () => {
  test('is written with the snapshot: with back-off while a relay is down, normal as soon as it is up', async ({
    bigbrotr,
    planOf,
  }) => {
    const start = now() - 100 * DAY;
    let at = start;
    const waits: number[] = [];
    for (let failure = 1; failure <= 9; failure += 1) {
      await bigbrotr.insertSnapshots([snapshot('dead', at, DOWN)], INTERVAL);
      const { due, failures } = await planOf('dead');
      expect(failures).toBe(failure);
      waits.push((due - at) / HOUR);
      at = due;
    }
    for (const [index, longest] of [8, 16, 32, 64, 128, 256, 512, 672, 672].entries()) {
      expect(waits[index]).toBeLessThanOrEqual(longest);
      if (index > 0) expect(waits[index]).toBeGreaterThanOrEqual((longest * 7) / 8 - 0.001);
    }
    await bigbrotr.insertSnapshots([snapshot('dead', at, UP)], INTERVAL);
    const back = await planOf('dead');
    expect(back).toMatchObject({ checked: at, failures: 0 });
    expect(back.due).toBeLessThanOrEqual(at + INTERVAL);
    await bigbrotr.insertSnapshots([snapshot('dead', back.due, DOWN)], INTERVAL);
    expect((await planOf('dead')).due).toBeLessThanOrEqual(back.due + HOUR);
  });

  test('has no back-off for checks while Tor is down', async ({ bigbrotr, planOf }) => {
    const start = now() - 10 * DAY;
    let at = start;
    for (const _ of Array.from({ length: 20 })) {
      await bigbrotr.insertSnapshots([snapshot('onion', at, NO_TOR)], INTERVAL);
      const { due, failures } = await planOf('onion');
      expect(failures).toBe(0);
      expect(due).toBeLessThanOrEqual(at + INTERVAL);
      at = due;
    }
    await bigbrotr.insertSnapshots([snapshot('dying', start, DOWN)], INTERVAL);
    await bigbrotr.insertSnapshots([snapshot('dying', start + HOUR, NO_TOR)], INTERVAL);
    expect((await planOf('dying')).failures).toBe(1);
    await bigbrotr.insertSnapshots([snapshot('dying', start + 2 * HOUR, DOWN)], INTERVAL);
    expect((await planOf('dying')).failures).toBe(2);
  });

  test('is unchanged by a replay, and includes late snapshots', async ({ bigbrotr, planOf }) => {
    const at = now() - 30 * DAY;
    const rows = [UP, DOWN, DOWN, DOWN].map((nip66, index) =>
      snapshot('a', at + index * HOUR, nip66),
    );
    await bigbrotr.insertSnapshots(rows, INTERVAL);
    const plan = await planOf('a');
    expect(plan.failures).toBe(3);
    expect(await bigbrotr.insertSnapshots(rows, INTERVAL)).toMatchObject({ added: 0 });
    expect(await planOf('a')).toEqual(plan);
    await bigbrotr.insertSnapshots(
      rows.toReversed().map((row) => ({ ...row, relay: address('b') })),
      INTERVAL,
    );
    expect((await planOf('b')).failures).toBe(3);
  });

  test('is not written without its snapshot: one statement', async ({ bigbrotr, database }) => {
    const broken = { ...snapshot('z', now()), nip66: { openable: true, readable: 'perhaps' } };
    await expect(bigbrotr.insertSnapshots([snapshot('a', now()), broken])).rejects.toThrow(
      /boolean/,
    );
    expect(await database.query('select from relay_schedule')).toEqual([]);
    expect(await database.query('select from relay_states')).toEqual([]);
    expect(await database.query('select from snapshots')).toEqual([]);
  });

  test('spreads relays that were first checked in one minute over the hours, within three days', async ({
    database,
  }) => {
    await database.query(SIMULATION, []);
    const rows = await database.query<{ checks: number }>(
      `select count(*)::integer as checks from simulated
       where at >= 8 * 3600 and at < 72 * 3600 group by at / 3600 order by at / 3600`,
    );
    await database.query('drop table simulated');
    const checks = rows.map((row) => row.checks);
    expect(checks).toHaveLength(64);
    const mean = checks.reduce((sum, each) => sum + each, 0) / checks.length;
    expect(mean).toBeGreaterThan(1000 / 8);
    expect(mean).toBeLessThan((1000 / 8) * 1.15);
    expect(Math.max(...checks)).toBeLessThan(mean * 1.3);
    expect(Math.min(...checks)).toBeGreaterThan(mean * 0.7);
  });
});

/** A thousand living relays, each checked when it is due; `at` is seconds since the first check of all. */
const SIMULATION = `do $$
declare
    relay record;
    due bigint;
begin
    create table simulated (at integer);
    insert into relays (url, network) select 'wss://r' || n || '.example.com', 'clearnet' from generate_series(1, 1000) n;
    for relay in select relay_id from relays loop
        due := 1700000000 + relay.relay_id % 60;
        while due < 1700000000 + 72 * 3600 loop
            perform record_relay_check(relay.relay_id, due, 'up', 28800);
            insert into simulated values (due - 1700000000);
            select due_at into due from relay_schedule where relay_id = relay.relay_id;
        end loop;
    end loop;
end $$`;

describe('relaysToCheck', () => {
  test('returns relays that were never checked, then the longest overdue, and none that is not due', async ({
    bigbrotr,
    database,
  }) => {
    await bigbrotr.insertRelays([address('never')]);
    await bigbrotr.insertSnapshots(
      [
        snapshot('old', now() - 9 * HOUR),
        snapshot('older', now() - 20 * HOUR),
        snapshot('dead', now() - 20 * DAY, DOWN),
        snapshot('dead-for-long', now() - 9 * DAY, DOWN),
      ],
      INTERVAL,
    );
    await bigbrotr.insertSnapshots([snapshot('young', now() - HOUR / 4)], INTERVAL);
    await database.query(
      'update relay_schedule set due_at = $1 from relays r where r.relay_id = relay_schedule.relay_id and r.url = $2',
      [now() + DAY, address('dead').url],
    );
    const due = names(await bigbrotr.relaysToCheck(AGES));
    expect(due).toEqual(['never', 'dead-for-long', 'older', 'old']);
  });

  test('returns every relay that is up and whose check is an interval old, whatever interval it was scheduled with', async ({
    bigbrotr,
    database,
  }) => {
    await bigbrotr.insertSnapshots([snapshot('a', now() - 2 * HOUR)], 30 * DAY);
    await database.query('update relay_schedule set due_at = $1', [now() + 29 * DAY]);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual([]);
    expect(
      names(await bigbrotr.relaysToCheck({ intervalSeconds: 2 * HOUR, aheadSeconds: 0 })),
    ).toEqual(['a']);
  });

  test('never returns a relay too late for the synchronizer, which visits relays with a recent snapshot', async ({
    bigbrotr,
  }) => {
    const all = Array.from({ length: 300 }, (_, index) => `r${index}`);
    const checkedAt = now() - INTERVAL;
    await bigbrotr.insertSnapshots(
      all.map((name) => snapshot(name, checkedAt)),
      INTERVAL,
    );
    expect(await bigbrotr.relaysToCheck(AGES)).toHaveLength(all.length);
    const filterId = await bigbrotr.filterId({});
    const readable = { snapshotSeconds: 12 * HOUR, intervalSeconds: 0 };
    expect(await bigbrotr.relaysToSynchronize(filterId, readable)).toHaveLength(all.length);
  });

  test('returns onion relays soon again while Tor is down, and they stay readable', async ({
    bigbrotr,
  }) => {
    await bigbrotr.insertSnapshots(
      [
        snapshot('onion', now() - HOUR),
        snapshot('onion', now() - HOUR / 2, NO_TOR),
        snapshot('dead', now() - HOUR, DOWN),
        snapshot('dead', now() - HOUR / 2, NO_TOR),
        snapshot('gone', now() - HOUR),
        snapshot('gone', now() - HOUR / 2, DOWN),
        snapshot('forgotten', now() - 13 * HOUR),
        snapshot('forgotten', now() - HOUR / 2, NO_TOR),
      ],
      INTERVAL,
    );
    expect(names(await bigbrotr.relaysToCheck(AGES)).sort()).toEqual([
      'dead',
      'forgotten',
      'onion',
    ]);
    const filterId = await bigbrotr.filterId({});
    const ages = { snapshotSeconds: 12 * HOUR, intervalSeconds: 0 };
    expect(names(await bigbrotr.relaysToSynchronize(filterId, ages))).toEqual(['onion']);
  });

  test('returns relays ahead of time that are due before the next look-up', async ({
    bigbrotr,
    database,
  }) => {
    await bigbrotr.insertSnapshots([snapshot('a', now() - HOUR)], INTERVAL);
    await database.query('update relay_schedule set due_at = $1', [now() + 600]);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect(await bigbrotr.relaysToCheck({ ...AGES, aheadSeconds: 500 })).toEqual([]);
    expect(names(await bigbrotr.relaysToCheck({ ...AGES, aheadSeconds: 900 }))).toEqual(['a']);
  });

  test('returns relays without a schedule by the age of their latest snapshot', async ({
    database,
    bigbrotr,
  }) => {
    for (const [name, age] of [
      ['a', 9 * HOUR],
      ['a', 20 * HOUR],
      ['b', HOUR],
    ] as const) {
      await database.query("select insert_relay_metadata($1, 'clearnet', $2, null, $3)", [
        ...[address(name).url, now() - age, JSON.stringify(UP)],
      ]);
    }
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['a']);
    expect(await bigbrotr.relaysToCheck(AT_ONCE)).toEqual([]);
  });
});

describe('recheck_relays()', () => {
  test('makes a relay due immediately, however long it was down, until it is checked', async ({
    bigbrotr,
    planOf,
    recheck,
  }) => {
    const last = now() - DAY;
    await bigbrotr.insertSnapshots(
      Array.from({ length: 8 }, (_, index) =>
        snapshot('dead', last - (7 - index) * 20 * DAY, DOWN),
      ),
      INTERVAL,
    );
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect(await recheck('dead', 'not-known')).toBe(1);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['dead']);
    expect(names(await bigbrotr.relaysToCheck(AT_ONCE))).toEqual(['dead']);
    expect(await recheck('dead')).toBe(0); // it waits already
    await bigbrotr.insertSnapshots([snapshot('dead', now(), DOWN)], INTERVAL);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect((await planOf('dead')).due).toBeGreaterThan(now() + 20 * DAY); // it goes on where it was
  });

  test('has no effect within hours of a check, however often a relay is named', async ({
    bigbrotr,
    database,
    recheck,
  }) => {
    await bigbrotr.insertSnapshots([snapshot('dead', now() - 7 * HOUR, DOWN)], INTERVAL);
    await database.query('update relay_schedule set due_at = $1', [now() + DAY]);
    for (const _ of [1, 2, 3]) expect(await recheck('dead')).toBe(0);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
  });

  test('of the same relays by concurrent finders does not deadlock', async ({
    bigbrotr,
    recheck,
  }) => {
    const all = Array.from({ length: 200 }, (_, index) => `r${index}`);
    await bigbrotr.insertSnapshots(
      all.map((name) => snapshot(name, now() - DAY, DOWN)),
      INTERVAL,
    );
    const woken = await Promise.all(
      [all, all.toReversed(), [...all, ...all]].map((given) => recheck(...given)),
    );
    expect(woken.reduce((sum, count) => sum + count, 0)).toBe(all.length);
  });

  test('is not needed for a new relay, which is due immediately', async ({ bigbrotr }) => {
    await bigbrotr.insertRelays([address('new')]);
    expect(names(await bigbrotr.relaysToCheck(AT_ONCE))).toEqual(['new']);
  });
});
