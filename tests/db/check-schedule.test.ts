import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Bigbrotr, Relay, SnapshotRow } from '../../src/bigbrotr.ts';
import { openBigbrotr } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { relayAddress } from '../support/relays.ts';

let made: TestDatabase;
let bigbrotr: Bigbrotr;

beforeAll(async () => {
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterAll(async () => {
  await bigbrotr.close();
  await made.drop();
});
beforeEach(() => made.query('truncate relays, nip11, nip66, filters restart identity cascade'));

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

async function planOf(name: string): Promise<Plan> {
  const [plan] = await made.query<Plan>(
    `select checked_at::integer as checked, due_at::integer as due, failures from relay_schedule join relays using (relay_id)
     where url = $1`,
    [address(name).url],
  );
  if (!plan) throw new Error(`${name} has no schedule`);
  return plan;
}

describe('the interval to the next check', () => {
  const interval = async (state: string, failures: number, wasUp: boolean, lastWait = 0) => {
    const [row] = await made.query('select relay_check_interval($1, $2, $3, $4, $5) as seconds', [
      ...[state, failures, wasUp, lastWait, INTERVAL],
    ]);
    return row?.seconds;
  };

  test('of a living relay is the one that is set', async () => {
    expect(await interval('up', 0, true)).toBe(INTERVAL);
  });

  test('of a relay that was never up grows from hours to weeks, and no further', async () => {
    const hours = [8, 16, 32, 64, 128, 256, 512, 672, 672];
    for (const [index, wanted] of hours.entries())
      expect(await interval('down', index + 1, false), `failure ${index + 1}`).toBe(wanted * HOUR);
    for (const failures of [31, 1000, 2_000_000_000])
      expect(await interval('down', failures, false)).toBe(28 * DAY);
  });

  test('of a relay that was up begins at an eighth', async () => {
    const hours = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 672];
    for (const [index, wanted] of hours.entries())
      expect(await interval('down', index + 1, true), `failure ${index + 1}`).toBe(wanted * HOUR);
  });

  test('of a relay that could not be asked is short, and never longer than of a living one', async () => {
    expect(await interval('unknown', 0, true)).toBe(HOUR / 4);
    expect(await interval('unknown', 9, false, HOUR)).toBe(2 * HOUR);
    expect(await interval('unknown', 9, false, 300 * DAY)).toBe(INTERVAL);
  });

  test('is never below the one that is set, where that is longer than weeks', async () => {
    const [row] = await made.query(
      "select relay_check_interval('down', 5, false, 0, 31536000) as seconds",
    );
    expect(row?.seconds).toBe(31_536_000);
  });
});

describe('the schedule', () => {
  test('is written with the snapshot: later and later while a relay is dead, at once normal when it is back', async () => {
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

  test('does not count a check that could tell nothing: no back-off while Tor is down', async () => {
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

  test('is as it was after a replay, and the snapshots that come late are counted in', async () => {
    const at = now() - 30 * DAY;
    const rows = [UP, DOWN, DOWN, DOWN].map((nip66, index) =>
      snapshot('a', at + index * HOUR, nip66),
    );
    await bigbrotr.insertSnapshots(rows, INTERVAL);
    const plan = await planOf('a');
    expect(plan.failures).toBe(3);
    expect(await bigbrotr.insertSnapshots(rows, INTERVAL)).toBe(0);
    expect(await planOf('a')).toEqual(plan);
    await bigbrotr.insertSnapshots(
      rows.toReversed().map((row) => ({ ...row, relay: address('b') })),
      INTERVAL,
    );
    expect((await planOf('b')).failures).toBe(3);
  });

  test('is not written where the snapshot is not: one statement', async () => {
    const broken = { ...snapshot('z', now()), nip66: { openable: true, readable: 'perhaps' } };
    await expect(bigbrotr.insertSnapshots([snapshot('a', now()), broken])).rejects.toThrow(
      /boolean/,
    );
    expect(await made.query('select from relay_schedule')).toEqual([]);
    expect(await made.query('select from relay_states')).toEqual([]);
    expect(await made.query('select from snapshots')).toEqual([]);
  });

  test('costs the same each hour: relays first checked in one minute, over three days', async () => {
    await made.query(SIMULATION, []);
    const rows = await made.query<{ checks: number }>(
      `select count(*)::integer as checks from simulated
       where at >= 8 * 3600 and at < 72 * 3600 group by at / 3600 order by at / 3600`,
    );
    await made.query('drop table simulated');
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

describe('relays to check', () => {
  test('are those never checked, then the longest overdue; none that is not due', async () => {
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
    await made.query(
      'update relay_schedule set due_at = $1 from relays r where r.relay_id = relay_schedule.relay_id and r.url = $2',
      [now() + DAY, address('dead').url],
    );
    const due = names(await bigbrotr.relaysToCheck(AGES));
    expect(due).toEqual(['never', 'dead-for-long', 'older', 'old']);
  });

  test('hold every living relay whose check is an interval old, whatever the schedule was written with', async () => {
    await bigbrotr.insertSnapshots([snapshot('a', now() - 2 * HOUR)], 30 * DAY);
    await made.query('update relay_schedule set due_at = $1', [now() + 29 * DAY]);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual([]);
    expect(
      names(await bigbrotr.relaysToCheck({ intervalSeconds: 2 * HOUR, aheadSeconds: 0 })),
    ).toEqual(['a']);
  });

  test('are never later than the interval allows, so that the synchronizer keeps every living relay', async () => {
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

  test('while Tor is down are asked again within a round or two, and are synchronised all the same', async () => {
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

  test('are taken ahead of time when nobody looks again before they are due', async () => {
    await bigbrotr.insertSnapshots([snapshot('a', now() - HOUR)], INTERVAL);
    await made.query('update relay_schedule set due_at = $1', [now() + 600]);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect(await bigbrotr.relaysToCheck({ ...AGES, aheadSeconds: 500 })).toEqual([]);
    expect(names(await bigbrotr.relaysToCheck({ ...AGES, aheadSeconds: 900 }))).toEqual(['a']);
  });

  test('with snapshots and no schedule are due by the age of the latest', async () => {
    for (const [name, age] of [
      ['a', 9 * HOUR],
      ['a', 20 * HOUR],
      ['b', HOUR],
    ] as const) {
      await made.query("select insert_relay_metadata($1, 'clearnet', $2, null, $3)", [
        ...[address(name).url, now() - age, JSON.stringify(UP)],
      ]);
    }
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['a']);
    expect(await bigbrotr.relaysToCheck(AT_ONCE)).toEqual([]);
  });
});

describe('recheck()', () => {
  test('makes a relay due at once, however long it has been dead, until it was checked', async () => {
    const last = now() - DAY;
    await bigbrotr.insertSnapshots(
      Array.from({ length: 8 }, (_, index) =>
        snapshot('dead', last - (7 - index) * 20 * DAY, DOWN),
      ),
      INTERVAL,
    );
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect(await bigbrotr.recheck([address('dead'), address('not-known')])).toBe(1);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['dead']);
    expect(names(await bigbrotr.relaysToCheck(AT_ONCE))).toEqual(['dead']);
    expect(await bigbrotr.recheck([address('dead')])).toBe(0); // it waits already
    await bigbrotr.insertSnapshots([snapshot('dead', now(), DOWN)], INTERVAL);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
    expect((await planOf('dead')).due).toBeGreaterThan(now() + 20 * DAY); // it goes on where it was
  });

  test('does not ask again in the same hours, however often a relay is named', async () => {
    await bigbrotr.insertSnapshots([snapshot('dead', now() - 7 * HOUR, DOWN)], INTERVAL);
    await made.query('update relay_schedule set due_at = $1', [now() + DAY]);
    for (const _ of [1, 2, 3]) expect(await bigbrotr.recheck([address('dead')])).toBe(0);
    expect(await bigbrotr.relaysToCheck(AGES)).toEqual([]);
  });

  test('of the same relays by several finders at once: each waits once, nobody meets a deadlock', async () => {
    const all = Array.from({ length: 200 }, (_, index) => `r${index}`);
    await bigbrotr.insertSnapshots(
      all.map((name) => snapshot(name, now() - DAY, DOWN)),
      INTERVAL,
    );
    const woken = await Promise.all(
      [all, all.toReversed(), [...all, ...all]].map((given) =>
        bigbrotr.recheck(given.map(address)),
      ),
    );
    expect(woken.reduce((sum, count) => sum + count, 0)).toBe(all.length);
  });

  test('of a relay that is new is not needed: never checked is due at once', async () => {
    await bigbrotr.insertRelays([address('new')]);
    expect(names(await bigbrotr.relaysToCheck(AT_ONCE))).toEqual(['new']);
  });
});
