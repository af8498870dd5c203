import { setTimeout as sleep } from 'node:timers/promises';
import type { Relay, RelayTerms, Stored } from '../database/bigbrotr.ts';
import { afterAuthentication, policyOf } from '../network/relay-policy.ts';
import type { EventFilter, ReqFilter } from '../nostr/filter.ts';
import { type FilterRefusal, isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type ClientRefusal, refusalOf } from '../nostr/message.ts';
import { type Authentication, maySendAgain } from '../relay-client/authentication.ts';
import { hasEnd } from '../relay-client/page-end.ts';
import {
  type PageEnd,
  readPage,
  type SubscriptionLimits,
  sizesOf,
} from '../relay-client/subscription.ts';
import { answerLimits } from './answer-limits.ts';
import type { BatchWriter } from './batch-writer.ts';
import { CountedTally } from './counted-tally.ts';
import { EventIntake } from './event-intake.ts';
import { FilterShape } from './filter-shape.ts';
import { LateFault } from './paging/late-fault.ts';
import { LATE, Proofs } from './proofs.ts';
import { ListedIds } from './reconcile/listed-ids.ts';
import { Nip77State } from './reconcile/nip77-state.ts';
import { RefusedBounds } from './refused-bounds.ts';
import { isRateLimit, type NoSession, openSession } from './session.ts';
import type { RelaySession, Tally, VisitContext } from './visit-context.ts';
import { VisitPolicy } from './visit-policy.ts';
import type { Interruption } from './visit-stop.ts';

export type { Progress, RelaySession, Tally, VisitContext } from './visit-context.ts';

/** Authentications of one visit: a session may be short, and a relay may ask again and again. */
const MAX_AUTHENTICATIONS = 20;
/** Connections that one visit opens after the first: an event too large to be taken is found in about forty. */
const MAX_RECONNECTS = 60;
/** Times that one REQ is sent again after NIP-42. */
const MAX_ASKS = 3;
/** Events that come after their EOSE come within this, in milliseconds. */
const LINGER_MS = 1000;
/** Repeated events allowed in one answer, plus one for each event that it shows once. */
const MAX_REPEATS = 1000;

/** A refusal of the shape of a filter, in the words of the relay. */
export interface NotedFilterRefusal {
  readonly reason: FilterRefusal;
  readonly text: string;
}

/**
 * A visit in progress: requests at the relay's pace, their events on the way to the archive, what they prove, and what
 * the relay refuses. `read-pages.ts` and `read-reconciled.ts` choose the requests. Only the visit writes its fields.
 */
export class Visit {
  readonly relay: Relay;
  readonly terms: RelayTerms;
  /** What is remembered of the relay, and what this visit learns of it. */
  readonly policy: VisitPolicy;
  /** Its events, from the connection to the archive. */
  readonly intake: EventIntake;
  readonly nip77 = new Nip77State();
  /** What it has listed by NIP-77 for the filter that is read now, and not served yet. */
  readonly listed = new ListedIds();
  readonly proofs = new Proofs(this);
  /** Events that come after the EOSE of their answer, whatever filter is read. */
  readonly late: LateFault;
  /** Key of the wanted filter, whatever part of it is read now. */
  readonly wantedFilterId: number;
  /** When it began, in milliseconds of `performance.now()`. */
  readonly beganAt = performance.now();
  #context: VisitContext;
  #session: RelaySession;
  #requests = 0;
  #firstEndAt: number | null = null;
  #refusal: ClientRefusal | null = null;
  #retryAfterSeconds: number | null = null;
  #filterRefusal: NotedFilterRefusal | null = null;
  #isAnswered = false;
  #holdsOthers = false;
  readonly #deadline: number;
  #bytesBefore: number;
  #reconnects = 0;
  #authentications = 0;
  /** How the authentication for the request that is asked now ended; null where none was made. */
  #authentication: Authentication | null = null;
  /** Whether a request was refused for want of NIP-42 on this connection: only then a refused key is a refusal of reading. */
  #isKeyRequired = false;
  /** Whether NIP-42 was tried for an optional request on this connection. */
  #hasTriedOptional = false;
  #hasAnswered = false;
  #lastRequest = Number.NEGATIVE_INFINITY;
  readonly #shape = new FilterShape(this);
  readonly #bounds = new RefusedBounds();
  #binaryFrames: number;

