import { setTimeout as sleep } from 'node:timers/promises';
import { signedEvents } from '../fixtures/events.ts';
import type { Program } from '../processes/programs.ts';
import { stackTest } from '../processes/stack-test.ts';
import { type OutageNamespace, RELAY_PORT, startOutageNamespace } from './outage-namespace.ts';

/** Relays with an IPv4 address. */
export const ALIVE = Array.from({ length: 8 }, (_, index) => `alive-${index}.outage`);
/** Relays with an IPv6 address. */
export const SIX = ['six-0.outage', 'six-1.outage'];
/** Relays that never answer. */
export const DEAD = Array.from({ length: 90 }, (_, index) => `dead-${index}.outage`);
/** Relays that are named by an IPv4 address. */
export const LITERALS = ['45.100.1.1', '45.101.1.1'];
const NAMES = {
  ...Object.fromEntries(ALIVE.map((name, index) => [name, [`45.${index}.1.1`]])),
  ...Object.fromEntries(SIX.map((name, index) => [name, [`2a01:${index + 1}::1`]])),
  ...Object.fromEntries(DEAD.map((name, index) => [name, [`46.${index}.1.1`]])),
};
export const urlOf = (host: string) => `ws://${host}:${RELAY_PORT}`;
export const LIVING = [...ALIVE, ...SIX, ...LITERALS].map(urlOf);
export const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(40, { from: NOW - 100_000, to: NOW - 50_000 }).sort(
  (a, b) => b.created_at - a.created_at,
);

/** Relays that are left when a part of the network is cut, by URL. */
export const leftWithout = (lost: readonly string[]) =>
  LIVING.filter((url) => !lost.some((host) => url === urlOf(host))).sort();

/** Services with an archive, behind a cable that can be cut; each test has its own. */
export const outageTest = stackTest
  .extend('world', async ({ stack, database }, { onCleanup }) => {
    const { config } = database;
    const world = await startOutageNamespace({
      ...{ stack, database: config, names: NAMES, events: EVENTS },
      dead: DEAD.map((name) => NAMES[name]?.[0] ?? ''),
    });
    onCleanup(() => world.stop());
    stack.useDatabase({ ...config, host: world.databaseHost, port: 5432 });
    delete stack.env.ALLOW_PRIVATE_RELAYS;
    delete stack.env.RELAY_BLOCKLIST_PATH;
    Object.assign(stack.env, {
      NETWORK_TEST_HOSTS: world.testHosts,
      MONITOR_FREQUENCY_HOUR: '1',
      MONITOR_LOOP_INTERVAL_MINUTES: '1',
      SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
    });
    return world;
  })
  .extend('started', ({ world: _in }): Program[] => [])
  .extend('start', ({ world, started }) => (...given: Parameters<OutageNamespace['start']>) => {
    const program = world.start(...given);
    started.push(program);
    return program;
  })
  /** Starts a service in an archive of these relays. */
  .extend(
    'startWith',
    ({ stack, start }) =>
      async (service: 'monitor' | 'priority-synchronizer', relays: readonly string[]) => {
        await stack.relays(relays, service === 'monitor' ? [] : relays);
        await start('initializer').ended;
        return start(service);
      },
  )
  /** Waits for an answer of the database. */
  .extend(
    'until',
    ({ database, started }) =>
      async <Row>(sql: string, holds: (rows: readonly Row[]) => boolean, what: string) => {
        for (let tries = 0; tries < 600; tries += 1) {
          if (holds(await database.query<Row & Record<string, unknown>>(sql))) return;
          await sleep(200);
        }
        const last = JSON.stringify(await database.query(sql));
        const logs = started.map((program) => program.said).join('\n');
        throw new Error(`waited in vain for ${what}: ${last}\n${logs}`);
      },
  );

export const said = (program: Program, msg: string) =>
  program.logged((line) => line.msg === msg, msg, 60_000);

/** What a service logged of the state of the network, in its order. */
export const networkWords = (program: Program) =>
  program.log.map(({ msg }) => msg).filter((msg) => msg.startsWith('network is '));

/** Waits until a service has logged these states of the network, and no other. */
export async function untilWords(program: Program, words: readonly string[]): Promise<void> {
  await program.until(() => networkWords(program).length >= words.length, words.join(', '), 60_000);
  const spoken = networkWords(program).join(', ');
  if (spoken !== words.join(', ')) throw new Error(`the log says: ${spoken}\n${program.said}`);
}

export async function portOf(program: Program): Promise<number> {
  const { port } = await said(program, 'health is served');
  return Number(port);
}
