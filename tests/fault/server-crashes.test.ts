import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { LiveRelays } from '../../src/visit/live.ts';
import { openBigbrotr, silent } from '../support/bigbrotr.ts';
import { ownDirectory } from '../support/directory.ts';
import { signedEvents } from '../support/events.ts';
import { healthPort, untilHealth } from '../support/health-client.ts';
import { type MortalServer, startMortalServer } from '../support/mortal-server.ts';
import { type PgBouncer, pgbouncerVersion, startPgBouncer } from '../support/pgbouncer.ts';
import { expectHonest, expectWhole, type Held } from '../support/pipeline-model.ts';
import { endPrograms, type Program } from '../support/programs.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';
import { testArchive } from '../support/visit-context.ts';

const NOW = Math.floor(Date.now() / 1000);
const HISTORY = { from: NOW - 500_000, to: NOW - 10_000 };
const EVENTS = signedEvents(2500, { ...HISTORY, seed: 1 });
const BATCH = 100;
/** Recovery is measured and told; this is only far beyond what it takes on a busy machine. */
const GENEROUS_MS = 15_000;
const POOLER = pgbouncerVersion();

let stack: Stack;
let server: MortalServer;
let relay: ScriptedRelay;
let model: Held[];
const directory = ownDirectory();
const undo: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  stack = await Stack.create();
  server = await startMortalServer(join(directory, 'mortal'));
});
afterAll(async () => {
  await stack.remove();
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});
beforeEach(async () => {
  await server.database.query(
    'truncate relays, filters, events, sightings restart identity cascade',
  );
  relay = await startScriptedRelay({ events: EVENTS, quirk: { cap: BATCH, betweenMs: 1 } });
  model = [{ url: relay.url, events: EVENTS }];
  stack.env.SYNCHRONIZER_BATCH_SIZE = String(BATCH);
  await stack.relays([], [relay.url]);
});
afterEach(async () => {
  await endPrograms();
  await relay.stop();
  for (const step of undo.splice(0).reverse()) await step();
});

async function stored(): Promise<number> {
  const [row] = await server.database.query<{ n: number }>('select count(*)::int as n from events');
  return row?.n ?? 0;
}

interface Fault {
  readonly what: string;
  /** Resolves when it is gone. */
  strike(): Promise<void>;
  /** @returns `performance.now()` of when connections are accepted again */
  mend(): Promise<number>;
}

/** Lets a service archive, strikes in the middle, mends after a while, and waits until all is there. */
async function surviveIt({ what, strike, mend }: Fault): Promise<Program> {
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
  await service.logged(({ msg }) => msg === 'relay visited', 'a visit that went to its end');
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
}

describe('kill -9 while a service archives', () => {
  it('of PostgreSQL, all its processes: the service goes on by itself', async () => {
    stack.useDatabase(server.database.config);
    await surviveIt({
      what: 'PostgreSQL',
      strike: () => server.kill(),
      mend: () => server.start(),
    });
    expect(server.said.join('\n')).toContain('was not properly shut down');
  });

  it.skipIf(!POOLER)('of PgBouncer', async () => {
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

  it.skipIf(!POOLER)('of PostgreSQL behind PgBouncer', async () => {
    await startPooler();
    await surviveIt({
      what: 'PostgreSQL behind PgBouncer',
      strike: () => server.kill(),
      mend: () => server.start(),
    });
  });

  it.runIf(!POOLER)('(PgBouncer is not installed: two tests are skipped)', () => {
    console.info('pgbouncer is not installed: its death is not tested');
  });
});

describe('a relay that is followed while the database stays away', () => {
  it('is let go, and named, so that its next visit does not wait', async () => {
    const archive = await testArchive();
    undo.push(() => archive.close());
    const bigbrotr = await openBigbrotr(archive.db);
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    const past = EVENTS.slice(0, 50);
    const followed = await startScriptedRelay({ events: past });
    undo.push(() => followed.stop());
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
});

async function startPooler(port?: number): Promise<PgBouncer> {
  const pooler = await startPgBouncer(server.database, port);
  undo.push(() => pooler.stop());
  stack.useDatabase(pooler.config);
  return pooler;
}
