import type { NostrEvent } from '../../nostr/event.ts';
import { matchesFilter, type ReqFilter } from '../../nostr/filter.ts';

/** What is found by its filters. */
interface Entry<Subscription> {
  readonly subscription: Subscription;
  readonly filter: ReqFilter;
  readonly keys: readonly string[];
}

const ANY = 'any';

/**
 * Open subscriptions by what their filters name, so that an event is compared with those filters only that name its id,
 * its author, one of its tags or its kind, and with those that name nothing.
 */
export class SubscriptionIndex<Subscription> {
  readonly #byKey = new Map<string, Set<Entry<Subscription>>>();
  readonly #entries = new Map<Subscription, readonly Entry<Subscription>[]>();

  get size(): number {
    return this.#entries.size;
  }

  add(subscription: Subscription, filters: readonly ReqFilter[]): void {
    this.delete(subscription);
    const entries = filters.map((filter) => ({ subscription, filter, keys: keysOf(filter) }));
    this.#entries.set(subscription, entries);
    for (const entry of entries)
      for (const key of entry.keys) {
        const others = this.#byKey.get(key);
        if (others) others.add(entry);
        else this.#byKey.set(key, new Set([entry]));
      }
  }

  delete(subscription: Subscription): void {
    for (const entry of this.#entries.get(subscription) ?? [])
      for (const key of entry.keys) {
        const others = this.#byKey.get(key);
        others?.delete(entry);
        if (others?.size === 0) this.#byKey.delete(key);
      }
    this.#entries.delete(subscription);
  }

  /** Every open subscription. */
  all(): Subscription[] {
    return [...this.#entries.keys()];
  }

  /** The subscriptions with a filter that an event matches, each with one such filter. */
  matching(event: NostrEvent): Map<Subscription, ReqFilter> {
    const found = new Map<Subscription, ReqFilter>();
    for (const key of keysOfEvent(event))
      for (const { subscription, filter } of this.#byKey.get(key) ?? [])
        if (!found.has(subscription) && isInWindow(event, filter) && matchesFilter(event, filter))
          found.set(subscription, filter);
    return found;
  }
}

/** By what a filter is found: the values of the list that is rarest. */
function keysOf(filter: ReqFilter): string[] {
  if (filter.ids) return filter.ids.map((id) => `id ${id}`);
  if (filter.authors) return filter.authors.map((author) => `author ${author}`);
  const tag = Object.entries(filter).find(([name]) => name.startsWith('#'));
  if (tag) return (tag[1] as readonly string[]).map((value) => `${tag[0]} ${value}`);
  if (filter.kinds) return filter.kinds.map((kind) => `kind ${kind}`);
  return [ANY];
}

function* keysOfEvent({ id, pubkey, kind, tags }: NostrEvent): Generator<string> {
  yield `id ${id}`; // first: an expired event is shown to those who name its id
  yield ANY;
  yield `author ${pubkey}`;
  yield `kind ${kind}`;
  for (const [name, value] of tags)
    if (name?.length === 1 && value !== undefined) yield `#${name} ${value}`;
}

function isInWindow({ created_at }: NostrEvent, { since = 0, until }: ReqFilter): boolean {
  return created_at >= since && (until === undefined || created_at <= until);
}
