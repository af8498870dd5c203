import type { NostrEvent } from './event.ts';

/** A NIP-01 filter without its window: what `SYNCHRONIZER_EVENT_FILTER` may say. */
export interface EventFilter {
  readonly ids?: readonly string[];
  readonly authors?: readonly string[];
  readonly kinds?: readonly number[];
  readonly [tag: `#${string}`]: readonly string[] | undefined;
}

/** A filter as it is sent in a REQ (NIP-01); `since` and `until` are Unix seconds. */
export interface ReqFilter extends EventFilter {
  readonly since?: number;
  readonly until?: number;
  readonly limit?: number;
  /** NIP-50. */
  readonly search?: string;
}

/** Whether an event matches the filter, its window aside (NIP-01: values of a list are alternatives, keys are conditions). */
export function matchesFilter(event: NostrEvent, filter: EventFilter): boolean {
  if (filter.ids && !filter.ids.includes(event.id)) return false;
  if (filter.authors && !filter.authors.includes(event.pubkey)) return false;
  if (filter.kinds && !filter.kinds.includes(event.kind)) return false;
  for (const [key, values] of Object.entries(filter)) {
    if (key.startsWith('#') && values && !hasTag(event, key.slice(1), values)) return false;
  }
  return true;
}

function hasTag(event: NostrEvent, name: string, values: readonly unknown[]): boolean {
  return event.tags.some((tag) => tag[0] === name && values.includes(tag[1]));
}

/**
 * Canonical text of a filter: keys sorted, values sorted and unique. Coverage is stored per filter, so two spellings of
 * one filter must give the same text.
 */
export function canonicalFilter(filter: EventFilter): string {
  const entries = Object.entries(filter)
    .filter(([, values]) => values !== undefined)
    .map(([key, values]) => [key, sortedUnique(values as readonly (string | number)[])] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify(Object.fromEntries(entries));
}

function sortedUnique(values: readonly (string | number)[]): (string | number)[] {
  return [...new Set(values)].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
}
