import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Bigbrotr } from '../../src/bigbrotr.ts';
import { parseBlocklist } from '../../src/relay/blocklist.ts';
import { RelayNames } from '../../src/relay/relay-names.ts';
import { openBigbrotr } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { untilAlone } from '../support/pipeline-model.ts';
import { type End, endPrograms, type Program } from '../support/programs.ts';
import { relayAddress } from '../support/relays.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { type Entrypoint, Stack } from '../support/stack.ts';

// The monitor and the finder, killed where a relay has told them something that is not stored.

const NOW = Math.floor(Date.now() / 1000);
const RELAYS = 4;
const DIED_OF_IT: End = { code: null, signal: 'SIGKILL' };
const SUCCESS: End = { code: 0, signal: null };
const ONLY_THE_FIRST = { BIGBROTR_CRASH_SCOPE: 'worker', BIGBROTR_CRASH_THREADS: '1' };

let stack: Stack;
let database: TestDatabase;
let bigbrotr: Bigbrotr;
let relays: ScriptedRelay[];

beforeEach(async () => {
  stack = await Stack.create();
  database = await testDatabase();
  bigbrotr = await openBigbrotr(database);
  stack.useDatabase(database.config);
  // One after the other, so that it is known what is stored when one of them is under way.
  Object.assign(stack.env, {
    MONITOR_CHECKS: 'open,read',
    MONITOR_REQUESTS_PER_CORE: '1',
    MONITOR_CHUNK_SIZE: '1',
    FINDER_REQUESTS_PER_CORE: '1',
  });
  relays = await Promise.all(Array.from({ length: RELAYS }, () => startScriptedRelay({})));
  await stack.relays([], []);
});
afterEach(async () => {
  await endPrograms();
  await bigbrotr.close();
  await Promise.all([...relays.map((relay) => relay.stop()), stack.remove(), database.drop()]);
});

async function runOnce(
  entrypoint: Entrypoint,
  env: Record<string, string>,
  expected: End = SUCCESS,
) {
  const program = stack.start(entrypoint, ['--once'], env);
  expect(await program.ended, program.said).toEqual(expected);
  if (expected !== SUCCESS) await untilFree();
  return program;
}

/** Resolves when nobody but this test is connected. */
async function untilFree(): Promise<void> {
  await bigbrotr.close();
  await untilAlone(database);
  bigbrotr = await openBigbrotr(database);
}

const workerDeaths = (program: Program) =>
  program.log.filter(({ msg }) => msg === 'a worker died, starting another');
const killing = (point: string, { url }: ScriptedRelay) => ({
  BIGBROTR_CRASH_AT: point,
  BIGBROTR_CRASH_SCOPE: 'worker',
  BIGBROTR_CRASH_RELAY: url,
});

