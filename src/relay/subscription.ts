import { randomBytes } from 'node:crypto';
import type { ReqFilter } from '../nostr/filter.ts';
import {
  type EoseHint,
  parseRelayMessage,
  type RelayMessage,
  refusalOf,
} from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';
import { LateEvents } from './late-events.ts';

/** How a page ended. Only `finish`, `more` and `eose` may prove anything (DESIGN section 5). */
export type PageEnd =
  | {
      type: 'finish' | 'more' | 'eose';
      /** Events that came after the EOSE, while it was waited for them (`lingerMs`). */
      late?: number;
    }
  | { type: 'closed'; text: string }
  | {
      type: 'timeout';
      text: string;
      /** Whether the relay went on sending until the time was over; else it was silent. */
      isSlow?: true;
    }
  | { type: 'disconnected'; text: string }
  | { type: 'oversized'; text: string }
  | { type: 'overflow'; text: string }
  | { type: 'garbled'; text: string }
  | { type: 'aborted' };

type Eose = Extract<PageEnd, { type: 'finish' | 'more' | 'eose' }>;

/** Messages that are no answer to anybody, by reason. */
export type UnusableMessage =
  | Extract<RelayMessage, { type: 'INVALID' }>['reason']
  | 'wrong_subscription';

export interface SubscriptionLimits {
  /** Longest silence while we wait for the relay, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Longest time in all that one page may keep us waiting, in milliseconds; our own work does not count. */
  readonly totalTimeoutMs: number;
  readonly maxEvents: number;
  readonly maxBytes: number;
  /** For so long after an EOSE events are waited for that come too late, in milliseconds; not at all unless told. */
  readonly lingerMs?: number;
  /** Whether that is done after every EOSE; else only where nothing was shown before. */
  readonly lingersAlways?: boolean;
}

/** Above this the socket is paused until the reader has caught up. */
const PAUSE_ABOVE_BYTES = 4 * 1024 * 1024;
const PAUSE_ABOVE_EVENTS = 1000;
/** Messages that are no answer to this subscription: a flood of them ends the page. */
const MAX_UNRELATED_MESSAGES = 5000;
/** Events of a subscription that was closed: so many may have been under way. */
const MAX_LATE_EVENTS = 20_000;
/** They are parsed and no more, which costs about this share of what it costs to look at them. */
const LATE_COST = 0.25;
/** A live subscription outlives many others on its connection: there it is so many in this time, in milliseconds. */
const UNRELATED_WITHIN_MS = 60_000;
/** After a NOTICE that refuses, a relay that was going to answer has done so by then. */
const REFUSAL_GRACE_MS = 2000;
/** All ids of this thread begin so: an event under another id was never asked for. */
const OURS = randomBytes(2).toString('hex');

/**
 * Sends one REQ and gives what arrives as a bounded stream: each step is the events since the last one, and
 * the return value is how it ended. While the reader is busy the socket is paused. The subscription is
 * closed when the reader stops, however it stops. Never throws.
 *
 * @param onUnusable hears of each message that is no answer to anybody
 */
export async function* readPage(
  connection: RelayConnection,
  filter: ReqFilter,
  limits: SubscriptionLimits,
  signal?: AbortSignal,
  onUnusable: (reason: UnusableMessage) => void = () => {},
): AsyncGenerator<unknown[], PageEnd, void> {
  const subscription = new Subscription(connection, limits, signal, onUnusable);
  connection.send(['REQ', subscription.id, filter]);
  try {
    for (;;) {
      const events = subscription.take();
      if (events.length > 0) yield events;
      else if (subscription.end) return subscription.end;
      else await subscription.arrival();
    }
  } finally {
    subscription.dispose();
  }
}

/**
 * The same for a subscription that stays open: EOSE does not end it, and silence is no fault. It ends when the
 * relay closes it, the connection is lost or the reader stops. Never throws.
 */
export function readLive(
  connection: RelayConnection,
  filter: ReqFilter,
  signal?: AbortSignal,
): AsyncGenerator<unknown[], PageEnd, void> {
  return readPage(connection, filter, LIVE, signal);
}

/** Limits of a live subscription: none in time or number; what waits is bounded by pausing the socket. */
const LIVE: SubscriptionLimits = {
  idleTimeoutMs: Number.POSITIVE_INFINITY,
  totalTimeoutMs: Number.POSITIVE_INFINITY,
  maxEvents: Number.POSITIVE_INFINITY,
  maxBytes: Number.POSITIVE_INFINITY,
};

const SUBSCRIPTIONS = new WeakMap<RelayConnection, Set<string>>();

