import { describe, expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { archivedEvents, keptDays, recountDays } from '../fixtures/figures-recount.ts';
import { untilAlone } from '../fixtures/pipeline-model.ts';
import { batchOf, knownRelay, openBigbrotr } from '../postgres/bigbrotr.ts';
import type { End } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';

const SUCCESS: End = { code: 0, signal: null };
const DIED_OF_IT: End = { code: null, signal: 'SIGKILL' };
const DAY = 86_400;
const EVENTS = signedEvents(400, {
  ...{ from: 20_000 * DAY, to: 20_009 * DAY, kinds: [0, 1, 3, 7, 30_023], authors: 7 },
});

const test = stackTest
  .extend('filled', async ({ database }) => {
    const bigbrotr = await openBigbrotr(database);
    const filterId = await bigbrotr.filterId({});
    for (const [index, name] of ['one', 'two', 'three'].entries()) {
      const relay = await knownRelay(bigbrotr, name);
      const events = EVENTS.filter((_, place) => place % (index + 2) > 0);
      await bigbrotr.store(batchOf({ relay, filterId, events }));
    }
    await bigbrotr.close();
  })
  .extend(
    'refresh',
    ({ stack, database, filled: _filled }) =>
      async (args: readonly string[], crashAt = '') => {
        const program = stack.start('refresher', args, { BIGBROTR_CRASH_AT: crashAt });
        expect(await program.ended, program.said).toEqual(crashAt ? DIED_OF_IT : SUCCESS);
        await untilAlone(database);
        return program;
      },
  );

describe('a refresher that is killed', () => {
  test.for([
    ...['days-marked', 'day-counted', 'part-applied', 'day-applied'],
    ...['day-counted:4', 'part-applied:6', 'day-applied:5'],
  ])(
    'at %s: the next one leaves figures that equal a full recount',
    async (point, { refresh, database }) => {
      await refresh(['--once'], point);
      expect(await keptDays(database)).not.toEqual(recountDays(await archivedEvents(database)));
      await refresh(['--once']);
      expect(await keptDays(database)).toEqual(recountDays(await archivedEvents(database)));
    },
  );

  test('in a rebuild: it goes on where it was, and mends figures that were wrong', async ({
    refresh,
    database,
  }) => {
    await refresh(['--once']);
    await database.query('update scope_stats set events = events + 1');
    await database.query('update day_sums set events = events + 1');
    await refresh(['--rebuild'], 'day-applied:4');
    const left = () =>
      database.query<{ days: number }>(
        'select count(*)::integer as days from dirty_days where is_rebuild',
      );
    const days = new Set(EVENTS.map(({ created_at: at }) => Math.floor(at / DAY))).size;
    expect(await left()).toEqual([{ days: days - 3 }]);
    const resumed = await refresh(['--rebuild']);
    expect(resumed.log).toContainEqual(
      expect.objectContaining({ msg: 'going on with the rebuild', days: days - 3 }),
    );
    expect(await keptDays(database)).toEqual(recountDays(await archivedEvents(database)));
    expect(await left()).toEqual([{ days: 0 }]);
  });
});
