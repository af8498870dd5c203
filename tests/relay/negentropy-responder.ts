import { createHash } from 'node:crypto';

/** What is reconciled of an event. */
export interface SetItem {
  readonly createdAt: number;
  /** Lower-case hex. */
  readonly id: string;
}

const VERSION = 0x61;
const SKIP = 0;
const FINGERPRINT = 1;
const ID_LIST = 2;
const BUCKETS = 16;
/** Room kept for the range that stands for everything not answered. */
const RESERVE = 200;
const MODULUS = 1n << 256n;

/** Items before it have a smaller time, or the same time and a smaller id. */
interface Bound {
  readonly createdAt: number;
  /** The first bytes of an id in hex; what is left out counts as zeros. */
  readonly prefix: string;
}

const INFINITE: Bound = { createdAt: Number.POSITIVE_INFINITY, prefix: '' };

/**
 * The relay's side of Negentropy Protocol V1 (appendix of NIP-77), for tests: plain strings and big integers,
 * sharing nothing with the side under test.
 */
export class NegentropyResponder {
  readonly #items: readonly SetItem[];
  /** At `i` the sum of the first `i` ids. */
  readonly #sums: readonly bigint[];
  readonly #frameSizeLimit: number;

  /** @param frameSizeLimit bytes of an answer, about; its hex has twice as many characters. */
  constructor(items: Iterable<SetItem>, frameSizeLimit = 500_000) {
    this.#items = [...items].sort(oldestFirst);
    this.#frameSizeLimit = frameSizeLimit;
    let sum = 0n;
    this.#sums = [0n, ...this.#items.map(({ id }) => (sum += littleEndian(id)))];
  }

