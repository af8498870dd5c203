import type { Query } from '../../database/connection.ts';
import type { AccessPath, EventPlace, EventSelection } from '../../database/event-keys.ts';
import { type EventPage, eventPage, type PageSize } from '../../database/event-pages.ts';
import { addressOf } from '../../nostr/address.ts';
import type { NostrEvent } from '../../nostr/event.ts';
import type { EventFilter } from '../../nostr/filter.ts';

/** NIP-01 filters over the archive: the one place where a filter becomes a statement. */

/** A filter with its window, both ends inclusive, Unix seconds. */
export type ArchiveFilter = EventFilter & { readonly since?: number; readonly until?: number };

/** What a filter selects; null where nothing can match it. */
export function selectionOf(filter: ArchiveFilter): EventSelection | null {
  const { ids, authors, kinds, since, until, ...rest } = filter;
  const tags = Object.fromEntries(
    Object.entries(rest).map(([name, values]) => [name.slice(1), values as readonly string[]]),
  );
  const lists = [ids, authors, kinds, ...Object.values(tags)];
  if (lists.some((list) => list?.length === 0)) return null;
  if (since !== undefined && until !== undefined && since > until) return null;
  return {
    ...(ids && { ids }),
    ...(authors && { authors }),
    ...(kinds && { kinds }),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
    tags,
  };
}

/**
 * What refers to an event: its id in a tag e or q, or its address in a tag a or q (NIP-01, NIP-18).
 *
 * @param event null where it is not archived: it has no address that is known
 */
export function referencesTo(id: string, event: NostrEvent | null): EventSelection {
  const address = event && addressOf(event);
  const ofId = [`e:${id}`, `q:${id}`];
  return { references: address ? [...ofId, `a:${address}`, `q:${address}`] : ofId };
}

/** The index that finds the fewest events for a selection: the one for what is rarest. */
export function accessPathOf(selection: EventSelection): AccessPath {
  const { ids, authors, kinds, tags = {}, references } = selection;
  if (ids) return 'id';
  if (authors) return 'author';
  if (Object.keys(tags).length > 0 || references) return 'tag';
  return kinds ? 'kind' : 'time';
}

/** What to narrow where an access path takes too long, as an imperative. */
export const NARROW: Readonly<Record<AccessPath, string>> = {
  id: 'ask for fewer ids',
  author: 'name fewer authors, or a shorter time by since and until',
  tag: 'name authors beside the tag, or a shorter time by since and until',
  kind: 'name authors or fewer kinds, or a shorter time by since and until',
  time: 'name authors or kinds, or a shorter time by since and until',
};

/**
 * Reads a page of the events that match a filter, newest first.
 *
 * @param query of a transaction, in which nothing else follows
 * @param shards number of shards of `events`
 * @throws an error with the code `TOOK_TOO_LONG` where no event was found in time
 */
export async function readEvents(
  query: Query,
  selection: EventSelection | null,
  after: EventPlace | null,
  size: PageSize,
  shards: number,
): Promise<EventPage> {
  if (selection === null) return { events: [], next: null, cut: null };
  return eventPage(query, selection, accessPathOf(selection), after, size, shards);
}
