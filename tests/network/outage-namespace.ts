import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { Program } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import type { DatabaseAddress, Entrypoint, Stack } from '../processes/stack.ts';
import { controlRequest } from './guard-namespace.ts';
import { forwardDatabase } from './unix-forward.ts';

/** What is cut between the services and the world. */
export type Cut = 'nothing' | 'cable' | 'address' | 'dns' | 'ipv4' | 'ipv6';

/** Services behind a cable that can be cut; beyond it are relays at every address, name servers and test hosts. */
export interface OutageNamespace {
  /** A directory that PostgreSQL can be reached through from inside, as `POSTGRES_HOST`. */
  readonly databaseHost: string;
  /** For NETWORK_TEST_HOSTS. */
  readonly testHosts: string;
  start(
    entrypoint: Entrypoint,
    args?: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Program;
  cut(what: Cut): Promise<void>;
  /** Gives all relays an event, which goes to open subscriptions. */
  publish(event: NostrEvent): Promise<void>;
  /** The answer of `/health` on a port inside. */
  health(port: number): Promise<{ readonly code: number; readonly body: Record<string, unknown> }>;
  stop(): Promise<void>;
}

export interface OutageOptions {
  readonly stack: Stack;
  readonly database: DatabaseAddress;
  readonly names: Readonly<Record<string, readonly string[]>>;
  /** Addresses that never answer. */
  readonly dead: readonly string[];
  readonly events: readonly NostrEvent[];
}

export const RELAY_PORT = 7777;
const TEST_HOSTS =
  'test.outage other.outage 1.1.1.1:7788 8.8.8.8:7788 [2606:4700::1111]:7788 [2001:4860::8888]:7788';
const HEALTH_OF = `
const [, port] = process.argv;
const answer = await fetch('http://127.0.0.1:' + port + '/health');
console.log(JSON.stringify({ code: answer.status, body: await answer.json() }));
`;

/** Why this machine gives no such namespaces; null when it does. */
export function outageObstacle(): string | null {
  if (process.getuid?.() !== 0) return 'only root can make network namespaces with a cable';
  const made = spawnSync(
    'unshare',
    ['--net', '--mount', 'sh', '-c', 'ip link add one type veth peer name two && iptables -L -n'],
    { encoding: 'utf8' },
  );
  if (made.error) return `unshare: ${made.error.message}`;
  return made.status === 0 ? null : made.stderr.trim();
}

export async function startOutageNamespace(options: OutageOptions): Promise<OutageNamespace> {
  const { stack, database, dead, events } = options;
  const { folder } = stack;
  const names = {
    ...options.names,
    'test.outage': ['1.1.1.1', '2606:4700::1111'],
    'other.outage': ['8.8.8.8'],
  };
  const forwarder = await forwardDatabase(folder, database);
  const socketPath = join(folder, 'world');
  const file = join(folder, 'world-events.json');
  await writeFile(file, JSON.stringify(events));
  const world = new Program(
    'unshare',
    [
      ...['--net', '--mount', process.execPath, projectFile('tests/network/outage-world.mjs')],
      JSON.stringify({ socketPath, names, dead, events: file }),
    ],
    { cwd: folder, env: {} },
  );
  await world.until(() => world.out.some((line) => line.includes('ready')), 'the namespaces');
  const tell = async <T>(path: string, body: unknown = null): Promise<T> =>
    JSON.parse(await controlRequest(socketPath, path, JSON.stringify(body)));
  const pid = await tell<number>('/pid');
  const inside = [`--net=/proc/${pid}/ns/net`, `--mount=/proc/${pid}/ns/mnt`, `--wd=${folder}`];
  return {
    databaseHost: folder,
    testHosts: TEST_HOSTS,
    start: (entrypoint, args = [], env = {}) =>
      new Program(
        'nsenter',
        [...inside, process.execPath, projectFile(`dist/${entrypoint}.js`), ...args],
        { cwd: folder, env: { ...stack.env, ...env } },
      ),
    cut: (what) => tell('/link', { cut: what }),
    publish: (event) => tell('/publish', event),
    health: async (port) => {
      const script = [process.execPath, '--input-type=module', '-e', HEALTH_OF, String(port)];
      const child = spawn('nsenter', [...inside, ...script]);
      let said = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      await once(child, 'close');
      return JSON.parse(said);
    },
    stop: async () => {
      world.signalGroup('SIGKILL');
      await world.ended;
      forwarder.close();
    },
  };
}
