import { ensureForeignRelay } from './foreign-relay.ts';

/**
 * In CI the foreign relay is installed while other tests run: compiling its SQLite takes a minute, for which the
 * tests that need it would wait. What goes wrong is reported by those tests.
 */
export function setup(): void {
  if (process.env.CI) ensureForeignRelay().catch(() => {});
}
