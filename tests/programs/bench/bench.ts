/**
 * `npm run bench`: what the pipeline costs, each figure beside its reference in the same run. It starts its own
 * PostgreSQL, PgBouncer and relays. `npm run bench -- quick` ends within two minutes, `-- growth` fills an archive
 * with 5,000,000 events first, `-- <row> ...` measures those rows alone, `-- api --events N` an archive of N events, `-- size` one of
 * 30,000,000 with 4 GB of memory, or of `--events N`. Only ratios mean anything: the same machine
 * does twice as much when nobody else uses it.
 */
import { writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { projectFile } from '../../processes/project.ts';
import { Bench, SIZES, type Size } from './bench-run.ts';
import type { Result } from './measure.ts';
import { report } from './report.ts';
import { apiRows } from './row-api.ts';
import { archiveRow, latencyRow } from './row-archive.ts';
import { citusRows } from './row-citus.ts';
import { cpuRows } from './row-cpu.ts';
import { datasetRows } from './row-dataset.ts';
import { figuresRateRow, figuresRows } from './row-figures.ts';
import { growthRows } from './row-growth.ts';
import { hostsRows } from './row-hosts.ts';
import { layoutRows } from './row-layout.ts';
import { memoryRow } from './row-memory.ts';
import { monitorRow } from './row-monitor.ts';
import { relayRows } from './row-relay.ts';
import { sightingRows } from './row-sightings.ts';
import { sizeRows } from './row-size.ts';
import { eventBytesRow, sightingBytesRow } from './row-storage.ts';
import { takeOverRow } from './row-take-over.ts';
import { tenAtOnceRow } from './row-ten-at-once.ts';
import { verifyRow } from './row-verify.ts';

type Measure = (bench: Bench) => Promise<Result[]>;

const SIZE_ROWS = [
  ...['size', 'size-events', 'size-sightings'],
  ...['size-known', 'size-ids', 'size-author', 'size-tag', 'size-nip77'],
];

/** Each measurement, with the rows that it gives. */
const MEASURES: readonly (readonly [readonly string[], Measure])[] = [
  [['verify'], verifyRow],
  [['archive'], archiveRow],
  [['cpu'], cpuRows],
  [['latency'], latencyRow],
  [['ten-at-once'], tenAtOnceRow],
  [['database', 'sightings', 'wal'], sightingRows],
  [['sighting-bytes'], sightingBytesRow],
  [['event-bytes', 'index-bytes'], eventBytesRow],
  [['memory'], memoryRow],
  [['monitor'], monitorRow],
  [['hosts', 'claims'], hostsRows],
  [['figures', 'figures-rate'], figuresRateRow],
  [['figures', 'figures-day', 'figures-bytes', 'figures-views'], figuresRows],
  [['api', 'api-archiving', 'api-archiving-busy', 'api-memory'], apiRows],
  [['dataset', 'dataset-out', 'dataset-bytes', 'dataset-in'], datasetRows],
  [['relay', 'relay-stream', 'relay-live', 'relay-crowd'], relayRows],
  [['take-over'], takeOverRow],
  [['growth', 'growth-sightings'], growthRows],
  [SIZE_ROWS, sizeRows],
  [['citus', 'citus-events', 'citus-sightings'], citusRows],
  [
    ['layout', 'layout-events', 'layout-sightings', 'layout-events-days', 'layout-sightings-days'],
    layoutRows,
  ],
];
const ROWS = MEASURES.flatMap(([rows]) => rows);
/** Not measured unless they are asked for: they need an hour and tens of gigabytes. */
const ASKED_ONLY = SIZE_ROWS;
/** Events of `size` without `--events`. */
const SIZE_EVENTS = 30_000_000;
const RESULTS = 'bench-results.json';

/** What is to be undone at the end, the latest first. */
const undo: (() => Promise<void>)[] = [];
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => {
    interrupted = true;
    void end(130);
  });

await main();

async function main(): Promise<void> {
  const { size, rows } = parseArguments(process.argv.slice(2));
  try {
    await bench(size, rows);
    await end(0);
  } catch (error) {
    if (interrupted) return;
    process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
    await end(1);
  }
}

async function end(code: number): Promise<void> {
  for (const step of undo.splice(0).reverse()) await step().catch(() => {});
  process.exit(code);
}

function parseArguments(given: readonly string[]): { size: Size; rows: readonly string[] } {
  const growth = given.includes('growth');
  const mode = given.includes('quick') ? SIZES.quick : growth ? SIZES.growth : SIZES.full;
  const place = given.indexOf('--events');
  const isSize = given.some((name) => SIZE_ROWS.includes(name));
  const usual = isSize ? SIZE_EVENTS : mode.archived;
  const archived = place < 0 ? usual : Number(given[place + 1]);
  if (!Number.isSafeInteger(archived) || archived < 1000) {
    say('--events needs a number from 1000.');
    process.exit(2);
  }
  const size = { ...mode, archived };
  const rows = given.filter(
    (name, at) => name !== 'quick' && (place < 0 || (at !== place && at !== place + 1)),
  );
  const unknown = rows.filter((name) => !ROWS.includes(name));
  if (unknown.length > 0) {
    say(`There is no row ${unknown.join(', ')}. Rows: ${ROWS.join(', ')}; and quick.`);
    process.exit(2);
  }
  return { size, rows: rows.length > 0 ? rows : ROWS.filter((name) => !ASKED_ONLY.includes(name)) };
}

async function bench(size: Size, rows: readonly string[]): Promise<void> {
  const started = performance.now();
  const measures = MEASURES.filter(([names]) => names.some((name) => rows.includes(name)));
  say('Starting PostgreSQL, relays and a worker of the synchronizer.');
  const shared = await Bench.start(size, undo);
  const facts = {
    measured: new Date().toISOString(),
    mode: size.mode,
    machine: `${cpus().length} cores, ${cpus()[0]?.model}, Node.js ${process.version}`,
    signatures: shared.verifier.note,
    ...shared.server.facts,
    'load before': loadavg()[0]?.toFixed(1) ?? '',
  };
  for (const [name, fact] of Object.entries(facts)) say(`  ${name}: ${fact}`);
  const results: Result[] = [];
  for (const [names, measure] of measures) {
    const begun = performance.now();
    results.push(...(await measure(shared)));
    say(`${names.join(', ')}: measured in ${seconds(begun)} s`);
  }
  say(`\n${report(results)}`);
  const figures = { ...facts, 'load after': loadavg()[0]?.toFixed(1), results };
  writeFileSync(projectFile(RESULTS), `${JSON.stringify(figures, null, 2)}\n`);
  say(`${RESULTS} is written. All of it took ${seconds(started)} s.`);
  say('Other work on this machine shows in every rate: compare ratios, and these of one run only.');
}

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(0);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
