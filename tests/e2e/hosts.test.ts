/** Several synchronizers over one archive, as on several hosts: killed, stopped for longer than a lease, all at once. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import { signedEvents } from '../fixtures/events.ts';
import { startTcpProxy } from '../network/tcp-proxy.ts';
import type { TestDatabase } from '../postgres/database.ts';
import { health, healthPort } from '../processes/health-client.ts';
import type { Program } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import type { ScriptedRelay } from '../relay/scripted-relay.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(600, { from: NOW - 500_000, to: NOW - 10_000 });
const LEASE_SECONDS = 3;
/** Pages of 50 events, 5 ms an event: a visit of EVENTS takes seconds. */
const SLOW = { quirk: { betweenMs: 10 } };
const ENV = {
  BIGBROTR_LEASE_SECONDS: `${LEASE_SECONDS}`,
  SYNCHRONIZER_BATCH_SIZE: '50',
  SYNCHRONIZER_NUM_CORES: '1',
  PRIORITY_SYNCHRONIZER_NUM_CORES: '1',
};

const test = stackTest
  .extend('seen', ({ database }) => async (relay: ScriptedRelay): Promise<number> => {
    const [row] = await database.query<{ events: string }>(
      'select count(*) as events from events_relays where relay_url = $1',
      [relay.url],
    );
    return Number(row?.events);
  })
  /** The holder of the claim on a relay, if its lease has not ended. */
  .extend('holderOf', ({ database }) => async (relay: ScriptedRelay): Promise<string | null> => {
    const [row] = await database.query<{ holder: string }>(
      "select holder from claimed_relays where work = 'visit' and relay_url = $1 and is_valid",
      [relay.url],
    );
    return row?.holder ?? null;
  });

/** Events that coverage vouches for and the archive lacks. */
async function covered(database: TestDatabase, relay: ScriptedRelay): Promise<number> {
  const stretches = await database.query<{ since: number; until: number }>(
    `select lower(stretch)::float as since, upper(stretch)::float - 1 as until
     from coverage join relays using (relay_id), unnest(covered) stretch where url = $1`,
    [relay.url],
  );
  const rows = await database.query<{ id: string }>(
    `select encode(event_id, 'hex') as id from events_relays where relay_url = $1`,
    [relay.url],
  );
  const stored = new Set(rows.map(({ id }) => id));
  return relay.events.filter(
    ({ id, created_at }) =>
      !stored.has(id) &&
      stretches.some(({ since, until }) => created_at >= since && created_at <= until),
  ).length;
}

const isLive = ({ requests }: ScriptedRelay) =>
  requests.some(({ filters, end }) => filters[0]?.limit === 0 && end);

const pidOf = (holder: string | null) => Number(holder?.split(':').at(-2));

describe('synchronizers over one archive', () => {
  test('share its relays: each is visited once, and --once ends for all when nothing is due', async ({
    startRelay,
    stack,
    database,
    runOnce,
  }) => {
    const relays = await Promise.all(
      Array.from({ length: 12 }, (_, index) =>
        startRelay({ events: EVENTS.slice(index, index + 60), ...SLOW }),
      ),
    );
    await stack.relays(relays.map(({ url }) => url));
    await runOnce('initializer');
    await runOnce('monitor');
    let letIn = () => {};
    const until = new Promise<void>((resolve) => {
      letIn = resolve;
    });
    for (const relay of relays) {
      relay.forget();
      relay.change({ upgrade: { until } });
    }
    const env = { ...ENV, SYNCHRONIZER_REQUESTS_PER_CORE: '2', BIGBROTR_LEASE_SECONDS: '60' };
    const programs = [1, 2, 3].map(() => stack.start('synchronizer', ['--once'], env));
    await expect
      .poll(() => database.query('select distinct holder from claims'), { timeout: 30_000 })
      .toHaveLength(3);
    await sleep(1000); // times of visits are whole seconds: none ends in the second in which a program started
    letIn();
    for (const program of programs)
      expect(await program.ended, program.said).toEqual({ code: 0, signal: null });
    expect(relays.map(({ connections }) => connections.max)).toEqual(relays.map(() => 1));
    const visited = programs.map(
      ({ log }) => log.filter(({ msg }) => msg === 'relay visited').length,
    );
    expect(visited.reduce((sum, count) => sum + count, 0)).toBe(relays.length);
    expect(await database.query("select from visits where outcome = 'complete'")).toHaveLength(12);
    expect(await database.query('select from claims')).toEqual([]);
  });

  test('take over the claims of a process that was killed, or suspended for longer than its lease', async ({
    startRelay,
    stack,
    database,
    seen,
    holderOf,
  }) => {
    const relay = await startRelay({ events: EVENTS, ...SLOW });
    await stack.relays([relay.url], [relay.url]);
    const env = { ...ENV, PRIORITY_SYNCHRONIZER_LIVE: 'false' };
    const programs = new Map<number, Program>();
    for (let count = 0; count < 3; count += 1) {
      const program = stack.start('priority-synchronizer', [], env);
      programs.set(program.pid, program);
      await healthPort(program, 'priority-synchronizer');
    }
    await expect.poll(() => holderOf(relay), { timeout: 20_000 }).not.toBeNull();
    await expect.poll(() => seen(relay), { timeout: 20_000 }).toBeGreaterThan(50);
    const first = pidOf(await holderOf(relay));
    const stopped = programs.get(first);
    stopped?.signal('SIGSTOP');
    await expect
      .poll(async () => pidOf(await holderOf(relay)), { timeout: 20_000 })
      .not.toSatisfy((pid: number) => pid === first || Number.isNaN(pid));
    const second = pidOf(await holderOf(relay));
    programs.get(second)?.signal('SIGKILL');
    stopped?.signal('SIGCONT'); // it goes on with a claim that it does not have any more
    await expect.poll(() => seen(relay), { timeout: 60_000 }).toBe(EVENTS.length);
    await expect
      .poll(() => database.query("select from visits where outcome = 'complete'"), {
        timeout: 30_000,
      })
      .toHaveLength(1);
    expect(await covered(database, relay)).toBe(0);
    expect(stopped?.log.map(({ msg }) => msg)).toContain('claim lost');
    expect(await database.query('select from relay_manners where not_before > 0')).toEqual([]);
  });

  test('leave a followed relay to its holder, and follow it at once when the holder stops', async ({
    startRelay,
    stack,
    holderOf,
  }) => {
    const relay = await startRelay({ events: EVENTS.slice(0, 40) });
    await stack.relays([relay.url], [relay.url]);
    const programs = [1, 2].map(() => stack.start('priority-synchronizer', [], ENV));
    await relay.until(isLive, 'a live subscription', 30_000);
    await sleep((LEASE_SECONDS + 1) * 1000);
    const holder = pidOf(await holderOf(relay));
    const follower = programs.find(({ pid }) => pid === holder);
    const other = programs.find(({ pid }) => pid !== holder);
    if (!follower || !other) throw new Error(`nobody here holds the relay: ${holder}`);
    const port = await healthPort(follower, 'priority-synchronizer');
    expect((await health(port))?.body).toMatchObject({ claims: { held: 1, lost: 0 } });
    expect(relay.connections).toMatchObject({ open: 1, max: 1 });
    relay.forget();
    follower.signal('SIGTERM');
    await follower.ended;
    await relay.until(isLive, 'a live subscription of the other', 30_000);
    expect(pidOf(await holderOf(relay))).toBe(other.pid);
    expect(relay.connections.open).toBe(1);
  });
});

