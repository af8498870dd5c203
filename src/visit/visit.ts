import { setTimeout as sleep } from 'node:timers/promises';
import type { Relay, RelayTerms, Stored } from '../bigbrotr.ts';
import type { EventFilter, ReqFilter } from '../nostr/filter.ts';
import { type FilterRefusal, isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type ClientRefusal, refusalOf } from '../nostr/message.ts';
import { type Authentication, mayBeServed } from '../relay/authentication.ts';
import { firstAnswer, mayBeOfFilter, questionsOf } from '../relay/first-answer.ts';
import { afterAuthentication, type Manners, mannersOf } from '../relay/manners.ts';
import type { Stopped } from '../relay/pager-stop.ts';
import { type PageEnd, readPage, type SubscriptionLimits, sizesOf } from '../relay/subscription.ts';
import type { BatchWriter } from './batch-writer.ts';
import { Claims, distrust } from './claims.ts';
import { CountedTally } from './counted-tally.ts';
import { EventIntake } from './event-intake.ts';
import { LateFault } from './late-fault.ts';
import { Nip77State } from './nip77-state.ts';
import { isRateLimit, type NoSession, openSession } from './session.ts';
import type { RelaySession, Tally, VisitContext } from './visit-context.ts';

export type { Progress, RelaySession, Tally, VisitContext } from './visit-context.ts';

/** One page may keep us waiting this many times the longest silence, and for this part of a visit. */
const PAGE_TIMEOUTS = 10;
const PAGES_A_VISIT = 4;
/** What a visit says that ends because its time is over. */
const TIME_IS_UP = 'time is up';
/** Times that one visit authenticates: a session may be short, and a relay may ask for ever. */
const MAX_AUTHENTICATIONS = 20;
/** Connections that one visit opens after the first: an event too large to be taken is found in about forty. */
const MAX_RECONNECTS = 60;
/** Times that one REQ is sent again after NIP-42. */
const MAX_ASKS = 3;
/** An EOSE that is no end is followed by its events within this, in milliseconds. */
const LINGER_MS = 1000;
/** Bounds of one page, for relays that ignore `limit`. */
const MAX_PAGE_EVENTS = 20_000;
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** An answer may show so many events again, and one more for each that it shows once. */
const MAX_REPEATS = 1000;

/**
 * A visit in progress: requests at the relay's pace, their events on the way to the archive, and what is counted.
 * How the requests are chosen is for `read-pages.ts` and `read-reconciled.ts`.
 */
export class Visit {
  readonly relay: Relay;
  /** Its filter is the one that is read now: a part of the wanted one where the relay refuses that. */
  context: VisitContext;
  session: RelaySession;
  readonly terms: RelayTerms;
  /** Its events, from the connection to the archive. */
  readonly intake: EventIntake;
  /** Requests sent, of whatever kind. */
  requests = 0;
  proved = false;
  readonly nip77 = new Nip77State();
  /** What was proven in this visit. */
  readonly claims = new Claims();
  /** Events that come after the EOSE of their answer, whatever filter is read. */
  readonly late: LateFault;
  /** When the first answer of this connection ended, in milliseconds of `performance.now()`; null before. */
  firstEndAt: number | null = null;
  /** Why no end of a page is believed any more; null while they are. */
  distrust: Stopped | null = null;
  /** What the relay refused with, when that ended the visit. */
  refusal: ClientRefusal | null = null;
  /** How long the relay asked to be left alone when a connection to it was refused (`Retry-After`), in seconds. */
  retryAfterSeconds: number | null = null;
  /** What the relay said against the filter of the last request, which it refused for its shape. */
  filterRefusal: { readonly reason: FilterRefusal; readonly text: string } | null = null;
  /** Whether a request with the filter that is read now was answered. */
  isAnswered = false;
  /** What it is followed with where it refuses the filter itself: NIP-01 takes several in one REQ. */
  liveFilters: readonly EventFilter[] | null = null;
  /** Whether it is known to hold events of other filters: its silence to one is then an answer. */
  holdsOthers = false;
  /** Most ids that it takes in one REQ, where it refused more in this visit. */
  maxIds = Number.POSITIVE_INFINITY;
  /** What is remembered of the relay; changed where this visit learns something. */
  manners: Manners;
  readonly #deadline: number;
  #bytesBefore: number;
  #reconnects = 0;
  #authentications = 0;
  #lastRequest = Number.NEGATIVE_INFINITY;
  /** Refusals that do not say what they refuse, and whether it was found to be the shape of the filter. */
  readonly #ofShape = new Map<string, boolean>();
  #binaryFrames: number;

  constructor(relay: Relay, context: VisitContext, session: RelaySession, terms: RelayTerms) {
    this.relay = relay;
    this.context = context;
    this.session = session;
    this.terms = terms;
    this.manners = mannersOf(terms);
    this.#bytesBefore = session.connection.bytesReceived;
    this.#binaryFrames = session.connection.binaryFrames;
    this.#deadline = performance.now() + context.visitMs;
    this.intake = new EventIntake(this);
    this.late = new LateFault(this);
  }

