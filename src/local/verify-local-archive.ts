import { ConfigError, type Environment } from '../config/load.ts';
import { type VerifyOptions, verifyArchive } from '../database/verify-archive.ts';
import { createVerifier } from '../nostr/verify.ts';
import { readArchive } from './read-archive.ts';

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
  const verify = async (archive: Parameters<typeof verifyArchive>[0]) =>
    verifyArchive(archive, await createVerifier(), options);
  const different = await readArchive(env, verify, { logAs: 'verify' });
  return different === 0 ? 0 : 1;
}
