import { rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { ownDirectory } from '../processes/directory.ts';

/**
 * One PostgreSQL server for a whole run of vitest, started when the first test asks for a database. Tests run in
 * processes of their own: they ask over loopback HTTP, and get the address of the server and the template to copy.
 */

declare module 'vitest' {
  interface ProvidedContext {
    databasePort: number;
  }
}

export interface TestServer {
  host: string;
  port: number;
  user: string;
  password: string;
  /** The database to connect to when making another. */
  database: string;
  /** The database that holds init.sql and nothing else. */
  template: string;
  /** Ports of the workers, where the server is the coordinator of Citus; empty: a server of its own. */
  workers: readonly number[];
}

interface RunningServer extends TestServer {
  stop(): Promise<void>;
}

export async function setup(project: TestProject): Promise<() => Promise<void>> {
  let server: Promise<RunningServer> | undefined;
  const answer = async (response: ServerResponse) => {
    try {
      server ??= startServer();
      const { stop: _, ...address } = await server;
      response.end(JSON.stringify(address));
    } catch (error) {
      response.writeHead(500).end(error instanceof Error ? error.message : String(error));
    }
  };
  const listener = createServer((_, response) => void answer(response));
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  project.provide('databasePort', (listener.address() as AddressInfo).port);
  return async () => {
    listener.closeAllConnections();
    await new Promise((done) => listener.close(done));
    const running = await server?.catch(() => undefined);
    await running?.stop();
  };
}

async function startServer(): Promise<RunningServer> {
  const given = citusServer() ?? givenServer();
  const { stop, ...server } = given ? { ...given, stop: async () => {} } : await ownServer();
  const prefix = `bigbrotr_test_${process.pid}_${Date.now().toString(36)}`;
  const template = `${prefix}_template`;
  try {
    await loadTemplate(server, template);
    if (server.workers.length > 0) await closeTemplate(server, template);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    ...server,
    template,
    stop: async () => {
      if (given) await dropAll(server, prefix);
      await stop();
    },
  };
}

type Address = Omit<TestServer, 'template'>;

/** The server named by TEST_POSTGRES_HOST, _PORT, _USER, _PASSWORD, _DB. Its user must be allowed to make databases. */
function givenServer(): Address | null {
  const { env } = process;
  if (!env.TEST_POSTGRES_HOST) return null;
  return {
    host: env.TEST_POSTGRES_HOST,
    port: Number(env.TEST_POSTGRES_PORT ?? 5432),
    user: env.TEST_POSTGRES_USER ?? 'postgres',
    password: env.TEST_POSTGRES_PASSWORD ?? '',
    database: env.TEST_POSTGRES_DB ?? 'postgres',
    workers: [],
  };
}

/** Shards of the test databases: two on each of two workers. */
const SHARDS = 4;

/** Coordinator and workers of Citus on loopback, which TEST_CITUS_PORTS names; `postgres` logs in without a password. */
function citusServer(): Address | null {
  const [port, ...workers] = (process.env.TEST_CITUS_PORTS ?? '').split(',').map(Number);
  if (!port) return null;
  // Not asked for; empty ones are refused by our configuration and by PgBouncer.
  const login = { user: 'postgres', password: 'not-asked-for', database: 'postgres' };
  return { host: '127.0.0.1', port, ...login, workers };
}

async function ownServer(): Promise<Address & { stop(): Promise<void> }> {
  const directory = ownDirectory();
  const lines: string[] = [];
  const keep = (line: string) => void lines.push(line);
  const log = { debug: keep, info: keep, warn: keep, error: (line: string) => console.error(line) };
  const settings = { max_connections: '400', shared_buffers: '128MB', autovacuum_naptime: '10s' };
  const dataDir = join(directory, 'postgres');
  const server = await startEmbeddedPostgres({ dataDir, port: 0, log, durable: false, settings });
  const { host, port, user, password } = server;
  return {
    ...{ host, port, user, password, database: 'postgres', workers: [] },
    stop: async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Coordinator and workers. */
export function nodesOf(server: Address): Address[] {
  return [server, ...server.workers.map((port) => ({ ...server, port }))];
}

async function withClient<T>(
  { workers: _, ...address }: Address,
  use: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(address);
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}

async function loadTemplate(server: Address, template: string): Promise<void> {
  const initSql = await readFile(new URL('../../init.sql', import.meta.url), 'utf8');
  for (const node of nodesOf(server)) {
    await withClient(node, (client) => client.query(`create database ${template}`));
    if (server.workers.length > 0)
      await withClient({ ...node, database: template }, (client) =>
        client.query('create extension citus'),
      );
  }
  await withClient({ ...server, database: template }, async (client) => {
    await client.query(initSql);
    await distribute(client, server);
  });
}

/** Makes the nodes known to each other, and distributes the empty archive. */
async function distribute(client: pg.Client, { host, port, workers }: Address): Promise<void> {
  if (workers.length === 0) return;
  await client.query('select citus_set_coordinator_host($1, $2)', [host, port]);
  for (const worker of workers) await client.query('select citus_add_node($1, $2)', [host, worker]);
  await client.query('select distribute_archive($1)', [SHARDS]);
}

/** Ends the sessions in it, among them those of the daemon of Citus: what somebody is connected to cannot be copied. */
async function closeTemplate(server: Address, template: string): Promise<void> {
  for (const node of nodesOf(server))
    await withClient(node, async (client) => {
      await client.query(`alter database ${template} with allow_connections false`);
      await client.query(
        'select pg_terminate_backend(pid, 10000::bigint) from pg_stat_activity where datname = $1',
        [template],
      );
    });
}

async function dropAll(server: Address, prefix: string): Promise<void> {
  for (const node of nodesOf(server))
    await withClient(node, async (client) => {
      const found = await client.query<{ datname: string }>(
        'select datname from pg_database where starts_with(datname, $1)',
        [prefix],
      );
      for (const { datname } of found.rows) {
        await client.query(`drop database if exists ${datname} with (force)`);
      }
    });
}
