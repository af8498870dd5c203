import type { TestHosts } from '../network/own-network.ts';
import type { RelayUrl } from '../network/url.ts';
import type { CheckName } from '../nostr/check-result.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { LogLevel, SslMode } from './values.ts';

/**
 * The configuration of each service, as plain data. Each duration keeps its unit to where it is used: milliseconds for what
 * a timer measures, seconds for what is compared with stored times.
 */

export interface DatabaseConfig {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
  /** Connections that a pool keeps open, and the most it opens. */
  readonly minPool: number;
  readonly maxPool: number;
  readonly commandTimeoutMs: number;
  /**
   * Number of shards of `events`, where the initializer distributes it with Citus; absent or 1: four a worker. A distributed
   * archive says its number itself.
   */
  readonly shards?: number;
  /** How the connection is encrypted; absent: not. */
  readonly ssl?: DatabaseSsl;
  /** Whether a start waits for the database without limit, as services do; else for a minute. */
  readonly waitsForever?: boolean;
}

export interface DatabaseSsl {
  readonly mode: SslMode;
  /** The certificates of the authorities that are trusted, as PEM; null: those of Node.js. */
  readonly ca: string | null;
}

/** The SOCKS5 proxy that reaches `.onion` relays. */
export interface TorConfig {
  readonly host: string;
  readonly port: number;
}

/** A Nostr key pair, 64 lowercase hex characters each. */
interface KeyPair {
  readonly secretKey: string;
  readonly publicKey: string;
}

export interface HealthConfig {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** The variable that sets the port, for the sentence that says it is in use. */
  readonly portVariable: string;
}

interface ServiceConfig {
  readonly logLevel: LogLevel;
  readonly allowPrivateRelays: boolean;
  readonly shutdownTimeoutMs: number;
  readonly database: DatabaseConfig;
  /** What is unusual but usable, a sentence each, to be logged at the start. */
  readonly warnings: readonly string[];
}

interface RelayServiceConfig extends ServiceConfig {
  readonly tor: TorConfig | null;
  /** What our own network is tested with; null: it is not tested. */
  readonly networkTest: TestHosts | null;
  /** A path on the disk of the database; absent where this machine does not have it. */
  readonly databaseDiskPath?: string;
  readonly health: HealthConfig;
  readonly blocklistPath: string | null;
  readonly numCores: number;
  /** Relays that one worker thread visits at a time. */
  readonly requestsPerCore: number;
  /** A relay is not due again sooner than this after its latest visit or check began. */
  readonly loopIntervalSeconds: number;
}

export interface InitializerConfig extends ServiceConfig {
  readonly service: 'initializer';
  readonly seedRelaysPath: string;
  readonly priorityRelaysPath: string;
  /** The login that changes the schema, on PostgreSQL itself: session locks do not pass PgBouncer. */
  readonly owner: DatabaseConfig;
}

export interface MonitorConfig extends RelayServiceConfig {
  readonly service: 'monitor';
  readonly keys: KeyPair;
  /** A relay is checked again when its latest snapshot is older than this. */
  readonly frequencySeconds: number;
  /** The most results that a worker stores in one transaction. */
  readonly chunkSize: number;
  /** Deadline of each answer of a relay, by its network. */
  readonly timeoutsMs: { readonly clearnet: number; readonly tor: number };
  /** What the synchronizers archive: relays are checked with the same filter. */
  readonly eventFilter: EventFilter;
  readonly checks: readonly CheckName[];
  /** The capabilities of a relay are measured again when they were measured longer ago than this. */
  readonly capabilitiesFrequencySeconds: number;
  /** Databases in the MaxMind format. */
  readonly geoip: { readonly cityPath: string | null; readonly asnPath: string | null };
  /** Null: nothing is published. */
  readonly publish: PublishConfig | null;
}