  /**
   * Answers a message of the initiator, both in hex.
   *
   * @throws Error when it is not one.
   */
  answer(payload: string): string {
    const query = new Reader(Buffer.from(payload, 'hex'));
    const answer = new Writer();
    if (query.byte() !== VERSION) return answer.hex();
    let begin = 0;
    let skipped: Bound | null = null;
    let previous: Bound = { createdAt: 0, prefix: '' };
    while (!query.isAtEnd) {
      const bound = query.bound();
      const mode = query.varint();
      const end = this.#indexOf(bound, begin);
      const matches = mode === SKIP || (mode === FINGERPRINT && this.#matches(query, begin, end));
      if (matches) skipped = bound;
      else {
        if (skipped) answer.range(previous, SKIP);
        skipped = null;
        const done =
          mode === FINGERPRINT
            ? this.#split(answer, begin, end, bound)
            : this.#list(answer, query, begin, end, bound);
        if (done < end || answer.bytes > this.#frameSizeLimit - RESERVE) {
          answer.range(INFINITE, FINGERPRINT, this.#fingerprint(done, this.#items.length));
          break;
        }
      }
      begin = end;
      previous = bound;
    }
    return answer.hex();
  }

  #matches(query: Reader, begin: number, end: number): boolean {
    return query.take(16).equals(this.#fingerprint(begin, end));
  }

  /** Answers a fingerprint that differs. @returns up to where. */
  #split(answer: Writer, begin: number, end: number, bound: Bound): number {
    const count = end - begin;
    if (count < 2 * BUCKETS) {
      answer.idList(bound, this.#items.slice(begin, end));
      return end;
    }
    for (let bucket = 0, from = begin; bucket < BUCKETS; bucket++) {
      const to = begin + Math.ceil(((bucket + 1) * count) / BUCKETS);
      answer.range(
        to === end ? bound : this.#boundBefore(to),
        FINGERPRINT,
        this.#fingerprint(from, to),
      );
      from = to;
    }
    return end;
  }

  /** Answers a list of ids with ours, as many as fit. @returns up to where. */
  #list(answer: Writer, query: Reader, begin: number, end: number, bound: Bound): number {
    query.take(32 * query.varint()); // which of them we lack is the initiator's business
    const room = this.#frameSizeLimit - RESERVE - answer.bytes;
    const done = Math.min(end, begin + Math.max(0, Math.ceil(room / 32)));
    const next = this.#items[done];
    const limit = done === end || !next ? bound : { createdAt: next.createdAt, prefix: next.id };
    answer.idList(limit, this.#items.slice(begin, done));
    return done;
  }

  #fingerprint(begin: number, end: number): Buffer {
    const sum = ((this.#sums[end] ?? 0n) - (this.#sums[begin] ?? 0n)) % MODULUS;
    const bytes = Buffer.from(sum.toString(16).padStart(64, '0'), 'hex').reverse();
    return createHash('sha256')
      .update(bytes)
      .update(varint(end - begin))
      .digest()
      .subarray(0, 16);
  }

  /** The shortest bound between an item and the one before it. */
  #boundBefore(index: number): Bound {
    const item = this.#items[index] as SetItem;
    const before = this.#items[index - 1] as SetItem;
    if (item.createdAt !== before.createdAt) return { createdAt: item.createdAt, prefix: '' };
    let length = 2;
    while (item.id.slice(0, length) === before.id.slice(0, length)) length += 2;
    return { createdAt: item.createdAt, prefix: item.id.slice(0, length) };
  }

  /** Where the first item at or above the bound stands. */
  #indexOf(bound: Bound, from: number): number {
    let low = from;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { createdAt, id } = this.#items[middle] as SetItem;
      const isBelow =
        createdAt < bound.createdAt || (createdAt === bound.createdAt && id < bound.prefix);
      if (isBelow) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function oldestFirst(a: SetItem, b: SetItem): number {
  return a.createdAt - b.createdAt || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

function littleEndian(id: string): bigint {
  return BigInt(`0x${Buffer.from(id, 'hex').reverse().toString('hex')}`);
}

/** Digits of base 128, the most significant first; all but the last carry the high bit. */
function varint(value: number): Uint8Array {
  const digits = [value % 128];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128))
    digits.unshift((rest % 128) + 128);
  return Uint8Array.from(digits);
}

class Reader {
  readonly #bytes: Buffer;
  #position = 0;
  #lastTime = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#position >= this.#bytes.length;
  }

  byte(): number {
    return this.take(1).readUInt8();
  }

  take(count: number): Buffer {
    const taken = this.#bytes.subarray(this.#position, this.#position + count);
    if (taken.length < count) throw new Error('the message ends too early');
    this.#position += count;
    return taken;
  }

  varint(): number {
    for (let value = 0; ; ) {
      const digit = this.byte();
      value = value * 128 + (digit & 127);
      if (digit < 128) return value;
    }
  }

  bound(): Bound {
    const step = this.varint();
    this.#lastTime = step === 0 ? Number.POSITIVE_INFINITY : this.#lastTime + step - 1;
    return { createdAt: this.#lastTime, prefix: this.take(this.varint()).toString('hex') };
  }
}

class Writer {
  bytes = 1;
  readonly #parts: Uint8Array[] = [Buffer.from([VERSION])];
  #lastTime = 0;

  range({ createdAt, prefix }: Bound, mode: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const step = createdAt === Number.POSITIVE_INFINITY ? 0 : createdAt - this.#lastTime + 1;
    this.#lastTime = createdAt;
    this.#add(
      varint(step),
      varint(prefix.length / 2),
      Buffer.from(prefix, 'hex'),
      varint(mode),
      payload,
    );
  }

  idList(bound: Bound, items: readonly SetItem[]): void {
    const ids = Buffer.from(items.map(({ id }) => id).join(''), 'hex');
    this.range(bound, ID_LIST, Buffer.concat([varint(items.length), ids]));
  }

  hex(): string {
    return Buffer.concat(this.#parts).toString('hex');
  }

  #add(...parts: Uint8Array[]): void {
    this.#parts.push(...parts);
    for (const part of parts) this.bytes += part.length;
  }
}
