import { readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { isAlive } from '../../src/local/postgres-orphan.ts';
import { projectFile } from '../processes/project.ts';
import type { TestDatabase } from './database.ts';

/** A PostgreSQL server of one test file, with init.sql loaded, that may be hurt. */
export interface PrivateServer {
  /** Where it answers now; another port after a start. */
  readonly database: Pick<TestDatabase, 'config' | 'query'>;
  /** Ends it at once, as a crash would: `pg_ctl stop -m immediate`. Resolves when it is gone. */
  crash(): Promise<void>;
  /** Starts it again on the same data, which it then recovers. */
  start(): Promise<void>;
  /** Ends it in order and removes its data. */
  remove(): Promise<void>;
}

/** Commits wait for the log on disk, so that they outlive a crash; a crash of the machine is not tested. */
const SETTINGS = { synchronous_commit: 'on', max_connections: '50', shared_buffers: '32MB' };

/** @param directory of the process; removed with the server */
export async function startPrivateServer(directory: string): Promise<PrivateServer> {
  const server = new Server(join(directory, 'private'), directory);
  await server.start();
  await server.database.query(await readFile(projectFile('init.sql'), 'utf8'));
  return server;
}

class Server implements PrivateServer {
  readonly database: PrivateServer['database'];
  readonly #dataDir: string;
  readonly #directory: string;
  #running: EmbeddedPostgres | null = null;

  constructor(dataDir: string, directory: string) {
    this.#dataDir = dataDir;
    this.#directory = directory;
    const address = () => {
      if (!this.#running) throw new Error('the private server is not running');
      const { host, port, user, password, database } = this.#running;
      return { host, port, user, password, database };
    };
    this.database = {
      get config() {
        return address();
      },
      query: async (sql, params) => {
        const client = new pg.Client(address());
        await client.connect();
        try {
          return (await client.query(sql, params)).rows;
        } finally {
          await client.end();
        }
      },
    };
  }

  async start(): Promise<void> {
    this.#running = await startEmbeddedPostgres({
      dataDir: this.#dataDir,
      port: 0,
      durable: false,
      settings: SETTINGS,
      log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
    });
  }

  async crash(): Promise<void> {
    const [pid] = readFileSync(join(this.#dataDir, 'postmaster.pid'), 'utf8').split('\n');
    this.#running = null;
    process.kill(Number(pid), 'SIGQUIT'); // PostgreSQL, chapter 18.5: immediate shutdown
    while (isAlive(Number(pid))) await sleep(10);
  }

  async remove(): Promise<void> {
    await this.#running?.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
