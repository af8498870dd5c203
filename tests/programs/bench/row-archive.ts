import type { Bench } from './bench-run.ts';
import { CpuCount } from './bench-run.ts';
import { NEWEST } from './event-set.ts';
import { alternate, ORIGINAL, type Result, secondsOf, side, timesOriginal } from './measure.ts';

/** New events, from a relay on loopback to the disk. */
export async function archiveRow(bench: Bench): Promise<Result[]> {
  return [
    await archiveFrom(bench, {
      row: 'archive',
      what: 'archive new events end to end: one worker, one relay, events of 1.3 KB',
      delayMs: 0,
      times: 8,
      original: ORIGINAL.archive,
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
      times: 15,
      original: ORIGINAL.latency,
    }),
  ];
}

const EVERY_SECONDS = 3;

interface ArchiveRow {
  readonly row: string;
  readonly what: string;
  readonly delayMs: number;
  /** The goal as a multiple of the rate of the Python original. */
  readonly times: number;
  readonly original: number;
}

async function archiveFrom(
  bench: Bench,
  { row, what, delayMs, times, original }: ArchiveRow,
): Promise<Result> {
  const { size, relays, pipeline, reference, verifier } = bench;
  const { events, referenceEvents } = size;
  await relays.hold('notes', {
    count: events,
    seed: 2,
    size: 'notes',
    everySeconds: EVERY_SECONDS,
  });
  await relays.hold('some', {
    ...{ count: referenceEvents, seed: 2, size: 'notes', everySeconds: EVERY_SECONDS },
  });
  const stretch = { since: NEWEST - referenceEvents * EVERY_SECONDS, until: NEWEST };
  const cpu = new CpuCount(bench);
  const comparison = await alternate(
    size,
    async () => {
      await reference.clear();
      const url = relays.url('some', delayMs);
      let archived = 0;
      const seconds = await secondsOf(async () => {
        archived = await reference.visit(url, stretch, verifier);
      });
      if (archived !== referenceEvents) throw new Error(`the reference archived ${archived}`);
      return archived / seconds;
    },
    async () => {
      await pipeline.clear();
      const url = relays.url('notes', delayMs);
      const visit = () => pipeline.visit(url, { events, sightings: events });
      return events / (await cpu.of(events, visit));
    },
  );
  await relays.drop('notes');
  await relays.drop('some');
  return {
    row,
    what,
    unit: 'events/s',
    reference: side('the original way', comparison.reference),
    ours: side('ours', comparison.ours),
    ratio: comparison.ratio,
    ...timesOriginal(times, original, comparison.ours),
    details: { 'events a round': events, ...cpu.details },
  };
}
