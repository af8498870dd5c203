import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { endPrograms } from '../support/programs.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';

const HEADERS = { 'retry-after': '7200' };

let stack: Stack;
let database: TestDatabase;
const undo: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  stack = await Stack.create();
  database = await testDatabase();
  stack.useDatabase(database.config);
  stack.env.MONITOR_CHECKS = 'open,read,nip11';
  undo.push(
    () => stack.remove(),
    () => database.drop(),
  );
});

afterEach(async () => {
  await endPrograms();
  for (const step of undo.splice(0).reverse()) await step();
});

async function relay(
  options: Parameters<typeof startScriptedRelay>[0] = {},
): Promise<ScriptedRelay> {
  const started = await startScriptedRelay(options);
  undo.push(() => started.stop());
  return started;
}

async function runOnce(entrypoint: 'initializer' | 'monitor') {
  const program = stack.start(entrypoint, ['--once']);
  expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
}

/** Runs the monitor when every relay is due by its schedule, and was named anew. */
async function checkAgain() {
  await database.query('update relay_schedule set due_at = 0, checked_at = 1, seen_again_at = 1');
  await runOnce('monitor');
}

describe('Retry-After', () => {
  it('keeps the monitor away from a relay, and from the document of another, until that time', async () => {
    const refusing = await relay({ upgrade: { status: 429, headers: HEADERS } });
    const reading = await relay({ nip11: { status: 503, headers: HEADERS } });
    const counts = () => ({
      upgrades: refusing.fired.upgrade,
      connections: reading.connections.total,
      documents: reading.fetches.length,
    });
    await stack.relays([refusing.url, reading.url]);
    await runOnce('initializer');
    await runOnce('monitor');
    expect(counts()).toEqual({ upgrades: 1, connections: 1, documents: 1 });

    await checkAgain();
    expect(counts()).toEqual({ upgrades: 1, connections: 2, documents: 1 });
    const reasons = await database.query(
      `select distinct reason from relay_checks where relay_url = '${reading.url}' and name = 'nip11'`,
    );
    expect(reasons).toEqual([{ reason: 'http_503' }]);

    await database.query(
      'update relay_manners set retry_at = retry_at - 7300, nip11_retry_at = nip11_retry_at - 7300',
    );
    await checkAgain();
    expect(counts()).toEqual({ upgrades: 2, connections: 3, documents: 2 });
  });
});
