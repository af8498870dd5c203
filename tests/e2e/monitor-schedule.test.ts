import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { ONION_HOST } from '../network/tls-certificate.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { stackTest } from '../processes/stack-test.ts';

const DAY = 86_400;
/** The checks that take their time are not what this is about. */
const QUICK = { MONITOR_CHECKS: 'open,read,write,nip11' };

const test = stackTest
  .extend('alive', ({ startRelay }) => startRelay())
  .extend('dead', async ({ startRelay }) => {
    const gone = await startRelay();
    await gone.stop();
    return gone.url;
  })
  /** The relays to check: one that answers, one that is gone, and one that needs Tor. */
  .extend('seeded', async ({ stack, alive, dead, runOnce }) => {
    await stack.relays([alive.url, dead, `ws://${ONION_HOST}`]);
    await runOnce('initializer', QUICK);
  })
  .extend(
    'monitorOnce',
    ({ runOnce, seeded: _before }) =>
      () =>
        runOnce('monitor', QUICK),
  )
  .extend(
    'snapshots',
    ({ database }) =>
      async () =>
        (await database.query('select from snapshots')).length,
  )
  .extend(
    'states',
    ({ database }) =>
      () =>
        database.query(
          'select relay_url as url, state from relay_uptime where to_at is null order by state desc, relay_url',
        ),
  );

test('the monitor follows the schedule in the archive, and a restart changes nothing', async ({
  database,
  alive,
  dead,
  monitorOnce,
  snapshots,
  states,
}) => {
  await monitorOnce();
  expect(await states()).toEqual([
    { url: alive.url, state: 'up' },
    { url: dead, state: 'down' },
  ]); // there is no Tor here: the onion relay is left to a host that has one
  await monitorOnce();
  expect(await snapshots()).toBe(2); // nobody is due
  await database.query('update relay_schedule set due_at = 0 where relay_id = 1');
  await monitorOnce();
  expect(await snapshots()).toBe(3);
  await alive.stop();
  await database.query('update relay_schedule set due_at = 0');
  await sleep(1100); // snapshots are a second apart
  await monitorOnce();
  expect(await states()).toEqual([alive.url, dead].sort().map((url) => ({ url, state: 'down' })));
  expect(
    await database.query('select flaps::integer from relay_availability where flaps > 0'),
  ).toEqual([{ flaps: 1 }]);
});

test('the monitor checks a new relay, or one that was named again, without waiting for a round', async ({
  stack,
  database,
  startRelay,
  dead,
  seeded: _before,
}) => {
  const program = stack.start('monitor', [], {
    ...QUICK,
    MONITOR_LOOP_INTERVAL_MINUTES: '10080',
  });
  const port = await healthPort(program, 'monitor');
  const first = await untilHealth(port, ({ body }) => body.lastRound !== null);
  expect(first.body).toMatchObject({
    tor: 'off',
    counts: { relays_checked: 2, relays_up: 1, relays_down: 1 },
  });
  await database.query('update snapshots set generated_at = generated_at - $1', [DAY]);
  await database.query('select rebuild_relay_states(relay_id, 28800) from relays');
  const other = await startRelay();
  await database.query("select insert_relay($1, 'clearnet')", [other.url]);
  expect(await database.query('select recheck_relays($1) as woken', [[dead]])).toEqual([
    { woken: '1' },
  ]);
  const second = await untilHealth(
    port,
    ({ body }) => Number((body.counts as Record<string, number>).relays_checked) >= 4,
  );
  expect(second.body).toMatchObject({
    counts: { relays_checked: 4, relays_up: 2, relays_down: 2 },
  });
  expect(
    await database.query('select from relay_schedule where seen_again_at is not null'),
  ).toEqual([]);
});
