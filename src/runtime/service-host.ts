/**
 * The run of a service that works on relays or on the archive: it connects, holds claims, starts the work and its worker
 * threads, and ends in an orderly way. `ServiceLife` has the states; this run sets *running* while relays are being visited
 * and *waiting* while none is due.
 *
 * Guaranteed: results in progress are stored before the connections are closed; `/health` answers 503 until the workers have
 * started.
 */
import type { FastifyInstance } from 'fastify';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { startWaitOf } from '../database/connection.ts';
import { waitForDatabase } from '../database/wait.ts';
import { wayOutBy } from '../network/way-out.ts';
import { DiskWatch } from '../telemetry/disk-watch.ts';
import { buildHealthApp, type HealthStatus } from '../telemetry/health.ts';
import { createLogger } from '../telemetry/logger.ts';
import type { PoolUse } from '../telemetry/process-metrics.ts';
import { ClaimKeeper } from './claim-keeper.ts';
import { NetworkStatus } from './network-status.ts';
import type {
  Round,
  Service,
  ServiceConfig,
  ServiceOptions,
  ServiceWork,
  Work,
} from './service.ts';
import { ServiceLife, type ServiceRun } from './service-life.ts';
import { TorStatus } from './tor-status.ts';

const WARN_ABOVE_FAILED_SHARE = 0.1;

/** A service that is not started yet. Its work begins once the database answers. */
export function createService<Config extends ServiceConfig>(
  config: Config,
  work: ServiceWork<Config>,
  options: ServiceOptions,
): ServiceLife {
  const createRun = (life: ServiceLife) => new ServiceHost(life, config, work, options);
  return new ServiceLife(config, options, createRun, work.healthNames);
}

class ServiceHost<Config extends ServiceConfig> implements ServiceRun {
  readonly servedMessage = 'health is served';
  readonly #life: ServiceLife;
  readonly #config: Config;
  readonly #work: ServiceWork<Config>;
  readonly #options: ServiceOptions;
  readonly #tor: TorStatus;
  readonly #network: NetworkStatus;
  readonly #disk: DiskWatch | null;
  readonly #details: Record<string, string> = {};
  /** Visits that failed since the latest report of a round, by reason. */
  #failures: Record<string, number> = {};
  #lastRound: HealthStatus['lastRound'] = null;
  #bigbrotr: Bigbrotr | null = null;
  #claims: ClaimKeeper | null = null;

