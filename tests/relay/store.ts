import type { NostrEvent } from '../../src/nostr/event.ts';
import { newestFirst } from '../fixtures/events.ts';
import type { Random } from '../fixtures/random.ts';

/** A filter of NIP-01 as it stood in a REQ. */
export interface RelayFilter {
  readonly ids?: readonly string[];
  readonly authors?: readonly string[];
  readonly kinds?: readonly number[];
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
  readonly [tag: `#${string}`]: readonly string[] | undefined;
}

export type FilterKey = 'ids' | 'authors' | 'kinds' | 'since' | 'until' | 'limit' | 'tags';

const HEX = /^[0-9a-f]{64}$/;
const isText = (value: unknown) => typeof value === 'string';
const isHex = (value: unknown) => typeof value === 'string' && HEX.test(value);
const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0;
const listOf = (test: (value: unknown) => boolean) => (value: unknown) =>
  Array.isArray(value) && value.every(test);

const FILTER_KEYS: Record<string, (value: unknown) => boolean> = {
  ids: listOf(isHex),
  authors: listOf(isHex),
  kinds: listOf(isCount),
  since: isCount,
  until: isCount,
  limit: isCount,
};

/** What is wrong with a filter, strictly by NIP-01 so that a careless client is found out; null when nothing is. */
export function filterFault(value: unknown): string | null {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return 'invalid: a filter is an object';
  for (const [key, part] of Object.entries(value)) {
    const test = /^#[a-zA-Z]$/.test(key) ? listOf(isText) : FILTER_KEYS[key];
    if (!test) return `unsupported: filter contains unknown elements (${key})`;
    if (!test(part)) return `invalid: ${key} of the filter`;
  }
  return null;
}

/** Whether the event answers the filter, `limit` apart. An empty list is answered by nothing. */
export function answersFilter(event: NostrEvent, filter: RelayFilter): boolean {
  const { ids, authors, kinds, since = 0, until = Number.POSITIVE_INFINITY } = filter;
  if (event.created_at < since || event.created_at > until) return false;
  if (ids && !ids.includes(event.id)) return false;
  if (authors && !authors.includes(event.pubkey)) return false;
  if (kinds && !kinds.includes(event.kind)) return false;
  for (const key in filter) {
    if (key.startsWith('#') && !hasTag(event, key.slice(1), filter[key as '#t'] ?? []))
      return false;
  }
  return true;
}

function hasTag(event: NostrEvent, name: string, values: readonly string[]): boolean {
  return event.tags.some(
    ([tag, value]) => tag === name && value !== undefined && values.includes(value),
  );
}

/** The filter without some of its keys: what a relay sees that does not know them. */
export function withoutKeys(filter: RelayFilter, ignored: readonly FilterKey[]): RelayFilter {
  const kept = Object.entries(filter).filter(
    ([key]) => !ignored.includes((key.startsWith('#') ? 'tags' : key) as FilterKey),
  );
  return Object.fromEntries(kept);
}

/** Which of the matching events make the page when there are more than may be sent. */
export type Selection = 'newest' | 'oldest' | 'random';

export interface SelectOptions {
  /** Most events for each filter, whatever its own `limit`. */
  readonly cap?: number;
  /** For a filter without `limit`. */
  readonly defaultLimit?: number;
  readonly select?: Selection;
  readonly random?: Random;
}

export interface Selected {
  /** Newest first, ties by id, each once. */
  readonly events: NostrEvent[];
  /** Whether more matching events are stored than were selected. */
  readonly more: boolean;
  /** Whether the cap, rather than the client's limit, kept some back. */
  readonly capped: boolean;
}

/** The events of a relay in memory, ordered as NIP-01 asks; a window is found by binary search. Nothing is verified. */
export class EventStore {
  readonly #byId = new Map<string, NostrEvent>();
  readonly #json = new Map<string, string>();
  #sorted: NostrEvent[] = [];

  get size(): number {
    return this.#sorted.length;
  }

