import type { Bench, Cpu } from './bench-run.ts';
import { alternate, median, type Result, secondsOf, side } from './measure.ts';
import { Pipeline } from './pipeline.ts';

const RELAYS = 10;
/** CPU at once, by CPU one after the other. */
const MOST_RATIO = 1.15;
const LEAST_RATE = 20_000;

/**
 * Ten relays that hold the same new events, visited at the same time, against one after the other. In the network an event
 * comes from several relays within seconds. Both sides add the same rows; what is compared is the CPU of all processes.
 */
export async function tenAtOnceRow(bench: Bench): Promise<Result[]> {
  const { size, relays, server } = bench;
  await relays.hold('same', { count: size.events, seed: 5, size: 'notes', everySeconds: 3 });
  const two = await Pipeline.start(server, 'two_workers', 2);
  try {
    return [await atOnce(bench, bench.pipeline, 1), await atOnce(bench, two, 2)];
  } finally {
    await two.close();
    await relays.drop('same');
  }
}

async function atOnce(bench: Bench, pipeline: Pipeline, workers: number): Promise<Result> {
  const { size, relays } = bench;
  const { events } = size;
  const rows = events * RELAYS;
  const rates = { apart: [] as number[], together: [] as number[] };
  const database = { apart: [] as number[], together: [] as number[] };
  const measured = async (
    name: 'apart' | 'together',
    visits: (urls: string[]) => Promise<void>,
  ) => {
    await pipeline.clear();
    const urls = Array.from({ length: RELAYS }, () => relays.url('same'));
    const before = bench.cpu();
    rates[name].push(rows / (await secondsOf(() => visits(urls))));
    const after = bench.cpu();
    database[name].push(((after.database - before.database) / rows) * 1e6);
    return ((sum(after) - sum(before)) / rows) * 1e6;
  };
  const { reference, ours, ratio } = await alternate(
    size,
    () =>
      measured('apart', async (urls) => {
        for (const [place, url] of urls.entries())
          await pipeline.visit(url, { events: place === 0 ? events : 0, sightings: events });
      }),
    () =>
      measured('together', async (urls) => {
        await pipeline.visitAll(urls, { events, sightings: rows });
      }),
  );
  const rate = median(rates.together);
  return {
    row: 'ten-at-once',
    what: `ten relays with the same new events, visited at once: ${workers === 1 ? 'one worker' : `${workers} workers`}`,
    unit: 'µs of CPU a sighting',
    reference: side('one after the other', reference),
    ours: side('at the same time', ours),
    ratio,
    goal: `at most ${MOST_RATIO}, and ${LEAST_RATE.toLocaleString('en')} sightings/s`,
    met: ratio <= MOST_RATIO && rate >= LEAST_RATE,
    details: {
      'sightings a round': rows,
      'sightings/s at the same time': Math.round(rate),
      'sightings/s one after the other': Math.round(median(rates.apart)),
      'CPU of the database, µs a sighting, at the same time': median(database.together).toFixed(1),
      'CPU of the database, µs a sighting, one after the other': median(database.apart).toFixed(1),
    },
  };
}

function sum({ pipeline, relays, database }: Cpu): number {
  return pipeline + relays + database;
}
