import { randomBytes } from 'node:crypto';
import type { EventFilter, Window } from '../nostr/filter.ts';
import { parseRelayMessage, type RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';
import { beginRequest, sendAgainWhenSilent } from './first-request.ts';
import type { LocalSet } from './local-set.ts';
import { type NeededRun, NegentropyInitiator } from './negentropy.ts';
import { NegentropyError } from './negentropy-message.ts';
import {
  isAboutUs,
  isDisabled,
  isRefusal,
  isTooLarge,
  isUnknownMessage,
} from './negentropy-refusal.ts';
import { isAnswer, type OpenRequests, openRequests } from './open-requests.ts';

/**
 * How a reconciliation ended. Only `done` proves anything; what was learned before another end is true all the same.
 * - `blocked`: the window is too large for the relay. Halve it. With `isFull` the relay lists more ids that we lack than
 *   are taken at once: fetch these, and reconcile once more.
 * - `unsupported`: the relay does not do NIP-77, whatever its NIP-11 document says. Remember it and page.
 * - `failed`: this time. `refused` carries what the relay said, for `refusalOf`.
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

export interface ReconcileLimits {
  /** Longest silence after a message of ours, in milliseconds. */
  readonly idleTimeoutMs: number;
  /** Longest time in all, in milliseconds. */
  readonly totalTimeoutMs: number;
  /** Answers taken. At frames of 60 KB one answer lists about 1,900 ids. */
  readonly maxRounds: number;
  /** Ids taken that we lack; with more it ends `blocked`, with `isFull`. */
  readonly maxNeed: number;
  /** Characters received, whatever they are. */
  readonly maxBytes: number;
  /** Bytes of a message of ours, before it becomes hex: see `frameSizeFor` (frame-size.ts). */
  readonly frameSizeLimit: number;
}

export interface Reconciliation {
  readonly end: ReconcileEnd;
  /** Ids, in hex, that the relay holds and the local set lacks. Their times are not known before their events are. */
  readonly need: string[];
  /** The needed ids in the order in which they were listed, between edges of which the times are known. */
  readonly runs: readonly NeededRun[];
  /** Positions in the local set of ids that the relay does not hold, or no longer. */
  readonly have: number[];
  /** Ids that the relay holds in the window, as far as it says; null unless done. */
  readonly relayIds: number | null;
  /**
   * `created_at` of the oldest id that both hold; null when there is none, or unless done. Nothing older than this and
   * than all that is needed was listed: a relay that shows an older event to a REQ has cut its list without a word.
   */
  readonly oldestShared: number | null;
  /** Answers of the relay. */
  readonly rounds: number;
  /** Characters of NIP-77 messages, both ways. */
  readonly bytes: number;
}

/** Messages that are no answer to us: a flood of them ends it. */
const MAX_UNRELATED_MESSAGES = 5000;
/** After a NOTICE that refuses, a relay that was going to answer has done so by then. */
const REFUSAL_GRACE_MS = 2000;

/**
 * Finds out which events of a window the relay holds that the local set lacks, and the other way round (NIP-77).
 * No event bodies are sent. The session is always closed, however it ends. Never throws.
 *
 * The filter goes out without `limit`, which would cut the relay's set, and keep strfry from its prepared trees.
 */
export async function reconcileWindow(
  connection: RelayConnection,
  filter: EventFilter,
  window: Window,
  local: LocalSet,
  limits: ReconcileLimits,
  signal?: AbortSignal,
): Promise<Reconciliation> {
  const exchange = new Exchange(connection, limits, signal);
  const initiator = new NegentropyInitiator(local, limits);
  try {
    exchange.send('NEG-OPEN', windowFilter(filter, window), initiator.open());
    const end = await converse(exchange, initiator, limits);
    const need = [...initiator.need];
    const { runs } = initiator;
    const have = [...initiator.have];
    const { rounds, bytes } = exchange;
    if (end.type !== 'done')
      return { end, need, runs, have, relayIds: null, oldestShared: null, rounds, bytes };
    const relayIds = local.size - have.length + need.length;
    const oldestShared = oldestBut(local, initiator.have);
    return { end, need, runs, have, relayIds, oldestShared, rounds, bytes };
  } finally {
    exchange.close();
  }
}

/** `created_at` of the first of the set that is not among those left out and whose time is known. */
function oldestBut(local: LocalSet, leftOut: ReadonlySet<number>): number | null {
  for (let index = 0; index < local.size; index++) {
    if (!leftOut.has(index) && !local.unplaced.has(index)) return local.createdAt(index);
  }
  return null;
}

function windowFilter(filter: EventFilter, { since, until }: Window) {
  return since > 0 ? { ...filter, since, until } : { ...filter, until };
}

async function converse(
  exchange: Exchange,
  initiator: NegentropyInitiator,
  { maxRounds }: ReconcileLimits,
): Promise<ReconcileEnd> {
  for (;;) {
    const answer = await exchange.answer();
    if (typeof answer !== 'string') return answer;
    try {
      const next = initiator.accept(answer);
      if (next === null) return { type: 'done' };
      if (exchange.rounds >= maxRounds)
        return failed('too_many_rounds', `not reconciled after ${maxRounds} rounds`);
      exchange.send('NEG-MSG', next);
    } catch (error) {
      if (!(error instanceof NegentropyError)) throw error;
      return endOf(error);
    }
  }
}

function endOf({ fault, message }: NegentropyError): ReconcileEnd {
  if (fault === 'too_many') return { type: 'blocked', text: message, isFull: true };
  if (fault === 'garbage') return failed('garbage', message);
  return { type: 'unsupported', text: message };
}

