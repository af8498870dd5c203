import type { PageRequest, PageTally } from './page-tally.ts';
import type { Task } from './page-task.ts';

/** How a relay takes a bound of a filter. NIP-01 says inclusive, and not every relay does so. */
type Bound = 'unknown' | 'inclusive' | 'exclusive';

/** Events asked for where the page only has to show one that lies below the window. */
const PROBE_LIMIT = 20;

/**
 * How one relay takes `since` and `until`, as its pages have shown it in one visit, and the requests that leave
 * nothing out either way. Only an event at exactly the bound of a request shows that the bound is inclusive. Until
 * then a request is wider by one second, unless an event is known at the bound that will show it.
 */
export class PageBounds {
  since: Bound = 'unknown';
  until: Bound = 'unknown';

  /** Learns from a page, however it ended. */
  note(page: PageTally): void {
    if (page.atUntil > 0) this.until = 'inclusive';
    if (page.atSince > 0) this.since = 'inclusive';
  }

  /** Learns from a page that was asked for in doubt, after one without the doubt did not show what is known. */
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

  /** The request that shows all of a task's window. */
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
