import type { Logger } from 'pino';
import type { Bigbrotr, Stored } from '../bigbrotr.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Verifier } from '../nostr/verify.ts';
import type { Authenticator } from '../relay/authentication.ts';
import type { ConnectOptions, RelayConnection } from '../relay/connection.ts';

/** What every visit of a worker shares. */
export interface VisitContext {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  readonly connect: Omit<ConnectOptions, 'signal'>;
  /** Answers NIP-42 challenges; null: relays that ask for it stay closed. */
  readonly secretKey: Uint8Array | null;
  readonly filter: EventFilter;
  readonly filterId: number;
  /** The first second wanted, or `resume`: only what is newer than the newest second proven. */
  readonly startTimestamp: number | 'resume';
  /** The last second wanted, or `now`. */
  readonly stopTimestamp: number | 'now';
  /** The newest proven seconds, which each visit reads again. */
  readonly overlapSeconds: number;
  /** Coverage proven longer ago than this, in seconds, is proven anew. */
  readonly reproveSeconds: number;
  /** Events asked for in a page, and in a batch. */
  readonly batchSize: number;
  /** Longest silence of a relay, in milliseconds. */
  readonly requestTimeoutMs: number;
  /** How long events are waited for that come after their EOSE, in milliseconds; 1000 unless told. */
  readonly lingerMs?: number;
  /** A visit stops after this, in milliseconds, and goes on another time, so that no relay starves another. */
  readonly visitMs: number;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Unix seconds. */
  readonly now: () => number;
  /** Hears of each batch that was stored. */
  readonly onProgress: (progress: Progress) => void;
}

/** What was stored, and refused by reason, since the last time it was told. */
export interface Progress extends Stored {
  readonly invalid: Readonly<Record<string, number>>;
  /** Key of a relay that is followed from now on. */
  readonly followed?: number;
  /** Key of a relay that was followed and is no more, because its events could not be written. */
  readonly unfollowed?: number;
}

/** Takes note of each event of an answer. @returns false for one that it has had before, which then goes no further */
export interface Tally {
  add(id: string, createdAt: number): boolean;
}

/** A connection, and what answers its challenges: they stay together when a visit hands the connection on. */
export interface RelaySession {
  readonly connection: RelayConnection;
  readonly authenticator: Authenticator;
}