  /** All events, newest first. */
  all(): readonly NostrEvent[] {
    return this.#sorted;
  }

  has(id: string): boolean {
    return this.#byId.has(id);
  }

  /** Stores events. @returns those that were not there yet. */
  add(events: Iterable<NostrEvent>): NostrEvent[] {
    const fresh: NostrEvent[] = [];
    for (const event of events) {
      if (this.#byId.has(event.id)) continue;
      this.#byId.set(event.id, event);
      fresh.push(event);
    }
    if (fresh.length > 20) this.#sorted = this.#sorted.concat(fresh).sort(newestFirst);
    else for (const event of fresh) this.#sorted.splice(this.#place(event), 0, event);
    return fresh;
  }

  remove(ids: Iterable<string>): void {
    const gone = new Set(ids);
    for (const id of gone) {
      this.#byId.delete(id);
      this.#json.delete(id);
    }
    this.#sorted = this.#sorted.filter((event) => !gone.has(event.id));
  }

  /** The event as JSON; made once for each, since pages are served again and again. */
  json(event: NostrEvent): string {
    if (this.#byId.get(event.id) !== event) return JSON.stringify(event);
    const known = this.#json.get(event.id);
    if (known !== undefined) return known;
    const text = JSON.stringify(event);
    this.#json.set(event.id, text);
    return text;
  }

  /** What answers any of the filters, each cut to its own limit (NIP-01). */
  select(filters: readonly RelayFilter[], options: SelectOptions = {}): Selected {
    const parts = filters.map((filter) => this.#selectOne(filter, options));
    const [only] = parts;
    if (only && parts.length === 1) return only;
    const union = new Set(parts.flatMap((part) => part.events));
    return {
      events: [...union].sort(newestFirst),
      more: parts.some((part) => part.more),
      capped: parts.some((part) => part.capped),
    };
  }

  #selectOne(filter: RelayFilter, options: SelectOptions): Selected {
    const {
      cap = Number.POSITIVE_INFINITY,
      defaultLimit = Number.POSITIVE_INFINITY,
      select = 'newest',
    } = options;
    const wanted = filter.limit ?? defaultLimit;
    const most = Math.min(wanted, cap);
    const found = this.#find(
      filter,
      select === 'random' ? Number.POSITIVE_INFINITY : most + 1,
      select,
    );
    const more = found.length > most;
    const kept =
      select === 'random' && more && options.random ? options.random.shuffle(found) : found;
    return { events: kept.slice(0, most).sort(newestFirst), more, capped: more && cap < wanted };
  }

  /** Up to `most` matches, from the newest or the oldest end of the window. */
  #find(filter: RelayFilter, most: number, select: Selection): NostrEvent[] {
    const candidates = filter.ids ? this.#named(filter.ids) : this.#sorted;
    const first = filter.ids ? 0 : this.#firstAtOrBelow(filter.until ?? Number.POSITIVE_INFINITY);
    const end = filter.ids ? candidates.length : this.#firstAtOrBelow((filter.since ?? 0) - 1);
    const found: NostrEvent[] = [];
    for (let step = 0; step < end - first && found.length < most; step++) {
      const event = candidates[select === 'oldest' ? end - 1 - step : first + step];
      if (event && answersFilter(event, filter)) found.push(event);
    }
    return found;
  }

  #named(ids: readonly string[]): NostrEvent[] {
    const events = [...new Set(ids)].map((id) => this.#byId.get(id));
    return events.filter((event) => event !== undefined).sort(newestFirst);
  }

  #firstAtOrBelow(second: number): number {
    return firstIndex(this.#sorted, (event) => event.created_at <= second);
  }

  #place(event: NostrEvent): number {
    return firstIndex(this.#sorted, (other) => newestFirst(event, other) < 0);
  }
}

/** Binary search in a list where the test fails for a head and holds for the rest: where the rest begins. */
function firstIndex<T>(items: readonly T[], test: (item: T) => boolean): number {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (test(items[middle] as T)) high = middle;
    else low = middle + 1;
  }
  return low;
}