describe('the monitor dies when a relay was checked and its snapshot is not stored', () => {
  beforeEach(async () => {
    await bigbrotr.insertRelays(relays.map(({ url }) => relayAddress(url)));
  });

  const snapshots = () =>
    database.query<{ url: string; snapshots: number; state: string; reason: string | null }>(
      `select url, (select count(*)::int from snapshots s where s.relay_id = r.relay_id) as snapshots,
              c.state, m.reason
       from relays r
       left join relay_schedule c using (relay_id)
       left join relay_metadata_latest m on m.relay_url = r.url
       order by url collate "C"`,
    );
  const all = (count: number) =>
    relays
      .map(({ url }) => ({ url, snapshots: count, state: 'up', reason: null }))
      .sort((a, b) => (a.url < b.url ? -1 : 1));

  it('by SIGKILL: those before it are stored, and none is checked twice', async () => {
    await runOnce('monitor', { BIGBROTR_CRASH_AT: 'checked:3' }, DIED_OF_IT);
    expect((await snapshots()).reduce((sum, row) => sum + row.snapshots, 0)).toBe(2);
    await runOnce('monitor', {});
    expect(await snapshots()).toEqual(all(1));
  });

  it('with its worker alone: another goes on', async () => {
    const program = await runOnce('monitor', { ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: 'checked:3' });
    expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
    expect(await snapshots()).toEqual(all(1));
  });

  it('at each check of one relay: that one is set aside with its reason, and due again as one that is down', async () => {
    const [bad] = relays as [ScriptedRelay];
    const crash = killing('checked', bad);
    const pause = async () => {
      const [row] = await database.query<{ seconds: number; failures: number; state: string }>(
        `select (due_at - checked_at)::int as seconds, failures, state
         from relay_schedule join relays using (relay_id) where url = $1`,
        [bad.url],
      );
      return row;
    };
    const later = () =>
      database.query(
        `update relay_schedule set due_at = 0, checked_at = checked_at - 3600
         where relay_id = (select relay_id from relays where url = $1)`,
        [bad.url],
      );
    const first = await runOnce('monitor', crash);
    expect(workerDeaths(first)).toHaveLength(3);
    expect(first.log.filter(({ msg }) => msg.startsWith('relay set aside'))).toMatchObject([
      { relay: bad.url, reason: 'the worker died: exit code 86' },
    ]);
    const rows = await snapshots();
    expect(rows.filter(({ url }) => url !== bad.url)).toEqual(
      all(1).filter(({ url }) => url !== bad.url),
    );
    expect(rows.find(({ url }) => url === bad.url)).toEqual({
      ...{ url: bad.url, snapshots: 1, state: 'down', reason: 'worker_died' },
    });
    const checks = await database.query(
      'select name, success, reason from relay_checks where relay_url = $1',
      [bad.url],
    );
    expect(checks).toEqual([{ name: 'open', success: false, reason: 'worker_died' }]);
    const before = await pause();
    expect(before).toMatchObject({ failures: 1, state: 'down' });
    expect(before?.seconds).toBeGreaterThan(60);

    const asked = bad.connections.total;
    const second = await runOnce('monitor', crash);
    expect(workerDeaths(second)).toEqual([]);
    expect(bad.connections.total).toBe(asked);

    await later();
    await runOnce('monitor', crash);
    const after = await pause();
    expect(after).toMatchObject({ failures: 2, state: 'down' });
    expect(after?.seconds).toBeGreaterThan(60);

    await later();
    await sleep(1000); // a relay has one snapshot a second
    await runOnce('monitor', {});
    expect(await pause()).toMatchObject({ failures: 0, state: 'up' });
  });
});

describe('the finder dies when a candidate has answered and is not added', () => {
  beforeEach(async () => {
    const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: true });
    for (const { url } of relays) names.addListed(url, NOW);
    expect(await bigbrotr.finder.record(names.named())).toMatchObject({ candidates: RELAYS });
  });

  const urls = () => relays.map(({ url }) => url).sort();
  const known = async () =>
    (await database.query<{ url: string }>('select url from relays')).map(({ url }) => url).sort();
  const waiting = () =>
    database.query('select relay_url, tries, reason from relay_candidates order by 1');

  it('by SIGKILL: its turn comes again, and each is added once', async () => {
    await runOnce('finder', { BIGBROTR_CRASH_AT: 'answered:3' }, DIED_OF_IT);
    expect(await known()).toHaveLength(2);
    expect(await waiting()).toHaveLength(2);
    await database.query('update named_relays set next_try_at = 0 where next_try_at is not null');
    await runOnce('finder', {});
    expect(await known()).toEqual(urls());
    expect(await waiting()).toEqual([]);
  });

  it('with its worker alone: another asks again', async () => {
    const program = await runOnce('finder', { ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: 'answered:3' });
    expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
    expect(await known()).toEqual(urls());
  });

  it('at each try of one candidate: that one is put off with its reason, the others are added', async () => {
    const [bad] = relays as [ScriptedRelay];
    const program = await runOnce('finder', killing('answered', bad));
    expect(workerDeaths(program)).toHaveLength(3);
    expect(program.log).toContainEqual(
      expect.objectContaining({
        level: 'error',
        relay: bad.url,
        reason: expect.stringMatching(/exit code 86/),
      }),
    );
    expect(await known()).toEqual(urls().filter((url) => url !== bad.url));
    expect(await waiting()).toEqual([{ relay_url: bad.url, tries: 1, reason: 'worker_died' }]);
    const again = await runOnce('finder', killing('answered', bad));
    expect(workerDeaths(again)).toEqual([]);
    await database.query('update named_relays set next_try_at = 0 where next_try_at is not null');
    await runOnce('finder', {});
    expect(await known()).toEqual(urls());
  });
});
