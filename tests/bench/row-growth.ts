import type { Bench } from './bench-run.ts';
import { NEWEST } from './event-set.ts';
import { alternate, type Result, side } from './measure.ts';
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

/** The rates of `archive` and `sightings` when the archive is large, against those when it is empty. */
export async function growthRows(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline, server } = bench;
  const archived = ARCHIVED[size.mode];
  if (archived === 0) return [];
  const { events, rounds } = size;
  const large = await Pipeline.start(server, 'large');
  try {
    const everySeconds = VISIT_SPAN_SECONDS / events;
    for (let round = 0; round < rounds; round++) {
      await relays.hold(`new${round}`, {
        count: events,
        seed: 20 + round,
        size: 'notes',
        everySeconds,
      });
      await relays.hold(`old${round}`, {
        count: events,
        seed: 40 + round,
        size: 'notes',
        everySeconds,
      });
    }
    const all = { events, sightings: events };
    for (let round = 0; round < rounds; round++) await large.visit(relays.url(`old${round}`), all);
    await fill(large, archived);
    const visit = async (archive: Pipeline, set: string, isNew: boolean) => {
      await archive.db.query('checkpoint');
      const expected = isNew ? all : { events: 0, sightings: events };
      return events / (await archive.visit(relays.url(set), expected));
    };
    const news = await alternate(
      rounds,
      async (round) => {
        await pipeline.clear();
        return visit(pipeline, `new${round}`, true);
      },
      (round) => visit(large, `new${round}`, true),
    );
    const known = await alternate(
      rounds,
      async (round) => {
        await pipeline.clear();
        await visit(pipeline, `old${round}`, true);
        return visit(pipeline, `old${round}`, false);
      },
      (round) => visit(large, `old${round}`, false),
    );
    const bytes = await large.db.number('select pg_database_size(current_database())');
    const row = (name: string, what: string, { reference, ours, ratio }: typeof news): Result => ({
      ...{ row: name, what: `${what} at ${archived.toLocaleString('en')} archived events` },
      unit: name === 'growth' ? 'events/s' : 'sightings/s',
      reference: side('ours when empty', reference),
      ours: side('ours', ours),
      ratio,
      goal: `at least ${GOAL} of the rate when empty`,
      met: ratio >= GOAL,
      details: { 'size of the archive, GB': Math.round(bytes / 1e8) / 10 },
    });
    return [
      row('growth', 'new events end to end', news),
      row('growth-sightings', 'sightings of known events end to end', known),
    ];
  } finally {
    await large.close();
  }
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
      `insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
       select new_event_key(t), t, (array[1, 1, 1, 7, 7, 6, 0, 3])[1 + i % 8], sha256(int8send(i)),
              sha256(int4send(author)), sha512(int8send(-i)),
              jsonb_build_array(jsonb_build_array('e', e), jsonb_build_array('p', p), jsonb_build_array('t', 'topic')),
              array['e:' || e, 'p:' || p, 't:topic'], repeat(e, 8)
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
    `insert into sightings (event_key, relay_id, seen_at)
     select event_key, relay_id, 0
     from (select event_key, row_number() over (order by event_key) as place from events) e
     join relays r on starts_with(url, 'wss://relay') and (relay_id + place) % 100 < $1`,
    [SIGHTINGS],
  );
  await db.query('reset synchronous_commit');
  await db.query('vacuum analyze events');
  await db.query('vacuum analyze sightings');
}
