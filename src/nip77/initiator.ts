/**
 * The initiator of Negentropy Protocol V1 (appendix of NIP-77): finds the ids that only the relay holds, and those that
 * only the local set holds. Pure: no I/O and no clock.
 *
 * The set, ordered by (created_at, id), is cut into ranges. States of a range:
 * - **open**: not reconciled. Open ranges are sent, as many as fit into a frame, each as fingerprints of sixteen parts, or
 *   as a list of ids when it has few.
 * - **differs**: the relay answered with another fingerprint. It is open again, and its parts are sent next.
 * - **settled**: the relay answered with an equal fingerprint, with a list of its ids, or with Skip to a fingerprint.
 *
 * When no range is open, the sets are reconciled. Guaranteed: a range is settled only by an answer to what was sent for it;
 * ids are recorded as needed, each in a run, before an error ends the exchange.
 *
 * Two differences from other initiators: ranges that did not fit into a frame are sent next, instead of restarting from
 * the beginning; and Skip as the answer to a list of ids is an error, because it leaves the relay's ids unknown.
 */
import { ID_BYTES, type LocalSet, RECORD_BYTES, readTime, TIME_BYTES } from './local-set.ts';
import {
  type Bound,
  compareBounds,
  FINGERPRINT_BYTES,
  FIRST,
  fingerprint,
  garbage,
  INFINITE,
  MAX_RANGES,
  MessageReader,
  MessageWriter,
  MODE,
  NegentropyError,
} from './message.ts';

/** More bytes than one range takes in a message: 16 bounds with fingerprints, or 31 ids. */
const LARGEST_RANGE = 2048;
/** Parts of a range; one with fewer than twice as many ids is sent as a list. */
const BUCKETS = 16;
const LIST_BELOW = 2 * BUCKETS;
/** A range from one bound up to another, and the positions of its ids in the local set. */
interface Range {
  readonly lower: Bound;
  readonly upper: Bound;
  readonly begin: number;
  readonly end: number;
}

export interface NegentropyLimits {
  /** Bytes of a message to the relay; its hex has twice as many characters. At least 2,048. */
  readonly frameSizeLimit: number;
  /** Most needed ids that are accepted. */
  readonly maxNeed: number;
}

/** Needed ids that the relay listed one after another, between two edges with known times. */
export interface NeededRun {
  readonly ids: readonly string[];
  readonly after: Edge;
  readonly before: Edge;
}

/** A record of the local set or the bound of a range: ids listed after it are not smaller, in (created_at, id). */
export interface Edge {
  readonly createdAt: number;
  /** In hex; that of a bound is padded with zeros. */
  readonly id: string;
}

/** What a range in an answer means. */
type RangeAnswer = 'skipped' | 'settled' | 'differs';

export class NegentropyInitiator {
  /** Ids, in hex, that the relay listed and the local set lacks. */
  readonly need = new Set<string>();
  /** The same ids in the order of the relay's lists. */
  readonly runs: NeededRun[] = [];
  /** Positions in the local set of the ids that the relay does not hold. */
  readonly have = new Set<number>();
  readonly #local: LocalSet;
  readonly #limits: NegentropyLimits;
  #open: Range[];
  /** How many of the open ranges, from the first on, were in the last message. */
  #sent = 0;
  /** Index of the open range that the answer has reached. */
  #at = 0;

  constructor(local: LocalSet, limits: NegentropyLimits) {
    this.#local = local;
    this.#limits = limits;
    this.#open = [{ lower: FIRST, upper: INFINITE, begin: 0, end: local.size }];
  }

  /** The first message, in hex. */
  open(): string {
    return this.#compose();
  }

  /**
   * Accepts the relay's answer to the last message.
   *
   * @returns the next message in hex, or null when the sets are reconciled
   * @throws NegentropyError `garbage` when it is not Negentropy, `version` when it is another version, `unanswered` when
   * the relay skips a range that it must list, `too_many` when it lists more than `maxNeed` needed ids
   */
  accept(payload: string): string | null {
    const answer = new MessageReader(payload);
    const open: Range[] = [];
    this.#at = 0;
    let lower = FIRST;
    let begin = 0;
    while (!answer.isAtEnd) {
      const upper = answer.bound(lower);
      const end = this.#local.indexOf(upper, begin);
      const range = { lower, upper, begin, end };
      const meaning = this.#read(answer, range);
      this.#settle(range, meaning, open);
      lower = upper;
      begin = end;
    }
    this.#settle({ lower, upper: INFINITE, begin, end: this.#local.size }, 'skipped', open);
    this.#open = open;
    return open.length > 0 ? this.#compose() : null;
  }

  #read(answer: MessageReader, range: Range): RangeAnswer {
    const { begin, end } = range;
    const mode = answer.varint();
    if (mode === MODE.skip) return 'skipped';
    if (mode === MODE.fingerprint) {
      return answer.take(FINGERPRINT_BYTES).equals(this.#fingerprint(begin, end))
        ? 'settled'
        : 'differs';
    }
    if (mode !== MODE.idList) throw garbage(`there is no mode ${mode}`);
    this.#compare(answer, range);
    return 'settled';
  }

