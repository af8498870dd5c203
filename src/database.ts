import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseConfig } from './config.ts';
import {
  ConnectionFailure,
  codeOf,
  DatabaseError,
  explain,
  isHopeless,
  isOfConnection,
  isTransient,
  messageOf,
} from './database-error.ts';
import { sslOptions } from './database-ssl.ts';
import { waitForDatabase } from './database-wait.ts';

export { DatabaseError, isDataError, isTransient } from './database-error.ts';

/** How long a database that does not answer is waited for. Times are milliseconds. */
export interface Patience {
  /** Longest wait for a free connection, or for a new one. */
  readonly connectionWaitMs: number;
  /** A start waits for its database this long; Infinity: until it answers. */
  readonly startWaitMs: number;
  /** Before the second try; doubles from try to try, up to a second. */
  readonly connectFirstDelayMs: number;
  /** A statement that fails for a passing reason is tried again for this long. */
  readonly retryForMs: number;
}

/** Of a command, and of a service with `--once`: whoever waits for its end is told after a minute. */
export const COMMAND_PATIENCE: Patience = {
  connectionWaitMs: 30_000,
  startWaitMs: 60_000,
  connectFirstDelayMs: 250,
  retryForMs: 60_000,
};

/** Of a service: it starts when its database answers; in a round it turns to what is due next sooner. */
export const SERVICE_PATIENCE: Patience = {
  ...COMMAND_PATIENCE,
  startWaitMs: Number.POSITIVE_INFINITY,
  retryForMs: 15_000,
};

/** SQL: Unix seconds as Node's clock counts them. Nothing else in SQL of ours reads the clock (init.sql). */
export const NOW = 'unix_now()';

/** With as much again by chance: a database that is back is used within a second. */
const RETRY_LONGEST_DELAY_MS = 500;

/**
 * Begins a transaction that the server ends by itself when we are gone without its noticing: a dead wire would
 * leave its locks in everybody's way. For the transaction alone: PgBouncer hands the connection on.
 */
function begin(timeoutMs: number): string {
  return `begin; set local statement_timeout = ${timeoutMs}; set local idle_in_transaction_session_timeout = ${timeoutMs}`;
}

/** int8 as a number: every one that is read here is a count or a time, far below 2^53. */
const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === pg.types.builtins.INT8 && format !== 'binary'
      ? Number
      : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

export type Row = Record<string, unknown>;
export type Query = <T extends Row = Row>(
  text: string,
  values?: readonly unknown[],
) => Promise<pg.QueryResult<T>>;

export interface OpenOptions {
  readonly patience?: Patience;
  /** Ends the wait for the database. */
  readonly signal?: AbortSignal;
  /** Hears why the database is waited for. */
  readonly onRefused?: (reason: string) => void;
  /** Whether this login has worked: what refuses it now passes, as a failover or a rotated password does. */
  readonly loginWorked?: boolean;
  /** What else must hold before the database is used. It is asked again while that fails for a passing reason. */
  readonly check?: (query: Query) => Promise<void>;
}

/** Longest text of the server that is shown, in characters. */
const MAX_REASON_LENGTH = 200;

/**
 * A pool of connections with retries. Made for PgBouncer in transaction mode: unnamed statements only,
 * no session state, no startup parameters.
 */
export class Database {
  readonly #pool: pg.Pool;
  readonly #config: DatabaseConfig;
  readonly #log: Logger;
  readonly #patience: Patience;
  /** Why the latest connection was refused; null where the latest one was made. */
  #refusal: string | null = null;

