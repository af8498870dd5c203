import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import type { SynchronizerConfig } from '../../../src/config/load.ts';
import { Bigbrotr, type Relay } from '../../../src/database/bigbrotr.ts';
import { Scheduler } from '../../../src/runtime/scheduler.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import type { Progress } from '../../../src/sync/visit.ts';
import type { VisitReport } from '../../../src/sync/visit-relay.ts';
import { projectFile } from '../../processes/project.ts';
import { relayAddress } from '../../relay/relays.ts';
import type { BenchDatabase, BenchServer } from './server.ts';

export const silent = pino({ level: 'silent' });

/** What a worker of the synchronizer is told: the defaults, private relays allowed. */
function synchronizerConfig(db: BenchDatabase, numCores: number): SynchronizerConfig {
  return {
    service: 'synchronizer',
    logLevel: 'silent',
    allowPrivateRelays: true,
    shutdownTimeoutMs: 10_000,
    database: db.config,
    warnings: [],
    tor: null,
    networkTest: null,
    health: { host: '127.0.0.1', port: 0, portVariable: '' },
    blocklistPath: null,
    numCores,
    requestsPerCore: 10,
    requestTimeoutMs: 20_000,
    loopIntervalSeconds: 900,
    keys: null,
    startTimestamp: 0,
    stopTimestamp: 'now',
    eventFilter: {},
    priorityRelaysPath: '',
    relayMetadataThresholdSeconds: 43_200,
    batchSize: 500,
    overlapSeconds: 3600,
    reproveSeconds: 30 * 86_400,
    live: false,
  };
}

type Visits = Scheduler<Relay, VisitReport, Progress>;

/** Rows that one visit, or several, have added. */
interface Added {
  readonly events: number;
  readonly sightings: number;
}

/** The archive as it is: its database, and real worker threads of the synchronizer, one unless told otherwise. */
export class Pipeline {
  readonly db: BenchDatabase;
  readonly bigbrotr: Bigbrotr;
  readonly #scheduler: Visits;
  readonly #recentEvents: SharedArrayBuffer;

  private constructor(
    db: BenchDatabase,
    bigbrotr: Bigbrotr,
    scheduler: Visits,
    recentEvents: SharedArrayBuffer,
  ) {
    this.db = db;
    this.bigbrotr = bigbrotr;
    this.#scheduler = scheduler;
    this.#recentEvents = recentEvents;
  }

  static async start(server: BenchServer, name: string, workers = 1): Promise<Pipeline> {
    const db = await server.create(name, readFileSync(projectFile('init.sql'), 'utf8'));
    const recentEvents = RecentEvents.allocate();
    const scheduler: Visits = new Scheduler({
      workerUrl: new URL('../../../src/sync/worker.js', import.meta.url),
      workerData: { ...synchronizerConfig(db, workers), recentEvents },
      workers,
      jobsPerWorker: 10,
      slotOf: ({ relayId }) => relayId,
      log: silent,
      onDead: (reason) => {
        throw new Error(`the worker of the bench died: ${reason}`);
      },
    });
    await scheduler.start();
    return new Pipeline(db, await Bigbrotr.connect(db.config, silent), scheduler, recentEvents);
  }

  async relay(url: string): Promise<Relay> {
    const [relay] = await this.bigbrotr.relaysOf([relayAddress(url)]);
    if (!relay) throw new Error(`the archive does not give back ${url}`);
    return relay;
  }

  /**
   * Visits a relay. @returns seconds from the job to its report
   * @throws Error when it did not archive all of it: a figure for something else would be no figure.
   */
  async visit(url: string, expected: Added): Promise<number> {
    return this.visitAll([url], expected);
  }

  /**
   * Visits relays at the same time. @returns seconds until the last report
   * @throws Error when they did not add these rows together
   */
  async visitAll(urls: readonly string[], expected: Added): Promise<number> {
    const relays = await Promise.all(urls.map((url) => this.relay(url)));
    const started = performance.now();
    const added = await Promise.all(relays.map((relay) => this.#visitOne(relay)));
    const seconds = (performance.now() - started) / 1000;
    const events = added.reduce((sum, one) => sum + one.events, 0);
    const sightings = added.reduce((sum, one) => sum + one.sightings, 0);
    if (events !== expected.events || sightings !== expected.sightings)
      throw new Error(`expected ${JSON.stringify(expected)}, but: ${JSON.stringify(added)}`);
    return seconds;
  }

  async #visitOne(relay: Relay): Promise<Added> {
    const outcome = await this.#scheduler.run(relay.url, relay);
    if (!outcome.ok) throw new Error(`the visit to ${relay.url} was lost: ${outcome.reason}`);
    const { result } = outcome;
    if (result.outcome !== 'complete')
      throw new Error(`the visit to ${relay.url} is not complete: ${JSON.stringify(result)}`);
    return { events: result.events, sightings: result.sightings };
  }

  /** Lets the workers forget which events they have seen: those of the archive are then as if seen long ago. */
  forget(): void {
    new Int32Array(this.#recentEvents).fill(0);
  }

  /** Empties the archive; what it takes to be full again begins with a checkpoint for everybody. */
  async clear(): Promise<void> {
    await this.empty();
    await this.db.query('checkpoint');
  }

  /** Empties the archive, and no more. */
  async empty(): Promise<void> {
    await this.db.query('truncate relays, events, sightings cascade');
    this.forget();
  }

  async close(): Promise<void> {
    await this.#scheduler.stop();
    await this.bigbrotr.close();
    await this.db.drop();
  }
}
