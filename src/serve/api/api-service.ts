/**
 * The API as a service: its HTTP server, which has /health too, and a pool of connections that only reads. It holds no
 * claims, connects to no relay and has no way to write.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import type { ApiConfig } from '../../config/load.ts';
import { ArchiveReader } from '../../database/archive-reader.ts';
import { COMMAND_PATIENCE, type Patience, SERVICE_PATIENCE } from '../../database/connection.ts';
import { type ArchiveStatus, programVersion, readStatus } from '../../runtime/archive-status.ts';
import type { RunnableService } from '../../runtime/entrypoint.ts';
import { isAbort, isExpected, isTransientFailure } from '../../runtime/failure.ts';
import type { ServiceOptions } from '../../runtime/service.ts';
import { type HealthStatus, listenHealth } from '../../telemetry/health.ts';
import { createLogger, type Logger } from '../../telemetry/logger.ts';
import { createMetrics } from '../../telemetry/metrics.ts';
import { StorageStatus } from '../../telemetry/storage-status.ts';
import { buildApi } from './app.ts';
import { Context } from './context.ts';
import { Problem } from './problem.ts';
import { Streams } from './streams.ts';

const CHECK_INTERVAL_MS = 1000;
/** For how long the table of relays and the status are given again, in milliseconds. */
const CACHED_MS = 15_000;
/** A request does not wait longer than this for a connection, in milliseconds: it gets 503 instead. */
const CONNECTION_WAIT_MS = 5000;
/** A statement is tried again for this long after connections were lost, in milliseconds. */
const RETRY_MS = 2000;

export class ApiService implements RunnableService {
  readonly ended: Promise<number>;
  readonly log: Logger;
  readonly #config: ApiConfig;
  readonly #options: ServiceOptions;
  readonly #metrics;
  readonly #storage: StorageStatus;
  readonly #stopping = new AbortController();
  readonly #createdAt = performance.now();
  readonly #streams: Streams;
  #archive: ArchiveReader | null = null;
  #state: HealthStatus['state'] = 'starting';
  #ready = false;
  #port: number | null = null;
  #exitCode = 0;
  #onReady: () => void = () => {};
  #onEnded: (exitCode: number) => void = () => {};

  constructor(config: ApiConfig, options: ServiceOptions) {
    this.#config = config;
    this.#options = options;
    this.ended = new Promise((resolve) => {
      this.#onEnded = resolve;
    });
    this.log = options.log ?? createLogger(config.service, config.logLevel);
    this.#metrics = createMetrics(config.service);
    this.#storage = new StorageStatus(this.log);
    this.#streams = new Streams(config.maxStreams, this.signal);
  }

  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

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

  async start(): Promise<void> {
    const ready = new Promise<void>((resolve) => {
      this.#onReady = resolve;
    });
    void this.#run().then(this.#onEnded);
    await Promise.race([ready, this.ended]);
  }

  stop(reason: string): Promise<number> {
    if (!this.signal.aborted) {
      this.log.info({ signal: reason }, 'stopping');
      this.#stopping.abort();
    }
    return this.ended;
  }

  async #run(): Promise<number> {
    for (const warning of this.#config.warnings) this.log.warn(warning);
    let app: FastifyInstance | undefined;
    try {
      app = await this.#listen();
      const archive = await this.#connect();
      this.#archive = archive;
      this.#ready = true;
      this.#state = 'running';
      this.#onReady();
      if (!this.#options.once) await this.#watch(archive);
    } catch (error) {
      if (!(this.signal.aborted && (isTransientFailure(error) || isAbort(error))))
        this.#fail(error);
    }
    this.#state = 'stopping';
    this.#stopping.abort();
    await app?.close();
    await this.#archive?.close();
    await this.#report();
    this.log.info({ exitCode: this.#exitCode }, 'stopped');
    return this.#exitCode;
  }

  async #connect(): Promise<ArchiveReader> {
    const base = this.#options.once ? COMMAND_PATIENCE : SERVICE_PATIENCE;
    const patience: Patience = {
      ...base,
      connectionWaitMs: CONNECTION_WAIT_MS,
      retryForMs: RETRY_MS,
    };
    const archive = await ArchiveReader.connect(this.#config.database, this.log, {
      patience,
      signal: this.signal,
      onRefused: (reason) => this.#storage.refused(reason),
    });
    this.#storage.noteDatabase(null);
    return archive;
  }

  /** The archive; while the service starts, there is none. @throws Problem */
  #reader(): ArchiveReader {
    if (this.#archive) return this.#archive;
    throw new Problem('unavailable', 'The service has no connection to its database yet.', {
      retryAfter: 5,
    });
  }

  async #readStatus(): Promise<ArchiveStatus> {
    const archive = this.#reader();
    const { databaseDiskPath: dataPath, statusServices: services } = this.#config;
    return readStatus({ archive, services, dataPath });
  }

  async #listen(): Promise<FastifyInstance> {
    const { rateLimit, corsOrigins, trustedProxies, service, health, database } = this.#config;
    const app = await buildApi({
      ...{ service, rateLimit, corsOrigins, trustedProxies },
      version: await programVersion(),
      timeoutMs: database.commandTimeoutMs,
      context: new Context({
        archive: () => this.#reader(),
        streams: this.#streams,
        status: () => this.#readStatus(),
        cachedForMs: CACHED_MS,
      }),
      status: () => this.#status(),
      metrics: () => {
        this.#metrics.streamsOpen(this.#streams.open);
        return this.#metrics.text();
      },
      onAnswered: this.#metrics.requestAnswered,
      onError: (err) => this.log.error({ err }, 'a request failed'),
    });
    const { address, port } = await listenHealth(app, health);
    this.#port = port;
    this.log.info({ host: address, port }, 'the API is served');
    return app;
  }

  /** Checks the database and reports the status, until the service stops. */
  async #watch(archive: ArchiveReader): Promise<void> {
    while (!this.signal.aborted) {
      this.#storage.noteDatabase(await archive.whyDown());
      await this.#report();
      await sleep(CHECK_INTERVAL_MS, undefined, { signal: this.signal }).catch(() => {});
    }
  }

  async #report(): Promise<void> {
    const { onStatus } = this.#options;
    onStatus?.({ service: this.#config.service, status: await this.#status() });
  }

  async #status(): Promise<HealthStatus> {
    return {
      state: this.#state,
      ready: this.#ready,
      ...this.#storage.shown(),
      tor: 'off',
      network: 'off',
      uptimeSeconds: Math.floor((performance.now() - this.#createdAt) / 1000),
      lastRound: null,
      counts: await this.#metrics.counts(),
      details: { streams: this.#streams.open > 0 ? `${this.#streams.open} open` : '' },
    };
  }

  #fail(error: unknown): void {
    this.#exitCode = 1;
    const reason = error instanceof Error ? error.message : String(error);
    const fields = isExpected(error) ? { reason } : { reason, err: error };
    this.log.fatal(fields, 'the service failed');
  }
}
