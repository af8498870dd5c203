import { createdAtOf, parseEvent } from '../../nostr/event.ts';
import { isTransient } from '../../nostr/transient.ts';
import { LateEvents } from '../../relay-client/late-events.ts';
import type { PageEnd } from '../../relay-client/subscription.ts';
import type { EventIntake } from '../event-intake.ts';
import type { RelaySession, VisitContext } from '../visit-context.ts';
import type { PageTally } from './tally.ts';

/** An event younger than this, in seconds, may be new at the relay, which should send it at once. */
export const FRESH_SECONDS = 300;
/** Tolerated number of older late events per page: a relay may receive these between its EOSE and our CLOSE. */
const MAX_LATE_A_PAGE = 2;
/** Tolerated number in all, and per event before EOSE. */
const MAX_LATE = 10;
const MAX_LATE_SHARE = 0.02;
/** Part of the wait for late events that is left of it for a relay that fills its pages before their EOSE. */
const PUNCTUAL_SHARE = 0.2;

/** Counts events that come after the EOSE of their page, and decides when they are too many to be new arrivals. */
export class LateTally {
  readonly #ofSubscription = new Map<string, number>();
  #isFault = false;
  #late = 0;
  #inTime = 0;
  /** The largest page that was requested, and the largest that was filled before its EOSE. */
  #largestLimit = 0;
  #largestFilled = 0;

  /** Whether EOSE of the relay is not believed. */
  get isFault(): boolean {
    return this.#isFault || this.#late > MAX_LATE + MAX_LATE_SHARE * this.#inTime;
  }

  /**
   * The share of the usual wait for late events after which none are expected. A relay that ends answers before its store
   * has answered does not fill a page with as many events as were requested.
   */
  get shareOfWait(): number {
    return this.#largestFilled > 0 && this.#largestFilled >= this.#largestLimit
      ? PUNCTUAL_SHARE
      : 1;
  }

  /** Counts the events that a page showed before its EOSE. */
  noteInTime({ inside, limit, reachesLimit }: PageTally): void {
    this.#inTime += inside;
    this.#largestLimit = Math.max(this.#largestLimit, limit);
    if (reachesLimit) this.#largestFilled = Math.max(this.#largestFilled, limit);
  }

  /** Counts one event after an EOSE; `shown` is the number before it. */
  noteLate(subscription: string, shown: number): void {
    const count = (this.#ofSubscription.get(subscription) ?? 0) + 1;
    this.#ofSubscription.set(subscription, count);
    this.#late += 1;
    this.#isFault ||= shown === 0 || count > MAX_LATE_A_PAGE;
  }
}

/** The parts of a visit that archive its late events. */
interface LateVisit {
  readonly context: Pick<VisitContext, 'now'>;
  readonly session: Pick<RelaySession, 'connection'>;
  readonly intake: Pick<EventIntake, 'archive' | 'noteLate'>;
}

/**
 * Events that come after the EOSE of their page. They are archived like any other. `LateTally` decides whether they show
 * that an EOSE of this relay does not mean the end of the stored events.
 */
export class LateFault {
  readonly #visit: LateVisit;
  readonly #tally = new LateTally();

  constructor(visit: LateVisit) {
    this.#visit = visit;
  }

  /** See `LateTally.shareOfWait`. */
  get shareOfWait(): number {
    return this.#tally.shareOfWait;
  }

  /** Processes late events after a page. @returns whether EOSE is not believed. @throws DatabaseError */
  async check(page: PageTally, end: PageEnd): Promise<boolean> {
    this.#tally.noteInTime(page);
    const hasFault = await this.takeLate();
    const oldest = this.#visit.context.now() - FRESH_SECONDS;
    const isLingered = 'late' in end && (end.late ?? 0) > 0;
    const oldestLasting = page.oldestLasting ?? Number.POSITIVE_INFINITY;
    return hasFault || (isLingered && oldestLasting <= oldest);
  }

  /** Processes late events at any time. @returns whether EOSE is not believed. @throws DatabaseError */
  async takeLate(): Promise<boolean> {
    const late = LateEvents.of(this.#visit.session.connection).take();
    await this.#visit.intake.archive(late.map(({ event }) => event));
    for (const { event, subscription, shown, receivedAt } of late) {
      const createdAt = createdAtOf(event);
      if (createdAt === null || createdAt > receivedAt - FRESH_SECONDS) continue;
      if (isPassedOn(event, receivedAt)) continue;
      this.#tally.noteLate(subscription, shown);
      this.#visit.intake.noteLate();
    }
    return this.#tally.isFault;
  }
}

/** Whether a relay may have passed this event on when it was published, without storing it. */
function isPassedOn(event: unknown, now: number): boolean {
  const parsed = parseEvent(event);
  return parsed.ok && isTransient(parsed.event, now);
}
