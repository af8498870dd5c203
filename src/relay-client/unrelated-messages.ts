import { randomBytes } from 'node:crypto';
import type { RelayMessage, UnusableMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { isLateCopy } from './first-request.ts';
import { openRequests } from './open-requests.ts';
import type { PageEnd } from './page-end.ts';

/** Most messages that answer no open request: more end the page. */
const MAX_UNRELATED_MESSAGES = 5000;
/** Most events of a subscription that was closed: they may have been in transit. */
const MAX_LATE_EVENTS = 20_000;
/** Late events are only parsed: this share of the cost of processing an event. */
const LATE_COST = 0.25;
/** A live subscription outlives many others: there the counts start again after this, in milliseconds. */
const UNRELATED_WITHIN_MS = 60_000;
/** Prefix of all subscription ids of this thread: an event with another id was never requested. */
const OURS = randomBytes(2).toString('hex');

export function newSubscriptionId(): string {
  return OURS + randomBytes(4).toString('hex');
}

interface UnrelatedTo {
  /** Id of the subscription. */
  readonly id: string;
  readonly isLive: boolean;
  /** Called for each message that answers no request of this thread. */
  readonly onUnusable: (reason: UnusableMessage) => void;
}

/** Counts the messages of a connection that answer none of its open requests, for one subscription. */
export class UnrelatedMessages {
  /** Whether events arrived under ids that were never used: the answer may be among them. */
  areMixedUp = false;
  readonly #connection: RelayConnection;
  readonly #subscription: UnrelatedTo;
  #unrelated = 0;
  #late = 0;
  #since = performance.now();

  constructor(connection: RelayConnection, subscription: UnrelatedTo) {
    this.#connection = connection;
    this.#subscription = subscription;
  }

  /** Counts a message, and charges its bytes as junk. @returns how the page ends by too many of them; null while it does not */
  receive(message: RelayMessage, bytes: number): PageEnd | null {
    const { isLive, onUnusable } = this.#subscription;
    if (isLive && performance.now() - this.#since > UNRELATED_WITHIN_MS) this.#restart();
    const unusable = unusableMessage(message);
    if (unusable !== null) onUnusable(unusable);
    const isEvent = message.type === 'EVENT';
    this.areMixedUp ||= unusable !== null && isEvent;
    if ('subscription' in message && isLateCopy(this.#connection, message.subscription))
      return null;
    const isLate = isEvent && unusable === null; // of an earlier page that was closed early
    if (this.#isOldest) this.#connection.chargeJunk(isLate ? bytes * LATE_COST : bytes);
    if (isLate) this.#late += 1;
    else if (!isEvent) this.#unrelated += 1;
    return this.#flood();
  }

  #restart(): void {
    this.#unrelated = 0;
    this.#late = 0;
    this.#since = performance.now();
  }

  #flood(): PageEnd | null {
    if (this.#late > MAX_LATE_EVENTS)
      return { type: 'overflow', text: 'events of a subscription that was closed' };
    if (this.#unrelated > MAX_UNRELATED_MESSAGES)
      return { type: 'garbled', text: `more than ${MAX_UNRELATED_MESSAGES} unrelated messages` };
    return null;
  }

  /** All open subscriptions receive such a message; only the oldest charges it. */
  get #isOldest(): boolean {
    const [oldest] = openRequests(this.#connection).subscriptions;
    return oldest === this.#subscription.id;
  }
}

/** Why the message cannot be used by any request; null when it may be. */
function unusableMessage(message: RelayMessage): UnusableMessage | null {
  switch (message.type) {
    case 'INVALID':
      return message.reason;
    case 'EVENT':
    case 'EOSE':
    case 'CLOSED':
      return message.subscription.startsWith(OURS) ? null : 'wrong_subscription';
    default:
      return null;
  }
}
