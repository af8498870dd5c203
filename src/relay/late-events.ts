import { parseRelayMessage } from '../nostr/message.ts';
import type { RelayConnection } from './connection.ts';

/** An event that came for a subscription after its EOSE, and how many events that subscription had shown before. */
export interface LateEvent {
  readonly subscription: string;
  readonly event: unknown;
  readonly shown: number;
  /** When it came, Unix seconds. */
  readonly receivedAt: number;
}

/** Subscriptions whose late events are looked for: those of the pages just before. */
const MAX_SUBSCRIPTIONS = 500;
/** Late events that wait to be looked at, and their characters: what is beyond is not kept. */
const MAX_EVENTS = 2000;
const MAX_CHARS = 4 * 1024 * 1024;
/** The head of an EVENT frame, up to the end of a subscription id of ours. */
const EVENT_HEAD = /^\s*\[\s*"EVENT"\s*,\s*"([0-9a-f]{12})"/;

const OF_CONNECTION = new WeakMap<RelayConnection, LateEvents>();

/**
 * What a connection receives for subscriptions that the relay has ended by EOSE. It should be nothing, or an event
 * that the relay received in that moment: a page that comes after its EOSE shows that an EOSE of this relay is no end.
 * A subscription that we closed before its EOSE is not among them.
 */
export class LateEvents {
  /** Of each subscription that EOSE has ended: the events shown before it. */
  readonly #shown = new Map<string, number>();
  #events: LateEvent[] = [];
  #chars = 0;

  /** The late events of a connection, which are looked for from the first EOSE on. */
  static of(connection: RelayConnection): LateEvents {
    const existing = OF_CONNECTION.get(connection);
    if (existing) return existing;
    const made = new LateEvents();
    OF_CONNECTION.set(connection, made);
    connection.onMessage((data) => made.#receive(data));
    return made;
  }

  /** Notes that the relay has ended a subscription by EOSE, after so many events. */
  noteEose(subscription: string, shown: number): void {
    this.#shown.set(subscription, shown);
    if (this.#shown.size <= MAX_SUBSCRIPTIONS) return;
    for (const oldest of this.#shown.keys()) {
      this.#shown.delete(oldest);
      return;
    }
  }

  /** The late events that have come since the last call. */
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
    const receivedAt = Math.floor(Date.now() / 1000);
    this.#events.push({ subscription, event: message.event, shown, receivedAt });
    this.#chars += data.length;
  }
}
