import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

export interface MemoryLimit {
  /** What was done, for the report. */
  readonly note: string;
  /** Puts the processes back, and removes the group. */
  remove(): void;
}

/**
 * Limits the memory of a process and its children, page cache included, by a control group below that of this process
 * (cgroups(7), either version). Children that exist already are moved too. Where that is not allowed, it says so.
 */
export function limitMemory(pid: number, bytes: number): MemoryLimit {
  const gigabytes = `${bytes / 1024 ** 3} GB`;
  try {
    const group = makeGroup(bytes);
    for (const process of [pid, ...childrenOf(pid)])
      writeFileSync(join(group, 'cgroup.procs'), `${process}`);
    return {
      note: `${gigabytes} for PostgreSQL with its page cache, by a control group`,
      remove: () => removeGroup(group),
    };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return {
      note: `not limited to ${gigabytes}: no control group can be made (${why})`,
      remove: () => {},
    };
  }
}

function removeGroup(group: string): void {
  for (const process of readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n'))
    if (process !== '') writeFileSync(join(dirname(group), 'cgroup.procs'), process);
  rmdirSync(group);
}

function makeGroup(bytes: number): string {
  const lines = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n');
  const own = (controller: string) => lines.find((line) => line.split(':')[1] === controller);
  const isFirstVersion = own('memory') !== undefined;
  const root = isFirstVersion ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup';
  const path = (own('memory') ?? own(''))?.split(':')[2] ?? '/';
  const group = join(root, path, `bigbrotr-bench-${process.pid}`);
  mkdirSync(group);
  const limit = join(group, isFirstVersion ? 'memory.limit_in_bytes' : 'memory.max');
  try {
    if (!existsSync(limit)) throw new Error('it would have no memory controller');
    writeFileSync(limit, `${bytes}`);
  } catch (error) {
    rmdirSync(group);
    throw error;
  }
  return group;
}

function childrenOf(pid: number): number[] {
  const parentOf = (name: string) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      return Number(stat.slice(stat.lastIndexOf(')')).split(' ')[2]);
    } catch {
      return 0; // it has ended in the meantime
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && parentOf(name) === pid)
    .map(Number);
}
