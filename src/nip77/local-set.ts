/**
 * The ids of one window in the archive, packed for reconciliation (NIP-77): 40 bytes each, `created_at` as eight bytes,
 * the most significant first, then the id. The order of the bytes is then the order of (created_at, id), which Negentropy
 * requires, and a bound between two records is a record too.
 */

export const RECORD_BYTES = 40;
export const TIME_BYTES = 8;
export const ID_BYTES = 32;
/** Sums of this many 32-bit words are exact in a JavaScript number (2^53); see `sumWords`. */
const MAX_IDS = 2 ** 21;
const WORDS = ID_BYTES / 4;

/** An id whose time is unknown, except that it lies in a window. */
export interface Unplaced {
  readonly id: string;
  readonly since: number;
  readonly until: number;
}

/** Ids in the order of (created_at, id), each once. Created by `LocalSetBuilder`. */
export class LocalSet {
  readonly size: number;
  readonly #records: Buffer;
  /** The unplaced ids among them, by position. */
  readonly unplaced: ReadonlyMap<number, Unplaced>;
  /** For each position 1 if a bound before it could separate an unplaced id from its neighbours; null without any. */
  readonly #uncut: Uint8Array | null;

  constructor(records: Buffer, unplaced: readonly Unplaced[] = []) {
    this.#records = records;
    this.size = records.length / RECORD_BYTES;
    const positions = unplaced.map((one) => [this.indexOf(recordOf(one)), one] as const);
    this.unplaced = new Map(positions);
    this.#uncut = unplaced.length > 0 ? this.#findUncut() : null;
  }

