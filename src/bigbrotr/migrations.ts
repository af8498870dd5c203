import { fileURLToPath } from 'node:url';
import { PG_MIGRATE_LOCK_ID, runner } from 'node-pg-migrate';
import pg from 'pg';
import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config.ts';
import { COMMAND_PATIENCE, Database, startWaitOf } from '../database.ts';
import {
  ConnectionFailure,
  codeOf,
  DatabaseError,
  explain,
  isHopeless,
  isOfConnection,
} from '../database-error.ts';
import { sslOptions } from '../database-ssl.ts';
import { waitForDatabase } from '../database-wait.ts';
import { schemaState, tooNew } from './version.ts';

/** Numbered SQL files; the build copies them beside the code. */
const FOLDER = fileURLToPath(new URL('../migrations', import.meta.url));

/** The longest wait for a table that others use: a backup or a long question holds a change up, and it all the rest. */
const LOCK_TIMEOUT_MS = 60_000;

/** As init.sql has it. The library would make its own with other types, and outside of our transaction. */
const RECORD = `create table if not exists schema_migrations (
    id     integer generated always as identity primary key,
    name   text not null,
    run_on timestamptz not null default now(),
    constraint schema_migrations_name_key unique (name)
)`;

export interface MigrateOptions {
  readonly folder?: string;
  /** Ends the wait for the database. */
  readonly signal?: AbortSignal;
}

/**
 * Brings an archive that an older version made up to this one: all migrations that it has not had, in one
 * transaction, under a lock, so that a second initializer waits and finds nothing left to do. An archive that is up
 * to date is only read, and an empty database is left as it is.
 *
 * @param config - any login that may read the archive, also through PgBouncer
 * @param owner - the owner of the relations, on PostgreSQL itself
 * @returns the names of the migrations that were applied
 * @throws DatabaseError when a newer version made the archive, when the owner may not change it, and when a
 *   migration fails; nothing is changed then.
 */
export async function migrateArchive(
  config: DatabaseConfig,
  owner: DatabaseConfig,
  log: Logger,
  { folder = FOLDER, signal }: MigrateOptions = {},
): Promise<string[]> {
  const database = await Database.connect(config, log, signal && { signal });
  const { state, newest } = await schemaState(database.query).finally(() => database.close());
  const archive = `The archive at ${owner.host}:${owner.port}/${owner.database}`;
  if (state === 'newer') throw tooNew(archive, newest);
  if (state !== 'older') return [];
  const applied = await waitForDatabase(
    () =>
      asOwner(owner, (client) => applyAll(client, log, folder)).catch((error: unknown) => {
        throw explained(error, archive, owner);
      }),
    { log, waitMs: startWaitOf(config), signal },
  );
  if (applied.length > 0) log.info({ applied }, 'the archive was migrated to this version');
  return applied;
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
  client.on('error', () => {}); // the statement that waits on it fails and says so
  try {
    await client.connect().catch((error: unknown) => {
      throw new ConnectionFailure(error);
    });
    return await work(client);
  } finally {
    await client.end();
  }
}

async function applyAll(client: pg.Client, log: Logger, folder: string): Promise<string[]> {
  // Before anything else, and until the connection ends: what another initializer has done is seen then.
  await client.query(`select pg_advisory_lock(${PG_MIGRATE_LOCK_ID})`);
  // The library's own BEGIN is within this one and its COMMIT or ROLLBACK ends it, with the table of records.
  await client.query(`set lock_timeout = ${LOCK_TIMEOUT_MS}; set client_min_messages = error`);
  await client.query('begin');
  await client.query(RECORD);
  const applied = await runner({
    dbClient: client,
    dir: folder,
    direction: 'up',
    migrationsTable: 'schema_migrations',
    singleTransaction: true,
    noLock: true,
    logger: quiet(log),
  });
  if (applied.length === 0) await client.query('rollback');
  return applied.map(({ name }) => name);
}

/** What the library tells step by step, whole statements among it, is for who looks for a mistake. */
function quiet(log: Logger) {
  const tell = (text: string) => log.debug(text);
  return { debug: tell, info: tell, warn: tell, error: tell };
}

function explained(error: unknown, archive: string, owner: DatabaseConfig): unknown {
  if (!(error instanceof Error)) return error;
  const code = codeOf(error);
  if (isOfConnection(error) && !isHopeless(error))
    return new DatabaseError(explain(error, owner), code, false, error);
  if (code === '') return error instanceof ConnectionFailure ? asRefusal(error, owner) : error;
  const refused = code === '42501' || code === '28P01' || code === '28000';
  const message = refused
    ? `${archive} must be migrated to this version, and ${owner.user} may not do it (${error.message}): set POSTGRES_OWNER_PASSWORD and run the initializer again, for example by docker compose up -d.`
    : `${archive} could not be migrated to this version and is as it was: ${error.message}`;
  return new DatabaseError(message, code, true, error);
}

function asRefusal(error: ConnectionFailure, owner: DatabaseConfig): DatabaseError {
  return new DatabaseError(explain(error, owner), '', true, error);
}
