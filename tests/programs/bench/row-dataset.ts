import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createCompressor } from '../../../src/dataset/compression.ts';
import { parquetEvents } from '../../../src/dataset/parquet-writer.ts';
import { type NostrEvent, serializeEvent } from '../../../src/nostr/event.ts';
import { realOrSignedEvents } from '../../fixtures/events.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';
import { databaseVariables } from '../../processes/stack.ts';
import type { Bench } from './bench-run.ts';
import { rssOf } from './cpu.ts';
import { eventsLike } from './event-set.ts';
import { type Result, rounded, side } from './measure.ts';
import { storeEvents } from './row-storage.ts';
import type { BenchDatabase } from './server.ts';

const GOAL_RATE = 100_000;
const GOAL_MB = 300;
/** Bytes of an event in the files of the largest archive that publishes its mix, and the share of it that is the goal. */
const PUBLISHED_BYTES = 402;
const GOAL_SHARE = 0.9;
/** Ten times the events of other rows: the start of a process weighs less. */
const TIMES = 10;

/** What a dataset costs: to write it, its bytes, and to take it in. The commands are run as they are. */
export async function datasetRows(bench: Bench): Promise<Result[]> {
  const { size, pipeline, server } = bench;
  const folder = join(ownDirectory(), 'datasets');
  mkdirSync(folder, { recursive: true });
  // The version of the program, beside the compiled sources.
  copyFileSync(projectFile('package.json'), new URL('../../../package.json', import.meta.url));
  const count = TIMES * size.events;
  await pipeline.clear();
  await storeEvents(bench, [...eventsLike(realOrSignedEvents(), count)]);
  await pipeline.db.query('vacuum analyze events');
  const empty = await server.create('imported', readFileSync(projectFile('init.sql'), 'utf8'));
  try {
    const parquet = await exported(pipeline.db, folder, 'parquet', count);
    const jsonl = await exported(pipeline.db, folder, 'jsonl', count);
    const back = await run('import', empty, [join(folder, 'parquet')]);
    return [
      rateRow('dataset-out', 'export to Parquet', count, parquet, GOAL_RATE, {
        'to plain JSONL, events/s': Math.round(count / jsonl.seconds),
        'bytes an event': rounded(bytesIn(join(folder, 'parquet', 'events')) / count),
      }),
      await bytesRow(folder),
      rateRow('dataset-in', 'import of that dataset into an empty archive', count, back, null, {}),
    ];
  } finally {
    await empty.drop();
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Run {
  readonly seconds: number;
  readonly mostMb: number;
}

function rateRow(
  row: string,
  what: string,
  count: number,
  { seconds, mostMb }: Run,
  goal: number | null,
  details: Record<string, number>,
): Result {
  const rate = count / seconds;
  return {
    ...{ row, what, unit: 'events/s', reference: null, ratio: null },
    ours: side('the whole command', [rate]),
    goal: goal === null ? 'the rate of verification' : `${goal.toLocaleString('en')} events/s`,
    met: goal === null ? null : rate >= goal,
    details: {
      events: count,
      'highest RSS, MB': Math.round(mostMb),
      'RSS goal, MB': GOAL_MB,
      ...details,
    },
  };
}

const exported = (db: BenchDatabase, folder: string, format: string, count: number) =>
  run('export', db, ['--out', join(folder, format), '--format', format, '--no-observations']).then(
    (done) => {
      if (bytesIn(join(folder, format, 'events')) < count) throw new Error('nothing was exported');
      return done;
    },
  );

async function run(name: string, { config }: BenchDatabase, args: readonly string[]): Promise<Run> {
  const file = fileURLToPath(new URL(`../../../src/${name}.js`, import.meta.url));
  const started = performance.now();
  const program = new Program(process.execPath, [file, ...args], {
    cwd: process.cwd(),
    env: databaseVariables(config),
  });
  let mostMb = 0;
  const watch = setInterval(() => {
    mostMb = Math.max(mostMb, rssOf(program.pid) ?? 0);
  }, 100);
  const { code } = await program.ended;
  clearInterval(watch);
  if (code !== 0) throw new Error(`${name} ended with ${code}:\n${program.said}`);
  return { seconds: (performance.now() - started) / 1000, mostMb };
}

/** Real events in Parquet, against JSON lines compressed by zstd. */
async function bytesRow(folder: string): Promise<Result> {
  const events = realOrSignedEvents().sort(
    (a, b) => a.created_at - b.created_at || (a.id < b.id ? -1 : 1),
  );
  const written = parquetEvents(join(folder, 'real'), 'all');
  await written.add(events);
  const parquet = (await written.finish()).reduce((sum, { bytes }) => sum + bytes, 0);
  const zstd = await zstdLines(join(folder, 'real.jsonl.zst'), events);
  const share = parquet / zstd;
  return {
    ...{ row: 'dataset-bytes', what: 'an event in Parquet', unit: 'bytes' },
    reference: side('JSON lines, zstd', [zstd / events.length]),
    ours: side('Parquet', [parquet / events.length]),
    ratio: share,
    goal: `at most ${Math.round(GOAL_SHARE * PUBLISHED_BYTES)} of the published mix; of these events no more than JSON lines`,
    met: share <= 1,
    details: { events: events.length },
  };
}

async function zstdLines(path: string, events: readonly NostrEvent[]): Promise<number> {
  const compressor = await createCompressor('zst');
  const text = Buffer.from(events.map((event) => `${serializeEvent(event)}\n`).join(''));
  const chunks = [...(await compressor.write(text)), ...(await compressor.end())];
  writeFileSync(path, Buffer.concat(chunks));
  return statSync(path).size;
}

function bytesIn(folder: string): number {
  return readdirSync(folder)
    .map((name) => statSync(join(folder, name)).size)
    .reduce((sum, bytes) => sum + bytes, 0);
}
