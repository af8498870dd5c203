import { finalizeEvent } from 'nostr-tools/pure';
import { parseRelayMessage, type RelayMessage } from '../nostr/message.ts';
import { answerDeadline } from './answer-deadline.ts';
import type { RelayConnection } from './connection.ts';

/** Kind of the event that answers a challenge (NIP-42). */
const CLIENT_AUTHENTICATION = 22242;
/** A relay that challenges again and again, and answers no request in between, is answered this often. */
const MAX_ATTEMPTS = 2;
/** Some relays send their challenge only after the refusal; it is waited for so long, in milliseconds. */
const CHALLENGE_GRACE_MS = 2000;
/** Longest wait for an OK before the request is sent again without it, in milliseconds: some relays never send one. */
const OK_MS = 5000;
/** Challenges are signed and sent back: longer ones, in characters, are none. */
const MAX_CHALLENGE_LENGTH = 1024;
/** Messages that the Authenticator has to parse: challenges, OKs, and what only a relay sends that answers a request. */
const RELEVANT = /^\s*\[\s*"(AUTH|OK|EOSE|COUNT|NEG-MSG)"/;

/**
 * How it ended: `refused` is the relay's answer to our key, `unanswered` that it has not said OK (the request may be
 * served now all the same), `impossible` that there was nothing to answer with or to.
 */
export type Authentication = 'accepted' | 'refused' | 'unanswered' | 'impossible';

/** Whether the request that was refused may be sent once more. */
export function mayBeServed(authentication: Authentication): boolean {
  return authentication === 'accepted' || authentication === 'unanswered';
}

/** An AUTH that was sent. */
interface Attempt {
  readonly id: string;
  readonly challenge: string;
  readonly sentAt: number;
  /** What the OK said; null while none has come. */
  accepted: boolean | null;
}

/**
 * Answers a relay's NIP-42 challenge when a request was refused with `auth-required:`. It listens from the
 * start, because the challenge may come at any time before it is needed. Without a key it never succeeds.
 */
export class Authenticator {
  readonly #connection: RelayConnection;
  readonly #secretKey: Uint8Array | null;
  #challenge: string | null = null;
  /** Since the relay has last answered a request: a session that expires is renewed as often as it does. */
  #attempts = 0;
  #latest: Attempt | null = null;
  #onChange: () => void = () => {};
  #isAccepted = false;

  constructor(connection: RelayConnection, secretKey: Uint8Array | null) {
    this.#connection = connection;
    this.#secretKey = secretKey;
    connection.onMessage((data) => {
      if (RELEVANT.test(data)) this.#receive(parseRelayMessage(data));
    });
  }

  /** Whether the relay has refused our key, perhaps only after the request was sent again. */
  get isRefused(): boolean {
    return this.#latest?.accepted === false;
  }

  /** Whether the relay has accepted our key on this connection. */
  get isAccepted(): boolean {
    return this.#isAccepted;
  }

  /** Notes that the relay has served a request: what it asks for from now on is asked for anew. */
  noteServed(): void {
    this.#attempts = 0;
  }

  /**
   * Signs the latest challenge and waits for the relay's OK: not longer than 5 seconds at first, since it may never
   * come. Called again because the request was refused again, it waits for the rest of the time. Never throws.
   *
   * @param timeoutMs longest wait for the OK in all, in milliseconds
   */
  async authenticate(timeoutMs: number, signal?: AbortSignal): Promise<Authentication> {
    if (!this.#secretKey) return 'impossible';
    const open = this.#openAttempt();
    if (open) return this.#outcome(open, timeoutMs, signal);
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

  /** The AUTH before, where it answers the latest challenge and was not accepted: its OK may still come. */
  #openAttempt(): Attempt | null {
    const latest = this.#latest;
    if (!latest || this.#attempts === 0 || latest.challenge !== this.#challenge) return null;
    return latest.accepted === true ? null : latest;
  }

  #send(challenge: string, secretKey: Uint8Array): Attempt {
    this.#attempts += 1;
    const event = finalizeEvent(
      {
        kind: CLIENT_AUTHENTICATION,
        created_at: Math.floor(Date.now() / 1000),
        tags: [
          ['relay', this.#connection.url],
          ['challenge', challenge],
        ],
        content: '',
      },
      secretKey,
    );
    const attempt = { id: event.id, challenge, sentAt: performance.now(), accepted: null };
    this.#latest = attempt;
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
    if (message.type === 'AUTH') this.#challenge = challengeOf(message) ?? this.#challenge;
    else if (message.type !== 'OK') this.noteServed();
    else if (message.id === this.#latest?.id) {
      this.#latest.accepted ??= message.accepted;
      this.#isAccepted ||= message.accepted;
    }
    this.#onChange();
  }

  /** Resolves when the test holds, the time is over, or the connection or the caller ends it. */
  #until(test: () => boolean, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        this.#onChange = () => {};
        cancel();
        stopWatching();
        signal?.removeEventListener('abort', finish);
        resolve();
      };
      this.#onChange = () => test() && finish();
      const stopWatching = this.#connection.onClosed(finish);
      const cancel = answerDeadline(this.#connection, timeoutMs, finish);
      signal?.addEventListener('abort', finish, { once: true });
      if (signal?.aborted || test()) finish();
    });
  }
}

/** With what a request is answered that asks for NIP-42. */
export interface AuthenticationTerms {
  readonly authenticator: Authenticator;
  /** Longest wait for an OK, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Sends a request, and again after NIP-42 while the relay asks for it: a bounded number of times.
 *
 * @param ask sends it; hears whether the relay has been sent an AUTH for it
 * @param isRefused whether the answer asks for NIP-42
 * @returns the last answer, and how the last authentication ended; null where none was asked for
 */
export async function askAuthenticated<Answer>(
  ask: (authenticated: boolean) => Promise<Answer>,
  isRefused: (answer: Answer) => boolean,
  { authenticator, timeoutMs, signal }: AuthenticationTerms,
): Promise<{ answer: Answer; authentication: Authentication | null }> {
  let answer = await ask(false);
  let authentication: Authentication | null = null;
  for (let times = 0; times <= MAX_ATTEMPTS && isRefused(answer); times += 1) {
    authentication = await authenticator.authenticate(timeoutMs, signal);
    if (!mayBeServed(authentication)) break;
    answer = await ask(true);
  }
  if (!isRefused(answer)) authenticator.noteServed();
  return { answer, authentication };
}

function challengeOf(message: Extract<RelayMessage, { type: 'AUTH' }>): string | null {
  return message.challenge.length <= MAX_CHALLENGE_LENGTH ? message.challenge : null;
}
