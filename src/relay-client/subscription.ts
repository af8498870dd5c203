import { deadline } from '../network/deadline.ts';
import type { ReqFilter } from '../nostr/filter.ts';
import type { UnusableMessage } from '../nostr/message.ts';
import {
  type EoseHint,
  parseRelayMessage,
  type RelayMessage,
  readRelayMessage,
  refusalOf,
} from '../nostr/message.ts';
import { isAboutReading, isCertainlyAbout } from '../nostr/notice.ts';
import type { RelayConnection } from './connection.ts';
import { beginRequest, endRequest, resendAfterSilence, wasSentAgain } from './first-request.ts';
import { LateEvents } from './late-events.ts';
import { isAnswer, type OpenRequests, openRequests } from './open-requests.ts';
import { type Eose, endOfClose, type PageEnd } from './page-end.ts';
import { newSubscriptionId, UnrelatedMessages } from './unrelated-messages.ts';

export type { PageEnd } from './page-end.ts';

export interface SubscriptionLimits {
  /** Longest silence of the relay, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Longest time that one page may wait for the relay in all, in milliseconds; processing does not count. */
  readonly totalTimeoutMs: number;
  readonly maxEvents: number;
  readonly maxBytes: number;
  /** How long to wait for late events after an EOSE, in milliseconds; default 0. */
  readonly lingerMs?: number;
  /** Whether to wait after every EOSE; default: only after one without events before it. */
  readonly lingersAlways?: boolean;
  /** Whether events in the usual form are given as they stand in their frames (`EventText`), not parsed; default: no. */
  readonly asText?: boolean;
}

/** Above this, reading from the socket stops until the reader has caught up. */
const PAUSE_ABOVE_BYTES = 4 * 1024 * 1024;
const PAUSE_ABOVE_EVENTS = 1000;
/** After a NOTICE that refuses, a relay that is going to answer has done so within this time, in milliseconds. */
const REFUSAL_GRACE_MS = 2000;

/**
 * Sends one REQ and yields its events as a bounded stream: each step has the events since the last one, the return value
 * says how the page ended. While the reader is busy, reading from the socket stops (back-pressure). The subscription is
 * closed when the reader stops, for whatever reason. Never throws.
 *
 * @param onUnusable called for each message that answers no request of this thread
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
 * The same for a live subscription: neither EOSE nor silence ends it. It ends when the relay closes it, the connection is
 * lost or the reader stops. Never throws.
 */
export function readLive(
  connection: RelayConnection,
  filter: ReqFilter | readonly ReqFilter[],
  signal?: AbortSignal,
  { asText = false }: Pick<SubscriptionLimits, 'asText'> = {},
): AsyncGenerator<unknown[], PageEnd, void> {
  return readPage(connection, filter, { ...LIVE, asText }, signal);
}

function isList(filter: ReqFilter | readonly ReqFilter[]): filter is readonly ReqFilter[] {
  return Array.isArray(filter);
}

/** A live subscription has no limit in time or number; back-pressure bounds what is buffered. */
const LIVE: SubscriptionLimits = {
  idleTimeoutMs: Number.POSITIVE_INFINITY,
  totalTimeoutMs: Number.POSITIVE_INFINITY,
  maxEvents: Number.POSITIVE_INFINITY,
  maxBytes: Number.POSITIVE_INFINITY,
};

function isLiveBy({ idleTimeoutMs }: SubscriptionLimits): boolean {
  return idleTimeoutMs === LIVE.idleTimeoutMs;
}

/** For each yielded step: the message length of each of its events, in bytes. */
const SIZES = new WeakMap<readonly unknown[], readonly number[]>();

/** The message length of each event of a step, in bytes. */
export function sizesOf(step: readonly unknown[]): readonly number[] {
  return SIZES.get(step) ?? [];
}

/**
 * One REQ.
 *
 * States of a page, from `open` on:
 * - **waiting**: the REQ is sent. Events are buffered. The relay must send something within `idleTimeoutMs`, and all waits
 *   together may take `totalTimeoutMs`. The first request of a connection is sent again after a short silence; then events
 *   that arrive twice are dropped.
 * - **refused**: a NOTICE refuses what is certainly this request. If nothing else arrives within `REFUSAL_GRACE_MS`, the
 *   page ends as `closed` with the text of the NOTICE. A NOTICE that may be a greeting leads to no other state, but is the
 *   text of the end if the relay stays silent.
 * - **lingering**: EOSE arrived, and late events are awaited for `lingerMs`. They are yielded and counted in `late`.
 * - **ended**: `end` is set: by EOSE, CLOSED, a limit, a deadline, a lost connection, an abort, or too many messages that
 *   answer nothing. Final; later messages are ignored.
 *
 * In every state but *ended* reading may be paused: when the buffer is full, or the budget of the thread is spent. It
 * continues when the reader asks for more.
 *
 * A live subscription is in *waiting* until it ends, without deadlines: EOSE is ignored.
 *
 * Guaranteed: an EOSE ends the page only when no event arrived under a foreign id, since the answer might be among those.
 * Deadlines do not count time in which reading was stopped. `dispose` sends CLOSE unless the relay sent CLOSED, and
 * returns all bytes to the budget.
 */
