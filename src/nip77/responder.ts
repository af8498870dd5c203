/**
 * The responder of Negentropy Protocol V1 (appendix of NIP-77): answers the messages of an initiator from a set. It keeps
 * nothing between messages, so that the set may change meanwhile: each answer is that of its moment.
 *
 * Each range of a message is answered:
 * - **Skip**, or a fingerprint that is ours too: nothing, which means Skip.
 * - another fingerprint: with ours of sixteen parts, or with our ids where they are few.
 * - a list of ids: with our ids.
 *
 * Guaranteed: an answer is not longer than its limit; what does not fit is answered by one fingerprint of all the rest,
 * which the initiator compares and asks for again. Each answer goes further than the one before.
 */
import { hash } from 'node:crypto';
import { ID_BYTES } from './local-set.ts';
import {
  type Bound,
  compareBounds,
  FINGERPRINT_BYTES,
  FIRST,
  garbage,
  INFINITE,
  MAX_VARINT_BYTES,
  MessageReader,
  MessageWriter,
  MODE,
  NegentropyError,
  writeVarint,
} from './message.ts';
import type { Place, SegmentedSet } from './segmented-set.ts';

/** Parts of a range; one with fewer than twice as many ids is sent as a list. */
const BUCKETS = 16;
const LIST_BELOW = 2 * BUCKETS;
/** More bytes than the fingerprint of the rest takes, and the parts of one range, without its ids. */
const RESERVE = 1200;
/** The answer to a version that we do not speak: the highest that we do. */
const OUR_VERSION = '61';

/** How a range is answered: not at all, with fingerprints of its parts, or with our ids. */
type Wanted = 'nothing' | 'parts' | 'ids';

/** A range of a message, by its places in the set and its upper bound. */
interface Range {
  readonly from: Place;
  readonly to: Place;
  readonly upper: Bound;
}

export class NegentropyResponder {
  readonly #set: SegmentedSet;
  readonly #frameSizeLimit: number;

  /** @param frameSizeLimit bytes of an answer, at least 4,096; its hex has twice as many characters */
  constructor(set: SegmentedSet, frameSizeLimit: number) {
    this.#set = set;
    this.#frameSizeLimit = frameSizeLimit;
  }

  /**
   * Answers a message of the initiator, both in hex.
   *
   * @throws NegentropyError when it is not one, and what loading ids throws
   */
  async answer(payload: string): Promise<string> {
    const query = readerOf(payload);
    if (query === null) return OUR_VERSION;
    const answer = new MessageWriter(this.#frameSizeLimit + RESERVE);
    let [lower, from]: [Bound, Place] = [FIRST, this.#set.first];
    /** Up to where the answer has ranges. */
    let answered: Bound = FIRST;
    while (!query.isAtEnd) {
      const upper = query.bound(lower);
      const to = await this.#set.placeOf(upper);
      const wanted = await this.#wantedBy(query, from, to);
      if (wanted !== 'nothing') {
        if (compareBounds(answered, lower) < 0) answer.range(lower, MODE.skip);
        const isFull = answer.length + RESERVE > this.#frameSizeLimit;
        if (isFull) return this.#endEarly(answer, from);
        const rest = await this.#write(answer, wanted, { from, to, upper });
        if (rest) return this.#endEarly(answer, rest);
        answered = upper;
      }
      [lower, from] = [upper, to];
    }
    return answer.hex();
  }

  /** Reads a range of the query. @returns how it is to be answered */
  async #wantedBy(query: MessageReader, from: Place, to: Place): Promise<Wanted> {
    const mode = query.varint();
    if (mode === MODE.skip) return 'nothing';
    if (mode === MODE.fingerprint) {
      const theirs = query.take(FINGERPRINT_BYTES);
      if (theirs.equals(await this.#fingerprint(from, to))) return 'nothing';
      return this.#set.count(from, to) < LIST_BELOW ? 'ids' : 'parts';
    }
    if (mode !== MODE.idList) throw garbage(`there is no mode ${mode}`);
    const count = query.varint();
    if (count * ID_BYTES > query.bytesLeft) throw garbage('it ends too early');
    query.take(count * ID_BYTES); // which of them we lack is the initiator's to know
    return 'ids';
  }

  /** Answers a range. @returns where its rest begins, where it did not fit */
  async #write(
    answer: MessageWriter,
    wanted: Wanted,
    { from, to, upper }: Range,
  ): Promise<Place | null> {
    if (wanted === 'ids') return this.#writeIds(answer, { from, to, upper });
    let lower = from;
    for (const cut of [...this.#set.cuts(from, to, BUCKETS), to]) {
      const fingerprint = await this.#fingerprint(lower, cut);
      answer.range(cut === to ? upper : await this.#set.boundAt(cut), MODE.fingerprint);
      answer.bytes(fingerprint);
      lower = cut;
    }
    return null;
  }

  async #writeIds(answer: MessageWriter, { from, to, upper }: Range): Promise<Place | null> {
    const room = Math.floor((this.#frameSizeLimit - RESERVE / 2 - answer.length) / ID_BYTES);
    const ids: Buffer[] = [];
    let end: Place | null = null;
    for await (const [records, begin, last, segment] of this.#set.records(from, to)) {
      const fitting = Math.min(last, begin + room - ids.length);
      for (let index = begin; index < fitting; index++) {
        const id = Buffer.allocUnsafe(ID_BYTES);
        records.copyId(index, id, 0);
        ids.push(id);
      }
      if (fitting === last) continue;
      end = { segment, index: fitting };
      break;
    }
    answer.range(end ? await this.#set.boundAt(end) : upper, MODE.idList);
    answer.varint(ids.length);
    for (const id of ids) answer.bytes(id);
    return end;
  }

  /** Ends an answer with the fingerprint of everything from a place on. */
  async #endEarly(answer: MessageWriter, from: Place): Promise<string> {
    const fingerprint = await this.#fingerprint(from, this.#set.last);
    answer.range(INFINITE, MODE.fingerprint);
    answer.bytes(fingerprint);
    return answer.hex();
  }

  /** The first 16 bytes of SHA-256 over the sum of the ids and their number. */
  async #fingerprint(from: Place, to: Place): Promise<Buffer> {
    const sum = await this.#set.sum(from, to);
    const input = Buffer.alloc(ID_BYTES + MAX_VARINT_BYTES);
    Buffer.from(sum.toString(16).padStart(2 * ID_BYTES, '0'), 'hex')
      .reverse()
      .copy(input);
    const length = writeVarint(input, ID_BYTES, this.#set.count(from, to));
    return hash('sha256', input.subarray(0, length), 'buffer').subarray(0, FINGERPRINT_BYTES);
  }
}

/** @returns null for another version */
function readerOf(payload: string): MessageReader | null {
  try {
    return new MessageReader(payload);
  } catch (error) {
    if (error instanceof NegentropyError && error.fault === 'version') return null;
    throw error;
  }
}
