import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { signedEvent, signedEvents } from '../support/events.ts';
import { type FakePooler, type ServerError, startFakePooler } from '../support/fake-pooler.ts';
import { endPrograms, type LogLine, type Program } from '../support/programs.ts';
import { type ScriptedRelay, startScriptedRelay } from '../support/scripted-relay.ts';
import { Stack } from '../support/stack.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(20, { from: NOW - 100_000, to: NOW - 1000 });
const FULL: ServerError = { code: 'XX000', message: 'no session is free: the pool is full' };
const ROTATED: ServerError = {
  code: '28P01',
  message: 'password authentication failed for user "bigbrotr"',
};

let database: TestDatabase;
let pooler: FakePooler;
let relay: ScriptedRelay;
let stack: Stack;

beforeEach(async () => {
  database = await testDatabase();
  pooler = await startFakePooler(database.config);
  relay = await startScriptedRelay({ events: EVENTS });
  stack = await Stack.create();
  stack.useDatabase({ ...database.config, host: pooler.host, port: pooler.port });
  await stack.relays([relay.url], [relay.url]);
});
afterEach(async () => {
  await endPrograms();
  await Promise.all([pooler.close(), relay.stop(), stack.remove()]);
  await database.drop();
});

async function stored(id: string): Promise<boolean> {
  const rows = await database.query('select from events where id = $1', [Buffer.from(id, 'hex')]);
  return rows.length > 0;
}

const said = (msg: string) => (line: LogLine) => line.msg === msg;

/** The health of a service, by the port that it has logged. */
async function health(program: Program, service: string) {
  const isPort = (line: LogLine) => line.service === service && line.msg === 'health is served';
  const { port } = await program.logged(isPort, 'its health port');
  const response = await fetch(`http://127.0.0.1:${port}/health`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe('an archive that runs', () => {
  it.each([FULL, ROTATED])('waits while a pooler refuses it with $code', async (error) => {
    const program = stack.start('local', [], {
      LOG_LEVEL: 'info',
      SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
    });
    await vi.waitFor(async () => expect(await stored(EVENTS[0]?.id ?? '')).toBe(true), 60_000);
    pooler.refuse(error);
    const isDown = ({ msg, reason }: LogLine) =>
      msg === 'database is down' && String(reason).includes(error.message);
    await program.logged(isDown, 'that the database is down, and why');
    const where = `:${pooler.port}: ${error.message}`;
    await vi.waitFor(async () => {
      const { status, body } = await health(program, 'priority-synchronizer');
      expect(body).toMatchObject({ databaseReason: expect.stringContaining(where) });
      expect(status).toBe(503);
    }, 10_000);
    const refused = pooler.refused;
    await sleep(5000); // longer than a start took that gave up
    expect(pooler.refused).toBeGreaterThan(refused);
    expect(program.log.filter(({ level }) => level === 'fatal')).toEqual([]);
    expect(program.isRunning).toBe(true);
    pooler.refuse(null);
    await program.logged(said('database is up'), 'that the database is up');
    const event = signedEvent({ created_at: NOW, content: 'after the outage' });
    relay.publish(event);
    await vi.waitFor(async () => expect(await stored(event.id)).toBe(true), 90_000);
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  });
});

describe('a start', () => {
  it.each(['local', 'priority-synchronizer', 'monitor', 'finder'] as const)(
    'of %s waits while a pooler is full, and says so',
    async (entrypoint) => {
      pooler.refuse(FULL);
      const program = stack.start(entrypoint);
      const waiting = said('database not reachable, trying again');
      const line = await program.logged(waiting, 'that it waits');
      expect(line).toMatchObject({
        code: 'XX000',
        reason: expect.stringContaining(FULL.message),
        until: 'it answers',
      });
      const refused = pooler.refused;
      await vi.waitFor(() => expect(pooler.refused).toBeGreaterThan(refused + 5), 30_000);
      expect(program.isRunning).toBe(true);
      if (entrypoint !== 'local') {
        const { status, body } = await health(program, entrypoint);
        expect(status).toBe(503);
        expect(body).toMatchObject({
          state: 'starting',
          databaseReason: expect.stringContaining(FULL.message),
        });
        pooler.refuse(null);
        await vi.waitFor(
          async () => expect((await health(program, entrypoint)).status).toBe(200),
          30_000,
        );
      }
      program.signal('SIGTERM');
      expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    },
  );

  it('that is told to stop while it waits has not failed', async () => {
    pooler.refuse(FULL);
    const program = stack.start('synchronizer');
    await program.logged(said('database not reachable, trying again'), 'that it waits');
    program.signal('SIGTERM');
    expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
  });
});
