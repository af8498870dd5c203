import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { Scheduler, type SchedulerOptions } from '../../../src/runtime/scheduler.ts';
import type { JobOutcome } from '../../../src/runtime/worker-slot.ts';

vi.setConfig({ testTimeout: 20_000 }); // the machine may be busy; what is tested waits for less, or for longer

/** Delays before restarts grow to seconds: they are noted and cut short. */
const delays: number[] = [];
let longestDelayMs = 20;
const delay = (ms: number) => {
  delays.push(ms);
  return sleep(Math.min(ms, longestDelayMs));
};

type Job =
  | { do: 'sleep' | 'die'; ms?: number; always?: boolean; slot?: number }
  | {
      do: 'never let go' | 'until stopped' | 'throw where nobody catches' | 'fail';
    }
  | { do: 'tell'; what: string };

interface Options extends Partial<SchedulerOptions<Job, string>> {
  /** How often workers die by a job that says so, in all. */
  readonly deaths?: number;
  readonly data?: object;
}

let scheduler: Scheduler<Job, unknown, string>;
let numbers: Int32Array;
const alive = () => Atomics.load(numbers, 0);
const mostAtATime = () => Atomics.load(numbers, 3);

function make({ deaths = 0, data = {}, ...options }: Options = {}) {
  numbers = new Int32Array(new SharedArrayBuffer(16));
  Atomics.store(numbers, 2, deaths);
  delays.length = 0;
  longestDelayMs = 20;
  scheduler = new Scheduler({
    workerUrl: new URL('../../processes/test-worker.mjs', import.meta.url),
    workerData: { shared: numbers.buffer, ...data },
    workers: 2,
    jobsPerWorker: 3,
    log: pino({ level: 'silent' }),
    onDead: () => {},
    delay,
    ...options,
  });
  return scheduler;
}

async function start(options?: Options) {
  await make(options).start();
  return scheduler;
}

afterEach(async () => {
  await scheduler.stop();
  await vi.waitFor(() => expect(alive()).toBe(0), 5000);
});

const runAll = (jobs: readonly Job[]) =>
  Promise.all(jobs.map((job, index) => scheduler.run(`job ${index}`, job)));
const times = <T>(count: number, value: T): T[] => Array(count).fill(value);
const threadOf = (outcome: JobOutcome<unknown>) =>
  outcome.ok ? (outcome.result as { name: string }).name : outcome.reason;

describe('jobs of Scheduler', () => {
  test('are spread over the workers, at most jobsPerWorker at a time', async () => {
    await start();
    const jobs = runAll(times<Job>(20, { do: 'sleep', ms: 20 }));
    expect(scheduler.running).toBe(6);
    expect(scheduler.runningKeys().sort()).toEqual(
      Array.from({ length: 6 }, (_, index) => `job ${index}`),
    );
    const threads = (await jobs).map(threadOf);
    expect(threads.slice(0, 6).sort()).toEqual([...times(3, 'worker-1'), ...times(3, 'worker-2')]);
    expect(mostAtATime()).toBe(3);
    expect(scheduler.running).toBe(0);
  });

  test('run when they were given before a worker was ready', async () => {
    make();
    const early = scheduler.run('early', { do: 'sleep' });
    await scheduler.start();
    expect(await early).toMatchObject({ ok: true });
  });

  test('run in the slot of their number', async () => {
    await start({ slotOf: (job) => ('slot' in job ? (job.slot ?? 0) : 0) });
    const jobs: Job[] = Array.from({ length: 12 }, (_, index) => ({
      do: 'sleep',
      ms: 5,
      slot: index % 4 === 0 ? 1 : 0,
    }));
    const threads = (await runAll(jobs)).map(threadOf);
    expect(threads).toEqual(jobs.map((_, index) => (index % 4 === 0 ? 'worker-2' : 'worker-1')));
  });

  test('return the reason when they fail', async () => {
    await start();
    expect(await scheduler.run('one', { do: 'fail' })).toEqual({
      ok: false,
      reason: 'it went wrong',
    });
  });

  test('report progress while they run', async () => {
    const heard: string[] = [];
    await start({ onProgress: (progress) => heard.push(progress) });
    await runAll([
      { do: 'tell', what: 'a' },
      { do: 'tell', what: 'b' },
    ]);
    expect(heard.sort()).toEqual(['a', 'b']);
  });

  test('with the same key each get their own result', async () => {
    await start({ workers: 1 });
    const outcomes = await Promise.all([
      scheduler.run('same', { do: 'tell', what: 'first' }),
      scheduler.run('same', { do: 'sleep', ms: 10 }),
      scheduler.run('same', { do: 'tell', what: 'third' }),
    ]);
    expect(outcomes.map(({ ok }) => ok)).toEqual([true, true, true]);
    expect(outcomes[0]).toEqual({ ok: true, result: 'first' });
    expect(outcomes[2]).toEqual({ ok: true, result: 'third' });
  });
});

