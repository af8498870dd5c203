import type { Evidence, Refused, Stored } from '../database/bigbrotr.ts';
import { ClaimLost } from '../database/claims.ts';
import { EventText, type ReceivedEvent } from '../nostr/event-text.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import { BatchPreparation, type PreparationOptions } from './batch-preparation.ts';
import type { OffenceTally } from './offence-tally.ts';
import type { Verdict } from './paging/pager.ts';
import { boundsOf } from './windows.ts';

/** What a page or a reconciliation proved. */
export interface Proof extends Omit<Verdict, 'evidence'> {
  readonly evidence: Evidence;
}

export interface BatchWriterOptions extends PreparationOptions {
  readonly filterId: number;
  readonly batchSize: number;
  /** What was refused and is not stored yet: it goes with the next batch, the last of it with `flush`. */
  readonly offences: OffenceTally;
  readonly onStored: (stored: Stored) => void;
  readonly now: () => number;
}

/** A batch is also full at this many characters of content and tags, whatever its number of events. */
const MAX_BATCH_CHARS = 2 * 1024 * 1024;
/** Batches in flight: one is stored, one verified, one waits. More would only take memory. */
const MAX_IN_FLIGHT = 3;
/** Maximum characters of the batches in flight of one relay. */
const MAX_CHARS_IN_FLIGHT = 2 * MAX_BATCH_CHARS;
/** Stretches with refused events that are kept apart; with more they become one. */
const MAX_REFUSED_STRETCHES = 100;

const NOTHING_PROVEN: Proof = { proven: [], holes: [], evidence: 'paging' };

/**
 * Writes the events of one visit: batch → look up which are archived → verify the others → store. Batches are stored in
 * order, and what a page proves is stored with its last batch, so that coverage never runs ahead of its events. A failed
 * batch fails all that follow; after a lost claim they are still stored, and prove nothing.
 */
export class BatchWriter {
  readonly #options: BatchWriterOptions;
  #events: ReceivedEvent[] = [];
  #chars = 0;
  /** Keys by id. */
  #sighted = new Map<string, string>();
  /** What batches before could not keep: a later page may prove the time in which it lies. */
  #refused: Refused[] = [];
  #inFlight: { readonly stored: Promise<void>; readonly chars: number }[] = [];
  #lastStored: Promise<void> = Promise.resolve();
  /** The latest batch has its number. */
  #lastNumbered: Promise<void> = Promise.resolve();
  /** Numbers of batches in flight. */
  readonly #numbers = new Set<number>();
  /** Whether another process holds the claim on the relay now. */
  #claimLost = false;

  constructor(options: BatchWriterOptions) {
    this.#options = options;
  }

  /**
   * Takes one event. Returns a promise only under back-pressure: most events need no turn of the event loop. A batch that
   * is full by number is submitted with the event after it, so that a page that fills one is stored together with what
   * it proves. @throws DatabaseError of an earlier batch, ClaimLost
   */
  add(event: ReceivedEvent): Promise<void> | undefined {
    if (this.#events.length < this.#options.batchSize) return this.#take(event);
    return this.#submit(NOTHING_PROVEN).then(() => this.#take(event));
  }

  #take(event: ReceivedEvent): Promise<void> | undefined {
    this.#events.push(event);
    this.#chars += charsOf(event);
    return this.#chars >= MAX_BATCH_CHARS ? this.#submit(NOTHING_PROVEN) : undefined;
  }

