import { pino } from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { Scheduler } from '../../../src/runtime/scheduler.ts';

interface Job {
  readonly do: 'sleep' | 'die' | 'until stopped';
  readonly relay: number;
  readonly ms?: number;
}

let scheduler: Scheduler<Job, { name: string }>;
let numbers: Int32Array;
afterEach(() => scheduler.stop());

async function start(workers: number, jobsPerWorker = 2): Promise<void> {
  numbers = new Int32Array(new SharedArrayBuffer(16));
  scheduler = new Scheduler({
    workerUrl: new URL('../../processes/test-worker.mjs', import.meta.url),
    workerData: { shared: numbers.buffer },
    workers,
    jobsPerWorker,
    log: pino({ level: 'silent' }),
    onDead: () => {},
    slotOf: ({ relay }) => relay,
  });
  await scheduler.start();
}

/** Which worker did it. */
async function workerOf(job: Job): Promise<string> {
  const outcome = await scheduler.run(`relay ${job.relay}`, job);
  if (!outcome.ok) throw new Error(outcome.reason);
  return outcome.result.name;
}

const round = (relays: number[], parts: Partial<Job> = {}) =>
  Promise.all(relays.map((relay) => workerOf({ do: 'sleep', relay, ...parts })));
const RELAYS = Array.from({ length: 30 }, (_, index) => index + 1);

describe('worker slots of Scheduler', () => {
  test('run each relay in the same slot, and are used evenly', async () => {
    await start(3);
    const first = await round(RELAYS);
    expect(new Set(first).size).toBe(3);
    for (const name of new Set(first))
      expect(first.filter((other) => other === name)).toHaveLength(10);
    expect(await round(RELAYS)).toEqual(first);
    expect((await round(RELAYS.toReversed(), { ms: 1 })).toReversed()).toEqual(first);
  });

  test('do not wait for a busy worker of another slot', async () => {
    await start(2, 1);
    const busy = scheduler.run('busy', { do: 'until stopped', relay: 0 });
    const waiting = workerOf({ do: 'sleep', relay: 2 }).catch((error: Error) => error.message);
    const others = await round([1, 3, 5, 7]);
    expect(new Set(others).size).toBe(1);
    expect(scheduler.runningKeys()).toEqual(['busy']);
    await scheduler.stop();
    expect(await busy).toMatchObject({ ok: true });
    expect(await waiting).toBe('stopping');
  });

  test('keep their relays when their worker is replaced', async () => {
    await start(2);
    const before = await round(RELAYS);
    Atomics.store(numbers, 2, 1);
    await scheduler.run('crashing', { do: 'die', relay: 1 });
    expect(Atomics.load(numbers, 1)).toBe(3);
    expect(await round(RELAYS)).toEqual(before);
  });
});