  constructor(
    life: ServiceLife,
    config: Config,
    work: ServiceWork<Config>,
    options: ServiceOptions,
  ) {
    this.#life = life;
    // A service waits for its database; with --once it gives up after a minute.
    this.#config = { ...config, database: { ...config.database, waitsForever: !options.once } };
    this.#work = work;
    this.#options = options;
    const { log, metrics } = life;
    this.#tor = new TorStatus(config.tor, log);
    const { networkTest, databaseDiskPath } = config;
    const diskLog = options.parentWatchesDisk ? createLogger(config.service, 'silent') : log;
    this.#disk = databaseDiskPath === undefined ? null : new DiskWatch(databaseDiskPath, diskLog);
    this.#network = new NetworkStatus(networkTest && wayOutBy(networkTest), log, (parts) => {
      for (const [part, state] of Object.entries(parts))
        if (state !== 'off') metrics.networkWorks(part, state === 'up');
    });
  }

  buildApp(): FastifyInstance {
    const { log } = this.#life;
    return buildHealthApp({
      service: this.#config.service,
      status: () => this.#life.status(),
      metrics: () => this.#life.scrape(),
      onError: (err) => log.error({ err }, 'a health request failed'),
    });
  }

  async run(): Promise<void> {
    const { log, metrics, signal, storage } = this.#life;
    void this.#disk?.run(signal, (bytes) => metrics.databaseDiskFree(bytes));
    const pool = this.#work.hasWorkers === false ? {} : { minPool: 0, maxPool: 2 };
    const own = { ...this.#config.database, ...pool };
    const bigbrotr = await Bigbrotr.connect(own, log, this.#waiting());
    this.#bigbrotr = bigbrotr;
    storage.noteDatabase(null);
    const service = this.#service(bigbrotr, await this.#keepClaims(bigbrotr));
    const [work] = await Promise.all([
      this.#startWork(service),
      this.#network.begin(), // before any relay is visited
    ]);
    this.#life.becomeReady();
    await this.#runWork(work, bigbrotr);
  }

  async close(): Promise<void> {
    await this.#claims?.stop();
    await this.#bigbrotr?.close();
  }

  pool(): PoolUse | null {
    return this.#bigbrotr?.pool ?? null;
  }

  status(): ReturnType<ServiceRun['status']> {
    return {
      tor: this.#tor.shown,
      ...this.#network.shown,
      ...this.#disk?.shown,
      ...(this.#claims && { claims: this.#claims.shown }),
      lastRound: this.#lastRound,
      details: { ...this.#details },
    };
  }

  /** Starts the work, and retries while the database is unavailable. */
  #startWork(service: Service): Promise<Work> {
    const waitMs = startWaitOf(this.#config.database);
    const workerUrl = this.#options.workerUrl ?? this.#work.workerUrl;
    const begin = () => this.#work.begin(this.#config, service, workerUrl);
    return waitForDatabase(begin, { log: this.#life.log, waitMs, ...this.#waiting() });
  }

  /** Retries while the database is unavailable. */
  async #keepClaims({ claims: archive }: Bigbrotr): Promise<ClaimKeeper> {
    const { log, metrics } = this.#life;
    const keeper = new ClaimKeeper({ archive, log, metrics });
    this.#claims = keeper;
    const waitMs = startWaitOf(this.#config.database);
    await waitForDatabase(() => keeper.start(), { log, waitMs, ...this.#waiting() });
    return keeper;
  }

  #waiting() {
    const onRefused = (reason: string) => this.#life.storage.refused(reason);
    return { signal: this.#life.signal, onRefused };
  }

  #service(bigbrotr: Bigbrotr, claims: ClaimKeeper): Service {
    const { log, metrics, repeated, signal, storage } = this.#life;
    return {
      ...{ bigbrotr, claims, log, metrics, signal },
      once: this.#options.once,
      detail: (name, text) => {
        this.#details[name] = text;
      },
      noteStored: (works, reason = '') => storage.noteStored(works, reason),
      logRepeated: (fields, msg) => repeated.note(fields, msg),
      noteCircuit: (works) => this.#tor.noteCircuit(works),
      torIsDown: () => this.#tor.isDown,
      network: this.#network,
      fail: (reason) => this.#life.fail(new Error(reason)),
      setBusy: (isBusy) => this.#life.setState(isBusy ? 'running' : 'waiting'),
      noteFailure: (reason) => {
        this.#failures[reason] = (this.#failures[reason] ?? 0) + 1;
      },
      roundFinished: (round) => this.#finishRound(round),
    };
  }

  async #runWork(work: Work, bigbrotr: Bigbrotr): Promise<void> {
    const { signal } = this.#life;
    const look = async () => {
      const [reason] = await Promise.all([bigbrotr.whyDown(), this.#tor.check(signal)]);
      return reason;
    };
    const others = Promise.all([
      this.#life.watch(look),
      this.#network.watch(signal),
      this.#stopWorkOnAbort(work),
    ]);
    try {
      this.#life.setState('waiting');
      await work.run();
    } finally {
      this.#life.endRun(); // ends the watch and the work too
      await others;
    }
  }

  /** Stops the work when the signal aborts. Does not wait for `run`, which waits for visits that only `stop` ends early. */
  async #stopWorkOnAbort(work: Work): Promise<void> {
    const { signal } = this.#life;
    await new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
    await work.stop();
  }

  #finishRound({ startedAt, relays, failed, heldBack }: Round): void {
    const { log, metrics } = this.#life;
    const seconds = (Date.now() - startedAt.getTime()) / 1000;
    metrics.roundFinished(seconds);
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
      log.warn(fields, 'round finished with many failed relays');
    else log.info(fields, 'round finished');
  }
}

function mostFirst(counts: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(counts).sort(([, a], [, b]) => b - a));
}
