/**
 * The life cycle of a service, from its configuration to an orderly end. Signals, exit code and parent process belong to
 * `entrypoint.ts`.
 *
 * States, as `/health` shows them:
 * - *starting*: the health port listens; the service waits for the database and starts its workers.
 * - *waiting* and *running*: the work runs; relays are being visited (*running*) or none is due (*waiting*).
 * - *stopping*: `stop` was called, the work has ended by itself, or something failed.
 *
 * Guaranteed: `ended` never rejects; results in progress are stored before the connections are closed; `/health` answers
 * 503 until the workers have started.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { startWaitOf } from '../database/connection.ts';
import { waitForDatabase } from '../database/wait.ts';
import { wayOutBy } from '../network/way-out.ts';
import { DiskWatch } from '../telemetry/disk-watch.ts';
import { buildHealthApp, type HealthStatus, listenHealth } from '../telemetry/health.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';
import { RepeatedErrors } from '../telemetry/repeated-errors.ts';
import { StorageStatus } from '../telemetry/storage-status.ts';
import { ClaimKeeper } from './claim-keeper.ts';
import { isAbort, isExpected, isTransientFailure } from './failure.ts';
import { NetworkStatus } from './network-status.ts';
import type {
  Round,
  Service,
  ServiceConfig,
  ServiceOptions,
  ServiceWork,
  StatusReport,
  Work,
} from './service.ts';
import { TorStatus } from './tor-status.ts';

const CHECK_INTERVAL_MS = 1000;
const WARN_ABOVE_FAILED_SHARE = 0.1;

export class ServiceHost<Config extends ServiceConfig = ServiceConfig> {
  /** Resolves with the exit code once everything is closed: 1 when something failed. Never rejects. */
  readonly ended: Promise<number>;
  readonly log: Logger;
  readonly #config: Config;
  readonly #work: ServiceWork<Config>;
  readonly #options: ServiceOptions;
  readonly #metrics: Metrics;
  readonly #storage: StorageStatus;
  readonly #repeated: RepeatedErrors;
  readonly #tor: TorStatus;
  readonly #network: NetworkStatus;
  readonly #disk: DiskWatch | null;
  readonly #app: FastifyInstance;
  readonly #stopping = new AbortController();
  readonly #createdAt = performance.now();
  readonly #details: Record<string, string> = {};
  /** Visits that failed since the latest report of a round, by reason. */
  #failures: Record<string, number> = {};
  #state: HealthStatus['state'] = 'starting';
  #ready = false;
  #healthPort: number | null = null;
  #lastRound: HealthStatus['lastRound'] = null;
  #exitCode = 0;
  #claims: ClaimKeeper | null = null;
  #onReady: () => void = () => {};
  #onEnded: (exitCode: number) => void = () => {};

  constructor(config: Config, work: ServiceWork<Config>, options: ServiceOptions) {
    // A service waits for its database; with --once it gives up after a minute.
    this.#config = { ...config, database: { ...config.database, waitsForever: !options.once } };
    this.#work = work;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
    setMaxListeners(0, this.#stopping.signal); // one for each relay in progress: many are not a leak
    this.log = options.log ?? createLogger(config.service, config.logLevel);
    this.#storage = new StorageStatus(this.log);
    this.#repeated = new RepeatedErrors(this.log);
    this.#tor = new TorStatus(config.tor, this.log);
    this.#metrics = createMetrics(config.service, work.healthNames);
    const { networkTest, databaseDiskPath } = config;
    const diskLog = options.parentWatchesDisk ? createLogger(config.service, 'silent') : this.log;
    this.#disk = databaseDiskPath === undefined ? null : new DiskWatch(databaseDiskPath, diskLog);
    this.#network = new NetworkStatus(networkTest && wayOutBy(networkTest), this.log, (parts) => {
      for (const [part, state] of Object.entries(parts))
        if (state !== 'off') this.#metrics.networkWorks(part, state === 'up');
    });
    this.#app = buildHealthApp({
      service: config.service,
      status: () => this.#status(),
      metrics: () => this.#metrics.text(),
      onError: (err) => this.log.error({ err }, 'a health request failed'),
    });
  }

  /** Aborts when the service has to stop, for whatever reason. */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /** The exit code so far; final once `ended` has resolved. */
  get exitCode(): number {
    return this.#exitCode;
  }

  get shutdownTimeoutMs(): number {
    return this.#config.shutdownTimeoutMs;
  }

  /** The port of `/health`; null while it does not listen. */
  get healthPort(): number | null {
    return this.#healthPort;
  }

  /** Starts the service. Called once; resolves when it is ready, or has ended without ever being ready. */
  async start(): Promise<void> {
    const ready = new Promise<void>((resolve) => {
      this.#onReady = resolve;
    });
    void this.#run().then(this.#onEnded);
    await Promise.race([ready, this.ended]);
  }

  /** Stops the service after storing the results in progress. @returns the exit code, when it has ended */
  stop(reason: string): Promise<number> {
    if (!this.#stopping.signal.aborted) {
      this.log.info({ signal: reason }, 'stopping: events in flight are stored first');
      this.#state = 'stopping';
      this.#stopping.abort();
    }
    return this.ended;
  }

  async #run(): Promise<number> {
    for (const warning of this.#config.warnings) this.log.warn(warning);
    let bigbrotr: Bigbrotr | undefined;
    void this.#disk?.run(this.signal, (bytes) => this.#metrics.databaseDiskFree(bytes));
    try {
      const address = await listenHealth(this.#app, this.#config.health);
      this.#healthPort = address.port;
      this.log.info({ host: address.address, port: address.port }, 'health is served');
      const own = { ...this.#config.database, minPool: 0, maxPool: 2 };
      bigbrotr = await Bigbrotr.connect(own, this.log, this.#waiting());
      this.#storage.noteDatabase(null);
      const service = this.#service(bigbrotr, await this.#keepClaims(bigbrotr));
      const [work] = await Promise.all([
        this.#startWork(service),
        this.#network.begin(), // before any relay is visited
      ]);
      this.#ready = true;
      this.#onReady();
      await this.#runWork(work, bigbrotr);
    } catch (error) {
      // Shutting down while the database is unreachable is not a failure.
      if (!(this.signal.aborted && (isTransientFailure(error) || isAbort(error))))
        this.#fail(error);
    }
    this.#state = 'stopping';
    await this.#close(bigbrotr);
    return this.#exitCode;
  }

  /** Starts the work, and retries while the database is unavailable. */
  #startWork(service: Service): Promise<Work> {
    const waitMs = startWaitOf(this.#config.database);
    const workerUrl = this.#options.workerUrl ?? this.#work.workerUrl;
    const begin = () => this.#work.begin(this.#config, service, workerUrl);
    return waitForDatabase(begin, { log: this.log, waitMs, ...this.#waiting() });
  }

  /** Retries while the database is unavailable. */
  async #keepClaims({ claims: archive }: Bigbrotr): Promise<ClaimKeeper> {
    const keeper = new ClaimKeeper({ archive, log: this.log, metrics: this.#metrics });
    this.#claims = keeper;
    const waitMs = startWaitOf(this.#config.database);
    await waitForDatabase(() => keeper.start(), { log: this.log, waitMs, ...this.#waiting() });
    return keeper;
  }

  #waiting() {
    const onRefused = (reason: string) => this.#storage.refused(reason);
    return { signal: this.signal, onRefused };
  }

  #service(bigbrotr: Bigbrotr, claims: ClaimKeeper): Service {
    return {
      bigbrotr,
      claims,
      log: this.log,
      metrics: this.#metrics,
      signal: this.signal,
      once: this.#options.once,
      detail: (name, text) => {
        this.#details[name] = text;
      },
      noteStored: (works, reason = '') => this.#storage.noteStored(works, reason),
      logRepeated: (fields, msg) => this.#repeated.note(fields, msg),
      noteCircuit: (works) => this.#tor.noteCircuit(works),
      torIsDown: () => this.#tor.isDown,
      network: this.#network,
      fail: (reason) => this.#fail(new Error(reason)),
      setBusy: (isBusy) => {
        if (!this.signal.aborted) this.#state = isBusy ? 'running' : 'waiting';
      },
      noteFailure: (reason) => {
        this.#failures[reason] = (this.#failures[reason] ?? 0) + 1;
      },
      roundFinished: (round) => this.#finishRound(round),
    };
  }

  async #runWork(work: Work, bigbrotr: Bigbrotr): Promise<void> {
    const others = Promise.all([
      this.#watch(bigbrotr),
      this.#network.watch(this.signal),
      this.#stopWorkOnAbort(work),
    ]);
    try {
      if (!this.signal.aborted) this.#state = 'waiting';
      await work.run();
    } finally {
      this.#stopping.abort(); // ends the watch and the work too
      await others;
    }
  }

  /** Stops the work when the signal aborts. Does not wait for `run`, which waits for visits that only `stop` ends early. */
  async #stopWorkOnAbort(work: Work): Promise<void> {
    await new Promise<void>((resolve) => {
      if (this.signal.aborted) resolve();
      else this.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await work.stop();
  }

  #finishRound({ startedAt, relays, failed, heldBack }: Round): void {
    const seconds = (Date.now() - startedAt.getTime()) / 1000;
    this.#metrics.roundFinished(seconds);
    this.#lastRound = {
      startedAt: startedAt.toISOString(),
      finishedAt: new Date().toISOString(),
      seconds,
      relays,
      failed,
      ...(heldBack > 0 && { heldBack }),
      reasons: mostFirst(this.#failures),
    };
    const { reasons } = this.#lastRound;
    this.#failures = {};
    const fields = {
      ...{ relays, failed, seconds },
      ...(heldBack > 0 && { heldBack }),
      ...(failed > 0 && { reasons }),
    };
    if (failed > relays * WARN_ABOVE_FAILED_SHARE)
      this.log.warn(fields, 'round finished with many failed relays');
    else this.log.info(fields, 'round finished');
  }

  /** Checks database and Tor, and reports the status, until the service stops. */
  async #watch(bigbrotr: Bigbrotr): Promise<void> {
    while (!this.signal.aborted) {
      const [whyDown] = await Promise.all([bigbrotr.whyDown(), this.#tor.check(this.signal)]);
      this.#storage.noteDatabase(whyDown);
      this.#storage.logStoring();
      this.#repeated.logDue();
      await this.#report();
      await sleep(CHECK_INTERVAL_MS, undefined, { signal: this.signal }).catch(() => {});
    }
  }

  async #report(): Promise<void> {
    const { onStatus } = this.#options;
    if (!onStatus) return;
    const report: StatusReport = { service: this.#config.service, status: await this.#status() };
    onStatus(report);
  }

  async #status(): Promise<HealthStatus> {
    const counts = await this.#metrics.counts();
    return {
      state: this.#state,
      ready: this.#ready,
      ...this.#storage.shown(),
      tor: this.#tor.shown,
      ...this.#network.shown,
      ...this.#disk?.shown,
      ...(this.#claims && { claims: this.#claims.shown }),
      uptimeSeconds: Math.floor((performance.now() - this.#createdAt) / 1000),
      lastRound: this.#lastRound,
      counts,
      details: { ...this.#details },
    };
  }

  #fail(error: unknown): void {
    this.#exitCode = 1;
    const reason = error instanceof Error ? error.message : String(error);
    const fields = isExpected(error) ? { reason } : { reason, err: error };
    this.log.fatal(fields, 'the service failed');
    this.#stopping.abort();
  }

  async #close(bigbrotr: Bigbrotr | undefined): Promise<void> {
    await this.#report();
    this.#repeated.flush();
    try {
      await this.#claims?.stop();
      await bigbrotr?.close();
      await this.#app.close();
    } catch (err) {
      this.log.error({ err }, 'closing failed');
    }
    this.#healthPort = null;
    await this.#report();
    this.log.info({ exitCode: this.#exitCode }, 'stopped');
  }
}

function mostFirst(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}
