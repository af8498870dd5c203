import { randomBytes } from 'node:crypto';
import { deadline } from '../network/deadline.ts';
import { parseRelayMessage, type RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from '../relay-client/connection.ts';
import { beginRequest, resendAfterSilence } from '../relay-client/first-request.ts';
import { isAnswer, type OpenRequests, openRequests } from '../relay-client/open-requests.ts';
import {
  isClientOrFilterRefusal,
  isDisabled,
  isRefusal,
  isTooLarge,
  isUnknownMessage,
} from './refusal.ts';

/**
 * How a reconciliation ended. Only `done` proves anything; ids that were listed before another end are valid all the same.
 * - `blocked`: the window is too large for the relay: halve it. With `isFull` the relay lists more needed ids than are
 *   accepted at once: fetch these, and reconcile again.
 * - `unsupported`: the relay does not support NIP-77, whatever its NIP-11 document claims: record that and page.
 * - `failed`: for now. `text` of `refused` is that of the relay, for `refusalOf`.
 */
export type ReconcileEnd =
  | { type: 'done' }
  | { type: 'blocked'; text: string; isFull?: true }
  | { type: 'unsupported'; text: string }
  | { type: 'failed'; reason: ReconcileFailure; text: string };

export type ReconcileFailure =
  | 'neg_err'
  | 'refused'
  | 'timeout'
  | 'disconnected'
  | 'garbage'
  | 'overflow'
  | 'too_many_rounds'
  | 'aborted';

export interface SessionLimits {
  /** Longest silence after a message to the relay, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Longest time in all, in milliseconds. */
  readonly totalTimeoutMs: number;
  /** Most characters received, in messages of any kind. */
  readonly maxBytes: number;
}

/** Most messages that answer no open request: more end the session. */
const MAX_UNRELATED_MESSAGES = 5000;
/** After a NOTICE that refuses, a relay that is going to answer has done so within this time, in milliseconds. */
const REFUSAL_GRACE_MS = 2000;

/** An end for now, which proves nothing. */
export function failed(reason: ReconcileFailure, text: string): ReconcileEnd {
  return { type: 'failed', reason, text };
}

/**
 * One NIP-77 session: sends messages, receives answers, and handles every way in which it can end.
 *
 * States, from NEG-OPEN on:
 * - **waiting**: a message is sent, and its answer is due within `idleTimeoutMs`. If NEG-OPEN is the first request of the
 *   connection, it is sent again after a short silence; then one repeated answer is ignored.
 * - **refused**: a NOTICE refuses what is certainly this session. If no answer arrives within `REFUSAL_GRACE_MS`, the
 *   session ends by its text. A NOTICE that may be a greeting leads to no other state, but is the reason if the relay stays
 *   silent.
 * - **answered**: a NEG-MSG arrived and was not sent a reply yet. Another NEG-MSG ends the session: the protocol takes
 *   turns.
 * - **ended**: by NEG-ERR, CLOSED, a deadline, a limit, a lost connection, an abort, or `close`. Final.
 *
 * Guaranteed: deadlines do not count time in which reading was stopped because received data was not processed yet. No
 * end but that of the initiator is `done`. `close` always sends NEG-CLOSE.
 */
export class Nip77Session {
  rounds = 0;
  bytes = 0;
  readonly #id = randomBytes(6).toString('hex');
  readonly #connection: RelayConnection;
  readonly #limits: SessionLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #stopListening: () => void;
  readonly #stopWatching: () => void;
  readonly #onAbort = () => this.#finish(failed('aborted', 'stopped'));
  readonly #open: OpenRequests;
  readonly #stopWatchingFlow: () => void;
  #deadline: number;
  #pausedAt: number | null = null;
  #end: ReconcileEnd | null = null;
  #payload: string | null = null;
  #isWaiting = false;
  #sentAt = 0;
  /** Whether NEG-OPEN is the first request of the connection: a NOTICE may be a greeting. */
  #isFirst = false;
  #cancelSendAgain: () => void = () => {};
  /** The answer to a NEG-OPEN that was sent twice, which may arrive twice; null otherwise. */
  #copy: { payload: string | null } | null = null;
  /** A NOTICE that refuses; `at` is when the shorter deadline started, null when it may be a greeting. */
  #refusal: { text: string; at: number | null } | null = null;
  #received = 0;
  #unrelated = 0;
  #wake: (() => void) | null = null;

  constructor(connection: RelayConnection, limits: SessionLimits, signal?: AbortSignal) {
    this.#connection = connection;
    this.#limits = limits;
    this.#signal = signal;
    this.#deadline = performance.now() + limits.totalTimeoutMs;
    this.#stopListening = connection.onMessage((data) => this.#receive(data));
    this.#open = openRequests(connection);
    this.#open.exchanges.add(this.#id);
    this.#stopWatchingFlow = connection.onReadingChanged(() => this.#noteFlow());
    if (connection.isPausedByReader) this.#pausedAt = performance.now();
    this.#stopWatching = connection.onClosed(({ code, reason }) =>
      this.#finish(failed('disconnected', reason || `code ${code}`)),
    );
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** Sends a message whose last element is the payload, and starts to wait for its answer. */
  send(verb: 'NEG-OPEN' | 'NEG-MSG', ...parts: unknown[]): void {
    if (this.#end) return;
    this.bytes += String(parts.at(-1)).length;
    this.#isWaiting = true;
    this.#sentAt = performance.now();
    this.#connection.send([verb, this.#id, ...parts]);
    if (verb === 'NEG-OPEN' && beginRequest(this.#connection)) this.#resendAfterSilence(parts);
  }

  #resendAfterSilence(parts: readonly unknown[]): void {
    this.#isFirst = true;
    const { idleTimeoutMs } = this.#limits;
    this.#cancelSendAgain = resendAfterSilence(this.#connection, this.#id, idleTimeoutMs, () => {
      if (this.#end) return false;
      this.#connection.send(['NEG-OPEN', this.#id, ...parts]);
      this.#copy = { payload: null };
      this.#deadline += performance.now() - this.#sentAt;
      this.#sentAt = performance.now();
      this.#wake?.(); // restarts the deadline
      return true;
    });
  }

  /** The payload of the relay's answer, or how the session ended instead. */
  async answer(): Promise<string | ReconcileEnd> {
    while (this.#payload === null && this.#end === null) await this.#arrival();
    const payload = this.#payload;
    this.#payload = null;
    return payload ?? this.#end ?? failed('aborted', 'stopped');
  }

  close(): void {
    this.#end ??= { type: 'done' };
    this.#cancelSendAgain();
    this.#stopListening();
    this.#stopWatchingFlow();
    this.#open.exchanges.delete(this.#id);
    this.#stopWatching();
    this.#signal?.removeEventListener('abort', this.#onAbort);
    this.#connection.send(['NEG-CLOSE', this.#id]);
  }

  /** Resolves when something has changed or a deadline has passed. */
  async #arrival(): Promise<void> {
    const next = this.#nextDeadline();
    const cancel =
      next === null
        ? () => {}
        : deadline(Math.max(0, next.at - performance.now()), () => this.#finish(next.end));
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    cancel();
  }

  /** While readers have stopped reading, deadlines do not advance; that of silence restarts afterwards. */
  #noteFlow(): void {
    const now = performance.now();
    if (this.#pausedAt !== null) this.#deadline += now - this.#pausedAt;
    this.#pausedAt = this.#connection.isPausedByReader ? now : null;
    this.#sentAt = now;
    if (this.#refusal && this.#refusal.at !== null) this.#refusal.at = now;
    this.#wake?.();
  }

  /**
   * The next deadline, and how the session ends then: decided here, since timers may fire slightly early. Null while
   * readers have stopped reading; time for which junk stops reading counts in the total.
   */
  #nextDeadline(): { at: number; end: ReconcileEnd } | null {
    const { idleTimeoutMs, totalTimeoutMs } = this.#limits;
    if (this.#connection.isPausedByReader) return null;
    const total = {
      at: this.#deadline,
      end: failed('timeout', `not reconciled in ${totalTimeoutMs} ms`),
    };
    if (this.#connection.isReadingPaused) return total;
    const deadlines = [total, { at: this.#sentAt + idleTimeoutMs, end: this.#silent() }];
    const { text, at } = this.#refusal ?? { text: '', at: null };
    if (at !== null) {
      deadlines.push({ at: at + REFUSAL_GRACE_MS, end: this.#refused(text) });
    }
    return deadlines.reduce((first, other) => (other.at < first.at ? other : first));
  }

  #silent(): ReconcileEnd {
    if (this.#refusal) return this.#refused(this.#refusal.text);
    const { idleTimeoutMs } = this.#limits;
    if (this.rounds > 0) return failed('timeout', `no answer in ${idleTimeoutMs} ms`);
    return { type: 'unsupported', text: `no answer to NEG-OPEN in ${idleTimeoutMs} ms` };
  }

  #finish(end: ReconcileEnd): void {
    this.#end ??= end;
    this.#wake?.();
  }

  #receive(data: string): void {
    if (this.#end) return;
    const message = parseRelayMessage(data);
    const isOurs = 'subscription' in message && message.subscription === this.#id;
    if (!isOurs && isAnswer(message, this.#open)) return;
    this.#received += data.length;
    if (isOurs) this.#cancelSendAgain();
    if (!isOurs) this.#receiveUnrelated(message);
    else if (message.type === 'NEG-MSG') this.#receiveAnswer(message.payload);
    else if (message.type === 'NEG-ERR') this.#finish(this.#negErr(message.text));
    else if (message.type === 'CLOSED') this.#finish(this.#refused(message.text));
    if (this.#received > this.#limits.maxBytes)
      this.#finish(failed('overflow', `more than ${this.#limits.maxBytes} characters`));
  }

  /** Client and relay take turns: a second answer to one message is an error. */
  #receiveAnswer(payload: string): void {
    if (this.#isCopy(payload)) return;
    if (!this.#isWaiting) {
      this.#payload = null;
      this.#finish(failed('garbage', 'two answers to one message'));
      return;
    }
    this.#isWaiting = false;
    this.rounds += 1;
    this.bytes += payload.length;
    this.#payload = payload;
    this.#wake?.();
  }

  #receiveUnrelated(message: RelayMessage): void {
    this.#unrelated += 1;
    if (this.#unrelated > MAX_UNRELATED_MESSAGES) {
      this.#finish(failed('overflow', `more than ${MAX_UNRELATED_MESSAGES} unrelated messages`));
    } else if (message.type === 'NOTICE') this.#receiveNotice(message.text);
  }

  /** A refusal shortens the wait only when it cannot be a greeting of the connection. */
  #receiveNotice(text: string): void {
    const isAboutSession = isUnknownMessage(text) || text.includes(this.#id);
    if (!isAboutSession && !isRefusal(text, this.#id)) return;
    this.#cancelSendAgain();
    const isCertain = isAboutSession || !this.#isFirst;
    if (this.#refusal && (this.#refusal.at !== null || !isCertain)) return;
    this.#refusal = { text, at: isCertain ? performance.now() : null };
    this.#wake?.(); // starts the shorter deadline
  }

  /** Whether it is the second answer to a NEG-OPEN that was sent twice. */
  #isCopy(payload: string): boolean {
    if (!this.#copy) return false;
    if (this.#copy.payload === null) {
      this.#copy.payload = payload;
      return false;
    }
    const isCopy = this.#copy.payload === payload;
    this.#copy = null;
    return isCopy;
  }

  #negErr(text: string): ReconcileEnd {
    if (isTooLarge(text)) return { type: 'blocked', text };
    if (this.rounds === 0 && isDisabled(text)) return { type: 'unsupported', text };
    return failed(isClientOrFilterRefusal(text) ? 'refused' : 'neg_err', text);
  }

  /** A refusal by NOTICE or CLOSED: of the client or of the message. */
  #refused(text: string): ReconcileEnd {
    if (isTooLarge(text)) return { type: 'blocked', text };
    if (this.rounds > 0 || isClientOrFilterRefusal(text)) return failed('refused', text);
    return { type: 'unsupported', text };
  }
}