  private constructor(config: DatabaseConfig, log: Logger, patience: Patience) {
    this.#config = config;
    this.#log = log;
    this.#patience = patience;
    this.#pool = new pg.Pool({
      host: config.host,
      port: config.port,
      user: config.user,
      password: config.password,
      database: config.database,
      ssl: sslOptions(config),
      min: config.minPool,
      max: config.maxPool,
      connectionTimeoutMillis: patience.connectionWaitMs,
      // On our side of the wire: a statement_timeout at connect is refused by PgBouncer (08P01).
      query_timeout: config.commandTimeoutMs,
      keepAlive: true,
      allowExitOnIdle: true,
      types,
    });
    this.#pool.on('error', (error) =>
      log.debug({ err: error }, 'an idle database connection was lost'),
    );
  }

  /**
   * Opens the pool when the database answers; until then it is tried again and again, with back-off.
   *
   * @throws DatabaseError at once for what no waiting mends (wrong password, missing database), else when the time is
   * over or the signal aborts
   */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    options: OpenOptions = {},
  ): Promise<Database> {
    const patience = options.patience ?? patienceOf(config);
    const database = new Database(config, log, patience);
    const { signal, onRefused, loginWorked = false, check = async () => {} } = options;
    try {
      await waitForDatabase(() => untilAborted(database.#begin(check, loginWorked), signal), {
        log,
        waitMs: patience.startWaitMs,
        firstDelayMs: patience.connectFirstDelayMs,
        signal,
        onRefused,
      });
      return database;
    } catch (error) {
      const closing = database.close();
      if (!signal?.aborted) await closing; // else a connection that is being made is not waited for
      throw error;
    }
  }

  async #begin(check: (query: Query) => Promise<void>, loginWorked: boolean): Promise<void> {
    const once: Query = (text, values) => this.#queryOnce(text, values);
    try {
      await once('select 1');
      await check(once);
    } catch (error) {
      const isForGood = loginWorked ? !isTransient(error) : isHopeless(error);
      throw this.#asDatabaseError(error, isForGood);
    }
  }

  /** One statement, retried while it fails for a passing reason. @throws DatabaseError */
  query: Query = (text, values) => this.#retrying(() => this.#queryOnce(text, values));

  /**
   * Runs `work` in one transaction, again from its start when it fails for a passing reason: it must do the
   * same when repeated, since a COMMIT whose answer was lost may have happened. @throws DatabaseError
   */
  transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.#retrying(() => this.#transactionOnce(work));
  }

  #queryOnce<T extends Row>(text: string, values?: readonly unknown[]) {
    return this.#withClient((client) => client.query<T>(text, values as unknown[]));
  }

  #transactionOnce<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.#withClient(async (client) => {
      await client.query(begin(this.#config.commandTimeoutMs));
      const result = await work((text, values) => client.query(text, values as unknown[]));
      const { command } = await client.query('commit');
      // PostgreSQL answers so, without an error, when a statement of the transaction has failed.
      if (command !== 'COMMIT') throw new Error(`a transaction ended in ${command}, not in COMMIT`);
      return result;
    });
  }

  async #withClient<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#connected();
    let failure: Error | undefined;
    // A connection lost between two statements says so here, or ends the process. The next statement fails by itself.
    const onError = (error: Error) => {
      failure = error;
    };
    client.on('error', onError);
    try {
      return await work(client);
    } catch (error) {
      failure = error as Error;
      if (!mayBeSound(error)) throw error;
      const isSound = await client.query('rollback').then(
        () => true,
        () => false,
      );
      if (isSound) failure = undefined;
      // An error after which the connection is gone is one of the connection.
      else if (error instanceof pg.DatabaseError) throw new ConnectionFailure(error);
      throw error;
    } finally {
      client.off('error', onError);
      client.release(failure);
    }
  }

  /** A connection of the pool. @throws ConnectionFailure */
  async #connected(): Promise<pg.PoolClient> {
    if (this.#pool.ending) throw new Error('the database was closed');
    try {
      const client = await this.#pool.connect();
      this.#refusal = null;
      return client;
    } catch (error) {
      const code = codeOf(error);
      this.#refusal = `${messageOf(error)}${code ? ` (${code})` : ''}`.slice(0, MAX_REASON_LENGTH);
      throw new ConnectionFailure(error);
    }
  }

  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    for (let delay = 50; ; delay = Math.min(delay * 2, RETRY_LONGEST_DELAY_MS)) {
      try {
        return await work();
      } catch (error) {
        const isForGood = !isTransient(error);
        if (isForGood || performance.now() - started > this.#patience.retryForMs)
          throw this.#asDatabaseError(error, isForGood);
        this.#log.debug(
          { code: codeOf(error), err: error },
          'a statement failed for a passing reason, trying again',
        );
        await sleep(delay + Math.random() * delay); // writers that collided must not meet again
      }
    }
  }

  #asDatabaseError(error: unknown, permanent: boolean): Error {
    if (error instanceof DatabaseError) return error;
    if (!(error instanceof Error)) return new Error(String(error));
    if (codeOf(error) === '' && !isTransient(error)) return error; // not from the database: a mistake of ours
    return new DatabaseError(explain(error, this.#config), codeOf(error), permanent, error);
  }

  /** Whether the server answers within the given milliseconds. Never throws. */
  async isUp(timeoutMs: number): Promise<boolean> {
    return (await this.whyDown(timeoutMs)) === null;
  }

  /** What refused us, and how; null when the server answers within the given milliseconds. Never throws. */
  async whyDown(timeoutMs: number): Promise<string | null> {
    const { host, port } = this.#config;
    const answer = this.#queryOnce('select 1').then(
      () => null,
      (error: unknown) => this.#refusal ?? messageOf(error).slice(0, MAX_REASON_LENGTH),
    );
    const silence = sleep(timeoutMs, undefined, { ref: false }).then(
      () => this.#refusal ?? `no answer in ${timeoutMs / 1000} s`,
    );
    const reason = await Promise.race([answer, silence]);
    return reason === null ? null : `${host}:${port}: ${reason}`;
  }

  /** Closes every connection; statements that are running end first. */
  async close(): Promise<void> {
    await this.#pool.end();
  }
}

/** A service says that it waits without end (`runService`); everything else is a command. */
function patienceOf({ waitsForever }: DatabaseConfig): Patience {
  return waitsForever ? SERVICE_PATIENCE : COMMAND_PATIENCE;
}

/** The outcome, or a failure that passes as soon as the signal aborts: a server that is silent is not waited for then. */
async function untilAborted<T>(outcome: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return outcome;
  let stop = () => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(new DatabaseError('stopped before the database answered', '', false, null));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    return await Promise.race([outcome, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/** How long a start waits for this database, in milliseconds. */
export function startWaitOf(config: DatabaseConfig): number {
  return patienceOf(config).startWaitMs;
}

/** Whether the connection may be used further: where the server has answered, or the mistake is ours. */
function mayBeSound(error: unknown): boolean {
  if (isOfConnection(error)) return false;
  return error instanceof pg.DatabaseError || !isTransient(error);
}
