import { spawnSync } from 'node:child_process';
import { request } from 'node:http';
import { join } from 'node:path';
import { Program } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import type { DatabaseAddress, Entrypoint } from '../processes/stack.ts';
import { forwardDatabase } from './unix-forward.ts';

/** What was tried inside the namespace. */
export interface Seen {
  /** Addresses that were dialled, as `address port`. */
  readonly dialled: readonly string[];
  /** Names that DNS was asked for. */
  readonly asked: readonly string[];
}

/** A network of its own, in which every address leads to a listener that sees who dials it. */
export interface GuardNamespace {
  /** A directory that PostgreSQL can be reached through from inside, as `POSTGRES_HOST`. */
  readonly databaseHost: string;
  /** Runs a service inside to its end. @throws Error with what it said when it does not end well */
  run(
    entrypoint: Entrypoint,
    args: readonly string[],
    env: Readonly<Record<string, string>>,
  ): Promise<string>;
  /** What was seen since the last time. */
  take(): Promise<Seen>;
  stop(): Promise<void>;
}

export interface GuardNamespaceOptions {
  /** A short path: a Unix socket has at most 107 bytes. */
  readonly folder: string;
  readonly ports: readonly number[];
  /** Sets of addresses that a name has, each set in its turn. */
  readonly names: Readonly<Record<string, readonly (readonly string[])[]>>;
  readonly database: DatabaseAddress;
}

/** Why this machine gives no namespace; null when it does. */
export function namespaceObstacle(): string | null {
  const { error, status, stderr } = spawnSync('unshare', [...unshareFlags(), 'ip', 'link'], {
    encoding: 'utf8',
  });
  if (error) return `unshare: ${error.message}`;
  return status === 0 ? null : `unshare: ${stderr.trim()}`;
}

/** Root makes namespaces as it likes; anybody else needs one of users too, where the system permits it. */
function unshareFlags(): string[] {
  const own = ['--net', '--mount'];
  return process.getuid?.() === 0 ? own : ['--map-root-user', ...own];
}

export async function startGuardNamespace(options: GuardNamespaceOptions): Promise<GuardNamespace> {
  const { folder, ports, names, database } = options;
  const forwarder = await forwardDatabase(folder, database);
  const socketPath = join(folder, 'control');
  const program = new Program(
    'unshare',
    [
      ...unshareFlags(),
      process.execPath,
      projectFile('tests/network/guard-namespace.mjs'),
      JSON.stringify({ socketPath, ports, names }),
    ],
    { cwd: folder, env: {} },
  );
  await program.until(() => program.out.some((line) => line.includes('ready')), 'the namespace');
  const tell = async <T>(path: string, body: unknown = null): Promise<T> =>
    JSON.parse(await controlRequest(socketPath, path, JSON.stringify(body)));
  return {
    databaseHost: folder,
    run: async (entrypoint, args, env) => {
      const { PATH = '', HOME = '' } = process.env;
      const job = {
        args: [projectFile(`dist/${entrypoint}.js`), ...args],
        env: { PATH, HOME, ...env },
        cwd: folder,
      };
      const { code, signal, said } = await tell<{ code: number; signal: string; said: string }>(
        '/run',
        job,
      );
      if (code !== 0) throw new Error(`${entrypoint} ended with ${code ?? signal}:\n${said}`);
      return said;
    },
    take: () => tell<Seen>('/take'),
    stop: async () => {
      program.signalGroup('SIGKILL');
      await program.ended;
      forwarder.close();
    },
  };
}

/** Sends a request to the program inside a namespace, over its Unix socket. @returns the body of the answer */
export function controlRequest(socketPath: string, path: string, body: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ socketPath, path, method: 'POST' }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => resolve(text));
      response.on('error', reject);
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
