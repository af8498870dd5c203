import { makeAuthEvent } from 'nostr-tools/nip42';
import { parseRelayMessage, type RelayMessage } from '../nostr/message.ts';
import { signEvent } from '../nostr/sign.ts';
import type { RelayConnection } from './connection.ts';
import { waitOn } from './wait-on.ts';

/** Most AUTHs to a relay that challenges again and again and answers no request in between. */
const MAX_ATTEMPTS = 2;
/** Some relays send their challenge only after the refusal: longest wait for it, in milliseconds. */
const CHALLENGE_GRACE_MS = 2000;
/** Longest wait for an OK before the request is sent again without it, in milliseconds: some relays never send one. */
const OK_MS = 5000;
/** Longest challenge that is signed, in characters; longer ones are ignored. */
const MAX_CHALLENGE_LENGTH = 1024;
/** Messages that are parsed: challenges, OKs, and answers that only a relay sends that serves requests. */
const RELEVANT = /^\s*\[\s*"(AUTH|OK|EOSE|COUNT|NEG-MSG)"/;

/** Messages of a relay that serves requests, or refuses them one by one. */
const ANSWER = /^\s*\[\s*"(EVENT|EOSE|CLOSED|COUNT|NEG-MSG|NEG-ERR)"/;

/**
 * How an authentication ended: `refused` by an OK false, `unanswered` without an OK, `impossible` without a key, a
 * challenge or a connection, or with too many attempts.
 */
export type Authentication = 'accepted' | 'refused' | 'unanswered' | 'impossible';

/**
 * Whether a request may be sent again. OK false refuses only the AUTH, and some relays serve the request all the same.
 *
 * @param before how the previous authentication for the same request ended; null when there was none
 */
export function maySendAgain(before: Authentication | null, now: Authentication): boolean {
  const isLate = before === 'unanswered' && now === 'refused'; // of the same AUTH, after which it was sent already
  return now !== 'impossible' && !isLate && before !== 'refused';
}

/** An AUTH that was sent. */
interface Attempt {
  readonly id: string;
  readonly challenge: string;
  readonly sentAt: number;
  /** The OK; null while none has arrived. */
  accepted: boolean | null;
}

/**
 * Answers the NIP-42 challenges of one connection.
 *
 * States:
 * - **unchallenged**: no challenge has arrived. `authenticate` waits for one for `CHALLENGE_GRACE_MS`.
 * - **challenged**: a challenge arrived, at any time, since relays send it with the upgrade or only after a refusal. A later
 *   challenge replaces it.
 * - **pending**: AUTH for the latest challenge is sent, and its OK has not arrived. The first `authenticate` waits for it
 *   for `OK_MS`, then the request is sent again without it. A second one waits for the rest of its own timeout.
 * - **accepted** or **refused**: the OK arrived, however late. A new challenge leads back to *challenged*.
 *
 * Guaranteed: at most `MAX_ATTEMPTS` AUTHs are sent until the relay answers a request (`noteServed` or an EOSE, COUNT or
 * NEG-MSG), so a session that expires can be renewed as often as it does, and a relay that only challenges cannot loop.
 * Without a key nothing is ever sent. `authenticate` never throws.
 */
export class Authenticator {
  readonly #connection: RelayConnection;
  readonly #secretKey: Uint8Array | null;
  #challenge: string | null = null;
  /** AUTHs since the relay last answered a request. */
  #attempts = 0;
  #latest: Attempt | null = null;
  #onChange: () => void = () => {};
  #isAccepted = false;
  /** Whether a request was answered since the latest challenge or AUTH. */
  #isAnswering = false;

  constructor(connection: RelayConnection, secretKey: Uint8Array | null) {
    this.#connection = connection;
    this.#secretKey = secretKey;
    connection.onMessage((data) => {
      this.#isAnswering ||= ANSWER.test(data);
      if (RELEVANT.test(data)) this.#receive(parseRelayMessage(data));
    });
  }

  /** Whether the relay has refused the key, perhaps only after the request was sent again, and has answered nothing since. */
  get isRefused(): boolean {
    return this.#latest?.accepted === false && !this.#isAnswering;
  }

  /** Whether the relay may be withholding answers: its latest challenge was not answered, and it has answered nothing since. */
  get mayHoldBack(): boolean {
    const challenge = this.#challenge;
    return challenge !== null && challenge !== this.#latest?.challenge && !this.#isAnswering;
  }

  /** Whether the relay has accepted the key on this connection. */
  get isAccepted(): boolean {
    return this.#isAccepted;
  }

  /** Records that the relay has served a request: attempts are counted from zero again. */
  noteServed(): void {
    this.#attempts = 0;
  }

  /**
   * Signs the latest challenge and waits for the OK: at first at most 5 seconds, since it may never arrive. Called again
   * because the request was refused again, it waits for the rest of the time. Never throws.
   *
   * @param timeoutMs longest wait for the OK in all, in milliseconds
   */
  async authenticate(timeoutMs: number, signal?: AbortSignal): Promise<Authentication> {
    if (!this.#secretKey) return 'impossible';
    const pending = this.#pendingAttempt();
    if (pending) return this.#outcome(pending, timeoutMs, signal);
    if (this.#attempts >= MAX_ATTEMPTS) return 'impossible';
    const grace = Math.min(timeoutMs, CHALLENGE_GRACE_MS);
    await this.#until(() => this.#challenge !== null, grace, signal);
    const challenge = this.#challenge;
    if (challenge === null || signal?.aborted || !this.#connection.isOpen) return 'impossible';
    const attempt = this.#send(challenge, this.#secretKey);
    const outcome = await this.#outcome(attempt, Math.min(timeoutMs, OK_MS), signal);
    const isSilent = outcome === 'impossible' && !signal?.aborted && this.#connection.isOpen;
    return isSilent ? 'unanswered' : outcome;
  }

  /** The previous AUTH if it answers the latest challenge and was not accepted: its OK may still arrive. */
  #pendingAttempt(): Attempt | null {
    const latest = this.#latest;
    if (!latest || this.#attempts === 0 || latest.challenge !== this.#challenge) return null;
    return latest.accepted === true ? null : latest;
  }

  #send(challenge: string, secretKey: Uint8Array): Attempt {
    this.#attempts += 1;
    const event = signEvent(makeAuthEvent(this.#connection.url, challenge), secretKey);
    const attempt = { id: event.id, challenge, sentAt: performance.now(), accepted: null };
    this.#latest = attempt;
    this.#isAnswering = false;
    this.#connection.send(['AUTH', event]);
    return attempt;
  }

  async #outcome(
    attempt: Attempt,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Authentication> {
    const left = attempt.sentAt + timeoutMs - performance.now();
    await this.#until(() => attempt.accepted !== null, Math.max(0, left), signal);
    if (attempt.accepted === null) return 'impossible';
    return attempt.accepted ? 'accepted' : 'refused';
  }

  #receive(message: RelayMessage): void {
    if (message.type === 'AUTH') this.#receiveChallenge(message.challenge);
    else if (message.type !== 'OK') this.noteServed();
    else if (message.id === this.#latest?.id) {
      this.#latest.accepted ??= message.accepted;
      this.#isAccepted ||= message.accepted;
    }
    this.#onChange();
  }

  #receiveChallenge(challenge: string): void {
    if (challenge.length > MAX_CHALLENGE_LENGTH) return;
    this.#challenge = challenge;
    this.#isAnswering = false;
  }

  /** Resolves when the condition holds, or at the deadline, the end of the connection or an abort. */
  #until(condition: () => boolean, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const end = () => {};
    const limits = { timeoutMs, signal, onTimeout: end, onClosed: end, onAbort: end };
    return waitOn<void>(this.#connection, limits, ({ finish }) => {
      this.#onChange = () => condition() && finish();
      this.#onChange();
      return () => {
        this.#onChange = () => {};
      };
    });
  }
}

/** How a request is authenticated when the relay asks for NIP-42. */
export interface AuthenticationTerms<Answer> {
  readonly authenticator: Authenticator;
  /** Longest wait for an OK, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** Whether an answer means silence, perhaps because the relay withholds answers; default: never. */
  readonly isSilent?: (answer: Answer) => boolean;
}

/**
 * Sends a request, and again after NIP-42 while the relay asks for it, or is silent after its challenge: a bounded number
 * of times, and once when the relay refuses the key.
 *
 * @param ask sends it; `authenticated`: whether an AUTH was sent before and not refused
 * @param isRefused whether the answer asks for NIP-42
 * @returns the last answer, and how the last authentication ended; null when there was none
 */
export async function askAuthenticated<Answer>(
  ask: (authenticated: boolean) => Promise<Answer>,
  isRefused: (answer: Answer) => boolean,
  { authenticator, timeoutMs, signal, isSilent = () => false }: AuthenticationTerms<Answer>,
): Promise<{ answer: Answer; authentication: Authentication | null }> {
  let answer = await ask(false);
  let authentication: Authentication | null = null;
  const mustAuthenticate = () =>
    isRefused(answer) || (isSilent(answer) && authenticator.mayHoldBack);
  for (let times = 0; times <= MAX_ATTEMPTS && mustAuthenticate(); times += 1) {
    const before: Authentication | null = authentication;
    if (before === 'refused') break;
    authentication = await authenticator.authenticate(timeoutMs, signal);
    if (!maySendAgain(before, authentication)) break;
    answer = await ask(authentication !== 'refused');
  }
  if (!isRefused(answer) && !isSilent(answer)) authenticator.noteServed();
  return { answer, authentication };
}
