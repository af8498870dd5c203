import type { DatabaseConfig } from '../config/load.ts';
import { DatabaseError, type Query } from './connection.ts';
import { foldedShare, hasBaseline, isEarlier } from './earlier-migrations.ts';

/** The newest file of src/database/migrations: the schema version that these services require. init.sql creates it too. */
export const SCHEMA_VERSION = '0024_bounded-references';

/**
 * The state of an archive relative to SCHEMA_VERSION: `missing` if init.sql was never loaded, `too_old` if this version
 * no longer has migrations for it.
 */
export type SchemaState = 'missing' | 'too_old' | 'older' | 'current' | 'newer';

/** The migrations that an archive records, and the resulting state. */
export interface Schema {
  readonly state: SchemaState;
  /** The newest migration under a present name; null without any. */
  readonly newest: string | null;
  readonly names: readonly string[];
}

/** Reads the recorded migrations of an archive, with any login that may read it. @throws DatabaseError */
export async function schemaState(query: Query): Promise<Schema> {
  const { rows: found } = await query<{ archive: boolean; recorded: boolean }>(
    `select to_regclass('public.visits') is not null as archive,
            to_regclass('public.schema_migrations') is not null as recorded`,
  );
  if (!found[0]?.archive) return { state: 'missing', newest: null, names: [] };
  if (!found[0].recorded) return { state: 'too_old', newest: null, names: [] };
  const { rows } = await query<{ name: string }>('select name from schema_migrations order by id');
  return schemaOf(rows.map(({ name }) => name));
}

/** The state of an archive that records these migrations; with none, its creation was interrupted. */
export function schemaOf(names: readonly string[]): Schema {
  const [newest = null] = names.filter((name) => !isEarlier(name)).sort((a, b) => (a < b ? 1 : -1));
  const earlier = new Set(names.filter(isEarlier));
  const known = { newest, names };
  if (newest !== null && newest > SCHEMA_VERSION) return { ...known, state: 'newer' };
  if (earlier.size > 0) return { ...known, state: hasBaseline(earlier) ? 'older' : 'too_old' };
  return { ...known, state: newest === SCHEMA_VERSION ? 'current' : 'older' };
}

/** @throws DatabaseError with what to do, unless the archive has the version that these services require. */
export async function requireCurrent(query: Query, config: DatabaseConfig): Promise<void> {
  const { state, newest, names } = await schemaState(query);
  const archive = `The archive at ${config.host}:${config.port}/${config.database}`;
  if (state === 'missing') {
    throw refusal(
      '42P01',
      `${archive} lacks something that init.sql makes: load init.sql (npm start does).`,
    );
  }
  if (state === 'too_old') throw tooOld(archive, names);
  if (state === 'older') {
    throw refusal(
      'older',
      `${archive} was made by an older version of Bigbrotr: run the initializer, which migrates it (npm start and docker compose up -d do).`,
    );
  }
  if (state === 'newer') throw tooNew(archive, newest);
}

/** The error for an archive that only an earlier version can migrate. */
export function tooOld(archive: string, names: readonly string[]): DatabaseError {
  return refusal(
    'too_old',
    `${archive} has ${foldedShare(names)} of the migrations that this version builds on: start the previous version once, which applies them (docs/containers.md, Upgrades).`,
  );
}

/** The error for an archive that init.sql did not complete. */
export function unfinished(archive: string): DatabaseError {
  return refusal(
    'unfinished',
    `${archive} records no migration, because making it was interrupted: load init.sql again.`,
  );
}

/** The error for an archive of a newer version. */
export function tooNew(archive: string, newest: string | null): DatabaseError {
  return refusal(
    'newer',
    `${archive} was migrated by a newer version of Bigbrotr (${newest}; this one knows ${SCHEMA_VERSION}): run that version, or restore a backup from before.`,
  );
}

function refusal(code: string, message: string): DatabaseError {
  return new DatabaseError(message, code, true, undefined);
}
