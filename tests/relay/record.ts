import type { NostrEvent } from '../../src/nostr/event.ts';
import type { RelayFilter } from './store.ts';

/** A REQ as the relay saw it, and what it got. */
export interface SeenRequest {
  /** Counted over the relay, from 1. */
  readonly n: number;
  /** Milliseconds of `performance.now()`. */
  readonly at: number;
  /** Which connection, counted from 1. */
  readonly connection: number;
  readonly subscription: string;
  readonly filters: readonly RelayFilter[];
  /** Length of the message. */
  readonly bytes: number;
  /** EVENTs sent for it until its end. */
  eventsSent: number;
  /** How it was ended: `eose`, `finish`, `more`, `closed`, `notice`, `silence`, `disconnect`, `cancelled`…; null before. */
  end: string | null;
}

export interface SeenFetch {
  readonly at: number;
  readonly path: string;
  readonly accept: string;
}

/** Everything a scripted relay has seen and done. */
export class RelayRecord {
  readonly requests: SeenRequest[] = [];
  /** Every message of a client, parsed, REQ included, in order; what is not JSON as its text. */
  readonly messages: { readonly connection: number; readonly message: unknown }[] = [];
  /** Events that clients have sent, accepted or not. */
  readonly published: NostrEvent[] = [];
  /** HTTP requests, NIP-11 for most. */
  readonly fetches: SeenFetch[] = [];
  readonly connections = { open: 0, total: 0, max: 0 };
  /** Payload of messages, framing apart. */
  readonly bytes = { received: 0, sent: 0 };
  eventsSent = 0;
  /** How often each quirk has really happened, by its name. */
  readonly fired: Record<string, number> = {};
  readonly #waiting = new Set<() => void>();

  /** Notes that a quirk has happened. */
  fire(name: string): void {
    this.fired[name] = (this.fired[name] ?? 0) + 1;
    this.changed();
  }

  opened(): void {
    this.connections.open += 1;
    this.connections.total += 1;
    this.connections.max = Math.max(this.connections.max, this.connections.open);
    this.changed();
  }

  closed(): void {
    this.connections.open -= 1;
    this.changed();
  }

  /** Begins anew, with the connections that are open now. REQs are counted from 1 again. */
  forget(): void {
    for (const list of [this.requests, this.messages, this.published, this.fetches])
      list.length = 0;
    for (const name of Object.keys(this.fired)) delete this.fired[name];
    this.eventsSent = 0;
    Object.assign(this.bytes, { received: 0, sent: 0 });
    Object.assign(this.connections, { total: this.connections.open, max: this.connections.open });
  }

  /** Wakes those who wait for something to be seen. */
  changed(): void {
    for (const check of this.#waiting) check();
  }

  /**
   * Resolves once the test holds.
   *
   * @throws Error when that has not come about in time.
   */
  until(test: () => boolean, what: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(check);
      };
      const timer = setTimeout(() => {
        done();
        reject(new Error(`the scripted relay waited ${timeoutMs} ms in vain for: ${what}`));
      }, timeoutMs);
      const check = () => {
        if (!test()) return;
        done();
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }
}
