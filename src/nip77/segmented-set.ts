import {
  ID_BYTES,
  type LocalSet,
  RECORD_BYTES,
  readTime,
  TIME_BYTES,
  timeBound,
  writeSum,
} from './local-set.ts';
import { type Bound, compareBounds, INFINITE } from './message.ts';

/** A stretch of time of a set: how many ids it has and their sum, and the ids once they are needed. */
export interface Segment {
  /** First second. */
  readonly since: number;
  /** First second behind it; Infinity for the last. */
  readonly before: number;
  readonly size: number;
  /** The sum of the ids as little-endian numbers, modulo 2^256. */
  readonly sum: bigint;
  /** Null while only their number and sum are known. */
  readonly records: LocalSet | null;
}

/** A place between ids: before the one with this index in a segment. */
export interface Place {
  readonly segment: number;
  readonly index: number;
}

const MODULUS = 1n << 256n;

/** Reads the ids of a segment. @throws what ends the reconciliation where it is too much */
export type LoadSegment = (segment: Segment) => Promise<LocalSet>;

/** The sum of the ids of records as little-endian numbers, modulo 2^256. */
export function sumOf(records: LocalSet, begin = 0, end = records.size): bigint {
  const bytes = Buffer.alloc(ID_BYTES);
  writeSum(records.sumWords(begin, end), bytes);
  return BigInt(`0x${bytes.reverse().toString('hex')}`);
}

/**
 * The ids of a set, in the order of (created_at, id), of which some stretches of time are known by their number and sum
 * only. These are read when a bound or a list needs them.
 */
export class SegmentedSet {
  readonly #segments: Segment[];
  readonly #load: LoadSegment;
  /** Before each segment, and after the last. */
  #counts: number[] = [];
  #sums: bigint[] = [];

  /** @param segments in order, without gaps */
  constructor(segments: readonly Segment[], load: LoadSegment) {
    this.#segments = [...segments];
    this.#load = load;
    this.#addUp();
  }

  get first(): Place {
    return { segment: 0, index: 0 };
  }

