/**
 * The initiator's side of Negentropy Protocol V1 (appendix of NIP-77): finds the ids that a relay holds and we do
 * not, and those that we hold and it does not. Pure: no I/O and no clock.
 *
 * The time line, ordered by (created_at, id), is cut into stretches. A stretch is open until the relay has answered
 * it with a fingerprint equal to ours, with the list of its ids, or with Skip where we had sent a fingerprint. We ask
 * for open stretches, as many as fit into a frame, each with its fingerprint, or with our ids where they are few;
 * what differs is cut smaller. When nothing is open, the sets are reconciled.
 *
 * Two differences to the initiators that are about: what did not fit into a frame is asked next instead of once
 * more from the beginning, and a list of ids that is answered by Skip is not taken for an answer.
 */
import { hash } from 'node:crypto';
import { ID_BYTES, type LocalSet, RECORD_BYTES, readTime, TIME_BYTES } from './local-set.ts';
import {
  type Bound,
  compareBounds,
  FINGERPRINT_BYTES,
  FIRST,
  garbage,
  INFINITE,
  MAX_RANGES,
  MAX_VARINT_BYTES,
  MessageReader,
  MessageWriter,
  MODE,
  NegentropyError,
  writeVarint,
} from './negentropy-message.ts';

/** More bytes than asking for one stretch takes: 16 bounds with fingerprints, or 31 ids. */
const LARGEST_QUESTION = 2048;
/** A stretch that differs is cut into so many; one with less than twice as many ids is sent as a list. */
const BUCKETS = 16;
const LIST_BELOW = 2 * BUCKETS;
/** A stretch from one bound up to another, and where its ids stand in our set. */
interface Stretch {
  readonly lower: Bound;
  readonly upper: Bound;
  readonly begin: number;
  readonly end: number;
}

export interface NegentropyLimits {
  /** Bytes of a message of ours; its hex has twice as many characters. The smallest of use is 2,048. */
  readonly frameSizeLimit: number;
  /** More ids than that are not taken. */
  readonly maxNeed: number;
}

/** Ids that were listed one after the other, all of them needed, between two edges of which the times are known. */
export interface NeededRun {
  readonly ids: readonly string[];
  readonly after: Edge;
  readonly before: Edge;
}

/** A record that we hold, or the bound of a range: what is listed after it is not smaller, in (created_at, id). */
export interface Edge {
  readonly createdAt: number;
  /** In hex; of a bound as much as it has, and zeros. */
  readonly id: string;
}

/** What a range of an answer says: nothing, that it is settled, or that the sets differ there. */
type Verdict = 'skipped' | 'settled' | 'differs';

export class NegentropyInitiator {
  /** Ids, in hex, that the relay holds and we do not, as far as it has told. */
  readonly need = new Set<string>();
  /** The same ids in the order in which they were listed. */
  readonly runs: NeededRun[] = [];
  /** Positions in our set of the ids that the relay does not hold. */
  readonly have = new Set<number>();
  readonly #local: LocalSet;
  readonly #limits: NegentropyLimits;
  #open: Stretch[];
  /** So many of the open stretches, the first ones, were in our last message. */
  #asked = 0;
  /** The open stretch that the answer has come to. */
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
   * Takes the relay's answer to our last message.
   *
   * @returns the next message in hex, or null when the sets are reconciled.
   * @throws NegentropyError `garbage` when it is not Negentropy, `version` when it is another version of it,
   * `unanswered` when the relay skips what it was to list, `too_many` when it lists more than `maxNeed` ids.
   */
  accept(payload: string): string | null {
    const answer = new MessageReader(payload);
    const left: Stretch[] = [];
    this.#at = 0;
    let lower = FIRST;
    let begin = 0;
    while (!answer.isAtEnd) {
      const upper = answer.bound(lower);
      const end = this.#local.indexOf(upper, begin);
      const stretch = { lower, upper, begin, end };
      const verdict = this.#judge(answer, stretch);
      this.#settle(stretch, verdict, left);
      lower = upper;
      begin = end;
    }
    this.#settle({ lower, upper: INFINITE, begin, end: this.#local.size }, 'skipped', left);
    this.#open = left;
    return left.length > 0 ? this.#compose() : null;
  }

