import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generateSecretKey, getPublicKey } from 'nostr-tools/pure';
import type { Environment } from '../config.ts';

/**
 * The key pair of this machine, for whoever has configured none: made at the first start, kept in the data
 * folder, readable by its owner only. @returns nothing where the environment brings a key.
 */
export function keptKeys(
  env: Environment,
  folder: string,
): { SECRET_KEY?: string; PUBLIC_KEY?: string } {
  if (env.SECRET_KEY || env.SECRET_KEY_FILE || env.PUBLIC_KEY) return {};
  const path = join(folder, 'secret-key');
  const secretKey = readKey(path) ?? makeKey(path);
  return { SECRET_KEY: secretKey, PUBLIC_KEY: getPublicKey(Buffer.from(secretKey, 'hex')) };
}

function readKey(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return null;
  }
}

function makeKey(path: string): string {
  const secretKey = Buffer.from(generateSecretKey()).toString('hex');
  writeFileSync(path, `${secretKey}\n`, { mode: 0o600 });
  return secretKey;
}
