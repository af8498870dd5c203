import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { WriteStream } from 'node:tty';
import {
  ConfigError,
  type DatabaseConfig,
  type Environment,
  loadAllConfigs,
  loadHealthAddresses,
  loadLocalDataPath,
} from '../config/load.ts';
import { ArchiveReader } from '../database/archive-reader.ts';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { migrateArchive } from '../database/migrate.ts';
import { progressFigures } from '../database/progress-figures.ts';
import { CommandError, isTransientFailure } from '../runtime/failure.ts';
import { DiskWatch, freeBytesOf } from '../telemetry/disk-watch.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { embeddedLogin } from './embedded-access.ts';
import { requireFreePorts } from './free-ports.ts';
import { keepPostgres } from './kept-postgres.ts';
import { keptKeys } from './keys.ts';
import { Progress } from './progress.ts';
import { runServicesOnce, runServicesUntilStopped, type StartService } from './run-services.ts';
import { ServiceProcess } from './service-process.ts';
import { summaryOf } from './summary.ts';
import { apiLine, relayLine } from './usage.ts';

/** The figures of the archive are read this often, in milliseconds. */
const FIGURES_MS = 5000;

interface LocalStackOptions {
  /** Runs each service once, prints a summary, and ends. */
  readonly once: boolean;
  /** Stops everything when it aborts; aborted when something fails that cannot go on. */
  readonly stopping: AbortController;
  readonly out: WriteStream;
}

interface StartedPostgres {
  /** The variables that name it. */
  readonly variables: Environment;
  stop(): Promise<void>;
}

/** The archive and its services on one machine: PostgreSQL in this process's care, each service a child process. */
export class LocalStack {
  readonly #env: Environment;
  readonly #options: LocalStackOptions;
  readonly #folder: string;
  readonly #progress: Progress;
  readonly #log: Logger;
  readonly #startedMs = performance.now();

