import { describe, expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import type { LogLine } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const test = stackTest
  /** Makes the latest visit of a relay older than the interval. */
  .extend(
    'age',
    ({ database }) =>
      ({ url }: ScriptedRelay) =>
        database.query(
          `update visits set started_at = started_at - 3600
     where relay_id = (select relay_id from relays where url = $1) and outcome is not null`,
          [url],
        ),
  );

const now = () => Math.floor(Date.now() / 1000);
describe('the priority synchronizer', () => {
  test('visits a fast relay whenever it is due while a visit of a slow relay is in progress', async ({
    startRelay,
    stack,
    age,
    database,
  }) => {
    const quick = await startRelay({
      events: signedEvents(5, { from: now() - 5000, to: now() - 4000 }),
    });
    const slow = await startRelay({
      events: signedEvents(4000, { from: now() - 500_000, to: now() - 4000 }),
      quirk: { cap: 20, betweenMs: 50 },
    });
    await stack.relays([], [slow.url, quick.url]);
    const program = stack.start('priority-synchronizer', [], {
      PRIORITY_SYNCHRONIZER_LIVE: 'false',
      SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
    });
    const visits = ({ url }: ScriptedRelay) =>
      program.log.filter(({ msg, relay }: LogLine) => msg === 'relay visited' && relay === url);
    for (let times = 1; times <= 3; times += 1) {
      await program.until(() => visits(quick).length >= times, `visit ${times} of it`, 60_000);
      await age(quick);
    }
    expect(visits(slow)).toEqual([]);
    const [{ begun } = { begun: 0 }] = await database.query<{ begun: number }>(
      'select count(*)::integer as begun from visits where ended_at is null',
    );
    expect(begun).toBe(1);
    expect(slow.connections).toMatchObject({ open: 1, total: 1 });
    expect(quick.connections.total).toBeGreaterThanOrEqual(3);
    const port = await healthPort(program, 'priority-synchronizer');
    const { body } = await untilHealth(port, () => true);
    expect(body).toMatchObject({ state: 'running' });
    expect(visits(quick).every(({ outcome }) => outcome === 'complete')).toBe(true);
  });
});

/** A round was a barrier: what one relay took its time for, all others waited for. */
describe('the monitor', () => {
  test('checks a new relay while the check of a silent one is in progress', async ({
    startRelay,
    stack,
    database,
  }) => {
    const silent = await startRelay({ quirk: { end: 'silence' } });
    await stack.relays([silent.url], []);
    const initializer = stack.start('initializer', ['--once']);
    expect(await initializer.ended, initializer.said).toEqual({ code: 0, signal: null });
    const program = stack.start('monitor', [], {
      MONITOR_CHECKS: 'open,read',
      MONITOR_REQUEST_TIMEOUT: '100',
      MONITOR_REQUESTS_PER_CORE: '2',
    });
    const port = await healthPort(program, 'monitor');
    await untilHealth(port, ({ body }) => body.state === 'running');
    const quick = await startRelay({});
    await database.query("select insert_relay($1, 'clearnet')", [quick.url]);
    const { body } = await untilHealth(
      port,
      ({ body: { counts } }) => (counts as Record<string, number>).relays_checked === 1,
    );
    expect(body).toMatchObject({ state: 'running', counts: { relays_up: 1 } });
    expect(await database.query('select state from relay_schedule')).toEqual([{ state: 'up' }]);
  });
});