function failed(reason: ReconcileFailure, text: string): ReconcileEnd {
  return { type: 'failed', reason, text };
}

/** One NIP-77 session: messages out, answers in, and every way that it can end. */
class Exchange {
  rounds = 0;
  bytes = 0;
  readonly #id = randomBytes(6).toString('hex');
  readonly #connection: RelayConnection;
  readonly #limits: ReconcileLimits;
  readonly #signal: AbortSignal | undefined;
  readonly #stopListening: () => void;
  readonly #stopWatching: () => void;
  readonly #onAbort = () => this.#finish(failed('aborted', 'stopped'));
  readonly #open: OpenRequests;
  readonly #stopMinding: () => void;
  #deadline: number;
  #pausedAt: number | null = null;
  #end: ReconcileEnd | null = null;
  #payload: string | null = null;
  #isWaiting = false;
  #sentAt = 0;
  /** Whether NEG-OPEN is the first request of the connection: a NOTICE may be a greeting. */
  #isFirst = false;
  #cancelSendAgain: () => void = () => {};
  /** The answer to a NEG-OPEN that was sent twice, which may come twice; null otherwise. */
  #copy: { payload: string | null } | null = null;
  /** A NOTICE that refuses; `at` is when a shorter deadline began, null where it may be a greeting. */
  #refusal: { text: string; at: number | null } | null = null;
  #received = 0;
  #unrelated = 0;
  #wake: (() => void) | null = null;

  constructor(connection: RelayConnection, limits: ReconcileLimits, signal?: AbortSignal) {
    this.#connection = connection;
    this.#limits = limits;
    this.#signal = signal;
    this.#deadline = performance.now() + limits.totalTimeoutMs;
    this.#stopListening = connection.onMessage((data) => this.#receive(data));
    this.#open = openRequests(connection);
    this.#open.exchanges.add(this.#id);
    this.#stopMinding = connection.onFlow(() => this.#noteFlow());
    if (connection.isPausedByReader) this.#pausedAt = performance.now();
    this.#stopWatching = connection.onClosed(({ code, reason }) =>
      this.#finish(failed('disconnected', reason || `code ${code}`)),
    );
    signal?.addEventListener('abort', this.#onAbort, { once: true });
    if (signal?.aborted) this.#onAbort();
  }

  /** Sends a message whose last part is the payload; from then on an answer is waited for. */
  send(verb: 'NEG-OPEN' | 'NEG-MSG', ...parts: unknown[]): void {
    if (this.#end) return;
    this.bytes += String(parts.at(-1)).length;
    this.#isWaiting = true;
    this.#sentAt = performance.now();
    this.#connection.send([verb, this.#id, ...parts]);
    if (verb === 'NEG-OPEN' && beginRequest(this.#connection)) this.#sendAgainWhenSilent(parts);
  }

  #sendAgainWhenSilent(parts: readonly unknown[]): void {
    this.#isFirst = true;
    const { idleTimeoutMs } = this.#limits;
    this.#cancelSendAgain = sendAgainWhenSilent(this.#connection, this.#id, idleTimeoutMs, () => {
      if (this.#end) return false;
      this.#connection.send(['NEG-OPEN', this.#id, ...parts]);
      this.#copy = { payload: null };
      this.#deadline += performance.now() - this.#sentAt;
      this.#sentAt = performance.now();
      this.#wake?.(); // the deadline begins anew
      return true;
    });
  }

  /** The payload of the relay's answer, or how it ended instead. */
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
    this.#stopMinding();
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

  /** While nobody reads from the relay, its deadlines stand still; that of silence begins anew afterwards. */
  #noteFlow(): void {
    const now = performance.now();
    if (this.#pausedAt !== null) this.#deadline += now - this.#pausedAt;
    this.#pausedAt = this.#connection.isPausedByReader ? now : null;
    this.#sentAt = now;
    if (this.#refusal && this.#refusal.at !== null) this.#refusal.at = now;
    this.#wake?.();
  }

  /**
   * The deadline that passes first, and how it ends then: decided here, since timers may fire a little early. Null
   * while our readers hold the connection up; what it is held for by its junk counts in the total.
   */
  #nextDeadline(): { at: number; end: ReconcileEnd } | null {
    const { idleTimeoutMs, totalTimeoutMs } = this.#limits;
    if (this.#connection.isPausedByReader) return null;
    const total = {
      at: this.#deadline,
      end: failed('timeout', `not reconciled in ${totalTimeoutMs} ms`),
    };
    if (this.#connection.isPausedByUs) return total;
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

  /** Client and relay take turns: a second answer to one message is none. */
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

  /** A refusal shortens the wait only where it cannot be a greeting of the connection. */
  #receiveNotice(text: string): void {
    const isComplaint = isUnknownMessage(text) || text.includes(this.#id);
    if (!isComplaint && !isRefusal(text, this.#id)) return;
    this.#cancelSendAgain();
    const isCertain = isComplaint || !this.#isFirst;
    if (this.#refusal && (this.#refusal.at !== null || !isCertain)) return;
    this.#refusal = { text, at: isCertain ? performance.now() : null };
    this.#wake?.(); // the shorter deadline begins now
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
    return failed(isAboutUs(text) ? 'refused' : 'neg_err', text);
  }

  /** A refusal outside NIP-77, by NOTICE or CLOSED: of the client or of the message. */
  #refused(text: string): ReconcileEnd {
    if (isTooLarge(text)) return { type: 'blocked', text };
    if (this.rounds > 0 || isAboutUs(text)) return failed('refused', text);
    return { type: 'unsupported', text };
  }
}
