import type { NostrEvent } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import type { Gap, Window } from '../../nostr/window.ts';
import type { RelayConnection } from '../../relay-client/connection.ts';
import { hasEnd } from '../../relay-client/page-end.ts';
import type { PageEnd, SubscriptionLimits } from '../../relay-client/subscription.ts';
import { crashPoint } from '../../telemetry/crash-point.ts';
import { LATE } from '../proofs.ts';
import type { Visit } from '../visit.ts';
import type { Tally } from '../visit-context.ts';
import type { Interruption } from '../visit-stop.ts';
import { minus } from '../windows.ts';
import { EmptyWindows, isWorthChecking } from './empty-windows.ts';
import { GoneEvents } from './gone-events.ts';
import { PageSize } from './page-size.ts';
import { type PageRequest, Pager, PageTally, type Stopped, type Verdict } from './pager.ts';
import { TransientEvents } from './passing.ts';
import { Steadiness, stopUnanswered } from './steadiness.ts';

/** How reading ended: everything read, stopped by the relay, or interrupted by us. */
export interface PagesEnd {
  readonly stopped: Stopped | null;
  readonly interrupted: Interruption | null;
}

/** Timeout for a part of a window that broke off: this many times the slowest answer, at least the minimum. */
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
  await reading.confirm(interrupted === null);
  reading.noteHeldBack();
  return { stopped: reading.stopped, interrupted };
}

class Reading {
  readonly #visit: Visit;
  readonly #pager: Pager;
  readonly #size: PageSize;
  readonly #steadiness: Steadiness;
  readonly #transient = new TransientEvents();
  readonly #gone: GoneEvents;
  readonly #emptyWindows: EmptyWindows;
  readonly #onPage: OnPage | undefined;
  /** Whether NIP-77 continues with the rest, and lists what pages omitted. */
  #isHandedOver = false;
  #slowestMs = 0;
  /** Requests in a row that were not answered at all. */
  #silences = 0;
  /** Whether a fresh connection was answered after a silent one: a hanging request blocks those behind it. */
  #hangs = false;
  /** Whether the relay closes connections after its answers, and the connection of the last complete one. */
  #isClosedAfterAnswers = false;
  #answeredOn: RelayConnection | null = null;
  /** The stop by a relay that only sends a challenge. */
  #heldBack: Stopped | null = null;
  /** Whether an earlier visit has seen events of this relay. */
  readonly #isKnown: boolean;
  /** Answers since the last one that proved something or showed something new. */
  #futile = 0;
  /** Coverage proven by this reading. */
  readonly #proven: Window[] = [];

  constructor(visit: Visit, gaps: readonly Gap[], onPage: OnPage | undefined) {
    this.#visit = visit;
    this.#onPage = onPage;
    this.#isKnown = gaps.some(({ anchor, known = null }) => anchor !== null || known !== null);
    this.#size = new PageSize(visit);
    this.#pager = new Pager(gaps, { limit: this.#size.limit });
    this.#steadiness = new Steadiness(visit);
    this.#gone = new GoneEvents(visit);
    this.#emptyWindows = new EmptyWindows(visit);
  }

  get stopped(): Stopped | null {
    return this.#visit.proofs.distrusted ?? this.#heldBack ?? this.#pager.stopped;
  }

