/**
 * Reading a stretch of a relay's history page by page, and saying what each page proves (DESIGN section 5).
 * Pure: no I/O and no clock. The caller asks `next()`, sends that REQ, tallies what comes back and gives it to
 * `accept()`, which answers with the windows that are now proven complete and the seconds that cannot be.
 *
 * How it reads. A task is a window still to be proven; the newest is read first.
 * - A page that arrived newest-first proves everything above its oldest second. The next page begins at that
 *   second, inclusive, so nothing between two pages is lost; a page that gets past a second proves that second.
 * - The bottom is reached when a page shows nothing but its own top second. That page holds an event we know
 *   the relay has, so it cannot be mistaken for a relay that answers nothing; it is asked for a second time.
 * - A gap above covered time is read from the anchor, the newest second below it where this relay showed an
 *   event before: one page that shows the anchor proves the gap, however little is new.
 * - A page out of order proves nothing; its window is halved until the counts stay well under the largest page.
 * - A second that fills a page is reported as dense: only NIP-77 can prove it.
 */
import type { Window } from '../nostr/filter.ts';
import type { PageEnd } from './subscription.ts';

/** A window to prove. `anchor` is a second below it at which the relay is known to hold an event. */
export interface Gap extends Window {
  readonly anchor: number | null;
}

export interface PageRequest extends Window {
  readonly limit: number;
}

/** Why a second stays unproven: `dense` holds as many events as a page may, `overflow` more than we take. */
export type HoleReason = 'dense' | 'overflow';

export interface Hole extends Window {
  readonly reason: HoleReason;
  /** Events that the relay showed in it. */
  readonly count: number;
}

export interface Verdict {
  readonly proven: readonly Window[];
  readonly holes: readonly Hole[];
  readonly evidence: 'paging' | 'finish';
}

/**
 * A relay that shows fewer events than this in its largest page, and never more below, is taken to have no cap:
 * no relay is known that caps a page below 20.
 */
const SMALLEST_PLAUSIBLE_CAP = 20;
/** How often an empty answer is asked for before it is believed: of a relay that has shown events, of one that has not, of one caught hiding some. */
const EMPTY_ASKS = { seen: 2, silent: 3, caught: 5 };
/** How often a relay may contradict itself, or not answer, before the visit gives up on it. */
const MAX_STRIKES = 3;
const SMALLEST_LIMIT = 20;

/** Counts the events of one page as they arrive. An event counts for progress whether or not its signature holds. */
export class PageTally {
  /** Distinct events inside the asked window, older than it, newer than it. */
  inside = 0;
  below = 0;
  above = 0;
  oldest = Number.POSITIVE_INFINITY;
  newest = Number.NEGATIVE_INFINITY;
  /** Whether each event was no newer than the one before it, repeats apart. */
  newestFirst = true;
  readonly #request: PageRequest;
  readonly #ids = new Set<string>();
  #last = Number.POSITIVE_INFINITY;

  constructor(request: PageRequest) {
    this.#request = request;
  }

  /** @returns false for an event that this page has shown before. */
  add(id: string, createdAt: number): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (createdAt > this.#last) this.newestFirst = false;
    this.#last = createdAt;
    if (createdAt > this.#request.until) this.above += 1;
    else if (createdAt < this.#request.since) this.below += 1;
    else this.#addInside(createdAt);
    return true;
  }

  #addInside(createdAt: number): void {
    this.inside += 1;
    this.oldest = Math.min(this.oldest, createdAt);
    this.newest = Math.max(this.newest, createdAt);
  }
}

interface Task {
  since: number;
  until: number;
  anchor: number | null;
  /** Whether the relay has shown an event in the second `until`: an empty answer then contradicts it. */
  knownAtTop: boolean;
  emptyAnswers: number;
  sameAnswers: number;
  lastCount: number;
}

type Step = { proven?: Window[]; holes?: Hole[] };

const NOTHING: Step = {};

export interface PagerOptions {
  /** Events asked for in a page. */
  readonly limit: number;
}

export class Pager {
  /** Why reading stopped before every window was proven; null while it goes on or when it is done. */
  stopped: string | null = null;
  /** The limit now in use: lowered when the relay refuses or does not answer. */
  limit: number;
  readonly #tasks: Task[];
  #largestPage = 0;
  /** Whether a page of this relay was ever followed by more of the same window. */
  #sawTruncation = false;
  #order: 'unknown' | 'newest-first' | 'unordered' = 'unknown';
  #caughtHiding = false;
  #strikes = 0;

