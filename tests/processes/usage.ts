import { readFileSync } from 'node:fs';
import type { Program } from './programs.ts';

/** What a process has used: memory at its peak in megabytes, time of processors in seconds. Null where there is no /proc. */
export interface Usage {
  readonly megabytes: number;
  readonly seconds: number;
}

/** Looks at it until it is stopped (proc(5): VmHWM, utime and stime in hundredths of a second). */
export function watchUsage({ pid }: Pick<Program, 'pid'>): { stop(): Usage | null } {
  let usage: Usage | null = null;
  const timer = setInterval(() => {
    try {
      const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
      const [, kilobytes] = /^VmHWM:\s+(\d+)/m.exec(read('status')) ?? [];
      const times = read('stat')
        .replace(/^.*\) /s, '')
        .split(' ')
        .slice(11, 13)
        .map(Number);
      const seconds = ((times[0] ?? 0) + (times[1] ?? 0)) / 100;
      if (kilobytes) usage = { megabytes: Math.round(Number(kilobytes) / 1024), seconds };
    } catch {
      // it has ended
    }
  }, 50);
  return {
    stop: () => {
      clearInterval(timer);
      return usage;
    },
  };
}
