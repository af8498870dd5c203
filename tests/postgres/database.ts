import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { nodesOf, type TestServer } from './global-setup.ts';

export interface TestDatabase {
  config: { host: string; port: number; user: string; password: string; database: string };
  /** The rows of one statement, through a pool of at most four connections. */
  query<Row extends object = Record<string, unknown>>(
    sql: string,
    params?: unknown[],
  ): Promise<Row[]>;
  /** Ends the pool and drops the database, whoever is still connected to it. May be called twice. */
  drop(): Promise<void>;
}

/**
 * A fresh database with init.sql loaded, on the one server of this run: a copy of a template, made in a fraction of
 * a second. Drop it when the test is over; what is forgotten goes with the server. `on` names another server.
 */
export async function testDatabase(on?: TestServer): Promise<TestDatabase> {
  const server = on ?? (await testServer());
  const name = `${server.template.replace(/_template$/, '')}_${randomBytes(6).toString('hex')}`;
  // What no template of ours is copied for has no extension: a database of the coordinator alone.
  const nodes = server.template === 'template0' ? [server] : nodesOf(server);
  for (const node of nodes)
    await onServer(node, `create database ${name} template ${server.template}`);
  // Settings of a database are not copied.
  if (nodes.length > 1)
    await onServer(server, `alter database ${name} set citus.local_table_join_policy = never`);
  const { host, port, user, password } = server;
  const config = { host, port, user, password, database: name };
  const pool = new pg.Pool({ ...config, max: 4 });
  pool.on('error', () => {}); // an idle connection that a test cut off; the next query tells
  let dropped: Promise<void> | undefined;
  const drop = async () => {
    await pool.end();
    for (const node of nodes) await onServer(node, `drop database if exists ${name} with (force)`);
  };
  return {
    config,
    query: async (sql, params) => (await pool.query(sql, params)).rows,
    drop: () => {
      dropped ??= drop();
      return dropped;
    },
  };
}

/** The PostgreSQL server of this run, started when it is asked for first. */
export async function testServer(): Promise<TestServer> {
  const response = await fetch(`http://127.0.0.1:${inject('databasePort')}/`);
  const body = await response.text();
  if (!response.ok) throw new Error(`There is no database for tests: ${body}`);
  return JSON.parse(body);
}

type Node = Omit<TestServer, 'template'>;

async function onServer({ workers: _, ...address }: Node, sql: string): Promise<void> {
  const client = new pg.Client(address);
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
