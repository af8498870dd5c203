/** The name by which a process holds claims, and which of such names belong to processes of this machine that are gone. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

const PARTS = /^.*:(\d+):[0-9a-f]{16}$/s;

/**
 * Where process ids mean the same processes: this run of the kernel and this namespace of process ids (Linux), so that
 * neither a container nor another host of the same name is taken for this one. Null if that cannot be determined.
 */
function placeOfProcess(): string | null {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    const namespace = readlinkSync('/proc/self/ns/pid');
    return createHash('sha256').update(`${boot} ${namespace}`).digest('hex').slice(0, 8);
  } catch {
    return null;
  }
}

const place = placeOfProcess();

/** A name for this process, another each time: host, process id, and where that id is valid with a random part. */
export function newHolder(): string {
  const random = randomBytes(4).toString('hex');
  return `${hostname()}:${process.pid}:${place ?? '00000000'}${random}`;
}

/** How the names of all processes of this host begin; null if it cannot be determined which of them have ended. */
export function holdersOfThisHost(): string | null {
  return place === null ? null : `${hostname()}:`;
}

/** Those of these names whose process ran here and is gone. */
export function goneOf(holders: readonly string[]): string[] {
  return holders.filter((holder) => {
    const pid = PARTS.exec(holder)?.[1];
    const wasHere = place !== null && holder.slice(-16, -8) === place;
    return wasHere && pid !== undefined && !isRunning(Number(pid));
  });
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0); // sends nothing
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
