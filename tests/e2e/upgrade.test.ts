import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SCHEMA_VERSION } from '../../src/bigbrotr/version.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { ask, summaryOf } from '../support/archive.ts';
import { signedEvents } from '../support/events.ts';
import { endPrograms } from '../support/programs.ts';
import { projectFile } from '../support/project.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(50, { from: NOW - 50_000, to: NOW - 10_000 });
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: console.error };

let stack: Stack;
let relay: ScriptedRelay;

beforeEach(async () => {
  stack = await Stack.create();
  relay = await startScriptedRelay({ events: EVENTS });
  await stack.relays([relay.url], [relay.url]);
});

afterEach(async () => {
  await endPrograms();
  await relay.stop();
  await stack.remove();
});

/** Does something with the archive of `npm start` while that does not run. */
async function withArchive<T>(work: (server: EmbeddedPostgres) => Promise<T>): Promise<T> {
  const dataDir = join(stack.folder, 'data', 'postgres');
  const server = await startEmbeddedPostgres({ dataDir, port: 0, log: quiet });
  try {
    return await work(server);
  } finally {
    await server.stop();
  }
}

describe('npm start after an upgrade', () => {
  it('migrates an archive of the first version and goes on with it', async () => {
    const firstSql = readFileSync(projectFile('tests/support/init-first.sql'), 'utf8');
    await withArchive(async ({ connectionString }) => {
      await ask(connectionString, firstSql);
      await ask(connectionString, "select insert_relay('wss://kept.example.com', 'clearnet', 7)");
    });
    // What .env has for the containers is not for this server.
    const ofCompose = { POSTGRES_OWNER_PASSWORD: 'of-compose', POSTGRES_DIRECT_HOST: 'postgres' };
    const program = stack.start('local', ['--once'], ofCompose);
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

  it('refuses an archive of a newer version in one sentence, and leaves it alone', async () => {
    const initSql = readFileSync(projectFile('init.sql'), 'utf8');
    await withArchive(async ({ connectionString }) => {
      await ask(connectionString, initSql);
      await ask(connectionString, "insert into schema_migrations (name) values ('9999_later')");
    });
    const program = stack.start('local', ['--once']);
    expect(await program.ended, program.said).toEqual({ code: 1, signal: null });
    expect(program.err).toHaveLength(1);
    expect(program.err[0]).toMatch(/migrated by a newer version of Bigbrotr \(9999_later; this/);
  });
});
