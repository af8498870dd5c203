import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { signedEvents } from '../fixtures/events.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import { ask } from '../postgres/archive.ts';
import type { TestDatabase } from '../postgres/database.ts';
import { health, healthPort, untilHealth } from '../processes/health-client.ts';
import { endPrograms } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { type Entrypoint, KEYS } from '../processes/stack.ts';
import { stackTest } from '../processes/stack-test.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(1000, { from: NOW - 500_000, to: NOW - 10_000 });
const SUCCESS = { code: 0, signal: null };

const test = stackTest;

/** Rows of events and their times, as far as this relay is concerned. */
async function seenOn(database: TestDatabase, url: string): Promise<Set<string>> {
  const rows = await database.query<{ id: string }>(
    `select encode(event_id, 'hex') as id from events_relays where relay_url = $1`,
    [url],
  );
  return new Set(rows.map(({ id }) => id));
}

/** The stretches of time that count as proven, both ends inclusive. */
async function covered(database: TestDatabase, url: string) {
  return database.query<{ since: number; until: number }>(
    `select lower(stretch)::float as since, upper(stretch)::float - 1 as until
     from coverage join relays using (relay_id), unnest(covered) stretch where url = $1`,
    [url],
  );
}

describe.concurrent('one round of each service alone', () => {
  test('seeds, checks or archives: each service does its own part', async ({
    startRelay,
    stack,
    database,
    runOnce,
  }) => {
    const plain = await startRelay({ events: EVENTS.slice(0, 400) });
    const priority = await startRelay({ events: EVENTS.slice(300, 700) });
    await stack.relays([plain.url, priority.url], [priority.url]);
    const counts = async () => {
      const tables = ['relays', 'snapshots', 'events', 'sightings'];
      const selects = tables.map((name) => `(select count(*)::integer from ${name}) as ${name}`);
      return (await database.query(`select ${selects.join(', ')}`))[0];
    };
    await runOnce('initializer');
    expect(await counts()).toEqual({ relays: 2, snapshots: 0, events: 0, sightings: 0 });
    expect(plain.connections.total + priority.connections.total).toBe(0);
    await runOnce('synchronizer');
    expect(await counts()).toMatchObject({ events: 0 }); // nothing is known to be readable yet
    await runOnce('monitor');
    expect(await counts()).toEqual({ relays: 2, snapshots: 2, events: 0, sightings: 0 });
    await runOnce('synchronizer');
    expect(await counts()).toEqual({ relays: 2, snapshots: 2, events: 400, sightings: 400 });
    expect(await covered(database, priority.url)).toEqual([]);
    await runOnce('priority-synchronizer');
    expect(await counts()).toEqual({ relays: 2, snapshots: 2, events: 700, sightings: 800 });
    await runOnce('monitor');
    await runOnce('initializer');
    expect(await counts()).toMatchObject({ relays: 2, snapshots: 2 }); // young enough
  });
});

describe.concurrent('an interrupted visit or check', () => {
  test.for<[Entrypoint, NodeJS.Signals]>([
    ['synchronizer', 'SIGTERM'],
    ['priority-synchronizer', 'SIGINT'],
    ['priority-synchronizer', 'SIGKILL'],
  ])(
    'of the %s (%s) covers nothing that is not stored',
    async ([entrypoint, signal], { startRelay, stack, runOnce, database }) => {
      const slow = await startRelay({ events: EVENTS, quirk: { betweenMs: 5 } });
      const none = 'ws://127.0.0.1:9';
      await stack.relays([slow.url], [entrypoint === 'synchronizer' ? none : slow.url]);
      if (entrypoint === 'synchronizer') {
        await runOnce('initializer');
        await runOnce('monitor');
        slow.forget(); // what the monitor was shown
      }
      const env = { SYNCHRONIZER_BATCH_SIZE: '100' };
      const program = stack.start(entrypoint, [], env);
      await slow.until(({ eventsSent }) => eventsSent > 450, 'a visit under way', 30_000);
      const before = performance.now();
      program.signal(signal);
      const end = await program.ended;
      expect(performance.now() - before).toBeLessThan(10_000);
      expect(end, program.said).toEqual(signal === 'SIGKILL' ? { code: null, signal } : SUCCESS);

      const stored = await seenOn(database, slow.url);
      const stretches = await covered(database, slow.url);
      expect(stretches.length).toBeGreaterThan(0);
      for (const { since, until } of stretches) {
        const claimed = EVENTS.filter((event) => {
          return event.created_at >= since && event.created_at <= until;
        });
        expect(claimed.filter(({ id }) => !stored.has(id))).toEqual([]);
      }
      expect(stored.size).toBeGreaterThan(200);
      expect(stored.size).toBeLessThan(EVENTS.length);
      expect(Math.min(...stretches.map(({ since }) => since))).toBeGreaterThan(NOW - 500_000);

      slow.change({ quirk: {} });
      slow.forget();
      await runOnce(entrypoint, env);
      expect(await seenOn(database, slow.url)).toEqual(new Set(EVENTS.map(({ id }) => id)));
      expect(slow.eventsSent).toBeLessThan(EVENTS.length - 200); // it went on where it was cut off
    },
  );

  test('of the monitor leaves no snapshot of an unfinished check', async ({
    startRelay,
    stack,
    runOnce,
    database,
  }) => {
    const halfOpen = await startRelay({ upgrade: 'silent', nip11: 'silent' });
    await stack.relays([halfOpen.url]);
    await runOnce('initializer');
    const program = stack.start('monitor', [], { MONITOR_REQUEST_TIMEOUT: '60' });
    await halfOpen.until(({ fired }) => (fired.upgrade ?? 0) > 0, 'a check under way', 30_000);
    const before = performance.now();
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(await database.query('select * from snapshots')).toEqual([]);
  });
});