describe('Scheduler when a worker crashes', () => {
  test('replaces the worker and retries its jobs', async () => {
    await start({ workers: 1, deaths: 1 });
    const outcomes = await runAll([
      { do: 'die', ms: 20 },
      { do: 'sleep', ms: 1000 },
      { do: 'sleep', ms: 1000 },
      { do: 'sleep', ms: 1 },
    ]);
    expect(outcomes.map(({ ok }) => ok)).toEqual(times(4, true));
    expect(outcomes[0]).toEqual({ ok: true, result: 'survived' });
    expect(Atomics.load(numbers, 1)).toBe(2);
    expect(alive()).toBe(1);
  });

  test('replaces a worker that an uncaught exception ended', async () => {
    await start({ workers: 1 });
    expect(await scheduler.run('bad', { do: 'throw where nobody catches' })).toEqual({
      ok: false,
      reason: 'the worker died: nobody caught this',
      crashesWorker: true,
    });
    expect(await scheduler.run('good', { do: 'sleep' })).toMatchObject({ ok: true });
  });

  test('fails a job that crashes its worker 3 times, and retries the jobs beside it', async () => {
    await start();
    const [bad, ...good] = await runAll([
      { do: 'die', always: true },
      ...times<Job>(10, { do: 'sleep', ms: 5 }),
    ]);
    expect(bad).toEqual({ ok: false, reason: 'the worker died: exit code 3', crashesWorker: true });
    expect(good.map(({ ok }) => ok)).toEqual(times(10, true));
    expect(await scheduler.run('later', { do: 'sleep' })).toMatchObject({ ok: true });
    await vi.waitFor(() => expect(Atomics.load(numbers, 1)).toBe(2 + 3), 5000);
    await vi.waitFor(() => expect(alive()).toBe(2), 5000);
  });

  test('keeps a slot in use whose worker one job crashes again and again', async () => {
    const died: number[] = [];
    const onWorkerDied = (slot: number) => died.push(slot);
    await start({ workers: 2, slotOf: (job) => ('slot' in job ? 1 : 0), onWorkerDied });
    for (let round = 0; round < 4; round += 1) {
      const bad = await scheduler.run('bad', { do: 'die', always: true, slot: 1 });
      expect(bad).toMatchObject({ ok: false, crashesWorker: true });
    }
    expect(await scheduler.run('good', { do: 'sleep', slot: 1 })).toMatchObject({ ok: true });
    expect(died).toEqual(times(12, 1));
  });

  test('fails endless jobs without a retry; no other job waits for their end', async () => {
    await start({ workers: 1, deaths: 2, isEndless: ({ do: what }) => what === 'until stopped' });
    const lost: string[] = [];
    const follow = async (): Promise<void> => {
      const outcome = await scheduler.run('lasting', { do: 'until stopped' });
      if (outcome.ok) return;
      lost.push(outcome.reason);
      await follow();
    };
    const following = follow();
    expect(await scheduler.run('bad', { do: 'die' })).toMatchObject({ ok: true });
    expect(await scheduler.run('good', { do: 'sleep' })).toMatchObject({ ok: true });
    expect(lost).toEqual(times(2, 'the worker died: exit code 3'));
    await scheduler.stop();
    await following;
  });

  test('abandons a slot whose workers every job crashes', async () => {
    const dead = vi.fn();
    await start({ workers: 1, jobsPerWorker: 1, onDead: dead });
    const outcomes = await runAll(times<Job>(8, { do: 'die', always: true }));
    expect(outcomes.map(({ ok }) => ok)).toEqual(times(8, false));
    expect(outcomes.at(-1)).toEqual({ ok: false, reason: 'no worker is left' });
    expect(dead).toHaveBeenCalledTimes(1);
  });

  test('restarts workers without limit while their database is unavailable', async () => {
    const dead = vi.fn();
    const awayAt = [2, 3, 4, 5, 6, 7, 8, 9, 10];
    await start({ workers: 1, deaths: 1, data: { awayAt }, onDead: dead });
    expect(await scheduler.run('job', { do: 'die' })).toEqual({ ok: true, result: 'survived' });
    expect(Atomics.load(numbers, 1)).toBe(11);
    expect(dead).not.toHaveBeenCalled();
    const waits = [200, 200, 400, 800, 1600, ...times(5, 3200)];
    expect(delays.filter((ms) => ms >= 200)).toEqual(waits);
  });

  test('waits up to `waitMs` for the database of a worker at the start', async () => {
    await make({ workers: 2, data: { awayAt: [1, 2, 3, 4] } }).start({ waitMs: 60_000 });
    expect(Atomics.load(numbers, 1)).toBe(6);
    expect(await scheduler.run('job', { do: 'sleep' })).toMatchObject({ ok: true });
    await scheduler.stop();
    const away = make({ workers: 1, data: { awayAt: [1, 2, 3, 4] } });
    await expect(away.start()).rejects.toThrow('no database'); // not at all unless told
    expect(Atomics.load(numbers, 1)).toBe(1);
  });

  test('waits for the database of a worker until the signal aborts', async () => {
    const stopping = new AbortController();
    const awayAt = Array.from({ length: 1000 }, (_, index) => index + 2);
    const starting = make({ workers: 2, data: { awayAt } }).start({
      waitMs: Number.POSITIVE_INFINITY,
      signal: stopping.signal,
    });
    await vi.waitFor(() => expect(Atomics.load(numbers, 1)).toBeGreaterThan(4), 10_000);
    stopping.abort();
    await expect(starting).rejects.toMatchObject({ name: 'AbortError' });
    await vi.waitFor(() => expect(alive()).toBe(0), 5000);
  });

  test('moves the jobs of an abandoned slot to the other slots', async () => {
    await start({ data: { startsThatWork: 2 }, deaths: 1, workers: 2, jobsPerWorker: 1 });
    // The only job crashes its worker, whose slot is abandoned then; the other worker is idle.
    expect(await scheduler.run('job', { do: 'die' })).toEqual({ ok: true, result: 'survived' });
    expect(await scheduler.run('next', { do: 'sleep' })).toMatchObject({ ok: true });
  });

  test('moves each number of an abandoned slot to one other slot, and no other number', async () => {
    const died: number[] = [];
    const slotOf = (job: Job) => ('slot' in job ? (job.slot ?? 0) : 0);
    const onWorkerDied = (slot: number) => died.push(slot);
    const data = { startsThatWork: 4 };
    await start({ data, deaths: 1, workers: 4, jobsPerWorker: 2, slotOf, onWorkerDied });
    const numbersOfJobs = Array.from({ length: 40 }, (_, index) => index);
    const workers = async () =>
      (await runAll(numbersOfJobs.map((slot) => ({ do: 'sleep', slot }) as const))).map(threadOf);
    const before = await workers();
    expect(numbersOfJobs.map((slot) => scheduler.slotFor(slot))).toEqual(
      numbersOfJobs.map((slot) => slot % 4),
    );
    await scheduler.run('crashing', { do: 'die', slot: 1 });
    const after = await workers();
    const isMoved = (_: unknown, index: number) => index % 4 === 1;
    expect(new Set(after.filter(isMoved)).size).toBe(1);
    expect(after.filter(isMoved)).not.toContain('worker-2');
    const isNotMoved = (_: unknown, index: number) => index % 4 !== 1;
    expect(after.filter(isNotMoved)).toEqual(before.filter(isNotMoved));
    expect(await workers()).toEqual(after);
    expect(new Set(died)).toEqual(new Set([1]));
    expect(numbersOfJobs.map((slot) => `worker-${scheduler.slotFor(slot) + 1}`)).toEqual(after);
  });

  test('counts no free slots while a worker is replaced, and subtracts waiting jobs from the others', async () => {
    await start({ workers: 2, jobsPerWorker: 2, slotOf: (job) => ('slot' in job ? 1 : 0) });
    expect(scheduler.freeSlots()).toEqual([2, 2]);
    const jobs = runAll(times<Job>(3, { do: 'sleep', ms: 50, slot: 1 }));
    expect(scheduler.freeSlots()).toEqual([2, 0]);
    expect(scheduler.waiting).toBe(1);
    await jobs;
    expect(scheduler.freeSlots()).toEqual([2, 2]);
    expect(scheduler.waiting).toBe(0);
    longestDelayMs = 300;
    Atomics.store(numbers, 2, 1);
    const dying = scheduler.run('crashing', { do: 'die', slot: 1 });
    await vi.waitFor(() => expect(delays).toContain(200), { timeout: 5000, interval: 5 });
    expect(scheduler.freeSlots()).toEqual([2, 0]);
    await dying;
  });

  test('restarts with back-off; when every slot is abandoned, jobs fail immediately', async () => {
    const dead = vi.fn();
    await start({ workers: 2, jobsPerWorker: 1, data: { startsThatWork: 2 }, onDead: dead });
    const outcomes = await runAll([
      { do: 'die', always: true },
      { do: 'die', always: true },
      { do: 'sleep' },
      { do: 'sleep' },
    ]);
    expect(outcomes.every(({ ok }) => !ok)).toBe(true);
    await vi.waitFor(() => expect(dead).toHaveBeenCalledWith('exit code 4'));
    expect(dead).toHaveBeenCalledTimes(1);
    expect(outcomes.slice(2)).toEqual(times(2, { ok: false, reason: 'no worker is left' }));
    expect(delays.filter((ms) => ms >= 200).sort((a, b) => a - b)).toEqual(
      [200, 400, 800, 1600, 3200].flatMap((ms) => [ms, ms]),
    );
    expect(await scheduler.run('late', { do: 'sleep' })).toEqual({
      ok: false,
      reason: 'no worker is left',
    });
  });
});

