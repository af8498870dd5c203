import type { RelayConfig } from '../../config/load.ts';
import type { ArchiveReader } from '../../database/archive-reader.ts';
import type { RequestLimits } from '../../nostr/client-message.ts';
import type { Verifier } from '../../nostr/verify.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import type { FrequentTags } from '../query/frequent-tags.ts';
import type { LiveSubscriptions } from './live-subscriptions.ts';
import type { OutboxLimits } from './outbox.ts';
import type { QueryGate } from './query-gate.ts';
import type { RateLimit } from './rate-limit.ts';
import type { StoredLimits } from './stored-events.ts';

/** What bounds a connection, however large the client's wishes are. */
export interface RelayLimits extends RequestLimits, OutboxLimits, StoredLimits {
  /** Open subscriptions of one connection. */
  readonly maxSubscriptions: number;
  /** Bytes of one message of a client. */
  readonly maxMessageBytes: number;
  /** Requests of one connection that wait for their turn. */
  readonly maxWaiting: number;
  /** Ids that one reconciliation may hold in memory, 40 bytes each; all of them together five times as many. */
  readonly maxRecords: number;
  /** Messages that are refused for their rate before the connection is closed. */
  readonly maxRefused: number;
}

/** Limits that are not configured. */
const FIXED = {
  maxFilters: 20,
  maxValues: 5000,
  maxMessageBytes: 512 * 1024,
  maxRefused: 100,
  maxRecords: 1_000_000,
  defaultLimit: 500,
  pageEvents: 500,
  pageBytes: 1024 * 1024,
  pauseAboveBytes: 1024 * 1024,
  closeAboveBytes: 8 * 1024 * 1024,
  stalledMs: 30_000,
} as const;

/** A client that has authenticated as a known reader may have this many times more. */
export const READER_FACTOR = 10;

/** The limits of a configuration. */
export function limitsOf(
  config: Pick<RelayConfig, 'maxSubscriptions' | 'maxLimit' | 'database'>,
): RelayLimits {
  return {
    ...FIXED,
    maxSubscriptions: config.maxSubscriptions,
    maxWaiting: config.maxSubscriptions + FIXED.maxFilters,
    maxLimit: config.maxLimit,
    defaultLimit: Math.min(FIXED.defaultLimit, config.maxLimit),
    pageMs: config.database.commandTimeoutMs,
  };
}

/** What all connections share. */
export interface RelayContext {
  /** Null while there is no connection to the database, or new events are not followed yet. */
  readonly archive: () => ArchiveReader | null;
  readonly gate: QueryGate;
  readonly rate: RateLimit;
  readonly live: LiveSubscriptions;
  readonly tags: FrequentTags;
  readonly limits: RelayLimits;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Our URL, where clients can authenticate (NIP-42); null: they cannot. */
  readonly authUrl: string | null;
  readonly verifier: Verifier;
  /** Public keys of readers with larger limits. */
  readonly readers: ReadonlySet<string>;
}
