import { totalmem } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { workerHeapMb } from '../../src/scheduler/worker-heap.ts';
import { type JobOutcome, Scheduler, type SchedulerOptions } from '../../src/scheduler.ts';

vi.setConfig({ testTimeout: 20_000 }); // the machine may be busy; what is tested waits for less, or for longer

/** Waits between restarts grow to seconds: they are noted and cut short. */
const delays = vi.hoisted(() => [] as number[]);
const longest = vi.hoisted(() => ({ ms: 20 }));
vi.mock('node:timers/promises', async (original) => {
  const timers = await original<typeof import('node:timers/promises')>();
  const setTimeout = (ms: number) => {
    delays.push(ms);
    return timers.setTimeout(Math.min(ms, longest.ms));
  };
  return { ...timers, setTimeout };
});

type Job =
  | { do: 'sleep' | 'die'; ms?: number; always?: boolean; seat?: number }
  | {
      do:
        | 'never let go'
        | 'until stopped'
        | 'throw where nobody catches'
        | 'fail'
        | 'tell your heap';
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
  longest.ms = 20;
  scheduler = new Scheduler({
    workerUrl: new URL('../support/test-worker.mjs', import.meta.url),
    workerData: { shared: numbers.buffer, ...data },
    workers: 2,
    jobsPerWorker: 3,
    log: pino({ level: 'silent' }),
    onDead: () => {},
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

describe('jobs', () => {
  test('spread over the workers, no more at a time than each may do', async () => {
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

  test('that were given before a worker was ready are done', async () => {
    make();
    const early = scheduler.run('early', { do: 'sleep' });
    await scheduler.start();
    expect(await early).toMatchObject({ ok: true });
  });

  test('of one seat stay with it', async () => {
    await start({ seatOf: (job) => ('seat' in job ? (job.seat ?? 0) : 0) });
    const jobs: Job[] = Array.from({ length: 12 }, (_, index) => ({
      do: 'sleep',
      ms: 5,
      seat: index % 4 === 0 ? 1 : 0,
    }));
    const threads = (await runAll(jobs)).map(threadOf);
    expect(threads).toEqual(jobs.map((_, index) => (index % 4 === 0 ? 'worker-2' : 'worker-1')));
  });

  test('that fail say why', async () => {
    await start();
    expect(await scheduler.run('one', { do: 'fail' })).toEqual({
      ok: false,
      reason: 'it went wrong',
    });
  });

  test('tell of their progress while they run', async () => {
    const heard: string[] = [];
    await start({ onProgress: (progress) => heard.push(progress) });
    await runAll([
      { do: 'tell', what: 'a' },
      { do: 'tell', what: 'b' },
    ]);
    expect(heard.sort()).toEqual(['a', 'b']);
  });

  test('of the same key are each answered', async () => {
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

describe('a worker that dies', () => {
  test('is replaced, and its jobs are done again', async () => {
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

  test('by an exception that nobody caught is replaced too', async () => {
    await start({ workers: 1 });
    expect(await scheduler.run('bad', { do: 'throw where nobody catches' })).toEqual({
      ok: false,
      reason: 'the worker died: nobody caught this',
      deadly: true,
    });
    expect(await scheduler.run('good', { do: 'sleep' })).toMatchObject({ ok: true });
  });

  test('by the same job again and again: it alone is given up, all that were beside it are done', async () => {
    await start();
    const [bad, ...good] = await runAll([
      { do: 'die', always: true },
      ...times<Job>(10, { do: 'sleep', ms: 5 }),
    ]);
    expect(bad).toEqual({ ok: false, reason: 'the worker died: exit code 3', deadly: true });
    expect(good.map(({ ok }) => ok)).toEqual(times(10, true));
    expect(await scheduler.run('later', { do: 'sleep' })).toMatchObject({ ok: true });
    await vi.waitFor(() => expect(Atomics.load(numbers, 1)).toBe(2 + 3), 5000);
    await vi.waitFor(() => expect(alive()).toBe(2), 5000);
  });

  test('by one job of a seat, round after round, goes on with that seat', async () => {
    const died: number[] = [];
    const onWorkerDied = (seat: number) => died.push(seat);
    await start({ workers: 2, seatOf: (job) => ('seat' in job ? 1 : 0), onWorkerDied });
    for (let round = 0; round < 4; round += 1) {
      const bad = await scheduler.run('bad', { do: 'die', always: true, seat: 1 });
      expect(bad).toMatchObject({ ok: false, deadly: true });
    }
    expect(await scheduler.run('good', { do: 'sleep', seat: 1 })).toMatchObject({ ok: true });
    expect(died).toEqual(times(12, 1));
  });

  test('ends what lasts, which is begun anew by who wants it: no job waits for the end of that', async () => {
    await start({ workers: 1, deaths: 2, isLasting: ({ do: what }) => what === 'until stopped' });
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

  test('by every job is given up after a few of them', async () => {
    const dead = vi.fn();
    await start({ workers: 1, jobsPerWorker: 1, onDead: dead });
    const outcomes = await runAll(times<Job>(8, { do: 'die', always: true }));
    expect(outcomes.map(({ ok }) => ok)).toEqual(times(8, false));
    expect(outcomes.at(-1)).toEqual({ ok: false, reason: 'no worker is left' });
    expect(dead).toHaveBeenCalledTimes(1);
  });

  test('while its database is away is replaced until that is back, however long it takes', async () => {
    const dead = vi.fn();
    const awayAt = [2, 3, 4, 5, 6, 7, 8, 9, 10];
    await start({ workers: 1, deaths: 1, data: { awayAt }, onDead: dead });
    expect(await scheduler.run('job', { do: 'die' })).toEqual({ ok: true, result: 'survived' });
    expect(Atomics.load(numbers, 1)).toBe(11);
    expect(dead).not.toHaveBeenCalled();
    const waits = [200, 200, 400, 800, 1600, ...times(5, 3200)];
    expect(delays.filter((ms) => ms >= 200)).toEqual(waits);
  });

  test('that is away when it starts is waited for as long as was told', async () => {
    await make({ workers: 2, data: { awayAt: [1, 2, 3, 4] } }).start({ waitMs: 60_000 });
    expect(Atomics.load(numbers, 1)).toBe(6);
    expect(await scheduler.run('job', { do: 'sleep' })).toMatchObject({ ok: true });
    await scheduler.stop();
    const away = make({ workers: 1, data: { awayAt: [1, 2, 3, 4] } });
    await expect(away.start()).rejects.toThrow('no database'); // not at all unless told
    expect(Atomics.load(numbers, 1)).toBe(1);
  });

  test('that is away when it starts is waited for no longer than until it is told to stop', async () => {
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

  test('for good leaves its jobs to those that live', async () => {
    await start({ data: { startsThatWork: 2 }, deaths: 1, workers: 2, jobsPerWorker: 1 });
    // The only job kills its worker, whose seat is never filled again; the other worker sits idle.
    expect(await scheduler.run('job', { do: 'die' })).toEqual({ ok: true, result: 'survived' });
    expect(await scheduler.run('next', { do: 'sleep' })).toMatchObject({ ok: true });
  });

  test('for good leaves its number empty: its jobs go to one other worker, all others stay with theirs', async () => {
    const died: number[] = [];
    const seatOf = (job: Job) => ('seat' in job ? (job.seat ?? 0) : 0);
    const onWorkerDied = (seat: number) => died.push(seat);
    const data = { startsThatWork: 4 };
    await start({ data, deaths: 1, workers: 4, jobsPerWorker: 2, seatOf, onWorkerDied });
    const seats = Array.from({ length: 40 }, (_, index) => index);
    const workers = async () =>
      (await runAll(seats.map((seat) => ({ do: 'sleep', seat }) as const))).map(threadOf);
    const before = await workers();
    expect(seats.map((seat) => scheduler.seatFor(seat))).toEqual(seats.map((seat) => seat % 4));
    await scheduler.run('deadly', { do: 'die', seat: 1 });
    const after = await workers();
    const isMoved = (_: unknown, index: number) => index % 4 === 1;
    expect(new Set(after.filter(isMoved)).size).toBe(1);
    expect(after.filter(isMoved)).not.toContain('worker-2');
    const isNotMoved = (_: unknown, index: number) => index % 4 !== 1;
    expect(after.filter(isNotMoved)).toEqual(before.filter(isNotMoved));
    expect(await workers()).toEqual(after);
    expect(new Set(died)).toEqual(new Set([1]));
    expect(seats.map((seat) => `worker-${scheduler.seatFor(seat) + 1}`)).toEqual(after);
  });

  test('has no free slots, and those of the others are counted with what waits for them', async () => {
    await start({ workers: 2, jobsPerWorker: 2, seatOf: (job) => ('seat' in job ? 1 : 0) });
    expect(scheduler.freeSlots()).toEqual([2, 2]);
    const jobs = runAll(times<Job>(3, { do: 'sleep', ms: 50, seat: 1 }));
    expect(scheduler.freeSlots()).toEqual([2, 0]);
    expect(scheduler.waiting).toBe(1);
    await jobs;
    expect(scheduler.freeSlots()).toEqual([2, 2]);
    expect(scheduler.waiting).toBe(0);
    longest.ms = 300;
    Atomics.store(numbers, 2, 1);
    const dying = scheduler.run('deadly', { do: 'die', seat: 1 });
    await vi.waitFor(() => expect(delays).toContain(200), { timeout: 5000, interval: 5 });
    expect(scheduler.freeSlots()).toEqual([2, 0]);
    await dying;
  });

  test('again and again waits longer each time; with no other left, nothing more is promised', async () => {
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

describe('a worker that is caught in something that never ends', () => {
  test('is ended as one that died, and what it did is done by another', async () => {
    const died = vi.fn();
    await start({ workers: 1, deaths: 1, pingMs: 50, onWorkerDied: died });
    const outcomes = await runAll([{ do: 'never let go' }]);
    expect(outcomes).toEqual([{ ok: true, result: 'let go' }]);
    expect(died).toHaveBeenCalledTimes(1);
    expect(Atomics.load(numbers, 1)).toBe(2);
  });

  test('again and again by the same job: that one is to blame, with its reason', async () => {
    await start({ workers: 1, deaths: 3, pingMs: 50 });
    const [bad, good] = await runAll([{ do: 'never let go' }, { do: 'sleep', ms: 30 }]);
    expect(bad).toEqual({ ok: false, reason: 'the worker died: no sign of life', deadly: true });
    expect(good).toMatchObject({ ok: true });
  });

  test('is not one that waits long, or works and answers', async () => {
    await start({ workers: 1, pingMs: 200 });
    expect(await scheduler.run('long', { do: 'sleep', ms: 2500 })).toMatchObject({ ok: true });
    expect(Atomics.load(numbers, 1)).toBe(1);
  });
});

describe('start()', () => {
  test("fails with the worker's sentence, and leaves no worker behind", async () => {
    make({ workers: 3, data: { fatal: 'no such database', fatalFor: ['worker-2'] } });
    await expect(scheduler.start()).rejects.toThrow(/^no such database$/);
    await vi.waitFor(() => expect(alive()).toBe(0), 5000);
    expect(Atomics.load(numbers, 1)).toBe(3); // nobody was started again
  });

  test('fails for a worker that ends without a word, and for one whose data cannot be sent', async () => {
    make({ data: { startsThatWork: 0 } });
    await expect(scheduler.start()).rejects.toThrow('ended with code 4 before it was ready');
    make({ data: { shared: () => {} } });
    await expect(scheduler.start()).rejects.toThrow(/could not be cloned/);
  });
});

describe('the heap of a worker', () => {
  const GB = 2 ** 30;

  test('is what its jobs may need where there is room', () => {
    expect(workerHeapMb(1, 10, 64 * GB)).toBe(256 + 160);
    expect(workerHeapMb(1, 100, 64 * GB)).toBe(256 + 1600);
    expect(workerHeapMb(16, 10, 64 * GB)).toBe(256 + 160);
  });

  test('is a share of what the container may use where there is less', () => {
    expect(workerHeapMb(1, 100, GB)).toBe(614);
    expect(workerHeapMb(4, 100, GB)).toBe(153);
    expect(workerHeapMb(2, 10, GB / 2)).toBe(153);
  });

  test('is never larger than what this machine has, however many jobs there are', async () => {
    const heap = workerHeapMb(1, 1_000_000);
    expect(heap).toBeGreaterThan(0);
    expect(heap).toBeLessThan(totalmem() / 2 ** 20);
    await start({ workers: 1, jobsPerWorker: 1_000_000 });
    const outcome = await scheduler.run('one', { do: 'tell your heap' });
    expect(outcome).toEqual({ ok: true, result: heap });
  });
});

describe('stop()', () => {
  test('forgets what waits, lets what runs end early, and waits until every worker is gone', async () => {
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

  test('answers for jobs whose worker dies while it stops, and starts no other', async () => {
    await start({ workers: 1 });
    const job = scheduler.run('bad', { do: 'die', ms: 50, always: true });
    await scheduler.stop();
    expect(await job).toEqual({ ok: false, reason: 'the worker died: exit code 3' });
    await sleep(20);
    expect(Atomics.load(numbers, 1)).toBe(1);
  });

  test('before a worker was ready, and while one is being replaced', async () => {
    make();
    const starting = scheduler.start().catch((error: Error) => error.message);
    await scheduler.stop();
    await starting;
    await start({ workers: 1, deaths: 1 });
    longest.ms = 1000;
    const job = scheduler.run('bad', { do: 'die' });
    await vi.waitFor(() => expect(delays).toContain(200), { timeout: 5000, interval: 5 });
    await scheduler.stop();
    expect(await job).toEqual({ ok: false, reason: 'stopping' });
    await vi.waitFor(() => expect(alive()).toBe(0), 5000);
    expect(Atomics.load(numbers, 1)).toBe(1);
  });
});
