import { createdAtOf } from '../nostr/event.ts';
import { LateEvents } from '../relay/late-events.ts';
import type { PageTally } from '../relay/page-tally.ts';
import type { PageEnd } from '../relay/subscription.ts';
import type { Visit } from './visit.ts';

/** An event as young as this, in seconds, may be one that the relay has just received, and pushes as it should. */
export const FRESH_SECONDS = 300;
/** Older ones that come late for one page: a relay may receive so many old events between its EOSE and our CLOSE. */
const MAX_LATE_A_PAGE = 2;
/** And in all, for each event that came in time. */
const MAX_LATE = 10;
const MAX_LATE_SHARE = 0.02;

/** Whether events that come after the EOSE of their page are too many to have arrived at the relay in that moment. */
export class LateTally {
  readonly #ofSubscription = new Map<string, number>();
  #isFault = false;
  #late = 0;
  #inTime = 0;

  /** Whether no EOSE of the relay is to be believed. */
  get isFault(): boolean {
    return this.#isFault || this.#late > MAX_LATE + MAX_LATE_SHARE * this.#inTime;
  }

  /** Notes the events that a page showed before its EOSE. */
  noteInTime(count: number): void {
    this.#inTime += count;
  }

  /** Notes one event that came after an EOSE, and how many came before it. */
  noteLate(subscription: string, shown: number): void {
    const count = (this.#ofSubscription.get(subscription) ?? 0) + 1;
    this.#ofSubscription.set(subscription, count);
    this.#late += 1;
    this.#isFault ||= shown === 0 || count > MAX_LATE_A_PAGE;
  }
}

/**
 * Events that come after the EOSE of their page. They are archived like any other. Whether they also show that an
 * EOSE of this relay is no end is a matter of how many they are, and of what was shown before.
 */
export class LateFault {
  readonly #visit: Visit;
  readonly #tally = new LateTally();

  constructor(visit: Visit) {
    this.#visit = visit;
  }

  /** Takes what has come late by now. @returns whether no EOSE is to be believed. @throws DatabaseError */
  async check(page: PageTally, end: PageEnd): Promise<boolean> {
    this.#tally.noteInTime(page.inside);
    const hasFault = await this.takeLate();
    const oldest = this.#visit.context.now() - FRESH_SECONDS;
    const isLingered = 'late' in end && (end.late ?? 0) > 0;
    return hasFault || (isLingered && page.oldest <= oldest);
  }

  /** Takes what has come late, beside a page or after the last one. @returns whether no EOSE is to be believed. @throws DatabaseError */
  async takeLate(): Promise<boolean> {
    const late = LateEvents.of(this.#visit.session.connection).take();
    await this.#visit.intake.archive(late.map(({ event }) => event));
    for (const { event, subscription, shown, receivedAt } of late) {
      const createdAt = createdAtOf(event);
      if (createdAt === null || createdAt > receivedAt - FRESH_SECONDS) continue;
      this.#tally.noteLate(subscription, shown);
      this.#visit.intake.noteLate();
    }
    return this.#tally.isFault;
  }
}
