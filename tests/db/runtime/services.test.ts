/** Each service in this process, on an archive of the tests: created, started and stopped, with stub workers. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  type Environment,
  loadFinderConfig,
  loadMonitorConfig,
  loadSynchronizerConfig,
} from '../../../src/config/load.ts';
import { createFinder } from '../../../src/finder/finder-service.ts';
import { createMonitor } from '../../../src/monitor/monitor-service.ts';
import type { ServiceOptions, StatusReport } from '../../../src/runtime/service.ts';
import type { ServiceLife } from '../../../src/runtime/service-life.ts';
import {
  createPrioritySynchronizer,
  createSynchronizer,
} from '../../../src/sync/synchronizer-service.ts';
import { knownRelay, openBigbrotr, silent } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';
import { health } from '../../processes/health-client.ts';
import { KEYS } from '../../processes/stack.ts';

const CREATED: Readonly<
  Record<string, (env: Environment, result: object, options: ServiceOptions) => ServiceLife>
> = {
  monitor: (env, result, options) =>
    createMonitor({ ...loadMonitorConfig(env), ...result }, options),
  synchronizer: (env, result, options) =>
    createSynchronizer({ ...loadSynchronizerConfig('synchronizer', env), ...result }, options),
  'priority-synchronizer': (env, result, options) =>
    createPrioritySynchronizer(
      { ...loadSynchronizerConfig('priority-synchronizer', env), ...result },
      options,
    ),
  finder: (env, result, options) => createFinder({ ...loadFinderConfig(env), ...result }, options),
};
const NAMES = Object.keys(CREATED);

let database: TestDatabase;
let folder: string;
let env: Environment;
let host: ServiceLife | null = null;

beforeAll(async () => {
  database = await testDatabase();
  folder = await mkdtemp(join(tmpdir(), 'bigbrotr-services-'));
});
beforeEach(async () => {
  await database.query('truncate relays, claims cascade');
  await writeFile(join(folder, 'priority.txt'), '# none\n');
  const { config } = database;
  env = {
    ...KEYS,
    POSTGRES_HOST: config.host,
    POSTGRES_PORT: `${config.port}`,
    POSTGRES_USER: config.user,
    POSTGRES_PASSWORD: config.password,
    POSTGRES_DB: config.database,
    SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(folder, 'priority.txt'),
    MONITOR_HEALTH_PORT: '0',
    SYNCHRONIZER_HEALTH_PORT: '0',
    PRIORITY_SYNCHRONIZER_HEALTH_PORT: '0',
    FINDER_HEALTH_PORT: '0',
  };
});
afterEach(async () => {
  await host?.stop('end of the test');
  host = null;
});
afterAll(async () => {
  await database.drop();
  await rm(folder, { recursive: true });
});

/** What the stub workers answer to each job, and where they count the jobs. */
interface Answer {
  readonly result?: unknown;
  readonly failure?: object;
  readonly jobs?: Int32Array;
}

function create(name: string, options: Partial<ServiceOptions> = {}, answer: Answer = {}) {
  const workerUrl = new URL('../../processes/stub-worker.mjs', import.meta.url);
  const created = CREATED[name]?.(
    env,
    { result: null, ...answer },
    { once: false, log: silent, workerUrl, ...options },
  );
  if (!created) throw new Error(`there is no service ${name}`);
  host = created;
  return created;
}

describe.each(NAMES)('%s on an empty archive', (name) => {
  test('starts, is ready, and stops with exit code 0', async () => {
    const reports: StatusReport[] = [];
    const service = create(name, { onStatus: (report) => reports.push(report) });
    await service.start();
    const port = service.port ?? 0;
    expect(await health(port)).toMatchObject({
      status: 200,
      body: { service: name, state: 'waiting', database: 'up', counts: {}, lastRound: null },
    });
    expect(await service.stop('a test')).toBe(0);
    expect(await health(port)).toBeNull();
    expect(reports.at(-1)).toMatchObject({ service: name, status: { state: 'stopping' } });
  });

  test('with --once ends by itself with exit code 0', async () => {
    const service = create(name, { once: true });
    await service.start();
    expect(await service.ended).toBe(0);
  });
});

describe('start of a service', () => {
  test('ends with exit code 1 without a database with --once', async () => {
    env = { ...env, POSTGRES_DB: 'no_such_database' };
    const service = create('monitor', { once: true });
    await service.start();
    expect(await service.ended).toBe(1);
  });

  test('ends with exit code 1 if the priority list cannot be read', async () => {
    env = { ...env, SYNCHRONIZER_PRIORITY_RELAYS_PATH: join(folder, 'nowhere.txt') };
    const service = create('priority-synchronizer');
    await service.start();
    expect(await service.ended).toBe(1);
  });

  test('ends with exit code 0 if the service is stopped while it waits for its database', async () => {
    env = { ...env, POSTGRES_PORT: '1' };
    const service = create('synchronizer');
    const started = service.start();
    expect(await service.stop('a test')).toBe(0);
    await started;
  });
});

test('/health counts a check by the figures of the registry', async () => {
  const bigbrotr = await openBigbrotr(database);
  await knownRelay(bigbrotr, 'one');
  await bigbrotr.close();
  const checked = { state: 'up', openable: true, readable: true, writable: false };
  const report = { ...checked, nip11Reason: 'http_404', reason: null, discovery: null };
  const reports: StatusReport[] = [];
  const service = create(
    'monitor',
    { once: true, onStatus: (status) => reports.push(status) },
    { result: report },
  );
  await service.start();
  expect(await service.ended).toBe(0);
  expect(reports.at(-1)).toMatchObject({
    status: {
      lastRound: { relays: 1, failed: 0 },
      counts: {
        relays_checked: 1,
        relays_up: 1,
        relays_openable: 1,
        relays_readable: 1,
        no_nip11_http_404: 1,
      },
    },
  });
});

test.each([
  ['monitor', 'check lost'],
  ['priority-synchronizer', 'visit lost'],
])(
  '%s logs results that a full disk keeps from being stored once a minute, not for each relay and try',
  async (name, lost) => {
    const bigbrotr = await openBigbrotr(database);
    const relays = [];
    for (const each of ['one', 'two', 'three', 'four', 'five'])
      relays.push(await knownRelay(bigbrotr, each));
    await bigbrotr.close();
    await writeFile(join(folder, 'priority.txt'), relays.map(({ url }) => `${url}\n`).join(''));
    const reason = 'could not extend file: No space left on device';
    const failure = { type: 'failed', reason, notStored: true, claimLost: false };
    const jobs = new Int32Array(new SharedArrayBuffer(4));
    const lines: Record<string, unknown>[] = [];
    const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) });

    env = { ...env, NETWORK_TEST_HOSTS: 'none' };
    const startedMs = performance.now();
    const service = create(name, { log }, { failure, jobs });
    await service.start();
    await vi.waitFor(() => expect(Atomics.load(jobs, 0)).toBeGreaterThanOrEqual(5), 50_000);
    await service.stop('a test');

    const said = lines.filter(({ msg }) => msg === lost);
    expect(said[0]).toMatchObject({ relay: expect.stringMatching(/^wss:/), reason, times: 1 });
    const total = said.reduce((sum, { times }) => sum + Number(times), 0);
    expect(total).toBeGreaterThanOrEqual(4);
    // At the start, each minute, and at the end.
    expect(said.length).toBeLessThanOrEqual(
      2 + Math.floor((performance.now() - startedMs) / 60_000),
    );
  },
);
