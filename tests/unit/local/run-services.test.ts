import { pino } from 'pino';
import { beforeEach, describe, expect, test } from 'vitest';
import { runServicesOnce, runServicesUntilStopped } from '../../../src/local/run-services.ts';

const log = pino({ level: 'silent' });
let started: string[] = [];
let stopping: AbortController;

beforeEach(() => {
  started = [];
  stopping = new AbortController();
});

/** Starts services whose lives are given by name, in their order; all others run until the signal aborts. */
function starting(lives: Record<string, { code: number; wasReady: boolean }[]>) {
  return (name: string) => {
    const life = lives[name]?.[started.filter((other) => other === name).length];
    started.push(name);
    const ended = life
      ? Promise.resolve(life.code)
      : new Promise<number>((resolve) =>
          stopping.signal.addEventListener('abort', () => resolve(0), { once: true }),
        );
    return { ended, wasReady: life?.wasReady ?? true };
  };
}

describe('runServicesOnce', () => {
  const once = (lives: Record<string, number>) =>
    runServicesOnce(
      starting(
        Object.fromEntries(
          ['monitor', 'synchronizer', 'priority-synchronizer', 'finder', 'refresher'].map(
            (name) => [name, [{ code: lives[name] ?? 0, wasReady: true }]],
          ),
        ),
      ),
      stopping.signal,
    );

  test('runs the monitor, then both synchronizers, then the finder, then the refresher', async () => {
    expect(await once({})).toBe(0);
    expect(started).toEqual([
      'monitor',
      'synchronizer',
      'priority-synchronizer',
      'finder',
      'refresher',
    ]);
  });

  test('ends after a monitor that failed', async () => {
    expect(await once({ monitor: 1 })).toBe(1);
    expect(started).toEqual(['monitor']);
  });

  test('fails when a synchronizer failed, and runs finder and refresher all the same', async () => {
    expect(await once({ synchronizer: 1 })).toBe(1);
    expect(started).toEqual(expect.arrayContaining(['finder', 'refresher']));
  });
});

describe('runServicesUntilStopped', () => {
  test('starts a service again that ended by itself, after longer delays while it is not ready', async () => {
    const lives = [true, false, false, true].map((wasReady) => ({ code: 1, wasReady }));
    const delays: number[] = [];
    const delay = async (ms: number) => {
      delays.push(ms);
      if (delays.length === lives.length) stopping.abort();
    };
    const code = await runServicesUntilStopped(starting({ finder: lives }), stopping, log, delay);
    expect(code).toBe(0);
    expect(delays).toEqual([2000, 4000, 8000, 2000]);
    expect(started.filter((name) => name === 'finder')).toHaveLength(4);
  });

  test('stops everything when a service was never ready', async () => {
    const lives = { monitor: [{ code: 1, wasReady: false }] };
    expect(await runServicesUntilStopped(starting(lives), stopping, log)).toBe(1);
    expect(stopping.signal.aborted).toBe(true);
  });
});
