import { ConfigError, type Environment } from '../config/load.ts';
import { Bigbrotr } from '../database/bigbrotr.ts';
import { importLine, importPythonArchive } from '../database/import-python.ts';
import { PythonArchive, PythonArchiveError } from '../database/python-archive.ts';
import { createVerifier } from '../nostr/verify.ts';
import { CommandError } from '../runtime/failure.ts';
import { createLogger } from '../telemetry/logger.ts';
import { withDatabase } from './embedded-access.ts';

/** @returns the URL of the Python archive's database. @throws ConfigError */
export function parseSource(args: readonly string[]): string {
  const [url, ...more] = args;
  if (url && /^postgres(ql)?:\/\//.test(url) && more.length === 0) return url;
  throw new ConfigError([
    'give one argument, the database of the Python archive: postgresql://USER@HOST:PORT/DATABASE (its password in the URL, in PGPASSWORD or in ~/.pgpass)',
  ]);
}

/**
 * Imports a Python archive into the archive of the server that POSTGRES_HOST names, or of the data folder.
 *
 * @param write receives lines for people
 * @returns the exit code
 * @throws CommandError, ConfigError, DatabaseError
 */
export async function importIntoLocalArchive(
  env: Environment,
  source: string,
  write: (line: string) => void,
): Promise<number> {
  const log = createLogger('import-python', 'warn');
  return withDatabase(env, log, async (database) => {
    const bigbrotr = await Bigbrotr.connect(database, log);
    try {
      const python = await openSource(source);
      try {
        const verifier = await createVerifier();
        write(importLine(await importPythonArchive(python, bigbrotr, verifier, write)));
        return 0;
      } finally {
        await python.close();
      }
    } finally {
      await bigbrotr.close();
    }
  });
}

async function openSource(source: string): Promise<PythonArchive> {
  try {
    return await PythonArchive.open(source);
  } catch (error) {
    if (error instanceof PythonArchiveError) throw new CommandError(error.message);
    throw error;
  }
}
