import { type Bench, CpuCount } from './bench-run.ts';
import { NEWEST } from './event-set.ts';
import { alternate, type Comparison, type Result, rounded, side } from './measure.ts';
import { Pipeline } from './pipeline.ts';

/** Events that are archived before anything is measured. */
const ARCHIVED = { quick: 0, full: 500_000, growth: 5_000_000 };
/** Sightings of each of them. */
const SIGHTINGS = 3;
const AT_A_TIME = 250_000;
const GOAL = 0.85;
/** The archived events spread over two years, those of a visit over sixty days of them. */
const SPAN_SECONDS = 2 * 365 * 86_400;
const VISIT_SPAN_SECONDS = 60 * 86_400;

/** Visits for new events before the rate is compared. */
const VISITS_AFTER_CHECKPOINT = 5;

/**
 * The rates of `archive` and `sightings` when the archive is large, against those when it is empty, in the midst of
 * the time between two checkpoints: after each, every page that is written to goes to the WAL as a whole, which about
 * 100,000 new events see to here, of a million that come before the next one. What they cost is told beside it.
 */
export async function growthRows(bench: Bench): Promise<Result[]> {
  const { size, server } = bench;
  const archived = ARCHIVED[size.mode];
  if (archived === 0) return [];
  const large = await Pipeline.start(server, 'large');
  try {
    await holdSets(bench);
    for (let round = 0; round <= size.rounds; round++)
      await visit(bench, large, 'old', round, true);
    await fill(large, archived);
    const afterCheckpoint = await visitAfterCheckpoint(bench, large);
    const { news, known } = await visitRates(bench, large);
    const bytes = await large.db.number('select pg_database_size(current_database())');
    const details = { 'archived events': archived, 'on disk, GB': rounded(bytes / 1e9) };
    const first = { 'new events/s of five visits right after a checkpoint': afterCheckpoint };
    return [
      row('growth', 'new events end to end in a large archive', news, { ...details, ...first }),
      row('growth-sightings', 'sightings of known events end to end in it', known, details),
    ];
  } finally {
    await large.close();
  }
}

/** New events, and sightings of events that are in the large archive, in it and in an empty one by turns. */
export async function visitRates(
  bench: Bench,
  large: Pipeline,
): Promise<{ readonly news: Rates; readonly known: Rates }> {
  const { pipeline } = bench;
  const news = await compareRates(bench, large, async (archive, round) => {
    if (archive === pipeline) await pipeline.empty();
    return visit(bench, archive, 'new', round, true);
  });
  const known = await compareRates(bench, large, async (archive, round) => {
    if (archive === pipeline) {
      await pipeline.empty();
      await visit(bench, archive, 'old', round, true);
    }
    return visit(bench, archive, 'old', round, false);
  });
  return { news, known };
}

/** @returns the rate of each visit, in order */
async function visitAfterCheckpoint(bench: Bench, large: Pipeline): Promise<string> {
  const { relays, size } = bench;
  await large.db.query('checkpoint');
  const rates: number[] = [];
  for (let round = 0; round < VISITS_AFTER_CHECKPOINT; round++) {
    await relays.hold(`new${-1 - round}`, setOf(size.events, 100 + round));
    rates.push(await visit(bench, large, 'new', -1 - round, true));
    await relays.drop(`new${-1 - round}`);
  }
  return rates.map(Math.round).join(' ');
}

/** Sets for each round whose events lie among those that are archived. */
export async function holdSets({ size, relays }: Bench): Promise<void> {
  const { events: count, rounds } = size;
  for (let round = 0; round <= rounds; round++) {
    await relays.hold(`new${round}`, setOf(count, 20 + round));
    await relays.hold(`old${round}`, setOf(count, 60 + round));
  }
}

/** The events of one visit, another set for each seed. */
export function setOf(count: number, seed: number) {
  return { count, seed, size: 'notes', everySeconds: VISIT_SPAN_SECONDS / count } as const;
}

/** @returns what was archived a second */
export async function visit(
  { size, relays }: Bench,
  archive: Pipeline,
  set: 'new' | 'old',
  round: number,
  isNew: boolean,
): Promise<number> {
  const { events: count } = size;
  const expected = { events: isNew ? count : 0, sightings: count };
  return count / (await archive.visit(relays.url(`${set}${round}`), expected));
}

export type Rates = Comparison & { readonly cpu: Record<string, number> };

export async function compareRates(
  bench: Bench,
  large: Pipeline,
  measure: (archive: Pipeline, round: number) => Promise<number>,
): Promise<Rates> {
  const { size, pipeline } = bench;
  await measure(pipeline, 0);
  await measure(large, 0);
  const cpu = new CpuCount(bench);
  const comparison = await alternate(
    size,
    (round) => measure(pipeline, round + 1),
    (round) => cpu.of(size.events, () => measure(large, round + 1)),
  );
  return { ...comparison, cpu: cpu.details };
}

function row(name: string, what: string, rates: Rates, details: Result['details']): Result {
  return {
    ...{ row: name, what, unit: name === 'growth' ? 'events/s' : 'sightings/s' },
    reference: side('ours when empty', rates.reference),
    ours: side('ours', rates.ours),
    ratio: rates.ratio,
    goal: `at least ${GOAL} of the rate when empty`,
    met: rates.ratio >= GOAL,
    details: { ...details, ...rates.cpu },
  };
}

/**
 * Fills the archive by SQL with events that look like others to every index, though no signature holds: random ids,
 * 20,000 authors, tags, half a kilobyte of content, each on three of a hundred relays.
 */
async function fill({ db }: Pipeline, count: number): Promise<void> {
  await db.query('set synchronous_commit = off');
  await db.query(
    `insert into relays (url, network) select 'wss://relay' || i || '.example.com/', 'clearnet' from generate_series(1, 100) i`,
  );
  for (let from = 0; from < count; from += AT_A_TIME) {
    const to = Math.min(count, from + AT_A_TIME) - 1;
    await db.query(
      `insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
       select event_key_floor(t) + i % 16777216, t, (array[1, 1, 1, 7, 7, 6, 0, 3])[1 + i % 8], t / 86400, sha256(int8send(i)),
              sha256(int4send(author)), sha512(int8send(-i)),
              jsonb_build_array(jsonb_build_array('e', e), jsonb_build_array('p', p), jsonb_build_array('t', 'topic')),
              jsonb_build_array('e:' || e, 'p:' || p, 't:topic'), repeat(e, 8)
       from (
           select i, $1::bigint - $2::bigint + i * $2::bigint / $3::bigint as t, (random() * 20000)::integer as author,
                  encode(sha256(int8send(i + 7000000000)), 'hex') as e,
                  encode(sha256(int4send((random() * 20000)::integer)), 'hex') as p
           from generate_series($4::bigint, $5::bigint) i
       ) s`,
      [NEWEST, SPAN_SECONDS, count, from, to],
    );
  }
  await db.query(
    `insert into sightings (event_key, relay_id, seen_at, created_day)
     select event_key, relay_id, 0, created_day
     from (select event_key, created_day, row_number() over (order by event_key) as place from events) e
     join relays r on starts_with(url, 'wss://relay') and (relay_id + place) % 100 < $1`,
    [SIGHTINGS],
  );
  await db.query('reset synchronous_commit');
  await db.query('vacuum analyze events');
  await db.query('vacuum analyze sightings');
}
