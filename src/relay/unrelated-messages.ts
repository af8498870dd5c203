import { randomBytes } from 'node:crypto';
import type { RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { isLateCopy } from './first-request.ts';
import { openRequests } from './open-requests.ts';
import type { PageEnd } from './page-end.ts';

/** Messages that are no answer to anybody, by reason. */
export type UnusableMessage =
  | Extract<RelayMessage, { type: 'INVALID' }>['reason']
  | 'wrong_subscription';

/** Messages that are no answer to this subscription: a flood of them ends the page. */
const MAX_UNRELATED_MESSAGES = 5000;
/** Events of a subscription that was closed: so many may have been under way. */
const MAX_LATE_EVENTS = 20_000;
/** They are parsed and no more, which costs about this share of what it costs to look at them. */
const LATE_COST = 0.25;
/** A live subscription outlives many others on its connection: there it is so many in this time, in milliseconds. */
const UNRELATED_WITHIN_MS = 60_000;
/** All ids of this thread begin so: an event under another id was never asked for. */
const OURS = randomBytes(2).toString('hex');

export function newSubscriptionId(): string {
  return OURS + randomBytes(4).toString('hex');
}

interface UnrelatedTo {
  /** Id of the subscription. */
  readonly id: string;
  readonly isLive: boolean;
  /** Hears of each message that is no answer to anybody. */
  readonly onUnusable: (reason: UnusableMessage) => void;
}

/** The messages on a connection that answer none of its open requests, as one subscription counts them. */
export class UnrelatedMessages {
  /** Whether events came that nobody asked for: the answer may be among them. */
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

  /** Counts a message, and charges the relay with its bytes. @returns how too many of them end the page; null while there are not */
  receive(message: RelayMessage, bytes: number): PageEnd | null {
    const { isLive, onUnusable } = this.#subscription;
    if (isLive && performance.now() - this.#since > UNRELATED_WITHIN_MS) this.#beginAnew();
    const unusable = unusableMessage(message);
    if (unusable !== null) onUnusable(unusable);
    const isEvent = message.type === 'EVENT';
    this.areMixedUp ||= unusable !== null && isEvent;
    if ('subscription' in message && isLateCopy(this.#connection, message.subscription))
      return null;
    const isLate = isEvent && unusable === null; // of the page before, when that was cut short
    if (this.#isEldest) this.#connection.noteUseless(isLate ? bytes * LATE_COST : bytes);
    if (isLate) this.#late += 1;
    else if (!isEvent) this.#unrelated += 1;
    return this.#flood();
  }

  #beginAnew(): void {
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

  /** What is no answer to anybody is heard by all that are open, and is noted once. */
  get #isEldest(): boolean {
    const [eldest] = openRequests(this.#connection).subscriptions;
    return eldest === this.#subscription.id;
  }
}

/** Why nobody can use the message; null where somebody may. */
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