/** What the monitor publishes, and where (NIP-66). */
export interface PublishConfig {
  readonly relays: readonly RelayUrl[];
  /** The name of the monitor's profile. */
  readonly name: string;
  readonly geohash: string | null;
}

export interface SynchronizerConfig extends RelayServiceConfig {
  readonly service: SynchronizerService;
  readonly keys: KeyPair | null;
  /** The first second wanted (0 is genesis); `resume` goes on from the last synchronisation. */
  readonly startTimestamp: number | 'resume';
  readonly stopTimestamp: number | 'now';
  readonly eventFilter: EventFilter;
  readonly priorityRelaysPath: string;
  /** A relay counts as readable while its snapshot is younger than this. */
  readonly relayMetadataThresholdSeconds: number;
  readonly batchSize: number;
  /** The newest covered seconds, which each visit reads again. */
  readonly overlapSeconds: number;
  /** Coverage older than this is proven anew. */
  readonly reproveSeconds: number;
  readonly live: boolean;
  readonly requestTimeoutMs: number;
}

export interface FinderConfig extends Omit<RelayServiceConfig, 'loopIntervalSeconds'> {
  readonly service: 'finder';
  /** Deadline of each answer of a candidate or a list. */
  readonly requestTimeoutMs: number;
  /** Lists are fetched again after this. */
  readonly frequencyMs: number;
  /** What the synchronizers archive: candidates are asked with the same filter. */
  readonly eventFilter: EventFilter;
  /** Lists of relays, as http or https URLs. */
  readonly urls: readonly string[];
  /** How long rows of the journal are kept that every reader has read. */
  readonly journalDays: number;
  readonly priorityRelaysPath: string;
}

export interface RefresherConfig extends ServiceConfig {
  readonly service: 'refresher';
  /** It connects to no relay. */
  readonly tor: null;
  readonly networkTest: null;
  readonly health: HealthConfig;
  /** Share of one core that recounts may take, as time in the database: 1 is without pauses. */
  readonly cpuShare: number;
}

export interface ApiConfig extends Omit<ServiceConfig, 'allowPrivateRelays'> {
  readonly service: 'api';
  /** Where the API listens; `/health` too. */
  readonly health: HealthConfig;
  /** Requests of one client (IP address) a minute; 0: not limited. */
  readonly rateLimit: number;
  /** Answers that are streamed at a time, to all clients together. */
  readonly maxStreams: number;
  /** Web pages of these origins may read answers (CORS); empty: none but our own. */
  readonly corsOrigins: readonly string[];
  /** Proxies whose `X-Forwarded-For` names the client; empty: none. */
  readonly trustedProxies: readonly string[];
  /** A path on the disk of the database; null where this machine does not have it. */
  readonly databaseDiskPath: string | null;
  /** `host:port` of the services whose `/health` is part of the status. */
  readonly statusServices: readonly string[];
}

export interface RelayConfig extends Omit<ServiceConfig, 'allowPrivateRelays'> {
  readonly service: 'relay';
  readonly health: HealthConfig;
  /** Where clients connect. */
  readonly listen: HealthConfig;
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** Open subscriptions of one connection. */
  readonly maxSubscriptions: number;
  /** Events for one filter. */
  readonly maxLimit: number;
  /** Messages of one client (IP address) a minute; 0: not limited. */
  readonly rateLimit: number;
  /** Proxies whose `X-Forwarded-For` names the client; empty: none. */
  readonly trustedProxies: readonly string[];
  readonly information: RelayInformation;
  /** The URL for which clients authenticate (NIP-42); null: they cannot. */
  readonly authUrl: string | null;
  /** Public keys of readers with larger limits. */
  readonly readers: readonly string[];
}

/** What the relay says of itself (NIP-11). */
export interface RelayInformation {
  readonly name: string;
  readonly description: string;
  readonly contact: string | null;
  readonly pubkey: string | null;
}

export type SynchronizerService = 'synchronizer' | 'priority-synchronizer';
