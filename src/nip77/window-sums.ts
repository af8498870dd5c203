/**
 * The ids of a window of any size, as a bounded number of fingerprints (NIP-77): ids are added as they are read, in time
 * order, and none is kept. A part begins with a second, since within a second the archive has another order than Negentropy.
 */
import { carried, RECORD_BYTES, readTime, recordOf, sumWords, type Unplaced } from './local-set.ts';
import { fingerprint } from './message.ts';

/** Maximum number of parts: with 23 bytes each they fit into the smallest frame (2,048 bytes). */
export const MAX_PARTS = 64;
/** Ids of a part at first; doubled whenever there are too many parts. */
const FIRST_PART_IDS = 256;

/** A stretch of time, up to the next part, and the fingerprint of its ids. */
export interface WindowPart {
  /** Its first second. That of the first part is the beginning of the window. */
  readonly since: number;
  readonly ids: number;
  readonly fingerprint: Buffer;
}

interface OpenPart {
  readonly since: number;
  ids: number;
  words: number[];
}

export class WindowSums {
  readonly #maxOutOfOrder: number;
  #parts: OpenPart[];
  #partIds = FIRST_PART_IDS;
  #second = -1;
  #outOfOrder: Buffer[] = [];
  #outOfOrderIds = 0;
  readonly #unplaced: Unplaced[] = [];

  /** @param maxOutOfOrder ids that may come out of time order, which are kept until the end */
  constructor(since: number, maxOutOfOrder: number) {
    this.#maxOutOfOrder = maxOutOfOrder;
    this.#parts = [{ since, ids: 0, words: [] }];
  }

  /** Adds packed records of 40 bytes. @returns false when too many are out of order */
  addRecords(records: Buffer): boolean {
    let from = 0;
    const count = records.length / RECORD_BYTES;
    for (let at = 0; at < count; at += 1) {
      const second = readTime(records, at * RECORD_BYTES);
      if (second === this.#second) continue;
      const isLate = second < this.#second;
      if (isLate || (this.#parts.at(-1)?.ids ?? 0) + at - from >= this.#partIds) {
        this.#addRun(records, from, at);
        from = at;
        if (isLate) return this.#keep(records.subarray(at * RECORD_BYTES));
        this.#begin(second);
      }
      this.#second = second;
    }
    this.#addRun(records, from, count);
    return true;
  }

  /** Adds an id whose time is not known. @returns false when too many are out of order */
  addUnplaced(unplaced: Unplaced): boolean {
    this.#unplaced.push(unplaced);
    return this.#keep(recordOf(unplaced));
  }

  /** The parts, in time order; at least one. No more can be added. */
  build(): WindowPart[] {
    this.#mergeAround();
    for (const records of this.#outOfOrder)
      for (let at = 0; at < records.length / RECORD_BYTES; at += 1) {
        const second = readTime(records, at * RECORD_BYTES);
        const part = this.#parts.findLast(({ since }) => since <= second) ?? this.#parts[0];
        if (part) add(part, sumWords(records, at, at + 1), 1);
      }
    while (this.#parts.length > MAX_PARTS) this.#halve();
    return this.#parts.map(({ since, ids, words }) => ({
      ...{ since, ids, fingerprint: fingerprint(words, ids) },
    }));
  }

  #addRun(records: Buffer, from: number, to: number): void {
    const part = this.#parts.at(-1);
    if (part && to > from) add(part, sumWords(records, from, to), to - from);
  }

  #keep(records: Buffer): boolean {
    this.#outOfOrder.push(records);
    this.#outOfOrderIds += records.length / RECORD_BYTES;
    return this.#outOfOrderIds <= this.#maxOutOfOrder;
  }

  #begin(second: number): void {
    this.#parts.push({ since: second, ids: 0, words: [] });
    if (this.#parts.length > 2 * MAX_PARTS) this.#halve();
  }

  /** Joins each two parts. */
  #halve(): void {
    this.#partIds *= 2;
    this.#parts = this.#parts.filter((part, at) => {
      const before = this.#parts[at - 1];
      if (at % 2 === 1 && before) add(before, part.words, part.ids);
      return at % 2 === 0;
    });
  }

  /** Joins parts between which an id with an unknown time may lie: on either side it would be another fingerprint. */
  #mergeAround(): void {
    for (const { since, until } of this.#unplaced) {
      const joined: OpenPart[] = [];
      for (const part of this.#parts) {
        const before = joined.at(-1);
        if (before && part.since > since && part.since <= until) add(before, part.words, part.ids);
        else joined.push(part);
      }
      this.#parts = joined;
    }
  }
}

function add(part: OpenPart, words: readonly number[], ids: number): void {
  part.words = carried(words.map((word, at) => word + (part.words[at] ?? 0)));
  part.ids += ids;
}
