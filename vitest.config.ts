import { defineConfig } from 'vitest/config';
import LongestFirst from './tests/processes/longest-first.ts';

/**
 * What waits for sockets, processes and time may be late on a busy machine of CI: it has two more tries, which the
 * summary reports. What a fuzzer has found has none: it would not find it again.
 */
const retry = { count: process.env.CI ? 2 : 0, condition: /^(?!Property failed)/ };

/** Much of the time is waiting, and no test has a port of its own: more files at a time than CI has cores. */
const WORKERS = 4;

/**
 * Files of one worker share their modules: loading them anew for each file takes twice the time of the tests. Not in `db`,
 * where files that share modules would share fixtures of a file, and so a database.
 */
const shared = { isolate: false, unstubEnvs: true };

const project = (name: string, options: Record<string, unknown> = {}) => ({
  test: {
    name,
    include: [`tests/${name}/**/*.test.ts`],
    maxWorkers: WORKERS,
    sequence: { groupOrder: 1 },
    ...options,
  },
});

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    globalSetup: ['./tests/postgres/global-setup.ts', './tests/relay/global-setup.ts'],
    projects: [
      project('unit', {
        ...shared,
        retry,
        maxWorkers: 2 * WORKERS,
        testTimeout: 30_000,
        sequence: { groupOrder: 0 },
      }),
      project('fuzz', { ...shared, retry, testTimeout: 120_000 }),
      project('programs', { testTimeout: 30_000 }),
      project('db', {
        retry,
        testTimeout: 60_000,
        hookTimeout: 120_000,
        maxConcurrency: 2,
        setupFiles: ['./tests/postgres/citus-setup.ts'],
      }),
      project('fault', { retry, testTimeout: 120_000, hookTimeout: 120_000 }),
      project('hostile', {
        retry,
        testTimeout: 120_000,
        hookTimeout: 120_000,
        maxConcurrency: 10,
      }),
      project('e2e', { retry, testTimeout: 180_000, hookTimeout: 180_000, maxConcurrency: 2 }),
      project('tor', { retry, testTimeout: 180_000, hookTimeout: 180_000 }),
      project('compose', { maxWorkers: 2, testTimeout: 240_000, hookTimeout: 240_000 }),
    ],
  },
});
