import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseConfig } from './config.ts';

/** How long a database that does not answer is waited for. Times are milliseconds. */
export interface Patience {
  /** Longest wait for a free connection, or for a new one. */
  readonly connectionWaitMs: number;
  readonly connectTries: number;
  /** Before the second try; doubles from try to try. */
  readonly connectFirstDelayMs: number;
  /** A statement that fails for a passing reason is tried again for this long. */
  readonly retryForMs: number;
}

export const PATIENCE: Patience = {
  connectionWaitMs: 30_000,
  connectTries: 5,
  connectFirstDelayMs: 250,
  retryForMs: 15_000,
};

/** SQL: Unix seconds as Node's clock counts them. Nothing else in SQL of ours reads the clock (init.sql). */
export const NOW = 'unix_now()';

/** With as much again by chance: a database that is back is used within a second. */
const RETRY_LONGEST_DELAY_MS = 500;

/**
 * A query failed for good. `code` is the SQLSTATE (PostgreSQL appendix A) or the system's error code;
 * `permanent` tells whether trying again later can help.
 */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError';
  readonly code: string;
  readonly permanent: boolean;

  constructor(message: string, code: string, permanent: boolean, cause: unknown) {
    super(message, { cause });
    this.code = code;
    this.permanent = permanent;
  }
}

/** SQLSTATE classes and codes that pass by themselves. PgBouncer answers 08P01 after its server died. */
const TRANSIENT_STATES = new Set([
  '40001', // serialization failure
  '40P01', // deadlock
  '25P03', // idle in transaction for too long
  '55P03', // lock not available
  '53000', // insufficient resources
  '53100', // disk full
  '53200', // out of memory
  '53300', // too many connections
  '57014', // statement timeout, which may come before our own; or cancelled
  '57P01', // admin shutdown
  '57P02', // crash shutdown
  '57P03', // cannot connect now
  '58000', // system error
  '58030', // I/O error
]);
/** Unique indexes that are violated by chance alone: the next try finds what was in the way. */
const RACES = new Set([
  'events_pkey', // two events of one second got the same key, and the next try draws another (new_event_key in init.sql)
  'sightings_relay_id_event_key_index', // two batches of one relay brought the same event at once
]);
const TRANSIENT_SYSTEM_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
]);
const TRANSIENT_MESSAGES =
  /connection terminated|connection ended|timeout exceeded when trying to connect|timeout expired|query read timeout|client has encountered a connection error|server closed the connection/i;

function codeOf(error: unknown): string {
  if (!(error instanceof Error && 'code' in error && typeof error.code === 'string')) return '';
  return error.code === '08P01' ? codeOfPooler(error.message) : error.code;
}

/** PgBouncer before 1.20 gives every error of its own the code 08P01, which else means that its server is gone. */
function codeOfPooler(message: string): string {
  if (/authentication failed|no such user/i.test(message)) return '28P01';
  return /no such database/i.test(message) ? '3D000' : '08P01';
}

/** Whether the same statement may succeed when it is sent again. */
export function isTransient(error: unknown): boolean {
  const code = codeOf(error);
  if (code.startsWith('08') || TRANSIENT_STATES.has(code) || TRANSIENT_SYSTEM_CODES.has(code))
    return true;
  if (code === '23505' && RACES.has(constraintOf(error) ?? '')) return true;
  return code === '' && error instanceof Error && TRANSIENT_MESSAGES.test(error.message);
}

/** Whether a value in the statement, not the server, is to blame: data exceptions, constraints, program limits. */
export function isDataError(error: unknown): boolean {
  return /^(22|23|54)/.test(codeOf(error)) && !isTransient(error);
}

function constraintOf(error: unknown): string | undefined {
  return error instanceof pg.DatabaseError ? error.constraint : undefined;
}

function explain(error: unknown, config: DatabaseConfig): string {
  const where = `${config.user}@${config.host}:${config.port}/${config.database}`;
  const said = error instanceof Error ? error.message || codeOf(error) : String(error);
  switch (codeOf(error)) {
    case '28P01':
    case '28000':
      return `PostgreSQL refuses the login ${where}: check POSTGRES_USER and POSTGRES_PASSWORD (${said})`;
    case '3D000':
      return `There is no database at ${where}: create it, or check POSTGRES_DB (${said})`;
    case '42P01':
    case '42883':
    case '42703':
      return `The archive at ${where} lacks something that init.sql makes: load init.sql (${said})`;
    case '42501':
      return `The login ${where} lacks a privilege: ${said}`;
    default:
      return `The database ${where} failed: ${said}`;
  }
}

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

