import { setMaxListeners } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bigbrotr } from './bigbrotr.ts';
import { ConfigError, type DatabaseConfig, type HealthConfig, type TorConfig } from './config.ts';
import { DatabaseError, startWaitOf } from './database.ts';
import { waitForDatabase } from './database-wait.ts';
import { buildHealthApp, type HealthStatus, ListenError, listenHealth } from './health.ts';
import { createLogger, type Logger } from './logger.ts';
import { createMetrics, type Metrics } from './metrics.ts';
import { BlocklistError } from './relay/blocklist.ts';
import { StorageStatus } from './storage-status.ts';

/** What a service needs to know of its configuration; each service has more of its own. */
export interface ServiceConfig {
  readonly service: string;
  readonly logLevel: string;
  readonly database: DatabaseConfig;
  readonly tor: TorConfig | null;
  readonly health: HealthConfig;
  readonly shutdownTimeoutMs: number;
  readonly warnings: readonly string[];
}

/** What the work of a service is given. */
export interface Service {
  readonly bigbrotr: Bigbrotr;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Aborts when the service is told to stop. */
  readonly signal: AbortSignal;
  /** Whether only what is due at the start is wanted (`--once`). */
  readonly once: boolean;
  /** Adds to a figure of `/health`. */
  count(name: string, by?: number): void;
  /** The present value of such a figure. */
  counted(name: string): number;
  /** Sets a text of `/health`. */
  detail(name: string, text: string): void;
  /** Tells whether the database took what was archived, or which relay's it did not and why: then the service is not ready. */
  stored(works: boolean, why?: string): void;
  /** Hears whether Tor had a circuit when a relay was to be reached through it. */
  torSeen(works: boolean): void;
  /** Whether Tor was lately found not to work: nobody needs to be asked for through it. */
  torIsDown(): boolean;
  /** Ends the service as failed: it cannot work any more. */
  fail(reason: string): void;
  /** Whether relays are being visited now, or the service waits until some are due. */
  busy(isBusy: boolean): void;
  /** Reports a round: in the log, the metrics and as `lastRound` of `/health`. */
  roundFinished(round: Round): void;
}

/**
 * A report over a stretch of time: from a visit that began while nothing was under way to the moment when everything
 * that was due has been visited, or a part of that where it takes long. Nobody waits for its end.
 */
export interface Round {
  readonly startedAt: Date;
  /** Visits that ended. */
  readonly relays: number;
  readonly failed: number;
}

/** The work of a service. */
export interface Work {
  /** Works until the signal of the service aborts; with `--once` until everything is done that was due. @throws DatabaseError */
  run(): Promise<void>;
  /** Lets what runs end early, so that `run` ends too, and frees what is held. Called once. */
  stop(): Promise<void>;
}

/** Sent to a parent process that asked for it (`fork`), and shown on `/health`. */
export interface StatusReport {
  readonly service: string;
  readonly status: HealthStatus;
}

const CHECK_INTERVAL_MS = 1000;
const TOR_CHECK_MS = 2000;
/** Tor that was found without a circuit is tried again after so long, in milliseconds. */
const NO_CIRCUIT_MS = 30_000;
const WARN_ABOVE_FAILED_SHARE = 0.1;

/**
 * The life of a service: configuration, health port, database, work, and an orderly end. SIGTERM and
 * SIGINT stop the work, store what is under way and exit 0; what is not stored in time is not claimed either.
 * With `--once` it does what is due at its start and exits, 1 when that failed.
 *
 * @param load reads the configuration; its mistakes are printed all at once, and the exit code is 1.
 * @param begin starts the work when the database answers.
 */
export async function runService<Config extends ServiceConfig>(
  load: () => Config,
  begin: (config: Config, service: Service) => Promise<Work>,
): Promise<void> {
  let config: Config;
  let once: boolean;
  try {
    once = parseArguments(process.argv.slice(2));
    const loaded = load();
    // A service waits for its database; whoever waits for the end of --once is told after a minute.
    config = { ...loaded, database: { ...loaded.database, waitsForever: !once } };
  } catch (error) {
    process.exitCode = 1;
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    return;
  }
  const life = new ServiceLife(config, once);
  process.exitCode = await life.run((service) => begin(config, service));
}

