import type { Batch, Bigbrotr, Evidence, Refused, Relay, Stored } from '../bigbrotr.ts';
import { crashPoint } from '../crash-point.ts';
import type { IdentifiedEvent } from '../nostr/event.ts';
import { matchesArchived, type VerifiedEvent, type Verifier } from '../nostr/verify.ts';
import type { Verdict } from '../relay/paging.ts';
import type { OffenceTally } from './offence-tally.ts';
import { TimeSlice } from './time-slice.ts';

/** What a page or a reconciliation proved. */
export interface Proof extends Omit<Verdict, 'evidence'> {
  readonly evidence: Evidence;
}

export interface BatchWriterOptions {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  readonly relay: Relay;
  readonly filterId: number;
  readonly batchSize: number;
  /** What was refused and is not stored yet: it goes with the next batch, the last of it with `flush`. */
  readonly offences: OffenceTally;
  readonly onStored: (stored: Stored) => void;
  readonly onInvalid: (reason: 'bad_signature', id: string) => void;
  readonly now: () => number;
}

/** A batch is also full at this many characters of content and tags, whatever its number of events. */
const MAX_BATCH_CHARS = 2 * 1024 * 1024;
/** Batches on their way to the database: one is stored, one verified, one waits. More would only hold memory. */
const MAX_IN_FLIGHT = 3;
/** And so many characters: each is held several times on its way to the disk, for each relay of a worker. */
const MAX_CHARS_IN_FLIGHT = 2 * MAX_BATCH_CHARS;
/** Stretches with refused events that are kept apart; with more they become one. */
const MAX_REFUSED_STRETCHES = 100;

type Prepared = Pick<Batch, 'events' | 'known' | 'keys'>;

const NOTHING_PROVEN: Proof = { proven: [], holes: [], evidence: 'paging' };

/**
 * The way of one visit's events into the archive: batch → which are known → verify the others → store.
 * Batches are stored in the order in which they were given, and what a page proves goes with its last batch:
 * so coverage never runs ahead of the events that it rests on. A failed batch fails all that follow.
 */
export class BatchWriter {
  readonly #options: BatchWriterOptions;
  #events: IdentifiedEvent[] = [];
  #chars = 0;
  #sighted: string[] = [];
  /** What batches before could not keep: a later page may prove the time in which it lies. */
  #refused: Refused[] = [];
  #inFlight: { readonly stored: Promise<void>; readonly chars: number }[] = [];
  #lastStored: Promise<void> = Promise.resolve();

  constructor(options: BatchWriterOptions) {
    this.#options = options;
  }

  /**
   * Takes one event. Gives a promise only where the caller has to wait, since too much is on its way: most events need
   * no turn of the event loop. A batch that is full by number goes with the event after it, so that a page that fills
   * one is stored together with what it proves. @throws DatabaseError of a batch given earlier
   */
  add(event: IdentifiedEvent): Promise<void> | undefined {
    if (this.#events.length < this.#options.batchSize) return this.#take(event);
    return this.#submit(NOTHING_PROVEN).then(() => this.#take(event));
  }

  #take(event: IdentifiedEvent): Promise<void> | undefined {
    this.#events.push(event);
    this.#chars += event.content.length + charsOfTags(event);
    return this.#chars >= MAX_BATCH_CHARS ? this.#submit(NOTHING_PROVEN) : undefined;
  }

  /** Takes the id of an event that the archive holds and the relay says it holds. @throws DatabaseError */
  async addSighted(id: string): Promise<void> {
    this.#sighted.push(id);
    if (this.#sighted.length >= this.#options.batchSize) await this.#submit(NOTHING_PROVEN);
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

  get #isWaiting(): boolean {
    return this.#events.length + this.#sighted.length > 0;
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
    this.#sighted = [];
    const prepared = this.#prepare(events);
    const previous = this.#lastStored;
    const stored = (async () => {
      const [batch] = await Promise.all([prepared, previous]);
      await this.#store({ ...batch, sighted }, verdict);
    })();
    stored.catch(() => {}); // reported by whoever waits next
    this.#lastStored = stored;
    this.#inFlight.push({ stored, chars });
    while (this.#isCrowded) await this.#inFlight.shift()?.stored;
  }

  async #prepare(received: IdentifiedEvent[]): Promise<Prepared> {
    const unique = withoutRepeats(received);
    const archived = await this.#options.bigbrotr.archivedEvents(unique);
    crashPoint('after-known', this.#options.relay.url);
    const known: VerifiedEvent[] = [];
    const keys = new Map<string, string>();
    const events: VerifiedEvent[] = [];
    const accepted = new Set<string>();
    const slice = new TimeSlice();
    for (const event of unique) {
      if (accepted.has(event.id)) continue;
      const held = archived.get(event.id);
      const same = held === undefined ? null : matchesArchived(event, held.sig);
      const verified = same ?? this.#options.verifier.verify(event);
      if (verified) accepted.add(event.id);
      if (!verified) this.#options.onInvalid('bad_signature', event.id);
      else if (held === undefined) events.push(verified);
      else {
        known.push(verified);
        keys.set(event.id, held.key);
      }
      if (slice.isOver) await slice.pause();
    }
    crashPoint('after-verify', this.#options.relay.url);
    return { events, known, keys };
  }

  async #store(batch: Prepared & Pick<Batch, 'sighted'>, verdict: Proof): Promise<void> {
    const { bigbrotr, relay, filterId, offences, now } = this.#options;
    const stored = await bigbrotr.store({
      relay,
      filterId,
      seenAt: now(),
      ...batch,
      proven: verdict.proven,
      holes: verdict.holes,
      evidence: verdict.evidence,
      refused: this.#refused,
      offences: offences.take(),
    });
    crashPoint('after-commit', relay.url);
    if (stored.refused) this.#refused.push(stored.refused);
    if (this.#refused.length > MAX_REFUSED_STRETCHES) this.#refused = [hullOf(this.#refused)];
    this.#options.onStored(stored);
    if (verdict.proven.length > 0) crashPoint('after-coverage', relay.url);
  }
}

function hullOf(stretches: readonly Refused[]): Refused {
  return {
    since: Math.min(...stretches.map(({ since }) => since)),
    until: Math.max(...stretches.map(({ until }) => until)),
    count: stretches.reduce((sum, { count }) => sum + count, 0),
  };
}

function charsOfTags(event: IdentifiedEvent): number {
  let chars = 0;
  for (const tag of event.tags) for (const value of tag) chars += value.length + 4;
  return chars;
}

/** An id may come under two signatures: a forged copy must not take the place of the good one. */
function withoutRepeats(events: readonly IdentifiedEvent[]): IdentifiedEvent[] {
  const first = new Map<string, string>();
  return events.filter(({ id, sig }) => {
    const known = first.get(id);
    if (known === undefined) first.set(id, sig);
    return known !== sig;
  });
}