  constructor(relay: Relay, context: VisitContext, session: RelaySession, terms: RelayTerms) {
    this.relay = relay;
    this.#context = context;
    this.wantedFilterId = context.filterId;
    this.#session = session;
    this.terms = terms;
    this.policy = new VisitPolicy(policyOf(terms));
    this.#bytesBefore = session.connection.bytesReceived;
    this.#binaryFrames = session.connection.binaryFrames;
    this.#deadline = performance.now() + context.visitMs;
    this.intake = new EventIntake(this);
    this.late = new LateFault(this);
  }

  /** Its filter is the one that is read now: a part of the wanted one where the relay refuses that. */
  get context(): VisitContext {
    return this.#context;
  }

  get session(): RelaySession {
    return this.#session;
  }

  /** Requests sent, of whatever kind. */
  get requests(): number {
    return this.#requests;
  }

  /** When the first answer ended, in milliseconds of `performance.now()`; null before. */
  get firstEndAt(): number | null {
    return this.#firstEndAt;
  }

  /** What the relay refused with, when that ended the visit. */
  get refusal(): ClientRefusal | null {
    return this.#refusal;
  }

  /** How long the relay asked to be left alone when a connection to it was refused (`Retry-After`), in seconds. */
  get retryAfterSeconds(): number | null {
    return this.#retryAfterSeconds;
  }

  /** What the relay said against the filter of the last request, which it refused for its shape. */
  get filterRefusal(): NotedFilterRefusal | null {
    return this.#filterRefusal;
  }

  /** Whether a request with the filter that is read now was answered. */
  get isAnswered(): boolean {
    return this.#isAnswered;
  }

  /** Whether the relay is known to hold events of other filters: its silence to one is then an answer. */
  get holdsOthers(): boolean {
    return this.#holdsOthers;
  }

  noteHoldsOthers(holds: boolean): void {
    this.#holdsOthers ||= holds;
  }

  get writer(): BatchWriter {
    return this.intake.writer;
  }

  get stored(): Stored {
    return this.intake.stored;
  }

  /** Whether the relay has sent more forged and malformed events than one visit accepts. */
  get isFlooded(): boolean {
    return this.intake.isFlooded;
  }

