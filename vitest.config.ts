import { defineConfig } from 'vitest/config';

/**
 * What waits for sockets, processes and time may be late on a busy machine of CI: it has a second try, of which the
 * summary tells. What a fuzzer has found has none: it would not find it again.
 */
const retry = { count: process.env.CI ? 1 : 0, condition: /^(?!Property failed)/ };

const project = (name: string, options: Record<string, unknown> = {}) => ({
  test: { name, include: [`tests/${name}/**/*.test.ts`], ...options },
});

export default defineConfig({
  test: {
    // No test has a port of its own, and most of their time is waiting: two files at a time, on two cores too.
    maxWorkers: 2,
    globalSetup: './tests/support/global-setup.ts',
    projects: [
      project('unit', { retry, testTimeout: 30_000 }),
      project('db', { retry, testTimeout: 60_000, hookTimeout: 120_000 }),
      project('fault', { retry, testTimeout: 120_000, hookTimeout: 120_000 }),
      project('hostile', { retry, testTimeout: 120_000, hookTimeout: 120_000 }),
      project('e2e', { retry, testTimeout: 180_000, hookTimeout: 180_000 }),
      project('tor', { retry, testTimeout: 180_000, hookTimeout: 180_000 }),
      project('compose', { testTimeout: 120_000, hookTimeout: 120_000 }),
    ],
  },
});