describe('Scheduler when the event loop of a worker is blocked', () => {
  test('terminates the worker and retries its job in another one', async () => {
    const died = vi.fn();
    await start({ workers: 1, deaths: 1, pingMs: 50, onWorkerDied: died });
    const outcomes = await runAll([{ do: 'never let go' }]);
    expect(outcomes).toEqual([{ ok: true, result: 'let go' }]);
    expect(died).toHaveBeenCalledTimes(1);
    expect(Atomics.load(numbers, 1)).toBe(2);
  });

  test('fails a job that blocks its worker each time, with the reason', async () => {
    await start({ workers: 1, deaths: 3, pingMs: 50 });
    const [bad, good] = await runAll([{ do: 'never let go' }, { do: 'sleep', ms: 30 }]);
    expect(bad).toEqual({
      ok: false,
      reason: 'the worker died: no sign of life',
      crashesWorker: true,
    });
    expect(good).toMatchObject({ ok: true });
  });

  test('does not terminate a worker whose job takes long', async () => {
    await start({ workers: 1, pingMs: 200 });
    expect(await scheduler.run('long', { do: 'sleep', ms: 2500 })).toMatchObject({ ok: true });
    expect(Atomics.load(numbers, 1)).toBe(1);
  });
});

describe('start() of Scheduler', () => {
  test('fails with the message of the worker, and leaves no thread', async () => {
    make({ workers: 3, data: { fatal: 'no such database', fatalFor: ['worker-2'] } });
    await expect(scheduler.start()).rejects.toThrow(/^no such database$/);
    await vi.waitFor(() => expect(alive()).toBe(0), 5000);
    expect(Atomics.load(numbers, 1)).toBe(3); // none was started again
  });

  test('fails for a worker that ends without a message, and for data that cannot be cloned', async () => {
    make({ data: { startsThatWork: 0 } });
    await expect(scheduler.start()).rejects.toThrow('ended with code 4 before it was ready');
    make({ data: { shared: () => {} } });
    await expect(scheduler.start()).rejects.toThrow(/could not be cloned/);
  });
});

