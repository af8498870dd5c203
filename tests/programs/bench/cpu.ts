import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** Ticks of a second in proc(5): 100 on every Linux that Node.js runs on. */
const TICKS = 100;

interface Usage {
  readonly parent: number;
  /** Seconds, those of children that have ended included. */
  readonly seconds: number;
}

/** CPU seconds so far of a process and all below it; null where there is no /proc. */
export function cpuOf(pid: number): number | null {
  if (!existsSync('/proc/self/stat')) return null;
  const usages = new Map<number, Usage>();
  for (const name of readdirSync('/proc')) {
    const usage = /^\d+$/.test(name) ? usageOf(name) : null;
    if (usage) usages.set(Number(name), usage);
  }
  const below = (root: number): number => {
    let seconds = usages.get(root)?.seconds ?? 0;
    for (const [child, { parent }] of usages) if (parent === root) seconds += below(child);
    return seconds;
  };
  return below(pid);
}

function usageOf(pid: string): Usage | null {
  try {
    // The name in parentheses may hold anything, so fields are counted from its end.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    const ticks = [11, 12, 13, 14].reduce((sum, field) => sum + Number(fields[field]), 0);
    return { parent: Number(fields[1]), seconds: ticks / TICKS };
  } catch {
    return null; // it has ended in the meantime
  }
}

/** Resident memory of a process in megabytes; null where there is no /proc, or no such process any more. */
export function rssOf(pid: number): number | null {
  try {
    const [, kilobytes = '0'] =
      /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    return Number(kilobytes) / 1024;
  } catch {
    return null;
  }
}
