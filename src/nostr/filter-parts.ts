import type { EventFilter } from './filter.ts';
import type { FilterRefusal } from './filter-refusal.ts';

/**
 * How a filter is divided that a relay refuses for its shape. `values`: into two filters with half of its longest list
 * each, equivalent to the filter. `kinds`: into filters that name kinds, which cover less than the filter.
 */
export type Division = 'values' | 'kinds';

/** The number of values in the longest list of a filter; 0 when it has none. */
export function longestList(filter: EventFilter): number {
  return Math.max(0, ...lists(filter).map(([, values]) => values.length));
}

/** Why a relay refused a filter, and its text. */
export interface RefusedFilter {
  readonly reason: FilterRefusal;
  readonly text: string;
}

/** How to divide a filter after a refusal; null when it cannot be divided further. */
export function divisionOf(filter: EventFilter, refused: RefusedFilter): Division | null {
  const lacksKinds = filter.kinds === undefined;
  const asksForKinds = refused.reason === 'filter_refused' && /\bkinds?\b/i.test(refused.text);
  if (lacksKinds && asksForKinds) return 'kinds';
  if (longestList(filter) > 1) return 'values';
  return lacksKinds && filter.ids === undefined ? 'kinds' : null;
}

/** The two halves of a filter, by its longest list. Deterministic. */
export function halves(filter: EventFilter): EventFilter[] {
  const longest = longestList(filter);
  const [key, values] = lists(filter).find(([, each]) => each.length === longest) ?? [];
  if (key === undefined || values === undefined || longest < 2) return [];
  const sorted = [...values].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  const middle = Math.ceil(sorted.length / 2);
  return [sorted.slice(0, middle), sorted.slice(middle)].map((half) => ({
    ...filter,
    [key]: half,
  }));
}

/** The lists of a filter without duplicates, sorted by key. */
function lists(filter: EventFilter): (readonly [string, readonly (string | number)[]])[] {
  return Object.entries(filter)
    .flatMap(([key, values]) =>
      values ? [[key, [...new Set<string | number>(values)]] as const] : [],
    )
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
