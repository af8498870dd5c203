import { finalizeEvent } from 'nostr-tools/pure';
import { parseRelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';

/** Kind of the event that answers a challenge (NIP-42). */
const CLIENT_AUTHENTICATION = 22242;
/** A relay that challenges again and again is answered this often. */
const MAX_ATTEMPTS = 2;

/**
 * Answers a relay's NIP-42 challenge when a request was refused with `auth-required:`. It listens from the
 * start, because the challenge may come at any time before it is needed. Without a key it never succeeds.
 */
export class Authenticator {
  readonly #connection: RelayConnection;
  readonly #secretKey: Uint8Array | null;
  #challenge: string | null = null;
  #attempts = 0;

  constructor(connection: RelayConnection, secretKey: Uint8Array | null) {
    this.#connection = connection;
    this.#secretKey = secretKey;
    connection.onMessage((data) => {
      if (!/^\s*\[\s*"AUTH"/.test(data)) return;
      const message = parseRelayMessage(data);
      if (message.type === 'AUTH') this.#challenge = message.challenge;
    });
  }

  /**
   * Signs the latest challenge and waits for the relay's OK.
   *
   * @param timeoutMs longest wait for the OK, in milliseconds
   * @returns whether the relay accepted; false as well without a key or a challenge. Never throws.
   */
  async authenticate(timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    const challenge = this.#challenge;
    if (!this.#secretKey || challenge === null || this.#attempts >= MAX_ATTEMPTS) return false;
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
    const accepted = this.#okFor(event.id, timeoutMs, signal);
    this.#connection.send(['AUTH', event]);
    return accepted;
  }

  #okFor(id: string, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (accepted: boolean) => {
        clearTimeout(timer);
        stopListening();
        signal?.removeEventListener('abort', refuse);
        resolve(accepted);
      };
      const refuse = () => finish(false);
      const stopListening = this.#connection.onMessage((data) => {
        const message = parseRelayMessage(data);
        if (message.type === 'OK' && message.id === id) finish(message.accepted);
      });
      const timer = setTimeout(refuse, timeoutMs);
      void this.#connection.closed.then(refuse);
      signal?.addEventListener('abort', refuse, { once: true });
    });
  }
}