  /** Reads a list of the relay's ids and compares it with the local set. If there are too many, the first are accepted. */
  #compare(answer: MessageReader, { lower, upper, begin, end }: Range): void {
    const ours = new Map<string, number>();
    for (let index = begin; index < end; index++) ours.set(this.#local.id(index), index);
    const listed = new Set<number>();
    let after = edgeOf(lower);
    let ids: string[] = [];
    const endRun = (before: Edge) => {
      if (ids.length > 0) this.runs.push({ ids, after, before });
      ids = [];
      after = before;
    };
    const count = answer.varint();
    const most = this.#limits.maxNeed + end - begin;
    if (count > most && count * ID_BYTES > answer.bytesLeft) throw this.#tooMany();
    try {
      for (let left = count; left > 0; left--) {
        const id = answer.take(ID_BYTES).toString('hex');
        const index = ours.get(id);
        if (index !== undefined) {
          listed.add(index);
          if (!this.#local.unplaced.has(index)) endRun(this.#edgeAt(index));
        } else if (!this.need.has(id)) {
          if (this.need.size >= this.#limits.maxNeed) throw this.#tooMany();
          this.need.add(id);
          ids.push(id);
        }
      }
    } finally {
      endRun(edgeOf(upper)); // also when the list ends too early: each needed id is in a run
    }
    for (const index of ours.values()) if (!listed.has(index)) this.have.add(index);
  }

  #edgeAt(index: number): Edge {
    return { createdAt: this.#local.createdAt(index), id: this.#local.id(index) };
  }

  #tooMany(): NegentropyError {
    return new NegentropyError(
      'too_many',
      `the relay lists more than ${this.#limits.maxNeed} ids that we lack`,
    );
  }

  /** Adds to `stillOpen` what the answer leaves open of the open ranges up to its upper bound. */
  #settle(answered: Range, meaning: RangeAnswer, stillOpen: Range[]): void {
    for (let open = this.#open[this.#at]; open; open = this.#open[this.#at]) {
      const common = overlap(open, answered);
      const wasSent = this.#at < this.#sent;
      if (common && (meaning === 'differs' || (meaning === 'skipped' && !wasSent)))
        stillOpen.push(common);
      else if (common && meaning === 'skipped' && isList(open)) throw unanswered();
      if (stillOpen.length > MAX_RANGES) throw garbage(`more than ${MAX_RANGES} ranges`);
      if (compareBounds(open.upper, answered.upper) > 0) return;
      this.#at += 1;
    }
  }

  /** Writes the open ranges into a message, as many as fit, and at least one. */
  #compose(): string {
    const message = new MessageWriter(this.#limits.frameSizeLimit + LARGEST_RANGE);
    let sent = 0;
    let last = FIRST;
    for (const range of this.#open) {
      const start = message.mark();
      if (compareBounds(last, range.lower) < 0) message.range(range.lower, MODE.skip);
      this.#write(message, range);
      if (message.length > this.#limits.frameSizeLimit && sent > 0) {
        message.rewind(start);
        break;
      }
      last = range.upper;
      sent += 1;
    }
    this.#sent = sent;
    return message.hex();
  }

  #write(message: MessageWriter, range: Range): void {
    const { upper, begin, end } = range;
    if (isList(range)) {
      message.range(upper, MODE.idList);
      message.varint(end - begin);
      for (let index = begin; index < end; index++) message.id(this.#local, index);
      return;
    }
    let from = begin;
    for (const to of [...this.#cuts(begin, end), end]) {
      message.range(to === end ? upper : this.#boundBefore(to), MODE.fingerprint);
      message.bytes(this.#fingerprint(from, to));
      from = to;
    }
  }

  /** Positions at which a range is cut: evenly, but not next to ids with unknown times, unless there is no other place. */
  #cuts(begin: number, end: number): number[] {
    const even = Array.from(
      { length: BUCKETS - 1 },
      (_, bucket) => begin + Math.floor(((bucket + 1) * (end - begin)) / BUCKETS),
    );
    const near = even.map((position) => this.#local.cutNear(position, begin, end));
    const cuts = new Set(near.filter((position) => position !== null));
    return cuts.size > 0 ? [...cuts].sort((a, b) => a - b) : even;
  }

  /** The shortest bound between a record and the one before it. */
  #boundBefore(index: number): Bound {
    const record = this.#local.record(index);
    const before = this.#local.record(index - 1);
    let length = 0;
    while (record[length] === before[length]) length += 1;
    const bound = Buffer.alloc(RECORD_BYTES);
    bound.set(record.subarray(0, Math.max(length + 1, TIME_BYTES)));
    return bound;
  }

  #fingerprint(begin: number, end: number): Buffer {
    return fingerprint(this.#local.sumWords(begin, end), end - begin);
  }
}

function edgeOf(bound: Bound): Edge {
  return {
    createdAt: bound === INFINITE ? Number.MAX_SAFE_INTEGER : readTime(bound, 0),
    id: bound.toString('hex', TIME_BYTES),
  };
}

/** Whether a range is sent as a list of ids. */
function isList({ begin, end }: Range): boolean {
  return end - begin < LIST_BELOW;
}

/** The common part of two ranges; null when there is none. */
function overlap(a: Range, b: Range): Range | null {
  const lower = compareBounds(a.lower, b.lower) < 0 ? b.lower : a.lower;
  const upper = compareBounds(a.upper, b.upper) < 0 ? a.upper : b.upper;
  if (compareBounds(lower, upper) >= 0) return null;
  return { lower, upper, begin: Math.max(a.begin, b.begin), end: Math.min(a.end, b.end) };
}

function unanswered(): NegentropyError {
  return new NegentropyError(
    'unanswered',
    'the relay answers a list of ids with Skip, so what it holds there stays unknown',
  );
}
