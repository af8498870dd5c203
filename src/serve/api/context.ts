import type { ArchiveReader } from '../../database/archive-reader.ts';
import type { Query } from '../../database/connection.ts';
import { TOOK_TOO_LONG } from '../../database/connection.ts';
import { codeOf, DatabaseError, isDataError } from '../../database/error.ts';
import { type RelayFacts, relayTable } from '../../database/relay-table.ts';
import type { ArchiveStatus } from '../../runtime/archive-status.ts';
import type { Coverage, Meta } from './answer.ts';
import { Cached } from './cached.ts';
import { Problem } from './problem.ts';
import type { Streams } from './streams.ts';

/** All relays, and when they were read. */
export interface RelayTable {
  readonly relays: readonly RelayFacts[];
  readonly byUrl: ReadonlyMap<string, RelayFacts>;
  /** Unix seconds. */
  readonly asOf: number;
  readonly coverage: Coverage;
}

export interface ContextOptions {
  /** @throws Problem while there is none */
  readonly archive: () => ArchiveReader;
  readonly streams: Streams;
  /** Reads how the archive stands. */
  readonly status: () => Promise<ArchiveStatus>;
  /** For how long the table of relays and the status are given again, in milliseconds. */
  readonly cachedForMs: number;
}

/** What routes answer from. */
export class Context {
  readonly streams: Streams;
  readonly status: Cached<ArchiveStatus>;
  readonly #archive: () => ArchiveReader;
  readonly #relays: Cached<RelayTable>;

  constructor({ archive, streams, status, cachedForMs }: ContextOptions) {
    this.streams = streams;
    this.#archive = archive;
    this.status = new Cached(() => asProblem(status()), cachedForMs);
    this.#relays = new Cached(() => this.#readRelays(), cachedForMs);
  }

  /**
   * Reads in one read-only transaction with a statement timeout.
   *
   * @param work gets the number of shards of `events` too
   * @param narrow what the client can do when it takes too long, as an imperative
   * @throws Problem
   */
  async read<T>(
    work: (query: Query, shards: number) => Promise<T>,
    narrow = 'ask for less',
  ): Promise<T> {
    return asProblem(this.#archive().read(work), narrow);
  }

  /** All relays, as of a moment ago. @throws Problem */
  relays(): Promise<RelayTable> {
    return this.#relays.get();
  }

  /** What an answer from the archive as it is now rests on. @throws Problem */
  async meta(parts: Partial<Meta> = {}): Promise<Meta> {
    const { coverage } = await this.relays();
    return { as_of: Math.floor(Date.now() / 1000), coverage, ...parts };
  }

  async #readRelays(): Promise<RelayTable> {
    const asOf = Math.floor(Date.now() / 1000);
    const relays = await this.read((query) => relayTable(query));
    const byUrl = new Map(relays.map((relay) => [relay.url, relay]));
    return { relays, byUrl, asOf, coverage: coverageOf(relays) };
  }
}

/** How complete the archive is of these relays. */
export function coverageOf(relays: readonly Pick<RelayFacts, 'share'>[]): Coverage {
  const shares = relays.flatMap(({ share }) => (share === null ? [] : [share]));
  const sum = shares.reduce((total, share) => total + share, 0);
  return {
    relays: shares.length,
    complete: shares.filter((share) => share === 1).length,
    share: shares.length === 0 ? null : Math.floor((sum / shares.length) * 1e6) / 1e6,
  };
}

/** Waits; errors of the database become problems. */
async function asProblem<T>(answer: Promise<T>, narrow = 'try again later'): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    if (codeOf(error) === TOOK_TOO_LONG)
      throw new Problem('took-too-long', `The database takes too long for this: ${narrow}.`, {
        retryAfter: 60,
      });
    if (isDataError(error))
      throw new Problem('invalid-request', 'A value cannot be used: the database refuses it.');
    if (error instanceof DatabaseError)
      throw new Problem('unavailable', 'The database does not answer: try again later.', {
        retryAfter: 5,
      });
    throw error;
  }
}
