import type { Relay } from '../../../src/database/bigbrotr.ts';
import { type IdentifiedEvent, parseEvent } from '../../../src/nostr/event.ts';
import { BatchWriter } from '../../../src/sync/batch-writer.ts';
import { OffenceTally } from '../../../src/sync/offence-tally.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import type { Bench } from './bench-run.ts';
import { CpuCount } from './bench-run.ts';
import { eventsOf } from './event-set.ts';
import {
  alternate,
  type Comparison,
  median,
  ORIGINAL,
  type Result,
  secondsOf,
  side,
  timesOriginal,
} from './measure.ts';
import type { BenchDatabase } from './server.ts';

const PAGE = 500;

/** Events that the archive has, seen on one more relay: the whole way, the database's part of it, and its WAL. */
export async function sightingRows(bench: Bench): Promise<Result[]> {
  const { size, relays, pipeline, reference } = bench;
  const { events: count, referenceEvents } = size;
  const set = { count, seed: 3, size: 'notes', everySeconds: 3 } as const;
  await relays.hold('known', set);
  const events = identified([...eventsOf(set)]);
  const some = events.slice(0, referenceEvents);
  await reference.clear();
  await reference.insert(some, relays.url('known'));
  await pipeline.clear();
  await pipeline.visit(relays.url('known'), { events: count, sightings: count });

  const wal = { reference: [] as number[], ours: [] as number[] };
  const insertPath = async () => {
    await reference.db.query('checkpoint');
    const before = await walBytes(reference.db);
    const seconds = await secondsOf(() => reference.insert(some, relays.url('known')));
    wal.reference.push(((await walBytes(reference.db)) - before) / some.length);
    return some.length / seconds;
  };
  const databasePart = async () => {
    await pipeline.db.query('checkpoint');
    const relay = await pipeline.relay(relays.url('known'));
    const before = await walBytes(pipeline.db);
    const seconds = await secondsOf(() => writeKnown(bench, relay, events));
    wal.ours.push(((await walBytes(pipeline.db)) - before) / events.length);
    return events.length / seconds;
  };
  const database = await alternate(size, insertPath, databasePart);
  const cpu = new CpuCount(bench);
  const endToEnd = await alternate(size, insertPath, async () => {
    await pipeline.db.query('checkpoint');
    pipeline.forget();
    const visit = () => pipeline.visit(relays.url('known'), { events: 0, sightings: count });
    return count / (await cpu.of(count, visit));
  });
  await relays.drop('known');
  return [
    rateRow('sightings', 'sightings of known events end to end', endToEnd, 15, cpu.details),
    rateRow('database', 'the database part alone of sightings', database, 30, {
      'what it is': 'ask which ids are known, store sightings and coverage, batches of 500',
    }),
    walRow(wal.reference, wal.ours),
  ];
}

function rateRow(
  row: string,
  what: string,
  { reference, ours, ratio }: Comparison,
  times: number,
  details: Result['details'],
): Result {
  return {
    ...{ row, what, unit: 'sightings/s' },
    reference: side('the original insert path', reference),
    ours: side('ours', ours),
    ratio,
    ...timesOriginal(times, ORIGINAL.sightings, ours),
    details,
  };
}

function walRow(reference: number[], ours: number[]): Result {
  return {
    ...{ row: 'wal', what: 'WAL of a sighting, right after a checkpoint', unit: 'bytes' },
    reference: side('the original', reference),
    ours: side('ours', ours),
    ratio: median(ours) / median(reference),
    goal: 'at most 300',
    met: median(ours) <= 300,
    details: {
      'what it is': 'full page images included, and all that PostgreSQL writes beside it',
    },
  };
}

/** What the writer of a visit does, with events that are parsed already, all of them known. */
export async function writeKnown(
  { pipeline, verifier }: Pick<Bench, 'pipeline' | 'verifier'>,
  relay: Relay,
  events: readonly IdentifiedEvent[],
): Promise<void> {
  const { bigbrotr } = pipeline;
  const filterId = await bigbrotr.filterId({});
  const now = () => Math.floor(Date.now() / 1000);
  await bigbrotr.beginVisit(
    relay,
    { filterId, since: 0, until: now() },
    { overlapSeconds: 0, reproveSeconds: 86_400 },
  );
  const writer = new BatchWriter({
    ...{ bigbrotr, verifier, relay, filterId, batchSize: PAGE, now },
    recent: new RecentEvents(),
    offences: new OffenceTally(),
    onStored: () => {},
    onInvalid: (reason) => {
      throw new Error(reason);
    },
  });
  for (let from = 0; from < events.length; from += PAGE) {
    const page = events.slice(from, from + PAGE);
    for (const event of page) await writer.add(event);
    const since = page.at(-1)?.created_at ?? 0;
    const until = page[0]?.created_at ?? 0;
    await writer.endPage({ proven: [{ since, until }], holes: [], evidence: 'paging' });
  }
  await writer.flush();
}

export function identified(events: readonly unknown[]): IdentifiedEvent[] {
  return events.map((value) => {
    const parsed = parseEvent(value);
    if (!parsed.ok) throw new Error(`an event of the bench is ${parsed.reason}`);
    return parsed.event;
  });
}

function walBytes(db: BenchDatabase): Promise<number> {
  return db.number("select pg_current_wal_lsn() - '0/0'");
}
