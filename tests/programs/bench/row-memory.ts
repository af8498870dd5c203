import { setTimeout as sleep } from 'node:timers/promises';
import { health, healthPort } from '../../processes/health-client.ts';
import type { Program } from '../../processes/programs.ts';
import type { Bench } from './bench-run.ts';
import { rssOf } from './cpu.ts';
import { median, type Result, rounded, side } from './measure.ts';
import { announce, startSynchronizer } from './synchronizers.ts';

const RELAYS = 20;
const GOAL_MB = 300;
/** Memory is flat when its last third has grown by no more than this over the third before. */
const FLAT = 1.1;

/**
 * The real synchronizer, with default settings, while twenty relays send it all that they have, or as much of it as it
 * takes in 25 minutes (BENCH_MEMORY_SECONDS).
 */
export async function memoryRow(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline } = bench;
  const quick = size.mode === 'quick';
  const count = quick ? 20_000 : 1_000_000;
  const mostSeconds = Number(process.env.BENCH_MEMORY_SECONDS) || (quick ? 8 : 1500);
  await pipeline.clear();
  await relays.hold('many', { count, seed: 7, size: 'likes', everySeconds: 3 });
  await announce(
    bench,
    Array.from({ length: RELAYS }, () => relays.url('many')),
  );
  const program = startSynchronizer(bench);
  const curve: number[] = [];
  const started = performance.now();
  let held = 0;
  let progress = { events: 0, sightings: 0 };
  try {
    const port = await healthPort(program, 'synchronizer');
    while (held < RELAYS * count && performance.now() - started < mostSeconds * 1000) {
      await sleep(quick ? 500 : 2000);
      if (!program.isRunning) throw new Error(`the synchronizer ended:\n${program.said}`);
      curve.push(rssOf(program.pid) ?? 0);
      progress = countsOf((await health(port))?.body);
      held = progress.sightings;
    }
  } finally {
    await stop(program);
    await relays.drop('many');
  }
  const seconds = (performance.now() - started) / 1000;
  const third = Math.floor(curve.length / 3);
  const growth = median(curve.slice(-third)) / median(curve.slice(-2 * third, -third));
  const most = Math.max(...curve);
  return [
    {
      row: 'memory',
      what: `RSS of a synchronizer, ${RELAYS} relays of ${count.toLocaleString('en')} events each`,
      unit: 'MB',
      reference: null,
      ours: side('the highest', [most]),
      ratio: null,
      goal: `below ${GOAL_MB}, flat over time`,
      met: most < GOAL_MB && growth < FLAT,
      details: {
        seconds: Math.round(seconds),
        ...progress,
        'sightings a second': Math.round(held / seconds),
        'last third over the third before': rounded(growth),
        'over time, MB': sample(curve, 20).map(Math.round).join(' '),
        ...(quick ? { 'scaled down': `${count} events a relay instead of 1,000,000` } : {}),
        ...(held < RELAYS * count ? { 'stopped by time': `after ${mostSeconds} s` } : {}),
      },
    },
  ];
}

/** Resolves when it is gone: within its own deadline, or cut. */
async function stop(program: Program): Promise<void> {
  if (!program.isRunning) return;
  program.signal('SIGTERM');
  const cut = setTimeout(() => program.signal('SIGKILL'), 15_000);
  await program.ended;
  clearTimeout(cut);
}

function countsOf(body: Readonly<Record<string, unknown>> | undefined) {
  const counts = (body?.counts ?? {}) as Record<string, number>;
  return { events: counts.events ?? 0, sightings: counts.sightings ?? 0 };
}

/** This number of values, evenly spread. */
function sample(values: readonly number[], most: number): number[] {
  const step = Math.max(1, values.length / most);
  return Array.from(
    { length: Math.min(most, values.length) },
    (_, index) => values[Math.floor(index * step)] ?? 0,
  );
}
