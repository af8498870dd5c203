import { TOOK_TOO_LONG } from '../../database/connection.ts';
import { codeOf } from '../../database/error.ts';

/** Longest time to find events by the index of tags, in milliseconds, before they are looked for along time. */
const INDEX_MS = 1000;
/** For how long a tag counts as frequent, in milliseconds. */
const KEPT_MS = 3_600_000;
const MAX_KEPT = 1000;

/** SQL: events are found along time, and compared with the tag: its index gives all of them at once, which is too many. */
export const ALONG_TIME = 'set local enable_bitmapscan = off';

/**
 * Tags that stand in so many events that their index is of no use: it has no order, so that all events of a tag are read
 * to find the newest. The planner takes the index of time for tags that stand in a percent of the events or more; those
 * below, in a large archive, are found by trying.
 */
export class FrequentTags {
  readonly #until = new Map<string, number>();
  readonly #now: () => number;

  /** @param now milliseconds that never run backwards */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  /**
   * Reads by the index of tags, or where that takes too long, and the next time, along time.
   *
   * @param tag what names the tag
   * @param ms longest time, in milliseconds
   * @throws what `read` throws
   */
  async read<T>(
    tag: string,
    ms: number,
    read: (ms: number, isAlongTime: boolean) => Promise<T>,
  ): Promise<T> {
    if ((this.#until.get(tag) ?? 0) < this.#now()) {
      try {
        return await read(Math.min(ms, INDEX_MS), false);
      } catch (error) {
        if (codeOf(error) !== TOOK_TOO_LONG || ms <= INDEX_MS) throw error;
        this.#note(tag);
      }
    }
    return read(ms, true);
  }

  #note(tag: string): void {
    const [oldest] = this.#until.keys();
    if (this.#until.size >= MAX_KEPT && oldest !== undefined) this.#until.delete(oldest);
    this.#until.delete(tag);
    this.#until.set(tag, this.#now() + KEPT_MS);
  }
}
