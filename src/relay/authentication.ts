import { finalizeEvent } from 'nostr-tools/pure';
import { parseRelayMessage, type RelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';
import { deadline } from './deadline.ts';

/** Kind of the event that answers a challenge (NIP-42). */
const CLIENT_AUTHENTICATION = 22242;
/** A relay that challenges again and again is answered this often. */
const MAX_ATTEMPTS = 2;
/** Some relays send their challenge only after the refusal; it is waited for so long, in milliseconds. */
const CHALLENGE_GRACE_MS = 2000;
/** Challenges are signed and sent back: longer ones, in characters, are none. */
const MAX_CHALLENGE_LENGTH = 1024;

/** How it ended: `refused` is the relay's answer to our key, `impossible` that there was nothing to answer with or to. */
export type Authentication = 'accepted' | 'refused' | 'impossible';

/**
 * Answers a relay's NIP-42 challenge when a request was refused with `auth-required:`. It listens from the
 * start, because the challenge may come at any time before it is needed. Without a key it never succeeds.
 */
export class Authenticator {
  readonly #connection: RelayConnection;
  readonly #secretKey: Uint8Array | null;
  #challenge: string | null = null;
  #attempts = 0;
  #isAccepted = false;

  constructor(connection: RelayConnection, secretKey: Uint8Array | null) {
    this.#connection = connection;
    this.#secretKey = secretKey;
    connection.onMessage((data) => {
      if (!/^\s*\[\s*"AUTH"/.test(data)) return;
      this.#challenge = challengeOf(parseRelayMessage(data)) ?? this.#challenge;
    });
  }

  /** Whether the relay has accepted our key on this connection. */
  get isAccepted(): boolean {
    return this.#isAccepted;
  }

  /**
   * Signs the latest challenge and waits for the relay's OK. Never throws.
   *
   * @param timeoutMs longest wait for the OK, in milliseconds
   */
  async authenticate(timeoutMs: number, signal?: AbortSignal): Promise<Authentication> {
    if (!this.#secretKey || this.#attempts >= MAX_ATTEMPTS) return 'impossible';
    const grace = Math.min(timeoutMs, CHALLENGE_GRACE_MS);
    const challenge = this.#challenge ?? (await this.#hear(challengeOf, grace, signal));
    if (challenge === null) return 'impossible';
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
      this.#secretKey,
    );
    const accepted = this.#hear(
      (message) => (message.type === 'OK' && message.id === event.id ? message.accepted : null),
      timeoutMs,
      signal,
    );
    this.#connection.send(['AUTH', event]);
    switch (await accepted) {
      case null:
        return 'impossible';
      case true:
        this.#isAccepted = true;
        return 'accepted';
      case false:
        return 'refused';
    }
  }

  /** What is picked out of the first message that has it; null when none comes in time or any more. */
  #hear<T>(
    pick: (message: RelayMessage) => T | null,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<T | null> {
    return new Promise((resolve) => {
      const finish = (heard: T | null) => {
        cancel();
        stopListening();
        stopWatching();
        signal?.removeEventListener('abort', giveUp);
        resolve(heard);
      };
      const giveUp = () => finish(null);
      const stopListening = this.#connection.onMessage((data) => {
        const heard = pick(parseRelayMessage(data));
        if (heard !== null) finish(heard);
      });
      const stopWatching = this.#connection.onClosed(giveUp);
      const cancel = deadline(timeoutMs, giveUp);
      signal?.addEventListener('abort', giveUp, { once: true });
      if (signal?.aborted) giveUp();
    });
  }
}

function challengeOf(message: RelayMessage): string | null {
  return message.type === 'AUTH' && message.challenge.length <= MAX_CHALLENGE_LENGTH
    ? message.challenge
    : null;
}
