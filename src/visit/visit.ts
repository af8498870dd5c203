import { setTimeout as sleep } from 'node:timers/promises';
import type { OffenceReason, Refused, Relay, RelayTerms, Stored } from '../bigbrotr.ts';
import { crashPoint } from '../crash-point.ts';
import { createdAtOf, parseEvent } from '../nostr/event.ts';
import { type EventFilter, matchesFilter, type ReqFilter, type Window } from '../nostr/filter.ts';
import { type FilterRefusal, isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type ClientRefusal, refusalOf } from '../nostr/message.ts';
import { type Authentication, mayBeServed } from '../relay/authentication.ts';
import { afterAuthentication, type Manners, mannersOf } from '../relay/manners.ts';
import type { Stopped } from '../relay/pager-stop.ts';
import {
  type PageEnd,
  readLive,
  readPage,
  type SubscriptionLimits,
  sizesOf,
} from '../relay/subscription.ts';
import { BatchWriter } from './batch-writer.ts';
import { CountedTally } from './counted-tally.ts';
import { Nip77State } from './nip77-state.ts';
import { OffenceTally } from './offence-tally.ts';
import { isRateLimit, type NoSession, openSession } from './session.ts';
import { TimeSlice } from './time-slice.ts';
import type { RelaySession, Tally, VisitContext } from './visit-context.ts';

export type { Progress, RelaySession, Tally, VisitContext } from './visit-context.ts';

