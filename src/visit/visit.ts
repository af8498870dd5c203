import { setTimeout as sleep } from 'node:timers/promises';
import type { Refused, Relay, RelayTerms, Stored } from '../bigbrotr.ts';
import { crashPoint } from '../crash-point.ts';
import { createdAtOf, parseEvent } from '../nostr/event.ts';
import { type EventFilter, matchesFilter, type ReqFilter } from '../nostr/filter.ts';
import { type FilterRefusal, isFilterRefusal } from '../nostr/filter-refusal.ts';
import { type ClientRefusal, refusalOf } from '../nostr/message.ts';
import type { Manners } from '../relay/manners.ts';
import {
  type PageEnd,
  readLive,
  readPage,
  type SubscriptionLimits,
} from '../relay/subscription.ts';
import { BatchWriter } from './batch-writer.ts';
import { CountedTally } from './counted-tally.ts';
import { openSession } from './session.ts';
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
export const TIME_IS_UP = 'time is up';
const NOT_KEPT = 'quarantine_full';
/** Connections that one visit opens after the first: an event too large to be taken is found in about forty. */
const MAX_RECONNECTS = 60;
const EVERY_EVENT: Tally = { add: () => true };
/** Bounds of one page, for relays that ignore `limit`. */
const MAX_PAGE_EVENTS = 20_000;
const MAX_PAGE_BYTES = 64 * 1024 * 1024;
/** A visit puts up with so many forged and broken events, and one more for each good one. */
const MAX_BROKEN_EVENTS = 20_000;
/** An answer may show so many events again, and one more for each that it shows once. */
const MAX_REPEATS = 1000;
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
  /** Most ids that the relay has listed at once (NIP-77); infinite when it says by itself what is too much. */
  longestList = 0;
  /** What the relay refused with, when that ended the visit. */
  refusal: ClientRefusal | null = null;
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
  readonly #deadline: number;
  #bytesBefore: number;
  #reconnects = 0;
  #lastRequest = Number.NEGATIVE_INFINITY;
  #unnamed = 0;
  /** Id and signature of each event of this answer. */
  #copies = new Set<string>();
  #good = 0;
  #broken = 0;
  #binaryFrames: number;
  /** Bytes received up to the events that were looked at last. */
  #bytesSeen: number;
  #hasToldRefused = false;
  #untold: Record<string, number> = {};

  constructor(relay: Relay, context: VisitContext, session: RelaySession, terms: RelayTerms) {
    this.relay = relay;
    this.context = context;
    this.session = session;
    this.terms = terms;
    const { limitation: _claims, supportedNips: _nips, isDivided: _parts, ...manners } = terms;
    this.manners = manners;
    this.#bytesBefore = session.connection.bytesReceived;
    this.#bytesSeen = this.#bytesBefore;
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
      onStored: (stored) => this.#count(stored),
      onInvalid: (reason) => {
        this.#good -= 1; // it seemed so before its signature was checked
        this.session.connection.noteUseless(BYTES_A_SIGNATURE);
        this.#countBroken(reason);
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
    if ('failure' in session) return false;
    this.#bytesBefore = -this.bytesReceived;
    this.#bytesSeen = 0;
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
   * Sends a REQ and hands the events of its answer to the writer. When the relay asks for NIP-42 it is answered
   * and the REQ sent once more. A refusal that is no matter of size is noted in `refusal`. @throws DatabaseError
   */
  async ask(filter: ReqFilter, tally: Tally): Promise<PageEnd> {
    this.filterRefusal = null;
    let end = await this.#askOnce(filter, tally);
    if (end.type === 'closed' && (await this.mayAskAgain(end.text))) {
      end = await this.#askOnce(filter, tally);
      if (end.type === 'closed') this.noteRefusal(end.text);
    }
    this.isAnswered ||= ['eose', 'finish', 'more'].includes(end.type);
    return end;
  }

  /** Notes a refusal, or answers it where it asks for NIP-42. @returns whether the request may be sent once more */
  async mayAskAgain(text: string): Promise<boolean> {
    this.noteRefusal(text);
    if (this.refusal !== 'auth_required') return false;
    const { requestTimeoutMs, signal } = this.context;
    const answer = await this.session.authenticator.authenticate(requestTimeoutMs, signal);
    if (answer === 'refused') this.refusal = 'restricted';
    else if (answer === 'accepted' || signal.aborted || !this.session.connection.isOpen)
      this.refusal = null;
    return answer === 'accepted';
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
        const lasting = step.value.filter((value) => !isEphemeral(value));
        await this.#receiveAll(lasting, EVERY_EVENT);
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

  countInvalid(reason: string, times = 1): void {
    this.invalid.set(reason, (this.invalid.get(reason) ?? 0) + times);
    this.#untold[reason] = (this.#untold[reason] ?? 0) + times;
  }

  #countBroken(reason: string): void {
    this.#broken += 1;
    this.countInvalid(reason);
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

  async #askOnce(filter: ReqFilter, tally: Tally): Promise<PageEnd> {
    await this.pace();
    this.#copies.clear();
    const counted = new CountedTally(tally);
    const { connection } = this.session;
    const page = readPage(connection, filter, this.limits, this.context.signal, (reason) =>
      this.countInvalid(reason),
    );
    try {
      for (;;) {
        const step = await page.next();
        if (step.done) return step.value;
        await this.#receiveAll(step.value, counted);
        if (this.isFlooded) return { type: 'overflow', text: 'forged or broken events' };
        if (counted.repeats > MAX_REPEATS + counted.shown)
          return { type: 'overflow', text: `${counted.repeats} events that it had shown before` };
      }
    } finally {
      await page.return({ type: 'aborted' }); // closes the subscription also when the archive could not be written
      const binaryFrames = connection.binaryFrames - this.#binaryFrames;
      if (binaryFrames > 0) this.countInvalid('binary_frame', binaryFrames);
      this.#binaryFrames = connection.binaryFrames;
    }
  }

  /**
   * Looks at what has arrived, in slices; the share of it that is of no use goes to the account of the relay. An
   * await for each event would cost more than most of what is done with it.
   */
  async #receiveAll(values: readonly unknown[], tally: Tally): Promise<void> {
    const { connection } = this.session;
    const bytes = connection.bytesReceived - this.#bytesSeen;
    this.#bytesSeen = connection.bytesReceived;
    const goodBefore = this.#good;
    const slice = new TimeSlice();
    for (const value of values) {
      const full = this.#receive(value, tally);
      if (full !== undefined) await full;
      if (slice.isOver) await slice.pause();
    }
    const useless = values.length - Math.max(0, this.#good - goodBefore);
    if (useless > 0) connection.noteUseless((bytes * useless) / values.length);
  }

  /**
   * Every well-formed event counts for progress; only what is whole and was asked for goes on.
   * @returns what has to be waited for before the next, where that is anything. @throws DatabaseError
   */
  #receive(value: unknown, tally: Tally): Promise<void> | undefined {
    const parsed = parseEvent(value);
    if (!parsed.ok) {
      this.#countBroken(parsed.reason);
      const createdAt = createdAtOf(value);
      if (createdAt !== null) tally.add(this.#claimedId(value), createdAt);
      return undefined;
    }
    const { event } = parsed;
    const isNew = tally.add(event.id, event.created_at);
    // What only claims to be this event must not keep it out: it may have another signature, or be broken.
    const copy = event.id + event.sig;
    if (!isNew && this.#copies.has(copy)) return undefined;
    this.#copies.add(copy);
    if (!matchesFilter(event, this.context.filter)) {
      this.countInvalid('filter_mismatch');
      return undefined;
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

/** Kinds that relays are not expected to store (NIP-01), the monitor's own test event among them. */
function isEphemeral(value: unknown): boolean {
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : null;
  return typeof kind === 'number' && kind >= 20_000 && kind < 30_000;
}

/** Events that told us something: of ones that we know the relay to hold there is no new sighting. */
function usefulIn({ sightings, quarantined }: Stored): number {
  return sightings + quarantined;
}
