import type { Archived, Bigbrotr, Relay } from '../database/bigbrotr.ts';
import type { IdentifiedEvent, InvalidReason } from '../nostr/event.ts';
import { EventText, identify, type ReceivedEvent } from '../nostr/event-text.ts';
import {
  matchesArchived,
  matchesVerified,
  type VerifiedEvent,
  type Verifier,
} from '../nostr/verify.ts';
import { crashPoint } from '../telemetry/crash-point.ts';
import type { RecentEvents } from './recent-events.ts';
import { TimeSlice } from './time-slice.ts';

export interface PreparationOptions {
  readonly bigbrotr: Bigbrotr;
  readonly verifier: Verifier;
  readonly recent: RecentEvents;
  readonly relay: Relay;
  readonly onInvalid: (reason: InvalidReason, id: string) => void;
  /** Longest wait for batches of other visits with the same events, in milliseconds; default 5000. */
  readonly sharedWaitMs?: number;
}

/** A batch of another visit takes a second at most, unless the database fails. */
const SHARED_WAIT_MS = 5000;
const NONE_ARCHIVED: ReadonlyMap<string, Archived> = new Map();

/**
 * The events of one batch before they are stored: those that the archive holds are looked up, the others verified. An event
 * that a batch of another visit is about to store is waited for: then it is known, and needs neither.
 *
 * Batches are numbered when they first claim events, those of one writer in their order, and a batch waits only for lower
 * numbers: so two never wait for each other. A wait has an end, since the thread of the other batch may have died.
 */
export class BatchPreparation {
  /** New events. */
  readonly events: VerifiedEvent[] = [];
  /** Events that the archive holds. */
  readonly known: VerifiedEvent[] = [];
  /** Keys of known events, by id. */
  readonly keys = new Map<string, string>();
  readonly #options: PreparationOptions;
  /** Numbers of batches of the same writer that have not ended. */
  readonly #siblings: Set<number>;
  readonly #accepted = new Set<string>();
  readonly #claimed: IdentifiedEvent[] = [];
  /** 0 before it has claimed. */
  #number = 0;
  #hasEnded = false;

  constructor(options: PreparationOptions, siblings: Set<number>) {
    this.#options = options;
    this.#siblings = siblings;
  }

  /**
   * Looks up and verifies.
   * @param turn the batch before has its number
   * @param onNumbered called when this batch has its number
   * @throws DatabaseError
   */
  async prepare(
    received: readonly ReceivedEvent[],
    turn: Promise<void>,
    onNumbered: () => void,
  ): Promise<void> {
    const { recent, relay, sharedWaitMs = SHARED_WAIT_MS } = this.#options;
    const end = performance.now() + sharedWaitMs;
    let rest: readonly ReceivedEvent[] = withoutRepeats(received);
    do {
      const waits = performance.now() < end;
      const { asked, later } = this.#recall(rest, waits);
      const archived = await this.#archived(asked);
      const unknown = await this.#identify(this.#takeKnown(asked, archived));
      if (this.#number === 0) {
        crashPoint('after-known', relay.url);
        await turn;
        this.#number = recent.nextBatch();
        this.#siblings.add(this.#number);
        onNumbered();
      }
      if (this.#hasEnded) return; // the batch before it has failed
      const mine = this.#claim(unknown, archived, waits, later);
      await this.#verify(mine, archived);
      await this.#settled(later, end);
      rest = later;
    } while (rest.length > 0);
    crashPoint('after-verify', relay.url);
  }

  /** Notes as known what another batch, of the same writer mostly, has stored since this one was prepared. */
  takeStored(): void {
    const { recent } = this.#options;
    const events = this.events.splice(0);
    for (const event of events) {
      const { key } = recent.find(event);
      if (key === null) this.events.push(event);
      else this.#noteKnown(event, key);
    }
  }

  /**
   * Lets others have the events: as archived those whose key is given, else to be stored by them. Whether the batch was
   * stored or not; a second call does nothing.
   */
  end(keys: ReadonlyMap<string, string> = new Map()): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    const { recent } = this.#options;
    for (const event of this.events) {
      const key = keys.get(event.id);
      if (key !== undefined) recent.noteArchived(event, key);
    }
    for (const event of this.#claimed) if (!keys.has(event.id)) recent.release(event, this.#number);
    this.#siblings.delete(this.#number);
    recent.noteEnded();
  }

  /** Forgets the keys of known events: some were deleted. */
  forgetKeys(): void {
    for (const event of this.known) this.#options.recent.forgetKey(event);
  }

  /** Takes what is known without a look-up; the others are asked for now, or later when another batch has stored them. */
  #recall(events: readonly ReceivedEvent[], waits: boolean) {
    const asked: ReceivedEvent[] = [];
    const later: ReceivedEvent[] = [];
    for (const event of events) {
      const seen = this.#options.recent.find(event);
      const verified = matchesVerified(event, seen.isVerified);
      if (verified && seen.key !== null) this.#noteKnown(verified, seen.key);
      else (waits && this.#isAwaited(seen.owner) ? later : asked).push(event);
    }
    return { asked, later };
  }

  #archived(events: readonly ReceivedEvent[]): Promise<ReadonlyMap<string, Archived>> {
    if (events.length === 0) return Promise.resolve(NONE_ARCHIVED);
    return this.#options.bigbrotr.archivedEvents(events);
  }

