import type { EventSelection } from '../../database/event-keys.ts';
import { type DaySums, daySums, recordsOf } from '../../database/reconcile-sets.ts';
import { LocalSet } from '../../nip77/local-set.ts';
import { type Segment, SegmentedSet, sumOf } from '../../nip77/segmented-set.ts';
import { MAX_CREATED_AT } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { selectionOf } from '../query/event-query.ts';
import type { Read } from './stored-events.ts';

/** All sessions together may hold as many ids as this many sessions. */
const FULL_SESSIONS = 5;
/** Ids of days that a session keeps from one message to the next. */
const KEPT_RECORDS = 100_000;
/** Longest time to answer one message, in milliseconds. */
const ANSWER_MS = 30_000;
/** A stretch of time of fewer whole days is read as it is. */
const FEW_DAYS = 3;
const DAY = 86_400;

/** Why a session is ended, for the client. */
export class Refusal extends Error {
  readonly most: number | null;

  constructor(text: string, most: number | null = null) {
    super(text);
    this.most = most;
  }
}

/** What all sessions of all connections hold. */
let allRecords = 0;

/** What one session holds, and how long its answer may still take. */
export class SessionMemory {
  readonly #maxRecords: number;
  #records = 0;
  #until = performance.now() + ANSWER_MS;

  /** @param maxRecords ids that one session may hold */
  constructor(maxRecords: number) {
    this.#maxRecords = maxRecords;
  }

  beginAnswer(): void {
    this.#until = performance.now() + ANSWER_MS;
  }

  /** How many more ids may be loaded. @throws Refusal where there is no room or no time left */
  room(): number {
    if (performance.now() > this.#until) throw new Refusal('blocked: this takes too long');
    if (allRecords >= FULL_SESSIONS * this.#maxRecords)
      throw new Refusal('blocked: too many events are being compared, try again later');
    return this.#maxRecords - this.#records;
  }

  /** There are more ids than there is room for. */
  tooMany(): Refusal {
    const most = this.#maxRecords;
    return new Refusal(`blocked: at most ${most} events can be compared at once`, most);
  }

  hold(records: number): void {
    this.#records += records;
    allRecords += records;
  }

  release(): void {
    allRecords -= this.#records;
    this.#records = 0;
  }
}

/** A stretch of time, both ends inclusive, Unix seconds. */
interface Stretch {
  readonly since: number;
  readonly until: number;
}

/** The set that a filter selects: of the archive as a whole the days, of which ids are read when they are needed. */
export class ArchiveSet {
  readonly set: SegmentedSet;
  readonly memory: SessionMemory;
  readonly #isOfDays: boolean;

  private constructor(set: SegmentedSet, memory: SessionMemory, isOfDays: boolean) {
    this.set = set;
    this.memory = memory;
    this.#isOfDays = isOfDays;
  }

  /** @throws Refusal, DatabaseError */
  static async open(filter: ReqFilter, read: Read, memory: SessionMemory): Promise<ArchiveSet> {
    const { limit: _limit, search: _search, ...rest } = filter;
    const selection = selectionOf(rest);
    const load = async (part: EventSelection) => {
      const records = await read((query) => recordsOf(query, part, memory.room()));
      if (records === null) throw memory.tooMany();
      const set = new LocalSet(records);
      memory.hold(set.size);
      return set;
    };
    const all = {
      since: rest.since ?? 0,
      until: Math.min(rest.until ?? MAX_CREATED_AT, MAX_CREATED_AT),
    };
    const isOfTime = Object.keys(rest).every((name) => name === 'since' || name === 'until');
    const sums = selection && isOfTime && hasManyDays(all) ? await read(daySums) : null;
    if (sums) {
      const segments = await segmentsOf(sums, all, load);
      const loadSegment = ({ since, before }: Segment) =>
        load({ since: Math.max(since, all.since), until: Math.min(before - 1, all.until) });
      return new ArchiveSet(new SegmentedSet(segments, loadSegment), memory, true);
    }
    const records = selection ? await load(selection) : new LocalSet(Buffer.alloc(0));
    const whole = segmentOf({ since: 0, until: MAX_CREATED_AT }, records);
    const set = new SegmentedSet(
      [{ ...whole, before: Number.POSITIVE_INFINITY }],
      async () => records,
    );
    return new ArchiveSet(set, memory, false);
  }

  /** Forgets ids of days after an answer, where there are many. */
  tidy(): void {
    if (!this.#isOfDays || this.set.loaded <= KEPT_RECORDS) return;
    this.set.forget();
    this.memory.release();
  }
}

function hasManyDays({ since, until }: Stretch): boolean {
  return (until - since) / DAY > FEW_DAYS;
}

/** The days of a stretch of time, without gaps: those that changed, and those of which only a part is wanted, with ids. */
async function segmentsOf(
  { counted, changed }: DaySums,
  { since, until }: Stretch,
  load: (part: Stretch) => Promise<LocalSet>,
): Promise<Segment[]> {
  const first = Math.ceil(since / DAY);
  const last = Math.floor((until + 1) / DAY) - 1;
  const isWhole = (day: number) => day >= first && day <= last;
  const known = counted
    .filter(({ day }) => isWhole(day))
    .map(({ day, events, sum }) => ({
      ...stretchOf(day),
      ...{ size: events, sum, records: null },
    }));
  const unknown: Stretch[] = changed.filter(isWhole).map(stretchOf);
  if (since < first * DAY) unknown.push({ since, until: first * DAY - 1 });
  if (until > (last + 1) * DAY - 1) unknown.push({ since: (last + 1) * DAY, until });
  const read: (Stretch & Omit<Segment, 'before'>)[] = [];
  for (const stretch of unknown)
    read.push({ ...segmentOf(stretch, await load(stretch)), ...stretch });
  const all = [...known, ...read].sort((a, b) => a.since - b.since);
  if (all.length === 0)
    return [{ since: 0, before: Number.POSITIVE_INFINITY, size: 0, sum: 0n, records: null }];
  // What lies between two days with events belongs to the earlier one.
  return all.map(({ since: start, size, sum, records }, place) => ({
    ...{
      since: place === 0 ? 0 : start,
      before: all[place + 1]?.since ?? Number.POSITIVE_INFINITY,
    },
    ...{ size, sum, records },
  }));
}

const stretchOf = (day: number): Stretch => ({ since: day * DAY, until: (day + 1) * DAY - 1 });

function segmentOf({ since, until }: Stretch, records: LocalSet): Segment {
  return { since, before: until + 1, size: records.size, sum: sumOf(records), records };
}