  #judge(answer: MessageReader, stretch: Stretch): Verdict {
    const { begin, end } = stretch;
    const mode = answer.varint();
    if (mode === MODE.skip) return 'skipped';
    if (mode === MODE.fingerprint) {
      return answer.take(FINGERPRINT_BYTES).equals(this.#fingerprint(begin, end))
        ? 'settled'
        : 'differs';
    }
    if (mode !== MODE.idList) throw garbage(`there is no mode ${mode}`);
    this.#compare(answer, stretch);
    return 'settled';
  }

  /** Reads a list of the relay's ids and compares it with ours. Of one that names too many, the first are taken. */
  #compare(answer: MessageReader, { lower, upper, begin, end }: Stretch): void {
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
    for (let left = count; left > 0; left--) {
      const id = answer.take(ID_BYTES).toString('hex');
      const index = ours.get(id);
      if (index !== undefined) {
        listed.add(index);
        if (!this.#local.unplaced.has(index)) endRun(this.#edgeAt(index));
      } else if (!this.need.has(id)) {
        if (this.need.size >= this.#limits.maxNeed) {
          endRun(edgeOf(upper));
          throw this.#tooMany();
        }
        this.need.add(id);
        ids.push(id);
      }
    }
    endRun(edgeOf(upper));
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

  /** Closes what the answer has settled of the open stretches, and keeps the rest of them. */
  #settle(answered: Stretch, verdict: Verdict, left: Stretch[]): void {
    for (let open = this.#open[this.#at]; open; open = this.#open[this.#at]) {
      const piece = overlap(open, answered);
      const isAsked = this.#at < this.#asked;
      if (piece && (verdict === 'differs' || (verdict === 'skipped' && !isAsked))) left.push(piece);
      else if (piece && verdict === 'skipped' && isList(open)) throw unanswered();
      if (left.length > MAX_RANGES) throw garbage(`more than ${MAX_RANGES} ranges`);
      if (compareBounds(open.upper, answered.upper) > 0) return;
      this.#at += 1;
    }
  }

  /** Asks for the open stretches, as many as fit, and at least for one. */
  #compose(): string {
    const message = new MessageWriter(this.#limits.frameSizeLimit + LARGEST_QUESTION);
    let asked = 0;
    let last = FIRST;
    for (const stretch of this.#open) {
      const start = message.mark();
      if (compareBounds(last, stretch.lower) < 0) message.range(stretch.lower, MODE.skip);
      this.#ask(message, stretch);
      if (message.length > this.#limits.frameSizeLimit && asked > 0) {
        message.rewind(start);
        break;
      }
      last = stretch.upper;
      asked += 1;
    }
    this.#asked = asked;
    return message.hex();
  }

  #ask(message: MessageWriter, stretch: Stretch): void {
    const { upper, begin, end } = stretch;
    if (isList(stretch)) {
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

  /** Where a stretch is cut: evenly, but away from ids whose times are not known, unless there is no such place. */
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

  /** The first 16 bytes of SHA-256 over the sum of the ids and their number. */
  #fingerprint(begin: number, end: number): Buffer {
    const input = Buffer.alloc(ID_BYTES + MAX_VARINT_BYTES);
    this.#local.sum(begin, end, input);
    const length = writeVarint(input, ID_BYTES, end - begin);
    return hash('sha256', input.subarray(0, length), 'buffer').subarray(0, FINGERPRINT_BYTES);
  }
}

function edgeOf(bound: Bound): Edge {
  return {
    createdAt: bound === INFINITE ? Number.MAX_SAFE_INTEGER : readTime(bound, 0),
    id: bound.toString('hex', TIME_BYTES),
  };
}

function isList({ begin, end }: Stretch): boolean {
  return end - begin < LIST_BELOW;
}

/** What two stretches share; null when that is nothing. */
function overlap(a: Stretch, b: Stretch): Stretch | null {
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
