import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { Scheduler } from '../../../src/runtime/scheduler.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { projectFile } from '../../processes/project.ts';
import type { Bench } from './bench-run.ts';
import { eventsOf } from './event-set.ts';
import { alternate, type Result, side } from './measure.ts';
import { silent } from './pipeline.ts';
import type { VerifyTimes } from './verify-thread.ts';

/** Checks a second of the C loop over these events. */
type VerifyLoop = (round: number) => Promise<number>;

/** What one signature check costs in the middle of a visit, against a loop in C that does nothing else. */
export async function verifyRow(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline } = bench;
  const set = { count: size.events, seed: 1, size: 'notes', everySeconds: 3 } as const;
  await relays.hold('verify', set);
  const loop = compileLoop([...eventsOf(set)]);
  const scheduler = new Scheduler<Relay, VerifyTimes>({
    workerUrl: new URL('./verify-thread.js', import.meta.url),
    workerData: { database: pipeline.db.config },
    workers: 1,
    jobsPerWorker: 1,
    log: silent,
    onDead: (reason) => {
      throw new Error(reason);
    },
  });
  await scheduler.start();
  const means: number[] = [];
  const inPipeline = async () => {
    await pipeline.clear();
    const outcome = await scheduler.run('verify', await pipeline.relay(relays.url('verify')));
    if (!outcome.ok) throw new Error(outcome.reason);
    if (outcome.result.verified < set.count) throw new Error('not every event was verified');
    means.push(1e9 / outcome.result.mean);
    return 1e9 / outcome.result.median;
  };
  try {
    const absent = 'reason' in loop;
    const { reference, ours, ratio } = await alternate(
      size,
      absent ? async () => 1 : loop,
      inPipeline,
    );
    return [
      {
        row: 'verify',
        what: 'verify a new event, in the running pipeline',
        unit: 'events/s',
        reference: absent ? null : side('C loop', reference),
        ours: side(bench.verifier.name, ours),
        ratio: absent ? null : ratio,
        goal: 'at least 0.80 of the C loop',
        met: absent ? null : ratio >= 0.8,
        details: {
          'how it is counted': 'from the median time of one check, on both sides',
          'ours from the mean time, events/s': Math.round(side('', means).median),
          ...(absent ? { 'no C loop': loop.reason } : {}),
        },
      },
    ];
  } finally {
    await scheduler.stop();
    await relays.drop('verify');
  }
}

function compileLoop(events: readonly NostrEvent[]): VerifyLoop | { reason: string } {
  const program = join(ownDirectory(), 'verify-loop');
  const source = projectFile('tests/programs/bench/verify-loop.c');
  const { status, error, stderr } = spawnSync(
    'gcc',
    ['-O2', '-o', program, source, '-lsecp256k1'],
    { encoding: 'utf8' },
  );
  if (error) return { reason: 'gcc is not installed' };
  if (status !== 0) {
    const [line = ''] = stderr.split('\n');
    return { reason: `libsecp256k1-dev is not installed, or gcc fails: ${line}` };
  }
  const records = `${program}.records`;
  writeFileSync(
    records,
    Buffer.from(events.map(({ id, pubkey, sig }) => id + pubkey + sig).join(''), 'hex'),
  );
  return async () => {
    const { stdout } = spawnSync(program, [records], { encoding: 'utf8' });
    const [good, nanoseconds] = stdout.split(' ').map(Number);
    if (good !== events.length || !nanoseconds) throw new Error(`the C loop says: ${stdout}`);
    return 1e9 / nanoseconds;
  };
}
