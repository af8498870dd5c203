import { setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Pool } from 'undici';
import { relayTable } from '../../../src/database/relay-table.ts';
import { untilHealth } from '../../processes/health-client.ts';
import { Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';
import { databaseVariables } from '../../processes/stack.ts';
import { type Question, questionsOf, readerOf } from './api-questions.ts';
import type { Bench } from './bench-run.ts';
import { rssOf } from './cpu.ts';
import { fill } from './fill.ts';
import { fillFigures } from './fill-figures.ts';
import { alternate, median, type Result, rounded, side } from './measure.ts';
import { Pipeline } from './pipeline.ts';

const CLIENTS = 50;
const STREAMS = 20;
const SPAN_DAYS = 365;
const MAX_RATIO = 2;
const MAX_MB = 300;
/** Memory is flat when its last third has grown by no more than this over the third before. */
const FLAT = 1.1;
const MIN_ARCHIVING = 0.8;

/** The API over an archive that is filled for it: how fast it answers, what it takes, and what it costs archiving. */
export async function apiRows(bench: Bench): Promise<Result[]> {
  const { size, server } = bench;
  const archive = await Pipeline.start(server, 'api');
  try {
    await fill(archive.db, size.archived, SPAN_DAYS, { hasTags: true });
    await fillFigures(archive.db);
    return await rowsOf(bench, archive);
  } finally {
    await archive.close();
  }
}

const ROWS = ['api', 'api-archiving', 'api-archiving-busy', 'api-memory'] as const;

/** These rows of an archive that is filled already. */
export async function rowsOf(
  bench: Bench,
  archive: Pipeline,
  wanted: readonly (typeof ROWS)[number][] = ROWS,
): Promise<Result[]> {
  const api = await startApi(archive);
  try {
    const rows: Result[] = [];
    if (wanted.includes('api')) rows.push(...(await answerRows(bench, archive, api)));
    for (const pace of PACES)
      if (wanted.includes(pace.row) && bench.size.mode !== 'quick')
        rows.push(await archivingRow(bench, archive, api, pace));
    if (wanted.includes('api-memory')) rows.push(await memoryRow(bench, api));
    return rows;
  } finally {
    await api.stop();
  }
}

interface RunningApi {
  readonly pid: number;
  readonly pool: Pool;
  stop(): Promise<void>;
}

/** `npm run api` as it is after the build, without a rate limit. */
async function startApi({ db }: Pipeline): Promise<RunningApi> {
  const program = new Program(process.execPath, [projectFile('dist/api.js')], {
    cwd: process.cwd(),
    env: {
      ...databaseVariables(db.config),
      ...{ API_PORT: '0', API_RATE_LIMIT: '0', API_DB_PASSWORD: db.config.password },
      ...{ API_DB_USER: db.config.user, API_STATUS_SERVICES: '' },
    },
  });
  const line = await program.logged(({ msg }) => msg === 'the API is served', 'the API');
  await untilHealth(Number(line.port), ({ status }) => status === 200);
  const pool = new Pool(`http://127.0.0.1:${line.port}`, { connections: CLIENTS });
  return {
    pid: program.pid,
    pool,
    stop: async () => {
      await pool.destroy();
      program.signal('SIGTERM');
      await program.ended;
    },
  };
}

/** Milliseconds that the 95th of 100 answers takes, with 50 clients that ask one after another. */
async function p95(ask: (place: number) => Promise<unknown>, requests: number): Promise<number> {
  const times: number[] = [];
  let next = 0;
  const client = async () => {
    while (next < requests) {
      next += 1;
      const begun = performance.now();
      await ask(next);
      times.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  times.sort((a, b) => a - b);
  return times[Math.floor(0.95 * (times.length - 1))] ?? 0;
}

async function get({ pool }: RunningApi, path: string): Promise<void> {
  const { statusCode, body } = await pool.request({ path, method: 'GET' });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`${path}: ${statusCode} ${text.slice(0, 300)}`);
}

/** A row for each question, and the relay list, which the API has in memory. */
async function answerRows({ size }: Bench, { db }: Pipeline, api: RunningApi): Promise<Result[]> {
  const questions: Question[] = [
    ...(await questionsOf(db)),
    { name: 'relay list', path: () => '/v1/relays?limit=100', sql: (query) => relayTable(query) },
  ];
  const reader = await readerOf(db);
  const requests = size.mode === 'quick' ? 100 : 1000;
  const rows: Result[] = [];
  for (const { name, path, sql } of questions) {
    const statement = (place: number) => reader.read((query) => sql(query, place));
    await p95(statement, requests); // the first round of both is slower: connections, caches, code that is not compiled yet
    await p95((place) => get(api, path(place)), requests);
    const rounds = { rounds: size.mode === 'quick' ? 1 : 3, mostSeconds: size.mostSeconds };
    const { reference, ours, ratio } = await alternate(
      rounds,
      () => p95(statement, requests),
      () => p95((place) => get(api, path(place)), requests),
    );
    rows.push({
      row: 'api',
      what: `${name}: p95 of ${CLIENTS} clients, ${written(size.archived)} events`,
      ...{ unit: 'ms', reference: side('the same statements without the API', reference) },
      ...{ ours: side('over HTTP', ours), ratio, goal: `at most ${MAX_RATIO} times` },
      ...{ met: ratio <= MAX_RATIO, details: { question: name, 'requests a round': requests } },
    });
  }
  await reader.close();
  return rows;
}

const written = (events: number) => events.toLocaleString('en');

/** How often the clients of a row ask: once a second each, or one question after another without a pause. */
const PACES = [
  { row: 'api-archiving', asking: 'ask once a second each', pauseMs: 1000 },
  { row: 'api-archiving-busy', asking: 'ask without a pause', pauseMs: 0 },
] as const;

/** What archiving keeps of its rate while 50 clients ask. */
async function archivingRow(
  bench: Bench,
  { db }: Pipeline,
  api: RunningApi,
  { row, asking, pauseMs }: (typeof PACES)[number],
): Promise<Result> {
  const { size, relays, pipeline } = bench;
  const { events: count } = size;
  await relays.hold('api', { count, seed: 8, size: 'notes', everySeconds: 3 });
  const visit = async () => {
    await pipeline.clear();
    return count / (await pipeline.visit(relays.url('api'), { events: count, sightings: count }));
  };
  const questions = await questionsOf(db);
  await visit();
  let asked = 0;
  const comparison = await alternate(size, visit, async () => {
    const stopping = new AbortController();
    setMaxListeners(0, stopping.signal); // one for each client
    const client = async (_: unknown, start: number) => {
      for (let place = start; !stopping.signal.aborted; place += CLIENTS) {
        await get(api, questions[place % questions.length]?.path(place) ?? '');
        asked += 1;
        if (pauseMs > 0)
          await sleep(pauseMs, undefined, { signal: stopping.signal }).catch(() => {});
      }
    };
    const clients = Promise.all(Array.from({ length: CLIENTS }, client));
    const rate = await visit();
    stopping.abort();
    await clients;
    return rate;
  });
  await relays.drop('api');
  return {
    row,
    what: `archive new events end to end while ${CLIENTS} clients ${asking}`,
    unit: 'events/s',
    reference: side('without clients', comparison.reference),
    ours: side('with clients', comparison.ours),
    ratio: comparison.ratio,
    goal: `at least ${MIN_ARCHIVING} of the rate without`,
    met: comparison.ratio >= MIN_ARCHIVING,
    details: { 'answers meanwhile': asked },
  };
}

/** RSS of the service while 20 clients stream the whole archive each, or as much of it as the time allows. */
async function memoryRow({ size }: Bench, api: RunningApi): Promise<Result> {
  const quick = size.mode === 'quick';
  const mostSeconds = Number(process.env.BENCH_MEMORY_SECONDS) || (quick ? 3 : 600);
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal); // one for each stream
  const cut = setTimeout(() => stopping.abort(), mostSeconds * 1000);
  let bytes = 0;
  let ended = 0;
  const stream = async () => {
    const path = '/v1/events?format=ndjson';
    const { body } = await api.pool.request({ path, method: 'GET', signal: stopping.signal });
    for await (const part of body) bytes += (part as Buffer).length;
    ended += 1;
  };
  const before = rssOf(api.pid) ?? 0;
  const streams = Promise.allSettled(Array.from({ length: STREAMS }, stream));
  const curve: number[] = [];
  const begun = performance.now();
  let isDone = false;
  void streams.then(() => {
    isDone = true;
  });
  while (!isDone) {
    await sleep(quick ? 200 : 1000);
    curve.push(rssOf(api.pid) ?? 0);
  }
  clearTimeout(cut);
  const third = Math.max(1, Math.floor(curve.length / 3));
  const growth = median(curve.slice(-third)) / median(curve.slice(-2 * third, -third));
  const most = Math.max(...curve);
  return {
    row: 'api-memory',
    what: `RSS of the API while ${STREAMS} clients stream all of ${written(size.archived)} events`,
    ...{ unit: 'MB', reference: null, ours: side('the highest', [most]), ratio: null },
    goal: `below ${MAX_MB}, flat over time`,
    met: most < MAX_MB && growth < FLAT,
    details: {
      seconds: Math.round((performance.now() - begun) / 1000),
      'before, MB': rounded(before),
      'MB streamed': Math.round(bytes / 1e6),
      'streams that reached their end': ended,
      'last third over the third before': rounded(growth),
      ...(stopping.signal.aborted ? { 'stopped by time': `after ${mostSeconds} s` } : {}),
    },
  };
}
