import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config/load.ts';
import type { PoolUse } from '../telemetry/process-metrics.ts';
import {
  ConnectionFailure,
  codeOf,
  DatabaseError,
  explain,
  isHopeless,
  isOfConnection,
  isTransient,
  messageOf,
} from './error.ts';
import { sslOptions } from './ssl.ts';
import { waitForDatabase } from './wait.ts';

export { DatabaseError, isDataError, isTransient } from './error.ts';

/** Timeouts and retries of a database that does not answer, in milliseconds. */
export interface Patience {
  /** Longest wait for a free connection. */
  readonly connectionWaitMs: number;
  /** A start waits for its database this long; Infinity: until it answers. */
  readonly startWaitMs: number;
  /** Delay before the second try; doubles from try to try, up to a second. */
  readonly connectFirstDelayMs: number;
  /** A statement is retried for this long after transient errors. */
  readonly retryForMs: number;
}

/** For commands, and services with `--once`: they fail after a minute. */
export const COMMAND_PATIENCE: Patience = {
  connectionWaitMs: 30_000,
  startWaitMs: 60_000,
  connectFirstDelayMs: 250,
  retryForMs: 60_000,
};

/** For services: they start when the database answers, and give up single statements sooner. */
export const SERVICE_PATIENCE: Patience = {
  ...COMMAND_PATIENCE,
  startWaitMs: Number.POSITIVE_INFINITY,
  retryForMs: 15_000,
};

/**
 * Longest wait for a new connection, in milliseconds. One that was begun while the server was mute stays mute after its
 * return, and keeps its place in the pool.
 */
const NEW_CONNECTION_MS = 10_000;

/** SQLSTATE of a write in a read-only transaction. Transient for a writer (a standby before its promotion), final for a reader. */
const WRITE_REFUSED = '25006';
/** SQLSTATE of a statement that took longer than its timeout. Final for a reader: it would take as long again. */
export const TOOK_TOO_LONG = '57014';
const FINAL_FOR_READERS = new Set([WRITE_REFUSED, TOOK_TOO_LONG]);
/** A reader's server ends its statements; this is how much later we do, in milliseconds. */
const READER_MARGIN_MS = 2000;

/** Asks the server for nothing. */
const PING = 'select 1';

/** SQL: the current time in Unix seconds. No other SQL of ours reads the clock (init.sql). */
export const NOW = 'unix_now()';

/** The time by the clock of the database, Unix seconds. @throws DatabaseError */
export async function now(query: Query): Promise<number> {
  const { rows } = await query<{ now: number }>(`select ${NOW} as now`);
  return rows[0]?.now ?? 0;
}

/** Longest delay between retries, plus a jitter of the same size: a recovered database is used within a second. */
const RETRY_LONGEST_DELAY_MS = 500;

/**
 * Begins a transaction that the server ends by itself when the client disappears: a dead connection would keep its locks.
 * The settings apply to the transaction only, because PgBouncer shares the connection.
 */
function begin(timeoutMs: number, readOnly: boolean): string {
  return `begin${readOnly ? ' transaction read only' : ''}; set local statement_timeout = ${timeoutMs}; set local idle_in_transaction_session_timeout = ${timeoutMs}`;
}

/** A statement after whose timeout the connection is closed. */
function bounded(statement: pg.QueryConfig, timeoutMs: number | undefined): pg.QueryConfig {
  if (timeoutMs === undefined) return statement;
  return { ...statement, query_timeout: timeoutMs } as pg.QueryConfig;
}

/** Parses int8 as a number: every one that is read here is a count or a time, far below 2^53. */
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
  /** Called with the reason of each refused attempt. */
  readonly onRefused?: (reason: string) => void;
  /** Whether this login has worked before: a refusal is transient then (failover, rotated password). */
  readonly loginWorked?: boolean;
  /** A further check before the database is used. Repeated after transient errors. */
  readonly check?: (query: Query) => Promise<void>;
  /** Whether every statement runs in a read-only transaction: the server refuses what would write. False unless given. */
  readonly readOnly?: boolean;
}

