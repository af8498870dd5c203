import type { OffenceReason, Refused, Relay, Stored } from '../database/bigbrotr.ts';
import { createdAtOf, type InvalidReason, parseEvent, roughTimeOf } from '../nostr/event.ts';
import { EventText, hashEvent, identify, type ReceivedEvent } from '../nostr/event-text.ts';
import { matchesFilter } from '../nostr/filter.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { BatchWriter } from './batch-writer.ts';
import { OffenceTally } from './offence-tally.ts';
import { TimeSlice } from './time-slice.ts';
import type { RelaySession, Tally, VisitContext } from './visit-context.ts';

const NOT_KEPT = 'quarantine_full';
/** Forged and malformed events allowed in one visit, plus one for each valid event. */
const MAX_BROKEN_EVENTS = 20_000;
/** An event that cannot be used: broken, shown before, or not asked for. */
const JUNK = 'junk';
/** Checking an invalid signature costs as much time as reading this many bytes. */
const BYTES_A_SIGNATURE = 1500;
/** A tally that accepts every event. */
export const EVERY_EVENT: Tally = { add: () => true };

/** What is needed of a visit to archive its events. */
interface ReceivingVisit {
  readonly relay: Relay;
  readonly context: VisitContext;
  readonly session: Pick<RelaySession, 'connection'>;
}

/** The events of a visit on their way from the connection to the archive, and what is counted of them. */
export class EventIntake {
  /** Of the filter that the visit reads with now. */
  writer: BatchWriter;
  stored: Stored = { events: 0, sightings: 0, quarantined: 0 };
  /** What was refused in this visit, by reason. */
  readonly invalid = new Map<string, number>();
  /** The same since the latest batch, for the archive. */
  readonly #offences = new OffenceTally();
  readonly #visit: ReceivingVisit;
  #unnamed = 0;
  /** Id and signature of each event of this answer. */
  #copies = new Set<string>();
  #good = 0;
  #broken = 0;
  #hasLoggedRefused = false;
  #unreported: Record<string, number> = {};

  constructor(visit: ReceivingVisit) {
    this.#visit = visit;
    this.writer = this.#newWriter();
  }

  /** Writes for another filter from now on; what the writer before was given has to be stored. */
  renewWriter(): void {
    this.writer = this.#newWriter();
  }

