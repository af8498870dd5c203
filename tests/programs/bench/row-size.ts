import { statfsSync } from 'node:fs';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { MAX_PARTS, WindowSums } from '../../../src/nip77/window-sums.ts';
import type { IdentifiedEvent } from '../../../src/nostr/event.ts';
import { readEvents, selectionOf } from '../../../src/serve/query/event-query.ts';
import { ownDirectory } from '../../processes/directory.ts';
import { relayAddress } from '../../relay/relays.ts';
import { readerOf } from './api-questions.ts';
import type { Bench } from './bench-run.ts';
import { eventsOf, NEWEST } from './event-set.ts';
import { diskNeeded, fillSize, LARGE_RELAY, LARGE_SET } from './fill-size.ts';
import { median, type Result, rounded, secondsOf, side } from './measure.ts';
import { limitMemory } from './memory-limit.ts';
import { Pipeline, silent } from './pipeline.ts';
import { holdSets, type Rates, setOf, visit, visitRates } from './row-growth.ts';
import { identified } from './row-sightings.ts';

const MEMORY = 4 * 1024 ** 3;
const PAGE = 500;
/** Times that a question is asked of each archive, by turns. */
const QUESTIONS = 40;
const GOALS = { events: 0.8, sightings: 0.95 };

const say = (text: string) => process.stdout.write(`${text}\n`);

/**
 * What an archive of `--events` events does with 4 GB of memory, against one that has only the events that are asked for:
 * visits as in `growth`, and single questions of the database.
 *
 * @throws Error when the disk has no room for it
 */
export async function sizeRows(bench: Bench): Promise<Result[]> {
  const { size, server } = bench;
  const needed = diskNeeded(size.archived);
  const { bavail, bsize } = statfsSync(ownDirectory());
  const free = bavail * bsize;
  say(
    `size: ${size.archived} events need about ${gigabytes(needed)} GB of disk, ${gigabytes(free)} GB are free.`,
  );
  if (free < needed)
    throw new Error('size: the disk has no room for so many events: give fewer by --events');
  const limit = limitMemory(server.pid, MEMORY);
  say(`size: memory ${limit.note}`);
  const large = await Pipeline.start(server, 'large');
  try {
    await holdSets(bench);
    for (let round = 0; round <= size.rounds; round++)
      await visit(bench, large, 'old', round, true);
    const fillSeconds = await secondsOf(() => fillSize(large.db, size.archived, say));
    const details = {
      memory: limit.note,
      'archived events': size.archived,
      sightings: await large.db.number(
        "select reltuples::bigint from pg_class where relname = 'sightings'",
      ),
      'on disk, GB': gigabytes(
        await large.db.number('select pg_database_size(current_database())'),
      ),
      'filled in, s': Math.round(fillSeconds),
      ...(await bytesOf(large)),
    };
    const { news, known } = await visitRates(bench, large);
    return [
      rateRow(
        'size-events',
        'new events end to end in a large archive',
        news,
        GOALS.events,
        details,
      ),
      rateRow(
        'size-sightings',
        'sightings of known events end to end in it',
        known,
        GOALS.sightings,
        {},
      ),
      ...(await questionRows(bench, large)),
      await nip77Row(large, size.archived),
    ];
  } finally {
    await large.close();
    limit.remove();
  }
}

const gigabytes = (bytes: number) => rounded(bytes / 1e9);

/** Bytes of each index and table. */
async function bytesOf({ db }: Pipeline): Promise<Record<string, number>> {
  const rows = await db.query<{ name: string; bytes: string }>(
    `select relname as name, pg_relation_size(oid) as bytes from pg_class
     where relname in ('events', 'sightings') or oid in (select indexrelid from pg_index where indrelid in ('events'::regclass, 'sightings'::regclass))
     order by 1`,
  );
  return Object.fromEntries(
    rows.map(({ name, bytes }) => [`${name}, MB`, Math.round(Number(bytes) / 1e6)]),
  );
}

function rateRow(
  name: string,
  what: string,
  rates: Rates,
  goal: number,
  details: Result['details'],
): Result {
  return {
    ...{ row: name, what, unit: name === 'size-events' ? 'events/s' : 'sightings/s' },
    reference: side('ours when empty', rates.reference),
    ours: side('ours', rates.ours),
    ratio: rates.ratio,
    goal: `at least ${goal} of the rate when empty`,
    met: rates.ratio >= goal,
    details: { ...details, 'rates, in order': rates.ours.map(Math.round).join(' '), ...rates.cpu },
  };
}

type Ask = (place: number) => Promise<unknown>;

