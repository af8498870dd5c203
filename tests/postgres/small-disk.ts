import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';

/** A file system of its own, in memory, that can be full. */
export interface SmallDisk {
  readonly path: string;
  /** Bytes that are free now. */
  free(): number;
  /** Fills the disk with an unrelated file, except for this number of bytes. */
  leave(bytes: number): void;
  /** Takes that file away. */
  release(): void;
  remove(): void;
}

/** proc(5): what is mounted, as this process sees it. */
const MOUNTS = '/proc/self/mounts';
const PIECE = Buffer.alloc(1024 * 1024);

/** Writes this number of bytes, or as many as there is room for: other processes write meanwhile. */
function fill(path: string, bytes: number): void {
  const file = openSync(path, 'w');
  try {
    for (let left = bytes; left > 0; )
      left -= writeSync(file, PIECE, 0, Math.min(left, PIECE.length));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
  } finally {
    closeSync(file);
  }
}

/** Mounts a tmpfs. @returns the reason where this machine does not let us */
export function mountSmallDisk(path: string, megabytes: number): SmallDisk | string {
  if (process.platform !== 'linux') return `there is no tmpfs on ${process.platform}`;
  mkdirSync(path, { recursive: true });
  const options = ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'tmpfs', path];
  const { status, stderr, error } = spawnSync('mount', options, { encoding: 'utf8' });
  if (status !== 0) {
    rmSync(path, { recursive: true, force: true });
    return `a tmpfs cannot be mounted: ${error?.message ?? stderr.trim()}`;
  }
  const ballast = join(path, 'ballast');
  const free = () => {
    const { bavail, bsize } = statfsSync(path);
    return bavail * bsize;
  };
  return {
    path,
    free,
    leave: (bytes) => fill(ballast, Math.max(0, free() - bytes)),
    release: () => rmSync(ballast, { force: true }),
    remove: () => {
      unmount(path);
      rmSync(path, { recursive: true, force: true });
    },
  };
}

/** Unmounts every disk in a directory: of a process that was killed, they stay. */
export function removeDisks(directory: string): void {
  const mounts = existsSync(MOUNTS) ? readFileSync(MOUNTS, 'utf8') : '';
  for (const [, path = ''] of mounts.matchAll(/^tmpfs (\S+) tmpfs /gm))
    if (path.startsWith(`${directory}/`)) unmount(path);
}

function unmount(path: string): void {
  spawnSync('umount', ['--lazy', path]);
}
