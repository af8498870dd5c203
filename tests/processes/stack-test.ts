import { expect } from 'vitest';
import { openBigbrotr } from '../postgres/bigbrotr.ts';
import { testDatabase, testServer } from '../postgres/database.ts';
import { relayTest } from '../relay/relay-test.ts';
import { endPrograms } from './programs.ts';
import { type Entrypoint, Stack } from './stack.ts';

/**
 * Tests of the services as processes, which are killed after the test if they still run: `stack` starts them in a
 * folder of the test's own. A test that names `database` lets them use it; `bigbrotr` is a pool on it.
 */
export const stackTest = relayTest
  .extend('stack', async ({ startRelay: _stoppedAfter }, { onCleanup }) => {
    const stack = await Stack.create();
    onCleanup(async () => {
      await endPrograms(stack.folder);
      await stack.remove();
    });
    return stack;
  })
  .extend('database', async ({ stack }, { onCleanup }) => {
    const database = await testDatabase();
    onCleanup(async () => {
      await endPrograms(stack.folder);
      await database.drop();
    });
    stack.useDatabase(database.config);
    return database;
  })
  .extend('bigbrotr', async ({ database }, { onCleanup }) => {
    const bigbrotr = await openBigbrotr(database);
    onCleanup(() => bigbrotr.close());
    return bigbrotr;
  })
  /** Runs an entrypoint with `--once` on the database to its end, which must be a success. */
  .extend(
    'runOnce',
    ({ stack, database: _used }) =>
      async (entrypoint: Entrypoint, env: Record<string, string> = {}) => {
        const program = stack.start(entrypoint, ['--once'], env);
        expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
        return program;
      },
  );

/** The same with one database for all tests of a file: what a test leaves in it is there for the next one. */
export const sharedStackTest = stackTest
  .extend('server', { scope: 'file' }, () => testServer())
  .extend('databaseOfFile', { scope: 'file' }, async ({ server }, { onCleanup }) => {
    const database = await testDatabase(server);
    onCleanup(() => database.drop());
    return database;
  })
  .override('database', ({ stack, databaseOfFile }) => {
    stack.useDatabase(databaseOfFile.config);
    return databaseOfFile;
  });
