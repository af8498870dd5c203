import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { SCHEMA_VERSION } from '../../src/database/version.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { signedEvents } from '../fixtures/events.ts';
import { ask, summaryOf } from '../postgres/archive.ts';
import { earlierArchiveSql } from '../postgres/earlier-archive.ts';
import { projectFile } from '../processes/project.ts';
import { stackTest } from '../processes/stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(50, { from: NOW - 50_000, to: NOW - 10_000 });
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: console.error };

const test = stackTest
  /** Does something with the archive of `npm start` while that does not run. */
  .extend(
    'withArchive',
    ({ stack }) =>
      async <T>(work: (server: EmbeddedPostgres) => Promise<T>): Promise<T> => {
        const dataDir = join(stack.folder, 'data', 'postgres');
        const server = await startEmbeddedPostgres({ dataDir, port: 0, log: quiet });
        try {
          return await work(server);
        } finally {
          await server.stop();
        }
      },
  )
  /** Runs `npm start -- --once`, with one relay to archive. */
  .extend('archive', ({ stack, startRelay }) => async (env: Record<string, string> = {}) => {
    const relay = await startRelay({ events: EVENTS });
    await stack.relays([relay.url], [relay.url]);
    return stack.start('local', ['--once'], env);
  });

test('npm start migrates an archive of the unreleased version and goes on with it', async ({
  withArchive,
  archive,
}) => {
  await withArchive(async ({ connectionString }) => {
    await ask(connectionString, earlierArchiveSql());
    await ask(connectionString, "select insert_relay('wss://kept.example.com', 'clearnet', 7)");
  });
  // What .env has for the containers is not for this server.
  const ofCompose = { POSTGRES_OWNER_PASSWORD: 'of-compose', POSTGRES_DIRECT_HOST: 'postgres' };
  const program = await archive(ofCompose);
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  expect(program.said).toContain('the archive was migrated to this version');
  expect(summaryOf(program)).toMatchObject({ events: 50, 'visits/complete': 1 });
  await withArchive(async ({ connectionString }) => {
    const kept = "select inserted_at::int from relays where url = 'wss://kept.example.com'";
    expect(await ask(connectionString, kept)).toEqual([{ inserted_at: 7 }]);
    const newest = 'select name from schema_migrations order by id desc limit 1';
    expect(await ask(connectionString, newest)).toEqual([{ name: SCHEMA_VERSION }]);
  });
});

test('npm start refuses an archive of a newer version in one sentence, and does not change it', async ({
  withArchive,
  archive,
}) => {
  const initSql = readFileSync(projectFile('init.sql'), 'utf8');
  await withArchive(async ({ connectionString }) => {
    await ask(connectionString, initSql);
    await ask(connectionString, "insert into schema_migrations (name) values ('9999_later')");
  });
  const program = await archive();
  expect(await program.ended, program.said).toEqual({ code: 1, signal: null });
  expect(program.err).toHaveLength(1);
  expect(program.err[0]).toMatch(/migrated by a newer version of Bigbrotr \(9999_later; this/);
});