  /** Takes those that the archive holds with the same signature. @returns the others */
  #takeKnown(
    events: readonly ReceivedEvent[],
    archived: ReadonlyMap<string, Archived>,
  ): ReceivedEvent[] {
    return events.filter((event) => {
      const held = archived.get(event.id);
      const known = held === undefined ? null : matchesArchived(event, held.sig);
      if (held === undefined || known === null) return true;
      this.#options.recent.noteArchived(known, held.key);
      this.#noteKnown(known, held.key);
      return false;
    });
  }

  /** Parses events that are text. Those whose id is not that of NIP-01 are refused. */
  async #identify(events: readonly ReceivedEvent[]): Promise<IdentifiedEvent[]> {
    const identified: IdentifiedEvent[] = [];
    const slice = new TimeSlice();
    for (const event of events) {
      if (!(event instanceof EventText)) identified.push(event);
      else {
        const parsed = identify(event);
        if (parsed.ok) identified.push(parsed.event);
        else this.#options.onInvalid(parsed.reason, event.id);
      }
      if (slice.isOver) await slice.pause();
    }
    return identified;
  }

  /** Claims those that the archive does not hold, at once, so that nobody verifies the same meanwhile. @returns what is to be verified */
  #claim(
    events: readonly IdentifiedEvent[],
    archived: ReadonlyMap<string, Archived>,
    waits: boolean,
    later: ReceivedEvent[],
  ): IdentifiedEvent[] {
    return events.filter((event) => {
      if (archived.has(event.id)) return true;
      const owner = this.#options.recent.claim(event, this.#number, !waits);
      if (waits && this.#isAwaited(owner)) {
        later.push(event);
        return false;
      }
      if (owner === this.#number) this.#claimed.push(event);
      return true;
    });
  }

  async #verify(
    events: readonly IdentifiedEvent[],
    archived: ReadonlyMap<string, Archived>,
  ): Promise<void> {
    const { verifier, recent, onInvalid } = this.#options;
    const slice = new TimeSlice();
    for (const event of events) {
      const held = archived.get(event.id);
      const verified =
        matchesVerified(event, recent.find(event).isVerified) ?? verifier.verify(event);
      if (!verified) onInvalid('bad_signature', event.id);
      else if (this.#accepted.has(event.id))
        continue; // another signature of it that is valid too
      else if (held === undefined) {
        this.#accepted.add(event.id);
        this.events.push(verified);
        recent.noteVerified(verified);
      } else {
        recent.noteArchived(verified, held.key);
        this.#noteKnown(verified, held.key);
      }
      if (slice.isOver) await slice.pause();
    }
  }

  #noteKnown(event: VerifiedEvent, key: string): void {
    this.#accepted.add(event.id);
    this.known.push(event);
    this.keys.set(event.id, key);
  }

  /** Whether an event with this owner is waited for. */
  #isAwaited(owner: number): boolean {
    if (owner === 0 || this.#siblings.has(owner)) return false;
    return this.#number === 0 || owner < this.#number;
  }

  /** Waits until the last of these events has no owner that is waited for. */
  async #settled(events: readonly ReceivedEvent[], end: number): Promise<void> {
    const { recent } = this.#options;
    const last = events.at(-1);
    if (last === undefined) return;
    while (performance.now() < end && this.#isAwaited(recent.find(last).owner))
      await recent.change();
  }
}

/** Keeps one id with two signatures twice: a forged copy must not replace the valid one. */
function withoutRepeats(events: readonly ReceivedEvent[]): ReceivedEvent[] {
  const first = new Map<string, string>();
  return events.filter(({ id, sig }) => {
    const known = first.get(id);
    if (known === undefined) first.set(id, sig);
    return known !== sig;
  });
}
