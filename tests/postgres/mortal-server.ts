import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { processes } from '../processes/programs.ts';
import { projectFile } from '../processes/project.ts';
import { ask } from './archive.ts';
import type { TestDatabase } from './database.ts';

/** A PostgreSQL server with init.sql loaded that can be killed; it comes back on the same port. */
export interface MortalServer {
  readonly database: Pick<TestDatabase, 'config' | 'query'>;
  /** What it said since it was made, as in its log. */
  readonly said: readonly string[];
  /** Whether its main process runs. */
  isRunning(): boolean;
  /** `kill -9` of all its processes at once. Resolves when they are gone. */
  kill(): Promise<void>;
  /** Starts it on the data that are there. @returns `performance.now()` of when it accepted connections */
  start(): Promise<number>;
  /** Ends it in order, if it runs. */
  stop(): Promise<void>;
}

/** Commits wait for the log to be written, so that they outlive the death of the processes. */
const SETTINGS = { synchronous_commit: 'on', max_connections: '50', shared_buffers: '32MB' };

/**
 * @param settings for postgresql.conf, over those of the tests
 * @param port 0, any free one, unless told
 */
export async function startMortalServer(
  dataDir: string,
  settings: Readonly<Record<string, string>> = {},
  port = 0,
): Promise<MortalServer> {
  const server = new Server(dataDir, { ...SETTINGS, ...settings }, port);
  await server.start();
  await server.database.query(await readFile(projectFile('init.sql'), 'utf8'));
  return server;
}

class Server implements MortalServer {
  readonly said: string[] = [];
  readonly database: MortalServer['database'];
  readonly #dataDir: string;
  readonly #settings: Record<string, string>;
  readonly #port: number;
  #running: EmbeddedPostgres | null = null;
  #acceptedAt = 0;

  constructor(dataDir: string, settings: Record<string, string>, port: number) {
    this.#dataDir = dataDir;
    this.#port = port;
    this.#settings = settings;
    const address = () => {
      if (!this.#running) throw new Error('the server was never started');
      const { host, port, user, password, database } = this.#running;
      return { host, port, user, password, database };
    };
    this.database = {
      get config() {
        return address();
      },
      query: (sql, params) => ask(address(), sql, params),
    };
  }

  async start(): Promise<number> {
    const wanted = this.#running?.port ?? this.#port;
    const keep = (line: string) => {
      this.said.push(line);
      if (line.includes('ready to accept connections')) this.#acceptedAt = performance.now();
    };
    this.#running = await startEmbeddedPostgres({
      dataDir: this.#dataDir,
      port: wanted,
      durable: false,
      settings: this.#settings,
      log: { debug: keep, info: keep, warn: keep, error: keep },
    });
    if (wanted !== 0 && this.#running.port !== wanted)
      throw new Error(`port ${wanted} was taken while the server was away`);
    return this.#acceptedAt;
  }

  isRunning(): boolean {
    const pid = this.#pid();
    return pid !== null && processes().some((process) => process.pid === pid);
  }

  async kill(): Promise<void> {
    const main = this.#pid();
    const family = processes().filter(({ pid, parent }) => pid === main || parent === main);
    if (main === null || family.length < 2) throw new Error('there is no server to kill');
    for (const { pid } of family) killIfThere(pid);
    while (processes().some(({ pid }) => family.some((member) => member.pid === pid)))
      await sleep(5);
  }

  async stop(): Promise<void> {
    await this.#running?.stop();
  }

  #pid(): number | null {
    try {
      return Number.parseInt(readFileSync(join(this.#dataDir, 'postmaster.pid'), 'utf8'), 10);
    } catch {
      return null;
    }
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
