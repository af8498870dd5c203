import type { DatabaseConfig, HealthConfig, TorConfig } from '../config/load.ts';
import type { Bigbrotr } from '../database/bigbrotr.ts';
import type { TestHosts } from '../network/own-network.ts';
import type { HealthStatus } from '../telemetry/health.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { HealthNames, Metrics } from '../telemetry/metrics.ts';
import type { ClaimKeeper } from './claim-keeper.ts';
import type { NetworkStatus } from './network-status.ts';

/** The part of the configuration that every service has. */
export interface ServiceConfig {
  readonly service: string;
  readonly logLevel: string;
  readonly database: DatabaseConfig;
  readonly tor: TorConfig | null;
  readonly networkTest: TestHosts | null;
  /** A path on the disk of the database; absent where this machine does not have it. */
  readonly databaseDiskPath?: string;
  readonly health: HealthConfig;
  readonly shutdownTimeoutMs: number;
  readonly warnings: readonly string[];
}

/** How a service is created. */
export interface ServiceOptions {
  /** Whether it visits what is due at the start and then ends (`--once`). */
  readonly once: boolean;
  /** Which of the further arguments of the service were given. Default: none. */
  readonly flags?: readonly string[];
  /** Receives the status of `/health` once a second and twice at the end. */
  readonly onStatus?: (report: StatusReport) => void;
  /** Whether a parent process watches the disk of the database and logs what happens to it. */
  readonly parentWatchesDisk?: boolean;
  /** The file of the worker threads. Default: that of the service. */
  readonly workerUrl?: URL;
  /** Default: standard output. */
  readonly log?: Logger;
}

/** What defines a service: its work, and the names of its visits in `/health`. */
export interface ServiceWork<Config> {
  readonly healthNames: HealthNames;
  /** The file of its worker threads. */
  readonly workerUrl: URL;
  /** Whether they connect to the database: the pool of the configuration is theirs then, else that of the main thread. Default: true. */
  readonly hasWorkers?: boolean;
  /**
   * Starts the work once the database answers.
   *
   * @param config as given, plus how long a start waits for the database
   * @param workerUrl the file of the worker threads to start
   * @throws DatabaseError; it is called again when the error is transient
   */
  begin(config: Config, service: Service, workerUrl: URL): Promise<Work>;
}

/** What the work of a service can know of our own network. */
export type ServiceNetwork = Pick<
  NetworkStatus,
  'canReach' | 'isDown' | 'note' | 'noteWaiting' | 'onReturned' | 'own' | 'whenUp'
>;

/** What the work of a service can use. */
export interface Service {
  readonly bigbrotr: Bigbrotr;
  /** The claims of this process: a relay is worked on only under one. */
  readonly claims: ClaimKeeper;
  readonly log: Logger;
  /** All counters; `/health` reads its figures from them. */
  readonly metrics: Metrics;
  /** Aborts when the service has to stop. */
  readonly signal: AbortSignal;
  /** Whether it ends when everything that was due at the start is done (`--once`). */
  readonly once: boolean;
  /** Sets a text in `details` of `/health`. */
  detail(name: string, text: string): void;
  /**
   * Reports whether the database stores results. While it does not, the service is not ready.
   *
   * @param reason which relay's data were not stored, and why
   */
  noteStored(works: boolean, reason?: string): void;
  /**
   * Logs an error that may occur for each relay and each try while the database is unavailable: at once, and when it occurs
   * again once a minute, with how many `times` since the line before and the fields of the latest.
   */
  logRepeated(fields: Readonly<Record<string, unknown>>, msg: string): void;
  /** Reports whether Tor had a circuit when a relay was contacted through it. */
  noteCircuit(works: boolean): void;
  /** Whether Tor recently failed: relays that need it are skipped. */
  torIsDown(): boolean;
  /** Our own network. */
  readonly network: ServiceNetwork;
  /** Stops the service with exit code 1. */
  fail(reason: string): void;
  /** Sets whether relays are being visited (*running*) or none is due (*waiting*). */
  setBusy(isBusy: boolean): void;
  /** Notes why a visit failed, one stable word: the report of the round counts them. */
  noteFailure(reason: string): void;
  /** Reports a round: in the log, the metrics and as `lastRound` of `/health`. */
  roundFinished(round: Round): void;
}

/**
 * A report: from a visit that began while none was in progress until everything that was due has been visited, or a part
 * of that when it takes long. Nothing waits for its end.
 */
export interface Round {
  readonly startedAt: Date;
  /** Visits that ended, without those that our own network prevented. */
  readonly relays: number;
  readonly failed: number;
  /** Relays that wait for our own network. */
  readonly heldBack: number;
}

/** The work of a service. */
export interface Work {
  /**
   * Runs until the signal of the service aborts; with `--once` until everything that was due is done.
   * @throws DatabaseError
   */
  run(): Promise<void>;
  /** Ends running visits early, so that `run` ends too, and frees resources. Called once. */
  stop(): Promise<void>;
}

/** Sent to a parent process that started the service by `fork`. */
export interface StatusReport {
  readonly service: string;
  readonly status: HealthStatus;
}
