import { once } from 'node:events';
import { WebSocket } from 'ws';
import { deadline } from '../../src/network/deadline.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';

export interface Answer {
  readonly events: NostrEvent[];
  /** The message that ended it, or null when the relay fell silent or the socket went first. */
  readonly end: readonly unknown[] | null;
}

/**
 * A bare WebSocket client to look at relays with, independent of the archive's own. It has no policy and trusts
 * everybody: for tests only.
 */
export class RelayClient {
  readonly socket: WebSocket;
  /** Every message in order, parsed; what is not JSON as its text. */
  readonly messages: unknown[][] = [];
  #count = 0;
  readonly #waiting = new Set<() => void>();
  readonly #listeners = new Set<(message: readonly unknown[]) => void>();

  constructor(url: string, options: { readonly perMessageDeflate?: boolean } = {}) {
    this.socket = new WebSocket(url, { perMessageDeflate: false, ...options });
    this.socket.on('error', () => {}); // 'close' follows
    this.socket.on('message', (data: Buffer) => this.#receive(data.toString()));
    this.socket.on('close', () => this.#changed());
  }

  /** Opens a connection. @throws when the handshake fails. */
  static async connect(
    url: string,
    options: { readonly perMessageDeflate?: boolean } = {},
  ): Promise<RelayClient> {
    const client = new RelayClient(url, options);
    await once(client.socket, 'open');
    return client;
  }

  get isClosed(): boolean {
    return this.socket.readyState === WebSocket.CLOSED;
  }

  send(...message: readonly unknown[]): void {
    this.socket.send(JSON.stringify(message));
  }

  /** Sends one REQ under a fresh id, or the given one, and gives what came until EOSE, CLOSED or a NOTICE. */
  async request(
    filters: object | readonly object[],
    options: RequestOptions = {},
  ): Promise<Answer> {
    this.#count += 1;
    const { id = `s${this.#count}`, silenceMs = 2000 } = options;
    const events: NostrEvent[] = [];
    let end: readonly unknown[] | null = null;
    const listener = (message: readonly unknown[]) => {
      if (end) return;
      const [type, name, event] = message;
      if (type === 'EVENT' && name === id) events.push(event as NostrEvent);
      else if (type === 'NOTICE' || ((type === 'EOSE' || type === 'CLOSED') && name === id))
        end = message;
    };
    this.#listeners.add(listener);
    this.send('REQ', id, ...[filters].flat());
    await this.until(() => end !== null || this.isClosed, silenceMs);
    this.#listeners.delete(listener);
    return { events, end };
  }

  /** Sends an EVENT and gives its OK. */
  async publish(event: NostrEvent): Promise<readonly unknown[] | null> {
    this.send('EVENT', event);
    return this.next(([type, id]) => type === 'OK' && id === event.id);
  }

  /**
   * The first message that passes, among those that came and those to come; null when the relay sends nothing for
   * `silenceMs` before. Each message is looked at once, however many there are.
   */
  async next(
    test: (message: readonly unknown[]) => boolean,
    silenceMs = 2000,
  ): Promise<readonly unknown[] | null> {
    let seen = 0;
    let found: readonly unknown[] | null = null;
    const search = () => {
      for (; !found && seen < this.messages.length; seen += 1) {
        const message = this.messages[seen] as unknown[];
        if (test(message)) found = message;
      }
      return found !== null;
    };
    await this.until(search, silenceMs);
    return found;
  }

  /** Waits until the test holds, looked at after every message. @returns false when the relay is silent for `silenceMs` before. */
  until(test: () => boolean, silenceMs = 2000): Promise<boolean> {
    return new Promise((resolve) => {
      let cancel = () => {};
      const settle = (held: boolean) => {
        cancel();
        this.#waiting.delete(check);
        resolve(held);
      };
      const check = () => {
        cancel();
        if (test()) settle(true);
        else cancel = deadline(silenceMs, () => settle(false));
      };
      this.#waiting.add(check);
      check();
    });
  }

  async close(): Promise<void> {
    this.socket.terminate();
    await this.until(() => this.isClosed);
  }

  #receive(text: string): void {
    const message = parsed(text);
    this.messages.push(message);
    for (const listener of this.#listeners) listener(message);
    this.#changed();
  }

  #changed(): void {
    for (const check of this.#waiting) check();
  }
}

interface RequestOptions {
  readonly id?: string;
  readonly silenceMs?: number;
}

function parsed(text: string): unknown[] {
  try {
    const message: unknown = JSON.parse(text);
    return Array.isArray(message) ? message : [message];
  } catch {
    return [text];
  }
}
