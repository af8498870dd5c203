import type { Logger } from 'pino';
import type { Bigbrotr, Stored } from '../database/bigbrotr.ts';
import type { NostrEvent } from '../nostr/event.ts';
import type { EventFilter } from '../nostr/filter.ts';
import type { Verifier } from '../nostr/verify.ts';
import type { Authenticator } from '../relay-client/authentication.ts';
import type { ConnectOptions, RelayConnection } from '../relay-client/connection.ts';
import type { RecentEvents } from './recent-events.ts';

/** What every visit of a worker shares. */
export interface VisitContext {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  /** What the visits of the process have seen lately. */
  readonly recent: RecentEvents;
  readonly connect: Omit<ConnectOptions, 'signal'>;
  /** Signs the answers to NIP-42 challenges; null: relays that require authentication are not read. */
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
  /** Longest time without a message of the relay, in milliseconds. */
  readonly requestTimeoutMs: number;
  /** How long events are waited for that come after their EOSE, in milliseconds; default 1000. */
  readonly lingerMs?: number;
  /** Ids of a window that are compared at a time (NIP-77); default 250,000. */
  readonly maxLocalIds?: number;
  /** A visit stops after this, in milliseconds, and goes on another time, so that no relay starves another. */
  readonly visitMs: number;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Unix seconds. */
  readonly now: () => number;
  /** Chooses the samples that are requested again: gives numbers from 0 up to, but not including, 1; default `Math.random`. */
  readonly random?: () => number;
  /** Called after each stored batch. */
  readonly onProgress: (progress: Progress) => void;
}

/** What was stored, and refused by reason, since the last call of `onProgress`. */
export interface Progress extends Stored {
  readonly invalid: Readonly<Record<string, number>>;
  /** Key of a relay that is followed from now on. */
  readonly followed?: number;
  /** Key of a relay that is not followed any more, because its events could not be written. */
  readonly unfollowed?: number;
  /** Key of a relay that was followed and is no more, for another reason. */
  readonly followEnded?: number;
}

/** Counts the events of an answer; `event` is absent for a malformed one. @returns false for a repeat, which is not processed further */
export interface Tally {
  add(id: string, createdAt: number, event?: NostrEvent): boolean;
  /** Counts messages that may be events of the answer and whose time cannot be read. */
  addUnreadable?(count: number): void;
}

/** A connection and its authentication, which stay together when a visit hands the connection on. */
export interface RelaySession {
  readonly connection: RelayConnection;
  readonly authenticator: Authenticator;
}