/** @returns whether `--once` was given. @throws ConfigError for anything else. */
export function parseArguments(given: readonly string[]): boolean {
  const unknown = given.filter((argument) => argument !== '--once');
  if (unknown.length > 0) {
    throw new ConfigError([`unknown argument ${unknown.join(' ')}: the only one is --once`]);
  }
  return given.includes('--once');
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

/** Whether an error of the database may end by itself. */
export function isPassing(error: unknown): error is DatabaseError {
  return error instanceof DatabaseError && !error.permanent;
}

class ServiceLife {
  readonly #config: ServiceConfig;
  readonly #once: boolean;
  readonly #log: Logger;
  readonly #metrics: Metrics;
  readonly #stopping = new AbortController();
  readonly #started = Date.now();
  readonly #counts: Record<string, number> = {};
  readonly #details: Record<string, string> = {};
  #state: HealthStatus['state'] = 'starting';
  readonly #storage: StorageStatus;
  #tor: HealthStatus['tor'];
  /** When relays could last not be reached because Tor had no circuit; null while it has one. */
  #noCircuitAt: number | null = null;
  #torWasLookedAt = false;
  #ready = false;
  #lastRound: HealthStatus['lastRound'] = null;
  #exitCode = 0;

  constructor(config: ServiceConfig, once: boolean) {
    this.#config = config;
    this.#once = once;
    setMaxListeners(0, this.#stopping.signal); // one for each relay that is waited for: many is no leak
    this.#log = createLogger(config.service, config.logLevel);
    this.#storage = new StorageStatus(this.#log);
    this.#metrics = createMetrics(config.service);
    this.#tor = config.tor ? 'down' : 'off';
  }

  async run(begin: (service: Service) => Promise<Work>): Promise<number> {
    for (const warning of this.#config.warnings) this.#log.warn(warning);
    this.#stopping.signal.addEventListener('abort', () => this.#limitEnd(), { once: true });
    for (const signal of ['SIGTERM', 'SIGINT'] as const)
      process.on(signal, () => this.#stop(signal));
    // A parent that was killed cannot stop us: without this we would go on and keep the health port.
    process.once('disconnect', () => this.#stop('disconnect'));
    const app = buildHealthApp({
      service: this.#config.service,
      status: () => this.#status(),
      metrics: () => this.#metrics.text(),
      onError: (err) => this.#log.error({ err }, 'a health request failed'),
    });
    let bigbrotr: Bigbrotr | undefined;
    try {
      const address = await listenHealth(app, this.#config.health);
      this.#log.info({ host: address.address, port: address.port }, 'health is served');
      const own = { ...this.#config.database, minPool: 0, maxPool: 2 };
      bigbrotr = await Bigbrotr.connect(own, this.#log, this.#waiting());
      this.#storage.noteDatabase(null);
      const work = await this.#begin(begin, this.#service(bigbrotr));
      this.#ready = true;
      await this.#do(work, bigbrotr);
    } catch (error) {
      // Shutting down while the database is unreachable is not a failure.
      if (!(this.#stopping.signal.aborted && (isPassing(error) || isAbort(error))))
        this.#fail(error);
    }
    this.#state = 'stopping';
    await this.#end(async () => {
      await bigbrotr?.close();
      await app.close();
    });
    return this.#exitCode;
  }

  /** Starts the work, again while that fails because the database is away. */
  #begin(begin: (service: Service) => Promise<Work>, service: Service): Promise<Work> {
    const waitMs = startWaitOf(this.#config.database);
    return waitForDatabase(() => begin(service), { log: this.#log, waitMs, ...this.#waiting() });
  }

  #waiting() {
    const onRefused = (reason: string) => this.#storage.refused(reason);
    return { signal: this.#stopping.signal, onRefused };
  }

  #service(bigbrotr: Bigbrotr): Service {
    return {
      bigbrotr,
      log: this.#log,
      metrics: this.#metrics,
      signal: this.#stopping.signal,
      once: this.#once,
      count: (name, by = 1) => {
        this.#counts[name] = (this.#counts[name] ?? 0) + by;
      },
      counted: (name) => this.#counts[name] ?? 0,
      detail: (name, text) => {
        this.#details[name] = text;
      },
      stored: (works, why = '') => this.#storage.noteStored(works, why),
      torSeen: (works) => {
        this.#noCircuitAt = works ? null : performance.now();
      },
      torIsDown: () => this.#torIsDown(),
      fail: (reason) => this.#fail(new Error(reason)),
      busy: (isBusy) => {
        if (!this.#stopping.signal.aborted) this.#state = isBusy ? 'running' : 'waiting';
      },
      roundFinished: (round) => this.#finishRound(round),
    };
  }

  async #do(work: Work, bigbrotr: Bigbrotr): Promise<void> {
    const others = Promise.all([this.#watch(bigbrotr), this.#stopInTime(work)]);
    try {
      this.#state = 'waiting';
      await work.run();
    } finally {
      this.#stopping.abort(); // ends the watch and the work too
      await others;
    }
  }

  /** The work waits for its visits, and only this makes them end early: so it does not wait for the work. */
  async #stopInTime(work: Work): Promise<void> {
    const { signal } = this.#stopping;
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await work.stop();
  }

  #finishRound({ startedAt, relays, failed }: Round): void {
    const seconds = (Date.now() - startedAt.getTime()) / 1000;
    this.#metrics.roundFinished(seconds);
    this.#lastRound = {
      startedAt: startedAt.toISOString(),
      finishedAt: new Date().toISOString(),
      seconds,
      relays,
      failed,
    };
    const fields = { relays, failed, seconds };
    if (failed > relays * WARN_ABOVE_FAILED_SHARE) {
      this.#log.warn(fields, `round finished: ${failed} of ${relays} relays failed`);
    } else this.#log.info(fields, 'round finished');
  }

  /** Looks at database and Tor, and tells the parent process, until the service stops. */
  async #watch(bigbrotr: Bigbrotr): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const [whyDown, tor] = await Promise.all([bigbrotr.whyDown(), this.#torProxy()]);
      this.#storage.noteDatabase(whyDown);
      this.#storage.logStoring();
      this.#noteTor(tor);
      this.#report();
      await sleep(CHECK_INTERVAL_MS, undefined, { signal }).catch(() => {});
    }
  }

  #note(what: string, before: string, now: string): void {
    if (before === now) return;
    if (now === 'down') this.#log.error(`${what} is down`);
    else if (now === 'no_circuit') this.#log.error('tor is up and has no circuit');
    else this.#log.info(`${what} is ${now}`);
  }

  /** What is known of circuits was found out by relays that were to be reached; a Tor that comes back begins anew. */
  #noteTor(proxy: 'up' | 'down' | 'off'): void {
    if (this.#tor === 'down' && proxy === 'up') this.#noCircuitAt = null;
    const now = proxy === 'up' && this.#noCircuitAt !== null ? 'no_circuit' : proxy;
    this.#note('tor', this.#tor, now);
    this.#tor = now;
    this.#torWasLookedAt = true;
  }

  #torProxy(): Promise<'up' | 'down' | 'off'> {
    const { tor } = this.#config;
    if (!tor) return Promise.resolve('off');
    return new Promise((resolve) => {
      const socket = connect({ host: tor.host, port: tor.port, timeout: TOR_CHECK_MS });
      const finish = (state: 'up' | 'down') => {
        socket.destroy();
        resolve(state);
      };
      socket.once('connect', () => finish('up'));
      socket.once('timeout', () => finish('down'));
      socket.once('error', () => finish('down'));
    });
  }

  #torIsDown(): boolean {
    if (this.#torWasLookedAt && this.#tor === 'down') return true;
    return this.#noCircuitAt !== null && performance.now() - this.#noCircuitAt < NO_CIRCUIT_MS;
  }

  #report(): void {
    const report: StatusReport = { service: this.#config.service, status: this.#status() };
    // The parent may be gone, which is heard of as 'disconnect'.
    if (process.connected) process.send?.(report, undefined, undefined, () => {});
  }

  #status(): HealthStatus {
    return {
      state: this.#state,
      ready: this.#ready,
      ...this.#storage.shown(),
      tor: this.#tor,
      uptimeSeconds: Math.floor((Date.now() - this.#started) / 1000),
      lastRound: this.#lastRound,
      counts: { ...this.#counts },
      details: { ...this.#details },
    };
  }

  #stop(signal: string): void {
    if (this.#stopping.signal.aborted) return;
    this.#log.info({ signal }, 'stopping: what is under way is stored first');
    this.#state = 'stopping';
    this.#stopping.abort();
  }

  #fail(error: unknown): void {
    this.#exitCode = 1;
    const expected =
      error instanceof ListenError ||
      error instanceof DatabaseError ||
      error instanceof ConfigError ||
      error instanceof BlocklistError;
    const reason = error instanceof Error ? error.message : String(error);
    this.#log.fatal(expected ? { reason } : { reason, err: error }, 'the service cannot go on');
    this.#stopping.abort();
  }

  /** From the moment it is told to stop, the service ends by force shortly before the time for it is over. */
  #limitEnd(): void {
    const force = setTimeout(
      () => {
        this.#log.warn(
          'the end took too long: what was not stored is not claimed, and is read again next time',
        );
        process.exit(this.#exitCode);
      },
      Math.max(500, this.#config.shutdownTimeoutMs - 1000),
    );
    force.unref();
  }

  async #end(close: () => Promise<void>): Promise<void> {
    this.#report();
    await close().catch((err) => this.#log.error({ err }, 'closing failed'));
    this.#report();
    this.#log.info({ exitCode: this.#exitCode }, 'stopped');
    if (process.connected) process.disconnect();
  }
}