  /** @returns why it was interrupted; null when it is complete */
  async readAll(): Promise<Interruption | null> {
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
        await visit.proofs.distrust({ reason: 'unsteady', text });
        pager.stop('unsteady', text);
        return null;
      }
      this.#isHandedOver = !visit.proofs.distrusted && ((await this.#onPage?.(verdict)) ?? false);
      if (this.#isHandedOver) return null;
    }
    return null;
  }

  /** Checks by samples whether the relay repeats its answers; takes coverage back if not. */
  async confirm(isToItsEnd: boolean): Promise<void> {
    const visit = this.#visit;
    const isOver = visit.refusal !== null || visit.isFlooded || visit.context.signal.aborted;
    if (isOver || this.#isHandedOver || visit.proofs.distrusted || this.#proven.length === 0)
      return;
    const { limit, stopped } = this.#pager;
    const isComplete = isToItsEnd && stopped === null;
    const why = await this.#steadiness.contradiction(this.#proven, limit, isComplete);
    if (why) await visit.proofs.distrust(why);
  }

  /** Records that the relay requires NIP-42: it sent a challenge and nothing else, and has never served us. */
  noteHeldBack(): void {
    if (this.#pager.stopped?.reason !== 'timeout' || this.#isKnown || !this.#visit.isHeldBack)
      return;
    this.#visit.noteHeldBack();
    const text = 'silent after its challenge, and there is no key to answer that with';
    this.#heldBack = { reason: 'auth_required', text };
  }

  /** Takes back the coverage of this visit. If pages below were not read yet, the next visit continues there. */
  async #takeBack(stopped: Stopped): Promise<void> {
    const { proofs, context } = this.#visit;
    await proofs.distrust(stopped);
    if (stopped.reason === 'hides_events') await proofs.noteContradicted([context.filterId]);
  }

  async #ask(request: PageRequest, page: PageTally): Promise<PageEnd> {
    const seconds: number[] = [];
    const lasting: NostrEvent[] = [];
    const now = this.#visit.context.now();
    this.#transient.beginPage();
    const tally: Tally = {
      add: (id, createdAt, event) => {
        const presence = this.#transient.presenceOf(event, now);
        const isNew = page.add(id, createdAt, presence);
        if (isNew && presence !== 'passing') seconds.push(createdAt);
        if (isNew && event && presence === 'lasting') lasting.push(event);
        return isNew;
      },
      addUnreadable: (count) => page.addUnreadable(count),
    };
    const started = performance.now();
    const end = await this.#send(request, page, tally);
    this.#steadiness.notePage(seconds);
    this.#gone.notePage(page, lasting);
    if (hasEnd(end)) this.#slowestMs = Math.max(this.#slowestMs, performance.now() - started);
    return end;
  }

  /**
   * Sends the request once more, over a new connection, where it was lost with a connection that the relay had closed after
   * its answer to the one before: no failure of what is requested.
   */
  async #send(request: PageRequest, page: PageTally, tally: Tally): Promise<PageEnd> {
    const visit = this.#visit;
    const { connection } = visit.session;
    const wasClosed = visit.requests > 0 && !connection.isOpen;
    this.#isClosedAfterAnswers ||= wasClosed;
    const ask = () => visit.ask(reqFilter(visit, request), tally, this.#patience());
    const end = await ask();
    if (hasEnd(end)) this.#answeredOn = visit.session.connection;
    const isIdle = wasClosed || (this.#isClosedAfterAnswers && connection === this.#answeredOn);
    const isLost = end.type === 'disconnected' && page.shown === 0 && visit.refusal === null;
    return isLost && isIdle && (await visit.reconnect()) ? ask() : end;
  }

  /** The timeout of the next answer, if it differs from the default. */
  #patience(): Partial<SubscriptionLimits> {
    const { context, proofs, holdsOthers, lingerMs } = this.#visit;
    if (proofs.distrusted) return { lingerMs, lingersAlways: true };
    if (this.#pager.isAboutToBelieveSilence && !holdsOthers) return { lingerMs };
    if (!this.#pager.isNarrowing) return {};
    const enough = Math.max(NARROWING_MIN_MS, this.#slowestMs * NARROWING_TIMES);
    return { idleTimeoutMs: Math.min(context.requestTimeoutMs, enough) };
  }

  /** Whether only the connection may hang: after two silences in a row, or one if that happened before. */
  #isHanging(page: PageEnd): boolean {
    if (page.type !== 'timeout' || page.isSlow) {
      this.#hangs ||= this.#silences > 1 && hasEnd(page);
      this.#silences = 0;
      return false;
    }
    this.#silences += 1;
    return this.#silences > 1 || this.#hangs;
  }

  /** Asks differently where a long window is proven because nothing was shown. @returns what is proven then */
  async #doubtEmpty(verdict: Verdict, { type }: PageEnd): Promise<Verdict> {
    const [visit, pager] = [this.#visit, this.#pager];
    const { empty, proven } = verdict;
    const isPart = visit.context.filterId !== visit.wantedFilterId;
    if (empty === undefined || type !== 'eose' || isPart || !isWorthChecking(empty)) return verdict;
    // A relay that answers a few requests an hour would never be read to its end with more of them.
    const isScarce = visit.terms.reason === 'rate_limited';
    if (isScarce || visit.proofs.distrusted) return verdict;
    const check = await this.#emptyWindows.check(empty, pager.limit, pager.silent);
    if (check.type === 'empty') return verdict;
    if (check.type === 'shown') {
      const { newest, limit } = check;
      const above = { since: newest + 1, until: empty.until };
      const hidden = limit === null && above.since <= above.until ? [above] : [];
      if (limit !== null) pager.useLimit(this.#size.learnShown(limit));
      pager.reopen(minus(proven, hidden), newest);
      const holes = hidden.map(
        (window) => ({ ...window, reason: 'contradicted', count: 0 }) as const,
      );
      return { ...verdict, proven: [], holes: [...verdict.holes, ...holes] };
    }
    if (check.type === 'by kinds') {
      visit.noteShapeRefusal('shows nothing to a filter without kinds');
      pager.stop('filter_refused', 'shows nothing to a filter without kinds');
    } else {
      pager.reopen(proven, null); // asked for another time
      const stopped = visit.interruption() === null ? stopUnanswered(visit, check.end) : null;
      if (stopped) pager.stop(stopped.reason, stopped.text);
    }
    return { ...verdict, proven: [] };
  }

  /** Processes an answer: stores its coverage with its events, unless EOSE of the relay is not believed. */
  async #take(request: PageRequest, tally: PageTally, page: PageEnd): Promise<Verdict> {
    const visit = this.#visit;
    const pager = this.#pager;
    const verdict = await this.#doubtEmpty(pager.accept(tally, page), page);
    const missed = pager.missedSecond;
    if (missed !== null && hasEnd(page) && (await this.#gone.areExplained(missed)))
      pager.forgetMissed();
    const isLate = await visit.late.check(tally, page);
    const isLost = page.type === 'oversized' || page.type === 'disconnected';
    if (isLost && pager.next() !== null && !(await visit.reconnect()))
      pager.stop(page.type, page.text);
    if (this.#isHanging(page) && pager.next() !== null) await visit.reconnect();
    const limit = this.#size.after(request, tally, page, missed !== null);
    if (limit !== null) pager.useLimit(limit);
    if (isLate) await visit.proofs.distrust(LATE);
    this.#proven.push(...verdict.proven);
    const restsOnSilence = pager.silent && !visit.holdsOthers && verdict.evidence === 'paging';
    const evidence = restsOnSilence ? 'silence' : verdict.evidence;
    await visit.proofs.add('paging', { ...verdict, evidence });
    if (pager.stopped !== null && pager.isContradicted) await this.#takeBack(pager.stopped);
    return verdict;
  }
}

function reqFilter({ context }: Visit, { since, until, limit }: PageRequest): ReqFilter {
  return since > 0
    ? { ...context.filter, since, until, limit }
    : { ...context.filter, until, limit };
}
