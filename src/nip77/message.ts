/** The wire format of Negentropy Protocol V1 (appendix of NIP-77). */
import { hash } from 'node:crypto';
import {
  compareRecords,
  ID_BYTES,
  type LocalSet,
  RECORD_BYTES,
  readTime,
  TIME_BYTES,
  writeSum,
  writeTime,
} from './local-set.ts';

/** Why a message of the relay cannot be used. */
export type NegentropyFault = 'garbage' | 'version' | 'unanswered' | 'too_many';

export class NegentropyError extends Error {
  override readonly name = 'NegentropyError';
  readonly fault: NegentropyFault;

  constructor(fault: NegentropyFault, message: string) {
    super(message);
    this.fault = fault;
  }
}

const VERSION = 0x61;
export const MODE = { skip: 0, fingerprint: 1, idList: 2 } as const;
export const FINGERPRINT_BYTES = 16;
export const MAX_VARINT_BYTES = 8;
/** Most ranges in a message: at 19 bytes each they take 1.2 MB, more than any valid message. */
export const MAX_RANGES = 65_536;

/** Bounds are records: a time and the first bytes of an id, the rest zeros. */
export type Bound = Buffer;

export const FIRST: Bound = Buffer.alloc(RECORD_BYTES);
/** Above every record, since the first bit of a time is never set. */
export const INFINITE: Bound = Buffer.alloc(RECORD_BYTES, 0xff);

export function compareBounds(a: Bound, b: Bound): number {
  return a === b ? 0 : compareRecords(a, 0, b, 0);
}

export function garbage(what: string): NegentropyError {
  return new NegentropyError('garbage', `not a Negentropy message: ${what}`);
}

/** Writes digits of base 128, the most significant first; all but the last have the high bit set. @returns the end position */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  let digits = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) digits += 1;
  for (let rest = value, i = digits - 1; i >= 0; i--) {
    bytes[at + i] = (rest % 128) + (i < digits - 1 ? 128 : 0);
    rest = Math.floor(rest / 128);
  }
  return at + digits;
}

/** The first 16 bytes of SHA-256 over the sum of ids and their number. */
export function fingerprint(words: readonly number[], count: number): Buffer {
  const input = Buffer.alloc(ID_BYTES + MAX_VARINT_BYTES);
  writeSum(words, input);
  const length = writeVarint(input, ID_BYTES, count);
  return hash('sha256', input.subarray(0, length), 'buffer').subarray(0, FINGERPRINT_BYTES);
}

export class MessageWriter {
  length = 1;
  readonly #bytes: Buffer;
  #lastTime = 0;

  constructor(capacity: number) {
    this.#bytes = Buffer.alloc(capacity);
    this.#bytes[0] = VERSION;
  }

  range(upper: Bound, mode: number): void {
    if (upper === INFINITE) {
      this.varint(0);
      this.varint(0);
    } else {
      const time = readTime(upper, 0);
      this.varint(time - this.#lastTime + 1);
      this.#lastTime = time;
      const prefix = upper.subarray(TIME_BYTES, lengthWithoutZeros(upper));
      this.varint(prefix.length);
      this.bytes(prefix);
    }
    this.varint(mode);
  }

  varint(value: number): void {
    this.length = writeVarint(this.#bytes, this.length, value);
  }

  bytes(bytes: Uint8Array): void {
    this.#bytes.set(bytes, this.length);
    this.length += bytes.length;
  }

  id(local: LocalSet, index: number): void {
    local.copyId(index, this.#bytes, this.length);
    this.length += ID_BYTES;
  }

  mark(): { length: number; time: number } {
    return { length: this.length, time: this.#lastTime };
  }

  rewind(mark: { length: number; time: number }): void {
    this.length = mark.length;
    this.#lastTime = mark.time;
  }

  hex(): string {
    return this.#bytes.toString('hex', 0, this.length);
  }
}

/** Trailing zeros of a bound are not sent. */
function lengthWithoutZeros(bound: Bound): number {
  let length = RECORD_BYTES;
  while (length > TIME_BYTES && bound[length - 1] === 0) length -= 1;
  return length;
}

export class MessageReader {
  readonly #bytes: Buffer;
  #position = 0;
  #lastTime = 0;
  #ranges = 0;

  constructor(payload: string) {
    this.#bytes = Buffer.from(payload, 'hex');
    if (payload === '' || this.#bytes.length * 2 !== payload.length) throw garbage('no hex');
    const version = this.#byte();
    if (version === VERSION) return;
    if (version < 0x60 || version > 0x6f) throw garbage(`it begins with ${version}`);
    throw new NegentropyError(
      'version',
      `the relay speaks version ${version - 0x60} of Negentropy, we speak 1`,
    );
  }

  get isAtEnd(): boolean {
    return this.#position >= this.#bytes.length;
  }

  get bytesLeft(): number {
    return this.#bytes.length - this.#position;
  }

  take(count: number): Buffer {
    const end = this.#position + count;
    if (end > this.#bytes.length) throw garbage('it ends too early');
    const taken = this.#bytes.subarray(this.#position, end);
    this.#position = end;
    return taken;
  }

  varint(): number {
    for (let value = 0; ; ) {
      const digit = this.#byte();
      value = value * 128 + (digit & 127);
      if (value > Number.MAX_SAFE_INTEGER) throw garbage('a number is too large');
      if (digit < 128) return value;
    }
  }

  /** The upper bound of the next range. Bounds must not decrease; the infinite one may occur twice, when a frame was full. */
  bound(previous: Bound): Bound {
    this.#ranges += 1;
    if (this.#ranges > MAX_RANGES) throw garbage(`more than ${MAX_RANGES} ranges`);
    const step = this.varint();
    const length = this.varint();
    if (length > ID_BYTES) throw garbage(`a bound has ${length} bytes of an id`);
    const prefix = this.take(length);
    if (step === 0) return INFINITE;
    this.#lastTime += step - 1;
    if (this.#lastTime > Number.MAX_SAFE_INTEGER) throw garbage('a number is too large');
    const bound = Buffer.alloc(RECORD_BYTES);
    writeTime(bound, 0, this.#lastTime);
    bound.set(prefix, TIME_BYTES);
    if (compareBounds(bound, previous) < 0) throw garbage('its bounds decrease');
    return bound;
  }

  #byte(): number {
    return this.take(1)[0] ?? 0;
  }
}
