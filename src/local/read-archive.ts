import type { DatabaseConfig, Environment } from '../config/load.ts';
import { ArchiveReader } from '../database/archive-reader.ts';
import { COMMAND_PATIENCE, type Patience } from '../database/connection.ts';
import { createLogger } from '../telemetry/logger.ts';
import { withDatabase } from './embedded-access.ts';

/** Timeout of an interactive command: it reports after five seconds that the database is unreachable. */
export const QUICK_PATIENCE: Patience = {
  ...COMMAND_PATIENCE,
  connectionWaitMs: 5000,
  startWaitMs: 5000,
  retryForMs: 5000,
};

interface ReadArchiveOptions {
  /** Names the command in the log. Absent: nothing is logged. */
  readonly logAs?: string;
  readonly patience?: Patience;
  /** How long a statement may take, in milliseconds, where that is longer than a minute. */
  readonly commandTimeoutMs?: number;
}

/**
 * Reads the archive of the server that POSTGRES_HOST names, or of the data folder, whose server is started for this
 * where it does not run.
 *
 * @throws CommandError, ConfigError, DatabaseError
 */
export async function readArchive<T>(
  env: Environment,
  work: (archive: ArchiveReader, database: DatabaseConfig) => Promise<T>,
  { logAs, patience, commandTimeoutMs }: ReadArchiveOptions = {},
): Promise<T> {
  const log = createLogger(logAs ?? 'bigbrotr', logAs === undefined ? 'silent' : 'warn');
  return withDatabase(env, log, async (database) => {
    const config = commandTimeoutMs === undefined ? database : { ...database, commandTimeoutMs };
    const archive = await ArchiveReader.connect(config, log, patience && { patience });
    try {
      return await work(archive, database);
    } finally {
      await archive.close();
    }
  });
}