  /** @param gaps the windows to prove, in any order; they are read newest first. */
  constructor(gaps: readonly Gap[], options: PagerOptions) {
    this.limit = options.limit;
    this.#tasks = [...gaps]
      .sort((a, b) => a.until - b.until)
      .map((gap) => task(gap.since, gap.until, gap.anchor));
  }

  /** The next page to ask for; null when nothing is left or reading has stopped. */
  next(): PageRequest | null {
    const current = this.#tasks.at(-1);
    if (!current || this.stopped) return null;
    return { since: current.anchor ?? current.since, until: current.until, limit: this.limit };
  }

  /** Takes the answer to the last `next()`. */
  accept(page: PageTally, end: PageEnd): Verdict {
    const current = this.#tasks.at(-1);
    if (!current) throw new Error('a page was accepted that nobody asked for');
    const step = this.#judge(current, page, end);
    if (step.proven) this.#strikes = 0;
    return {
      proven: (step.proven ?? []).filter((window) => window.since <= window.until),
      holes: step.holes ?? [],
      evidence: end.type === 'finish' ? 'finish' : 'paging',
    };
  }

  #judge(current: Task, page: PageTally, end: PageEnd): Step {
    this.#noteOrder(page);
    switch (end.type) {
      case 'finish':
        return this.#done(current);
      case 'more':
        return this.#judgeAnswer(current, page, true);
      case 'eose':
        return this.#judgeAnswer(current, page, false);
      case 'overflow':
        return this.#split(current, page, 'overflow');
      case 'timeout':
      case 'closed':
        return this.#askSmaller(end.type === 'closed' ? `closed: ${end.text}` : 'timeout');
      case 'disconnected':
        return this.#stop(`disconnected: ${end.text}`);
      case 'aborted':
        return this.#stop('aborted');
    }
  }

  #noteOrder(page: PageTally): void {
    if (!page.newestFirst) this.#order = 'unordered';
    else if (this.#order === 'unknown' && page.inside > 0 && page.oldest < page.newest)
      this.#order = 'newest-first';
  }

  #judgeAnswer(current: Task, page: PageTally, more: boolean): Step {
    this.#largestPage = Math.max(this.#largestPage, page.inside);
    if (more) this.#sawTruncation = true;
    if (page.inside === 0) return this.#judgeEmpty(current, page, more);
    if (this.#order === 'unordered') return this.#judgeUnordered(current, page, more);
    const showsNoOrder =
      this.#order === 'unknown' && (more || page.inside >= SMALLEST_PLAUSIBLE_CAP);
    if (showsNoOrder && current.since < current.until)
      return this.#splitAround(current, page.oldest);
    return this.#judgeNewestFirst(current, page, more);
  }

  /** Nothing in the window. Events below it prove that; silence is believed only when repeated and not contradicted. */
  #judgeEmpty(current: Task, page: PageTally, more: boolean): Step {
    if (more) return this.#strike('says that there is more and shows nothing');
    if (page.above > 0) return this.#strike('ignores until');
    if (page.below > 0 && this.#order === 'newest-first') return this.#done(current);
    if (current.knownAtTop) return this.#contradiction();
    current.emptyAnswers += 1;
    if (current.emptyAnswers < this.#emptyAsks()) return NOTHING;
    if (current.anchor === null) return this.#done(current);
    current.anchor = null; // the event there is gone: deleted, expired or replaced
    current.emptyAnswers = 0;
    return NOTHING;
  }

  #emptyAsks(): number {
    if (this.#caughtHiding) return EMPTY_ASKS.caught;
    return this.#largestPage > 0 ? EMPTY_ASKS.seen : EMPTY_ASKS.silent;
  }

  #contradiction(): Step {
    this.#caughtHiding = true;
    return this.#strike('answers nothing where it has shown events');
  }

