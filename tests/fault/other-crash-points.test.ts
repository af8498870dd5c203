import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { RelayNames } from '../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../src/network/blocklist.ts';
import { untilAlone } from '../fixtures/pipeline-model.ts';
import { openBigbrotr } from '../postgres/bigbrotr.ts';
import type { End, Program } from '../processes/programs.ts';
import type { Entrypoint } from '../processes/stack.ts';
import { stackTest } from '../processes/stack-test.ts';
import { relayAddress } from '../relay/relays.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

// The monitor and the finder, killed where a relay has told them something that is not stored.

const NOW = Math.floor(Date.now() / 1000);
const RELAYS = 4;
const DIED_OF_IT: End = { code: null, signal: 'SIGKILL' };
const SUCCESS: End = { code: 0, signal: null };
const ONE_AT_A_TIME = {
  MONITOR_CHECKS: 'open,read',
  MONITOR_REQUESTS_PER_CORE: '1',
  MONITOR_CHUNK_SIZE: '1',
  FINDER_REQUESTS_PER_CORE: '1',
};
const ONLY_THE_FIRST = { BIGBROTR_CRASH_SCOPE: 'worker', BIGBROTR_CRASH_THREADS: '1' };

const test = stackTest
  .extend('relays', ({ startRelay }) =>
    Promise.all(Array.from({ length: RELAYS }, () => startRelay())),
  )
  /** Runs a service with `--once`. After a crash, resolves when what it had open in the database is rolled back. */
  .extend(
    'run',
    ({ stack, database }) =>
      async (entrypoint: Entrypoint, env: Record<string, string> = {}, expected: End = SUCCESS) => {
        await stack.relays([], []);
        // One relay after the other, so that it is known what is stored when one of them is under way.
        const program = stack.start(entrypoint, ['--once'], { ...ONE_AT_A_TIME, ...env });
        expect(await program.ended, program.said).toEqual(expected);
        if (expected !== SUCCESS) await untilAlone(database);
        return program;
      },
  );

const workerDeaths = (program: Program) =>
  program.log.filter(({ msg }) => msg === 'a worker died, starting another');
const killing = (point: string, { url }: ScriptedRelay) => ({
  BIGBROTR_CRASH_AT: point,
  BIGBROTR_CRASH_SCOPE: 'worker',
  BIGBROTR_CRASH_RELAY: url,
});