  /** Takes id and key of an event that the archive holds and the relay says it holds. @throws DatabaseError */
  async addSighted(id: string, key: string): Promise<void> {
    this.#sighted.set(id, key);
    if (this.#sighted.size >= this.#options.batchSize) await this.#submit(NOTHING_PROVEN);
  }

  /** Ends a page: what waits is stored together with what the page proved. @throws DatabaseError */
  async endPage(verdict: Proof): Promise<void> {
    if (this.#isWaiting || verdict.proven.length > 0 || verdict.holes.length > 0) {
      await this.#submit(verdict);
    }
  }

  /** Waits until everything given is stored. @throws DatabaseError */
  async flush(): Promise<void> {
    if (this.#isWaiting) await this.#submit(NOTHING_PROVEN);
    await this.#lastStored;
    if (this.#options.offences.isEmpty) return;
    await this.#submit(NOTHING_PROVEN);
    await this.#lastStored;
  }

  /** Stores what was given when the claim on the relay is lost: events stay valid, whichever process stores them. @throws DatabaseError */
  async storeRest(): Promise<void> {
    await this.flush().catch(unlessClaimLost);
    await this.flush().catch(unlessClaimLost); // what waited while an earlier batch told of the loss
  }

  get #isWaiting(): boolean {
    return this.#events.length + this.#sighted.size > 0;
  }

  get #isCrowded(): boolean {
    const chars = this.#inFlight.reduce((sum, batch) => sum + batch.chars, 0);
    return this.#inFlight.length >= MAX_IN_FLIGHT || chars > MAX_CHARS_IN_FLIGHT;
  }

  async #submit(verdict: Proof): Promise<void> {
    const events = this.#events;
    const sighted = this.#sighted;
    const chars = this.#chars;
    this.#events = [];
    this.#chars = 0;
    this.#sighted = new Map();
    const batch = new BatchPreparation(this.#options, this.#numbers);
    const prepared = this.#prepare(batch, events);
    const previous = this.#lastStored;
    const stored = (async () => {
      try {
        await Promise.all([prepared, previous.catch(unlessClaimLost)]);
        await this.#store(batch, sighted, this.#claimLost ? NOTHING_PROVEN : verdict);
      } finally {
        batch.end();
      }
    })();
    stored.catch(() => {}); // reported by the next wait
    this.#lastStored = stored;
    this.#inFlight.push({ stored, chars });
    while (this.#isCrowded) await this.#inFlight.shift()?.stored;
  }

  /** Batches get their numbers in the order in which they were submitted. */
  async #prepare(batch: BatchPreparation, events: ReceivedEvent[]): Promise<void> {
    const turn = this.#lastNumbered;
    let onNumbered: () => void = () => {};
    this.#lastNumbered = new Promise((resolve) => {
      onNumbered = resolve;
    });
    try {
      if (events.length > 0) await batch.prepare(events, turn, onNumbered);
    } finally {
      void turn.then(onNumbered);
    }
  }

  async #store(
    batch: BatchPreparation,
    sighted: ReadonlyMap<string, string>,
    verdict: Proof,
  ): Promise<void> {
    const { bigbrotr, relay, filterId, offences, now } = this.#options;
    batch.takeStored();
    const { keys, isStale, ...stored } = await bigbrotr.store({
      relay,
      filterId,
      seenAt: now(),
      events: batch.events,
      known: batch.known,
      keys: new Map([...sighted, ...batch.keys]),
      sighted: [...sighted.keys()],
      proven: verdict.proven,
      holes: verdict.holes,
      evidence: verdict.evidence,
      refused: this.#refused,
      offences: offences.take(),
    });
    batch.end(keys);
    if (isStale) batch.forgetKeys();
    crashPoint('after-commit', relay.url);
    if (stored.refused) this.#refused.push(stored.refused);
    if (this.#refused.length > MAX_REFUSED_STRETCHES) this.#refused = asOne(this.#refused);
    this.#options.onStored(stored);
    this.#claimLost ||= stored.claimLost === true;
    if (this.#claimLost) throw new ClaimLost('visit', relay.relayId);
    if (verdict.proven.length > 0) crashPoint('after-coverage', relay.url);
  }
}

/** @throws any error but ClaimLost */
function unlessClaimLost(error: unknown): void {
  if (!(error instanceof ClaimLost)) throw error;
}

/** The stretch from the first to the last of these, with the counts of all. */
function asOne(stretches: readonly Refused[]): Refused[] {
  const bounds = boundsOf(stretches);
  return bounds ? [{ ...bounds, count: stretches.reduce((sum, { count }) => sum + count, 0) }] : [];
}

/** Characters of content and tags. */
function charsOf(event: ReceivedEvent): number {
  if (event instanceof EventText) return event.contentText.length + event.tagsText.length;
  let chars = event.content.length;
  for (const tag of event.tags) for (const value of tag) chars += value.length + 4;
  return chars;
}
