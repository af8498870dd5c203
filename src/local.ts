/**
 * Entry: the whole archive on one machine, without Docker (`npm start`). It starts an embedded PostgreSQL, or
 * uses the server that POSTGRES_HOST names, makes or migrates the archive and runs the five services as child processes.
 */
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { migrateArchive } from './bigbrotr/migrations.ts';
import { Bigbrotr } from './bigbrotr.ts';
import {
  ConfigError,
  type DatabaseConfig,
  type Environment,
  loadAllConfigs,
  readEnvironment,
} from './config.ts';
import { DatabaseError } from './database.ts';
import { keepPostgres } from './local/kept-postgres.ts';
import { keptKeys } from './local/keys.ts';
import { Progress } from './local/progress.ts';
import { ServiceProcess } from './local/service-process.ts';
import { summaryOf } from './local/summary.ts';
import { createLogger, type Logger } from './logger.ts';
import { isPassing, parseArguments } from './service.ts';

/** Before a service that ended by itself is started again, in milliseconds. */
const RESTART_DELAY_MS = 2000;
/** It doubles while the service cannot start, up to this. */
const LONGEST_RESTART_DELAY_MS = 30_000;

/** The embedded PostgreSQL cannot be started; the message says why and what to do. */
class StartError extends Error {}

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    return await runLocally(parseArguments(process.argv.slice(2)));
  } catch (error) {
    const expected =
      error instanceof ConfigError || error instanceof DatabaseError || error instanceof StartError;
    const said = error instanceof Error ? (expected ? error.message : error.stack) : String(error);
    process.stderr.write(`${said}\n`);
    return 1;
  }
}

async function runLocally(once: boolean): Promise<number> {
  const started = performance.now();
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopping.abort());

  const { env: given } = readEnvironment();
  const folder = makeFolder(given.LOCAL_DATA_PATH || './data');
  const env: Environment = { ...given, ...keptKeys(given, folder) };
  // Every mistake is told before anything starts; the embedded server's login is not known yet.
  const { initializer } = loadAllConfigs(env.POSTGRES_HOST ? env : { ...env, ...login('unknown') });
  const progress = new Progress(process.stdout);
  const lines = { write: (line: string) => progress.line(line.trimEnd()) };
  const log = createLogger('bigbrotr', initializer.logLevel, lines);

  let isLost = false;
  const onLost = () => {
    isLost = true;
    stopping.abort();
  };
  const postgres = env.POSTGRES_HOST ? null : await startPostgres(folder, log, onLost);
  try {
    const complete = { ...env, ...postgres?.variables };
    if (stopping.signal.aborted) return 0;
    const run: Run = { once, started, stopping, progress, log, embedded: postgres !== null };
    const code = await runServices(complete, run);
    return isLost ? 1 : code;
  } catch (error) {
    // Shutting down while the database is unreachable is not a failure.
    if (isLost || !stopping.signal.aborted || !isPassing(error)) throw error;
    return 0;
  } finally {
    progress.end();
    await postgres?.stop();
  }
}

/** @throws ConfigError */
function makeFolder(path: string): string {
  const folder = resolve(path);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new ConfigError([
      `LOCAL_DATA_PATH ${folder} cannot be made a directory (${code}): name one that this user may write to.`,
    ]);
  }
  return folder;
}

/** @throws StartError */
async function startPostgres(folder: string, log: Logger, onLost: () => void) {
  const dataDir = resolve(folder, 'postgres');
  const server = await keepPostgres({ dataDir, log }, onLost).catch((error: unknown) => {
    throw new StartError(error instanceof Error ? error.message : String(error), { cause: error });
  });
  log.info({ port: server.port }, 'PostgreSQL is running');
  return { variables: login(server.password, server), stop: server.stop };
}

function login(
  password: string,
  server?: { host: string; port: number; user: string; database: string },
) {
  return {
    POSTGRES_HOST: server?.host ?? '127.0.0.1',
    POSTGRES_PORT: String(server?.port ?? 5432),
    POSTGRES_USER: server?.user ?? 'bigbrotr',
    POSTGRES_PASSWORD: password,
    POSTGRES_PASSWORD_FILE: '',
    POSTGRES_OWNER_PASSWORD: '',
    POSTGRES_OWNER_PASSWORD_FILE: '',
    POSTGRES_DIRECT_HOST: '',
    POSTGRES_SSL_MODE: 'disable',
    POSTGRES_SSL_CA: '',
    POSTGRES_DB: server?.database ?? 'bigbrotr',
  };
}

