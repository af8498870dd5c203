import type { Gap, Window } from '../../src/nostr/window.ts';
import { AnswerSamples } from '../../src/sync/paging/answer-samples.ts';
import { LateTally } from '../../src/sync/paging/late-fault.ts';
import { Pager, PageTally, stopText } from '../../src/sync/paging/pager.ts';
import { type Random, seededRandom } from '../fixtures/random.ts';
import type { ModelEvent, ModelRelay } from './model-relay.ts';

export interface ModelVisitsOptions {
  readonly limit?: number;
  /** The newest seconds of what is proven that each visit reads again. */
  readonly overlap?: number;
  /** What the archive tells the pager of earlier visits. */
  readonly hints?: 'none' | 'anchor' | 'anchor and known';
  /** Whether holes are asked for again in each visit. */
  readonly retriesHoles?: boolean;
  /** A visit is stopped after this number of pages. */
  readonly pagesEachVisit?: number;
  /** More pages than this mean that the pager does not come to an end. */
  readonly mostPages?: number;
  /** Called before each page, with its number: for what happens while the relay is read. */
  readonly onPage?: (page: number) => void;
  /** Whether a few places are asked for again after a reading; yes unless told. */
  readonly samples?: boolean;
  readonly seed?: number;
}

interface Claim extends Window {
  /** The visit that made it. */
  readonly visit: number;
  /** What the relay held before the visit began that made the claim. */
  readonly held: readonly ModelEvent[];
}

/** An archive in memory that visits a model relay: the set arithmetic of the database, and what must hold of it. */
export class ModelArchive {
  readonly events = new Set<string>();
  covered: Window[] = [];
  holes: (Window & { count: number })[] = [];
  /** Why the latest visit stopped; null when it read everything. */
  stopped: string | null = null;
  visits = 0;
  readonly #relay: ModelRelay;
  readonly #options: ModelVisitsOptions;
  readonly #seconds: number[] = [];
  #claims: Claim[] = [];
  /** What the pages of the latest visit have proven, until an EOSE shows to be no end. */
  #claimed: Window[] = [];
  #distrusts = false;
  /** Stretches that were claimed on the silence of a relay that has shown nothing: asked for anew each time. */
  #silence: Window[] = [];
  readonly #random: Random;

  constructor(relay: ModelRelay, options: ModelVisitsOptions = {}) {
    this.#relay = relay;
    this.#options = options;
    this.#random = seededRandom(options.seed ?? 0);
  }

