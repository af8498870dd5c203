import { existsSync } from 'node:fs';
import { describe, expect, vi } from 'vitest';
import { loadSynchronizerConfig } from '../../src/config/load.ts';
import type { Relay } from '../../src/database/bigbrotr.ts';
import { Scheduler } from '../../src/runtime/scheduler.ts';
import type { JobOutcome } from '../../src/runtime/worker-slot.ts';
import type { VisitReport } from '../../src/sync/visit-relay.ts';
import { idsOf, signedEvents } from '../fixtures/events.ts';
import { silent } from '../postgres/bigbrotr.ts';
import { archiveTest } from '../postgres/fixtures.ts';
import { projectFile } from '../processes/project.ts';
import { databaseVariables, KEYS } from '../processes/stack.ts';
import { relayAddress } from '../relay/relays.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const PAGE = 50;
const BUILT = projectFile('dist/sync/worker.js');
if (!existsSync(BUILT))
  throw new Error(`${BUILT} is not there: run \`npm run build\` first (\`npm test\` does).`);

const test = archiveTest
  /** Shared with the workers: whether one of them is to die, and how many were started. */
  .extend('numbers', () => new Int32Array(new SharedArrayBuffer(8)))
  /** Starts this number of workers of a synchronizer. @returns a visit to each of these relays */
  .extend('start', ({ database, bigbrotr, numbers }, { onCleanup }) => {
    let scheduler: Scheduler<Relay, VisitReport, unknown> | undefined;
    onCleanup(() => scheduler?.stop());
    return async (workers: number, relays: readonly ScriptedRelay[]) => {
      const config = loadSynchronizerConfig('synchronizer', {
        ...KEYS,
        ...databaseVariables(database.config),
        ALLOW_PRIVATE_RELAYS: 'true',
        LOG_LEVEL: 'fatal',
        SYNCHRONIZER_BATCH_SIZE: String(PAGE),
        SYNCHRONIZER_OVERLAP_SECONDS: '60',
      });
      const started = new Scheduler<Relay, VisitReport, unknown>({
        workerUrl: new URL('../processes/mortal-worker.mjs', import.meta.url),
        workerData: { ...config, live: false, shared: numbers.buffer },
        workers,
        jobsPerWorker: 5,
        log: silent,
        onDead: () => {},
      });
      scheduler = started;
      await started.start();
      return async (): Promise<JobOutcome<VisitReport>[]> => {
        const known = await bigbrotr.relaysOf(relays.map(({ url }) => relayAddress(url)));
        return Promise.all(known.map((relay) => started.run(relay.url, relay)));
      };
    };
  })
  .extend('archivedOf', ({ database }) => async (relay: ScriptedRelay): Promise<string[]> => {
    const rows = await database.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
      [relayAddress(relay.url).url],
    );
    return rows.map(({ id }) => id);
  })
  .extend('storedSoFar', ({ database }) => async (): Promise<number> => {
    const [row] = await database.query<{ count: number }>('select count(*)::int from events');
    return row?.count ?? 0;
  })
  /** Waits until more than that many events are stored. */
  .extend(
    'untilStored',
    ({ storedSoFar }) =>
      (more: number) =>
        vi.waitFor(async () => expect(await storedSoFar()).toBeGreaterThan(more), {
          timeout: 20_000,
          interval: 5,
        }),
  )
  /** Ends one worker, whichever looks first, and waits until another took its slot. */
  .extend('killOne', ({ numbers }) => async (): Promise<void> => {
    const starts = Atomics.load(numbers, 1);
    Atomics.store(numbers, 0, 1);
    await vi.waitFor(() => expect(Atomics.load(numbers, 1)).toBeGreaterThan(starts), {
      timeout: 10_000,
    });
  });

describe('a worker that dies in the middle of a visit', () => {
  test('loses nothing: the visit is done again from what is proven', async ({
    startRelay,
    database,
    start,
    archivedOf,
    storedSoFar,
    untilStored,
    killOne,
  }) => {
    const events = signedEvents(400, { from: 1_600_000_000, to: 1_700_000_000 });
    const relay = await startRelay({ events, quirk: { betweenMs: 1 } });
    const visitAll = await start(1, [relay]);
    const visiting = visitAll();
    await untilStored(2 * PAGE);
    const died = performance.now();
    await killOne();
    const left = await storedSoFar();
    expect(left).toBeLessThan(events.length); // it was in the middle
    await untilStored(left);
    console.info(
      `a worker's death: first batch stored ${Math.round(performance.now() - died)} ms after`,
    );
    const [outcome] = await visiting;
    expect(outcome).toMatchObject({ ok: true, result: { outcome: 'complete' } });
    expect(await archivedOf(relay)).toEqual(idsOf(events));
    expect(relay.connections.total).toBe(2);
    // What the archive had not stored yet is read again: the page that was cut, and batches on their way.
    expect(relay.eventsSent - events.length).toBeLessThan(5 * PAGE);
    const [coverage] = await database.query('select gaps::int, share::float from relay_coverage');
    expect(coverage).toEqual({ gaps: 0, share: 1 });
  });

  test('again and again, beside another, over several relays, leaves each relay whole in the end', async ({
    startRelay,
    database,
    numbers,
    start,
    archivedOf,
    storedSoFar,
    untilStored,
    killOne,
  }) => {
    const shared = signedEvents(100, { from: 1_600_000_000, to: 1_700_000_000, seed: 1 });
    const of = await Promise.all(
      [2, 3, 4, 5].map(async (seed) => {
        const own = signedEvents(400, { from: 1_600_000_000, to: 1_700_000_000, seed });
        const events = [...shared, ...own];
        return { events, relay: await startRelay({ events, quirk: { betweenMs: 3 } }) };
      }),
    );
    const visitAll = await start(
      2,
      of.map(({ relay }) => relay),
    );
    const rounds: JobOutcome<VisitReport>[][] = [];
    let visiting = visitAll();
    for (let deaths = 0; deaths < 3; deaths += 1) {
      const before = await storedSoFar();
      await untilStored(before + PAGE);
      await killOne();
    }
    rounds.push(await visiting);
    // Who was beside two deaths and alone at the third is given up for this round, and read on in the next.
    visiting = visitAll();
    rounds.push(await visiting);
    expect(rounds[1]?.map((outcome) => outcome.ok && outcome.result.outcome)).toEqual(
      Array(4).fill('complete'),
    );
    for (const { events, relay } of of) expect(await archivedOf(relay)).toEqual(idsOf(events));
    expect(await storedSoFar()).toBe(100 + 4 * 400);
    expect(Atomics.load(numbers, 1)).toBe(5);
    const coverage = await database.query(
      'select distinct gaps::int, share::float from relay_coverage',
    );
    expect(coverage).toEqual([{ gaps: 0, share: 1 }]);
  });
});
