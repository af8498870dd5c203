import type { DatabaseConfig } from '../config.ts';
import { DatabaseError, type Query } from '../database.ts';

/** The newest file of src/migrations: the version of the schema that these services ask. init.sql makes it too. */
export const SCHEMA_VERSION = '0012_paging';

/** How an archive stands to SCHEMA_VERSION; `missing` where init.sql was never loaded. */
export type SchemaState = 'missing' | 'older' | 'current' | 'newer';

/** Reads which migrations an archive has had, through any login that may read it. @throws DatabaseError */
export async function schemaState(
  query: Query,
): Promise<{ state: SchemaState; newest: string | null }> {
  const { rows: found } = await query<{ archive: boolean; recorded: boolean }>(
    `select to_regclass('public.visits') is not null as archive,
            to_regclass('public.schema_migrations') is not null as recorded`,
  );
  if (!found[0]?.archive) return { state: 'missing', newest: null };
  if (!found[0].recorded) return { state: 'older', newest: null };
  const { rows } = await query<{ newest: string | null }>(
    `select max(name collate "C") as newest from schema_migrations`,
  );
  const newest = rows[0]?.newest ?? null;
  if (newest === SCHEMA_VERSION) return { state: 'current', newest };
  return { state: newest !== null && newest > SCHEMA_VERSION ? 'newer' : 'older', newest };
}

/** @throws DatabaseError with what to do, unless the archive is of the version that these services ask. */
export async function requireCurrent(query: Query, config: DatabaseConfig): Promise<void> {
  const { state, newest } = await schemaState(query);
  const archive = `The archive at ${config.host}:${config.port}/${config.database}`;
  if (state === 'missing') {
    throw refusal('42P01', `${archive} lacks something that init.sql makes: load init.sql.`);
  }
  if (state === 'older') {
    throw refusal(
      'older',
      `${archive} was made by an older version of Bigbrotr: run the initializer, which migrates it (npm start and docker compose up -d do).`,
    );
  }
  if (state === 'newer') throw tooNew(archive, newest);
}

/** The refusal to touch what a newer version has made. */
export function tooNew(archive: string, newest: string | null): DatabaseError {
  return refusal(
    'newer',
    `${archive} was migrated by a newer version of Bigbrotr (${newest}; this one knows ${SCHEMA_VERSION}): run that version, or restore a backup from before.`,
  );
}

function refusal(code: string, message: string): DatabaseError {
  return new DatabaseError(message, code, true, undefined);
}
