import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config/load.ts';
import { Database, type OpenOptions, type Query } from './connection.ts';
import { ASK_EACH_SHARD, archiveShards } from './distribute.ts';
import type { StoredEvent } from './reading.ts';
import * as reading from './reading.ts';
import { requireCurrent } from './version.ts';

type WaitOptions = Pick<OpenOptions, 'patience' | 'signal' | 'onRefused' | 'loginWorked'>;

/**
 * The archive for code that only reads: each statement runs in a read-only transaction, so the server refuses every
 * write. Each transaction sets its own mode, so this works through PgBouncer in transaction mode. Composes the table
 * groups as `Bigbrotr` does, and has no SQL of its own.
 */
export class ArchiveReader {
  readonly #database: Database;

  /** Number of shards of `events`; 1: they are on one server. */
  readonly #shards: number;

  private constructor(database: Database, shards: number) {
    this.#database = database;
    this.#shards = shards;
  }

  /** Waits as `Database.connect` does. @throws DatabaseError with one sentence that says what is wrong */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    wait: WaitOptions = {},
  ): Promise<ArchiveReader> {
    let shards = 1;
    const check = async (query: Query) => {
      await requireCurrent(query, config);
      shards = await archiveShards(query);
    };
    const database = await Database.connect(config, log, { ...wait, check, readOnly: true });
    return new ArchiveReader(database, shards);
  }

  /** Closes every connection, after running statements have ended. */
  close(): Promise<void> {
    return this.#database.close();
  }

  /** Why the database, or a server over which it is distributed, cannot be used; null when all answer. Never throws. */
  whyDown(timeoutMs = 2000): Promise<string | null> {
    return this.#database.whyDown(timeoutMs, this.#shards > 1 ? ASK_EACH_SHARD : undefined);
  }

  /**
   * Runs functions of the table groups in one read-only transaction, again from its start after a transient error.
   *
   * @param work gets the number of shards of `events` too
   * @throws DatabaseError, also for a statement that would write (SQLSTATE 25006)
   */
  read<T>(work: (query: Query, shards: number) => Promise<T>): Promise<T> {
    return this.#database.transaction((query) => work(query, this.#shards));
  }

  /** Every archived event in time order, then those in quarantine, in chunks. @throws DatabaseError */
  storedEvents(): AsyncGenerator<StoredEvent[]> {
    return reading.storedEvents(this.#database.query);
  }

  /** Up to `count` archived events, each taken at random. @throws DatabaseError */
  sampledEvents(count: number): AsyncGenerator<StoredEvent[]> {
    return reading.sampledEvents(this.#database.query, count);
  }
}
