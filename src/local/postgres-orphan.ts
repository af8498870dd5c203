import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Finds out which process serves a data directory. PostgreSQL writes the process id of its postmaster to `postmaster.pid`;
 * each one started here also carries the id of the process that started it, as a setting of no other meaning.
 */

/** A fast shutdown writes a checkpoint; after this an immediate one follows, and the next start recovers. */
const SHUTDOWN_MS = 20_000;

/** The setting that marks a postmaster as ours. */
export function ownership(): Record<string, string> {
  return { 'bigbrotr.owner': `${process.pid}` };
}

interface ProcessFacts {
  parent: number;
  command: string;
  /** Its working directory: for a postmaster the data directory. Null where the system does not show it. */
  directory: string | null;
}

/** Null when there is no such process, when it is another user's, or a zombie. */
function inspectProcess(pid: number): ProcessFacts | null {
  if (existsSync('/proc/self/stat')) {
    try {
      // proc(5): the name in parentheses may contain anything, so fields are counted after the last one.
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\)/s, '')
        .trim()
        .split(' ');
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      const directory = readlinkSync(`/proc/${pid}/cwd`);
      return command === '' ? null : { parent: Number(fields[1]), command, directory };
    } catch {
      return null;
    }
  }
  const listed = spawnSync('ps', ['-ww', '-o', 'ppid=,args=', '-p', `${pid}`], {
    encoding: 'utf8',
  });
  const [, parent, command] = /^\s*(\d+) (.*)$/m.exec(listed.stdout ?? '') ?? [];
  if (parent === undefined || command === undefined) return null;
  return { parent: Number(parent), command, directory: null };
}

function serves(facts: ProcessFacts, dataDir: string): boolean {
  if (!/\bpostgres\b/.test(facts.command)) return false;
  return facts.directory === null
    ? facts.command.includes(`-D ${dataDir} `)
    : facts.directory === dataDir;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}

/** Sends a fast shutdown to a postmaster, and an immediate one after SHUTDOWN_MS. `ended` settles when it has ended. */
export async function shutDown(pid: number, ended: Promise<unknown>): Promise<void> {
  process.kill(pid, 'SIGINT');
  const timer = setTimeout(() => {
    if (isAlive(pid)) process.kill(pid, 'SIGQUIT');
  }, SHUTDOWN_MS);
  await ended.finally(() => clearTimeout(timer));
}

async function untilGone(pid: number): Promise<void> {
  while (inspectProcess(pid) !== null) await sleep(50);
}

/**
 * Makes sure that no server serves `dataDir`: one whose starter was killed is stopped, a `postmaster.pid` whose id belongs
 * to another process by now is removed (PostgreSQL would take that one for a server).
 *
 * @throws Error when its starter is alive, or when Bigbrotr did not start it
 */
export async function releaseDataDirectory(
  dataDir: string,
  log: { info(message: string): void },
): Promise<void> {
  const lock = join(dataDir, 'postmaster.pid');
  if (!existsSync(lock)) return;
  const pid = Number.parseInt(readFileSync(lock, 'utf8'), 10);
  const facts = pid > 1 ? inspectProcess(pid) : null;
  if (facts === null || !serves(facts, dataDir)) {
    if (isAlive(pid)) rmSync(lock, { force: true });
    return;
  }
  const owner = /bigbrotr\.owner=(\d+)/.exec(facts.command)?.[1];
  if (owner === undefined) {
    throw new Error(
      `A PostgreSQL server (process ${pid}) that Bigbrotr did not start holds ${dataDir}: stop it first.`,
    );
  }
  // Only a child of the owner has it as parent: a reused process id cannot pass for it.
  if (facts.parent === Number(owner)) throw inUse(dataDir, `process ${owner}`);
  log.info(`Stopping PostgreSQL (process ${pid}), left behind by a start that was killed.`);
  await shutDown(pid, untilGone(pid));
}

export function inUse(dataDir: string, by: string): Error {
  return new Error(
    `Another start (${by}) is using the archive in ${dataDir}: stop that one first, or give this one a data directory of its own.`,
  );
}
