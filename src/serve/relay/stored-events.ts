import type { Query } from '../../database/connection.ts';
import type { EventPlace, EventSelection } from '../../database/event-keys.ts';
import type { EventPage, PageSize } from '../../database/event-pages.ts';
import type { NostrEvent } from '../../nostr/event.ts';
import type { ReqFilter } from '../../nostr/filter.ts';
import { accessPathOf, readEvents, selectionOf } from '../query/event-query.ts';
import { ALONG_TIME, type FrequentTags } from '../query/frequent-tags.ts';
import { isShown, type Viewer } from './visibility.ts';

/** Reads in one transaction, when it is this client's turn. */
export type Read = <T>(work: (query: Query, shards: number) => Promise<T>) => Promise<T>;

/** Where events are read from. */
export interface EventSource {
  readonly read: Read;
  readonly tags: FrequentTags;
}

export interface StoredLimits {
  /** Events for a filter that names no limit, and the most for any. */
  readonly defaultLimit: number;
  readonly maxLimit: number;
  /** Events read at a time for one filter, and bytes of their content and tags. */
  readonly pageEvents: number;
  readonly pageBytes: number;
  /** Longest time for one page, in milliseconds. */
  readonly pageMs: number;
}

/** What an answer leaves out (NIP-67): nothing, something, or it is not known. */
export type Completeness = 'finish' | 'more' | 'unknown';

/** The stored events of one filter, newest first, read in pages as they are needed. */
class FilterReader {
  /** Events that are read and not given yet. */
  readonly events: NostrEvent[] = [];
  readonly #selection: EventSelection | null;
  readonly #isNamed: boolean;
  readonly #viewer: Viewer;
  readonly #limits: StoredLimits;
  /** Events that may still be given, and one more, which shows that there are more. */
  #left: number;
  #after: EventPlace | null = null;
  #isAtEnd = false;
  completeness: Completeness = 'finish';
  /** The id of the event that shows that there are more. */
  beyond: string | null = null;

  constructor(filter: ReqFilter, viewer: Viewer, limits: StoredLimits) {
    const { limit, search: _unsupported, ...archiveFilter } = filter;
    this.#isNamed = filter.ids !== undefined;
    this.#selection = selectionOf(archiveFilter);
    this.#viewer = viewer;
    this.#limits = limits;
    const usual = Math.max(limits.defaultLimit, filter.ids?.length ?? 0);
    const most = Math.min(limit ?? usual, limits.maxLimit);
    this.#left = most + 1;
    if (most > 0 && this.#selection !== null) return;
    this.#isAtEnd = true; // whether there are any is not looked up for a client that wants none
    this.completeness = this.#selection === null ? 'finish' : 'unknown';
  }

  /** Whether `fill` may bring more events. */
  get isOpen(): boolean {
    return !this.#isAtEnd;
  }

  /** Reads events until there are some, or no more. */
  async fill(source: EventSource, now: number): Promise<void> {
    const { pageEvents, pageBytes, pageMs } = this.#limits;
    while (this.events.length === 0 && !this.#isAtEnd) {
      const size = { events: Math.min(this.#left, pageEvents), bytes: pageBytes, ms: pageMs };
      const page = await this.#page(source, size);
      for (const event of page.events)
        if (isShown(event, this.#isNamed, this.#viewer, now)) this.events.push(event);
      this.#left -= this.events.length;
      this.#after = page.next;
      this.#isAtEnd = page.next === null || this.#left === 0;
    }
    if (this.#left > 0) return;
    this.beyond = this.events.pop()?.id ?? null;
    this.#left = -1;
    this.completeness = 'more';
  }

  #page({ read, tags }: EventSource, size: PageSize): Promise<EventPage> {
    const selection = this.#selection;
    if (selection === null || accessPathOf(selection) !== 'tag')
      return read((query, shards) => readEvents(query, selection, this.#after, size, shards));
    return tags.read(JSON.stringify(selection.tags), size.ms, (ms, isAlongTime) =>
      read(async (query, shards) => {
        if (isAlongTime) await query(ALONG_TIME);
        return readEvents(query, selection, this.#after, { ...size, ms }, shards);
      }),
    );
  }
}

/**
 * Reads the stored events of several filters, newest first, by id where the second is the same, each once.
 *
 * @param now Unix seconds
 * @returns after the last of them, what the answer leaves out
 * @throws DatabaseError
 */
export async function* storedEvents(
  filters: readonly ReqFilter[],
  viewer: Viewer,
  limits: StoredLimits,
  source: EventSource,
  now: number,
): AsyncGenerator<readonly NostrEvent[], Completeness> {
  const readers = filters.map((filter) => new FilterReader(filter, viewer, limits));
  const sent = new Set<string>(); // where another filter may have sent what one has left out
  for (;;) {
    for (const reader of readers)
      if (reader.events.length === 0 && reader.isOpen) await reader.fill(source, now);
    const merged = merge(readers);
    if (merged.length === 0) break;
    if (readers.length > 1) for (const { id } of merged) sent.add(id);
    yield merged;
  }
  if (readers.every(({ completeness }) => completeness === 'finish')) return 'finish';
  return readers.some(({ beyond }) => beyond !== null && !sent.has(beyond)) ? 'more' : 'unknown';
}

/** Takes events in their order, each once, until one of the readers has to read more. */
function merge(readers: readonly FilterReader[]): NostrEvent[] {
  const [only] = readers;
  if (readers.length === 1 && only) return only.events.splice(0);
  const merged: NostrEvent[] = [];
  const places = readers.map(() => 0);
  const next = (index: number) => readers[index]?.events[places[index] ?? 0];
  for (;;) {
    let first: NostrEvent | undefined;
    for (const index of readers.keys()) {
      const event = next(index);
      if (event && (!first || isBefore(event, first))) first = event;
    }
    if (!first) break;
    merged.push(first);
    for (const index of readers.keys())
      if (next(index)?.id === first.id) places[index] = (places[index] ?? 0) + 1;
    if (readers.some((reader, index) => reader.isOpen && next(index) === undefined)) break;
  }
  for (const [index, reader] of readers.entries()) reader.events.splice(0, places[index]);
  return merged;
}

function isBefore(a: NostrEvent, b: NostrEvent): boolean {
  return a.created_at > b.created_at || (a.created_at === b.created_at && a.id < b.id);
}