  get last(): Place {
    return { segment: this.#segments.length, index: 0 };
  }

  /** The ids that are in memory. */
  get loaded(): number {
    return this.#segments.reduce((sum, { records }) => sum + (records?.size ?? 0), 0);
  }

  /** Forgets ids whose number and sum are enough. */
  forget(): void {
    for (const [place, segment] of this.#segments.entries())
      this.#segments[place] = { ...segment, records: null };
  }

  /** Where the first id stands that is not below a bound. */
  async placeOf(bound: Bound): Promise<Place> {
    if (bound === INFINITE) return this.last;
    const place = this.#segmentOf(bound);
    const segment = this.#segments[place];
    if (!segment || compareBounds(bound, timeBound(segment.since)) <= 0)
      return { segment: place, index: 0 };
    const records = await this.#recordsOf(place);
    const index = records.indexOf(bound);
    return index < records.size ? { segment: place, index } : { segment: place + 1, index: 0 };
  }

  count(from: Place, to: Place): number {
    return this.#position(to) - this.#position(from);
  }

  /** The sum of the ids between two places, modulo 2^256. */
  async sum(from: Place, to: Place): Promise<bigint> {
    const [before, after] = [await this.#sumBefore(from), await this.#sumBefore(to)];
    return (((after - before) % MODULUS) + MODULUS) % MODULUS;
  }

  /** The ids between two places, in order, a segment at a time, each with the place of its first. */
  async *records(from: Place, to: Place): AsyncGenerator<[LocalSet, number, number, number]> {
    for (let place = from.segment; place <= to.segment; place++) {
      const begin = place === from.segment ? from.index : 0;
      const isWanted = begin < (place === to.segment ? to.index : this.#sizeOf(place));
      if (!isWanted) continue;
      const records = await this.#recordsOf(place); // which may have more or fewer than it had
      const end = place === to.segment ? Math.min(to.index, records.size) : records.size;
      yield [records, begin, end, place];
    }
  }

  /** Up to `parts - 1` places that divide what lies between two, where there are segments between them at their borders. */
  cuts(lower: Place, upper: Place, parts: number): Place[] {
    const [from, to] = this.#withoutEmpty(lower, upper);
    const count = this.count(from, to);
    const cuts: Place[] = [];
    for (let part = 1; part < parts; part++) {
      const wanted =
        this.#position(from) + part * Math.floor(count / parts) + Math.min(part, count % parts);
      const cut = this.#cutNear(wanted, from, to);
      const before = cuts.at(-1) ?? from;
      if (isBefore(before, cut) && this.count(before, cut) > 0 && this.count(cut, to) > 0)
        cuts.push(cut);
    }
    return cuts;
  }

  /** The shortest bound between a place and what stands before it. */
  async boundAt(place: Place): Promise<Bound> {
    const segment = this.#segments[place.segment];
    if (!segment) return INFINITE;
    if (place.index === 0) return timeBound(segment.since);
    const records = await this.#recordsOf(place.segment);
    if (place.index >= records.size) return this.boundAt({ segment: place.segment + 1, index: 0 });
    const [record, before] = [records.record(place.index), records.record(place.index - 1)];
    let length = 0;
    while (record[length] === before[length]) length += 1;
    const bound = Buffer.alloc(RECORD_BYTES);
    bound.set(record.subarray(0, Math.max(length + 1, TIME_BYTES)));
    return bound;
  }

  /** The same stretch without segments at its ends that have no ids in it. */
  #withoutEmpty(lower: Place, upper: Place): [Place, Place] {
    let [from, to] = [lower, upper];
    while (from.segment < to.segment && from.index >= this.#sizeOf(from.segment))
      from = { segment: from.segment + 1, index: 0 };
    while (to.index === 0 && to.segment > from.segment + 1 && this.#sizeOf(to.segment - 1) === 0)
      to = { segment: to.segment - 1, index: 0 };
    return [from, to];
  }

  #sizeOf(segment: number): number {
    return this.#segments[segment]?.size ?? 0;
  }

  #cutNear(position: number, from: Place, to: Place): Place {
    const segment = this.#segmentAt(position);
    const index = position - (this.#counts[segment] ?? 0);
    const isInOne =
      from.segment === to.segment || (to.segment === from.segment + 1 && to.index === 0);
    if (isInOne)
      return { segment: from.segment, index: position - (this.#counts[from.segment] ?? 0) };
    const isLater = index * 2 > this.#sizeOf(segment);
    return { segment: isLater || segment <= from.segment ? segment + 1 : segment, index: 0 };
  }

  #position({ segment, index }: Place): number {
    return (this.#counts[segment] ?? 0) + index;
  }

  async #sumBefore({ segment, index }: Place): Promise<bigint> {
    const before = this.#sums[segment] ?? 0n;
    if (index === 0) return before;
    const records = await this.#recordsOf(segment);
    return before + sumOf(records, 0, Math.min(index, records.size));
  }

  async #recordsOf(place: number): Promise<LocalSet> {
    const segment = this.#segments[place] as Segment;
    if (segment.records) return segment.records;
    const records = await this.#load(segment);
    this.#segments[place] = { ...segment, records, size: records.size, sum: sumOf(records) };
    this.#addUp();
    return records;
  }

  #addUp(): void {
    let [count, sum] = [0, 0n];
    this.#counts = [0];
    this.#sums = [0n];
    for (const segment of this.#segments) {
      count += segment.size;
      sum = (sum + segment.sum) % MODULUS;
      this.#counts.push(count);
      this.#sums.push(sum);
    }
  }

  /** The segment in whose time a bound lies. */
  #segmentOf(bound: Bound): number {
    const time = readTime(bound, 0);
    let [low, high] = [0, this.#segments.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#segments[middle]?.before ?? 0) <= time) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The segment that has the id with this number. */
  #segmentAt(position: number): number {
    let [low, high] = [0, this.#segments.length - 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#counts[middle + 1] ?? 0) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(a: Place, b: Place): boolean {
  return a.segment < b.segment || (a.segment === b.segment && a.index < b.index);
}