  #newWriter(): BatchWriter {
    const { context, relay } = this.#visit;
    return new BatchWriter({
      bigbrotr: context.bigbrotr,
      verifier: context.verifier,
      recent: context.recent,
      relay,
      filterId: context.filterId,
      batchSize: context.batchSize,
      offences: this.#offences,
      onStored: (stored) => this.#count(stored),
      onInvalid: (reason, id) => {
        this.#good -= 1; // it seemed so before it was parsed and its signature checked
        this.#visit.session.connection.chargeJunk(BYTES_A_SIGNATURE);
        this.#countBroken(reason, id);
      },
      now: context.now,
    });
  }

  /** Begins another answer: it may show again what one before has shown. */
  beginAnswer(): void {
    this.#copies.clear();
  }

  /** Events that were malformed or forged. */
  get broken(): number {
    return this.#broken;
  }

  /** Events that were whole and asked for, repeats of other answers among them. */
  get good(): number {
    return this.#good;
  }

  /** Whether the relay has sent more forged and malformed events than one visit accepts. */
  get isFlooded(): boolean {
    return this.#broken > MAX_BROKEN_EVENTS + this.#good;
  }

  countInvalid(reason: OffenceReason, times = 1, id: string | null = null): void {
    this.#offences.note(reason, times, id);
    this.invalid.set(reason, (this.invalid.get(reason) ?? 0) + times);
    this.#unreported[reason] = (this.#unreported[reason] ?? 0) + times;
  }

  #countBroken(reason: OffenceReason, id: string | null): void {
    this.#broken += 1;
    this.countInvalid(reason, 1, id);
  }

  /** Reports what was refused since the last batch was stored. */
  reportInvalid(): void {
    if (Object.keys(this.#unreported).length === 0) return;
    this.#visit.context.onProgress({
      events: 0,
      sightings: 0,
      quarantined: 0,
      invalid: this.#takeInvalid(),
    });
  }

  #takeInvalid(): Record<string, number> {
    const unreported = this.#unreported;
    this.#unreported = {};
    return unreported;
  }

  /** Notes events that an answer has shown more than once. */
  noteRepeats(times: number): void {
    this.#offences.note('repeat', times);
  }

  /** Notes an event that came after the EOSE of its answer; it is archived all the same. */
  noteLate(): void {
    this.#offences.note('after_eose', 1);
  }

  /** Archives events that came beside an answer. @throws DatabaseError */
  async archive(values: readonly unknown[]): Promise<void> {
    if (values.length > 0) await this.receive(values, [], EVERY_EVENT);
  }

  /**
   * Processes received events in slices, and charges the bytes of junk to the connection, but no other bytes. Events that
   * need no waiting are not awaited: an await for each would cost more than the processing. @throws DatabaseError
   */
  async receive(values: readonly unknown[], sizes: readonly number[], tally: Tally): Promise<void> {
    const goodBefore = this.#good;
    const slice = new TimeSlice();
    let usable = 0;
    let usableBytes = 0;
    let junkBytes = 0;
    for (const [index, value] of values.entries()) {
      const full = this.#take(value, tally);
      if (full === JUNK) junkBytes += sizes[index] ?? 0;
      else {
        usable += 1;
        usableBytes += sizes[index] ?? 0;
        if (full !== undefined) await full;
      }
      if (slice.isOver) await slice.pause();
    }
    // Signatures are checked later, many at once: of those that did not hold the size is not known one by one.
    const forged = usable - Math.max(0, this.#good - goodBefore);
    if (forged > 0) junkBytes += (usableBytes * forged) / usable;
    if (junkBytes > 0) this.#visit.session.connection.chargeJunk(junkBytes);
  }

  /**
   * Counts every well-formed event as progress, and writes those that are valid and were asked for.
   * @returns a promise only under back-pressure. @throws DatabaseError
   */
  #take(value: unknown, tally: Tally): Promise<void> | undefined | typeof JUNK {
    const parsed = received(value);
    if (!parsed.ok) {
      const id = this.#claimedId(value);
      this.#countBroken(parsed.reason, id);
      const createdAt = createdAtOf(value) ?? roughTimeOf(value);
      if (createdAt !== null) tally.add(id, createdAt);
      else tally.addUnreadable?.(1);
      return JUNK;
    }
    const { event } = parsed;
    const isNew = tally.add(event.id, event.created_at, event);
    // What only claims to be this event must not keep it out: it may have another signature, or be broken.
    const copy = event.id + event.sig;
    if (!isNew && this.#copies.has(copy)) return JUNK;
    this.#copies.add(copy);
    if (!matchesFilter(event, this.#visit.context.filter)) {
      this.countInvalid('filter_mismatch', 1, event.id);
      return JUNK;
    }
    this.#good += 1;
    crashPoint('after-receive', this.#visit.relay.url);
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
    this.#visit.context.onProgress({ ...stored, invalid: this.#takeInvalid() });
    this.stored = {
      events: this.stored.events + stored.events,
      sightings: this.stored.sightings + stored.sightings,
      quarantined: this.stored.quarantined + stored.quarantined,
    };
  }

  #noteRefused({ count }: Refused): void {
    this.countInvalid(NOT_KEPT, count);
    if (this.#hasLoggedRefused) return;
    this.#hasLoggedRefused = true;
    this.#visit.context.log.warn(
      { relay: this.#visit.relay.url, reason: NOT_KEPT },
      'the quarantine of this relay is full: further events that PostgreSQL cannot hold are not kept',
    );
  }
}

/** An event whose id is a hash of it, or why it is refused. One that is text stays text where that hashes to its id. */
function received(
  value: unknown,
): { ok: true; event: ReceivedEvent } | { ok: false; reason: InvalidReason } {
  if (!(value instanceof EventText)) return parseEvent(value);
  const event = hashEvent(value);
  return event === null ? identify(value) : { ok: true, event };
}
