import type { NostrEvent } from '../../nostr/event.ts';
import { unixNow } from '../../nostr/unix-time.ts';
import type { Subscription } from './subscription.ts';
import { SubscriptionIndex } from './subscription-index.ts';
import { isBroadcast, isShown, type Viewer } from './visibility.ts';

/** The open subscriptions of all clients. */
export class LiveSubscriptions {
  readonly #index = new SubscriptionIndex<Subscription>();
  readonly #viewers = new Map<Subscription, Viewer>();
  /** Those whose stored events are sent, and the round of the journal that was being read then. */
  readonly #settling = new Map<Subscription, number>();
  readonly #onSent: () => void;
  #round = 0;

  /** @param onSent called for each event that was handed to a subscription */
  constructor(onSent: () => void = () => {}) {
    this.#onSent = onSent;
  }

  get size(): number {
    return this.#index.size;
  }

  /** Takes part from now on: what is committed later is either stored or new for it. */
  add(subscription: Subscription, viewer: Viewer): void {
    this.#index.add(subscription, subscription.filters);
    this.#viewers.set(subscription, viewer);
  }

  delete(subscription: Subscription): void {
    this.#index.delete(subscription);
    this.#viewers.delete(subscription);
    this.#settling.delete(subscription);
  }

  /** The stored events of a subscription are sent: after a round that begins now they can no longer come as new. */
  settleLater(subscription: Subscription): void {
    if (!subscription.hasEnded) this.#settling.set(subscription, this.#round);
  }

  /** Begins to read the journal. @returns the number of this round */
  beginRound(): number {
    this.#round += 1;
    return this.#round;
  }

  /** A round has read the journal to its end. */
  endRound(round: number): void {
    for (const [subscription, before] of this.#settling) {
      if (before >= round) continue;
      subscription.settle();
      this.#settling.delete(subscription);
    }
  }

  /** Hands a new event to everybody who may see it. */
  deliver(event: NostrEvent): void {
    if (!isBroadcast(event)) return;
    const now = unixNow();
    let json: string | null = null;
    for (const [subscription, filter] of this.#index.matching(event)) {
      const viewer = this.#viewers.get(subscription);
      if (!viewer || !isShown(event, filter.ids !== undefined, viewer, now)) continue;
      json ??= JSON.stringify(event);
      this.#onSent();
      if (!subscription.offer(event, json))
        this.#end(subscription, 'error: too many new events came before the stored ones were sent');
    }
  }

  /** Ends every subscription: new events may have been missed. */
  loseAll(): void {
    for (const subscription of this.#index.all())
      this.#end(subscription, 'error: new events may have been missed: subscribe again');
  }

  #end(subscription: Subscription, text: string): void {
    this.delete(subscription);
    subscription.end(text);
  }
}
