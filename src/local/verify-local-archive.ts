import { ConfigError, type DatabaseConfig, type Environment } from '../config/load.ts';
import type { ArchiveReader } from '../database/archive-reader.ts';
import { Database } from '../database/connection.ts';
import { DatabaseError } from '../database/error.ts';
import { type CommandRun, recordRun } from '../database/runs.ts';
import { type VerifyOptions, verifyArchive } from '../database/verify-archive.ts';
import { createVerifier } from '../nostr/verify.ts';
import { createLogger } from '../telemetry/logger.ts';
import { QUICK_PATIENCE, readArchive } from './read-archive.ts';

/** @returns how many events to take, null for all. @throws ConfigError */
export function parseSample(args: readonly string[]): number | null {
  if (args.length === 0) return null;
  const count = Number(args[1]);
  if (args.length === 2 && args[0] === '--sample' && Number.isSafeInteger(count) && count > 0)
    return count;
  throw new ConfigError([
    `${args.join(' ')} is not understood: give nothing, or --sample and a number above 0.`,
  ]);
}

/**
 * Verifies the archive of the server that POSTGRES_HOST names, or of the data folder.
 *
 * @returns the exit code: 1 when an event differs from what was stored
 * @throws ConfigError, DatabaseError
 */
export async function verifyLocalArchive(
  env: Environment,
  options: VerifyOptions,
): Promise<number> {
  const startedAt = Math.floor(Date.now() / 1000);
  const verify = async (archive: ArchiveReader, database: DatabaseConfig) => {
    let figures = '';
    const onResult = (line: string) => {
      figures = line;
      options.onResult(line);
    };
    const different = await verifyArchive(archive, await createVerifier(), {
      ...options,
      onResult,
    });
    const succeeded = different === 0;
    await record(database, { command: 'verify', startedAt, succeeded, detail: figures }, options);
    return different;
  };
  const different = await readArchive(env, verify, { logAs: 'verify' });
  return different === 0 ? 0 : 1;
}

/** Records the run, where the login may write: the outcome of the command is the same without. */
async function record(
  config: DatabaseConfig,
  run: CommandRun,
  { onProgress }: Pick<VerifyOptions, 'onProgress'>,
): Promise<void> {
  try {
    const database = await Database.connect(config, createLogger('verify', 'silent'), {
      patience: QUICK_PATIENCE,
    });
    try {
      await database.transaction((query) => recordRun(query, run));
    } finally {
      await database.close();
    }
  } catch (error) {
    if (!(error instanceof DatabaseError)) throw error;
    onProgress(`This run is not recorded for npm run status: ${error.message}`);
  }
}
