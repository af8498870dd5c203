import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Batch, Bigbrotr, type Relay } from '../../../src/database/bigbrotr.ts';
import type { IdentifiedEvent } from '../../../src/nostr/event.ts';
import type { VerifiedEvent } from '../../../src/nostr/verify.ts';
import { projectFile } from '../../processes/project.ts';
import { relayAddress } from '../../relay/relays.ts';
import type { Bench } from './bench-run.ts';
import { eventsOf } from './event-set.ts';
import { median, type Result, rounded, side } from './measure.ts';
import { silent } from './pipeline.ts';
import { identified } from './row-sightings.ts';

const PAGE = 500;
const DAY = 86_400;
/** Days over which the events of one batch are spread. */
const MANY_DAYS = 1000;
/** Relays that hold each event, after the one that it is new on. */
const RELAYS = 5;

/** One version of the archive: its classes, and a database with its schema. */
export interface Version {
  readonly bigbrotr: Bigbrotr;
  readonly filterId: number;
  /** CPU seconds of its connections so far. */
  cpu(): number;
  /** Removes its database. */
  drop(): Promise<void>;
}

/**
 * The same batches stored by this version and by another one, by turns: BENCH_BEFORE names a folder with the other's
 * `init.sql` and `dist`. Known question, transaction and coverage are counted, signatures and sockets of relays are not.
 */
export async function layoutRows(bench: Bench): Promise<Result[]> {
  const before = process.env.BENCH_BEFORE;
  if (!before) {
    process.stdout.write('layout: BENCH_BEFORE names no folder with another version\n');
    return [];
  }
  const other = await import(pathToFileURL(join(before, 'dist/database/bigbrotr.js')).href);
  const versions = [
    await open(bench, 'before', join(before, 'init.sql'), other.Bigbrotr),
    await open(bench, 'after', projectFile('init.sql'), Bigbrotr),
  ] as const;
  try {
    return [
      ...rows(await compare(bench, versions, 3), ['layout-events', 'layout-sightings'], ''),
      ...rows(
        await compare(bench, versions, (MANY_DAYS * DAY) / PAGE),
        ['layout-events-days', 'layout-sightings-days'],
        ', each batch over 1,000 days',
      ),
    ];
  } finally {
    for (const version of versions) await version.drop();
  }
}

