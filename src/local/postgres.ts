import type { ChildProcess } from 'node:child_process';
import { existsSync, realpathSync } from 'node:fs';
import { createServer } from 'node:net';
import { basename, dirname, join, resolve } from 'node:path';
import pg from 'pg';
import {
  createCluster,
  holdsData,
  keepPassword,
  makeParent,
  removeUnfinished,
} from './postgres-data.ts';
import type { Launcher, LauncherLog, PostgresPrograms } from './postgres-launcher.ts';
import { follow, installedPrograms, prepareLauncher } from './postgres-launcher.ts';
import * as holder from './postgres-orphan.ts';

/**
 * An embedded PostgreSQL server, for a machine that has nothing but Node.js. It listens on 127.0.0.1 only.
 *
 * It runs in a session of its own, so that Ctrl-C at a terminal reaches only the services, which store what is under way
 * while the database still runs; the caller stops it last. When this process dies before that, the server shuts down by a
 * death signal (Linux), or is stopped by the next start.
 */

export interface EmbeddedPostgresOptions {
  /** The data directory, created at the first start. Its password is kept beside it, in `<dataDir>.password`. */
  dataDir: string;
  /** Preferred port; when it is taken, any free one. */
  port?: number;
  log: LauncherLog;
  /** False: faster, and nothing survives a crash of the machine. For tests. */
  durable?: boolean;
  /** Settings that override postgresql.conf. */
  settings?: Record<string, string>;
  /** Programs to use instead of those that npm installed. */
  programs?: PostgresPrograms;
}

export interface EmbeddedPostgres {
  host: string;
  port: number;
  user: string;
  password: string;
  database: string;
  connectionString: string;
  /** Resolves when it has ended without `stop`, with the reason. */
  died: Promise<Death>;
  /** Fast shutdown: open transactions are rolled back, what is committed stays. May be called twice. */
  stop(): Promise<void>;
}

export interface Death {
  /** Whether it ended because its disk is full. */
  readonly diskFull: boolean;
}

/** PostgreSQL cannot start because its disk is full. The message is one sentence that says what to do. */
export class DiskFullError extends Error {
  override readonly name = 'DiskFullError';
}

const HOST = '127.0.0.1';
const DEFAULT_PORT = 5433; // 5432 is used by a PostgreSQL installed on the machine
const USER = 'bigbrotr';
const DATABASE = 'bigbrotr';
/** A start that takes longer than this is logged, in milliseconds. */
const SLOW_START_MS = 10_000;

/**
 * Starts PostgreSQL on `dataDir`, making the data, the user and the database `bigbrotr` at the first start. Call it
 * from the main thread: the server ends with the thread that started it.
 * Throws one sentence when another start uses the data, when they cannot be reached, or when PostgreSQL fails.
 */
export async function startEmbeddedPostgres(
  options: EmbeddedPostgresOptions,
): Promise<EmbeddedPostgres> {
  const { log } = options;
  const parent = makeParent(dirname(resolve(options.dataDir)));
  const named = join(parent, basename(options.dataDir));
  const dataDir = existsSync(named) ? realpathSync(named) : named;
  const launcher = prepareLauncher(dataDir, options.programs ?? (await installedPrograms()), log);
  const passwordFile = `${dataDir}.password`;
  removeUnfinished(dataDir);
  const exists = holdsData(dataDir, launcher);
  const password = keepPassword(passwordFile, launcher, exists);
  if (!exists) {
    const durable = options.durable ?? true;
    await createCluster(dataDir, launcher, { user: USER, passwordFile, durable, log });
  }
  await holder.releaseDataDirectory(dataDir, log);

  const server = await launch(dataDir, launcher, options);
  const access = { host: HOST, port: server.port, user: USER, password };
  try {
    await ensureDatabase(access, passwordFile);
  } catch (error) {
    await server.stop();
    throw error;
  }
  const connectionString = `postgresql://${USER}:${password}@${HOST}:${server.port}/${DATABASE}`;
  return {
    ...access,
    ...{ database: DATABASE, connectionString, died: server.died, stop: server.stop },
  };
}

interface Server {
  port: number;
  died: Promise<Death>;
  stop(): Promise<void>;
}

