import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, vi } from 'vitest';
import { LiveRelays } from '../../src/sync/live.ts';
import { signedEvents } from '../fixtures/events.ts';
import { expectHonest, expectWhole } from '../fixtures/pipeline-model.ts';
import { testArchive } from '../fixtures/visit-context.ts';
import { openBigbrotr, silent } from '../postgres/bigbrotr.ts';
import { startMortalServer } from '../postgres/mortal-server.ts';
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from '../postgres/pgbouncer.ts';
import { ownDirectory } from '../processes/directory.ts';
import { healthPort, untilHealth } from '../processes/health-client.ts';
import { stackTest } from '../processes/stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const HISTORY = { from: NOW - 500_000, to: NOW - 10_000 };
const EVENTS = signedEvents(2500, { ...HISTORY, seed: 1 });
const BATCH = 100;
/** Recovery is measured and told; this is only far beyond what it takes on a busy machine. */
const GENEROUS_MS = 15_000;
const POOLER = pgbouncerVersion();

interface Fault {
  readonly what: string;
  /** Resolves when it is gone. */
  strike(): Promise<void>;
  /** @returns `performance.now()` of when connections are accepted again */
  mend(): Promise<number>;
}

const test = stackTest
  .extend('directory', { scope: 'file' }, () => ownDirectory())
  .extend('serverOfFile', { scope: 'file' }, async ({ directory }, { onCleanup }) => {
    const server = await startMortalServer(join(directory, 'mortal'));
    onCleanup(async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    });
    return server;
  })
  /** PostgreSQL of this file, emptied before each test. */
  .extend('server', async ({ serverOfFile }) => {
    await serverOfFile.database.query(
      'truncate relays, filters, events, sightings restart identity cascade',
    );
    return serverOfFile;
  })
  /** Starts a PgBouncer in front of it, which the services are to use. */
  .extend('startPooler', ({ stack, server }, { onCleanup }) => {
    const poolers: PgBouncer[] = [];
    onCleanup(async () => {
      for (const pooler of poolers) await pooler.stop();
    });
    return async (port?: number): Promise<PgBouncer> => {
      const pooler = await startPgBouncer(server.database, port);
      poolers.push(pooler);
      stack.useDatabase(pooler.config);
      return pooler;
    };
  })
  .extend('stored', ({ server }) => async (): Promise<number> => {
    const [row] = await server.database.query<{ n: number }>(
      'select count(*)::int as n from events',
    );
    return row?.n ?? 0;
  })
  /** Lets a service archive, strikes in the middle, mends after a while, and waits until all is there. */
  .extend('surviveIt', ({ stack, startRelay, server, stored }) => async (fault: Fault) => {
    const { what, strike, mend } = fault;
    const relay = await startRelay({ events: EVENTS, quirk: { cap: BATCH, betweenMs: 1 } });
    const model = [{ url: relay.url, events: EVENTS }];
    stack.env.SYNCHRONIZER_BATCH_SIZE = String(BATCH);
    await stack.relays([], [relay.url]);
    const service = stack.start('priority-synchronizer');
    const port = await healthPort(service, 'priority-synchronizer');
    await relay.until(({ eventsSent }) => eventsSent > 700, 'a visit in its middle', 30_000);
    await strike();
    await untilHealth(port, ({ status, body }) => status === 503 && body.database === 'down');
    await sleep(1500);
    expect(service.isRunning, service.said).toBe(true);
    const acceptedAt = await mend();
    const left = await stored();
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThan(EVENTS.length);
    await vi.waitFor(async () => expect(await stored()).toBeGreaterThan(left), {
      timeout: GENEROUS_MS,
      interval: 10,
    });
    console.info(
      `${what}: first batch stored ${Math.round(performance.now() - acceptedAt)} ms after connections were accepted`,
    );
    await expectHonest(server.database, model);
    await untilHealth(port, ({ status, body }) => status === 200 && body.database === 'up');
    await service.logged(
      ({ msg }) => msg === 'relay visited',
      'a visit that went to its end',
      60_000,
    );
    await expectWhole(server.database, model);
    // The visit goes on where it was: at most one batch comes twice, and the second in which each page begins.
    const again = relay.eventsSent - EVENTS.length;
    console.info(`${what}: ${again} events fetched again in ${relay.requests.length} pages`);
    expect(again).toBeLessThanOrEqual(BATCH + relay.requests.length);
    service.signal('SIGTERM');
    expect(await service.ended, service.said).toEqual({ code: 0, signal: null });
    const starts = service.log.filter(({ msg }) => msg === 'health is served');
    expect(starts).toHaveLength(1);
    return service;
  });

describe('a service that archives goes on by itself after kill -9', () => {
  test('of all processes of PostgreSQL', async ({ stack, server, surviveIt }) => {
    stack.useDatabase(server.database.config);
    await surviveIt({
      what: 'PostgreSQL',
      strike: () => server.kill(),
      mend: () => server.start(),
    });
    expect(server.said.join('\n')).toContain('was not properly shut down');
  });

  test.skipIf(!POOLER)('of PgBouncer', async ({ startPooler, surviveIt }) => {
    let pooler = await startPooler();
    await surviveIt({
      what: 'PgBouncer',
      strike: () => pooler.stop(),
      mend: async () => {
        pooler = await startPooler(pooler.config.port);
        return performance.now();
      },
    });
  });

  test.skipIf(!POOLER)(
    'of PostgreSQL behind PgBouncer',
    async ({ server, startPooler, surviveIt }) => {
      await startPooler();
      await surviveIt({
        what: 'PostgreSQL behind PgBouncer',
        strike: () => server.kill(),
        mend: () => server.start(),
      });
    },
  );

  test.runIf(!POOLER)('(PgBouncer is not installed: two tests are skipped)', () => {
    console.info('pgbouncer is not installed: its death is not tested');
  });
});

test('a relay that is followed while the database stays away is let go, and its next visit does not wait', async ({
  startRelay,
  onTestFinished,
}) => {
  const archive = await testArchive();
  onTestFinished(() => archive.close());
  const bigbrotr = await openBigbrotr(archive.db);
  const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
  const followed = await startRelay({ events: EVENTS.slice(0, 50) });
  expect(await archive.visit(followed.url, { live, bigbrotr })).toMatchObject({ events: 50 });
  expect(live.size).toBe(1);
  await followed.until(({ requests }) => requests.at(-1)?.filters[0]?.limit === 0, 'following');
  await bigbrotr.close(); // fails at once, where a server that is gone is waited for
  for (const event of signedEvents(1, { from: NOW, to: NOW, seed: 9 })) followed.publish(event);
  await vi.waitFor(() => expect(live.size).toBe(0), 5000);
  const { relayId } = await archive.relay(followed.url);
  expect(archive.told.at(-1)).toMatchObject({ events: 0, unfollowed: relayId });
  await live.close();
});