  /** Reads with another filter from now on, once what was read with the one before is stored. @throws DatabaseError */
  async turnTo(filter: EventFilter, filterId: number): Promise<void> {
    if (filterId === this.#context.filterId) return;
    await this.checkLate(); // with the filter for which they came
    await this.writer.flush();
    this.#context = { ...this.#context, filter, filterId };
    this.#isAnswered = false;
    this.#filterRefusal = null;
    this.intake.renewWriter();
  }

  /** Takes events that have come after the EOSE of their answer; too many of them end the belief in it. @throws DatabaseError */
  async checkLate(): Promise<void> {
    if (await this.late.takeLate()) await this.proofs.distrust(LATE);
  }

  get bytesReceived(): number {
    return this.#session.connection.bytesReceived - this.#bytesBefore;
  }

  /** Replaces the connection, which was lost or does not answer. @returns whether there is one */
  async reconnect(): Promise<boolean> {
    if (this.#reconnects >= MAX_RECONNECTS) return false;
    this.#reconnects += 1;
    await this.pace();
    const session = await openSession(this.relay, this.#context);
    if ('failure' in session) {
      this.noteNoConnection(session);
      return false;
    }
    await this.checkLate();
    this.#session.connection.close();
    this.#bytesBefore = -this.bytesReceived;
    this.#binaryFrames = 0;
    this.#session = session;
    this.#hasTriedOptional = false;
    this.#isKeyRequired = false;
    return true;
  }

  /** Why the visit has to stop now; null while it may go on. */
  interruption(): Interruption | null {
    if (this.#context.signal.aborted) return 'stopped';
    if (performance.now() > this.#deadline) return 'time_is_up';
    return null;
  }

  /** How long events are waited for that come after their EOSE, before silence is believed, in milliseconds. */
  get lingerMs(): number {
    return this.#context.lingerMs ?? LINGER_MS;
  }

  /** How long one answer may take and how large it may be; a slow one does not outlast the visit by more than a silence. */
  get limits(): SubscriptionLimits {
    return answerLimits(this.#context, this.#deadline - performance.now());
  }

  /**
   * Sends a REQ and hands the events of its answer to the writer. When the relay asks for NIP-42, or is silent after its
   * challenge, it is answered and the REQ sent again. A refusal that is no matter of size is noted in `refusal`.
   * @throws DatabaseError
   */
  async ask(
    filter: ReqFilter,
    tally: Tally,
    patience: Partial<SubscriptionLimits> = {},
  ): Promise<PageEnd> {
    this.#filterRefusal = null;
    this.#authentication = null;
    const isGone = this.#requests > 0 && !this.#session.connection.isOpen; // lost by another request, such as NEG-OPEN
    let end = await this.#askOnce(filter, tally, patience);
    for (let times = 0; times < MAX_ASKS; times += 1) {
      if (!(await this.#mayAskAgain(end))) break;
      end = await this.#askOnce(filter, tally, patience);
    }
    if (end.type === 'closed') await this.#noteShape(end.text);
    else if (end.type === 'disconnected' && (!isGone || end.refusal === 'rate_limited'))
      this.#refusal = end.refusal ?? this.#refusal;
    else if (end.type === 'timeout' && this.#isRefusedKey) this.#refusal = 'restricted';
    this.#firstEndAt ??= performance.now();
    this.#isAnswered ||= hasEnd(end);
    this.#hasAnswered ||= hasEnd(end);
    return end;
  }

  /** A refusal that may be of the shape of the filter, which no request was answered with yet, is no refusal of us then. */
  async #noteShape(text: string): Promise<void> {
    if (this.#isAnswered || this.#authentications > 0) return;
    if (!(await this.#shape.isRefused(text))) return;
    this.#refusal = null;
    this.noteShapeRefusal(text);
  }

  /** The relay does not serve this filter, and may serve a narrower one. */
  noteShapeRefusal(text: string): void {
    this.#filterRefusal = { reason: 'filter_refused', text };
  }

  /** Notes a refusal; answers a demand for NIP-42, and a challenge before silence. @returns whether the request may be sent once more */
  async #mayAskAgain(end: PageEnd): Promise<boolean> {
    if (end.type === 'closed') this.noteRefusal(end.text);
    const isRequired = end.type === 'closed' && this.#refusal === 'auth_required';
    const { secretKey, signal } = this.#context;
    const { authenticator, connection } = this.#session;
    const isHeldBack = end.type === 'timeout' && secretKey !== null && authenticator.mayHoldBack;
    if (!isRequired && !isHeldBack) return false;
    if (this.#authentications >= MAX_AUTHENTICATIONS) return false;
    this.#authentications += 1;
    this.#isKeyRequired ||= isRequired;
    const before = this.#authentication;
    this.#authentication = await this.#authenticate();
    const again = maySendAgain(before, this.#authentication);
    if (isRequired && !again && this.#authentication === 'refused') this.#refusal = 'restricted';
    else if (isRequired && (again || signal.aborted || !connection.isOpen)) this.#refusal = null;
    return again;
  }

  /** Whether a key was required and refused, and nothing was served in this visit all the same. */
  get #isRefusedKey(): boolean {
    return this.#isKeyRequired && !this.#hasAnswered && this.#session.authenticator.isRefused;
  }

  /** Whether the relay has answered nothing in this visit after a challenge to which there is no key (NIP-42). */
  get isHeldBack(): boolean {
    const isServed = this.#hasAnswered || this.stored.sightings > 0;
    const { authenticator } = this.#session;
    return this.#context.secretKey === null && !isServed && authenticator.mayHoldBack;
  }

  /** The relay has sent a challenge to which there is no key, and nothing else (NIP-42). */
  noteHeldBack(): void {
    this.#refusal = 'auth_required';
  }

  /** Notes why a further connection could not be opened, where the relay refused it. */
  noteNoConnection({ failure, retryAfterSeconds }: NoSession): void {
    this.#retryAfterSeconds = retryAfterSeconds;
    if (isRateLimit(failure, retryAfterSeconds)) this.#refusal = 'rate_limited';
  }

  /** Sends an optional REQ, whose refusal does not stop the visit. @throws DatabaseError */
  async askOptional(
    filter: ReqFilter | readonly ReqFilter[],
    tally: Tally,
    patience: Partial<SubscriptionLimits> = {},
  ): Promise<PageEnd> {
    const end = await this.#askOnce(filter, tally, patience);
    if (end.type !== 'closed' || !(await this.authenticateFor(end.text))) return end;
    return this.#askOnce(filter, tally, patience);
  }

  /** Authenticates, once in a visit, where an optional request was refused for want of it. @returns whether it may be sent once more */
  async authenticateFor(text: string): Promise<boolean> {
    if (refusalOf(text) !== 'auth_required' || this.#hasTriedOptional) return false;
    this.#hasTriedOptional = true;
    return maySendAgain(null, await this.#authenticate());
  }

  /** Whether the relay has accepted our key on this connection (NIP-42). */
  get isAuthenticated(): boolean {
    return this.#session.authenticator.isAccepted;
  }

  async #authenticate(): Promise<Authentication> {
    const { requestTimeoutMs, signal } = this.#context;
    const answer = await this.#session.authenticator.authenticate(requestTimeoutMs, signal);
    if (answer === 'accepted') this.policy.update(afterAuthentication);
    return answer;
  }

  /** Notes a refusal: of the client, which ends the visit, or of the filter. One that is about size, or cannot be read, is neither. */
  noteRefusal(text: string): void {
    const refusal = refusalOf(text);
    if (isFilterRefusal(refusal)) this.#filterRefusal = { reason: refusal, text };
    else if (refusal !== 'limit' && refusal !== 'other') this.#refusal = refusal;
  }

  /** Waits until the relay may be sent another request. */
  async pace(signal: AbortSignal = this.#context.signal): Promise<void> {
    this.#requests += 1;
    const wait = this.#lastRequest + this.terms.paceMs - performance.now();
    if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => {});
    this.#lastRequest = performance.now();
  }

  /** Sends a REQ; once more without a bound that the relay refuses. */
  async #askOnce(
    filter: ReqFilter | readonly ReqFilter[],
    tally: Tally,
    patience: Partial<SubscriptionLimits>,
  ): Promise<PageEnd> {
    const now = this.#context.now();
    const send = () => this.#send(this.#bounds.without(filter, now), tally, patience);
    const end = await send();
    return this.#bounds.learn(filter, end, now) ? send() : end;
  }

  async #send(
    filter: ReqFilter | readonly ReqFilter[],
    tally: Tally,
    patience: Partial<SubscriptionLimits>,
  ): Promise<PageEnd> {
    await this.pace();
    this.intake.beginAnswer();
    const counted = new CountedTally(tally);
    const { connection } = this.#session;
    const limits = { ...this.limits, ...patience, asText: true };
    const page = readPage(connection, filter, limits, this.#context.signal, (reason) => {
      this.intake.countInvalid(reason);
      if (reason !== 'wrong_subscription') counted.addUnreadable(1);
    });
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
      counted.addUnreadable(binaryFrames);
      if (counted.repeats > 0) this.intake.noteRepeats(counted.repeats);
      this.#binaryFrames = connection.binaryFrames;
    }
  }
}
