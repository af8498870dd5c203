/**
 * The life of a service: it listens, runs, reports its status and ends with an exit code. What runs is a `ServiceRun`.
 * Signals, exit code and parent process belong to `entrypoint.ts`.
 *
 * States, as `/health` shows them:
 * - *starting*: the health port listens; the service is not ready yet.
 * - *waiting* and *running*: as the run says with `setState`.
 * - *stopping*: `stop` was called, the run has ended by itself, or something failed.
 *
 * Guaranteed: `ended` never rejects; `/health` answers 503 until the run has called `becomeReady`; `close` of the run is called
 * once, after `run` has settled and the server has stopped listening.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { SCHEMA_VERSION } from '../database/version.ts';
import { type HealthStatus, listenHealth } from '../telemetry/health.ts';
import { createLogger, type Logger } from '../telemetry/logger.ts';
import { createMetrics, type HealthNames, type Metrics } from '../telemetry/metrics.ts';
import type { PoolUse } from '../telemetry/process-metrics.ts';
import { RepeatedErrors } from '../telemetry/repeated-errors.ts';
import { StorageStatus } from '../telemetry/storage-status.ts';
import { programVersion } from './archive-status.ts';
import { isAbort, isExpected, isTransientFailure } from './failure.ts';
import type { ServiceConfig, ServiceOptions } from './service.ts';

const CHECK_INTERVAL_MS = 1000;

/** The part of the configuration that the life of a service needs. */
export type LifeConfig = Pick<
  ServiceConfig,
  'health' | 'logLevel' | 'service' | 'shutdownTimeoutMs' | 'warnings'
>;

/** The fields of `/health` that the life itself knows. */
type LifeStatus = Pick<
  HealthStatus,
  | 'counts'
  | 'database'
  | 'databaseReason'
  | 'ready'
  | 'state'
  | 'storing'
  | 'storingReason'
  | 'uptimeSeconds'
>;

/** What a service does between its start and its end. */
export interface ServiceRun {
  /** What the log says once the server of `buildApp` listens. */
  readonly servedMessage: string;
  /** Makes the HTTP server that has `/health`. Called once, before `run`. */
  buildApp(): FastifyInstance | Promise<FastifyInstance>;
  /** Runs until the signal of the service aborts, or until everything is done. Called once. */
  run(): Promise<void>;
  /** Frees what `run` opened. Called once, after the HTTP server has answered its last request. */
  close(): Promise<void>;
  /** Its connections to the database; null: none yet. */
  pool(): PoolUse | null;
  /** The fields of `/health` that only the run knows. */
  status(): Omit<HealthStatus, keyof LifeStatus>;
}

export class ServiceLife {
  /** Resolves with the exit code once everything is closed: 1 when something failed. Never rejects. */
  readonly ended: Promise<number>;
  readonly log: Logger;
  /** All counters; `/health` reads its figures from them. */
  readonly metrics: Metrics;
  readonly storage: StorageStatus;
  /** Errors that may occur for each relay and each try: logged together. */
  readonly repeated: RepeatedErrors;
  readonly #config: LifeConfig;
  readonly #onStatus: ServiceOptions['onStatus'];
  readonly #run: ServiceRun;
  readonly #stopping = new AbortController();
  readonly #createdAt = performance.now();
  #state: HealthStatus['state'] = 'starting';
  #ready = false;
  #port: number | null = null;
  #exitCode = 0;
  #onReady: () => void = () => {};
  #onEnded: (exitCode: number) => void = () => {};