  /** Reads what is missing of the wanted window, once. */
  visit(wanted: Window): void {
    const {
      limit = 500,
      pagesEachVisit = Number.POSITIVE_INFINITY,
      mostPages = 1e6,
    } = this.#options;
    this.visits += 1;
    this.stopped = null;
    this.covered = subtract(this.covered, this.#silence);
    this.#silence = [];
    this.#relay.connect();
    const held = this.#relay.events;
    const samples = new AnswerSamples(() => this.#random.next());
    const pager = new Pager(this.#gaps(wanted), { limit });
    const late = new LateTally();
    this.#claimed = [];
    this.#distrusts = false;
    let pages = 0;
    for (let request = pager.next(); request; request = pager.next()) {
      if (pages >= mostPages) throw new Error(`the pager asked for ${pages} pages in one visit`);
      if (pages >= pagesEachVisit) {
        this.stopped = 'time is up';
        break;
      }
      pages += 1;
      this.#options.onPage?.(this.#relay.pages + 1);
      const tally = new PageTally(request);
      const seconds: number[] = [];
      const end = this.#relay.answer(request, tally, (event) => {
        if (!event.transient) seconds.push(event.createdAt);
        this.#receive(event);
      });
      samples.notePage(seconds);
      const { proven, holes } = pager.accept(tally, end);
      late.noteInTime(tally);
      for (const event of this.#relay.late) {
        this.#receive(event);
        if (!event.transient) late.noteLate(`${pages}`, tally.inside);
      }
      if (late.isFault) this.#distrust();
      if (this.#distrusts) continue;
      for (const window of proven) this.#prove(window, held, pager.silent);
      for (const { since, until, count } of holes) {
        this.holes = [...without(this.holes, { since, until }), { since, until, count }];
      }
    }
    this.stopped ??= pager.stopped && stopText(pager.stopped);
    if (this.#distrusts) this.stopped = 'events_after_eose';
    else if (pager.isContradicted) this.#distrust();
    else {
      const confirmation = this.#confirm(samples, pager.limit);
      if (confirmation === 'confirmed' || (confirmation === 'unanswered' && this.stopped !== null))
        return;
      this.#distrust();
      this.stopped = confirmation;
    }
  }

  /** Asks for a few places again, as a visit does: each up to twice. */
  #confirm(samples: AnswerSamples, limit: number): 'confirmed' | 'unsteady' | 'unanswered' {
    if (this.#options.samples === false || this.#claimed.length === 0) return 'confirmed';
    const questions = samples.questions(this.#claimed, Number.POSITIVE_INFINITY);
    let asked = 0;
    let answered = 0;
    for (let step = questions.next(); ; ) {
      if (step.done)
        return step.value ? 'unsteady' : asked > 0 && answered === 0 ? 'unanswered' : 'confirmed';
      let answer = this.#sample(step.value, limit);
      if (answer.found === 0 && !answer.hasEnded) answer = this.#sample(step.value, limit);
      asked += 1;
      if (answer.hasEnded) answered += 1;
      step = questions.next(answer.found);
    }
  }

  #sample({ since, until }: Window, limit: number): { found: number; hasEnded: boolean } {
    const request = { since, until, limit, isProbe: true };
    let found = 0;
    const { type } = this.#relay.answer(request, new PageTally(request), (event) => {
      const isInside = event.createdAt >= since && event.createdAt <= until;
      if (this.#receive(event) && isInside && !event.transient) found += 1;
    });
    for (const event of this.#relay.late) this.#receive(event);
    return { found, hasEnded: ['eose', 'finish', 'more'].includes(type) };
  }

  /** Takes back what paging has proven in this visit; nothing more is proven in it. */
  #distrust(): void {
    this.#distrusts = true;
    this.covered = subtract(this.covered, this.#claimed);
    this.#claims = this.#claims.filter(({ visit }) => visit !== this.visits);
    this.#claimed = [];
  }

  /** What is wanted and neither proven nor named as a hole. */
  unexplained(wanted: Window): Window[] {
    return subtract(subtract([wanted], this.covered), this.holes);
  }

  /** A valid event that the relay held before a visit which then claimed its second, and that was not archived. */
  lost(): { event: ModelEvent; claim: Window } | null {
    for (const { since, until, held } of this.#claims) {
      const event = held.find(
        ({ id, valid, createdAt, transient }) =>
          valid && !transient && createdAt >= since && createdAt <= until && !this.events.has(id),
      );
      if (event) return { event, claim: { since, until } };
    }
    this.#claims = [];
    return null;
  }

  /** @returns whether it is valid and new. */
  #receive({ id, createdAt, valid, transient }: ModelEvent): boolean {
    if (!valid || this.events.has(id)) return false;
    this.events.add(id);
    if (!transient) this.#seconds.push(createdAt);
    return true;
  }

  #prove(window: Window, held: readonly ModelEvent[], silent: boolean): void {
    if (window.since > window.until) throw new Error('a window that ends before it begins');
    this.covered = unite(this.covered, window);
    this.#claimed.push(window);
    this.holes = this.holes.filter((hole) => !contains(window, hole));
    if (silent) this.#silence.push(window);
    else this.#claims.push({ ...window, held, visit: this.visits });
  }

  #gaps(wanted: Window): Gap[] {
    const { overlap = 0, retriesHoles = true, hints = 'anchor and known' } = this.#options;
    const newest = this.covered.at(-1)?.until ?? Number.NEGATIVE_INFINITY;
    const again = { since: newest - overlap + 1, until: newest };
    const settled = subtract(this.covered, [again]);
    const gaps = subtract(subtract([wanted], settled), retriesHoles ? [] : this.holes);
    if (hints === 'none') return gaps.map((gap) => ({ ...gap, anchor: null }));
    return gaps.map(({ since, until }) => {
      const anchor = this.#newestSecond(0, since - 1);
      const known = this.#newestSecond(since, until);
      return hints === 'anchor' ? { since, until, anchor } : { since, until, anchor, known };
    });
  }

  #newestSecond(since: number, until: number): number | null {
    const seconds = this.#seconds.filter((second) => second >= since && second <= until);
    return seconds.length > 0 ? Math.max(...seconds) : null;
  }
}

function contains(outer: Window, inner: Window): boolean {
  return outer.since <= inner.since && outer.until >= inner.until;
}

function without<T extends Window>(windows: readonly T[], { since, until }: Window): T[] {
  return windows.filter((window) => window.since !== since || window.until !== until);
}

/** What of some windows lies in none of the others. */
export function subtract(windows: readonly Window[], others: readonly Window[]): Window[] {
  return others.reduce<Window[]>(
    (left, other) =>
      left.flatMap(({ since, until }) => {
        if (other.until < since || other.since > until) return [{ since, until }];
        return [
          { since, until: other.since - 1 },
          { since: other.until + 1, until },
        ].filter((window) => window.since <= window.until);
      }),
    [...windows],
  );
}

/** Windows that are apart and in order, with one more. */
function unite(windows: readonly Window[], added: Window): Window[] {
  const touches = ({ since, until }: Window) =>
    since <= added.until + 1 && until >= added.since - 1;
  const joined = windows.filter(touches);
  return [
    ...windows.filter((window) => !touches(window)),
    {
      since: Math.min(added.since, ...joined.map(({ since }) => since)),
      until: Math.max(added.until, ...joined.map(({ until }) => until)),
    },
  ].sort((a, b) => a.since - b.since);
}
