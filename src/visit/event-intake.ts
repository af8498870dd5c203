import type { OffenceReason, Refused, Stored } from '../bigbrotr.ts';
import { crashPoint } from '../crash-point.ts';
import { createdAtOf, parseEvent } from '../nostr/event.ts';
import { matchesFilter } from '../nostr/filter.ts';
import { BatchWriter } from './batch-writer.ts';
import { OffenceTally } from './offence-tally.ts';
import { TimeSlice } from './time-slice.ts';
import type { Visit } from './visit.ts';
import type { Tally } from './visit-context.ts';

const NOT_KEPT = 'quarantine_full';
/** A visit puts up with so many forged and broken events, and one more for each good one. */
const MAX_BROKEN_EVENTS = 20_000;
/** What nobody can use: broken, shown before, or not asked for. */
const USELESS = 'useless';
/** A signature that does not hold has cost as much time to check as so many bytes to read. */
const BYTES_A_SIGNATURE = 1500;
/** Takes note of nothing: every event goes on. */
export const EVERY_EVENT: Tally = { add: () => true };

/** The events of a visit on their way from the connection to the archive, and what is counted of them. */
export class EventIntake {
  /** Of the filter that the visit reads with now. */
  writer: BatchWriter;
  stored: Stored = { events: 0, sightings: 0, quarantined: 0 };
  /** What was refused in this visit, by reason. */
  readonly invalid = new Map<string, number>();
  /** The same since the latest batch, for the archive. */
  readonly #offences = new OffenceTally();
  readonly #visit: Pick<Visit, 'relay' | 'context' | 'session'>;
  #unnamed = 0;
  /** Id and signature of each event of this answer. */
  #copies = new Set<string>();
  #good = 0;
  #broken = 0;
  #hasToldRefused = false;
  #untold: Record<string, number> = {};

  constructor(visit: Pick<Visit, 'relay' | 'context' | 'session'>) {
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
      relay,
      filterId: context.filterId,
      batchSize: context.batchSize,
      offences: this.#offences,
      onStored: (stored) => this.#count(stored),
      onInvalid: (reason, id) => {
        this.#good -= 1; // it seemed so before its signature was checked
        this.#visit.session.connection.noteUseless(BYTES_A_SIGNATURE);
        this.#countBroken(reason, id);
      },
      now: context.now,
    });
  }

  /** Begins another answer: it may show again what one before has shown. */
  beginAnswer(): void {
    this.#copies.clear();
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
    this.#visit.context.onProgress({
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
   * Looks at what has arrived, in slices; the bytes of what is of no use go to the account of the relay, and nothing
   * else that came over its connection. An await for each event would cost more than most of what is done with it.
   */
  async receive(values: readonly unknown[], sizes: readonly number[], tally: Tally): Promise<void> {
    const goodBefore = this.#good;
    const slice = new TimeSlice();
    let usable = 0;
    let usableBytes = 0;
    let uselessBytes = 0;
    for (const [index, value] of values.entries()) {
      const full = this.#take(value, tally);
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
    if (uselessBytes > 0) this.#visit.session.connection.noteUseless(uselessBytes);
  }

  /**
   * Every well-formed event counts for progress; only what is whole and was asked for goes on.
   * @returns what has to be waited for before the next, where that is anything. @throws DatabaseError
   */
  #take(value: unknown, tally: Tally): Promise<void> | undefined | typeof USELESS {
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
    if (!matchesFilter(event, this.#visit.context.filter)) {
      this.countInvalid('filter_mismatch', 1, event.id);
      return USELESS;
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
    if (this.#hasToldRefused) return;
    this.#hasToldRefused = true;
    this.#visit.context.log.warn(
      { relay: this.#visit.relay.url, reason: NOT_KEPT },
      'the quarantine of this relay is full: further events that PostgreSQL cannot hold are not kept',
    );
  }
}
