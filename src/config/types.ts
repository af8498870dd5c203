import type { CheckName } from '../nostr/check-result.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { RelayUrl } from '../relay/url.ts';
import type { LogLevel } from './values.ts';

/** What each service is told, as plain data. Times of the clock are in milliseconds, times of events in seconds. */

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
  /** How the connection is encrypted; absent: not. */
  readonly ssl?: DatabaseSsl;
  /** Whether a start waits until the database answers, as services do; else for a minute. */
  readonly waitsForever?: boolean;
}

/** The modes of libpq that say what they do: those between, `allow` and `prefer`, encrypt or do not, as the server likes. */
export type SslMode = 'disable' | 'require' | 'verify-ca' | 'verify-full';

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
export interface KeyPair {
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
  /** What was odd but usable, a sentence each, to be logged at start. */
  readonly warnings: readonly string[];
}

interface RelayServiceConfig extends ServiceConfig {
  readonly tor: TorConfig | null;
  readonly health: HealthConfig;
  readonly blocklistPath: string | null;
  readonly numCores: number;
  /** Relays that one worker thread visits at a time. */
  readonly requestsPerCore: number;
  /** A relay is not due again sooner than this after its latest visit or check began. */
  readonly loopIntervalMs: number;
}

export interface InitializerConfig extends ServiceConfig {
  readonly service: 'initializer';
  readonly seedRelaysPath: string;
  /** The login that changes the schema, on PostgreSQL itself: session locks do not pass PgBouncer. */
  readonly owner: DatabaseConfig;
}

export interface MonitorConfig extends RelayServiceConfig {
  readonly service: 'monitor';
  readonly keys: KeyPair;
  /** A relay is checked again when its latest snapshot is older than this. */
  readonly frequencyMs: number;
  /** The most results that a worker stores in one transaction. */
  readonly chunkSize: number;
  /** How long a relay of each network may take for each answer. */
  readonly timeoutsMs: { readonly clearnet: number; readonly tor: number };
  /** What the synchronizers archive: relays are asked the same. */
  readonly eventFilter: EventFilter;
  readonly checks: readonly CheckName[];
  /** What a relay can do is measured again when it was measured longer ago than this. */
  readonly capabilitiesFrequencyMs: number;
  /** Databases in the MaxMind format. */
  readonly geoip: { readonly cityPath: string | null; readonly asnPath: string | null };
  /** Null: nothing is published. */
  readonly publish: PublishConfig | null;
}

/** What the monitor tells the network, and where (NIP-66). */
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
  readonly relayMetadataThresholdMs: number;
  readonly batchSize: number;
  /** The newest covered seconds, which each visit reads again. */
  readonly overlapSeconds: number;
  /** Coverage older than this is proven anew. */
  readonly reproveMs: number;
  readonly live: boolean;
  readonly requestTimeoutMs: number;
}

export interface FinderConfig extends Omit<RelayServiceConfig, 'loopIntervalMs'> {
  readonly service: 'finder';
  /** Longest silence of a candidate or a list, in milliseconds. */
  readonly requestTimeoutMs: number;
  /** Lists, and monitors on the priority relays, are asked again after this. */
  readonly frequencyMs: number;
  /** What the synchronizers archive: candidates are asked the same. */
  readonly eventFilter: EventFilter;
  /** Lists of relays, as http or https URLs. */
  readonly urls: readonly string[];
  readonly priorityRelaysPath: string;
}

export type SynchronizerService = 'synchronizer' | 'priority-synchronizer';
