import { existsSync } from 'node:fs';
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { VisitReport } from '../../src/archive.ts';
import type { Bigbrotr, Relay } from '../../src/bigbrotr.ts';
import { loadSynchronizerConfig } from '../../src/config.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { type JobOutcome, Scheduler } from '../../src/scheduler.ts';
import { openBigbrotr, silent } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { signedEvents } from '../support/events.ts';
import { projectFile } from '../support/project.ts';
import { relayAddress } from '../support/relays.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { KEYS } from '../support/stack.ts';

let made: TestDatabase;
let bigbrotr: Bigbrotr;
let scheduler: Scheduler<Relay, VisitReport, unknown>;
const numbers = new Int32Array(new SharedArrayBuffer(8));
const relays: ScriptedRelay[] = [];

beforeAll(() => {
  if (!existsSync(projectFile('dist/sync-worker.js')))
    throw new Error(
      'dist/sync-worker.js is not there: run `npm run build` first (`npm test` does).',
    );
});
beforeEach(async () => {
  numbers.fill(0);
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterEach(async () => {
  await scheduler.stop();
  await bigbrotr.close();
  await made.drop();
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
});

const PAGE = 50;

async function start(workers: number): Promise<void> {
  const { host, port, user, password, database } = made.config;
  const config = loadSynchronizerConfig('synchronizer', {
    ...KEYS,
    POSTGRES_HOST: host,
    POSTGRES_PORT: String(port),
    POSTGRES_USER: user,
    POSTGRES_PASSWORD: password,
    POSTGRES_DB: database,
    ALLOW_PRIVATE_RELAYS: 'true',
    LOG_LEVEL: 'fatal',
    SYNCHRONIZER_BATCH_SIZE: String(PAGE),
    SYNCHRONIZER_OVERLAP_SECONDS: '60',
  });
  scheduler = new Scheduler({
    workerUrl: new URL('../support/mortal-worker.mjs', import.meta.url),
    workerData: { ...config, live: false, shared: numbers.buffer },
    workers,
    jobsPerWorker: 5,
    log: silent,
    onDead: () => {},
  });
  await scheduler.start();
}

async function serve(events: readonly NostrEvent[], betweenMs: number): Promise<ScriptedRelay> {
  const relay = await startScriptedRelay({ events, quirk: { betweenMs } });
  relays.push(relay);
  return relay;
}

async function visitAll(): Promise<JobOutcome<VisitReport>[]> {
  const known = await bigbrotr.relaysOf(relays.map(({ url }) => relayAddress(url)));
  return Promise.all(known.map((relay) => scheduler.run(relay.url, relay)));
}

const archivedOf = async (relay: ScriptedRelay) =>
  (
    await made.query<{ id: string }>(
      `select encode(event_id, 'hex') as id from events_relays where relay_url = $1 order by 1`,
      [relayAddress(relay.url).url],
    )
  ).map(({ id }) => id);
const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();
const storedSoFar = async () =>
  (await made.query<{ count: number }>('select count(*)::int from events'))[0]?.count ?? 0;

/** Ends one worker, whichever looks first, and waits until another took its seat. */
async function killOne(): Promise<void> {
  const starts = Atomics.load(numbers, 1);
  Atomics.store(numbers, 0, 1);
  await vi.waitFor(() => expect(Atomics.load(numbers, 1)).toBeGreaterThan(starts), {
    timeout: 10_000,
  });
}

describe('a worker that dies in the middle of a visit', () => {
  test('loses nothing: the visit is done again from what is proven', async () => {
    const events = signedEvents(400, { from: 1_600_000_000, to: 1_700_000_000 });
    const relay = await serve(events, 1);
    await start(1);
    const visiting = visitAll();
    await vi.waitFor(async () => expect(await storedSoFar()).toBeGreaterThan(2 * PAGE), {
      timeout: 20_000,
      interval: 5,
    });
    const died = performance.now();
    await killOne();
    const left = await storedSoFar();
    expect(left).toBeLessThan(events.length); // it was in the middle
    await vi.waitFor(async () => expect(await storedSoFar()).toBeGreaterThan(left), {
      timeout: 20_000,
      interval: 5,
    });
    console.info(
      `a worker's death: first batch stored ${Math.round(performance.now() - died)} ms after`,
    );
    const [outcome] = await visiting;
    expect(outcome).toMatchObject({ ok: true, result: { outcome: 'complete' } });
    expect(await archivedOf(relay)).toEqual(idsOf(events));
    expect(relay.connections.total).toBe(2);
    // What the archive had not stored yet is read again: the page that was cut, and batches on their way.
    expect(relay.eventsSent - events.length).toBeLessThan(5 * PAGE);
    const [coverage] = await made.query('select gaps::int, share::float from relay_coverage');
    expect(coverage).toEqual({ gaps: 0, share: 1 });
  });

  test('again and again, beside another, over several relays: each relay ends up whole', async () => {
    const shared = signedEvents(100, { from: 1_600_000_000, to: 1_700_000_000, seed: 1 });
    const of = await Promise.all(
      [2, 3, 4, 5].map(async (seed) => {
        const own = signedEvents(400, { from: 1_600_000_000, to: 1_700_000_000, seed });
        const events = [...shared, ...own];
        return { events, relay: await serve(events, 3) };
      }),
    );
    await start(2);
    const rounds: JobOutcome<VisitReport>[][] = [];
    let visiting = visitAll();
    for (let deaths = 0; deaths < 3; deaths += 1) {
      const before = await storedSoFar();
      await vi.waitFor(async () => expect(await storedSoFar()).toBeGreaterThan(before + PAGE), {
        timeout: 20_000,
        interval: 5,
      });
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
    const coverage = await made.query(
      'select distinct gaps::int, share::float from relay_coverage',
    );
    expect(coverage).toEqual([{ gaps: 0, share: 1 }]);
  });
});
