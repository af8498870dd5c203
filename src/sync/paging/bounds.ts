import type { PageRequest, PageTally } from './tally.ts';
import type { Task } from './task.ts';

/** How a relay applies a bound of a filter. NIP-01 says inclusive; not every relay complies. */
type Bound = 'unknown' | 'inclusive' | 'exclusive';

/** `limit` of a request that only has to show one event below the window. */
const PROBE_LIMIT = 20;

/**
 * How one relay applies `since` and `until`, as seen in its pages of one visit, and requests that are complete in either
 * case. Only an event at exactly the bound of a request shows that the bound is inclusive. Until then a request is wider
 * by one second, unless an event is known at the bound that will show it.
 */
export class PageBounds {
  since: Bound = 'unknown';
  until: Bound = 'unknown';

  /** Learns from a page, however it ended. */
  note(page: PageTally): void {
    if (page.atUntil > 0) this.until = 'inclusive';
    if (page.atSince > 0) this.since = 'inclusive';
  }

  /** Learns from a page that was requested a second wider, after the plain request did not show a known event. */
  noteDoubtful(page: PageTally, { wanted }: PageRequest, { misses, anchor }: Task): void {
    if (!wanted) return;
    if (misses > 0 && page.newest === wanted.until && page.atUntil === 0) this.until = 'exclusive';
    const wasMissed = misses > 0 || anchor !== null;
    if (wasMissed && page.oldest === wanted.since && page.atSince === 0) this.since = 'exclusive';
  }

  /** Whether both are known. */
  get areKnown(): boolean {
    return this.since !== 'unknown' && this.until !== 'unknown';
  }

  /** The request that shows the whole window of a task. */
  request(task: Task, limit: number): PageRequest {
    const wanted =
      task.alone && task.known !== null
        ? { since: task.known, until: task.known }
        : { since: task.anchor ?? task.since, until: task.until };
    const isHintBelow = task.anchor !== null || task.known === wanted.since;
    const widerBelow = this.#isWider(this.since, task.doubt, isHintBelow) && wanted.since > 0;
    const isHintAbove = task.known === wanted.until || task.isPlain;
    const widerAbove = this.#isWider(this.until, task.doubt, isHintAbove);
    return {
      since: wanted.since - (widerBelow ? 1 : 0),
      until: wanted.until + (widerAbove ? 1 : 0),
      limit: task.isProbe ? Math.min(PROBE_LIMIT, limit) : limit,
      wanted,
      ...(task.isProbe && { isProbe: true }),
    };
  }

  #isWider(bound: Bound, doubt: boolean, isHintThere: boolean): boolean {
    return bound === 'exclusive' || doubt || (bound === 'unknown' && !isHintThere);
  }
}