interface Run {
  readonly once: boolean;
  /** `performance.now()` at the start. */
  readonly started: number;
  readonly stopping: AbortController;
  readonly progress: Progress;
  readonly log: Logger;
  /** Whether PostgreSQL is our own. */
  readonly embedded: boolean;
}

async function runServices(env: Environment, run: Run): Promise<number> {
  const { initializer, initSqlPath } = loadAllConfigs(env);
  const { progress, log } = run;
  const { signal } = run.stopping;
  // A run that goes on waits for its database; whoever waits for the end of --once is told after a minute.
  const database = { ...initializer.database, waitsForever: !run.once };
  await Bigbrotr.load(database, await readInitSql(initSqlPath), log, { signal });
  await migrateArchive(database, initializer.owner, log, { signal });
  sayHowToConnect(initializer.database, run.embedded);
  progress.begin();
  const start = (name: string, once: boolean) =>
    new ServiceProcess(name, { env, once, progress, signal });
  const seeded = await start('initializer', true).ended;
  if (seeded !== 0 || signal.aborted) return seeded;
  if (!run.once) return await runUntilStopped(start, run);
  const code = await runOnce(start, signal);
  progress.end();
  const bigbrotr = await Bigbrotr.connect(initializer.database, log);
  const seconds = (performance.now() - run.started) / 1000;
  process.stdout.write(summaryOf(await bigbrotr.totals(), progress.counts(), seconds));
  await bigbrotr.close();
  return code;
}

/** The password stands there only when we made it: whoever named a server knows theirs. */
function sayHowToConnect(config: DatabaseConfig, embedded: boolean): void {
  const { host, port, user, password, database } = config;
  const login = encodeURIComponent(user) + (embedded ? `:${encodeURIComponent(password)}` : '');
  const server = `${host.includes(':') ? `[${host}]` : encodeURIComponent(host)}:${port}`;
  const mode = config.ssl && config.ssl.mode !== 'disable' ? `?sslmode=${config.ssl.mode}` : '';
  const url = `postgresql://${login}@${server}/${encodeURIComponent(database)}${mode}`;
  process.stdout.write(`\npsql "${url}"\n\n`);
}

/** @throws ConfigError */
async function readInitSql(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new ConfigError([
      `POSTGRES_DB_INIT_PATH ${resolve(path)} cannot be read (${code}): it must be the init.sql of the project.`,
    ]);
  }
}

type Start = (name: string, once: boolean) => ServiceProcess;

async function runOnce(start: Start, stopping: AbortSignal): Promise<number> {
  const monitored = await start('monitor', true).ended;
  if (monitored !== 0 || stopping.aborted) return monitored;
  const codes = await Promise.all(
    ['synchronizer', 'priority-synchronizer'].map((name) => start(name, true).ended),
  );
  // Last, since it reads what the others have just archived: what it finds is archived the next time.
  const found = stopping.aborted ? 0 : await start('finder', true).ended;
  return Math.max(...codes, found);
}

/**
 * A service that ends by itself is started again, as `restart: unless-stopped` does; not when it never could start. One
 * that was ready before is tried again later and later: what keeps it from its start may pass.
 */
async function runUntilStopped(start: Start, { stopping, log }: Run): Promise<number> {
  const { signal } = stopping;
  const keepRunning = async (name: string): Promise<number> => {
    let hasWorked = false;
    for (let delay = RESTART_DELAY_MS; ; delay = Math.min(2 * delay, LONGEST_RESTART_DELAY_MS)) {
      const service = start(name, false);
      const code = await service.ended;
      if (signal.aborted) return code;
      if (service.wasReady) delay = RESTART_DELAY_MS;
      hasWorked ||= service.wasReady;
      if (!hasWorked) {
        log.fatal({ name }, 'a service cannot start: everything stops');
        stopping.abort();
        return 1;
      }
      log.warn({ name, code, seconds: delay / 1000 }, 'a service ended, starting it again');
      await sleep(delay, undefined, { signal }).catch(() => {});
      if (signal.aborted) return 0;
    }
  };
  const names = ['monitor', 'synchronizer', 'priority-synchronizer', 'finder'];
  return Math.max(...(await Promise.all(names.map(keepRunning))));
}
