/** The services of a soak as people would set them up, on relays, database and lists that are all on this machine. */

import { startTcpProxy } from '../../network/tcp-proxy.ts';
import { Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';
import type { Stack } from '../../processes/stack.ts';
import { threadDeath } from '../../processes/thread-death.ts';
import type { Servers } from './servers.ts';
import { AWAY_MS, KeptService, type ServiceName } from './services.ts';
import type { SoakRelays } from './start-relays.ts';
import type { Tally } from './tally.ts';

const NAMES: readonly ServiceName[] = [
  'monitor',
  'synchronizer',
  'priority-synchronizer',
  'finder',
];
/** Beside those, where several hosts are played. */
const MORE_NAMES: readonly ServiceName[] = ['monitor', 'synchronizer', 'synchronizer', 'finder'];
/** Leases of claims, in seconds: short, so that processes are stopped for longer than one. */
export const LEASE_SECONDS = 6;
const GUARD = projectFile('dist-soak/tests/programs/soak/no-way-out.cjs');
const NO_WAY_OUT = 'no way out of this machine';
/** An address of the documentation (RFC 5737): nobody has it. */
const OUTSIDE = '192.0.2.1';

/** Writes the lists and the configuration. Every second relay that is known is on the priority list. */
export async function configure(
  stack: Stack,
  servers: Servers,
  { model: { seeds, places } }: SoakRelays,
): Promise<void> {
  await stack.relays(
    seeds,
    seeds.filter((_, index) => index % 2 === 0),
  );
  stack.useDatabase(servers.address);
  Object.assign(stack.env, {
    NODE_OPTIONS: `--require ${JSON.stringify(GUARD)}`,
    RELAY_BLOCKLIST_PATH: await stack.write('blocked.txt', places.blocklist.join('\n')),
    MONITOR_LOOP_INTERVAL_MINUTES: '1',
    MONITOR_FREQUENCY_HOUR: '1',
    MONITOR_REQUESTS_PER_CORE: '20',
    MONITOR_REQUEST_TIMEOUT: '3',
    MONITOR_DB_COMMAND_TIMEOUT: '8',
    SYNCHRONIZER_NUM_CORES: '2',
    SYNCHRONIZER_REQUEST_TIMEOUT: '3',
    SYNCHRONIZER_LOOP_INTERVAL_MINUTES: '1',
    SYNCHRONIZER_RELAY_METADATA_THRESHOLD_HOURS: '8760',
    SYNCHRONIZER_REPROVE_DAYS: '1',
    SYNCHRONIZER_OVERLAP_SECONDS: '600',
    SYNCHRONIZER_DB_COMMAND_TIMEOUT: '8',
    BIGBROTR_LEASE_SECONDS: `${LEASE_SECONDS}`,
    FINDER_URLS: places.listUrl,
    FINDER_NUM_CORES: '2',
    FINDER_REQUEST_TIMEOUT: '3',
    FINDER_DB_COMMAND_TIMEOUT: '8',
  });
}

/**
 * Loads the database and makes sure that nothing started here gets out of this machine.
 *
 * @throws Error when it could, or when the initializer fails
 */
export async function initialize(stack: Stack): Promise<void> {
  await showNoWayOut(stack);
  const initializer = stack.start('initializer');
  const { code } = await initializer.ended;
  if (code !== 0) throw new Error(`the initializer ended with ${code}: ${initializer.said}`);
}

/** A socket and a look-up, of a thread as well, are refused and told. */
async function showNoWayOut({ folder, env }: Stack): Promise<void> {
  const tries = `require('node:net').connect(9, '${OUTSIDE}').on('error', () => {});
    require('node:dns').promises.resolve4('relay.example.com').catch(() => {});`;
  const code = `${tries} new (require('node:worker_threads').Worker)(${JSON.stringify(tries)}, { eval: true });`;
  const program = new Program(process.execPath, ['--eval', code], { cwd: folder, env });
  await program.ended;
  const refused = program.err.filter((line) => line.startsWith(NO_WAY_OUT));
  if (refused.length !== 4)
    throw new Error(`the services could leave this machine; a trial of it said: ${program.said}`);
}

/** Makes the services, which do not run yet. */
export async function keptServices(
  stack: Stack,
  servers: Servers,
  tally: Tally,
  hosts: boolean,
): Promise<KeptService[]> {
  const databaseWasAway = () => servers.wereAway(AWAY_MS);
  const death = await threadDeath(stack);
  const names = [...NAMES, ...(hosts ? MORE_NAMES : [])];
  return Promise.all(
    names.map(async (name, index) => {
      const isFinder = name === 'finder' && index < NAMES.length; // the others have their crash points
      return new KeptService(name, {
        ...{ stack, tally, databaseWasAway, address: `127.0.1.${index + 1}` },
        ...(hosts && { wire: await startTcpProxy(servers.proxy) }),
        ...(isFinder && { threadDeath: death }),
      });
    }),
  );
}

/** Lets what is started from here ask PostgreSQL itself. */
export function useServerItself(stack: Stack, servers: Servers): void {
  const { host, port } = servers.postgres.database.config;
  Object.assign(stack.env, { POSTGRES_HOST: host, POSTGRES_PORT: String(port) });
}

/** `npm run verify` */
export function verify({ folder, env }: Stack): Program {
  return new Program(process.execPath, [projectFile('dist/verify.js')], {
    cwd: folder,
    env,
  });
}
