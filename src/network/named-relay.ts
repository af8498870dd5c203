import type { NostrEvent } from '../nostr/event.ts';
import type { HintSource } from '../nostr/relay-hints.ts';
import type { RelayAddress } from './url.ts';

/** Where a relay URL was found: a place in an event, or a list that the operator configured. */
export type NameSource = HintSource | 'list';

/** The fields of an event that can name relays, and its author. */
export type NamingEvent = Pick<
  NostrEvent,
  'id' | 'pubkey' | 'created_at' | 'kind' | 'tags' | 'content'
>;

/** A relay URL that was named, summed up over the events of one batch. */
export interface NamedRelay extends RelayAddress {
  /** Host and port, without a path. */
  readonly host: string;
  /** The registrable domain: the part of a name that is bought. */
  readonly domain: string;
  /** Number of events and lists that name it. */
  readonly times: number;
  /** The earliest event by `created_at`: Unix seconds, its id, its author (null for a list), the place in it. */
  readonly firstAt: number;
  readonly firstEvent: string | null;
  readonly firstAuthor: string | null;
  readonly firstSource: NameSource;
  readonly lastAt: number;
  /** Distinct authors in hex, in reading order, and `''` for the operator's lists; at most MAX_AUTHORS. */
  readonly authors: readonly string[];
}
