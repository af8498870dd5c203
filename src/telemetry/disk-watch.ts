import { statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { HealthStatus } from './health.ts';

const LOOK_MS = 10_000;
const MIB = 1024 * 1024;
/** Below this many free bytes a warning comes; above `ENOUGH` it is over. */
const LOW = 2048 * MIB;
const ENOUGH = 3072 * MIB;
/** Below this many PostgreSQL can write next to nothing. */
const FULL = 64 * MIB;

type DiskState = NonNullable<HealthStatus['disk']>;
type Shown = Pick<HealthStatus, 'disk' | 'diskFreeBytes' | 'diskReason'>;

export type FreeBytes = (path: string) => Promise<number>;

/** Bytes that are free at a path for a user without privileges. @throws an error of the system */
export async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** The state of a disk with this many free bytes, after an earlier one: a warning is over only well above its limit. */
export function diskState(free: number, earlier: DiskState = 'enough'): DiskState {
  if (free < FULL) return 'full';
  if (free < LOW) return 'low';
  return earlier === 'enough' || free > ENOUGH ? 'enough' : 'low';
}

/** What is wrong with a disk and what to do, as a sentence; null when nothing is. */
export function diskReason(path: string, free: number, state: DiskState): string | null {
  const left = `${Math.floor(free / MIB).toLocaleString('en-US')} MiB are free`;
  if (state === 'full')
    return `the disk that holds ${path} is full (${left}): free space on it; nothing is lost, and archiving goes on by itself then`;
  if (state === 'low')
    return `the disk that holds ${path} is getting full (${left}): free space on it, or move the database to a larger one`;
  return null;
}

/** Watches the disk of the database: says which one gets full, how much is free, and what to do. */
export class DiskWatch {
  readonly #path: string;
  readonly #log: Logger;
  readonly #free: FreeBytes;
  /** Null before it was looked at, and while it cannot be. */
  #freeBytes: number | null = null;
  #state: DiskState = 'enough';

  /** @param free how free bytes are found: from the system unless given */
  constructor(path: string, log: Logger, free: FreeBytes = freeBytesOf) {
    this.#path = path;
    this.#log = log;
    this.#free = free;
  }

  /** The fields of `/health`. */
  get shown(): Shown {
    if (this.#freeBytes === null) return {};
    const reason = diskReason(this.#path, this.#freeBytes, this.#state);
    return {
      ...{ disk: this.#state, diskFreeBytes: this.#freeBytes },
      ...(reason !== null && { diskReason: reason }),
    };
  }

  /** Looks until the signal aborts. Never rejects. @param onLook called after each look that succeeded */
  async run(signal: AbortSignal, onLook: (freeBytes: number) => void = () => {}): Promise<void> {
    while (!signal.aborted) {
      await this.look();
      if (this.#freeBytes !== null) onLook(this.#freeBytes);
      await sleep(LOOK_MS, undefined, { signal, ref: false }).catch(() => {}); // it keeps no process alive
    }
  }

  /** Looks once, and logs a change. Never rejects. */
  async look(): Promise<void> {
    const free = await this.#free(this.#path).catch(() => null);
    this.#freeBytes = free;
    if (free === null) return;
    const state = diskState(free, this.#state);
    if (state === this.#state) return;
    const wasFull = this.#state === 'full';
    this.#state = state;
    const fields = { path: this.#path, freeMib: Math.floor(free / MIB) };
    const reason = diskReason(this.#path, free, state);
    if (reason === null)
      this.#log.info(fields, `the disk that holds ${this.#path} has space again`);
    else if (state === 'full') this.#log.error(fields, reason);
    else this.#log.warn(fields, reason);
    if (wasFull && state === 'low') this.#log.info(fields, 'PostgreSQL can write again');
  }
}
