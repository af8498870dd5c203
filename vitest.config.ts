import { defineConfig } from 'vitest/config';

const project = (name: string, options: Record<string, unknown> = {}) => ({
  test: { name, include: [`tests/${name}/**/*.test.ts`], ...options },
});

export default defineConfig({
  test: {
    globalSetup: './tests/support/global-setup.ts',
    projects: [
      project('unit', { testTimeout: 30_000 }),
      project('db', { testTimeout: 60_000, hookTimeout: 120_000 }),
      project('fault', { testTimeout: 120_000, hookTimeout: 120_000 }),
      project('hostile', { testTimeout: 120_000, hookTimeout: 120_000 }),
      project('e2e', { testTimeout: 180_000, hookTimeout: 180_000 }),
      project('tor', { testTimeout: 180_000, hookTimeout: 180_000 }),
      project('compose', { testTimeout: 120_000, hookTimeout: 120_000 }),
    ],
  },
});