  /** @param createRun gets this life, whose log, metrics and signal it uses */
  constructor(
    config: LifeConfig,
    { log, onStatus }: Pick<ServiceOptions, 'log' | 'onStatus'>,
    createRun: (life: ServiceLife) => ServiceRun,
    healthNames: HealthNames = {},
  ) {
    this.#config = config;
    this.#onStatus = onStatus;
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
    setMaxListeners(0, this.#stopping.signal); // one for each relay in progress: many are not a leak
    this.log = log ?? createLogger(config.service, config.logLevel);
    this.metrics = createMetrics(config.service, healthNames);
    this.storage = new StorageStatus(this.log);
    this.repeated = new RepeatedErrors(this.log);
    this.#run = createRun(this);
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

  /** The port that it listens on; null while it does not. */
  get port(): number | null {
    return this.#port;
  }

  /** Starts the service. Called once; resolves when it is ready, or has ended without ever being ready. */
  async start(): Promise<void> {
    const ready = new Promise<void>((resolve) => {
      this.#onReady = resolve;
    });
    void this.#live().then(this.#onEnded);
    await Promise.race([ready, this.ended]);
  }

  /** Stops the service after storing the results in progress. @returns the exit code, when it has ended */
  stop(reason: string): Promise<number> {
    if (!this.signal.aborted) {
      this.log.info({ signal: reason }, 'stopping');
      this.endRun();
    }
    return this.ended;
  }

  /** Stops the service with exit code 1. */
  fail(error: unknown): void {
    this.#exitCode = 1;
    const reason = error instanceof Error ? error.message : String(error);
    const fields = isExpected(error) ? { reason } : { reason, err: error };
    this.log.fatal(fields, 'the service failed');
    this.endRun();
  }

  /** Aborts the signal: whatever still runs has to end. */
  endRun(): void {
    this.#state = 'stopping';
    this.#stopping.abort();
  }

  /** The run has everything that it needs: `start` resolves, and `/health` may answer 200. */
  becomeReady(): void {
    this.#ready = true;
    this.#onReady();
  }

  /** Sets the state that `/health` shows, unless the service is stopping. */
  setState(state: 'running' | 'waiting'): void {
    if (!this.signal.aborted) this.#state = state;
  }

  /**
   * Notes once a second what keeps the database from answering, logs what is due and reports the status, until the service
   * stops.
   * @param look gives that, or null while it answers
   */
  async watch(look: () => Promise<string | null>): Promise<void> {
    while (!this.signal.aborted) {
      this.storage.noteDatabase(await look());
      this.storage.logStoring();
      this.repeated.logDue();
      await this.#report();
      await sleep(CHECK_INTERVAL_MS, undefined, { signal: this.signal }).catch(() => {});
    }
  }

  /** Everything that `/health` shows. */
  async status(): Promise<HealthStatus> {
    const counts = await this.metrics.counts();
    return {
      state: this.#state,
      ready: this.#ready,
      ...this.storage.shown(),
      uptimeSeconds: Math.floor((performance.now() - this.#createdAt) / 1000),
      counts,
      ...this.#run.status(),
    };
  }

  /** The text for Prometheus, with what is true now of the service. */
  async scrape(): Promise<string> {
    const build = { version: await programVersion(), schema: SCHEMA_VERSION };
    this.metrics.processState(build, await this.status(), this.#run.pool());
    return this.metrics.text();
  }

  async #live(): Promise<number> {
    for (const warning of this.#config.warnings) this.log.warn(warning);
    let app: FastifyInstance | undefined;
    try {
      app = await this.#run.buildApp();
      const { address, port } = await listenHealth(app, this.#config.health);
      this.#port = port;
      this.log.info({ host: address, port }, this.#run.servedMessage);
      await this.#run.run();
    } catch (error) {
      // Shutting down while the database is unreachable is not a failure.
      if (!(this.signal.aborted && (isTransientFailure(error) || isAbort(error)))) this.fail(error);
    }
    this.endRun();
    await this.#close(app);
    return this.#exitCode;
  }

  async #report(): Promise<void> {
    if (!this.#onStatus) return;
    this.#onStatus({ service: this.#config.service, status: await this.status() });
  }

  async #close(app: FastifyInstance | undefined): Promise<void> {
    await this.#report();
    try {
      await app?.close();
      await this.#run.close();
    } catch (err) {
      this.log.error({ err }, 'closing failed');
    }
    this.repeated.flush();
    this.#port = null;
    await this.#report();
    this.log.info({ exitCode: this.#exitCode }, 'stopped');
  }
}