  /**
   * The position nearest to a wanted one, between two others, at which the set may be cut: every unplaced id is on the same
   * side of the bound wherever in its window it lies. Null when there is none.
   */
  cutNear(wanted: number, from: number, to: number): number | null {
    if (this.#uncut === null) return wanted;
    for (let distance = 0; distance <= to - from; distance++) {
      for (const position of [wanted + distance, wanted - distance])
        if (position > from && position < to && this.#uncut[position] === 0) return position;
    }
    return null;
  }

  #findUncut(): Uint8Array {
    const changes = new Int32Array(this.size + 2);
    const forbid = (first: number, last: number) => {
      changes[first] = (changes[first] ?? 0) + 1;
      changes[last + 1] = (changes[last + 1] ?? 0) - 1;
    };
    for (const [position, { since, until }] of this.unplaced) {
      forbid(position, Math.min(position + 1, this.size));
      const first = this.indexOf(timeBound(since + 1));
      const last = this.indexOf(timeBound(until));
      if (first <= last) forbid(first, Math.min(last, this.size));
    }
    const uncut = new Uint8Array(this.size + 1);
    for (let position = 0, open = 0; position <= this.size; position++) {
      open += changes[position] ?? 0;
      uncut[position] = open > 0 ? 1 : 0;
    }
    return uncut;
  }

  /** Seconds. */
  createdAt(index: number): number {
    return readTime(this.#records, index * RECORD_BYTES);
  }

  /** The id in hex. */
  id(index: number): string {
    const from = index * RECORD_BYTES + TIME_BYTES;
    return this.#records.toString('hex', from, from + ID_BYTES);
  }

  /** One record: 40 bytes, read-only. */
  record(index: number): Uint8Array {
    return this.#records.subarray(index * RECORD_BYTES, (index + 1) * RECORD_BYTES);
  }

  /** Copies the id of a record to a place in another buffer. */
  copyId(index: number, target: Uint8Array, at: number): void {
    const from = index * RECORD_BYTES + TIME_BYTES;
    this.#records.copy(target, at, from, from + ID_BYTES);
  }

  /** The index, `from` or later, of the first record that is not below the bound. */
  indexOf(bound: Uint8Array, from = 0): number {
    let low = from;
    let high = this.size;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (compareRecords(this.#records, middle * RECORD_BYTES, bound, 0) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The sum of the ids between two positions. */
  sumWords(begin: number, end: number): number[] {
    return sumWords(this.#records, begin, end);
  }
}

/**
 * The sum of ids of packed records as little-endian numbers of 256 bits, by their eight 32-bit words. Each word is summed
 * separately, which is exact for up to 2^21 ids; `writeSum` propagates the carries.
 */
export function sumWords(records: Buffer, begin: number, end: number): number[] {
  const { buffer, byteOffset, byteLength } = records;
  const view = new DataView(buffer, byteOffset, byteLength);
  let [a, b, c, d, e, f, g, h] = [0, 0, 0, 0, 0, 0, 0, 0];
  for (let at = begin * RECORD_BYTES + TIME_BYTES; at < end * RECORD_BYTES; at += RECORD_BYTES) {
    a += view.getUint32(at, true);
    b += view.getUint32(at + 4, true);
    c += view.getUint32(at + 8, true);
    d += view.getUint32(at + 12, true);
    e += view.getUint32(at + 16, true);
    f += view.getUint32(at + 20, true);
    g += view.getUint32(at + 24, true);
    h += view.getUint32(at + 28, true);
  }
  return [a, b, c, d, e, f, g, h];
}

/** The same sum with its carries propagated, modulo 2^256: each word is below 2^32. */
export function carried(words: readonly number[]): number[] {
  let carry = 0;
  return Array.from({ length: WORDS }, (_, word) => {
    const sum = (words[word] ?? 0) + carry;
    carry = Math.floor(sum / 2 ** 32);
    return sum % 2 ** 32;
  });
}

/** Writes a sum into 32 bytes of the target. */
export function writeSum(words: readonly number[], target: Buffer): void {
  for (const [word, value] of carried(words).entries()) target.writeUInt32LE(value, word * 4);
}

/** Collects ids in any order; ascending or descending order is fastest. */
export class LocalSetBuilder {
  readonly #maxIds: number;
  #records = Buffer.alloc(0);
  #size = 0;
  #unplaced: Unplaced[] = [];

  /** @param maxIds most ids that are accepted; at most 2,097,152 */
  constructor(maxIds: number) {
    if (maxIds > MAX_IDS) throw new RangeError(`a set holds at most ${MAX_IDS} ids`);
    this.#maxIds = maxIds;
  }

  get size(): number {
    return this.#size;
  }

  /** @returns false, and adds nothing, when the set would be too large */
  add(createdAt: number, id: string): boolean {
    const record = Buffer.alloc(RECORD_BYTES);
    writeTime(record, 0, createdAt);
    record.write(id, TIME_BYTES, 'hex');
    return this.addRecords(record);
  }

  /** The same for an id with an unknown time: it is placed in the middle of its window. */
  addUnplaced(unplaced: Unplaced): boolean {
    if (!this.addRecords(recordOf(unplaced))) return false;
    this.#unplaced.push(unplaced);
    return true;
  }

  /**
   * Adds packed records of 40 bytes: `int8send(created_at) || id` in SQL.
   *
   * @returns false, and adds nothing, when the set would be too large
   */
  addRecords(records: Uint8Array): boolean {
    if (records.length % RECORD_BYTES !== 0)
      throw new RangeError(
        `${records.length} bytes are not a whole number of records of ${RECORD_BYTES}`,
      );
    const size = this.#size + records.length / RECORD_BYTES;
    if (size > this.#maxIds) return false;
    if (size * RECORD_BYTES > this.#records.length) this.#grow(size);
    this.#records.set(records, this.#size * RECORD_BYTES);
    this.#size = size;
    return true;
  }

  /** Returns the set: sorted, without duplicates and ids older than `since`. Empties the builder. */
  build(since = 0): LocalSet {
    const records = this.#records.subarray(0, this.#size * RECORD_BYTES);
    this.#records = Buffer.alloc(0);
    this.#size = 0;
    const unplaced = this.#unplaced.filter((one) => middleOf(one) >= since);
    this.#unplaced = [];
    const unique = withoutDuplicates(sorted(records));
    const from = new LocalSet(unique).indexOf(timeBound(since));
    return new LocalSet(unique.subarray(from * RECORD_BYTES), unplaced);
  }

  #grow(size: number): void {
    const capacity = Math.min(this.#maxIds, Math.max(size, this.#size * 2, 256));
    const grown = Buffer.allocUnsafe(capacity * RECORD_BYTES);
    grown.set(this.#records.subarray(0, this.#size * RECORD_BYTES));
    this.#records = grown;
  }
}

/** The second at which an id with an unknown time is placed. */
export function middleOf({ since, until }: Unplaced): number {
  return Math.floor((since + until) / 2);
}

export function recordOf(unplaced: Unplaced): Buffer {
  const record = timeBound(middleOf(unplaced));
  record.write(unplaced.id, TIME_BYTES, 'hex');
  return record;
}

/** The bound below all records of a second. */
export function timeBound(seconds: number): Buffer {
  const bound = Buffer.alloc(RECORD_BYTES);
  writeTime(bound, 0, seconds);
  return bound;
}

export function readTime(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}

export function writeTime(bytes: Buffer, at: number, seconds: number): void {
  bytes.writeUInt32BE(Math.floor(seconds / 2 ** 32), at);
  bytes.writeUInt32BE(seconds % 2 ** 32, at + 4);
}

/** Negative, 0 or positive when the first record is smaller than, equal to or larger than the second. */
export function compareRecords(a: Uint8Array, atA: number, b: Uint8Array, atB: number): number {
  for (let i = 0; i < RECORD_BYTES; i++) {
    const difference = (a[atA + i] ?? 0) - (b[atB + i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** Array sorting is fast on nearly sorted input, as it is when the archive is read in time order. */
function sorted(records: Buffer): Buffer {
  const order = Array.from({ length: records.length / RECORD_BYTES }, (_, i) => i * RECORD_BYTES);
  order.sort((a, b) => compareRecords(records, a, records, b));
  const result = Buffer.allocUnsafe(records.length);
  for (const [index, from] of order.entries()) {
    records.copy(result, index * RECORD_BYTES, from, from + RECORD_BYTES);
  }
  return result;
}

function withoutDuplicates(records: Buffer): Buffer {
  let kept = 0;
  for (let at = 0; at < records.length; at += RECORD_BYTES) {
    if (kept > 0 && compareRecords(records, kept - RECORD_BYTES, records, at) === 0) continue;
    if (kept !== at) records.copyWithin(kept, at, at + RECORD_BYTES);
    kept += RECORD_BYTES;
  }
  return records.subarray(0, kept);
}
