import { parseRelayMessage } from '../nostr/message.ts';
import { unixNow } from '../nostr/unix-time.ts';
import type { RelayConnection } from './connection.ts';

/** An event that arrived for a subscription after its EOSE, and how many events had arrived before it. */
export interface LateEvent {
  readonly subscription: string;
  readonly event: unknown;
  readonly shown: number;
  /** When it arrived, Unix seconds. */
  readonly receivedAt: number;
}

/** Most subscriptions whose late events are recorded: those of the latest pages. */
const MAX_SUBSCRIPTIONS = 500;
/** Most late events that are kept until `take`, and their characters; more are dropped. */
const MAX_EVENTS = 2000;
const MAX_CHARS = 4 * 1024 * 1024;
/** The head of an EVENT frame with one of our subscription ids. */
const EVENT_HEAD = /^\s*\[\s*"EVENT"\s*,\s*"([0-9a-f]{12})"/;

const OF_CONNECTION = new WeakMap<RelayConnection, LateEvents>();

/**
 * Events of a connection that arrive for subscriptions after their EOSE. Normally there are none, or one that was published
 * at that moment. A page that arrives after its EOSE shows that an EOSE of this relay does not mean the end. Subscriptions
 * that were closed before their EOSE are not included.
 */
export class LateEvents {
  /** For each subscription that ended by EOSE: the number of events before it. */
  readonly #shown = new Map<string, number>();
  #events: LateEvent[] = [];
  #chars = 0;

  /** The late events of a connection, recorded from the first call on. */
  static of(connection: RelayConnection): LateEvents {
    const existing = OF_CONNECTION.get(connection);
    if (existing) return existing;
    const created = new LateEvents();
    OF_CONNECTION.set(connection, created);
    connection.onMessage((data) => created.#receive(data));
    return created;
  }

  /** Records that a subscription has ended by EOSE, after `shown` events. */
  noteEose(subscription: string, shown: number): void {
    this.#shown.set(subscription, shown);
    if (this.#shown.size <= MAX_SUBSCRIPTIONS) return;
    for (const oldest of this.#shown.keys()) {
      this.#shown.delete(oldest);
      return;
    }
  }

  /** The late events since the last call. */
  take(): LateEvent[] {
    const events = this.#events;
    this.#events = [];
    this.#chars = 0;
    return events;
  }

  #receive(data: string): void {
    const subscription = EVENT_HEAD.exec(data)?.[1];
    const shown = subscription === undefined ? undefined : this.#shown.get(subscription);
    if (subscription === undefined || shown === undefined) return;
    if (this.#events.length >= MAX_EVENTS || this.#chars > MAX_CHARS) return;
    const message = parseRelayMessage(data);
    if (message.type !== 'EVENT') return;
    const receivedAt = unixNow();
    this.#events.push({ subscription, event: message.event, shown, receivedAt });
    this.#chars += data.length;
  }
}
