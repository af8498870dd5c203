import fc from 'fast-check';
import { matchFilters } from 'nostr-tools/filter';
import { describe, expect, test } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { newestFirst } from '../../fixtures/events.ts';
import { seededRandom } from '../../fixtures/random.ts';
import { answersFilter, EventStore, filterFault, type RelayFilter } from '../../relay/store.ts';

const hex = (value: number) => value.toString(16).padStart(64, '0');

const tagIn: fc.Arbitrary<string[]> = fc.oneof(
  fc.tuple(fc.constantFrom('t', 'e', 'long'), fc.constantFrom('a', 'b', 'c')),
  fc.constantFrom<string[]>(['t'], ['e', '', 'a']),
);

const eventIn: fc.Arbitrary<NostrEvent> = fc.record({
  id: fc.nat(400).map(hex),
  pubkey: fc.nat(4).map(hex),
  created_at: fc.nat(30),
  kind: fc.nat(3),
  tags: fc.array(tagIn, { maxLength: 3 }),
  content: fc.constant(''),
  sig: fc.constant(''),
});

// nostr-tools takes `since: 0` and `until: 0` for absent; those two have their own test below.
const filterIn: fc.Arbitrary<RelayFilter> = fc.record(
  {
    ids: fc.array(fc.nat(400).map(hex), { maxLength: 40 }),
    authors: fc.array(fc.nat(4).map(hex), { maxLength: 3 }),
    kinds: fc.array(fc.nat(3), { maxLength: 3 }),
    '#t': fc.array(fc.constantFrom('a', 'b', '')),
    '#e': fc.array(fc.constantFrom('a', 'c', '')),
    since: fc.integer({ min: 1, max: 31 }),
    until: fc.integer({ min: 1, max: 31 }),
    limit: fc.nat(20),
  },
  { requiredKeys: [] },
);

function storeOf(events: readonly NostrEvent[]): EventStore {
  const store = new EventStore();
  store.add(events);
  return store;
}

/** What NIP-01 asks, written the slow way round with another's matcher. */
function expected(
  events: readonly NostrEvent[],
  filters: readonly RelayFilter[],
  cap: number,
): NostrEvent[] {
  const unique = [...new Map([...events].reverse().map((event) => [event.id, event])).values()];
  const parts = filters.map(({ limit = Number.POSITIVE_INFINITY, ...filter }) =>
    unique
      .filter((event) => matchFilters([filter as Parameters<typeof matchFilters>[0][0]], event))
      .sort(newestFirst)
      .slice(0, Math.min(limit, cap)),
  );
  return [...new Set(parts.flat())].sort(newestFirst);
}