  #judgeNewestFirst(current: Task, page: PageTally, more: boolean): Step {
    if (page.oldest < current.since || page.below > 0) return this.#done(current);
    if (page.oldest === current.until) return this.#judgeOneSecond(current, page, more);
    if (current.knownAtTop) this.#sawTruncation = true; // the page before this one ended above what this one shows
    if (current.emptyAnswers > 0) this.#caughtHiding = true;
    const proven = { since: page.oldest + 1, until: current.until };
    if (page.oldest === page.newest && page.inside >= this.#largestPage && !more) {
      this.#splitBelow(current, page.oldest);
    } else {
      Object.assign(current, task(current.since, page.oldest, current.anchor, true));
    }
    return { proven: [proven] };
  }

  /** The page shows only the second it was asked to begin with: the bottom, or a second that fills a page. */
  #judgeOneSecond(current: Task, page: PageTally, more: boolean): Step {
    if (page.above > 0) return this.#strike('ignores until');
    const second = current.until;
    if (current.anchor !== null) {
      current.anchor = null; // it lies below and was not shown: the event there is gone, or the page is full
      return NOTHING;
    }
    if (more || this.#fillsPage(page.inside))
      return this.#dense(current, second, page.inside, more);
    if (page.inside >= this.#largestPage && current.since < second)
      return this.#splitBelow(current, second);
    current.knownAtTop = true;
    current.sameAnswers += 1;
    return current.sameAnswers < 2 ? NOTHING : this.#done(current);
  }

  #fillsPage(count: number): boolean {
    if (count >= this.limit) return true;
    return count >= this.#largestPage && (this.#sawTruncation || count >= SMALLEST_PLAUSIBLE_CAP);
  }

  /** A relay that does not send newest-first: a window is believed when it twice shows the same small count. */
  #judgeUnordered(current: Task, page: PageTally, more: boolean): Step {
    if (page.above > 0) return this.#strike('ignores until');
    const ignoresLimit = this.#largestPage > this.limit;
    const wellUnderCap =
      page.inside * 2 <= this.#largestPage && (ignoresLimit || page.inside < this.limit);
    const believable =
      !more && (wellUnderCap || (page.inside < SMALLEST_PLAUSIBLE_CAP && !this.#sawTruncation));
    if (!believable) return this.#split(current, page, 'dense');
    current.sameAnswers = current.lastCount === page.inside ? current.sameAnswers + 1 : 1;
    current.lastCount = page.inside;
    return current.sameAnswers < 2 ? NOTHING : this.#done(current);
  }

  #done(current: Task): Step {
    this.#tasks.pop();
    return { proven: [{ since: current.since, until: current.until }] };
  }

  /** Halves the window where its events are, so that a burst is not halved from the year 1970 on. */
  #split(current: Task, page: PageTally, reason: HoleReason): Step {
    const { since, until } = current;
    if (since === until) {
      this.#tasks.pop();
      return { holes: [{ since, until, reason, count: page.inside }] };
    }
    const centre = page.inside > 0 ? (page.oldest + page.newest) / 2 : (since + until) / 2;
    const middle = Math.min(Math.max(Math.floor(centre), since), until - 1);
    this.#replace(task(since, middle, current.anchor), task(middle + 1, until, null));
    return NOTHING;
  }

  /** One second that hides its surroundings is asked for apart from them. */
  #splitAround(current: Task, second: number): Step {
    if (second < current.since) {
      current.anchor = null; // the anchor's own second fills the page: read the gap without it
      return NOTHING;
    }
    this.#replace(
      task(second, second, null, true),
      task(current.since, second - 1, current.anchor),
      task(second + 1, current.until, null),
    );
    return NOTHING;
  }

  /** What lies below is read first: if it shows more, this second was all that the relay would send at once. */
  #splitBelow(current: Task, second: number): Step {
    this.#replace(
      { ...task(second, second, null, true), sameAnswers: 1 },
      task(current.since, second - 1, current.anchor),
    );
    return NOTHING;
  }

  #dense(current: Task, second: number, count: number, certain: boolean): Step {
    this.#tasks.pop();
    if (current.since < second) this.#tasks.push(task(current.since, second - 1, current.anchor));
    if (certain) this.#sawTruncation = true;
    return { holes: [{ since: second, until: second, reason: 'dense', count }] };
  }

  #replace(...tasks: Task[]): void {
    this.#strikes = 0;
    this.#tasks.pop();
    this.#tasks.push(...tasks.filter(({ since, until }) => since <= until));
  }

  #strike(reason: string): Step {
    this.#strikes += 1;
    return this.#strikes >= MAX_STRIKES ? this.#stop(reason) : NOTHING;
  }

  /** A relay that refuses or does not answer is asked for less before it is given up (LESSONS 9). */
  #askSmaller(reason: string): Step {
    this.#strikes += 1;
    if (this.limit <= SMALLEST_LIMIT || this.#strikes >= MAX_STRIKES) return this.#stop(reason);
    this.limit = Math.max(SMALLEST_LIMIT, Math.floor(this.limit / 5));
    return NOTHING;
  }

  #stop(reason: string): Step {
    this.stopped = reason;
    return NOTHING;
  }
}

function task(since: number, until: number, anchor: number | null, knownAtTop = false): Task {
  return { since, until, anchor, knownAtTop, emptyAnswers: 0, sameAnswers: 0, lastCount: -1 };
}