async function launch(
  dataDir: string,
  launcher: Launcher,
  options: EmbeddedPostgresOptions,
): Promise<Server> {
  const wanted = options.port ?? DEFAULT_PORT;
  const port = await freePort(wanted);
  if (wanted !== 0 && port !== wanted) {
    options.log.info(`Port ${wanted} is taken: PostgreSQL listens on ${port}.`);
  }
  const settings = {
    listen_addresses: HOST,
    port: `${port}`,
    unix_socket_directories: '',
    ...(options.durable === false && unsafeSettings),
    ...options.settings,
    ...holder.ownership(),
  };
  const postgres = launcher.start('postgres', dataDir, {
    args: Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
    deathSignal: 'INT',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  return watch(postgres, port, dataDir, options.log);
}

const unsafeSettings = { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' };

async function watch(
  postgres: ChildProcess,
  port: number,
  dataDir: string,
  log: LauncherLog,
): Promise<Server> {
  let onReady: (word: 'ready') => void = () => {};
  const ready = new Promise<'ready'>((resolve) => {
    onReady = resolve;
  });
  const output = follow(postgres, (line) => {
    log.debug(line);
    if (line.includes('ready to accept connections')) onReady('ready');
  });
  const note = () => log.info('PostgreSQL is still starting: it recovers what a crash left open.');
  const patience = setInterval(note, SLOW_START_MS);
  const outcome = await Promise.race([ready, output.ended]);
  clearInterval(patience);
  if (outcome !== 'ready') throw await failedStart(dataDir, output.last(), log);

  let stopping: Promise<void> | undefined;
  const { pid } = postgres;
  const onExit = () => postgres.kill('SIGINT');
  process.once('exit', onExit);
  const died = new Promise<Death>((resolve) => {
    void output.ended.then(() => {
      process.removeListener('exit', onExit);
      if (stopping !== undefined) return;
      const full = diskFullLine(output.last());
      log.error(
        full === null
          ? `PostgreSQL ended by itself. Its last lines:\n${output.last()}`
          : `PostgreSQL ended by itself: ${diskIsFull(dataDir, full)}; it is started again when there is room`,
      );
      stopping = Promise.resolve();
      resolve({ diskFull: full !== null });
    });
  });
  const stop = () => {
    stopping ??= pid === undefined ? Promise.resolve() : holder.shutDown(pid, output.ended);
    return stopping;
  };
  return { port, died, stop };
}

async function failedStart(dataDir: string, lastLines: string, log: LauncherLog): Promise<Error> {
  if (/lock file "postmaster.pid" (already exists|is empty)/.test(lastLines)) {
    await holder.releaseDataDirectory(dataDir, log); // finds the process that serves it, and throws
  }
  const full = diskFullLine(lastLines);
  return full === null
    ? new Error(`PostgreSQL did not start on ${dataDir}:\n${lastLines}`)
    : new DiskFullError(`PostgreSQL did not start: ${diskIsFull(dataDir, full)}, then start again`);
}

/** What PostgreSQL says of a full disk, which many other lines may follow; null where it says nothing of one. */
function diskFullLine(lines: string): string | null {
  const line = lines.split('\n').find((text) => /No space left on device/.test(text));
  return line?.replace(/^.*?\b(?=(PANIC|FATAL|ERROR|LOG|WARNING):)/, '') ?? null;
}

const diskIsFull = (dataDir: string, line: string) =>
  `the disk that holds ${dataDir} is full (${line}): free space on it`;

/** `wanted` when it is free on 127.0.0.1, else any free port. */
function freePort(wanted: number): Promise<number> {
  return new Promise((done, fail) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (wanted !== 0 && (error.code === 'EADDRINUSE' || error.code === 'EACCES')) {
        done(freePort(0));
      } else fail(error);
    });
    probe.listen({ host: HOST, port: wanted }, () => {
      const address = probe.address();
      const port = address !== null && typeof address === 'object' ? address.port : wanted;
      probe.close(() => done(port));
    });
  });
}

async function ensureDatabase(
  access: { host: string; port: number; user: string; password: string },
  passwordFile: string,
): Promise<void> {
  const client = new pg.Client({ ...access, database: 'postgres' });
  client.on('error', () => {}); // the query below reports a server that dies
  try {
    await client.connect();
    const known = await client.query('select from pg_database where datname = $1', [DATABASE]);
    if (known.rowCount === 0) await client.query(`create database ${DATABASE}`);
  } catch (error) {
    const refused = error instanceof pg.DatabaseError && error.code === '28P01';
    if (!refused) throw error;
    throw new Error(
      `The password in ${passwordFile} is not that of the archive beside it: put the right one back.`,
      { cause: error },
    );
  } finally {
    await client.end();
  }
}