export async function open(
  { server }: Bench,
  name: string,
  initSql: string,
  its: typeof Bigbrotr,
): Promise<Version> {
  const db = await server.create(name, readFileSync(initSql, 'utf8'));
  const bigbrotr = await its.connect({ ...db.config, minPool: 1, maxPool: 1 }, silent);
  const filterId = await bigbrotr.filterId({});
  const backends = await db.query<{ pid: number }>(
    `select pid from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
  );
  const cpu = () => backends.reduce((sum, { pid }) => sum + cpuOfProcess(pid), 0);
  const drop = async () => {
    await bigbrotr.close();
    await db.drop();
  };
  return { bigbrotr, filterId, cpu, drop };
}

/** CPU seconds of one process: nanoseconds in Linux's schedstat, since ticks are too coarse for one batch. */
function cpuOfProcess(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e9;
}

/** Of the version before, and of this one. */
export type Pair = [before: number, after: number];

/** What storing the same rows took, in seconds. */
export interface Taken {
  readonly wall: Pair;
  /** CPU of the database's process. */
  readonly cpu: Pair;
}

export interface Round extends Taken {
  readonly rows: number;
}

export interface Rates {
  readonly news: Round[];
  readonly known: Round[];
}

/** @param everySeconds from one event to the next */
export async function compare(
  { size }: Bench,
  versions: readonly [Version, Version],
  everySeconds: number,
): Promise<Rates> {
  const rates: Rates = { news: [], known: [] };
  for (let round = -1; round < size.rounds; round++) {
    const seed = 200 + round;
    const events = identified([
      ...eventsOf({ count: size.events / 2, seed, size: 'notes', everySeconds }),
    ]);
    const news = await storeOnBoth(versions, events, `new${everySeconds}-${round}`, false);
    const known: Taken = { wall: [0, 0], cpu: [0, 0] };
    for (let relay = 0; relay < RELAYS; relay++) {
      const name = `known${everySeconds}-${round}-${relay}`;
      const taken = await storeOnBoth(versions, events, name, true);
      for (const at of [0, 1] as const) {
        known.wall[at] += taken.wall[at];
        known.cpu[at] += taken.cpu[at];
      }
    }
    if (round < 0) continue; // the first warms up
    rates.news.push({ ...news, rows: events.length });
    rates.known.push({ ...known, rows: events.length * RELAYS });
  }
  return rates;
}

/** Stores each batch in both archives, the one and the other first by turns. */
async function storeOnBoth(
  versions: readonly [Version, Version],
  events: readonly IdentifiedEvent[],
  name: string,
  isKnown: boolean,
): Promise<Taken> {
  const taken: Taken = { wall: [0, 0], cpu: [0, 0] };
  const relays = await Promise.all(versions.map((version) => relayOf(version, name)));
  for (let from = 0; from < events.length; from += PAGE) {
    const order: readonly (0 | 1)[] = (from / PAGE) % 2 === 0 ? [0, 1] : [1, 0];
    for (const at of order) {
      const page = events.slice(from, from + PAGE);
      const cpuBefore = versions[at].cpu();
      const started = performance.now();
      await storePage(versions[at], relays[at] as Relay, page, isKnown);
      taken.wall[at] += (performance.now() - started) / 1000;
      taken.cpu[at] += versions[at].cpu() - cpuBefore;
    }
  }
  return taken;
}

async function relayOf({ bigbrotr }: Version, name: string): Promise<Relay> {
  const [relay] = await bigbrotr.relaysOf([relayAddress(`wss://${name}.example.com/`)]);
  if (!relay) throw new Error(`the archive does not give back ${name}`);
  return relay;
}

async function storePage(
  { bigbrotr, filterId }: Version,
  relay: Relay,
  page: readonly IdentifiedEvent[],
  isKnown: boolean,
): Promise<void> {
  const archived = await bigbrotr.archivedEvents(page);
  if (archived.size !== (isKnown ? page.length : 0)) throw new Error('known events are others');
  const sound = page as VerifiedEvent[]; // we have just signed them
  const batch: Batch = {
    ...{ relay, filterId, seenAt: 1_760_000_000, sighted: [], holes: [], evidence: 'paging' },
    events: isKnown ? [] : sound,
    known: isKnown ? sound : [],
    keys: new Map([...archived].map(([id, { key }]) => [id, key])),
    proven: [{ since: page.at(-1)?.created_at ?? 0, until: page[0]?.created_at ?? 0 }],
  };
  const { sightings } = await bigbrotr.store(batch);
  if (sightings !== page.length) throw new Error(`${sightings} sightings were stored`);
}

function rows({ news, known }: Rates, names: readonly [string, string], spread: string): Result[] {
  return [
    row(names[0], `new events${spread}`, news, 0.9),
    row(names[1], `sightings of known events${spread}`, known, spread ? 0.9 : 0.95),
  ];
}

function row(name: string, what: string, rounds: readonly Round[], goal: number): Result {
  const rates = (at: 0 | 1) => rounds.map(({ rows: count, wall }) => count / wall[at]);
  const cpu = (at: 0 | 1) => median(rounds.map(({ rows: count, cpu }) => (cpu[at] / count) * 1e6));
  const ratios = rounds.map(({ wall: [before, after] }) => before / after);
  const ratio = median(ratios);
  return {
    ...{ row: name, what, unit: 'rows/s' },
    reference: side('the version before', rates(0)),
    ours: side('ours', rates(1)),
    ratio,
    goal: `at least ${goal} of the version before`,
    met: ratio >= goal,
    details: {
      'ratio of each round': ratios.map(rounded).join(' '),
      'CPU of the database before, µs a row': rounded(cpu(0)),
      'CPU of the database, µs a row': rounded(cpu(1)),
      'CPU of each round, before / after': rounds
        .map(({ cpu: [before, after] }) => rounded(before / after))
        .join(' '),
    },
  };
}