/** Maximum length of a server text that is shown, in characters. */
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
  readonly #readOnly: boolean;
  /** Why the latest connection was refused; null if it succeeded. */
  #refusal: string | null = null;

  private constructor(config: DatabaseConfig, log: Logger, patience: Patience, readOnly: boolean) {
    this.#config = config;
    this.#readOnly = readOnly;
    this.#log = log;
    this.#patience = patience;
    const newConnectionMs = Math.min(NEW_CONNECTION_MS, config.commandTimeoutMs);
    this.#pool = new pg.Pool({
      Client: clientThatConnectsWithin(newConnectionMs),
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
      query_timeout: config.commandTimeoutMs + (readOnly ? READER_MARGIN_MS : 0),
      keepAlive: true,
      allowExitOnIdle: true,
      types,
    });
    this.#pool.on('error', (error) =>
      log.debug({ err: error }, 'an idle database connection was lost'),
    );
  }

  /**
   * Opens the pool when the database answers; retries with back-off until then.
   *
   * @throws DatabaseError at once for a permanent error (wrong password, missing database), otherwise at the deadline or
   * when the signal aborts
   */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    options: OpenOptions = {},
  ): Promise<Database> {
    const patience = options.patience ?? patienceOf(config);
    const database = new Database(config, log, patience, options.readOnly ?? false);
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
      if (!signal?.aborted) await closing; // on abort a pending connection is not awaited
      throw error;
    }
  }

  async #begin(check: (query: Query) => Promise<void>, loginWorked: boolean): Promise<void> {
    const once: Query = (text, values) => this.#queryOnce(text, values);
    try {
      await once(PING);
      await check(once);
    } catch (error) {
      const isForGood = loginWorked ? !isTransient(error) : isHopeless(error);
      throw this.#asDatabaseError(error, isForGood);
    }
  }

  /** Runs one statement, with retries after transient errors. @throws DatabaseError */
  query: Query = (text, values) => this.#retrying(() => this.#queryOnce(text, values));

  /**
   * Runs statements that are of use within some milliseconds only: once each, and a connection on which no answer comes
   * by then is closed. @throws DatabaseError
   */
  queryWithin(ms: number): Query {
    return async (text, values) => {
      try {
        return await this.#queryOnce(text, values, ms);
      } catch (error) {
        throw this.#asDatabaseError(error, this.#isFinal(error));
      }
    };
  }

  /**
   * Runs `work` in one transaction, again from its start after a transient error. It must be idempotent, since a COMMIT
   * whose answer was lost may have succeeded. @throws DatabaseError
   */
  transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.#retrying(() => this.#transactionOnce(work));
  }

  /** @param withinMs longest wait for the server's answer; the command timeout unless given */
  #queryOnce<T extends Row>(
    text: string,
    values?: readonly unknown[],
    withinMs?: number,
  ): Promise<pg.QueryResult<T>> {
    if (this.#readOnly) return this.#transactionOnce((query) => query<T>(text, values), withinMs);
    return this.#withClient((client) => client.query<T>(this.#statement(text, values, withinMs)));
  }

  #transactionOnce<T>(work: (query: Query) => Promise<T>, withinMs?: number): Promise<T> {
    const beginning = begin(withinMs ?? this.#config.commandTimeoutMs, this.#readOnly);
    return this.#withClient(async (client) => {
      await client.query(bounded({ text: beginning }, withinMs));
      const result = await work((text, values) =>
        client.query(this.#statement(text, values, withinMs)),
      );
      const { command } = await client.query(bounded({ text: 'commit' }, withinMs));
      // PostgreSQL answers so, without an error, when a statement of the transaction has failed.
      if (command !== 'COMMIT') throw new Error(`a transaction ended in ${command}, not in COMMIT`);
      return result;
    });
  }

  /** The extended protocol accepts one statement: no `commit` before another can leave a read-only transaction. */
  #statement(text: string, values: readonly unknown[] = [], withinMs?: number): pg.QueryConfig {
    const statement = bounded({ text, values: values as unknown[] }, withinMs);
    return this.#readOnly ? ({ ...statement, queryMode: 'extended' } as pg.QueryConfig) : statement;
  }

  async #withClient<T>(work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const client = await this.#connected();
    let failure: Error | undefined;
    // A connection lost between two statements emits an error, which would end the process. The next statement fails.
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
      // An error after which the connection is closed counts as a connection failure.
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
        const isForGood = this.#isFinal(error);
        if (isForGood || performance.now() - started > this.#patience.retryForMs)
          throw this.#asDatabaseError(error, isForGood);
        this.#log.debug(
          { code: codeOf(error), err: error },
          'a statement failed for a passing reason, trying again',
        );
        await sleep(delay + Math.random() * delay); // so that writers that collided do not collide again
      }
    }
  }

  #isFinal(error: unknown): boolean {
    return !isTransient(error) || (this.#readOnly && FINAL_FOR_READERS.has(codeOf(error)));
  }

  #asDatabaseError(error: unknown, permanent: boolean): Error {
    if (error instanceof DatabaseError) return error;
    if (!(error instanceof Error)) return new Error(String(error));
    if (codeOf(error) === '' && !isTransient(error)) return error; // not from the database: a programming error
    return new DatabaseError(explain(error, this.#config), codeOf(error), permanent, error);
  }

  /** Whether the server answers a statement within the given milliseconds. Never throws. */
  async isUp(timeoutMs: number, ping = PING): Promise<boolean> {
    return (await this.whyDown(timeoutMs, ping)) === null;
  }

  /** Address and reason of a refusal; null when the server answers within the given milliseconds. Never throws. */
  async whyDown(timeoutMs: number, ping = PING): Promise<string | null> {
    const { host, port } = this.#config;
    const answer = this.#queryOnce(ping).then(
      () => null,
      (error: unknown) => this.#refusal ?? messageOf(error).slice(0, MAX_REASON_LENGTH),
    );
    const silence = sleep(timeoutMs, undefined, { ref: false }).then(
      () => this.#refusal ?? `no answer in ${timeoutMs / 1000} s`,
    );
    const reason = await Promise.race([answer, silence]);
    return reason === null ? null : `${host}:${port}: ${reason}`;
  }

  /** Its connections now. */
  get pool(): PoolUse {
    const { totalCount: open, idleCount: idle, waitingCount: waiting } = this.#pool;
    return { max: this.#config.maxPool, open, idle, waiting };
  }

  /** Closes every connection, after running statements have ended. */
  async close(): Promise<void> {
    await this.#pool.end();
  }
}

/** The pool waits for a free connection with the same option as a client for the server. */
function clientThatConnectsWithin(ms: number): pg.PoolConfig['Client'] {
  return class extends pg.Client {
    constructor(config?: pg.ClientConfig) {
      const password = config?.password; // a spread leaves it out: the pool hides it
      super({ ...config, password, connectionTimeoutMillis: ms });
    }
  };
}

/** Services set `waitsForever` (`runService`); everything else is a command. */
function patienceOf({ waitsForever }: DatabaseConfig): Patience {
  return waitsForever ? SERVICE_PATIENCE : COMMAND_PATIENCE;
}

/** The outcome, or a transient failure as soon as the signal aborts: a silent server is not awaited then. */
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

/** Maximum wait for this database at a start, in milliseconds. */
export function startWaitOf(config: DatabaseConfig): number {
  return patienceOf(config).startWaitMs;
}

/** Whether the connection may be reused: the server has answered, or the error is ours. */
function mayBeSound(error: unknown): boolean {
  if (isOfConnection(error)) return false;
  return error instanceof pg.DatabaseError || !isTransient(error);
}
