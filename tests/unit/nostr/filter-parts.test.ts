import fc from 'fast-check';
import * as nostrTools from 'nostr-tools/kinds';
import { describe, expect, test } from 'vitest';
import { canonicalFilter } from '../../../src/nostr/filter.ts';
import { divisionOf, halves, longestList } from '../../../src/nostr/filter-parts.ts';
import {
  filtersByKinds,
  isKept,
  KINDS_PER_FILTER,
  MAX_OTHER_KINDS,
  MAX_SHOWN_KINDS,
  NETWORK_KINDS,
} from '../../../src/nostr/kinds.ts';

describe('halves', () => {
  test('divide the values of the longest list, deterministically for every spelling', () => {
    expect(halves({ kinds: [9, 1, 10, 3, 1], authors: ['b', 'a'] })).toEqual([
      { kinds: [1, 3], authors: ['b', 'a'] },
      { kinds: [9, 10], authors: ['b', 'a'] },
    ]);
    expect(halves({ '#t': ['c', 'a', 'b'], kinds: [1] })).toEqual([
      { '#t': ['a', 'b'], kinds: [1] },
      { '#t': ['c'], kinds: [1] },
    ]);
  });

  test('are empty when every list has one value', () => {
    expect(halves({ kinds: [1, 1], authors: ['a'] })).toEqual([]);
    expect(halves({})).toEqual([]);
  });

  test('by property: together they are the filter, and each is shorter', () => {
    const kinds = fc.uniqueArray(fc.nat(65_535), { minLength: 2, maxLength: 40 });
    fc.assert(
      fc.property(kinds, (kinds) => {
        const [first, second] = halves({ kinds });
        const both = [...(first?.kinds ?? []), ...(second?.kinds ?? [])];
        expect(canonicalFilter({ kinds: both })).toBe(canonicalFilter({ kinds }));
        expect(both).toHaveLength(kinds.length);
        for (const half of [first, second]) {
          expect(longestList(half ?? {})).toBeLessThan(kinds.length);
          expect(longestList(half ?? {})).toBeGreaterThan(0);
        }
      }),
    );
  });
});

describe('divisionOf', () => {
  const tooMany = { reason: 'too_many_values', text: 'too many kinds' } as const;
  const broad = { reason: 'filter_refused', text: 'filter too broad' } as const;
  const noKinds = { reason: 'filter_refused', text: 'must specify kinds' } as const;

  test.each([
    [{}, broad, 'kinds'],
    [{}, tooMany, 'kinds'],
    [{ kinds: [1, 2] }, tooMany, 'values'],
    [{ kinds: [1, 2] }, broad, 'values'],
    [{ kinds: [1] }, broad, null],
    [{ kinds: [1] }, noKinds, null],
    [{ authors: ['a', 'b'] }, tooMany, 'values'],
    [{ authors: ['a', 'b'] }, noKinds, 'kinds'],
    [{ authors: ['a'] }, broad, 'kinds'],
    [{ '#t': ['a'] }, noKinds, 'kinds'],
    [{ ids: ['a'] }, broad, null],
  ] as const)('%j, after %j: by %s', (filter, refused, division) => {
    expect(divisionOf(filter, refused)).toBe(division);
  });
});

describe('filtersByKinds', () => {
  test('names each kind once, at most ten in a filter, and no ephemeral ones', () => {
    const kinds = NETWORK_KINDS.flat();
    expect(new Set(kinds).size).toBe(kinds.length);
    for (const line of NETWORK_KINDS) expect(line.length).toBeLessThanOrEqual(KINDS_PER_FILTER);
    expect(kinds.filter((kind) => !isKept(kind))).toEqual([]);
  });

  test('contains all stored kinds of nostr-tools', () => {
    const known = Object.values(nostrTools).filter((value) => typeof value === 'number');
    expect(known.length).toBeGreaterThan(50);
    const asked = new Set(NETWORK_KINDS.flat());
    expect(known.filter((kind) => isKept(kind) && !asked.has(kind))).toEqual([]);
  });

  test('puts a new kind of the archive into a new filter, and leaves the others unchanged', () => {
    const before = filtersByKinds({}, { archived: [1, 7] }, []);
    expect(before).toHaveLength(NETWORK_KINDS.length);
    expect(filtersByKinds({}, { archived: [1, 7] }, before)).toEqual(before);
    const after = filtersByKinds({}, { archived: [1, 12_345, 20_001, 54_321] }, before);
    expect(after.slice(0, before.length)).toEqual(before);
    expect(after.slice(before.length)).toEqual([{ kinds: [12_345, 54_321] }]);
    const later = filtersByKinds({}, { archived: [1, 12_344, 12_345, 54_321] }, after);
    expect(later.slice(after.length)).toEqual([{ kinds: [12_344] }]);
  });

  test('is bounded, however many kinds the archive holds', () => {
    const many = Array.from({ length: 15_000 }, (_, index) => 40_000 + index);
    const filters = filtersByKinds({ '#t': ['a'] }, { archived: many }, []);
    const others = filters.flatMap(({ kinds }) => kinds ?? []).filter((kind) => kind >= 40_000);
    expect(others).toHaveLength(MAX_OTHER_KINDS);
    expect(filters.every((filter) => filter['#t']?.[0] === 'a')).toBe(true);
    expect(filtersByKinds({ '#t': ['a'] }, { archived: many }, filters)).toEqual(filters);
  });

  test('accepts a kind that the relay itself has sent, also above the limit for others', () => {
    const archived = Array.from({ length: 600 }, (_, index) => 40_000 + index);
    const before = filtersByKinds({}, { archived }, []);
    const after = filtersByKinds({}, { archived, shown: [1, 50_001] }, before);
    expect(after.slice(before.length)).toEqual([{ kinds: [50_001] }]);
    const shown = Array.from({ length: 1000 }, (_, index) => 50_001 + index);
    const most = filtersByKinds({}, { archived, shown }, after).flatMap(({ kinds = [] }) => kinds);
    expect(most.filter((kind) => kind > 50_000)).toHaveLength(MAX_SHOWN_KINDS);
  });
});
