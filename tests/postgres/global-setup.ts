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
  const given = givenServer();
  const { stop, ...server } = given ? { ...given, stop: async () => {} } : await ownServer();
  const prefix = `bigbrotr_test_${process.pid}_${Date.now().toString(36)}`;
  const template = `${prefix}_template`;
  try {
    await loadTemplate(server, template);
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
  };
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
    ...{ host, port, user, password, database: 'postgres' },
    stop: async () => {
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function withClient<T>(address: Address, use: (client: pg.Client) => Promise<T>): Promise<T> {
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
  await withClient(server, (client) => client.query(`create database ${template}`));
  await withClient({ ...server, database: template }, (client) => client.query(initSql));
}

async function dropAll(server: Address, prefix: string): Promise<void> {
  await withClient(server, async (client) => {
    const found = await client.query<{ datname: string }>(
      'select datname from pg_database where starts_with(datname, $1)',
      [prefix],
    );
    for (const { datname } of found.rows) {
      await client.query(`drop database if exists ${datname} with (force)`);
    }
  });
}
