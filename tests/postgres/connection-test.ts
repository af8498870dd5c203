import type { DatabaseConfig } from '../../src/config/load.ts';
import { Database, DatabaseError, type Patience } from '../../src/database/connection.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import { databaseConfig, silent } from './bigbrotr.ts';
import { databaseTest } from './fixtures.ts';

export const QUICK: Patience = {
  connectionWaitMs: 2000,
  startWaitMs: 100,
  connectFirstDelayMs: 5,
  retryForMs: 10_000,
};

type Parts = Partial<DatabaseConfig>;

/**
 * Tests that reach the database `made` through a `proxy` which can cut and stall: `config` names it, `open` gives a pool
 * that is closed after the test, and `attempt` the error of a connection that must fail.
 */
export const connectionTest = databaseTest
  .extend('made', ({ database }) => database)
  .extend('proxy', async ({ made }, { onCleanup }) => {
    const proxy = await startTcpProxy(made.config);
    const close = proxy.close.bind(proxy);
    let closing: Promise<void> | undefined;
    proxy.close = () => {
      closing ??= close(); // a test may have closed it
      return closing;
    };
    onCleanup(() => proxy.close());
    return proxy;
  })
  .extend(
    'config',
    ({ made, proxy }) =>
      (parts: Parts = {}): DatabaseConfig =>
        databaseConfig(made, { host: proxy.host, port: proxy.port, ...parts }),
  )
  .extend('opened', ({ proxy }, { onCleanup }) => {
    const opened: Database[] = [];
    onCleanup(async () => {
      proxy.recover();
      await Promise.all(opened.splice(0).map((database) => database.close()));
    });
    return opened;
  })
  .extend(
    'open',
    ({ config, opened }) =>
      async (parts: Parts = {}, patience: Partial<Patience> = {}) => {
        const options = { patience: { ...QUICK, ...patience } };
        const database = await Database.connect(config(parts), silent, options);
        opened.push(database);
        return database;
      },
  )
  .extend(
    'attempt',
    ({ config }) =>
      (parts: Parts, patience: Partial<Patience> = {}) =>
        failure(Database.connect(config(parts), silent, { patience: { ...QUICK, ...patience } })),
  );

/** The error of an attempt that must fail. */
export async function failure(attempt: Promise<unknown>): Promise<DatabaseError> {
  const error = await attempt.then(
    () => new Error('it did not fail'),
    (reason: unknown) => reason,
  );
  if (!(error instanceof DatabaseError)) throw error;
  return error;
}
