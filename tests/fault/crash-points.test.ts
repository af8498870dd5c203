import { describe, expect, test as plainTest, vi } from 'vitest';
import { plannedCrash } from '../../src/telemetry/crash-point.ts';
import { expectHonest, expectWhole, seenOn, untilAlone } from '../fixtures/pipeline-model.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import {
  crashTest,
  DIED_OF_IT,
  FORGED,
  LIVE,
  SUCCESS,
  WHILE_CATCHING_UP,
  workerDeaths,
} from '../processes/crash-test.ts';

const test = crashTest
  /** Looks at what the crash has left, starts the service again and compares with the model. */
  .extend(
    'goesOnAfter',
    ({ database, model, paged, reconciled, leftInTheMiddle, finish, expectLittleAgain }) =>
      async (what: string): Promise<void> => {
        await untilAlone(database);
        await expectHonest(database, model);
        const left = await leftInTheMiddle();
        for (const relay of [paged, reconciled]) relay.forget();
        await finish();
        expectLittleAgain(`service ${what}`, left);
      },
  );

describe('a service that dies by SIGKILL', () => {
  test.for(WHILE_CATCHING_UP)(
    'claims nothing that is not stored and goes on where it was: $point',
    async ({ point, at }, { start, goesOnAfter }) => {
      const crashed = start({ BIGBROTR_CRASH_AT: at }, '--once');
      expect(await crashed.ended, crashed.said).toEqual(DIED_OF_IT);
      await goesOnAfter(point);
    },
  );

  test('goes on where it was when PostgreSQL has done a COMMIT and its answer is on the way', async ({
    start,
    database,
    goesOnAfter,
    onTestFinished,
  }) => {
    const proxy = await startTcpProxy(database.config);
    onTestFinished(() => proxy.close());
    proxy.holdCommit(9);
    const env = { POSTGRES_HOST: proxy.host, POSTGRES_PORT: String(proxy.port) };
    const crashed = start(env, '--once');
    await vi.waitFor(() => expect(proxy.held).toBe(1), { timeout: 30_000, interval: 5 });
    expect(crashed.isRunning).toBe(true);
    crashed.signal('SIGKILL');
    expect(await crashed.ended, crashed.said).toEqual(DIED_OF_IT);
    await proxy.close();
    await goesOnAfter('before the answer to COMMIT');
  });

  test('finds what it had received over a live subscription and not stored: live-batch', async ({
    start,
    database,
    paged,
    unstored,
    untilFollowed,
    publish,
    finish,
  }) => {
    const program = start({ BIGBROTR_CRASH_AT: 'live-batch' });
    await untilFollowed(program);
    publish(LIVE);
    expect(await program.ended, program.said).toEqual(DIED_OF_IT);
    await untilAlone(database);
    expect(await unstored(paged)).toBeGreaterThan(FORGED.length);
    await finish();
  });
});

test('a relay that ends each worker that visits it is paused with its reason, for longer each time, while others go on', async ({
  start,
  database,
  paged,
  model,
  finish,
}) => {
  const crash = {
    BIGBROTR_CRASH_AT: 'after-receive',
    BIGBROTR_CRASH_SCOPE: 'worker',
    BIGBROTR_CRASH_RELAY: paged.url,
  };
  const policy = async () => {
    const [row] = await database.query<{
      pause: number;
      refusals: number;
      detail: string;
      outcome: string;
    }>(
      `select m.not_before - v.ended_at as pause, m.refusals, v.outcome, v.detail
       from relays join relay_manners m using (relay_id) join visits v using (relay_id) where url = $1`,
      [paged.url],
    );
    return row;
  };
  const first = start(crash, '--once');
  expect(await first.ended, first.said).toEqual(SUCCESS);
  expect(workerDeaths(first)).toHaveLength(3);
  expect(first.log.filter(({ msg }) => msg.startsWith('relay set aside'))).toMatchObject([
    { relay: paged.url, reason: 'worker_died', detail: 'the worker died: exit code 86' },
  ]);
  await expectWhole(database, model.slice(1));
  expect(await seenOn(database, paged.url)).toEqual(new Set());
  const afterFirst = await policy();
  expect(afterFirst).toMatchObject({
    refusals: 1,
    outcome: 'failed',
    detail: 'the worker died: exit code 86',
  });
  expect(Number(afterFirst?.pause)).toBeGreaterThan(4 * 60);

  const connections = paged.connections.total;
  const second = start(crash, '--once');
  expect(await second.ended, second.said).toEqual(SUCCESS);
  expect(workerDeaths(second)).toEqual([]);
  expect(paged.connections.total).toBe(connections);

  await database.query('update relay_manners set not_before = 0');
  const third = start(crash, '--once');
  expect(await third.ended, third.said).toEqual(SUCCESS);
  const afterThird = await policy();
  expect(afterThird).toMatchObject({ refusals: 2, outcome: 'failed' });
  expect(Number(afterThird?.pause)).toBeGreaterThan(9 * 60);

  await database.query('update relay_manners set not_before = 0');
  await finish();
  expect(await policy()).toMatchObject({ refusals: 0, outcome: 'complete' });
});

plainTest('BIGBROTR_CRASH_AT that names no crash point is refused', () => {
  expect(plannedCrash({}, 1)).toBeNull();
  expect(plannedCrash({ BIGBROTR_CRASH_AT: 'after-page:3' }, 1)).toMatchObject({ left: 3 });
  for (const wrong of ['nowhere', 'after-page:0', 'after-page:x'])
    expect(() => plannedCrash({ BIGBROTR_CRASH_AT: wrong }, 1)).toThrow('names no crash point');
});
