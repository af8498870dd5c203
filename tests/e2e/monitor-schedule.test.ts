import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { healthPort, untilHealth } from '../support/health-client.ts';
import { endPrograms } from '../support/programs.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';
import { ONION_HOST } from '../support/tls-certificate.ts';

const DAY = 86_400;
/** The checks that take their time are not what this is about. */
const QUICK = { MONITOR_CHECKS: 'open,read,write,nip11' };

let stack: Stack;
let database: TestDatabase;
let alive: ScriptedRelay;
let dead: string;

beforeEach(async () => {
  stack = await Stack.create();
  database = await testDatabase();
  stack.useDatabase(database.config);
  alive = await startScriptedRelay({});
  const gone = await startScriptedRelay({});
  dead = gone.url;
  await gone.stop();
  await stack.relays([alive.url, dead, `ws://${ONION_HOST}`]);
  await runOnce('initializer');
});

afterEach(async () => {
  await endPrograms();
  await alive.stop();
  await database.drop();
  await stack.remove();
});

async function runOnce(entrypoint: 'initializer' | 'monitor'): Promise<void> {
  const program = stack.start(entrypoint, ['--once'], QUICK);
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
}

const snapshots = async () => (await database.query('select from snapshots')).length;
const states = () =>
  database.query(
    'select relay_url as url, state from relay_uptime where to_at is null order by state desc, relay_url',
  );
/** Lets every check be that many seconds older. */
async function age(seconds: number): Promise<void> {
  await database.query('update snapshots set generated_at = generated_at - $1', [seconds]);
  await database.query('select rebuild_relay_states(relay_id, 28800) from relays');
}

describe('the monitor', () => {
  it('goes by the schedule in the archive, and a restart changes nothing', async () => {
    await runOnce('monitor');
    expect(await states()).toEqual([
      { url: alive.url, state: 'up' },
      { url: `ws://${ONION_HOST}`, state: 'unknown' }, // there is no Tor here
      { url: dead, state: 'down' },
    ]);
    // What could not be asked is due again within minutes, which this test may take.
    await database.query('update relay_schedule set due_at = due_at + 3600 where relay_id = 3');
    await runOnce('monitor');
    expect(await snapshots()).toBe(3); // nobody is due
    await database.query('update relay_schedule set due_at = 0 where relay_id = 1');
    await runOnce('monitor');
    expect(await snapshots()).toBe(4);
    await alive.stop();
    await database.query('update relay_schedule set due_at = 0');
    await new Promise((resolve) => setTimeout(resolve, 1100)); // snapshots are a second apart
    await runOnce('monitor');
    expect(await states()).toEqual([
      { url: `ws://${ONION_HOST}`, state: 'unknown' },
      ...[alive.url, dead].sort().map((url) => ({ url, state: 'down' })),
    ]);
    expect(
      await database.query('select flaps::integer from relay_availability where flaps > 0'),
    ).toEqual([{ flaps: 1 }]);
  });

  it('does not wait for a round when a relay is new or was named anew, and tells of what it cannot know', async () => {
    const program = stack.start('monitor', [], {
      ...QUICK,
      MONITOR_LOOP_INTERVAL_MINUTES: '10080',
    });
    const port = await healthPort(program, 'monitor');
    const first = await untilHealth(port, ({ body }) => body.lastRound !== null);
    expect(first.body).toMatchObject({
      tor: 'off',
      counts: { relays_checked: 3, relays_up: 1, relays_down: 1, relays_unknown: 1 },
    });
    await age(DAY);
    const other = await startScriptedRelay({});
    try {
      await database.query("select insert_relay($1, 'clearnet')", [other.url]);
      expect(await database.query('select recheck_relays($1) as woken', [[dead]])).toEqual([
        { woken: '1' },
      ]);
      const second = await untilHealth(
        port,
        ({ body }) => Number((body.counts as Record<string, number>).relays_checked) >= 5,
      );
      expect(second.body).toMatchObject({
        counts: { relays_checked: 5, relays_up: 2, relays_down: 2 },
      });
    } finally {
      await other.stop();
    }
    expect(
      await database.query('select from relay_schedule where seen_again_at is not null'),
    ).toEqual([]);
  });
});
