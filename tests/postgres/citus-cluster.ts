import { spawnSync } from 'node:child_process';
import { appendFileSync, chownSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { isAlive } from '../../src/local/postgres-orphan.ts';
import { ownDirectory } from '../processes/directory.ts';
import { projectFile } from '../processes/project.ts';
import { freePort } from './pgbouncer.ts';

/** A coordinator and workers of one test file, which may be killed. The programs are those of the server that TEST_CITUS_PORTS names. */
export interface CitusCluster {
  readonly config: {
    host: string;
    port: number;
    user: string;
    password: string;
    database: string;
  };
  /** Ports of the workers. */
  readonly workers: readonly number[];
  /** The rows of one statement on a node, the coordinator unless told. */
  query<Row extends object = Record<string, unknown>>(
    sql: string,
    params?: unknown[],
    port?: number,
  ): Promise<Row[]>;
  /** Ends a node at once, as a crash would. Resolves when it is gone. */
  kill(port: number): Promise<void>;
  /** Starts it again on its data. */
  start(port: number): void;
  remove(): Promise<void>;
}

const DATABASE = 'archive';
/** Of the user nobody, where the tests run as root: PostgreSQL refuses to. */
const NOBODY = 65_534;
const SETTINGS = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_preload_libraries = 'citus'
shared_buffers = 32MB
max_connections = 150
max_prepared_transactions = 150
wal_level = logical
fsync = off
jit = off
citus.enable_statistics_collection = off
citus.node_conninfo = 'sslmode=disable'
citus.recover_2pc_interval = 5s
`;

/** @param shards of events and sightings */
export async function startCitusCluster(workers: number, shards: number): Promise<CitusCluster> {
  const programs = await programsOf(Number((process.env.TEST_CITUS_PORTS ?? '').split(',')[0]));
  const directory = join(ownDirectory(), 'citus');
  mkdirSync(directory, { recursive: true });
  const ports: number[] = [];
  for (let count = 0; count <= workers; count += 1) ports.push(await freePort());
  const cluster = new Cluster(programs, directory, ports);
  try {
    for (const port of ports) await cluster.make(port);
    await cluster.join(shards);
  } catch (error) {
    await cluster.remove();
    throw error;
  }
  return cluster;
}

async function programsOf(port: number): Promise<string> {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  await client.connect();
  const { rows } = await client.query("select setting from pg_config() where name = 'BINDIR'");
  await client.end();
  return rows[0].setting;
}

class Cluster implements CitusCluster {
  readonly config: CitusCluster['config'];
  readonly workers: readonly number[];
  readonly #programs: string;
  readonly #directory: string;

  constructor(programs: string, directory: string, [port = 0, ...workers]: readonly number[]) {
    this.config = { host: '127.0.0.1', port, user: 'postgres', password: '', database: DATABASE };
    this.workers = workers;
    this.#programs = programs;
    this.#directory = directory;
  }

  async make(port: number): Promise<void> {
    const data = this.#dataOf(port);
    mkdirSync(data, { mode: 0o700 });
    if (process.getuid?.() === 0) chownSync(data, NOBODY, NOBODY);
    this.#run('initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync']);
    appendFileSync(join(data, 'postgresql.conf'), `${SETTINGS}port = ${port}\n`);
    this.start(port);
    await this.#ask(port, 'postgres', `create database ${DATABASE}`);
    await this.#ask(port, DATABASE, 'create extension citus');
  }

  /** Makes the nodes known to each other, then the archive. */
  async join(shards: number): Promise<void> {
    await this.query('select citus_set_coordinator_host($1, $2)', ['127.0.0.1', this.config.port]);
    for (const worker of this.workers)
      await this.query('select citus_add_node($1, $2)', ['127.0.0.1', worker]);
    await this.query(await readFile(projectFile('init.sql'), 'utf8'));
    const [row] = await this.query<{ shards: number }>('select archive_shards() as shards');
    if (row?.shards !== shards) throw new Error(`init.sql made ${row?.shards} shards`);
  }

  query: CitusCluster['query'] = (sql, params, port = this.config.port) =>
    this.#ask(port, DATABASE, sql, params);

  async kill(port: number): Promise<void> {
    const [pid] = readFileSync(join(this.#dataOf(port), 'postmaster.pid'), 'utf8').split('\n');
    process.kill(Number(pid), 'SIGQUIT'); // PostgreSQL, chapter 18.5: immediate shutdown
    while (isAlive(Number(pid))) await sleep(10);
  }

  start(port: number): void {
    const data = this.#dataOf(port);
    this.#run('pg_ctl', ['-D', data, '-l', join(data, 'log'), '-w', '-t', '120', 'start']);
  }

  async remove(): Promise<void> {
    for (const port of [this.config.port, ...this.workers]) await this.kill(port).catch(() => {});
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #dataOf(port: number): string {
    return join(this.#directory, `${port}`);
  }

  #run(program: string, args: readonly string[]): void {
    const identity = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
    const { status, stderr, error } = spawnSync(join(this.#programs, program), args, {
      ...identity,
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe'],
      encoding: 'utf8',
    });
    if (status !== 0) throw error ?? new Error(`${program}: ${stderr}`);
  }

  async #ask<Row extends object>(
    port: number,
    database: string,
    sql: string,
    params?: unknown[],
  ): Promise<Row[]> {
    const client = new pg.Client({ ...this.config, port, database });
    client.on('error', () => {}); // its server may be killed
    await client.connect();
    try {
      return (await client.query<Row>(sql, params)).rows;
    } finally {
      await client.end();
    }
  }
}
