import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import { totalmem } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Launcher, LauncherLog } from './postgres-launcher.ts';
import { follow } from './postgres-launcher.ts';
import { isAlive } from './postgres-orphan.ts';

/** The data directory of an embedded PostgreSQL and the password beside it. */

/** Creates the directory; where root does so below another user's directory, it belongs to that user. @returns the path without symbolic links */
export function makeParent(parent: string): string {
  const first = fs.mkdirSync(parent, { recursive: true });
  if (first !== undefined && process.getuid?.() === 0) {
    const { uid, gid } = fs.statSync(dirname(first));
    for (let path = parent; path.startsWith(first); path = dirname(path)) {
      fs.chownSync(path, uid, gid);
    }
  }
  return fs.realpathSync(parent);
}

/** Whether the data exist. New data get their name when they are complete, so incomplete ones are never found here. */
export function holdsData(dataDir: string, launcher: Launcher): boolean {
  if (!fs.existsSync(dataDir)) return false;
  try {
    const entries = fs.readdirSync(dataDir);
    if (entries.length === 0) return false;
    if (!entries.includes('PG_VERSION')) {
      throw new Error(`${dataDir} holds something else than an archive: name another directory.`);
    }
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EACCES')) throw error;
    throw new Error(
      `The archive in ${dataDir} belongs to another user: start as that user or as root.`,
      { cause: error },
    );
  }
  const version = Number.parseInt(fs.readFileSync(join(dataDir, 'PG_VERSION'), 'utf8'), 10);
  if (version === launcher.version) return true;
  throw new Error(
    `The archive in ${dataDir} was made by PostgreSQL ${version} and cannot be opened by PostgreSQL ${launcher.version}: dump it with the old version and restore it into a new data directory.`,
  );
}

/** The password of the archive: generated at the first start, readable by its owner only. */
export function keepPassword(file: string, { account }: Launcher, archiveExists: boolean): string {
  if (!fs.existsSync(file)) {
    if (archiveExists) {
      throw new Error(
        `${file} is missing, and with it the password of the archive beside it: put it back.`,
      );
    }
    const draft = `${file}.${process.pid}`;
    fs.writeFileSync(draft, `${randomBytes(24).toString('hex')}\n`, { mode: 0o600 });
    if (account !== null) fs.chownSync(draft, account.uid, account.gid);
    // Two simultaneous starts both use the password of the first.
    linkUnlessThere(draft, file);
    fs.rmSync(draft);
  }
  return fs.readFileSync(file, 'utf8').trim();
}

function linkUnlessThere(from: string, to: string): void {
  try {
    fs.linkSync(from, to);
  } catch (error) {
    if (!fs.existsSync(to)) throw error;
  }
}

/** Creates new data beside their place and moves them there when they are complete. */
export async function createCluster(
  dataDir: string,
  launcher: Launcher,
  options: { user: string; passwordFile: string; durable: boolean; log: LauncherLog },
): Promise<void> {
  const { user, passwordFile, durable, log } = options;
  log.info(`Creating a new archive in ${dataDir}.`);
  const fresh = `${dataDir}.new-${process.pid}`;
  fs.mkdirSync(fresh, { mode: 0o700 });
  if (launcher.account !== null) {
    fs.chownSync(fresh, launcher.account.uid, launcher.account.gid);
  }
  const password = fs.openSync(passwordFile, 'r');
  const args = [`--username=${user}`, '--pwfile=/dev/stdin', '--auth=scram-sha-256'];
  args.push('--encoding=UTF8', '--locale=C', '--data-checksums');
  // Sorts by code point, and knows the letters of all alphabets without the system's locales.
  if (launcher.version >= 17) args.push('--locale-provider=builtin', '--builtin-locale=C.UTF-8');
  if (!durable) args.push('--no-sync');
  try {
    const stdio: ('pipe' | number)[] = [password, 'pipe', 'pipe'];
    const initdb = launcher.start('initdb', fresh, { args, deathSignal: 'KILL', stdio });
    const output = follow(initdb, (line) => log.debug(line));
    if ((await output.ended) !== 0) {
      throw new Error(`PostgreSQL could not create its data in ${dataDir}:\n${output.last()}`);
    }
    fs.appendFileSync(join(fresh, 'postgresql.conf'), archiveSettings());
    moveIntoPlace(fresh, dataDir);
  } finally {
    fs.closeSync(password);
    fs.rmSync(fresh, { recursive: true, force: true });
  }
}

function moveIntoPlace(fresh: string, dataDir: string): void {
  try {
    fs.renameSync(fresh, dataDir);
  } catch (error) {
    // A simultaneous start was faster; PostgreSQL decides which of the two serves the data.
    if (!fs.existsSync(join(dataDir, 'PG_VERSION'))) throw error;
    return;
  }
  const parent = fs.openSync(dirname(dataDir), 'r');
  fs.fsyncSync(parent);
  fs.closeSync(parent);
}

/** Removes what is left of starts that were killed while they created data. */
export function removeUnfinished(dataDir: string): void {
  const prefix = `${basename(dataDir)}.new-`;
  for (const name of fs.readdirSync(dirname(dataDir))) {
    if (!name.startsWith(prefix) || isAlive(Number(name.slice(prefix.length)))) continue;
    fs.rmSync(join(dirname(dataDir), name), { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Written once, into postgresql.conf, where the operator may change them. */
function archiveSettings(): string {
  const available = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  const megabytes = Math.round(available / 2 ** 20);
  const settings = {
    shared_buffers: `${Math.max(64, Math.min(2048, megabytes >> 3))}MB`,
    effective_cache_size: `${Math.max(128, megabytes >> 1)}MB`,
    maintenance_work_mem: '128MB',
    max_connections: '200',
    // The first change of each page after a checkpoint is logged in full: fewer checkpoints write less.
    max_wal_size: '2GB',
    checkpoint_timeout: '15min',
    // This PostgreSQL is built without lz4, and pglz costs more processor than the pages cost disk: 234 against 103 µs for
    // a new event right after a checkpoint.
    wal_compression: 'off',
    // A sighting is 16 bytes of data in two indexes at random places: reads from an SSD, not from a disk that seeks.
    random_page_cost: '1.1',
    timezone: 'UTC',
    log_timezone: 'UTC',
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value}'`);
  return `\n# Set by Bigbrotr when it created this archive. You may change it: it is read at each start.\n${lines.join('\n')}\n`;
}
