import { crashPoint } from '../crash-point.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import {
  type Gap,
  type PageRequest,
  Pager,
  PageTally,
  type Stopped,
  type Verdict,
} from '../relay/paging.ts';
import type { PageEnd, SubscriptionLimits } from '../relay/subscription.ts';
import { distrust } from './claims.ts';
import { PageSize } from './page-size.ts';
import { Steadiness } from './steadiness.ts';
import type { Visit } from './visit.ts';
import type { Tally } from './visit-context.ts';

/** How reading ended: everything asked, stopped by the relay, or interrupted by us. */
export interface PagesEnd {
  readonly stopped: Stopped | null;
  readonly interrupted: string | null;
}

/** A part of a window that has broken off is waited for so many times the slowest answer, and no less than this. */
const NARROWING_TIMES = 10;
const NARROWING_MIN_MS = 2000;
/** Answers in a row that prove nothing and show nothing new: narrowing a window down to a second takes about 70. */
const MAX_FUTILE_ANSWERS = 250;

/** Called with what each page proved. @returns true to end reading there */
export type OnPage = (verdict: Verdict) => Promise<boolean>;

/** Reads gaps page by page, newest first; what a page proves is stored with its events. @throws DatabaseError */
export async function readPages(
  visit: Visit,
  gaps: readonly Gap[],
  onPage?: OnPage,
): Promise<PagesEnd> {
  const reading = new Reading(visit, gaps, onPage);
  const interrupted = await reading.readAll();
  await reading.confirm();
  return { stopped: reading.stopped, interrupted };
}

class Reading {
  readonly #visit: Visit;
  readonly #pager: Pager;
  readonly #size: PageSize;
  readonly #steadiness: Steadiness;
  readonly #onPage: OnPage | undefined;
  /** Whether something else goes on with what is left, and shows by itself what pages have left out. */
  #isHandedOver = false;
  #slowestMs = 0;
  /** Answers since the last one that proved something or showed something new. */
  #futile = 0;

  constructor(visit: Visit, gaps: readonly Gap[], onPage: OnPage | undefined) {
    this.#visit = visit;
    this.#onPage = onPage;
    this.#size = new PageSize(visit);
    this.#pager = new Pager(gaps, { limit: this.#size.limit });
    this.#steadiness = new Steadiness(visit);
  }

  get stopped(): Stopped | null {
    return this.#visit.distrust ?? this.#pager.stopped;
  }

  /** @returns why it was interrupted; null when it came to its end */
  async readAll(): Promise<string | null> {
    const visit = this.#visit;
    const pager = this.#pager;
    for (let request = pager.next(); request; request = pager.next()) {
      const interruption = visit.interruption();
      if (interruption) return interruption;
      if (visit.isFlooded) {
        pager.stop('forged', 'too many forged or broken events');
        return null;
      }
      const tally = new PageTally(request);
      const page = await this.#ask(request, tally);
      if (page.type === 'aborted') return 'stopped';
      if (visit.refusal !== null) {
        pager.stop(visit.refusal, page.type === 'closed' ? page.text : '');
        return null;
      }
      if (visit.filterRefusal !== null) {
        pager.stop('filter_refused', visit.filterRefusal.text);
        return null;
      }
      crashPoint('after-page', visit.relay.url);
      const seen = visit.stored.sightings;
      const verdict = await this.#take(request, tally, page);
      const isFutile = verdict.proven.length + verdict.holes.length === 0;
      this.#futile = isFutile && visit.stored.sightings === seen ? this.#futile + 1 : 0;
      if (this.#futile >= MAX_FUTILE_ANSWERS) {
        const text = `${this.#futile} answers in a row prove nothing`;
        await distrust(this.#visit, 'unsteady', text);
        pager.stop('unsteady', text);
        return null;
      }
      this.#isHandedOver = !visit.distrust && ((await this.#onPage?.(verdict)) ?? false);
      if (this.#isHandedOver) return null;
    }
    return null;
  }

  /** Looks whether the relay gives the same answers again, before what its pages proved is left standing. */
  async confirm(): Promise<void> {
    const visit = this.#visit;
    const isOver = visit.refusal !== null || visit.isFlooded || visit.context.signal.aborted;
    if (isOver || this.#isHandedOver || visit.distrust || !visit.session.connection.isOpen) return;
    const claimed = visit.claims.of(visit.context.filterId, 'paging');
    if (claimed.length === 0 || !(await this.#steadiness.isUnsteady(claimed, this.#pager.limit)))
      return;
    await distrust(visit, 'unsteady', 'shows other events when it is asked again');
  }

  async #ask(request: PageRequest, page: PageTally): Promise<PageEnd> {
    const seconds: number[] = [];
    const tally: Tally = {
      add: (id, createdAt) => {
        const isNew = page.add(id, createdAt);
        if (isNew) seconds.push(createdAt);
        return isNew;
      },
    };
    const started = performance.now();
    const end = await this.#visit.ask(reqFilter(this.#visit, request), tally, this.#patience());
    this.#steadiness.notePage(seconds);
    const hasEnd = end.type === 'eose' || end.type === 'finish' || end.type === 'more';
    if (hasEnd) this.#slowestMs = Math.max(this.#slowestMs, performance.now() - started);
    return end;
  }

  /** How long the next answer is waited for, where that is not as always. */
  #patience(): Partial<SubscriptionLimits> {
    const { context, distrust: isDistrusted, holdsOthers, lingerMs } = this.#visit;
    if (isDistrusted) return { lingerMs, lingersAlways: true };
    if (this.#pager.isAboutToBelieveSilence && !holdsOthers) return { lingerMs };
    if (!this.#pager.isNarrowing) return {};
    const enough = Math.max(NARROWING_MIN_MS, this.#slowestMs * NARROWING_TIMES);
    return { idleTimeoutMs: Math.min(context.requestTimeoutMs, enough) };
  }

  /** Takes an answer: what it proves is stored with its events, unless the relay's ends are not to be believed. */
  async #take(request: PageRequest, tally: PageTally, page: PageEnd): Promise<Verdict> {
    const visit = this.#visit;
    const pager = this.#pager;
    const verdict = pager.accept(tally, page);
    const isLate = await visit.late.check(tally, page);
    visit.firstEndAt ??= performance.now();
    const isLost = page.type === 'oversized' || page.type === 'disconnected';
    if (isLost && pager.next() !== null && !(await visit.reconnect()))
      pager.stop(page.type, page.text);
    const limit = this.#size.after(request, tally, page);
    if (limit !== null) pager.useLimit(limit);
    if (isLate) await distrust(visit, 'events_after_eose', 'sends events after the end of a page');
    if (pager.stopped?.reason === 'unsteady') await distrust(visit, 'unsteady', pager.stopped.text);
    visit.claims.note(visit.context.filterId, 'paging', verdict.proven);
    if (visit.distrust) return verdict;
    visit.proved ||= verdict.proven.length > 0;
    const restsOnSilence = pager.silent && !visit.holdsOthers && verdict.evidence === 'paging';
    await visit.writer.endPage(restsOnSilence ? { ...verdict, evidence: 'silence' } : verdict);
    return verdict;
  }
}

function reqFilter({ context }: Visit, { since, until, limit }: PageRequest): ReqFilter {
  return since > 0
    ? { ...context.filter, since, until, limit }
    : { ...context.filter, until, limit };
}
