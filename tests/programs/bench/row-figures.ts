import { Refreshing } from '../../../src/refresh/refreshing.ts';
import type { Bench } from './bench-run.ts';
import { NEWEST } from './event-set.ts';
import { fill, SIGHTINGS } from './fill.ts';
import { alternate, type Result, rounded, secondsOf, side } from './measure.ts';
import { Pipeline, silent } from './pipeline.ts';
import type { BenchDatabase } from './server.ts';

const DAY = 86_400;
const CPU_SHARE = 0.25;
const EVERY_SECONDS = 3;
/** Events of the archive whose figures are measured, and of its busiest day. */
const ARCHIVED = { quick: 10_000, full: 1_000_000, growth: 5_000_000 };
const OF_ONE_DAY = { quick: 10_000, full: 1_000_000, growth: 1_000_000 };
const SPAN_DAYS = { quick: 60, full: 365, growth: 365 };
const MAX_VIEW_MS = 50;
const MAX_BYTES = 60;
const TABLES = `authors, daily_counts, daily_scopes, scope_stats, scope_kinds, scope_authors, daily_kinds, daily_replication,
  replication_totals, day_sums, current_events, follow_edges, relay_list_edges, relay_list_totals, zaps, daily_zaps,
  period_users, cohorts, daily_samples, cover_ranks, daily_references, reference_totals`;

/** The rate of archiving while a refresher recounts every dirty day again and again, against that without one. */
export async function figuresRateRow(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline } = bench;
  const { events: count } = size;
  await relays.hold('figures', { count, seed: 8, size: 'notes', everySeconds: EVERY_SECONDS });
  const visit = async () => {
    await emptyFigures(pipeline.db);
    await pipeline.clear();
    const url = relays.url('figures');
    return count / (await pipeline.visit(url, { events: count, sightings: count }));
  };
  await visit();
  let recounted = 0;
  const comparison = await alternate(size, visit, async () => {
    const refresher = new Refresher(pipeline);
    const rate = await visit();
    recounted += await refresher.stop();
    return rate;
  });
  await relays.drop('figures');
  return [
    {
      row: 'figures-rate',
      what: 'archive new events end to end while a refresher recounts whatever is dirty',
      unit: 'events/s',
      reference: side('without it', comparison.reference),
      ours: side('with it', comparison.ours),
      ratio: comparison.ratio,
      goal: 'at least 0.9 of the rate without it',
      met: comparison.ratio >= 0.9,
      details: { 'days recounted meanwhile': recounted, REFRESHER_CPU_SHARE: CPU_SHARE },
    },
  ];
}

/** A refresher that finds a dirty day due at once. */
class Refresher {
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  #counted = 0;