describe('the store of the scripted relay', () => {
  test('selects what nostr-tools matches, newest first, cut to limit and cap', () => {
    const runs = fc.property(
      fc.array(eventIn, { maxLength: 80 }),
      fc.array(filterIn, { minLength: 1, maxLength: 3 }),
      fc.constantFrom(Number.POSITIVE_INFINITY, 1, 5),
      (events, filters, cap) => {
        const { events: found } = storeOf(events).select(filters, { cap });
        expect(found).toEqual(expected(events, filters, cap));
      },
    );
    fc.assert(runs, { numRuns: 2000 });
  });

  test('knows whether more is stored than it gives', () => {
    const runs = fc.property(fc.array(eventIn, { maxLength: 40 }), filterIn, (events, filter) => {
      const { more } = storeOf(events).select([filter]);
      const { limit: _, ...unlimited } = filter;
      expect(more).toBe(
        storeOf(events).select([unlimited]).events.length >
          storeOf(events).select([filter]).events.length,
      );
    });
    fc.assert(runs, { numRuns: 500 });
  });

  test('stays the same whether events come one by one, at once, or are taken out again', () => {
    const runs = fc.property(fc.array(eventIn, { maxLength: 60 }), fc.nat(60), (events, cut) => {
      const oneByOne = new EventStore();
      for (const event of events) oneByOne.add([event]);
      expect(oneByOne.all()).toEqual(storeOf(events).all());
      const gone = new Set(events.slice(cut).map((event) => event.id));
      oneByOne.remove(gone);
      expect(oneByOne.all()).toEqual(storeOf(events.filter((event) => !gone.has(event.id))).all());
    });
    fc.assert(runs, { numRuns: 500 });
  });

  test('takes both ends of the window as inclusive, 0 too', () => {
    const event = (created_at: number): NostrEvent => {
      return {
        id: hex(created_at),
        pubkey: hex(1),
        created_at,
        kind: 1,
        tags: [],
        content: '',
        sig: '',
      };
    };
    const store = storeOf([event(0), event(1), event(2)]);
    const seconds = (filter: RelayFilter) =>
      store.select([filter]).events.map(({ created_at }) => created_at);
    expect(seconds({ until: 0 })).toEqual([0]);
    expect(seconds({ since: 1, until: 1 })).toEqual([1]);
    expect(seconds({ since: 0 })).toEqual([2, 1, 0]);
    expect(seconds({ since: 2, until: 1 })).toEqual([]);
    expect(seconds({ limit: 0 })).toEqual([]);
    expect(answersFilter(event(1), { kinds: [] })).toBe(false);
  });

  test('selects the oldest or any where told to', () => {
    const events = Array.from({ length: 50 }, (_, second): NostrEvent => {
      return {
        id: hex(second),
        pubkey: hex(1),
        created_at: second,
        kind: 1,
        tags: [],
        content: '',
        sig: '',
      };
    });
    const store = storeOf(events);
    const seconds = (select: 'oldest' | 'random', seed = 1) =>
      store
        .select([{ limit: 3, until: 40 }], { select, random: seededRandom(seed) })
        .events.map(({ created_at }) => created_at);
    expect(seconds('oldest')).toEqual([2, 1, 0]);
    expect(seconds('random')).toEqual(seconds('random'));
    expect(
      new Set([1, 2, 3, 4].map((seed) => seconds('random', seed).join())).size,
    ).toBeGreaterThan(1);
    expect(seconds('random')).toEqual([...seconds('random')].sort((a, b) => b - a));
  });

  test('finds pages of 20,000 events without looking at all of them', () => {
    const events = Array.from({ length: 20_000 }, (_, index): NostrEvent => {
      return {
        id: hex(index),
        pubkey: hex(1),
        created_at: index >> 1,
        kind: 1,
        tags: [],
        content: '',
        sig: '',
      };
    });
    let looks = 0;
    const counted = events.map((event) => {
      return Object.defineProperty({ ...event }, 'kind', {
        get: () => {
          looks += 1;
          return 1;
        },
        enumerable: true,
      });
    });
    const store = storeOf(counted);
    const { events: page } = store.select([{ kinds: [1], until: 5000, limit: 500 }]);
    expect(page).toHaveLength(500);
    expect(looks).toBeLessThan(600);
  });
});

describe('filterFault', () => {
  test.each([
    ['a list', []],
    ['null', null],
    ['an unknown key', { search: 'x' }],
    ['a tag of two letters', { '#ab': ['x'] }],
    ['a negative limit', { limit: -1 }],
    ['half a second', { since: 1.5 }],
    ['a short id', { ids: ['abc'] }],
    ['an author in capitals', { authors: ['A'.repeat(64)] }],
    ['a kind as text', { kinds: ['1'] }],
    ['a tag that is no list', { '#t': 'x' }],
  ])('refuses %s', (_, filter) => {
    expect(filterFault(filter)).toMatch(/^(invalid|unsupported): /);
  });

  test('takes every key of NIP-01', () => {
    const filter = {
      ids: [hex(1)],
      authors: [hex(2)],
      kinds: [1],
      since: 0,
      until: 2,
      limit: 0,
      '#t': ['x'],
    };
    expect(filterFault(filter)).toBeNull();
  });
});
