import { totalmem } from 'node:os';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { Scheduler } from '../../../src/runtime/scheduler.ts';
import { workerHeapMb } from '../../../src/runtime/worker-heap.ts';

describe('workerHeapMb', () => {
  const GB = 2 ** 30;

  test('is what the jobs may need if there is enough memory', () => {
    expect(workerHeapMb(1, 10, 64 * GB)).toBe(256 + 160);
    expect(workerHeapMb(1, 100, 64 * GB)).toBe(256 + 1600);
    expect(workerHeapMb(16, 10, 64 * GB)).toBe(256 + 160);
  });

  test('is a share of the memory of the container if there is less', () => {
    expect(workerHeapMb(1, 100, GB)).toBe(614);
    expect(workerHeapMb(4, 100, GB)).toBe(153);
    expect(workerHeapMb(2, 10, GB / 2)).toBe(153);
  });

  test('is never larger than the memory of the machine, however many jobs there are', async () => {
    const heap = workerHeapMb(1, 1_000_000);
    expect(heap).toBeGreaterThan(0);
    expect(heap).toBeLessThan(totalmem() / 2 ** 20);
    const scheduler = new Scheduler<{ do: string }, unknown>({
      workerUrl: new URL('../../processes/test-worker.mjs', import.meta.url),
      workerData: { shared: new SharedArrayBuffer(16) },
      workers: 1,
      jobsPerWorker: 1_000_000,
      log: pino({ level: 'silent' }),
      onDead: () => {},
    });
    await scheduler.start();
    const outcome = await scheduler.run('one', { do: 'tell your heap' });
    await scheduler.stop();
    expect(outcome).toEqual({ ok: true, result: heap });
  });
});
