import type { Bench } from './bench-run.ts';
import { CpuCount } from './bench-run.ts';
import { alternate, type Result, secondsOf, side } from './measure.ts';

/** New events, from a relay on loopback to the disk. */
export async function archiveRow(bench: Bench): Promise<Result[]> {
  return [
    await archiveFrom(bench, {
      row: 'archive',
      what: 'archive new events end to end: one worker, one relay, events of 1.3 KB',
      delayMs: 0,
      goal: 8,
    }),
  ];
}

/** The same from a relay that is far away. */
export async function latencyRow(bench: Bench): Promise<Result[]> {
  return [
    await archiveFrom(bench, {
      row: 'latency',
      what: 'the same with 50 ms between request and answer',
      delayMs: 50,
      goal: 15,
    }),
  ];
}

interface ArchiveRow {
  readonly row: string;
  readonly what: string;
  readonly delayMs: number;
  /** Times the reference. */
  readonly goal: number;
}

async function archiveFrom(
  bench: Bench,
  { row, what, delayMs, goal }: ArchiveRow,
): Promise<Result> {
  const { size, relays, pipeline, reference, verifier } = bench;
  const { events, referenceEvents, rounds } = size;
  await relays.hold('notes', { count: events, seed: 2, size: 'notes', everySeconds: 3 });
  const cpu = new CpuCount(bench);
  const comparison = await alternate(
    rounds,
    async () => {
      await reference.clear();
      const url = relays.url('notes', delayMs);
      return (
        referenceEvents / (await secondsOf(() => reference.visit(url, referenceEvents, verifier)))
      );
    },
    async () => {
      await pipeline.clear();
      const url = relays.url('notes', delayMs);
      const visit = () => pipeline.visit(url, { events, sightings: events });
      return events / (await cpu.of(events, visit));
    },
  );
  await relays.drop('notes');
  return {
    row,
    what,
    unit: 'events/s',
    reference: side('the original way', comparison.reference),
    ours: side('ours', comparison.ours),
    ratio: comparison.ratio,
    goal: `${goal} times the original way`,
    met: comparison.ratio >= goal,
    details: { 'events a round': events, ...cpu.details },
  };
}
