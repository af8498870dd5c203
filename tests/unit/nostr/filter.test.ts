import fc from 'fast-check';
import { matchFilter } from 'nostr-tools/filter';
import { describe, expect, test } from 'vitest';
import { canonicalFilter, type EventFilter, matchesFilter } from '../../../src/nostr/filter.ts';
import { signedEvent } from '../../fixtures/events.ts';

const EVENT = signedEvent({
  created_at: 1000,
  kind: 7,
  tags: [['e', 'one'], ['p', 'two', 'one'], ['t', 'x'], ['t', 'y'], ['empty'], []],
});

/** Few values, so that filters and events meet. */
const value = fc.constantFrom('a', 'b', 'c', '');
const values = fc.array(value, { maxLength: 4 });
const kind = fc.integer({ min: 0, max: 3 });
const key = fc.constantFrom('#e', '#p', '#t');
const filters: fc.Arbitrary<EventFilter> = fc
  .tuple(
    fc.record(
      { ids: values, authors: values, kinds: fc.array(kind, { minLength: 1, maxLength: 4 }) },
      { requiredKeys: [] },
    ),
    fc.dictionary(key, values, { maxKeys: 1, noNullPrototype: true }),
  )
  .map(([plain, tags]) => ({ ...plain, ...tags }));
const events = fc
  .record({
    id: value,
    pubkey: value,
    kind,
    tags: fc.array(fc.tuple(fc.constantFrom('e', 'p', 't'), value), { maxLength: 8 }),
  })
  .map((event) => ({ ...EVENT, ...event }));

describe('matchesFilter', () => {
  test.each([
    [{}, true],
    [{ kinds: [7] }, true],
    [{ kinds: [6, 7], authors: [EVENT.pubkey], ids: [EVENT.id] }, true],
    [{ kinds: [6] }, false],
    [{ kinds: [] }, false],
    [{ authors: ['00'] }, false],
    [{ ids: [EVENT.id.slice(0, 8)] }, false],
    [{ '#e': ['one'] }, true],
    [{ '#p': ['one'] }, false],
    [{ '#t': ['z', 'y'] }, true],
    [{ '#t': ['x'], '#e': ['two'] }, false],
    [{ '#r': ['x'] }, false],
    [{ '#t': [] }, false],
  ] as [EventFilter, boolean][])('%j: %s', (filter, matches) => {
    expect(matchesFilter(EVENT, filter)).toBe(matches);
  });

  test('by property: agrees with nostr-tools', () => {
    const seen = { yes: 0, no: 0 };
    fc.assert(
      fc.property(events, filters, (event, filter) => {
        const expected = matchFilter(filter as Parameters<typeof matchFilter>[0], event);
        seen[expected ? 'yes' : 'no'] += 1;
        expect(matchesFilter(event, filter)).toBe(expected);
      }),
      { numRuns: 2000 },
    );
    expect(Math.min(seen.yes, seen.no)).toBeGreaterThan(100); // both have been tried
  });
});

describe('canonicalFilter', () => {
  test.each([
    [{}, '{}'],
    [{ kinds: [30_023, 1, 9, 1] }, '{"kinds":[1,9,30023]}'],
    [
      { '#t': ['b', 'a', 'B'], authors: ['ff', '00'] },
      '{"#t":["B","a","b"],"authors":["00","ff"]}',
    ],
    [{ kinds: undefined, ids: ['00'] } as unknown as EventFilter, '{"ids":["00"]}'],
    [{ '#e': [] }, '{"#e":[]}'],
  ])('%j is %s', (filter, text) => {
    expect(canonicalFilter(filter)).toBe(text);
  });

  test('by property: is the same for every order and repetition, and idempotent', () => {
    const shuffled = filters.chain((filter) =>
      fc
        .tuple(
          fc.shuffledSubarray(Object.keys(filter), { minLength: Object.keys(filter).length }),
          fc.infiniteStream(fc.nat()),
        )
        .map(([keys, numbers]) => {
          const again = keys.map((name) => {
            const list = [...(filter[name as '#e'] ?? [])] as unknown[];
            const repeated = [...list, ...list.slice(0, 1)];
            return [name, repeated.sort(() => ((numbers.next().value ?? 0) % 2) - 0.5)];
          });
          return [filter, Object.fromEntries(again) as EventFilter] as const;
        }),
    );
    fc.assert(
      fc.property(shuffled, ([filter, other]) => {
        const text = canonicalFilter(filter);
        expect(canonicalFilter(other)).toBe(text);
        expect(canonicalFilter(JSON.parse(text))).toBe(text);
      }),
    );
  });

  test('by property: matches the same events as the filter', () => {
    fc.assert(
      fc.property(events, filters, (event, filter) => {
        const canonical = JSON.parse(canonicalFilter(filter)) as EventFilter;
        expect(matchesFilter(event, canonical)).toBe(matchesFilter(event, filter));
      }),
    );
  });
});
