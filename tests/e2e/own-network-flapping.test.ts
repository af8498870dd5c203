/** An outage of our own network that comes and goes: in a file of its own, since it waits for two minutes. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { outageMonitorTest as test } from '../network/outage-monitor-test.ts';
import { outageObstacle } from '../network/outage-namespace.ts';

const obstacle = outageObstacle();
if (obstacle !== null) console.log(`skipped: outages of our own network, ${obstacle}`);

describe.skipIf(obstacle !== null)('the monitor', () => {
  test('changes the state of no relay during an outage that comes and goes every few seconds, in the middle of rounds', async ({
    monitor,
    world,
    makeDue,
    allUp,
    expectNobodyJudged,
  }) => {
    for (const cut of ['cable', 'dns', 'address', 'cable', 'ipv4'] as const) {
      await makeDue(); // the checks are under way when the cut comes
      await sleep(300);
      await world.cut(cut);
      await sleep(4000);
      await world.cut('nothing');
      await sleep(2000);
    }
    await allUp('all relays up at last');
    await expectNobodyJudged();
    expect(monitor.isRunning).toBe(true);
  });
});
