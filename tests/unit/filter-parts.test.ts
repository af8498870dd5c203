import fc from 'fast-check';
import * as nostrTools from 'nostr-tools/kinds';
import { describe, expect, test } from 'vitest';
import { canonicalFilter } from '../../src/nostr/filter.ts';
import { divisionOf, halves, longestList } from '../../src/nostr/filter-parts.ts';
import {
  filtersByKinds,
  isKept,
  KINDS_A_FILTER,
  MAX_OTHER_KINDS,
  NETWORK_KINDS,
} from '../../src/nostr/kinds.ts';

describe('halves of a filter', () => {
  test('share the values of its longest list, the same ones however it was written', () => {
    expect(halves({ kinds: [9, 1, 10, 3, 1], authors: ['b', 'a'] })).toEqual([
      { kinds: [1, 3], authors: ['b', 'a'] },
      { kinds: [9, 10], authors: ['b', 'a'] },
    ]);
    expect(halves({ '#t': ['c', 'a', 'b'], kinds: [1] })).toEqual([
      { '#t': ['a', 'b'], kinds: [1] },
      { '#t': ['c'], kinds: [1] },
    ]);
  });

  test('are none where every list has one value', () => {
    expect(halves({ kinds: [1, 1], authors: ['a'] })).toEqual([]);
    expect(halves({})).toEqual([]);
  });

  test('fast-check: together they are the filter, and neither is as long', () => {
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

describe('how a refused filter is divided', () => {
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

describe('the kinds that a relay is asked for which refuses filters without', () => {
  test('are each named once, at most ten in a filter, and none of them ephemeral', () => {
    const kinds = NETWORK_KINDS.flat();
    expect(new Set(kinds).size).toBe(kinds.length);
    for (const line of NETWORK_KINDS) expect(line.length).toBeLessThanOrEqual(KINDS_A_FILTER);
    expect(kinds.filter((kind) => !isKept(kind))).toEqual([]);
  });

  test('hold all that nostr-tools knows and relays keep', () => {
    const known = Object.values(nostrTools).filter((value) => typeof value === 'number');
    expect(known.length).toBeGreaterThan(50);
    const asked = new Set(NETWORK_KINDS.flat());
    expect(known.filter((kind) => isKept(kind) && !asked.has(kind))).toEqual([]);
  });

  test('a kind that comes to the archive gets a filter of its own, and the others stay as they are', () => {
    const before = filtersByKinds({}, [1, 7], []);
    expect(before).toHaveLength(NETWORK_KINDS.length);
    expect(filtersByKinds({}, [1, 7], before)).toEqual(before);
    const after = filtersByKinds({}, [1, 12_345, 20_001, 54_321], before);
    expect(after.slice(0, before.length)).toEqual(before);
    expect(after.slice(before.length)).toEqual([{ kinds: [12_345, 54_321] }]);
    const later = filtersByKinds({}, [1, 12_344, 12_345, 54_321], after);
    expect(later.slice(after.length)).toEqual([{ kinds: [12_344] }]);
  });

  test('are bounded, however many kinds an archive holds', () => {
    const many = Array.from({ length: 15_000 }, (_, index) => 40_000 + index);
    const filters = filtersByKinds({ '#t': ['a'] }, many, []);
    const others = filters.flatMap(({ kinds }) => kinds ?? []).filter((kind) => kind >= 40_000);
    expect(others).toHaveLength(MAX_OTHER_KINDS);
    expect(filters.every((filter) => filter['#t']?.[0] === 'a')).toBe(true);
    expect(filtersByKinds({ '#t': ['a'] }, many, filters)).toEqual(filters);
  });
});