  constructor({ bigbrotr }: Pipeline) {
    const service = {
      ...{ bigbrotr, log: silent, signal: this.#stopping.signal },
      ...{ detail: () => {}, logRepeated: () => {}, noteStored: () => {}, setBusy: () => {} },
      metrics: {
        count: () => {
          this.#counted += 1;
        },
        figuresWaiting: () => {},
        journalLag: () => {},
      },
    };
    this.#running = new Refreshing(service, CPU_SHARE, 'all').follow();
  }

  async stop(): Promise<number> {
    this.#stopping.abort();
    await this.#running;
    return this.#counted;
  }
}

async function emptyFigures(db: BenchDatabase): Promise<void> {
  await db.query(`truncate journal, dirty_days, dirty_periods, ${TABLES}`);
}

/** What a recount of a day takes, what figures take on disk, and how fast views answer. */
export async function figuresRows(bench: Bench): Promise<Result[]> {
  const { size, server } = bench;
  const archive = await Pipeline.start(server, 'figures');
  try {
    const { db } = archive;
    await fill(db, ARCHIVED[size.mode], SPAN_DAYS[size.mode]);
    const whole = await secondsOf(() => finish(archive));
    const bytes = await bytesRow(db, whole);
    const views = await viewsRow(db);
    return [await dayRow(archive, OF_ONE_DAY[size.mode]), bytes, views];
  } finally {
    await archive.close();
  }
}

async function finish({ bigbrotr, db }: Pipeline): Promise<void> {
  await db.query('select mark_all_days()');
  const service = {
    ...{ bigbrotr, log: silent, signal: new AbortController().signal },
    ...{ detail: () => {}, logRepeated: () => {}, noteStored: () => {}, setBusy: () => {} },
    metrics: { count: () => {}, figuresWaiting: () => {}, journalLag: () => {} },
  };
  await new Refreshing(service, 1).finish('all');
}

async function bytesRow(db: BenchDatabase, seconds: number): Promise<Result> {
  const events = await db.number('select count(*) from events');
  const names = TABLES.split(',').map((name) => name.trim());
  const sizes: [string, number][] = [];
  for (const name of names) {
    await db.query(`vacuum full ${name}`);
    sizes.push([name, (await db.number(`select pg_total_relation_size('${name}')`)) / events]);
  }
  const each = sizes.reduce((sum, [, size]) => sum + size, 0);
  const largest = sizes.sort(([, a], [, b]) => b - a).slice(0, 6);
  return {
    ...{ row: 'figures-bytes', what: 'what figures take on disk for each event', unit: 'bytes' },
    ...{ reference: null, ours: side('ours', [each]), ratio: null },
    ...{ goal: `at most ${MAX_BYTES}`, met: each <= MAX_BYTES },
    details: {
      ...{ events, 'all counted anew, seconds': rounded(seconds) },
      ...Object.fromEntries(largest.map(([name, size]) => [name, rounded(size)])),
    },
  };
}

const VIEWS = [
  'select * from event_stats',
  'select * from relay_stats',
  'select * from kind_counts order by event_count desc',
  "select * from kind_counts_by_relay where relay_url = 'wss://relay1.example.com/'",
  'select * from pubkey_counts order by event_count desc limit 20',
  `select * from pubkey_counts_by_relay
   where relay_id = (select relay_id from relays where url = 'wss://relay1.example.com/') order by event_count desc limit 20`,
  'select * from network_stats',
  'select * from event_daily_counts order by day desc limit 365',
  'select * from events_replaceable_latest where kind = 0 limit 100',
  'select * from replication order by relays',
  "select * from active_users where grain = 'month' order by start",
  'select * from retention order by cohort_week, age_weeks limit 1000',
  'select * from relay_distribution order by authors desc limit 20',
  'select * from zap_stats order by day',
];

/** The slowest view, in a mean of some runs. */
async function viewsRow(db: BenchDatabase): Promise<Result> {
  await db.query('vacuum analyze');
  const times: [string, number][] = [];
  for (const sql of VIEWS) {
    await db.query(sql);
    const values: number[] = [];
    for (let run = 0; run < 5; run += 1) values.push(1000 * (await secondsOf(() => db.query(sql))));
    times.push([sql.split(/\s+/)[3] ?? '', side('', values).median]);
  }
  const slowest = times.sort(([, a], [, b]) => b - a);
  const [, most = 0] = slowest[0] ?? [];
  return {
    ...{ row: 'figures-views', what: 'the slowest of the views', unit: 'ms', reference: null },
    ...{ ours: side('ours', [most]), ratio: null, goal: `at most ${MAX_VIEW_MS}` },
    met: most <= MAX_VIEW_MS,
    details: Object.fromEntries(slowest.slice(0, 5).map(([name, ms]) => [name, rounded(ms)])),
  };
}

/** Recounts one large day twice: when nothing of it is counted, and when nothing has changed since. */
async function dayRow({ bigbrotr, db }: Pipeline, count: number): Promise<Result> {
  const day = Math.floor(NEWEST / DAY) + 30;
  await fill(db, count, 1, { first: day });
  const recount = async () => {
    await db.query('insert into dirty_days (day, since) values ($1, 0) on conflict do nothing', [
      day,
    ]);
    await bigbrotr.figures.recountDay(day);
  };
  const scan = () =>
    db.query(
      `select s.relay_id, e.kind, count(*), count(distinct e.pubkey)
       from events e join sightings s on s.event_key = e.event_key
       where e.event_key >= event_key_floor($1) and e.event_key < event_key_floor($2)
           and s.event_key >= event_key_floor($1) and s.event_key < event_key_floor($2)
       group by s.relay_id, e.kind`,
      [day * DAY, (day + 1) * DAY],
    );
  const plain = await secondsOf(scan);
  const first = await secondsOf(recount);
  const again = await secondsOf(recount);
  return {
    row: 'figures-day',
    what: `recount a day of ${count.toLocaleString('en')} events and about ${SIGHTINGS} sightings of each`,
    ...{ unit: 's', reference: side('kind_counts_by_relay of that day alone', [plain]) },
    ...{ ours: side('ours, everything of it new', [first]), ratio: first / plain },
    ...{ goal: 'none', met: null },
    details: { 'again, nothing changed, s': rounded(again) },
  };
}
