import type { Bench, Cpu } from './bench-run.ts';
import { median, type Result, side } from './measure.ts';

/** Goals, in microseconds of CPU. */
const NEW_EVENT = 120;
const SIGHTING = 25;

type Part = keyof Cpu;
const PARTS: readonly Part[] = ['pipeline', 'database', 'relays'];

/**
 * CPU time of worker, database and relays together: for a new event, and for a sighting of a known one that this process has
 * not seen lately, or has. By itself it says little on a busy machine: compare two versions by turns.
 */
export async function cpuRows(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline } = bench;
  const { events, rounds } = size;
  await relays.hold('cpu', { count: events, seed: 6, size: 'notes', everySeconds: 3 });
  const rows = { fresh: [] as Cpu[], known: [] as Cpu[], lately: [] as Cpu[] };
  const visit = async (added: number, into: Cpu[]) => {
    await pipeline.db.query('checkpoint');
    const before = bench.cpu();
    await pipeline.visit(relays.url('cpu'), { events: added, sightings: events });
    const after = bench.cpu();
    into.push(
      Object.fromEntries(
        PARTS.map((part) => [part, ((after[part] - before[part]) / events) * 1e6]),
      ) as unknown as Cpu,
    );
  };
  for (let round = 0; round < rounds; round++) {
    await pipeline.clear();
    await visit(events, rows.fresh);
    pipeline.forget();
    await visit(0, rows.known);
    await visit(0, rows.lately);
  }
  await relays.drop('cpu');
  return [
    cpuRow('a new event of 1.3 KB', NEW_EVENT, rows.fresh),
    cpuRow('a sighting of a known event by paging', SIGHTING, rows.known),
    cpuRow('the same, of one that the process has seen lately', SIGHTING, rows.lately),
  ];
}

function cpuRow(what: string, goal: number, rounds: readonly Cpu[]): Result {
  const sums = rounds.map(({ pipeline, database, relays }) => pipeline + database + relays);
  const ours = side('worker, database and relays', sums);
  return {
    ...{ row: 'cpu', what: `CPU of ${what}`, unit: 'µs', reference: null, ours, ratio: null },
    goal: `at most ${goal}`,
    met: ours.median <= goal,
    details: Object.fromEntries(
      PARTS.map((part) => [part, median(rounds.map((round) => round[part])).toFixed(1)]),
    ),
  };
}
