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

/**
 * Events that come after the EOSE of their page. They are archived like any other. Whether they also show that an
 * EOSE of this relay is no end is a matter of how many they are, and of what was shown before.
 */
export class LateFault {
  readonly #visit: Visit;
  readonly #ofSubscription = new Map<string, number>();
  #late = 0;
  #inTime = 0;

  constructor(visit: Visit) {
    this.#visit = visit;
  }

  /** Takes what has come late by now. @returns whether no EOSE is to be believed. @throws DatabaseError */
  async check(page: PageTally, end: PageEnd): Promise<boolean> {
    this.#inTime += page.inside;
    const late = LateEvents.of(this.#visit.session.connection).take();
    await this.#visit.intake.archive(late.map(({ event }) => event));
    const oldest = this.#visit.context.now() - FRESH_SECONDS;
    const isLingered = 'late' in end && (end.late ?? 0) > 0;
    let isFault = isLingered && page.oldest <= oldest;
    for (const { event, subscription, shown } of late) {
      const createdAt = createdAtOf(event);
      if (createdAt === null || createdAt > oldest) continue;
      const count = (this.#ofSubscription.get(subscription) ?? 0) + 1;
      this.#ofSubscription.set(subscription, count);
      this.#late += 1;
      isFault ||= shown === 0 || count > MAX_LATE_A_PAGE;
    }
    return isFault || this.#late > MAX_LATE + MAX_LATE_SHARE * this.#inTime;
  }
}
