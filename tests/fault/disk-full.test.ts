import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, expect, vi } from 'vitest';
import { newestFirst, signedEvent } from '../fixtures/events.ts';
import { expectHonest, expectWhole } from '../fixtures/pipeline-model.ts';
import { type MortalServer, startMortalServer } from '../postgres/mortal-server.ts';
import { mountSmallDisk, type SmallDisk } from '../postgres/small-disk.ts';
import { ownDirectory } from '../processes/directory.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { endPrograms } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const MB = 1024 * 1024;
const BATCH = 25;
/** 22 MB that no compression makes less. */
const EVENTS = Array.from({ length: 1000 }, (_, index) =>
  signedEvent({
    created_at: NOW - 100_000 + index * 50,
    content: randomBytes(16 * 1024).toString('base64'),
  }),
).sort(newestFirst);

const directory = ownDirectory();
const disk = mountSmallDisk(join(directory, 'small-disk'), 192);
if (typeof disk === 'string') console.info(`the full disk is not tested: ${disk}`);

afterAll(() => {
  if (typeof disk !== 'string') disk.remove();
  rmSync(directory, { recursive: true, force: true });
});

/** Up to the start of the test: that nothing came in the seconds since then may be noted also on a full disk. */
const coverage = async ({ database }: MortalServer) =>
  (
    await database.query<{ covered: string; events: number }>(
      `select (select (coalesce(range_agg(covered), '{}') * $1::int8multirange)::text from coverage) as covered,
              (select count(*)::int from events) as events`,
      [`{[0,${NOW})}`],
    )
  )[0];

/** Puts the write-ahead log on the disk of the tests, so that the server itself outlives the full one. */
async function moveLog(server: MortalServer, dataDir: string): Promise<void> {
  await server.stop();
  const from = join(dataDir, 'pg_wal');
  const to = join(directory, 'pg_wal');
  const { status, stderr } = spawnSync('cp', ['-a', from, to], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the log could not be moved: ${stderr}`);
  rmSync(from, { recursive: true });
  symlinkSync(to, from);
  await server.start();
}

/** Waits until a server whose disk is full answers, or has gone: its main process outlives its children for a moment. */
async function settled(server: MortalServer): Promise<void> {
  await vi.waitFor(
    async () => {
      if (server.isRunning()) await server.database.query('select 1');
    },
    { timeout: 30_000, interval: 50 },
  );
}

/** Whether a line says of this disk that it is so. */
function isAbout({ path }: SmallDisk, state: string, msg: string): boolean {
  return msg.startsWith(`the disk that holds ${path} is ${state} (`);
}

/** Waits until /health is not ready, and gives what it says: database down, or up and storing fails. */
async function reported(port: number): Promise<string> {
  const { body } = await untilHealth(port, ({ status }) => status === 503, 60_000);
  return `database ${body.database}, storing ${body.storing}`;
}

const test = stackTest
  /** Starts PostgreSQL with its data on the small disk, with or without its log of transactions there. */
  .extend('startOnDisk', ({ stack }, { onCleanup }) => {
    const undo: (() => unknown)[] = [];
    onCleanup(async () => {
      await endPrograms();
      for (const step of undo.reverse()) await step();
    });
    return async ({ path, release }: SmallDisk, log: 'with' | 'without'): Promise<MortalServer> => {
      const dataDir = join(path, log);
      undo.push(() => rmSync(dataDir, { recursive: true }));
      const server = await startMortalServer(dataDir, {
        max_wal_size: '32MB',
        min_wal_size: '32MB',
        checkpoint_timeout: '30s',
        // It would drop the cache of the catalogue, without which no connection can begin on a full disk.
        autovacuum: 'off',
      });
      undo.push(() => server.stop());
      if (log === 'without') await moveLog(server, dataDir);
      undo.push(release);
      stack.useDatabase(server.database.config);
      stack.env.SYNCHRONIZER_BATCH_SIZE = String(BATCH);
      return server;
    };
  });

test.skipIf(typeof disk === 'string').for(['with', 'without'] as const)(
  'a full disk %s the log of transactions on it is reported and claims nothing; with room again the archive becomes whole',
  async (log, { stack, startRelay, startOnDisk }) => {
    if (typeof disk === 'string') return;
    const server = await startOnDisk(disk, log);
    const relay = await startRelay({ events: EVENTS, quirk: { cap: BATCH, betweenMs: 2 } });
    const model = [{ url: relay.url, events: EVENTS }];
    await stack.relays([], [relay.url]);
    stack.env.DATABASE_DISK_PATH = disk.path;

    const service = stack.start('priority-synchronizer');
    const port = await healthPort(service, 'priority-synchronizer');
    await service.logged(({ msg }) => isAbout(disk, 'getting full', msg), 'a warning before it');
    disk.leave(12 * MB);
    await untilHealth(port, ({ status }) => status === 200);
    const report = await reported(port);
    const full = () => server.said.filter((line) => line.includes('No space left on device'));
    expect(full().length).toBeGreaterThan(0);
    await service.logged(({ msg }) => isAbout(disk, 'full', msg), 'which disk is full', 30_000);
    const { body } = await untilHealth(port, (answer) => answer.body.disk === 'full');
    expect(body.diskReason).toMatch(/ MiB are free\): free space on it; nothing is lost/);
    await settled(server);
    const answers = server.isRunning();
    if (log === 'without') {
      expect(answers).toBe(true);
      expect(report).toBe('database up, storing fails');
    }
    console.info(`full disk: ${report}; PostgreSQL ${answers ? 'stayed up' : 'went down'}`);
    if (answers) {
      const before = await coverage(server);
      await expectHonest(server.database, model);
      expect(before?.events).toBeLessThan(EVENTS.length);
      await sleep(2000);
      await settled(server);
      if (log === 'without' || server.isRunning()) expect(await coverage(server)).toEqual(before);
      if (log === 'without') await untilHealth(port, ({ body }) => body.storing === 'fails');
    }
    expect(service.isRunning, service.said).toBe(true);

    disk.release();
    let mended = performance.now();
    await settled(server);
    if (!server.isRunning()) mended = await server.start();
    const since = () => Math.round(performance.now() - mended);
    const stored = async () => (await coverage(server))?.events ?? 0;
    await expectHonest(server.database, model);
    const before = await stored();
    await vi.waitFor(async () => expect(await stored()).toBeGreaterThan(before), {
      timeout: 60_000,
      interval: 10,
    });
    console.info(
      `full disk: first batch stored ${since()} ms after there was room and PostgreSQL took connections`,
    );
    await untilHealth(port, ({ status, body }) => status === 200 && body.database === 'up');
    await expectHonest(server.database, model);
    const finished = ({ msg, outcome }: { msg: string; outcome?: unknown }) =>
      msg === 'relay visited' && outcome === 'complete';
    await service.logged(finished, 'a complete visit', 60_000);
    console.info(
      `full disk: whole ${since()} ms after that, ${relay.eventsSent - EVENTS.length} events fetched again`,
    );
    await expectWhole(server.database, model);
    service.signal('SIGTERM');
    expect(await service.ended, service.said).toEqual({ code: 0, signal: null });
  },
);
