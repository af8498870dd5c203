/**
 * Entry: the whole archive on one machine, without Docker (`npm start`). It starts an embedded PostgreSQL, or
 * uses the server that POSTGRES_HOST names, loads init.sql and runs the four services as child processes.
 */
import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bigbrotr } from './bigbrotr.ts';
import { ConfigError, type Environment, loadAllConfigs, readEnvironment } from './config.ts';
import { DatabaseError } from './database.ts';
import { startEmbeddedPostgres } from './embedded-postgres.ts';
import { keptKeys } from './local/keys.ts';
import { Progress } from './local/progress.ts';
import { ServiceProcess } from './local/service-process.ts';
import { summaryOf } from './local/summary.ts';
import { createLogger, type Logger } from './logger.ts';
import { parseArguments } from './service.ts';

process.exitCode = await main();

async function main(): Promise<number> {
  try {
    return await runLocally(parseArguments(process.argv.slice(2)));
  } catch (error) {
    const expected = error instanceof ConfigError || error instanceof DatabaseError;
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
  const folder = resolve(given.LOCAL_DATA_PATH || './data');
  mkdirSync(folder, { recursive: true });
  const env: Environment = { ...given, ...keptKeys(given, folder) };
  // Every mistake is told before anything starts; the embedded server's login is not known yet.
  const { initializer } = loadAllConfigs(env.POSTGRES_HOST ? env : { ...env, ...login('unknown') });
  const log = createLogger('bigbrotr', initializer.logLevel);

  const postgres = env.POSTGRES_HOST ? null : await startPostgres(folder, log);
  try {
    const complete = { ...env, ...postgres?.variables };
    return await runServices(complete, { once, started, stopping: stopping.signal, log });
  } finally {
    await postgres?.stop();
  }
}

async function startPostgres(folder: string, log: Logger) {
  const server = await startEmbeddedPostgres({ dataDir: resolve(folder, 'postgres'), log });
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
    POSTGRES_DB: server?.database ?? 'bigbrotr',
  };
}

interface Run {
  readonly once: boolean;
  /** `performance.now()` at the start. */
  readonly started: number;
  readonly stopping: AbortSignal;
  readonly log: Logger;
}

async function runServices(env: Environment, run: Run): Promise<number> {
  const { initializer, initSqlPath } = loadAllConfigs(env);
  const { host, port, user, password, database } = initializer.database;
  await Bigbrotr.load(initializer.database, await readFile(initSqlPath, 'utf8'), run.log);
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  process.stdout.write(`\npsql "postgresql://${login}@${host}:${port}/${database}"\n\n`);

  const progress = new Progress(process.stdout);
  const start = (name: string, once: boolean) =>
    new ServiceProcess(name, { env, once, progress, signal: run.stopping });
  try {
    const seeded = await start('initializer', true).ended;
    if (seeded !== 0 || run.stopping.aborted) return seeded;
    if (!run.once) return await runUntilStopped(start, run);
    const code = await runOnce(start, run.stopping);
    progress.clear();
    const bigbrotr = await Bigbrotr.connect(initializer.database, run.log);
    const seconds = (performance.now() - run.started) / 1000;
    process.stdout.write(summaryOf(await bigbrotr.totals(), progress.counts(), seconds));
    await bigbrotr.close();
    return code;
  } finally {
    progress.end();
  }
}

type Start = (name: string, once: boolean) => ServiceProcess;

async function runOnce(start: Start, stopping: AbortSignal): Promise<number> {
  const monitored = await start('monitor', true).ended;
  if (monitored !== 0 || stopping.aborted) return monitored;
  const codes = await Promise.all(
    ['synchronizer', 'priority-synchronizer'].map((name) => start(name, true).ended),
  );
  return Math.max(...codes);
}

/** A service that ends by itself is started again, as `restart: unless-stopped` does; not when it cannot start at all. */
async function runUntilStopped(start: Start, { stopping, log }: Run): Promise<number> {
  const keepRunning = async (name: string): Promise<number> => {
    for (;;) {
      const service = start(name, false);
      const code = await service.ended;
      if (stopping.aborted) return code;
      if (!service.wasReady) {
        log.fatal({ service: name }, 'a service cannot start: everything stops');
        return 1;
      }
      log.warn({ service: name, code }, 'a service ended, starting it again');
      await sleep(2000, undefined, { signal: stopping }).catch(() => {});
    }
  };
  const names = ['monitor', 'synchronizer', 'priority-synchronizer'];
  return Math.max(...(await Promise.all(names.map(keepRunning))));
}
