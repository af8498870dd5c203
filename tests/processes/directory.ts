import { chmodSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive } from '../../src/local/postgres-orphan.ts';
import { removeDisks } from '../postgres/small-disk.ts';

const PARENT = '/var/tmp'; // on a disk, unlike /tmp on many machines
const PREFIX = 'bigbrotr-test-';

/**
 * The directory of this process, which every user may enter. Who asks for it removes it; what processes that were
 * killed have left is removed by the next one that asks.
 */
export function ownDirectory(): string {
  for (const name of readdirSync(PARENT)) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : 0;
    if (pid === 0 || isAlive(pid)) continue;
    removeDisks(join(PARENT, name));
    rmSync(join(PARENT, name), { recursive: true, force: true });
  }
  const directory = join(PARENT, `${PREFIX}${process.pid}`);
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o755);
  return directory;
}
