import { describe, expect, vi } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { expectHonest, expectWhole, seenOn, untilQuiet } from '../fixtures/pipeline-model.ts';
import {
  crashTest,
  FORGED,
  LIVE,
  SUCCESS,
  WHILE_CATCHING_UP,
  workerDeaths,
} from '../processes/crash-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const LATER = signedEvents(5, { from: NOW - 5, to: NOW - 1, seed: 6 });
const ONLY_THE_FIRST = { BIGBROTR_CRASH_SCOPE: 'worker', BIGBROTR_CRASH_THREADS: '1' };
const test = crashTest;

describe('a worker thread that dies', () => {
  test.for(WHILE_CATCHING_UP)(
    'loses nothing, and its relay is read again from what is proven: $point',
    async ({ point, at }, {
      start,
      database,
      model,
      paged,
      reconciled,
      leftInTheMiddle,
      expectLittleAgain,
    }) => {
      const program = start({ ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: at }, '--once');
      // Second connections are held until it is seen what the death has left.
      let openDoor = () => {};
      const seen = new Promise<void>((open) => {
        openDoor = open;
      });
      for (const relay of [paged, reconciled]) {
        await relay.until(() => relay.connections.total === 1, 'a first connection', 20_000);
        relay.change({ upgrade: { until: seen } });
      }
      await program.until(() => workerDeaths(program).length === 1, 'a death');
      await untilQuiet(database);
      const left = await leftInTheMiddle();
      for (const relay of [paged, reconciled]) {
        expect(relay.connections.total).toBe(1);
        relay.forget();
      }
      openDoor();
      expect(await program.ended, program.said).toEqual(SUCCESS);
      expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
      await expectWhole(database, model);
      expectLittleAgain(`worker ${point}`, left);
    },
  );

  test('is replaced, and its relay is followed again without waiting for the next interval: live-batch', async ({
    start,
    database,
    paged,
    unstored,
    untilFollowed,
    publish,
  }) => {
    const program = start({ ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: 'live-batch' });
    await untilFollowed(program);
    publish(LIVE);
    await program.until(() => workerDeaths(program).length === 1, 'a death');
    // The visit before it is followed again finds what was lost.
    await untilFollowed(program, 2);
    const model = publish(LATER);
    await vi.waitFor(async () => expect(await unstored(paged)).toBe(FORGED.length), 20_000);
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    for (const { url, events } of model)
      expect((await seenOn(database, url)).size).toBe(events.length);
    await expectHonest(database, model);
  });
});
