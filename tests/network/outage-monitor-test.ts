import { expect } from 'vitest';
import { LIVING, outageTest } from './outage-test.ts';

/** The relays whose latest check is not older than the last `makeDue`, by state. */
export const CHECKED = `select r.url, c.state from relay_schedule c join relays r using (relay_id)
                 where c.checked_at > unix_now() - 7000`;
const ALL_STATES = 'select distinct state from relay_states';

/** Tests of a monitor behind a cable that can be cut. */
export const outageMonitorTest = outageTest
  .extend(
    'makeDue',
    ({ database }) =>
      () =>
        database.query(
          `update relay_schedule set due_at = 0, checked_at = checked_at - 7200, known_until = known_until + 7200;
           update snapshots set generated_at = generated_at - 7200`,
        ),
  )
  .extend(
    'allUp',
    ({ until }) =>
      (what = 'all relays up') =>
        until<{ state: string }>(
          CHECKED,
          (rows) => rows.length === LIVING.length && rows.every(({ state }) => state === 'up'),
          what,
        ),
  )
  .extend('expectNobodyJudged', ({ database }) => async () => {
    expect(await database.query(ALL_STATES)).toEqual([{ state: 'up' }]);
  })
  /** A monitor that has found all relays up. */
  .extend('monitor', async ({ startWith, allUp }) => {
    const monitor = await startWith('monitor', LIVING);
    await allUp();
    return monitor;
  });
