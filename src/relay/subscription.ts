import type { ReqFilter } from '../nostr/filter.ts';
import {
  type EoseHint,
  parseRelayMessage,
  type RelayMessage,
  refusalOf,
} from '../nostr/message.ts';
import { isAboutReading, refersTo } from '../nostr/notice.ts';
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';
import { beginRequest, endRequest, sendAgainWhenSilent, wasSentAgain } from './first-request.ts';
import { LateEvents } from './late-events.ts';
import { isAnswer, type OpenRequests, openRequests } from './open-requests.ts';
import { type Eose, endOfClose, type PageEnd } from './page-end.ts';
import {
  newSubscriptionId,
  UnrelatedMessages,
  type UnusableMessage,
} from './unrelated-messages.ts';

export type { PageEnd } from './page-end.ts';
export type { UnusableMessage } from './unrelated-messages.ts';

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
/** After a NOTICE that refuses, a relay that was going to answer has done so by then. */
const REFUSAL_GRACE_MS = 2000;

/**
 * Sends one REQ and gives what arrives as a bounded stream: each step is the events since the last one, and
 * the return value is how it ended. While the reader is busy the socket is paused. The subscription is
 * closed when the reader stops, however it stops. Never throws.
 *
 * @param onUnusable hears of each message that is no answer to anybody
 */
export async function* readPage(
  connection: RelayConnection,
  filter: ReqFilter | readonly ReqFilter[],
  limits: SubscriptionLimits,
  signal?: AbortSignal,
  onUnusable: (reason: UnusableMessage) => void = () => {},
): AsyncGenerator<unknown[], PageEnd, void> {
  const subscription = new Subscription(connection, limits, signal, onUnusable);
  subscription.open(filter);
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
  filter: ReqFilter | readonly ReqFilter[],
  signal?: AbortSignal,
): AsyncGenerator<unknown[], PageEnd, void> {
  return readPage(connection, filter, LIVE, signal);
}

function isList(filter: ReqFilter | readonly ReqFilter[]): filter is readonly ReqFilter[] {
  return Array.isArray(filter);
}

/** Limits of a live subscription: none in time or number; what waits is bounded by pausing the socket. */
const LIVE: SubscriptionLimits = {
  idleTimeoutMs: Number.POSITIVE_INFINITY,
  totalTimeoutMs: Number.POSITIVE_INFINITY,
  maxEvents: Number.POSITIVE_INFINITY,
  maxBytes: Number.POSITIVE_INFINITY,
};

/** Of each step that is handed out: the bytes of the message in which each of its events came. */
const SIZES = new WeakMap<readonly unknown[], readonly number[]>();

/** The bytes that each event of a step has cost to receive. */
export function sizesOf(step: readonly unknown[]): readonly number[] {
  return SIZES.get(step) ?? [];
}

class Subscription {
  readonly id = newSubscriptionId();
  end: PageEnd | null = null;
  readonly #connection: RelayConnection;
  /** What is open on this connection, this subscription among it. */
  readonly #open: OpenRequests;
  readonly #limits: SubscriptionLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #stopListening: () => void;
  readonly #stopWatching: () => void;
  readonly #stopMinding: () => void;
  readonly #onAbort = () => this.#finish({ type: 'aborted' });
  #events: unknown[] = [];
  #sizes: number[] = [];
  #bufferedBytes = 0;
  /** Bytes of the events that the reader has taken and is busy with. */
  #takenBytes = 0;
  #paused = false;
  #eventCount = 0;
  #byteCount = 0;
  /** Messages that are no answer to this subscription. */
  readonly #unrelated: UnrelatedMessages;
  /** Of a live subscription: whether the relay has taken it, so that what it refuses from now on is something else. */
  #established = false;
  #waitedMs = 0;
  /** Time that the relay gets on top, because the request was sent once more. */
  #extraMs = 0;
  readonly #openedAt = performance.now();
  /** Whether this is the first request of the connection: a NOTICE may be a greeting. */
  readonly #isFirst: boolean;
  #cancelSendAgain: () => void = () => {};
  /** Events of a request that was sent twice, each of which may come twice; null otherwise. */
  #copies: Set<string> | null = null;
  /** A NOTICE that refuses and may refer to this request. */
  #refusal: string | null = null;
  /** Whether it refers to this request for certain, so that nothing else is to be expected. */
  #isRefused = false;
  /** The end that the relay has told, while events are waited for that come after it. */
  #eose: Eose | null = null;
  #beforeEose = 0;
  #closedByRelay = false;
  #wake: (() => void) | null = null;