/** Questions of the database about events that both archives hold, those of a visit. */
async function questionRows(bench: Bench, large: Pipeline): Promise<Result[]> {
  const { pipeline, size } = bench;
  await pipeline.empty();
  await visit(bench, pipeline, 'old', 1, true);
  const events = identified([...eventsOf(setOf(size.events, 61))]);
  const [small, big] = [await asks(pipeline, events), await asks(large, events)];
  try {
    const rows: Result[] = [];
    for (const [name, what] of QUESTION_NAMES)
      rows.push(await questionRow(`size-${name}`, what, small.of[name], big.of[name]));
    return rows;
  } finally {
    await small.close();
    await big.close();
  }
}

const QUESTION_NAMES = [
  ['known', 'known question: 500 events of a stretch, by time and id'],
  ['ids', '500 ids alone'],
  ['author', "an author's newest 100 events"],
  ['tag', 'the newest 100 events with a tag'],
] as const;

async function asks(archive: Pipeline, events: readonly IdentifiedEvent[]) {
  const bigbrotr = await Bigbrotr.connect({ ...archive.db.config, minPool: 1, maxPool: 1 }, silent);
  const reader = await readerOf(archive.db);
  const page = (place: number) => {
    const from = (place * 7 * PAGE) % (events.length - PAGE + 1);
    return events.slice(from, from + PAGE);
  };
  const list = (filter: Parameters<typeof selectionOf>[0]) =>
    reader.read((query) =>
      readEvents(query, selectionOf(filter), null, { events: 100, bytes: 4e6, ms: 60_000 }, 1),
    );
  const at = (place: number) => events[(place * 991) % events.length] as IdentifiedEvent;
  const of: Record<(typeof QUESTION_NAMES)[number][0], Ask> = {
    known: (place) => bigbrotr.archivedEvents(page(place)),
    ids: (place) => bigbrotr.archivedIds(page(place).map(({ id }) => id)),
    author: (place) => list({ authors: [at(place).pubkey] }),
    tag: (place) => list({ '#p': [at(place).tags.find(([name]) => name === 'p')?.[1] ?? ''] }),
  };
  return {
    of,
    close: async () => {
      await bigbrotr.close();
      await reader.close();
    },
  };
}

async function questionRow(name: string, what: string, small: Ask, big: Ask): Promise<Result> {
  const ms = { small: [] as number[], big: [] as number[] };
  for (let place = 0; place < QUESTIONS; place++) {
    ms.small.push(1000 * (await secondsOf(() => small(place))));
    ms.big.push(1000 * (await secondsOf(() => big(place))));
  }
  const ratio = median(ms.small) / median(ms.big);
  return {
    ...{ row: name, what, unit: 'ms' },
    reference: side('the events of one visit alone', ms.small),
    ours: side('ours', ms.big),
    ratio,
    goal: `at least ${GOALS.events} of the rate when empty`,
    met: ratio >= GOALS.events,
    details: { 'slowest, ms': rounded(Math.max(...ms.big)), 'first, ms': rounded(ms.big[0] ?? 0) },
  };
}

/** What the archive does to prove a relay with a large set unchanged: it reads its sightings, and sends fingerprints. */
async function nip77Row(large: Pipeline, archived: number): Promise<Result> {
  const [relay] = await large.bigbrotr.relaysOf([relayAddress(LARGE_RELAY)]);
  if (!relay) throw new Error(`the archive does not give back ${LARGE_RELAY}`);
  const window = { since: 0, until: NEWEST };
  const sums = new WindowSums(window.since, 0);
  let ids = 0;
  let mostRss = 0;
  const before = process.memoryUsage.rss();
  const seconds = await secondsOf(async () => {
    for await (const records of large.bigbrotr.sightedRecords(relay, {}, window)) {
      sums.addRecords(records);
      ids += records.length / 40;
      mostRss = Math.max(mostRss, process.memoryUsage.rss());
    }
  });
  const parts = sums.build();
  if (ids < Math.floor(archived / LARGE_SET)) throw new Error(`${ids} sightings were read`);
  return {
    ...{
      row: 'size-nip77',
      what: 'proving a relay with a sixth of the events unchanged',
      unit: 'ids/s',
    },
    reference: null,
    ours: side('ours', [ids / seconds]),
    ratio: null,
    goal: `memory flat, one message of up to ${MAX_PARTS} fingerprints`,
    met: parts.length <= MAX_PARTS,
    details: {
      ids,
      fingerprints: parts.length,
      seconds: rounded(seconds),
      'RSS before and at most, MB': `${Math.round(before / 1e6)} ${Math.round(mostRss / 1e6)}`,
    },
  };
}