/**
 * A pool of connections with retries. Made for PgBouncer in transaction mode: unnamed statements only,
 * no session state, no startup parameters.
 */
export class Database {
  readonly #pool: pg.Pool;
  readonly #config: DatabaseConfig;
  readonly #log: Logger;
  readonly #patience: Patience;

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
   * Opens the pool and proves that it works: 5 tries with exponential back-off.
   *
   * @throws DatabaseError at once for what no retry mends (wrong password, missing database), else after the last try.
   */
  static async connect(
    config: DatabaseConfig,
    log: Logger,
    patience: Patience = PATIENCE,
  ): Promise<Database> {
    const database = new Database(config, log, patience);
    for (let attempt = 1; ; attempt += 1) {
      try {
        await database.#pool.query('select 1');
        return database;
      } catch (error) {
        if (attempt < patience.connectTries && isTransient(error)) {
          log.warn(
            { attempt, reason: (error as Error).message || codeOf(error) },
            'database not reachable, trying again',
          );
          await sleep(patience.connectFirstDelayMs * 2 ** (attempt - 1));
          continue;
        }
        await database.close();
        throw database.#asDatabaseError(error);
      }
    }
  }

  /** One statement, retried while it fails for a passing reason. @throws DatabaseError */
  query: Query = (text, values) =>
    this.#retrying(() => this.#pool.query(text, values as unknown[]));

  /**
   * Runs `work` in one transaction, again from its start when it fails for a passing reason: it must do the
   * same when repeated, since a COMMIT whose answer was lost may have happened. @throws DatabaseError
   */
  transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.#retrying(() => this.#transactionOnce(work));
  }

  async #transactionOnce<T>(work: (query: Query) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    let failure: Error | undefined;
    // A connection lost between two statements says so here, or ends the process. The next statement fails by itself.
    const onError = (error: Error) => {
      failure = error;
    };
    client.on('error', onError);
    try {
      await client.query(begin(this.#config.commandTimeoutMs));
      const result = await work((text, values) => client.query(text, values as unknown[]));
      const { command } = await client.query('commit');
      // PostgreSQL answers so, without an error, when a statement of the transaction has failed.
      if (command !== 'COMMIT') throw new Error(`a transaction ended in ${command}, not in COMMIT`);
      return result;
    } catch (error) {
      failure = error as Error;
      // Where the server has answered, or the mistake is ours, the connection is sound; else it is given up.
      if (error instanceof pg.DatabaseError || !isTransient(error)) {
        await client.query('rollback').then(
          () => {
            failure = undefined;
          },
          () => {},
        );
      }
      throw error;
    } finally {
      client.off('error', onError);
      client.release(failure);
    }
  }

  async #retrying<T>(work: () => Promise<T>): Promise<T> {
    const started = performance.now();
    for (let delay = 50; ; delay = Math.min(delay * 2, RETRY_LONGEST_DELAY_MS)) {
      try {
        return await work();
      } catch (error) {
        if (!isTransient(error) || performance.now() - started > this.#patience.retryForMs)
          throw this.#asDatabaseError(error);
        this.#log.debug(
          { code: codeOf(error), err: error },
          'a statement failed for a passing reason, trying again',
        );
        await sleep(delay + Math.random() * delay); // writers that collided must not meet again
      }
    }
  }

  #asDatabaseError(error: unknown): Error {
    if (error instanceof DatabaseError) return error;
    if (!(error instanceof Error)) return new Error(String(error));
    if (codeOf(error) === '' && !isTransient(error)) return error; // not from the database: a mistake of ours
    return new DatabaseError(
      explain(error, this.#config),
      codeOf(error),
      !isTransient(error),
      error,
    );
  }

  /** Whether the server answers within the given milliseconds. Never throws. */
  async isUp(timeoutMs: number): Promise<boolean> {
    const answer = this.#pool.query('select 1').then(
      () => true,
      () => false,
    );
    return Promise.race([answer, sleep(timeoutMs, false, { ref: false })]);
  }

  /** Closes every connection; statements that are running end first. */
  async close(): Promise<void> {
    await this.#pool.end();
  }
}
