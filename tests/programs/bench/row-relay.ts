import type { ArchiveReader } from '../../../src/database/archive-reader.ts';
import {
  type ArchiveFilter,
  readEvents,
  selectionOf,
} from '../../../src/serve/query/event-query.ts';
import { untilHealth } from '../../processes/health-client.ts';
import { Program } from '../../processes/programs.ts';
import { projectFile } from '../../processes/project.ts';
import { databaseVariables } from '../../processes/stack.ts';
import { readerOf } from './api-questions.ts';
import type { Bench } from './bench-run.ts';
import { rssOf } from './cpu.ts';
import { fill } from './fill.ts';
import { fillFigures } from './fill-figures.ts';
import { alternate, median, type Result, rounded, side } from './measure.ts';
import { Pipeline } from './pipeline.ts';
import { BenchClient } from './relay-client.ts';
import { crowdRow } from './row-relay-crowd.ts';

const PAGE = 500;
const CLIENTS = 100;
const SPAN_DAYS = 365;
/** Values that are asked for in turn. */
const SAMPLED = 50;
const MIN_RATIO = 0.5;
const MAX_LIVE_MS = 1000;

/** The relay over an archive that is filled for it: pages by what is asked for, and new events. */
export async function relayRows(bench: Bench): Promise<Result[]> {
  const { size, server } = bench;
  const archive = await Pipeline.start(server, 'relay');
  let relay: RunningRelay | null = null;
  try {
    await fill(archive.db, size.archived, SPAN_DAYS, { hasTags: true });
    await fillFigures(archive.db);
    relay = await startRelay(archive);
    const reader = await readerOf(archive.db);
    try {
      const pages = await pageRows(bench, archive, relay, reader);
      const streams = await streamRows(bench, relay);
      const live = await liveRow(bench, archive, relay);
      return [...pages, ...streams, live, await crowdRow(bench, archive)];
    } finally {
      await reader.close();
    }
  } finally {
    await relay?.stop();
    await archive.close();
  }
}

export interface RunningRelay {
  readonly url: string;
  readonly pid: number;
  stop(): Promise<void>;
}

/** `npm run relay` as it is after the build, without a limit on messages unless told. */
export async function startRelay(
  { db }: Pipeline,
  limits: Readonly<Record<string, string>> = { RELAY_RATE_LIMIT: '0' },
): Promise<RunningRelay> {
  const program = new Program(process.execPath, [projectFile('dist/relay.js')], {
    cwd: process.cwd(),
    env: {
      ...databaseVariables(db.config),
      ...{ API_DB_USER: db.config.user, API_DB_PASSWORD: db.config.password },
      ...{ RELAY_PORT: '0', RELAY_HEALTH_PORT: '0' },
      RELAY_MAX_CONNECTIONS_PER_ADDRESS: '1000',
      ...limits,
    },
  });
  const portOf = async (msg: string) =>
    Number((await program.logged((line) => line.msg === msg, msg)).port);
  await untilHealth(await portOf('health is served'), ({ status }) => status === 200);
  return {
    url: `ws://127.0.0.1:${await portOf('the relay is served')}/`,
    pid: program.pid,
    stop: async () => {
      program.signal('SIGTERM');
      await program.ended;
    },
  };
}

interface Question {
  readonly name: string;
  readonly filter: (place: number) => ArchiveFilter;
}

async function questionsOf({ db }: Pipeline): Promise<Question[]> {
  const texts = async (sql: string) =>
    (await db.query<{ value: string }>(sql)).map(({ value }) => value);
  const authors = await texts(
    `select encode(a.pubkey, 'hex') as value from scope_authors s join authors a using (author_id)
     where s.scope = 0 order by s.events desc limit ${SAMPLED}`,
  );
  const ids = await texts(
    `select encode(id, 'hex') as value from events tablesample bernoulli (20) limit ${4 * PAGE}`,
  );
  const mentioned = await texts(
    `select tags #>> '{1,1}' as value from events tablesample bernoulli (20) limit 500`,
  );
  const times = await db.query<{ at: number }>(
    `select created_at::float8 as at from events tablesample bernoulli (20) limit ${SAMPLED}`,
  );
  const at = <T>(values: readonly T[], place: number) => values[place % values.length] as T;
  return [
    { name: 'author', filter: (place) => ({ authors: [at(authors, place)] }) },
    {
      name: '200 authors',
      filter: () => ({ authors: [...new Set(mentioned)].slice(0, 200), kinds: [1] }),
    },
    {
      name: 'kind',
      filter: (place) => ({ kinds: [at([1, 6, 7], place)], until: at(times, place).at }),
    },
    { name: 'tag', filter: (place) => ({ '#p': [at(mentioned, place)] }) },
    {
      name: 'tag of every event',
      filter: (place) => ({ '#t': ['topic'], until: at(times, place).at }),
    },
    {
      name: 'id',
      filter: (place) => {
        const from = (place % 4) * PAGE;
        return { ids: ids.slice(from, from + PAGE) };
      },
    },
    { name: 'time', filter: (place) => ({ until: at(times, place).at }) },
  ];
}