describe('stop() of Scheduler', () => {
  test('fails waiting jobs, aborts running ones, and waits until every worker has ended', async () => {
    await start({ jobsPerWorker: 1 });
    const jobs = runAll(times<Job>(4, { do: 'until stopped' }));
    await vi.waitFor(() => expect(mostAtATime()).toBe(1));
    await scheduler.stop();
    expect(alive()).toBe(0);
    expect(await jobs).toEqual([
      ...times(2, { ok: true, result: 'stopped early' }),
      ...times(2, { ok: false, reason: 'stopping' }),
    ]);
    expect(await scheduler.run('late', { do: 'sleep' })).toEqual({ ok: false, reason: 'stopping' });
    await scheduler.stop();
  });

  test('settles jobs whose worker crashes meanwhile, and starts no other worker', async () => {
    await start({ workers: 1 });
    const job = scheduler.run('bad', { do: 'die', ms: 50, always: true });
    await scheduler.stop();
    expect(await job).toEqual({ ok: false, reason: 'the worker died: exit code 3' });
    await sleep(20);
    expect(Atomics.load(numbers, 1)).toBe(1);
  });

  test('works before a worker is ready, and while one is replaced', async () => {
    make();
    const starting = scheduler.start().catch((error: Error) => error.message);
    await scheduler.stop();
    await starting;
    await start({ workers: 1, deaths: 1 });
    longestDelayMs = 1000;
    const job = scheduler.run('bad', { do: 'die' });
    await vi.waitFor(() => expect(delays).toContain(200), { timeout: 5000, interval: 5 });
    await scheduler.stop();
    expect(await job).toEqual({ ok: false, reason: 'stopping' });
    await vi.waitFor(() => expect(alive()).toBe(0), 5000);
    expect(Atomics.load(numbers, 1)).toBe(1);
  });
});