class Subscription {
  readonly id = newSubscriptionId();
  end: PageEnd | null = null;
  readonly #connection: RelayConnection;
  /** The open requests of the connection, including this one. */
  readonly #open: OpenRequests;
  readonly #limits: SubscriptionLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #stopListening: () => void;
  readonly #stopWatching: () => void;
  readonly #stopWatchingFlow: () => void;
  readonly #onAbort = () => this.#finish({ type: 'aborted' });
  #events: unknown[] = [];
  #sizes: number[] = [];
  #bufferedBytes = 0;
  /** Bytes of the events that the reader is processing. */
  #takenBytes = 0;
  #paused = false;
  #eventCount = 0;
  #byteCount = 0;
  /** Messages that answer no open request. */
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
  /** Events of a request that was sent twice, which may arrive twice; null otherwise. */
  #copies: Set<string> | null = null;
  /** The text of a NOTICE that may refuse this request. */
  #refusal: string | null = null;
  /** Whether it certainly refers to this request: state *refused*. */
  #isRefused = false;
  /** The EOSE in state *lingering*; null otherwise. */
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
    const isLive = isLiveBy(limits);
    this.#unrelated = new UnrelatedMessages(connection, { id: this.id, isLive, onUnusable });
    this.#stopListening = connection.onMessage((data) => this.#receive(data));
    this.#stopWatching = connection.onClosed((closed) => this.#finish(endOfClose(closed)));
    if (connection.inFlight.isSpent) this.#pause();
    this.#stopWatchingFlow = connection.onReadingChanged(() => this.#wake?.()); // another deadline applies from now on
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** Sends the REQ; the first one of a connection again after a short silence. */
  open(filter: ReqFilter | readonly ReqFilter[]): void {
    const request = ['REQ', this.id, ...(isList(filter) ? filter : [filter])];
    this.#connection.send(request);
    if (!this.#isFirst || isLiveBy(this.#limits)) return;
    const { idleTimeoutMs } = this.#limits;
    this.#cancelSendAgain = resendAfterSilence(this.#connection, this.id, idleTimeoutMs, () => {
      if (this.end || this.#paused) return false;
      this.#connection.send(request);
      this.#copies = new Set();
      this.#extraMs = performance.now() - this.#openedAt;
      this.#wake?.(); // restarts the deadline
      return true;
    });
  }

  /** Takes the buffered events. */
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

  /** Resolves when something has arrived or the subscription has ended, by a deadline too. Continues reading. */
  async arrival(): Promise<void> {
    const { inFlight } = this.#connection;
    const isCrowded = this.#paused && inFlight.isSpent; // other subscriptions must process first what they hold
    const stopWaiting = isCrowded ? inFlight.onRoom(() => this.#wake?.()) : null;
    if (this.#paused && !isCrowded) {
      this.#paused = false;
      this.#connection.resume(this);
    }
    const { totalTimeoutMs } = this.#limits;
    const idleMs = this.#idleLimitMs;
    // While reading is stopped, by this subscription or a sibling, the answer may be waiting in the socket.
    const idle = this.#connection.isReadingPaused ? Number.POSITIVE_INFINITY : idleMs;
    const started = performance.now();
    const isStopped = this.#connection.isPausedByReader; // time for which junk stops reading counts in the total
    const left = isStopped
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
    if (!isStopped) this.#waitedMs += performance.now() - started;
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
    this.#stopWatchingFlow();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (!this.#closedByRelay) this.#connection.send(['CLOSE', this.id]);
    if (this.#paused) this.#connection.resume(this);
  }

  /** Longest silence in the present state, in milliseconds. */
  get #idleLimitMs(): number {
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
    const message = this.#limits.asText ? readRelayMessage(data) : parseRelayMessage(data);
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
    if (isLiveBy(this.#limits)) this.#established = true;
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
      this.#wake?.(); // starts the shorter deadline
    } else this.#finishByEose(end);
  }

  #finishByEose(end: Eose): void {
    // The second answer to a request that was sent twice arrives after the first EOSE: no late events.
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
   * A NOTICE that may refuse this request is the end if nothing else arrives. It shortens the wait only when it cannot be
   * a greeting: after another request, or as an error about requests.
   */
  #receiveNotice(text: string): void {
    if (this.#established || refusalOf(text) === 'other' || !isAboutReading(text, this.id)) return;
    this.#cancelSendAgain();
    this.#refusal = text;
    if (this.#isFirst && !isCertainlyAbout(text, this.id)) return;
    this.#isRefused = true;
    this.#wake?.(); // starts the shorter deadline
  }
}
