import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import type { SynchronizerConfig } from '../../../src/config/load.ts';
import { Bigbrotr, type Relay } from '../../../src/database/bigbrotr.ts';
import { Scheduler } from '../../../src/runtime/scheduler.ts';
import type { Progress } from '../../../src/sync/visit.ts';
import type { VisitReport } from '../../../src/sync/visit-relay.ts';
import { projectFile } from '../../processes/project.ts';
import { relayAddress } from '../../relay/relays.ts';
import type { BenchDatabase, BenchServer } from './server.ts';

export const silent = pino({ level: 'silent' });

/** What a worker of the synchronizer is told: the defaults, private relays allowed. */
function synchronizerConfig(db: BenchDatabase): SynchronizerConfig {
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
    numCores: 1,
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

/** The archive as it is: its database, and one real worker thread of the synchronizer. */
export class Pipeline {
  readonly db: BenchDatabase;
  readonly bigbrotr: Bigbrotr;
  readonly #scheduler: Visits;

  private constructor(db: BenchDatabase, bigbrotr: Bigbrotr, scheduler: Visits) {
    this.db = db;
    this.bigbrotr = bigbrotr;
    this.#scheduler = scheduler;
  }

  static async start(server: BenchServer, name: string): Promise<Pipeline> {
    const db = await server.create(name, readFileSync(projectFile('init.sql'), 'utf8'));
    const scheduler: Visits = new Scheduler({
      workerUrl: new URL('../../../src/sync/worker.js', import.meta.url),
      workerData: synchronizerConfig(db),
      workers: 1,
      jobsPerWorker: 10,
      log: silent,
      onDead: (reason) => {
        throw new Error(`the worker of the bench died: ${reason}`);
      },
    });
    await scheduler.start();
    return new Pipeline(db, await Bigbrotr.connect(db.config, silent), scheduler);
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
  async visit(url: string, expected: { events: number; sightings: number }): Promise<number> {
    const relay = await this.relay(url);
    const started = performance.now();
    const outcome = await this.#scheduler.run(url, relay);
    const seconds = (performance.now() - started) / 1000;
    if (!outcome.ok) throw new Error(`the visit to ${url} was lost: ${outcome.reason}`);
    const { result } = outcome;
    const { events, sightings } = result;
    const same = events === expected.events && sightings === expected.sightings;
    if (!same || result.outcome !== 'complete')
      throw new Error(`expected ${JSON.stringify(expected)}, but: ${JSON.stringify(result)}`);
    return seconds;
  }

  /** Empties the archive; what it takes to be full again begins with a checkpoint for everybody. */
  async clear(): Promise<void> {
    await this.empty();
    await this.db.query('checkpoint');
  }

  /** Empties the archive, and no more. */
  async empty(): Promise<void> {
    await this.db.query('truncate relays, events, sightings cascade');
  }

  async close(): Promise<void> {
    await this.#scheduler.stop();
    await this.bigbrotr.close();
    await this.db.drop();
  }
}