  private constructor(env: Environment, options: LocalStackOptions) {
    this.#options = options;
    this.#folder = makeFolder(loadLocalDataPath(env));
    this.#env = { ...env, ...keptKeys(env, this.#folder) };
    // Every mistake is reported before anything starts; the login of the embedded server is not known yet.
    const { initializer } = loadAllConfigs(
      env.POSTGRES_HOST ? this.#env : { ...this.#env, ...embeddedLogin('unknown') },
    );
    this.#progress = new Progress(options.out);
    const lines = { write: (line: string) => this.#progress.line(line.trimEnd()) };
    this.#log = createLogger('bigbrotr', initializer.logLevel, lines);
  }

  /** Reads the configuration, and makes the data folder and the key pair when every port is free. @throws ConfigError */
  static async create(env: Environment, options: LocalStackOptions): Promise<LocalStack> {
    await requireFreePorts(loadHealthAddresses(env));
    return new LocalStack(env, options);
  }

  /**
   * Runs until the signal aborts, or with `once` until every service has ended.
   *
   * @returns the exit code
   * @throws CommandError when the embedded PostgreSQL cannot be started, ConfigError, DatabaseError
   */
  async run(): Promise<number> {
    const { signal } = this.#options.stopping;
    let isLost = false;
    const onLost = () => {
      isLost = true;
      this.#options.stopping.abort();
    };
    let postgres: StartedPostgres | null = null;
    try {
      if (!this.#env.POSTGRES_HOST) postgres = await this.#startPostgres(onLost);
      if (signal.aborted) return 0;
      const code = await this.#runServices({ ...this.#env, ...postgres?.variables });
      return isLost ? 1 : code;
    } catch (error) {
      // Shutting down while the database is unreachable is not a failure.
      if (isLost || !signal.aborted || !isEndOfStart(error)) throw error;
      return 0;
    } finally {
      this.#progress.end();
      await postgres?.stop();
    }
  }

  /** The data directory of the embedded PostgreSQL. */
  get #dataDir(): string {
    return resolve(this.#folder, 'postgres');
  }

  async #startPostgres(onLost: () => void): Promise<StartedPostgres> {
    const dataDir = this.#dataDir;
    try {
      const server = await keepPostgres({ dataDir, log: this.#log }, onLost);
      this.#log.info({ port: server.port }, 'PostgreSQL is running');
      const login = embeddedLogin(server.password, server);
      return { variables: { ...login, DATABASE_DISK_PATH: dataDir }, stop: server.stop };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      throw new CommandError(message, { cause: error });
    }
  }

  async #runServices(env: Environment): Promise<number> {
    const { initializer, monitor, api, relay, initSqlPath } = loadAllConfigs(env);
    const { once, stopping, out } = this.#options;
    const { signal } = stopping;
    if (monitor.databaseDiskPath !== undefined)
      void new DiskWatch(monitor.databaseDiskPath, this.#log).run(signal);
    // Without --once the database is waited for; with it this gives up after a minute.
    const database = { ...initializer.database, waitsForever: !once };
    await Bigbrotr.load(database, await readInitSql(initSqlPath), this.#log, { signal });
    const isOurs = !this.#env.POSTGRES_HOST;
    const freeBytes = async () => (isOurs ? freeBytesOf(this.#dataDir) : null);
    await migrateArchive(database, initializer.owner, this.#log, { signal, copy: { freeBytes } });
    const psql = this.#psqlCommand(initializer.database);
    out.write(`\n${psql}\n${once ? '' : apiLine(api.health) + relayLine(relay.listen)}\n`);
    this.#progress.begin();
    const watching = this.#watchArchive(initializer.database, signal);
    const start: StartService = (name, isOnce) =>
      new ServiceProcess(name, { env, once: isOnce, progress: this.#progress, signal });
    const seeded = await start('initializer', true).ended;
    if (seeded !== 0 || signal.aborted) return seeded;
    if (!once) {
      const code = await runServicesUntilStopped(start, stopping, this.#log);
      await watching;
      this.#progress.end();
      if (code === 0) this.#noteEnd();
      return code;
    }
    const code = await runServicesOnce(start, signal);
    this.#progress.end();
    await this.#printSummary(initializer.database);
    return code;
  }

  /** The command that opens the archive. The password that was generated is shown at a terminal and to no file. */
  #psqlCommand(database: DatabaseConfig): string {
    const isGenerated = !this.#env.POSTGRES_HOST;
    if (!isGenerated || this.#options.out.isTTY)
      return `psql "${connectionUrl(database, isGenerated)}"`;
    const file = resolve(this.#folder, 'postgres.password').replaceAll("'", "'\\''");
    return `PGPASSWORD="$(cat '${file}')" psql "${connectionUrl(database, false)}"`;
  }

  /** Reads the figures of the archive for the progress, while a terminal shows it. Never rejects. */
  async #watchArchive(database: DatabaseConfig, signal: AbortSignal): Promise<void> {
    if (!this.#options.out.isTTY) return;
    const silent = createLogger('bigbrotr', 'silent');
    let archive: ArchiveReader | null = null;
    while (!signal.aborted && !this.#progress.hasEnded) {
      try {
        archive ??= await ArchiveReader.connect(database, silent);
        this.#progress.updateArchive(await archive.read(progressFigures));
      } catch {
        // The services say what is wrong with the database.
      }
      await sleep(FIGURES_MS, undefined, { signal }).catch(() => {});
    }
    await archive?.close();
  }

  /** Says what this start brought, and that the next one goes on there. */
  #noteEnd(): void {
    const { events = 0, sightings = 0, relays_checked: checked = 0 } = this.#progress.counts();
    const { out } = this.#options;
    if (!out.isTTY) {
      this.#log.info({ events, sightings, checked }, 'stopped: all received events are stored');
      return;
    }
    const [newEvents, newSightings] = [events, sightings].map((n) => n.toLocaleString('en-US'));
    out.write(
      `Stopped. Archived since this start: ${newEvents} events, ${newSightings} sightings. All of it is stored; the next start goes on there.\n`,
    );
  }

  async #printSummary(database: DatabaseConfig): Promise<void> {
    const bigbrotr = await Bigbrotr.connect(database, this.#log);
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const totals = await bigbrotr.totals();
    this.#options.out.write(summaryOf(totals, this.#progress.counts(), seconds));
    await bigbrotr.close();
  }
}

/** Ctrl-C may also end initdb, which is then a PostgreSQL that could not be started. */
function isEndOfStart(error: unknown): boolean {
  return error instanceof CommandError || isTransientFailure(error);
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

/** @param withPassword only where it was generated: a configured server has a known password */
function connectionUrl(config: DatabaseConfig, withPassword: boolean): string {
  const { host, port, user, password, database } = config;
  const login = encodeURIComponent(user) + (withPassword ? `:${encodeURIComponent(password)}` : '');
  const server = `${host.includes(':') ? `[${host}]` : encodeURIComponent(host)}:${port}`;
  const mode = config.ssl && config.ssl.mode !== 'disable' ? `?sslmode=${config.ssl.mode}` : '';
  return `postgresql://${login}@${server}/${encodeURIComponent(database)}${mode}`;
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
