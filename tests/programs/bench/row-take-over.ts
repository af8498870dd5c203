import { setTimeout as sleep } from 'node:timers/promises';
import { health, healthPort } from '../../processes/health-client.ts';
import type { Program } from '../../processes/programs.ts';
import type { Bench } from './bench-run.ts';
import { type Result, rounded, side } from './measure.ts';
import { announce, oneWorker, startSynchronizer } from './synchronizers.ts';

const RELAYS = 20;
/** A lease, a look-up while nothing is due, and the connection. */
const MOST_SECONDS = 75;
const LIVE = { SYNCHRONIZER_LIVE: 'true' };

/**
 * How long the relays are without a holder that one synchronizer follows live, with the lease that it has unless told,
 * until another one follows all of them: after the first was killed, and after it was stopped. Takes some minutes,
 * so that a quick bench leaves it out.
 */
export async function takeOverRow(bench: Bench): Promise<Result[]> {
  if (bench.size.mode === 'quick') return [];
  await bench.relays.hold('few', { count: 5, seed: 11, size: 'likes', everySeconds: 3 });
  const urls = Array.from({ length: RELAYS }, () => bench.relays.url('few'));
  await bench.pipeline.clear();
  await bench.pipeline.db.query('truncate claims');
  await announce(bench, urls);
  const programs: Program[] = [];
  const next = async () => {
    const program = startSynchronizer(bench, { ...oneWorker(RELAYS), ...LIVE });
    programs.push(program);
    const port = await healthPort(program, 'synchronizer');
    while ((await health(port))?.status !== 200) await sleep(100);
    return program;
  };
  const seconds: number[] = [];
  try {
    let holder = await next();
    await holdsAll(bench, holder);
    for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
      const other = await next();
      await sleep(5000);
      holder.signal(signal);
      const from = performance.now();
      await holdsAll(bench, other);
      seconds.push((performance.now() - from) / 1000);
      holder = other;
    }
  } finally {
    for (const program of programs) program.signal('SIGKILL');
    await Promise.all(programs.map(({ ended }) => ended));
    await bench.relays.drop('few');
  }
  const [killed = 0, stopped = 0] = seconds;
  return [
    {
      row: 'take-over',
      what: `time until all of ${RELAYS} relays are visited by another process`,
      unit: 's',
      reference: null,
      ours: side('killed, stopped', seconds),
      ratio: null,
      goal: `at most ${MOST_SECONDS} s`,
      met: Math.max(...seconds) <= MOST_SECONDS,
      details: {
        'after the holder was killed, s': rounded(killed),
        'after the holder was stopped, s': rounded(stopped),
      },
    },
  ];
}

/** Waits until a process holds every relay, and has visited each. */
async function holdsAll({ pipeline: { db } }: Bench, { pid }: Program): Promise<void> {
  const held = () =>
    db.number(
      `select count(*) from claims c join visits v using (relay_id)
       where c.work = 'visit' and is_lease_valid(c.until) and c.holder like $1 and v.ended_at >= c.since`,
      [`%:${pid}:%`],
    );
  while ((await held()) < RELAYS) await sleep(100);
}
