import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Who holds a data directory. PostgreSQL keeps the process number of its postmaster in `postmaster.pid`; each of ours
 * also carries the process that started it, as a setting of no other meaning.
 */

/** A fast shutdown writes a checkpoint; after this long an immediate one is asked for, and the next start recovers. */
export const SHUTDOWN_MS = 20_000;

/** The setting that marks a postmaster as ours. */
export function ownership(): Record<string, string> {
  return { 'bigbrotr.owner': `${process.pid}` };
}

interface ProcessFacts {
  parent: number;
  command: string;
  /** Where it works: a postmaster always in its data directory. null where the system does not tell. */
  directory: string | null;
}

/** null when there is no such process, when it is another user's, or when only its remains are left. */
function inspectProcess(pid: number): ProcessFacts | null {
  if (existsSync('/proc/self/stat')) {
    try {
      // proc(5): the name in parentheses may hold anything, so fields are counted from the last one.
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

/** Sends a fast shutdown to a postmaster, and an immediate one after SHUTDOWN_MS. `ended` settles when it is gone. */
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
 * Makes sure that nobody serves `dataDir`: a server whose start was killed is stopped, a `postmaster.pid` whose
 * number another process has got since is removed (PostgreSQL would take that one for a server). Throws when the server of a living
 * start, or one that is not ours, is there.
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
  // Only its own child has it for a parent: a number that was used again cannot deceive.
  if (facts.parent === Number(owner)) throw inUse(dataDir, `process ${owner}`);
  log.info(`Stopping PostgreSQL (process ${pid}), left behind by a start that was killed.`);
  await shutDown(pid, untilGone(pid));
}

export function inUse(dataDir: string, by: string): Error {
  return new Error(
    `Another start (${by}) is using the archive in ${dataDir}: stop that one first, or give this one a data directory of its own.`,
  );
}
