import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import { ConfigError, type Environment } from '../config/load.ts';

/**
 * The key pair of this machine, where none is configured: generated at the first start, kept in the data folder, readable
 * by its owner only.
 *
 * @returns nothing where the environment has a key
 * @throws ConfigError when the kept key is damaged, or cannot be written
 */
export function keptKeys(
  env: Environment,
  folder: string,
): { SECRET_KEY?: string; PUBLIC_KEY?: string } {
  if (env.SECRET_KEY || env.SECRET_KEY_FILE || env.PUBLIC_KEY) return {};
  // Readers of NIP-66 events come to trust a key: a generated one may be lost with the data folder.
  if (env.MONITOR_PUBLISH_RELAYS)
    throw new ConfigError([
      'MONITOR_PUBLISH_RELAYS is set and SECRET_KEY is not: what is published is signed with a key of your own. Make a key pair with: npm run keygen',
    ]);
  const path = join(folder, 'secret-key');
  const secretKey = readKey(path) ?? makeKey(path);
  return { SECRET_KEY: secretKey, PUBLIC_KEY: publicKeyOf(secretKey, path) };
}

function publicKeyOf(secretKey: string, path: string): string {
  try {
    return getPublicKey(Buffer.from(secretKey, 'hex'));
  } catch {
    throw new ConfigError([
      `${path} does not hold a secret key of 64 hexadecimal characters: put it back, or delete the file for a new one.`,
    ]);
  }
}

function readKey(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return null;
    throw new ConfigError([`${path} cannot be read (${codeOf(error)}): let this user read it.`]);
  }
}

function makeKey(path: string): string {
  const secretKey = Buffer.from(generateSecretKey()).toString('hex');
  try {
    writeFileSync(path, `${secretKey}\n`, { mode: 0o600 });
  } catch (error) {
    throw new ConfigError([
      `${path} cannot be written (${codeOf(error)}): let LOCAL_DATA_PATH be a directory that this user may write to.`,
    ]);
  }
  return secretKey;
}

function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
