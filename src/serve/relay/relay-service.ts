/**
 * The relay as a service: the archive over the protocol of Nostr, read-only. It has a port for clients and one for
 * /health, and a pool of connections that only reads. It holds no claims and connects to no relay.
 */
import type { FastifyInstance } from 'fastify';
import type { RelayConfig } from '../../config/load.ts';
import { ArchiveReader } from '../../database/archive-reader.ts';
import { COMMAND_PATIENCE, type Patience, SERVICE_PATIENCE } from '../../database/connection.ts';
import { createVerifier } from '../../nostr/verify.ts';
import { programVersion } from '../../runtime/archive-status.ts';
import type { ServiceOptions } from '../../runtime/service.ts';
import { ServiceLife, type ServiceRun } from '../../runtime/service-life.ts';
import { buildHealthApp } from '../../telemetry/health.ts';
import type { PoolUse } from '../../telemetry/process-metrics.ts';
import { FrequentTags } from '../query/frequent-tags.ts';
import { ClientAddresses } from './client-address.ts';
import { limitsOf, type RelayContext } from './context.ts';
import { informationOf } from './information.ts';
import { LiveFeed } from './live-feed.ts';
import { LiveSubscriptions } from './live-subscriptions.ts';
import { QueryGate } from './query-gate.ts';
import { RateLimit } from './rate-limit.ts';
import { RelayServer } from './server.ts';

/** A request does not wait longer than this for a connection, in milliseconds: it is refused instead. */
const CONNECTION_WAIT_MS = 5000;
/** A statement is tried again for this long after connections were lost, in milliseconds. */
const RETRY_MS = 2000;

/** The relay, not started yet. */
export function createRelay(config: RelayConfig, options: ServiceOptions): ServiceLife {
  return new ServiceLife(config, options, (life) => new RelayRun(life, config, options.once));
}

class RelayRun implements ServiceRun {
  readonly servedMessage = 'health is served';
  readonly #life: ServiceLife;
  readonly #config: RelayConfig;
  readonly #once: boolean;
  readonly #live: LiveSubscriptions;
  #server: RelayServer | null = null;
  #archive: ArchiveReader | null = null;
  #isFollowing = false;

  constructor(life: ServiceLife, config: RelayConfig, once: boolean) {
    this.#life = life;
    this.#config = config;
    this.#once = once;
    this.#live = new LiveSubscriptions(() => life.metrics.relayEventsSent(1));
  }

  pool(): PoolUse | null {
    return this.#archive?.pool ?? null;
  }

  buildApp(): FastifyInstance {
    const { log, metrics } = this.#life;
    return buildHealthApp({
      service: this.#config.service,
      status: () => this.#life.status(),
      metrics: () => {
        metrics.relayClients(this.#server?.connections ?? 0, this.#live.size);
        return this.#life.scrape();
      },
      onError: (err) => log.error({ err }, 'a health request failed'),
    });
  }

  async run(): Promise<void> {
    const { log, signal } = this.#life;
    const server = await this.#listen();
    this.#server = server;
    const archive = await this.#connect();
    this.#archive = archive;
    const feed = new LiveFeed(this.#live, log);
    let following = Promise.resolve();
    const ready = new Promise<void>((resolve) => {
      following = feed.run(archive, signal, resolve);
    });
    await Promise.race([ready, following]);
    this.#isFollowing = true;
    this.#life.setState('running');
    this.#life.becomeReady();
    if (this.#once) this.#life.endRun();
    else await this.#life.watch(() => archive.whyDown());
    await following;
  }

  async close(): Promise<void> {
    await this.#server?.close();
    await this.#archive?.close();
  }

  status(): ReturnType<ServiceRun['status']> {
    const clients = this.#server?.connections ?? 0;
    return {
      tor: 'off',
      network: 'off',
      lastRound: null,
      details: { clients: `${clients} connected, ${this.#live.size} subscriptions` },
    };
  }

  async #listen(): Promise<RelayServer> {
    const config = this.#config;
    const context = await this.#context();
    const server = new RelayServer({
      context,
      information: informationOf(config, context.limits, await programVersion()),
      addresses: new ClientAddresses(config.trustedProxies),
      maxConnections: config.maxConnections,
      maxConnectionsPerAddress: config.maxConnectionsPerAddress,
    });
    const { address, port } = await server.listen(config.listen);
    this.#life.log.info({ host: address, port }, 'the relay is served');
    return server;
  }

  async #context(): Promise<RelayContext> {
    const { log, metrics } = this.#life;
    const config = this.#config;
    return {
      archive: () => (this.#isFollowing ? this.#archive : null),
      gate: new QueryGate(Math.max(1, config.database.maxPool - 1)), // one is for new events
      rate: new RateLimit(config.rateLimit),
      live: this.#live,
      tags: new FrequentTags(),
      limits: limitsOf(config),
      ...{ log, metrics },
      verifier: await createVerifier(),
      authUrl: config.authUrl,
      readers: new Set(config.readers),
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
}