describe('a monitor that dies when a relay was checked and its snapshot is not stored', () => {
  const monitorTest = test
    /** The relays, known to the archive. */
    .extend('known', async ({ database, relays }) => {
      const bigbrotr = await openBigbrotr(database);
      await bigbrotr.insertRelays(relays.map(({ url }) => relayAddress(url)));
      await bigbrotr.close();
      return relays;
    })
    .extend(
      'snapshots',
      ({ database }) =>
        () =>
          database.query<{ url: string; snapshots: number; state: string; reason: string | null }>(
            `select url, (select count(*)::int from snapshots s where s.relay_id = r.relay_id) as snapshots,
                    c.state, m.reason
             from relays r
             left join relay_schedule c using (relay_id)
             left join relay_metadata_latest m on m.relay_url = r.url
             order by url collate "C"`,
          ),
    );
  const all = (relays: readonly ScriptedRelay[], count: number) =>
    relays
      .map(({ url }) => ({ url, snapshots: count, state: 'up', reason: null }))
      .sort((a, b) => (a.url < b.url ? -1 : 1));

  monitorTest(
    'by SIGKILL has stored the snapshots before it, and checks no relay twice',
    async ({ known, run, snapshots }) => {
      await run('monitor', { BIGBROTR_CRASH_AT: 'checked:3' }, DIED_OF_IT);
      expect((await snapshots()).reduce((sum, row) => sum + row.snapshots, 0)).toBe(2);
      await run('monitor');
      expect(await snapshots()).toEqual(all(known, 1));
    },
  );

  monitorTest(
    'in its worker thread alone goes on with another worker',
    async ({ known, run, snapshots }) => {
      const program = await run('monitor', { ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: 'checked:3' });
      expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
      expect(await snapshots()).toEqual(all(known, 1));
    },
  );

  monitorTest(
    'at each check of one relay postpones that relay with its reason, and checks it again as one that is down',
    async ({ database, known, run, snapshots }) => {
      const [bad] = known as [ScriptedRelay];
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
      const first = await run('monitor', crash);
      expect(workerDeaths(first)).toHaveLength(3);
      expect(first.log.filter(({ msg }) => msg.startsWith('relay set aside'))).toMatchObject([
        { relay: bad.url, reason: 'the worker died: exit code 86' },
      ]);
      const rows = await snapshots();
      expect(rows.filter(({ url }) => url !== bad.url)).toEqual(
        all(known, 1).filter(({ url }) => url !== bad.url),
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
      const second = await run('monitor', crash);
      expect(workerDeaths(second)).toEqual([]);
      expect(bad.connections.total).toBe(asked);

      await later();
      await run('monitor', crash);
      const after = await pause();
      expect(after).toMatchObject({ failures: 2, state: 'down' });
      expect(after?.seconds).toBeGreaterThan(60);

      await later();
      await sleep(1000); // a relay has one snapshot a second
      await run('monitor');
      expect(await pause()).toMatchObject({ failures: 0, state: 'up' });
    },
  );
});

describe('a finder that dies when a candidate has answered and is not added', () => {
  const finderTest = test
    /** The relays, candidates of the archive. */
    .extend('candidates', async ({ database, relays }) => {
      const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: true });
      for (const { url } of relays) names.addListed(url, NOW);
      const bigbrotr = await openBigbrotr(database);
      expect(await bigbrotr.finder.record(names.named())).toMatchObject({ candidates: RELAYS });
      await bigbrotr.close();
      return relays;
    })
    .extend('added', ({ database }) => async () => {
      const rows = await database.query<{ url: string }>('select url from relays');
      return rows.map(({ url }) => url).sort();
    })
    .extend(
      'waiting',
      ({ database }) =>
        () =>
          database.query('select relay_url, tries, reason from relay_candidates order by 1'),
    );
  const urlsOf = (relays: readonly ScriptedRelay[]) => relays.map(({ url }) => url).sort();

  finderTest(
    'by SIGKILL asks again, and adds each relay once',
    async ({ database, candidates, run, added, waiting }) => {
      await run('finder', { BIGBROTR_CRASH_AT: 'answered:3' }, DIED_OF_IT);
      expect(await added()).toHaveLength(2);
      expect(await waiting()).toHaveLength(2);
      await database.query('update named_relays set next_try_at = 0 where next_try_at is not null');
      await run('finder');
      expect(await added()).toEqual(urlsOf(candidates));
      expect(await waiting()).toEqual([]);
    },
  );

  finderTest(
    'in its worker thread alone asks again with another worker',
    async ({ candidates, run, added }) => {
      const program = await run('finder', { ...ONLY_THE_FIRST, BIGBROTR_CRASH_AT: 'answered:3' });
      expect(workerDeaths(program)).toMatchObject([{ reason: 'exit code 86' }]);
      expect(await added()).toEqual(urlsOf(candidates));
    },
  );

  finderTest(
    'at each try of one candidate postpones that one with its reason, and adds the others',
    async ({ database, candidates, run, added, waiting }) => {
      const [bad] = candidates as [ScriptedRelay];
      const program = await run('finder', killing('answered', bad));
      expect(workerDeaths(program)).toHaveLength(3);
      expect(program.log).toContainEqual(
        expect.objectContaining({
          level: 'ERROR',
          relay: bad.url,
          reason: expect.stringMatching(/exit code 86/),
        }),
      );
      expect(await added()).toEqual(urlsOf(candidates).filter((url) => url !== bad.url));
      expect(await waiting()).toEqual([{ relay_url: bad.url, tries: 1, reason: 'worker_died' }]);
      const again = await run('finder', killing('answered', bad));
      expect(workerDeaths(again)).toEqual([]);
      await database.query('update named_relays set next_try_at = 0 where next_try_at is not null');
      await run('finder');
      expect(await added()).toEqual(urlsOf(candidates));
    },
  );
});
