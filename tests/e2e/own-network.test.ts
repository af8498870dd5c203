/**
 * Outages of our own network, in namespaces: the monitor judges no relay by them, whatever is cut, and goes on within seconds
 * of its return.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { CHECKED, outageMonitorTest as test } from '../network/outage-monitor-test.ts';
import { type Cut, outageObstacle } from '../network/outage-namespace.ts';
import {
  ALIVE,
  DEAD,
  LITERALS,
  LIVING,
  leftWithout,
  networkWords,
  portOf,
  SIX,
  said,
  untilWords,
  urlOf,
} from '../network/outage-test.ts';
import type { Program } from '../processes/programs.ts';

const obstacle = outageObstacle();
if (obstacle !== null) console.log(`skipped: outages of our own network, ${obstacle}`);

/** What rounds say of relays that failed. */
const failedInRounds = (monitor: Program) =>
  monitor.log
    .filter(({ msg }) => msg.startsWith('round finished'))
    .map(({ failed }) => Number(failed));

// Each test has a world and an archive of its own, and mostly waits.
describe.skipIf(obstacle !== null).concurrent('the monitor', () => {
  test('changes the state of no relay while our network is cut, logs the outage once, and checks all relays within seconds of its return', async ({
    monitor,
    database,
    world,
    makeDue,
    allUp,
    expectNobodyJudged,
  }) => {
    const port = await portOf(monitor);
    const { body: before } = await world.health(port);
    expect(before).toMatchObject({ network: 'up' });

    const words: string[] = [];
    for (const cut of ['cable', 'address'] as const) {
      await world.cut(cut);
      await makeDue();
      words.push('network is down');
      await untilWords(monitor, words);
      await vi.waitFor(async () => {
        const { code, body } = await world.health(port);
        expect({ code, network: body.network }).toEqual({ code: 503, network: 'down' });
        expect(body.waitsForNetwork).toBe(LIVING.length);
      }, 30_000); // 503 from the moment when a due relay is left out
      await sleep(5000); // a check of a due relay would be stored by now
      expect(await database.query(CHECKED)).toEqual([]);
      await world.cut('nothing');
      words.push('network is up');
      await untilWords(monitor, words);
      await allUp(`all relays up after ${cut}`);
    }
    await expectNobodyJudged();
    const readable = await database.query('select from readable_relays');
    expect(readable).toHaveLength(LIVING.length);
    // Each relay was checked three times: what the outages prevented counts neither as checked nor as failed.
    const { body } = await world.health(port);
    expect(body.counts).toMatchObject({ relays_checked: 3 * LIVING.length });
    expect(new Set(failedInRounds(monitor))).toEqual(new Set([0]));
  });

  test.for([
    ['dns', [...ALIVE, ...SIX], 'network is down'],
    ['ipv6', SIX, 'network is degraded'],
    ['ipv4', [...ALIVE, ...LITERALS], 'network is degraded'],
  ] as const)(
    'checks the relays that can be reached while %s is cut',
    async ([cut, lost, msg], {
      monitor,
      database,
      world,
      until,
      makeDue,
      allUp,
      expectNobodyJudged,
    }) => {
      await world.cut(cut satisfies Cut);
      await makeDue();
      await untilWords(monitor, [msg]);
      const left = leftWithout(lost);
      // DNS servers are asked by IPv4 and IPv6.
      await until(CHECKED, (rows) => rows.length >= left.length, 'the others checked');
      const checked = await database.query<{ url: string; state: string }>(CHECKED);
      expect(checked.map(({ url }) => url).sort()).toEqual(left);
      await world.cut('nothing');
      await untilWords(monitor, [msg, 'network is up']);
      await allUp(`all relays up after ${cut}`);
      await expectNobodyJudged();
      expect(new Set(failedInRounds(monitor))).toEqual(new Set([0]));
    },
  );

  test('checks no relay with a host name at a first start without DNS, and all of them when DNS works', async ({
    stack,
    world,
    start,
    until,
    allUp,
    expectNobodyJudged,
  }) => {
    await stack.relays(LIVING);
    await start('initializer').ended;
    await world.cut('dns');
    const monitor = start('monitor');
    await untilWords(monitor, ['network is down']);
    await until(CHECKED, (rows) => rows.length === LITERALS.length, 'the literals checked');
    await world.cut('nothing');
    await allUp('all relays up');
    await expectNobodyJudged();
    expect(networkWords(monitor)).toEqual(['network is down', 'network is up']);
  });

  test('finds dead relays down when nine of ten relays are dead', async ({
    database,
    startWith,
    until,
  }) => {
    const some = [...DEAD, ...LITERALS.slice(0, 2), ...ALIVE].map(urlOf);
    const monitor = await startWith('monitor', some);
    await until(CHECKED, (rows) => rows.length === some.length, 'all relays checked');
    const states = await database.query<{ state: string; relays: number }>(
      'select state, count(*)::int as relays from relay_schedule group by state order by state',
    );
    expect(states).toEqual([
      { state: 'down', relays: DEAD.length },
      { state: 'up', relays: some.length - DEAD.length },
    ]);
    const round = await said(monitor, 'round finished with many failed relays');
    expect(round).toMatchObject({ failed: DEAD.length, reasons: { timeout: DEAD.length } });
    expect(networkWords(monitor)).toEqual([]);
  });
});