  get writer(): BatchWriter {
    return this.intake.writer;
  }

  get stored(): Stored {
    return this.intake.stored;
  }

  /** Whether the relay has sent more forged and broken events than a visit puts up with. */
  get isFlooded(): boolean {
    return this.intake.isFlooded;
  }

  /** Reads with another filter from now on, once what was read with the one before is stored. @throws DatabaseError */
  async turnTo(filter: EventFilter, filterId: number): Promise<void> {
    if (filterId === this.context.filterId) return;
    await this.checkLate(); // with the filter for which they came
    await this.writer.flush();
    this.context = { ...this.context, filter, filterId };
    this.isAnswered = false;
    this.filterRefusal = null;
    this.intake.renewWriter();
  }

  /** Takes events that have come after the EOSE of their answer; too many of them end the belief in it. @throws DatabaseError */
  async checkLate(): Promise<void> {
    if (await this.late.takeLate())
      await distrust(this, 'events_after_eose', 'sends events after the end of a page');
  }

  get bytesReceived(): number {
    return this.session.connection.bytesReceived - this.#bytesBefore;
  }

  /** A connection in place of the one that is gone. @returns whether there is one */
  async reconnect(): Promise<boolean> {
    if (this.#reconnects >= MAX_RECONNECTS) return false;
    this.#reconnects += 1;
    await this.pace();
    const session = await openSession(this.relay, this.context);
    if ('failure' in session) {
      this.noteNoConnection(session);
      return false;
    }
    await this.checkLate();
    this.#bytesBefore = -this.bytesReceived;
    this.#binaryFrames = 0;
    this.session = session;
    this.nip77.hasTriedAuthentication = false;
    return true;
  }

  /** Why the visit has to stop now; null while it may go on. */
  interruption(): string | null {
    if (this.context.signal.aborted) return 'stopped';
    if (performance.now() > this.#deadline) return TIME_IS_UP;
    return null;
  }

  /** How long events are waited for that come after their EOSE, before silence is believed, in milliseconds. */
  get lingerMs(): number {
    return this.context.lingerMs ?? LINGER_MS;
  }

  /** How long one answer may take and how large it may be; a slow one does not outlast the visit by more than a silence. */
  get limits(): SubscriptionLimits {
    const idleTimeoutMs = this.context.requestTimeoutMs;
    const longest = Math.min(idleTimeoutMs * PAGE_TIMEOUTS, this.context.visitMs / PAGES_A_VISIT);
    const left = this.#deadline - performance.now();
    return {
      idleTimeoutMs,
      totalTimeoutMs: Math.max(Math.min(longest, left), idleTimeoutMs),
      maxEvents: MAX_PAGE_EVENTS,
      maxBytes: MAX_PAGE_BYTES,
    };
  }

  /**
   * Sends a REQ and hands the events of its answer to the writer. When the relay asks for NIP-42 it is answered and the
   * REQ sent again. A refusal that is no matter of size is noted in `refusal`. @throws DatabaseError
   */
  async ask(
    filter: ReqFilter,
    tally: Tally,
    patience: Partial<SubscriptionLimits> = {},
  ): Promise<PageEnd> {
    this.filterRefusal = null;
    const isGone = this.requests > 0 && !this.session.connection.isOpen; // lost by another request, such as NEG-OPEN
    let end = await this.#askOnce(filter, tally, patience);
    for (let times = 0; end.type === 'closed' && times < MAX_ASKS; times += 1) {
      if (!(await this.mayAskAgain(end.text))) break;
      end = await this.#askOnce(filter, tally, patience);
    }
    if (end.type === 'closed') await this.#noteShape(end.text);
    else if (end.type === 'disconnected' && (!isGone || end.refusal === 'rate_limited'))
      this.refusal = end.refusal ?? this.refusal;
    else if (end.type === 'timeout' && this.session.authenticator.isRefused)
      this.refusal = 'restricted'; // by an OK that came late
    this.isAnswered ||= isAnswer(end);
    return end;
  }

  /**
   * Finds out whether a refusal is of the shape of the filter, where it does not say what it refuses, whatever prefix it
   * has, and no request with this filter was answered: the relay is asked for less before it counts as a refusal of us.
   */
  async #noteShape(text: string): Promise<void> {
    const isUnclear =
      refusalOf(text.replace(/^\s*(?:error:\s*)?(?:blocked|restricted):/i, '')) === 'other';
    if (!isUnclear || this.isAnswered || this.#authentications > 0) return;
    if (!(await this.#isOfShape(text))) return;
    this.refusal = null;
    this.filterRefusal = { reason: 'filter_refused', text };
  }

  /** Whether the relay takes a narrower filter, and refuses this one also for a time that holds no events, before and after. */
  async #isOfShape(text: string): Promise<boolean> {
    const { filter, signal, requestTimeoutMs: timeoutMs } = this.context;
    if (this.#ofShape.has(text)) return this.#ofShape.get(text) === true;
    const asks = async (less: ReqFilter): Promise<boolean | null> => {
      if (!this.session.connection.isOpen || this.interruption() !== null) return null;
      await this.pace();
      const { reason } = await firstAnswer(this.session.connection, less, { timeoutMs, signal });
      return reason === null ? true : mayBeOfFilter(reason) ? false : null;
    };
    const isRefused = async () => (await asks({ ...filter, until: 1, limit: 1 })) === false;
    let isOfShape = false;
    if (await isRefused())
      for (const { filter: narrower } of questionsOf(filter).slice(1))
        isOfShape ||= (await asks({ ...narrower, limit: 1 })) === true;
    isOfShape &&= await isRefused(); // an error that passes is none
    this.#ofShape.set(text, isOfShape);
    return isOfShape;
  }

  /** Notes a refusal, or answers it where it asks for NIP-42. @returns whether the request may be sent once more */
  async mayAskAgain(text: string): Promise<boolean> {
    this.noteRefusal(text);
    if (this.refusal !== 'auth_required' || this.#authentications >= MAX_AUTHENTICATIONS)
      return false;
    this.#authentications += 1;
    const { signal } = this.context;
    const answer = await this.#authenticate();
    if (answer === 'refused') this.refusal = 'restricted';
    else if (mayBeServed(answer) || signal.aborted || !this.session.connection.isOpen)
      this.refusal = null;
    return mayBeServed(answer);
  }

  /** Notes why a further connection could not be opened, where the relay refused it. */
  noteNoConnection({ failure, retryAfterSeconds }: NoSession): void {
    this.retryAfterSeconds = retryAfterSeconds;
    if (isRateLimit(failure, retryAfterSeconds)) this.refusal = 'rate_limited';
  }

  /** Sends a REQ that the visit can do without: its refusal says nothing of others. @throws DatabaseError */
  async askOptional(
    filter: ReqFilter,
    tally: Tally,
    patience: Partial<SubscriptionLimits> = {},
  ): Promise<PageEnd> {
    const end = await this.#askOnce(filter, tally, patience);
    if (end.type !== 'closed' || !(await this.authenticateFor(end.text))) return end;
    return this.#askOnce(filter, tally, patience);
  }

  /** Authenticates, once in a visit, where an optional request was refused for want of it. @returns whether it may be sent once more */
  async authenticateFor(text: string): Promise<boolean> {
    if (refusalOf(text) !== 'auth_required' || this.nip77.hasTriedAuthentication) return false;
    this.nip77.hasTriedAuthentication = true;
    return mayBeServed(await this.#authenticate());
  }

  /** Whether the relay has accepted our key on this connection (NIP-42). */
  get isAuthenticated(): boolean {
    return this.session.authenticator.isAccepted;
  }

  async #authenticate(): Promise<Authentication> {
    const { requestTimeoutMs, signal } = this.context;
    const answer = await this.session.authenticator.authenticate(requestTimeoutMs, signal);
    if (answer === 'accepted') this.manners = afterAuthentication(this.manners);
    return answer;
  }

  /** Notes a refusal: of the client, which ends the visit, or of the filter. One that is about size, or cannot be read, is neither. */
  noteRefusal(text: string): void {
    const refusal = refusalOf(text);
    if (isFilterRefusal(refusal)) this.filterRefusal = { reason: refusal, text };
    else if (refusal !== 'limit' && refusal !== 'other') this.refusal = refusal;
  }

  /** Waits until the relay may be sent another request. */
  async pace(signal: AbortSignal = this.context.signal): Promise<void> {
    this.requests += 1;
    const wait = this.#lastRequest + this.terms.paceMs - performance.now();
    if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => {});
    this.#lastRequest = performance.now();
  }

  async #askOnce(
    filter: ReqFilter,
    tally: Tally,
    patience: Partial<SubscriptionLimits>,
  ): Promise<PageEnd> {
    await this.pace();
    this.intake.beginAnswer();
    const counted = new CountedTally(tally);
    const { connection } = this.session;
    const limits = { ...this.limits, ...patience };
    const page = readPage(connection, filter, limits, this.context.signal, (reason) =>
      this.intake.countInvalid(reason),
    );
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value;
        await this.intake.receive(step.value, sizesOf(step.value), counted);
        if (this.isFlooded) return { type: 'overflow', text: 'forged or broken events' };
        if (counted.repeats > MAX_REPEATS + counted.shown)
          return { type: 'overflow', text: `${counted.repeats} events that it had shown before` };
      }
    } finally {
      await page.return({ type: 'aborted' }); // closes the subscription also when the archive could not be written
      const binaryFrames = connection.binaryFrames - this.#binaryFrames;
      if (binaryFrames > 0) this.intake.countInvalid('binary_frame', binaryFrames);
      if (counted.repeats > 0) this.intake.noteRepeats(counted.repeats);
      this.#binaryFrames = connection.binaryFrames;
    }
  }
}

function isAnswer({ type }: PageEnd): boolean {
  return type === 'eose' || type === 'finish' || type === 'more';
}