/** One page may keep us waiting this many times the longest silence, and for this part of a visit. */
const PAGE_TIMEOUTS = 10;
const PAGES_A_VISIT = 4;
/** A relay that is followed may send so many events that are of no use, and one more for each that is. */
const MAX_USELESS_LIVE_EVENTS = 1000;
/** So long after a batch of live events the next one begins, in milliseconds: a transaction for each event is dear. */
const LIVE_BATCH_MS = 250;
/** What a visit says that ends because its time is over. */
const TIME_IS_UP = 'time is up';
const NOT_KEPT = 'quarantine_full';
/** Times that one visit authenticates: a session may be short, and a relay may ask for ever. */
const MAX_AUTHENTICATIONS = 20;
/** Connections that one visit opens after the first: an event too large to be taken is found in about forty. */
const MAX_RECONNECTS = 60;
/** Times that one REQ is sent again after NIP-42. */
const MAX_ASKS = 3;
const EVERY_EVENT: Tally = { add: () => true };
/** Bounds of one page, for relays that ignore `limit`. */
const MAX_PAGE_EVENTS = 20_000;
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** A visit puts up with so many forged and broken events, and one more for each good one. */
const MAX_BROKEN_EVENTS = 20_000;
/** An answer may show so many events again, and one more for each that it shows once. */
const MAX_REPEATS = 1000;
/** What nobody can use: broken, shown before, or not asked for. */
const USELESS = 'useless';
/** A signature that does not hold has cost as much time to check as so many bytes to read. */
const BYTES_A_SIGNATURE = 1500;

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
  writer: BatchWriter;
  /** Requests sent, of whatever kind. */
  requests = 0;
  holes = 0;
  proved = false;
  readonly nip77 = new Nip77State();
  /** Windows that paging has proven in this visit; empty again once they were taken back. */
  claimed: Window[] = [];
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
  readonly invalid = new Map<string, number>();
  stored: Stored = { events: 0, sightings: 0, quarantined: 0 };
  /** What is remembered of the relay; changed where this visit learns something. */
  manners: Manners;
  /** The same since the latest batch, for the archive. */
  readonly #offences = new OffenceTally();
  readonly #deadline: number;
  #bytesBefore: number;
  #reconnects = 0;
  #authentications = 0;
  #lastRequest = Number.NEGATIVE_INFINITY;
  #unnamed = 0;
  /** Id and signature of each event of this answer. */
  #copies = new Set<string>();
  #good = 0;
  #broken = 0;
  #binaryFrames: number;
  #hasToldRefused = false;
  #untold: Record<string, number> = {};

  constructor(relay: Relay, context: VisitContext, session: RelaySession, terms: RelayTerms) {
    this.relay = relay;
    this.context = context;
    this.session = session;
    this.terms = terms;
    this.manners = mannersOf(terms);
    this.#bytesBefore = session.connection.bytesReceived;
    this.#binaryFrames = session.connection.binaryFrames;
    this.#deadline = performance.now() + context.visitMs;
    this.writer = this.#newWriter();
  }

  #newWriter(): BatchWriter {
    const { context, relay } = this;
    return new BatchWriter({
      bigbrotr: context.bigbrotr,
      verifier: context.verifier,
      relay,
      filterId: context.filterId,
      batchSize: context.batchSize,
      offences: this.#offences,
      onStored: (stored) => this.#count(stored),
      onInvalid: (reason, id) => {
        this.#good -= 1; // it seemed so before its signature was checked
        this.session.connection.noteUseless(BYTES_A_SIGNATURE);
        this.#countBroken(reason, id);
      },
      now: context.now,
    });
  }

  /** Reads with another filter from now on, once what was read with the one before is stored. @throws DatabaseError */
  async turnTo(filter: EventFilter, filterId: number): Promise<void> {
    if (filterId === this.context.filterId) return;
    await this.writer.flush();
    this.context = { ...this.context, filter, filterId };
    this.isAnswered = false;
    this.filterRefusal = null;
    this.claimed = [];
    this.writer = this.#newWriter();
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
    this.#bytesBefore = -this.bytesReceived;
    this.#binaryFrames = 0;
    this.session = session;
    return true;
  }

  /** Why the visit has to stop now; null while it may go on. */
  interruption(): string | null {
    if (this.context.signal.aborted) return 'stopped';
    if (performance.now() > this.#deadline) return TIME_IS_UP;
    return null;
  }

  /** Events that nothing could hold: the columns not exactly, and the quarantine is full. */
  get notKept(): number {
    return this.invalid.get(NOT_KEPT) ?? 0;
  }

  /** Events that were malformed or forged. */
  get broken(): number {
    return this.#broken;
  }

  /** Events that were whole and asked for, repeats of other answers among them. */
  get good(): number {
    return this.#good;
  }

  /** Whether the relay has sent more forged and broken events than a visit puts up with. */
  get isFlooded(): boolean {
    return this.#broken > MAX_BROKEN_EVENTS + this.#good;
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
      if (!(await this.mayAskAgain(end.text))) return end;
      end = await this.#askOnce(filter, tally, patience);
    }
    if (end.type === 'closed') this.noteRefusal(end.text);
    else if (end.type === 'disconnected' && (!isGone || end.refusal === 'rate_limited'))
      this.refusal = end.refusal ?? this.refusal;
    else if (end.type === 'timeout' && this.session.authenticator.isRefused)
      this.refusal = 'restricted'; // by an OK that came late
    this.isAnswered ||= isAnswer(end);
    return end;
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
  async askOptional(filter: ReqFilter, tally: Tally): Promise<PageEnd> {
    const end = await this.#askOnce(filter, tally, {});
    if (end.type !== 'closed' || !(await this.authenticateFor(end.text))) return end;
    return this.#askOnce(filter, tally, {});
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

  /**
   * Keeps a subscription open and archives what it brings as it comes, until the relay or the signal ends it.
   * Ephemeral events are let go: they are no history. It has no `since`, so that what the relay receives late is heard of as well. What arrives while a batch is
   * stored, and shortly after it, makes the next one. A relay that sends too much of no use is let go: forged
   * events, repeats, or all that it has because it takes `limit: 0` for no limit. @throws DatabaseError
   */
  async follow(signal: AbortSignal): Promise<PageEnd> {
    await this.pace(signal);
    const filters = this.liveFilters ?? [this.context.filter];
    const requests = filters.map((filter) => ({ ...filter, limit: 0 }));
    const page = readLive(this.session.connection, requests, signal);
    const before = usefulIn(this.stored);
    let received = 0;
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value;
        const { lasting, sizes } = withoutEphemeral(step.value);
        await this.#receiveAll(lasting, sizes, EVERY_EVENT);
        if (lasting.length > 0) crashPoint('live-batch', this.relay.url);
        await this.writer.flush();
        this.#copies.clear();
        this.tellInvalid();
        received += lasting.length;
        const useful = usefulIn(this.stored) - before;
        if (received - useful > MAX_USELESS_LIVE_EVENTS + useful)
          return { type: 'overflow', text: `${received} events, of use ${useful}` };
        await sleep(LIVE_BATCH_MS, undefined, { signal }).catch(() => {});
      }
    } finally {
      await page.return({ type: 'aborted' });
    }
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

  countInvalid(reason: OffenceReason, times = 1, id: string | null = null): void {
    this.#offences.note(reason, times, id);
    this.invalid.set(reason, (this.invalid.get(reason) ?? 0) + times);
    this.#untold[reason] = (this.#untold[reason] ?? 0) + times;
  }

  #countBroken(reason: OffenceReason, id: string | null): void {
    this.#broken += 1;
    this.countInvalid(reason, 1, id);
  }

  /** Tells what was refused since the last batch was stored. */
  tellInvalid(): void {
    if (Object.keys(this.#untold).length === 0) return;
    this.context.onProgress({
      events: 0,
      sightings: 0,
      quarantined: 0,
      invalid: this.#takeInvalid(),
    });
  }

  #takeInvalid(): Record<string, number> {
    const untold = this.#untold;
    this.#untold = {};
    return untold;
  }

  /** Archives events that came beside an answer. @throws DatabaseError */
  async archive(values: readonly unknown[]): Promise<void> {
    if (values.length > 0) await this.#receiveAll(values, [], EVERY_EVENT);
  }

  async #askOnce(
    filter: ReqFilter,
    tally: Tally,
    patience: Partial<SubscriptionLimits>,
  ): Promise<PageEnd> {
    await this.pace();
    this.#copies.clear();
    const counted = new CountedTally(tally);
    const { connection } = this.session;
    const limits = { ...this.limits, ...patience };
    const page = readPage(connection, filter, limits, this.context.signal, (reason) =>
      this.countInvalid(reason),
    );
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value;
        await this.#receiveAll(step.value, sizesOf(step.value), counted);
        if (this.isFlooded) return { type: 'overflow', text: 'forged or broken events' };
        if (counted.repeats > MAX_REPEATS + counted.shown)
          return { type: 'overflow', text: `${counted.repeats} events that it had shown before` };
      }
    } finally {
      await page.return({ type: 'aborted' }); // closes the subscription also when the archive could not be written
      const binaryFrames = connection.binaryFrames - this.#binaryFrames;
      if (binaryFrames > 0) this.countInvalid('binary_frame', binaryFrames);
      if (counted.repeats > 0) this.#offences.note('repeat', counted.repeats);
      this.#binaryFrames = connection.binaryFrames;
    }
  }

  /**
   * Looks at what has arrived, in slices; the bytes of what is of no use go to the account of the relay, and nothing
   * else that came over its connection. An await for each event would cost more than most of what is done with it.
   */
  async #receiveAll(
    values: readonly unknown[],
    sizes: readonly number[],
    tally: Tally,
  ): Promise<void> {
    const goodBefore = this.#good;
    const slice = new TimeSlice();
    let usable = 0;
    let usableBytes = 0;
    let uselessBytes = 0;
    for (const [index, value] of values.entries()) {
      const full = this.#receive(value, tally);
      if (full === USELESS) uselessBytes += sizes[index] ?? 0;
      else {
        usable += 1;
        usableBytes += sizes[index] ?? 0;
        if (full !== undefined) await full;
      }
      if (slice.isOver) await slice.pause();
    }
    // Signatures are checked later, many at once: of those that did not hold the size is not known one by one.
    const forged = usable - Math.max(0, this.#good - goodBefore);
    if (forged > 0) uselessBytes += (usableBytes * forged) / usable;
    if (uselessBytes > 0) this.session.connection.noteUseless(uselessBytes);
  }

  /**
   * Every well-formed event counts for progress; only what is whole and was asked for goes on.
   * @returns what has to be waited for before the next, where that is anything. @throws DatabaseError
   */
  #receive(value: unknown, tally: Tally): Promise<void> | undefined | typeof USELESS {
    const parsed = parseEvent(value);
    if (!parsed.ok) {
      const id = this.#claimedId(value);
      this.#countBroken(parsed.reason, id);
      const createdAt = createdAtOf(value);
      if (createdAt !== null) tally.add(id, createdAt);
      return USELESS;
    }
    const { event } = parsed;
    const isNew = tally.add(event.id, event.created_at);
    // What only claims to be this event must not keep it out: it may have another signature, or be broken.
    const copy = event.id + event.sig;
    if (!isNew && this.#copies.has(copy)) return USELESS;
    this.#copies.add(copy);
    if (!matchesFilter(event, this.context.filter)) {
      this.countInvalid('filter_mismatch', 1, event.id);
      return USELESS;
    }
    this.#good += 1;
    crashPoint('after-receive', this.relay.url);
    return this.writer.add(event);
  }

  /** The id that a broken event claims, so that a repeat of it is not counted twice. */
  #claimedId(value: unknown): string {
    const id = typeof value === 'object' && value !== null && 'id' in value ? value.id : undefined;
    if (typeof id === 'string') return id.slice(0, 64);
    this.#unnamed += 1;
    return `unnamed ${this.#unnamed}`;
  }

  #count({ refused, ...stored }: Stored): void {
    if (refused) this.#noteRefused(refused);
    this.context.onProgress({ ...stored, invalid: this.#takeInvalid() });
    this.stored = {
      events: this.stored.events + stored.events,
      sightings: this.stored.sightings + stored.sightings,
      quarantined: this.stored.quarantined + stored.quarantined,
    };
  }

  #noteRefused({ count }: Refused): void {
    this.holes += 1;
    this.countInvalid(NOT_KEPT, count);
    if (this.#hasToldRefused) return;
    this.#hasToldRefused = true;
    this.context.log.warn(
      { relay: this.relay.url, reason: NOT_KEPT },
      'the quarantine of this relay is full: further events that PostgreSQL cannot hold are not kept',
    );
  }
}

/** The events of a step that are no ephemeral ones, and the size of each. */
function withoutEphemeral(step: readonly unknown[]) {
  const sizes = sizesOf(step);
  const lasting: unknown[] = [];
  const sizesOfLasting: number[] = [];
  for (const [index, value] of step.entries()) {
    if (isEphemeral(value)) continue;
    lasting.push(value);
    sizesOfLasting.push(sizes[index] ?? 0);
  }
  return { lasting, sizes: sizesOfLasting };
}

function isAnswer({ type }: PageEnd): boolean {
  return type === 'eose' || type === 'finish' || type === 'more';
}

/** Kinds that relays are not expected to store (NIP-01), the monitor's own test event among them. */
function isEphemeral(value: unknown): boolean {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : null;
  return typeof kind === 'number' && kind >= 20_000 && kind < 30_000;
}

/** Events that told us something: of ones that we know the relay to hold there is no new sighting. */
function usefulIn({ sightings, quarantined }: Stored): number {
  return sightings + quarantined;
}
