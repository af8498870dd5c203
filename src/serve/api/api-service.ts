/**
 * The API as a service: its HTTP server, which has /health too, and a pool of connections that only reads. It holds no
 * claims, connects to no relay and has no way to write.
 */
import type { FastifyInstance } from 'fastify';
import type { ApiConfig } from '../../config/load.ts';
import { ArchiveReader } from '../../database/archive-reader.ts';
import { COMMAND_PATIENCE, type Patience, SERVICE_PATIENCE } from '../../database/connection.ts';
import { type ArchiveStatus, programVersion, readStatus } from '../../runtime/archive-status.ts';
import type { ServiceOptions } from '../../runtime/service.ts';
import { ServiceLife, type ServiceRun } from '../../runtime/service-life.ts';
import type { PoolUse } from '../../telemetry/process-metrics.ts';
import { buildApi } from './app.ts';
import { Context } from './context.ts';
import { Problem } from './problem.ts';
import { Streams } from './streams.ts';

/** For how long the table of relays and the status are given again, in milliseconds. */
const CACHED_MS = 15_000;
/** A request does not wait longer than this for a connection, in milliseconds: it gets 503 instead. */
const CONNECTION_WAIT_MS = 5000;
/** A statement is tried again for this long after connections were lost, in milliseconds. */
const RETRY_MS = 2000;

/** The API, not started yet. */
export function createApi(config: ApiConfig, options: ServiceOptions): ServiceLife {
  return new ServiceLife(config, options, (life) => new ApiRun(life, config, options.once));
}

class ApiRun implements ServiceRun {
  readonly servedMessage = 'the API is served';
  readonly #life: ServiceLife;
  readonly #config: ApiConfig;
  readonly #once: boolean;
  readonly #streams: Streams;
  #archive: ArchiveReader | null = null;

  constructor(life: ServiceLife, config: ApiConfig, once: boolean) {
    this.#life = life;
    this.#config = config;
    this.#once = once;
    this.#streams = new Streams(config.maxStreams, life.signal);
  }

  async buildApp(): Promise<FastifyInstance> {
    const { rateLimit, corsOrigins, trustedProxies, service, database } = this.#config;
    const { log, metrics } = this.#life;
    return buildApi({
      ...{ service, rateLimit, corsOrigins, trustedProxies },
      version: await programVersion(),
      timeoutMs: database.commandTimeoutMs,
      context: new Context({
        archive: () => this.#reader(),
        streams: this.#streams,
        status: () => this.#readStatus(),
        cachedForMs: CACHED_MS,
      }),
      status: () => this.#life.status(),
      metrics: () => {
        metrics.streamsOpen(this.#streams.open);
        return this.#life.scrape();
      },
      onAnswered: metrics.requestAnswered,
      onError: (err) => log.error({ err }, 'a request failed'),
    });
  }

  async run(): Promise<void> {
    const archive = await this.#connect();
    this.#archive = archive;
    this.#life.setState('running');
    this.#life.becomeReady();
    if (!this.#once) await this.#life.watch(() => archive.whyDown());
  }

  async close(): Promise<void> {
    await this.#archive?.close();
  }

  pool(): PoolUse | null {
    return this.#archive?.pool ?? null;
  }

  status(): ReturnType<ServiceRun['status']> {
    return {
      tor: 'off',
      network: 'off',
      lastRound: null,
      details: { streams: this.#streams.open > 0 ? `${this.#streams.open} open` : '' },
    };
  }

  async #connect(): Promise<ArchiveReader> {
    const { log, signal, storage } = this.#life;
    const base = this.#once ? COMMAND_PATIENCE : SERVICE_PATIENCE;
    const patience: Patience = {
      ...base,
      connectionWaitMs: CONNECTION_WAIT_MS,
      retryForMs: RETRY_MS,
    };
    const archive = await ArchiveReader.connect(this.#config.database, log, {
      patience,
      signal,
      onRefused: (reason) => storage.refused(reason),
    });
    storage.noteDatabase(null);
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
}