class Subscription {
  readonly id = OURS + randomBytes(4).toString('hex');
  end: PageEnd | null = null;
  readonly #connection: RelayConnection;
  /** Ids of the subscriptions that are open on this connection, this one among them. */
  readonly #siblings: Set<string>;
  readonly #limits: SubscriptionLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #onUnusable: (reason: UnusableMessage) => void;
  readonly #stopListening: () => void;
  readonly #stopWatching: () => void;
  readonly #stopMinding: () => void;
  readonly #onAbort = () => this.#finish({ type: 'aborted' });
  #events: unknown[] = [];
  #bufferedBytes = 0;
  /** Bytes of the events that the reader has taken and is busy with. */
  #takenBytes = 0;
  #paused = false;
  #eventCount = 0;
  #byteCount = 0;
  #unrelated = 0;
  #late = 0;
  #unrelatedSince = performance.now();
  /** Whether events came that nobody asked for: the answer may be among them. */
  #isMixedUp = false;
  /** Of a live subscription: whether the relay has taken it, so that what it refuses from now on is something else. */
  #established = false;
  #waitedMs = 0;
  #refusal: string | null = null;
  /** The end that the relay has told, while events are waited for that come after it. */
  #eose: Eose | null = null;
  #beforeEose = 0;
  /**
   * Set by whoever sends the REQ again under the same id: then the second answer comes after the first EOSE, and is
   * no fault of the relay.
   */
  wasSentAgain = false;
  #closedByRelay = false;
  #wake: (() => void) | null = null;

