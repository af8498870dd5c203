import type { Logger } from 'pino';
import type { DatabaseConfig } from '../config/load.ts';
import { Database, type Query } from './connection.ts';

/** Distribution of events and sightings over the workers of Citus (docs/citus.md): the SQL is in init.sql. */

/** The number of shards of `events`; 1 on one server. */
export async function archiveShards(query: Query): Promise<number> {
  const { rows } = await query<{ shards: number }>('select archive_shards() as shards');
  return rows[0]?.shards ?? 1;
}

/** SQL: asks each server of a distributed archive; the error names one that is away. */
export const ASK_EACH_SHARD = 'select max(day) from days';

/** Longest time to copy an archive to the workers, in milliseconds: a week. */
const COPY_MS = 7 * 86_400_000;

/** Whether the extension is there and events are not distributed. */
const IS_DUE = `
select to_regclass('pg_catalog.pg_dist_node') is not null and archive_shards() = 1 as is_due`;

/**
 * Distributes an archive whose server has got Citus and workers since it was made. Without Citus it only reads.
 *
 * @param config - any login that may read the archive
 * @param owner - the owner of the relations, on PostgreSQL itself
 * @throws DatabaseError
 */
export async function distributeArchive(
  config: DatabaseConfig,
  owner: DatabaseConfig,
  log: Logger,
): Promise<void> {
  const isDue = await withDatabase(config, log, async (query) => {
    const { rows } = await query<{ is_due: boolean }>(IS_DUE);
    return rows[0]?.is_due ?? false;
  });
  if (!isDue) return;
  const shards = await withDatabase({ ...owner, commandTimeoutMs: COPY_MS }, log, async (query) => {
    const { rows } = await query<{ shards: number }>('select distribute_archive($1) as shards', [
      (owner.shards ?? 1) > 1 ? owner.shards : null,
    ]);
    return rows[0]?.shards ?? 1;
  });
  if (shards > 1) log.info({ shards }, 'events and sightings are distributed over the workers');
}

async function withDatabase<T>(
  config: DatabaseConfig,
  log: Logger,
  work: (query: Query) => Promise<T>,
): Promise<T> {
  const database = await Database.connect(config, log);
  try {
    return await work(database.query);
  } finally {
    await database.close();
  }
}