/** Pages a second over one connection, beside the same statements without the relay. */
async function pageRows(
  { size }: Bench,
  archive: Pipeline,
  relay: RunningRelay,
  reader: ArchiveReader,
): Promise<Result[]> {
  const quick = size.mode === 'quick';
  const requests = quick ? 20 : 100;
  const client = await BenchClient.connect(relay.url);
  const rows: Result[] = [];
  const rate = async (ask: (place: number) => Promise<unknown>) => {
    const begun = performance.now();
    for (let place = 0; place < requests; place++) await ask(place);
    return requests / ((performance.now() - begun) / 1000);
  };
  for (const { name, filter } of await questionsOf(archive)) {
    let events = 0;
    const overRelay = async (place: number) => {
      events = await client.page({ ...filter(place), limit: PAGE });
    };
    const statement = (place: number) =>
      reader.read((query, shards) =>
        readEvents(
          query,
          selectionOf(filter(place)),
          null,
          { events: PAGE, bytes: 1024 * 1024, ms: 10_000 },
          shards,
        ),
      );
    await overRelay(0);
    const { reference, ours, ratio } = await alternate(
      { rounds: quick ? 1 : 3, mostSeconds: size.mostSeconds },
      () => rate(statement),
      () => rate(overRelay),
    );
    rows.push({
      row: 'relay',
      what: `${name}: pages of ${PAGE} over one connection, ${size.archived.toLocaleString('en')} events`,
      ...{ unit: 'pages/s', reference: side('the same statements without the relay', reference) },
      ...{ ours: side('over WebSocket', ours), ratio, goal: `at least ${MIN_RATIO} of them` },
      met: ratio >= MIN_RATIO,
      details: { 'events of the last page': events, 'requests a round': requests },
    });
  }
  client.close();
  return rows;
}

/** Events a second over one connection and over many, in pages by time. */
async function streamRows({ size }: Bench, relay: RunningRelay): Promise<Result[]> {
  const seconds = size.mode === 'quick' ? 2 : 10;
  const rate = async (connections: number) => {
    const clients = await Promise.all(
      Array.from({ length: connections }, () => BenchClient.connect(relay.url)),
    );
    const until = performance.now() + seconds * 1000;
    const begun = performance.now();
    let events = 0;
    await Promise.all(
      clients.map(async (client) => {
        while (performance.now() < until) events += await client.page({ limit: PAGE });
      }),
    );
    const took = (performance.now() - begun) / 1000;
    for (const client of clients) client.close();
    return events / took;
  };
  const one = await rate(1);
  const many = await rate(CLIENTS);
  return [
    {
      row: 'relay-stream',
      what: `events to ${CLIENTS} connections, in pages of ${PAGE}`,
      unit: 'events/s',
      reference: side('one connection', [one]),
      ours: side(`${CLIENTS} connections`, [many]),
      ratio: many / one,
      goal: 'at least as many',
      met: many >= one,
      details: { 'RSS of the relay afterwards, MB': rounded(rssOf(relay.pid) ?? 0) },
    },
  ];
}

/** From the commit of an event to its arrival at a subscription. */
async function liveRow({ size }: Bench, { db }: Pipeline, relay: RunningRelay): Promise<Result> {
  const client = await BenchClient.connect(relay.url);
  const next = await client.live({ kinds: [22] });
  const times: number[] = [];
  for (let place = 0; place < (size.mode === 'quick' ? 10 : 40); place++) {
    const arrived = next();
    await db.query(
      `with stored as (
           insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
           select event_key_floor(1000) + $1::bigint, 1000, 22, 0, sha256(int8send($1::bigint) || 'live'), sha256('live'), sha512('live'), '[]', '[]', ''
           returning event_key
       )
       insert into journal (event_keys, days) select array_agg(event_key), '{0}' from stored`,
      [place],
    );
    const begun = performance.now();
    await arrived;
    times.push(Math.max(0, performance.now() - begun));
  }
  client.close();
  times.sort((a, b) => a - b);
  const most = times.at(-1) ?? 0;
  return {
    row: 'relay-live',
    what: 'from the commit of an event to its arrival at a subscription',
    ...{ unit: 'ms', reference: null, ours: side('the latest of them', [most]), ratio: null },
    goal: `at most ${MAX_LIVE_MS}`,
    met: most <= MAX_LIVE_MS,
    details: { median: rounded(median(times)), events: times.length },
  };
}