  constructor(
    connection: RelayConnection,
    limits: SubscriptionLimits,
    signal: AbortSignal | undefined,
    onUnusable: (reason: UnusableMessage) => void,
  ) {
    this.#connection = connection;
    this.#siblings = SUBSCRIPTIONS.get(connection) ?? new Set();
    SUBSCRIPTIONS.set(connection, this.#siblings.add(this.id));
    this.#limits = limits;
    this.#signal = signal;
    this.#onUnusable = onUnusable;
    this.#stopListening = connection.onMessage((data) => this.#receive(data));
    this.#stopWatching = connection.onClosed(({ code, reason, oversized }) =>
      this.#finish({
        type: oversized ? 'oversized' : 'disconnected',
        text: reason || `code ${code}`,
      }),
    );
    if (connection.inFlight.isSpent) this.#pause();
    this.#stopMinding = connection.onHeld(() => this.#wake?.()); // another deadline holds from now on
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** Takes the events that are waiting, and lets the socket go on. */
  take(): unknown[] {
    this.#connection.inFlight.give(this.#takenBytes);
    this.#takenBytes = this.#bufferedBytes;
    const events = this.#events;
    this.#events = [];
    this.#bufferedBytes = 0;
    return events;
  }

  /** Resolves when something has arrived or the subscription has ended, a deadline included. */
  async arrival(): Promise<void> {
    const { inFlight } = this.#connection;
    const isCrowded = this.#paused && inFlight.isSpent; // others have to hand on first what they hold
    const stopWaiting = isCrowded ? inFlight.onRoom(() => this.#wake?.()) : null;
    if (this.#paused && !isCrowded) {
      this.#paused = false;
      this.#connection.resume();
    }
    const { totalTimeoutMs } = this.#limits;
    const patience = this.#patience;
    const isOurs = this.#connection.isHeld || isCrowded; // the silence, which is then no fault of the relay
    const idle = isOurs ? Number.POSITIVE_INFINITY : patience;
    const started = performance.now();
    const left = isCrowded ? Number.POSITIVE_INFINITY : totalTimeoutMs - this.#waitedMs;
    const wait = Math.min(idle, left);
    const cancel =
      wait === Number.POSITIVE_INFINITY
        ? () => {}
        : deadline(Math.max(0, wait), () => this.#expire(idle <= left));
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    cancel();
    stopWaiting?.();
    if (!isCrowded) this.#waitedMs += performance.now() - started;
  }

  dispose(): void {
    this.#siblings.delete(this.id);
    this.#connection.inFlight.give(this.#takenBytes + this.#bufferedBytes);
    this.#takenBytes = 0;
    this.#bufferedBytes = 0;
    this.#stopListening();
    this.#stopWatching();
    this.#stopMinding();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (!this.#closedByRelay) this.#connection.send(['CLOSE', this.id]);
    if (this.#paused) this.#connection.resume();
  }

  /** How long the relay may be silent now, in milliseconds. */
  get #patience(): number {
    const { idleTimeoutMs, lingerMs = 0 } = this.#limits;
    if (this.#eose !== null) return Math.min(idleTimeoutMs, lingerMs);
    return this.#refusal === null ? idleTimeoutMs : Math.min(idleTimeoutMs, REFUSAL_GRACE_MS);
  }

  #expire(silent: boolean): void {
    if (this.#eose !== null) this.#finishByEose(this.#eose);
    else if (this.#refusal !== null) this.#finish({ type: 'closed', text: this.#refusal });
    else {
      const text = `no answer in time after ${this.#eventCount} events`;
      this.#finish({ type: 'timeout', text, ...(!silent && { isSlow: true }) });
    }
  }

  #finish(end: PageEnd): void {
    this.end ??= end;
    this.#wake?.();
  }

  #receive(data: string): void {
    if (this.end) return;
    this.#byteCount += data.length;
    const message = parseRelayMessage(data);
    if (!this.#isOurs(message)) this.#receiveUnrelated(message, data.length);
    else if (message.type === 'EVENT') this.#receiveEvent(message.event, data.length);
    else if (message.type === 'EOSE') this.#receiveEose(message.hint);
    else if (message.type === 'CLOSED') this.#receiveClosed(message.text);
    const { maxBytes } = this.#limits;
    if (this.#byteCount > maxBytes) {
      this.#finish({ type: 'overflow', text: `more than ${maxBytes} bytes` });
    }
  }

  #isOurs(message: RelayMessage): message is Extract<RelayMessage, { subscription: string }> {
    return 'subscription' in message && message.subscription === this.id;
  }

  #receiveEvent(event: unknown, bytes: number): void {
    this.#events.push(event);
    this.#eventCount += 1;
    this.#bufferedBytes += bytes;
    this.#connection.inFlight.take(bytes);
    const { maxEvents } = this.#limits;
    if (this.#eventCount > maxEvents) {
      this.#finish({ type: 'overflow', text: `more than ${maxEvents} events` });
    } else if (
      this.#bufferedBytes > PAUSE_ABOVE_BYTES ||
      this.#events.length > PAUSE_ABOVE_EVENTS ||
      this.#connection.inFlight.isSpent
    ) {
      this.#pause();
    }
    this.#wake?.();
  }

  #pause(): void {
    this.#paused = true;
    this.#connection.pause();
  }

  #receiveClosed(text: string): void {
    this.#closedByRelay = true;
    this.#finish({ type: 'closed', text });
  }

  #receiveEose(hint: EoseHint | null): void {
    if (this.#limits === LIVE) this.#established = true;
    else if (this.#isMixedUp)
      this.#finish({ type: 'garbled', text: 'events came under an id that was never ours' });
    else this.#endByEose({ type: hint ?? 'eose' });
  }

  #endByEose(end: Eose): void {
    if (this.#eose !== null) return;
    const { lingerMs = 0, lingersAlways = false } = this.#limits;
    this.#beforeEose = this.#eventCount;
    if (lingerMs > 0 && (this.#eventCount === 0 || lingersAlways)) {
      this.#eose = end;
      this.#wake?.(); // the shorter deadline begins now
    } else this.#finishByEose(end);
  }

  #finishByEose(end: Eose): void {
    if (!this.wasSentAgain) LateEvents.of(this.#connection).noteEose(this.id, this.#beforeEose);
    const late = this.wasSentAgain ? 0 : this.#eventCount - this.#beforeEose;
    this.#finish(late > 0 ? { ...end, late } : end);
  }

  #receiveUnrelated(message: RelayMessage, bytes: number): void {
    if (this.#limits === LIVE && performance.now() - this.#unrelatedSince > UNRELATED_WITHIN_MS) {
      this.#unrelated = 0;
      this.#late = 0;
      this.#unrelatedSince = performance.now();
    }
    const unusable = unusableMessage(message);
    if (unusable !== null) this.#onUnusable(unusable);
    this.#isMixedUp ||= unusable !== null && message.type === 'EVENT';
    const isEvent = message.type === 'EVENT';
    if (isEvent && this.#siblings.has(message.subscription)) return;
    const isLate = isEvent && unusable === null; // of the page before, when that was cut short
    if (this.#isEldest) this.#connection.noteUseless(isLate ? bytes * LATE_COST : bytes);
    if (isLate) this.#late += 1;
    else if (!isEvent) this.#unrelated += 1;
    if (this.#late > MAX_LATE_EVENTS)
      this.#finish({ type: 'overflow', text: 'events of a subscription that was closed' });
    if (this.#unrelated > MAX_UNRELATED_MESSAGES) {
      this.#finish({
        type: 'garbled',
        text: `more than ${MAX_UNRELATED_MESSAGES} unrelated messages`,
      });
    } else if (message.type === 'NOTICE' && this.#isRefusal(message.text)) {
      this.#refusal = message.text;
      this.#wake?.(); // the shorter deadline begins now
    }
  }

  /** What is no answer to anybody is heard by all that are open, and is noted once. */
  get #isEldest(): boolean {
    const [eldest] = this.#siblings;
    return eldest === this.id;
  }

  #isRefusal(notice: string): boolean {
    return !this.#established && refusalOf(notice) !== 'other';
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
