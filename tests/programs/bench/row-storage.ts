import type { NostrEvent } from '../../../src/nostr/event.ts';
import type { VerifiedEvent } from '../../../src/nostr/verify.ts';
import { realOrSignedEvents } from '../../fixtures/events.ts';
import { seededRandom } from '../../fixtures/random.ts';
import type { Bench } from './bench-run.ts';
import { eventsLike, eventsOf } from './event-set.ts';
import { type Result, rounded, side } from './measure.ts';
import { identified, writeKnown } from './row-sightings.ts';
import type { BenchDatabase } from './server.ts';

const RELAYS = 10;
/** Ten times the events of other rows: what waits to be sorted into a GIN index, up to 4 MB, weighs less among more. */
const TIMES = 10;
/** Part of the events that each relay holds. */
const SHARE = 0.7;

/** What a sighting takes on disk, when ten relays hold most of the same events. */
export async function sightingBytesRow(bench: Bench): Promise<Result[]> {
  const { size, pipeline, reference, relays } = bench;
  const set = { count: size.events, seed: 5, size: 'likes', everySeconds: 3 } as const;
  const events = identified([...eventsOf(set)]);
  const random = seededRandom(6);
  await pipeline.clear();
  await reference.clear();
  await storeEvents(bench, events);
  await insertIntoReference(reference.db, events);
  for (let index = 0; index < RELAYS; index++) {
    const held = events.filter(() => random.next() < SHARE);
    const url = relays.url('nowhere');
    await writeKnown(bench, await pipeline.relay(url), held);
    await reference.db.query("insert into relays values ($1, 'clearnet', 0)", [url]);
    await reference.db.query(
      'insert into events_relays select unnest($1::char(64)[]), $2, 1760000000',
      [held.map(({ id }) => id), url],
    );
  }
  const ours = await bytesOf(pipeline.db, 'sightings');
  const theirs = await bytesOf(reference.db, 'events_relays');
  const each = ours.all / ours.rows;
  return [
    {
      row: 'sighting-bytes',
      what: 'a sighting on disk, heap and indexes',
      unit: 'bytes',
      reference: side('the original', [theirs.all / theirs.rows]),
      ours: side('ours', [each]),
      ratio: each / (theirs.all / theirs.rows),
      goal: 'at most 130',
      met: each <= 130,
      details: { sightings: ours.rows, ...perRow(ours) },
    },
  ];
}

/** What an event takes on disk, of events as mixed as the network's are, found on ten relays one after the other. */
export async function eventBytesRow(bench: Bench): Promise<Result[]> {
  const { size, pipeline, reference } = bench;
  const models = realOrSignedEvents();
  const events = identified([...eventsLike(models, TIMES * size.events)]);
  await pipeline.clear();
  await reference.clear();
  for (let index = 0; index < RELAYS; index++) {
    const found = events.filter((_, place) => (place * 7) % RELAYS === index);
    await storeEvents(bench, found);
    await insertIntoReference(reference.db, found);
  }
  const ours = await bytesOf(pipeline.db, 'events');
  const theirs = await bytesOf(reference.db, 'events');
  const [content] = await pipeline.db.query<{ bytes: number }>(
    `select avg(case when pg_column_size(content) > 2000 then 20 else pg_column_size(content) end
              + case when pg_column_size(tags) > 2000 then 20 else pg_column_size(tags) end)::float8 as bytes
     from events`,
  );
  const inRow = content?.bytes ?? 0;
  const details = {
    events: ours.rows,
    'in all, TOAST apart': rounded(ours.all / ours.rows),
    'in all, of the original': rounded(theirs.all / theirs.rows),
    'content and tags in the row': Math.round(inRow),
    ...perRow(ours),
  };
  const row = (name: string, what: string, part: (bytes: Bytes) => number, most: number) => {
    const [mine, original] = [part(ours) / ours.rows, part(theirs) / theirs.rows];
    return {
      ...{ row: name, what, unit: 'bytes' },
      ...{ reference: side('the original', [original]), ours: side('ours', [mine]) },
      ...{ ratio: mine / original, goal: `at most ${most}`, met: mine <= most, details },
    };
  };
  return [
    row(
      'event-bytes',
      'an event on disk beyond its content and tags: heap and indexes, TOAST apart',
      ({ all, rows }) => all - inRow * rows,
      1050,
    ),
    row('index-bytes', 'the indexes of an event', ({ indexes }) => indexes, 400),
  ];
}

interface Bytes {
  readonly rows: number;
  /** Heap and indexes. */
  readonly all: number;
  readonly indexes: number;
  readonly toast: number;
  readonly byIndex: Readonly<Record<string, number>>;
}

async function bytesOf(db: BenchDatabase, table: string): Promise<Bytes> {
  await db.query(
    `select gin_clean_pending_list(c.oid) from pg_index i join pg_class c on c.oid = i.indexrelid
     join pg_am a on a.oid = c.relam where a.amname = 'gin' and i.indrelid = '${table}'::regclass`,
  );
  const rows = await db.number(`select count(*) from ${table}`);
  const heap = await db.number(`select pg_relation_size('${table}')`);
  const total = await db.number(`select pg_total_relation_size('${table}')`);
  const indexes = await db.number(`select pg_indexes_size('${table}')`);
  const found = await db.query<{ name: string; bytes: string }>(
    `select indexrelid::regclass::text as name, pg_relation_size(indexrelid) as bytes
     from pg_index where indrelid = '${table}'::regclass`,
  );
  const byIndex = Object.fromEntries(found.map(({ name, bytes }) => [name, Number(bytes)]));
  return { rows, all: heap + indexes, indexes, toast: total - heap - indexes, byIndex };
}

function perRow({ rows, all, indexes, toast, byIndex }: Bytes): Record<string, number> {
  return {
    heap: rounded((all - indexes) / rows),
    ...Object.fromEntries(
      Object.entries(byIndex).map(([name, bytes]) => [name, rounded(bytes / rows)]),
    ),
    'TOAST and maps': rounded(toast / rows),
  };
}

/** Stores events page by page as a visit does, without a signature check. */
export async function storeEvents(bench: Bench, events: readonly NostrEvent[]): Promise<void> {
  const { pipeline, relays } = bench;
  const relay = await pipeline.relay(relays.url('nowhere'));
  const filterId = await pipeline.bigbrotr.filterId({});
  for (let from = 0; from < events.length; from += 500) {
    await pipeline.bigbrotr.store({
      ...{ relay, filterId, seenAt: 1_760_000_000, known: [], sighted: [] },
      events: events.slice(from, from + 500) as VerifiedEvent[], // we have just signed them
      ...{ proven: [], holes: [], evidence: 'paging' },
    });
  }
}

/** The rows that insert_event() would insert, in the same order, faster. */
async function insertIntoReference(db: BenchDatabase, events: readonly NostrEvent[]) {
  for (let from = 0; from < events.length; from += 500) {
    await db.query(
      `insert into events (id, pubkey, created_at, kind, tags, content, sig)
       select e ->> 'id', e ->> 'pubkey', (e ->> 'created_at')::bigint, (e ->> 'kind')::integer, e -> 'tags',
              e ->> 'content', e ->> 'sig'
       from jsonb_array_elements($1::jsonb) e`,
      [JSON.stringify(events.slice(from, from + 500).filter(isPlain))],
    );
  }
}

/** NUL and lone surrogates have no place in jsonb. */
function isPlain(event: NostrEvent): boolean {
  return !/\\u0000|\\ud[89a-f]/.test(JSON.stringify(event));
}