  constructor(
    connection: RelayConnection,
    limits: SubscriptionLimits,
    signal: AbortSignal | undefined,
    onUnusable: (reason: UnusableMessage) => void,
  ) {
    this.#connection = connection;
    this.#open = openRequests(connection);
    this.#open.subscriptions.add(this.id);
    this.#limits = limits;
    this.#isFirst = beginRequest(connection);
    this.#signal = signal;
    const isLive = limits === LIVE;
    this.#unrelated = new UnrelatedMessages(connection, { id: this.id, isLive, onUnusable });
    this.#stopListening = connection.onMessage((data) => this.#receive(data));
    this.#stopWatching = connection.onClosed((closed) => this.#finish(endOfClose(closed)));
    if (connection.inFlight.isSpent) this.#pause();
    this.#stopMinding = connection.onFlow(() => this.#wake?.()); // another deadline holds from now on
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** Sends the REQ; the first one of a connection once more where nothing comes of it. */
  open(filter: ReqFilter | readonly ReqFilter[]): void {
    const request = ['REQ', this.id, ...(isList(filter) ? filter : [filter])];
    this.#connection.send(request);
    if (!this.#isFirst || this.#limits === LIVE) return;
    const { idleTimeoutMs } = this.#limits;
    this.#cancelSendAgain = sendAgainWhenSilent(this.#connection, this.id, idleTimeoutMs, () => {
      if (this.end || this.#paused) return false;
      this.#connection.send(request);
      this.#copies = new Set();
      this.#extraMs = performance.now() - this.#openedAt;
      this.#wake?.(); // the deadline begins anew
      return true;
    });
  }

  /** Takes the events that are waiting, and lets the socket go on. */
  take(): unknown[] {
    this.#connection.inFlight.give(this.#takenBytes);
    this.#takenBytes = this.#bufferedBytes;
    const events = this.#events;
    SIZES.set(events, this.#sizes);
    this.#events = [];
    this.#sizes = [];
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
      this.#connection.resume(this);
    }
    const { totalTimeoutMs } = this.#limits;
    const patience = this.#patience;
    // Whoever does not read, this subscription or a sibling: the answer may lie in the socket.
    const idle = this.#connection.isPausedByUs ? Number.POSITIVE_INFINITY : patience;
    const started = performance.now();
    const standsStill = this.#connection.isPausedByReader; // time of being held for junk counts in the total
    const left = standsStill
      ? Number.POSITIVE_INFINITY
      : totalTimeoutMs + this.#extraMs - this.#waitedMs;
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
    if (!standsStill) this.#waitedMs += performance.now() - started;
  }

  dispose(): void {
    this.#cancelSendAgain();
    endRequest(this.#connection, this.id, this.#eventCount);
    this.#open.subscriptions.delete(this.id);
    this.#connection.inFlight.give(this.#takenBytes + this.#bufferedBytes);
    this.#takenBytes = 0;
    this.#bufferedBytes = 0;
    this.#stopListening();
    this.#stopWatching();
    this.#stopMinding();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (!this.#closedByRelay) this.#connection.send(['CLOSE', this.id]);
    if (this.#paused) this.#connection.resume(this);
  }

  /** How long the relay may be silent now, in milliseconds. */
  get #patience(): number {
    const { idleTimeoutMs, lingerMs = 0 } = this.#limits;
    if (this.#eose !== null) return Math.min(idleTimeoutMs, lingerMs);
    return this.#isRefused ? Math.min(idleTimeoutMs, REFUSAL_GRACE_MS) : idleTimeoutMs;
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
    const message = parseRelayMessage(data);
    const isOurs = this.#isOurs(message);
    if (!isOurs && isAnswer(message, this.#open)) return;
    this.#byteCount += data.length;
    if (isOurs) this.#cancelSendAgain();
    if (!isOurs) this.#receiveUnrelated(message, data.length);
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
    if (this.#isCopy(event)) return;
    this.#events.push(event);
    this.#sizes.push(bytes);
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

  /** Whether the event is part of the second answer to a request that was sent twice. */
  #isCopy(event: unknown): boolean {
    if (!this.#copies) return false;
    const copy = JSON.stringify(event);
    const isKnown = this.#copies.has(copy);
    this.#copies.add(copy);
    return isKnown;
  }

  #pause(): void {
    this.#paused = true;
    this.#connection.pause(this);
  }

  #receiveClosed(text: string): void {
    this.#closedByRelay = true;
    this.#finish({ type: 'closed', text });
  }

  #receiveEose(hint: EoseHint | null): void {
    if (this.#limits === LIVE) this.#established = true;
    else if (this.#unrelated.areMixedUp)
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
    // The second answer to a request that was sent twice comes after the first EOSE, and is no fault of the relay.
    const isTwice = wasSentAgain(this.#connection, this.id);
    if (!isTwice) LateEvents.of(this.#connection).noteEose(this.id, this.#beforeEose);
    const late = isTwice ? 0 : this.#eventCount - this.#beforeEose;
    this.#finish(late > 0 ? { ...end, late } : end);
  }

  #receiveUnrelated(message: RelayMessage, bytes: number): void {
    const flood = this.#unrelated.receive(message, bytes);
    if (flood) this.#finish(flood);
    else if (message.type === 'NOTICE') this.#receiveNotice(message.text);
  }

  /**
   * A refusal that may be meant for this request is the reason if nothing else comes. It shortens the wait only where
   * it cannot be a greeting: after another request, or as an error about requests.
   */
  #receiveNotice(text: string): void {
    if (this.#established || refusalOf(text) === 'other' || !isAboutReading(text, this.id)) return;
    this.#cancelSendAgain();
    this.#refusal = text;
    if (this.#isFirst && !refersTo(text, this.id)) return;
    this.#isRefused = true;
    this.#wake?.(); // the shorter deadline begins now
  }
}