describe.each([
  ['refuses connections', 'refused'],
  ['does not answer', 'silent'],
] as const)('a database that %s for longer than a lease', (_, how) => {
  test('ends the live subscription, and one process subscribes again afterwards', async ({
    startRelay,
    stack,
    database,
    holderOf,
  }) => {
    const relay = await startRelay({ events: EVENTS.slice(0, 20) });
    await stack.relays([relay.url], [relay.url]);
    const wire = await startTcpProxy(database.config);
    try {
      const env = {
        ...ENV,
        POSTGRES_HOST: wire.host,
        POSTGRES_PORT: String(wire.port),
        SYNCHRONIZER_DB_COMMAND_TIMEOUT: '3',
      };
      const programs = [1, 2].map(() => stack.start('priority-synchronizer', [], env));
      await relay.until(isLive, 'a live subscription', 30_000);
      for (const program of programs) await healthPort(program, 'priority-synchronizer');
      if (how === 'silent') wire.stall();
      else {
        wire.refuse(Number.POSITIVE_INFINITY);
        wire.cut();
      }
      await relay.until(({ connections }) => connections.open === 0, 'nobody connected', 20_000);
      await sleep(LEASE_SECONDS * 1000);
      relay.forget();
      wire.recover();
      wire.refuse(0);
      await relay.until(isLive, 'a live subscription again', 60_000);
      await sleep((LEASE_SECONDS + 1) * 1000);
      expect(relay.connections).toMatchObject({ open: 1, max: 1 });
      expect(programs.map(({ pid }) => pid)).toContain(pidOf(await holderOf(relay)));
      expect(programs.every(({ isRunning }) => isRunning)).toBe(true);
    } finally {
      await wire.close();
    }
  });
});

test('a relay that is added to the priority list passes from the synchronizer that follows it to the priority synchronizer, and back when it is removed', async ({
  startRelay,
  stack,
  database,
  holderOf,
  runOnce,
}) => {
  const relay = await startRelay({ events: EVENTS.slice(0, 20) });
  await stack.relays([relay.url], []);
  await runOnce('initializer');
  await runOnce('monitor');
  const env = { ...ENV, BIGBROTR_LEASE_SECONDS: '60', SYNCHRONIZER_LIVE: 'true' };
  const usual = stack.start('synchronizer', [], env);
  const priority = stack.start('priority-synchronizer', [], env);
  const follows = async ({ pid }: Program) => {
    await relay.until(isLive, 'a live subscription', 60_000);
    await expect.poll(async () => pidOf(await holderOf(relay)), { timeout: 60_000 }).toBe(pid);
    expect(relay.connections).toMatchObject({ open: 1, max: 1 });
    relay.forget();
  };
  await healthPort(priority, 'priority-synchronizer');
  relay.forget();
  await follows(usual);
  await stack.relays([relay.url], [relay.url]);
  await follows(priority);
  await stack.relays([relay.url], []);
  await follows(usual);
  expect(await database.query('select from relay_manners where not_before > 0')).toEqual([]);
});

test('a changed priority list takes effect without a restart', async ({
  startRelay,
  stack,
  database,
  runOnce,
}) => {
  const relay = await startRelay({ events: EVENTS.slice(0, 20) });
  await stack.relays([relay.url], []);
  await runOnce('initializer');
  const program = stack.start('priority-synchronizer', [], ENV);
  await healthPort(program, 'priority-synchronizer');
  await stack.relays([relay.url], [relay.url]);
  await expect
    .poll(() => database.query('select url from relays where priority'), { timeout: 30_000 })
    .toEqual([{ url: relay.url }]);
  await expect
    .poll(() => database.query("select from visits where outcome = 'complete'"), {
      timeout: 30_000,
    })
    .toHaveLength(1);
});