describe.concurrent('SYNCHRONIZER_STOP_TIMESTAMP in the future', () => {
  test('does not cover time that has not passed: later events are archived too', async ({
    startRelay,
    stack,
    runOnce,
    database,
  }) => {
    const one = await startRelay({ events: EVENTS.slice(0, 20) });
    await stack.relays([], [one.url]);
    const env = {
      SYNCHRONIZER_STOP_TIMESTAMP: String(NOW + 86_400),
      SYNCHRONIZER_OVERLAP_SECONDS: '0',
    };
    await runOnce('priority-synchronizer', env);
    const [stretch] = await covered(database, one.url);
    expect(stretch?.until).toBeLessThanOrEqual(Math.floor(Date.now() / 1000));
    await sleep(1000);
    const second = Math.floor(Date.now() / 1000);
    const late = signedEvents(1, { from: second, to: second, seed: 8 });
    one.add(late);
    await runOnce('priority-synchronizer', env);
    expect((await seenOn(database, one.url)).size).toBe(21);
  });
});

describe.concurrent('a key that is added later', () => {
  test('ends the pause of a relay that requires NIP-42 authentication', async ({
    startRelay,
    stack,
    database,
    runOnce,
  }) => {
    const events = EVENTS.slice(0, 20);
    const members = await startRelay({ events, auth: {} });
    await stack.relays([], [members.url]);
    const pauses = () =>
      database.query('select reason, not_before > $1 as pauses from relay_manners', [NOW]);
    await runOnce('priority-synchronizer', { SECRET_KEY: '', PUBLIC_KEY: '' });
    expect(await pauses()).toEqual([{ reason: 'auth_required', pauses: true }]);
    await runOnce('priority-synchronizer');
    expect(await pauses()).toEqual([{ reason: null, pauses: false }]);
    expect((await seenOn(database, members.url)).size).toBe(events.length);
  });
});

describe.concurrent('health', () => {
  test('is 503 until the service is ready and while the database is unreachable, otherwise 200', async ({
    startRelay,
    stack,
    onTestFinished,
  }) => {
    const events = EVENTS.slice(0, 200);
    const archived = await startRelay({ events });
    await stack.relays([archived.url], [archived.url]);
    const dataDir = join(stack.folder, 'server');
    let server = await startServer(dataDir, 0);
    const { port } = server;
    onTestFinished(async () => {
      await endPrograms(stack.folder);
      await server.stop();
    });
    await ask(server.connectionString, await readFile(projectFile('init.sql'), 'utf8'));
    // Behind a door: it opens in time for the last of five tries, which PostgreSQL itself might not.
    const door = await startTcpProxy(server);
    onTestFinished(() => door.close());
    door.refuse(Number.POSITIVE_INFINITY);
    stack.useDatabase({ ...server, host: door.host, port: door.port });

    const program = stack.start('priority-synchronizer');
    const at = await healthPort(program, 'priority-synchronizer');
    expect(await health(at)).toMatchObject({
      status: 503,
      body: { state: 'starting', ready: false, database: 'down', lastRound: null },
    });
    expect(await health(at, '/ready')).toMatchObject({ status: 503, body: { ready: false } });

    door.refuse(0);
    const ready = await untilHealth(at, ({ status }) => status === 200);
    expect(ready.body).toMatchObject({ ready: true, database: 'up' });
    await untilHealth(at, ({ body }) => body.lastRound !== null);

    const shown = await Promise.all(
      ['/health', '/ready', '/metrics', '/nothing'].map(async (path) => {
        const answer = await fetch(`http://127.0.0.1:${at}${path}`);
        return `${[...answer.headers]}${await answer.text()}`;
      }),
    );
    expect(shown.join('')).toContain('bigbrotr_events_stored_total');
    for (const secret of [server.password, KEYS.SECRET_KEY])
      expect(shown.join('')).not.toContain(secret);

    await server.stop();
    const down = await untilHealth(at, ({ status }) => status === 503);
    expect(down.body).toMatchObject({ ready: true, database: 'down' });
    expect(await health(at, '/ready')).toMatchObject({ status: 503, body: { ready: false } });

    const late = signedEvents(1, { from: NOW - 500, to: NOW - 400, seed: 5 });
    for (const event of late) archived.publish(event); // comes over the open subscription
    server = await startServer(dataDir, port);
    await untilHealth(at, ({ status, body }) => status === 200 && body.database === 'up');
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual(SUCCESS);
    for (const secret of [server.password, KEYS.SECRET_KEY])
      expect(program.said).not.toContain(secret);
    const rows = await ask(server.connectionString, 'select count(*)::integer as n from events');
    expect(rows).toEqual([{ n: events.length + late.length }]);
  });
});

/** A PostgreSQL that the test stops and starts; always the same port once it has one. */
async function startServer(dataDir: string, port: number): Promise<EmbeddedPostgres> {
  const quiet = () => {};
  const log = { debug: quiet, info: quiet, warn: quiet, error: console.error };
  const server = await startEmbeddedPostgres({ dataDir, port, durable: false, log });
  if (port !== 0) expect(server.port).toBe(port);
  return server;
}
