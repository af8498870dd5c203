import { readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { PG_MIGRATE_LOCK_ID, runner } from 'node-pg-migrate';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config/load.ts';
import { COMMAND_PATIENCE, Database, startWaitOf } from './connection.ts';
import {
  bytesToCopy,
  COPY_DEFAULTS,
  type CopyOptions,
  copyDays,
  countBeforeCopy,
  isCopyPending,
  requireRoom,
} from './copy-days.ts';
import { renameEarlier } from './earlier-migrations.ts';
import {
  ConnectionFailure,
  codeOf,
  DatabaseError,
  explain,
  isConnectionGone,
  isHopeless,
} from './error.ts';
import { sslOptions } from './ssl.ts';
import { type Schema, schemaState, tooNew, tooOld, unfinished } from './version.ts';
import { waitForDatabase } from './wait.ts';

/** Numbered SQL files; the build copies them beside the code. */
const FOLDER = fileURLToPath(new URL('./migrations', import.meta.url));

/** Maximum wait for a table lock: a backup or a long query blocks the migration, which then blocks all others. */
const LOCK_TIMEOUT_MS = 60_000;

export interface MigrateOptions {
  readonly folder?: string;
  /** Ends the wait for the database. */
  readonly signal?: AbortSignal;
  /** How large archives are copied. */
  readonly copy?: Partial<Omit<CopyOptions, 'log'>>;
}

/**
 * Migrates an archive of an older version: applies all missing migrations in one transaction, under a lock, so that a
 * second initializer waits and finds nothing to do. Large archives whose tables are copied need more transactions, and
 * the next run goes on where one was interrupted. An archive that is up to date is only read; an empty database is
 * unchanged.
 *
 * @param config - any login that may read the archive, also through PgBouncer
 * @param owner - the owner of the relations, on PostgreSQL itself
 * @returns the names of the migrations that were applied
 * @throws DatabaseError when a newer version made the archive, when the owner may not change it, and when a
 *   migration fails. Unless tables are being copied, nothing is changed then.
 */
export async function migrateArchive(
  config: DatabaseConfig,
  owner: DatabaseConfig,
  log: Logger,
  { folder = FOLDER, signal, copy = {} }: MigrateOptions = {},
): Promise<string[]> {
  const database = await Database.connect(config, log, signal && { signal });
  const schema = await schemaState(database.query).finally(() => database.close());
  const archive = `The archive at ${owner.host}:${owner.port}/${owner.database}`;
  if (!needsMigration(schema, archive)) return [];
  const { applied, renamed } = await waitForDatabase(
    () => {
      const run = new Run(log, folder, { ...COPY_DEFAULTS, ...copy, log });
      return asOwner(owner, (client) => run.applyAll(client)).catch((error: unknown) => {
        throw explained(error, archive, owner, run.isInSteps);
      });
    },
    { log, waitMs: startWaitOf(config), signal },
  );
  if (renamed > 0)
    log.info(
      { earlier: renamed },
      'the archive of an earlier version was recognised by its migrations',
    );
  if (applied.length > 0) log.info({ applied }, 'the archive was migrated to this version');
  return applied;
}

/** @throws DatabaseError for an archive that this version cannot migrate */
function needsMigration({ state, newest, names }: Schema, archive: string): boolean {
  if (state === 'newer') throw tooNew(archive, newest);
  if (state === 'too_old') throw tooOld(archive, names);
  if (state === 'older' && names.length === 0) throw unfinished(archive);
  return state === 'older';
}

async function asOwner<T>(
  owner: DatabaseConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const { host, port, user, password, database } = owner;
  const client = new pg.Client({
    ...{ host, port, user, password, database, ssl: sslOptions(owner) },
    ...{ keepAlive: true, connectionTimeoutMillis: COMMAND_PATIENCE.connectionWaitMs },
  });
  client.on('error', () => {}); // the waiting statement fails with the error
  try {
    await client.connect().catch((error: unknown) => {
      throw new ConnectionFailure(error);
    });
    return await work(client);
  } finally {
    await client.end();
  }
}

interface Migrated {
  /** Names of the migrations that were applied. */
  readonly applied: string[];
  /** How many were recorded under earlier names. */
  readonly renamed: number;
}

/** One attempt to migrate. */
class Run {
  /** Whether tables are being copied: what is done is not undone by an error. */
  isInSteps = false;
  readonly #log: Logger;
  readonly #folder: string;
  readonly #copy: CopyOptions;

  constructor(log: Logger, folder: string, copy: CopyOptions) {
    this.#log = log;
    this.#folder = folder;
    this.#copy = copy;
  }

  async applyAll(client: pg.Client): Promise<Migrated> {
    // First, and until the connection ends: so the changes of another initializer are seen.
    await client.query(`select pg_advisory_lock(${PG_MIGRATE_LOCK_ID})`);
    // The library's own BEGIN is inside this one; its COMMIT or ROLLBACK ends it, with the table of records.
    await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}; set client_min_messages = error`);
    await client.query('begin');
    const renamed = await renameEarlier(client);
    const copied = (await this.#mustCopy(client)) ? await this.#copyInSteps(client) : [];
    const applied = await this.#apply(client, Number.POSITIVE_INFINITY);
    if (applied.length === 0) await client.query(renamed > 0 ? 'commit' : 'rollback');
    return { applied: [...copied, ...applied], renamed };
  }

  async #mustCopy(client: pg.Client): Promise<boolean> {
    const pending = await this.#pending(client);
    if (!isCopyPending(pending)) return false;
    const hasBegun = countBeforeCopy(pending) === 0;
    return hasBegun || (await bytesToCopy(client)) >= this.#copy.inStepsFrom;
  }

  /** In a transaction at its end, as at its beginning. @returns the names of the migrations that were applied */
  async #copyInSteps(client: pg.Client): Promise<string[]> {
    await requireRoom(client, this.#copy);
    const count = countBeforeCopy(await this.#pending(client));
    const applied = count > 0 ? await this.#apply(client, count) : [];
    if (count === 0) await client.query('commit');
    this.isInSteps = true;
    await copyDays(client, this.#copy);
    await client.query('begin');
    return applied;
  }

  async #pending(client: pg.Client): Promise<string[]> {
    const { rows } = await client.query<{ name: string }>('select name from schema_migrations');
    const recorded = new Set(rows.map(({ name }) => name));
    const names = (await readdir(this.#folder)).map((file) => file.replace(/\.sql$/, ''));
    return names.filter((name) => !recorded.has(name)).sort();
  }

  async #apply(client: pg.Client, count: number): Promise<string[]> {
    const applied = await runner({
      dbClient: client,
      dir: this.#folder,
      direction: 'up',
      count,
      migrationsTable: 'schema_migrations',
      singleTransaction: true,
      noLock: true,
      logger: quiet(this.#log),
    });
    return applied.map(({ name }) => name);
  }
}

/** Logs the messages of the library, with whole statements, at the level debug. */
function quiet(log: Logger) {
  const tell = (text: string) => log.debug(text);
  return { debug: tell, info: tell, warn: tell, error: tell };
}

function explained(
  error: unknown,
  archive: string,
  owner: DatabaseConfig,
  isInSteps: boolean,
): unknown {
  if (!(error instanceof Error) || error instanceof DatabaseError) return error;
  const code = codeOf(error);
  if (isConnectionGone(error) && !isHopeless(error))
    return new DatabaseError(explain(error, owner), code, false, error);
  if (code === '') return error instanceof ConnectionFailure ? asRefusal(error, owner) : error;
  const refused = code === '42501' || code === '28P01' || code === '28000';
  const message = refused
    ? `${archive} must be migrated to this version, and ${owner.user} may not do it (${error.message}): set POSTGRES_OWNER_PASSWORD and run the initializer again, for example by docker compose up -d.`
    : `${archive} could not be migrated to this version and ${isInSteps ? 'keeps what is copied: run the initializer again to go on' : 'is as it was'}: ${error.message}${hintOf(error)}`;
  return new DatabaseError(message, code, true, error);
}

function hintOf(error: Error): string {
  return error instanceof pg.DatabaseError && error.hint ? ` (${error.hint})` : '';
}

function asRefusal(error: ConnectionFailure, owner: DatabaseConfig): DatabaseError {
  return new DatabaseError(explain(error, owner), '', true, error);
}
