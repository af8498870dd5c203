import { describe, expect, test } from 'vitest';
import type { EventFilter } from '../../../src/nostr/filter.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { filterBench, T } from '../../fixtures/filter-bench.ts';
import type { OnRequest, Quirk, ScriptedRelay } from '../../relay/scripted-relay.ts';

const { archive, start, visit, coverage, coveredOf } = await filterBench();

/** Seven events of each kind. */
const eventsOf = (kinds: readonly number[]) =>
  kinds.flatMap((kind, place) =>
    Array.from({ length: 7 }, (_, number) =>
      signedEvent({
        kind,
        created_at: T - 400_000 + place * 5000 + number * 20,
        content: `${number}`,
      }),
    ),
  );

const oneKind: Quirk = {
  refuseFilter: {
    when: ({ kinds }) => kinds?.length !== 1,
    text: 'blocked: too many kinds or none: a filter has to name exactly one kind',
  },
};

/** REQs with several filters. */
const joint = ({ requests }: ScriptedRelay) => requests.filter(({ filters }) => filters.length > 1);

const HOUR = 3600;
/** Each visit writes what is proven of 290 parts. */
const SLOW_MS = 300_000;
const all = `{[0,${T + 1})}`;

describe('a relay that accepts one kind in a filter, and holds twelve of 290', () => {
  const EVENTS = eventsOf([0, 1, 3, 5, 6, 7, 1111, 1984, 9735, 10002, 30023, 39701]);

  /** REQs of a first visit, of one with nothing new, and of one with an event of another kind. */
  async function requestsOf(quirk: Quirk, nip11: object | null = null): Promise<number[]> {
    const relay = await start({ events: EVENTS, quirk });
    if (nip11) await archive.snapshot(relay.url, nip11);
    const rare = signedEvent({ kind: 818, created_at: T + HOUR + 5 });
    const counts: number[] = [];
    for (const visited of [0, 1, 2]) {
      const now = T + visited * HOUR;
      if (visited === 2) relay.add([rare]);
      relay.forget();
      await visit(relay, {}, { now: () => now, stopTimestamp: now, visitMs: 300_000 });
      counts.push(relay.requests.length);
      expect(await archive.ids(relay.url)).toHaveLength(EVENTS.length + (visited === 2 ? 1 : 0));
      const [row] = await coverage(relay);
      expect(row).toMatchObject({ asked_by: 'kinds', filters_asked: 290, asked_share: 1 });
    }
    return counts;
  }

  test(
    'gets about 100 REQs in the first visit, and 32 in the next one',
    async () => {
      const [first = 0, second = 0, third = 0] = await requestsOf(oneKind);
      expect(first).toBeLessThanOrEqual(105);
      expect(second).toBeLessThanOrEqual(34);
      expect(third).toBeLessThanOrEqual(second + 8);
    },
    SLOW_MS,
  );

  test(
    'and ten filters in a REQ gets about 130 REQs, and 66 in the next visit',
    async () => {
      const quirk = {
        ...oneKind,
        refuseFiltersAbove: { most: 10, text: 'error: too many filters' },
      };
      const [first = 0, second = 0] = await requestsOf(quirk, { limitation: { max_filters: 10 } });
      expect(first).toBeLessThanOrEqual(140);
      expect(second).toBeLessThanOrEqual(70);
    },
    SLOW_MS,
  );
});

describe('a relay that gets many filters in a REQ', () => {
  /** The first part that is read, of kind 1, holds the newest events. */
  const HELD = [7, 62, 818, 1063, 2003, 30078, 31989, 1];
  const EVENTS = eventsOf(HELD);
  const WANTED: EventFilter = {
    kinds: [...HELD, ...Array.from({ length: 32 }, (_, index) => 40_000 + index)],
  };
  const isJoint: OnRequest = ({ filters }) => (filters.length > 1 ? {} : 'answer');

  test('is read completely', async () => {
    const relay = await start({ events: EVENTS, quirk: oneKind });
    expect(await visit(relay, WANTED)).toMatchObject({ outcome: 'complete', events: 56 });
    expect(joint(relay).length).toBeGreaterThan(2);
    expect(relay.requests.length).toBeLessThan(70);
    expect(await coveredOf(relay, WANTED)).toBe(all);
  });

  test.each<[string, Quirk, keyof Quirk]>([
    [
      'reads only the first filter of a REQ',
      { readsFilters: { which: 'first', most: 1 } },
      'readsFilters',
    ],
    ['reads only the last filter', { readsFilters: { which: 'last', most: 1 } }, 'readsFilters'],
    [
      'reads the first eight filters',
      { readsFilters: { which: 'first', most: 8 } },
      'readsFilters',
    ],
    ['reads the last eight filters', { readsFilters: { which: 'last', most: 8 } }, 'readsFilters'],
    ['takes the limit of a filter for that of the REQ', { limitsAll: true }, 'limitsAll'],
    [
      'refuses several filters',
      { refuseFiltersAbove: { most: 1, text: 'error: one filter please' } },
      'refuseFiltersAbove',
    ],
    [
      'refuses more than seven',
      { refuseFiltersAbove: { most: 7, text: 'blocked: too many filters' } },
      'refuseFiltersAbove',
    ],
    [
      'does not answer several filters',
      { refuseFiltersAbove: { most: 1, text: 'ignored', say: 'notice' } },
      'refuseFiltersAbove',
    ],
  ])('and %s is read completely', async (_, quirk, name) => {
    const relay = await start({ events: EVENTS, quirk: { ...oneKind, ...quirk } });
    const report = await visit(relay, WANTED, { requestTimeoutMs: 400 });
    expect(report).toMatchObject({ outcome: 'complete', events: 56 });
    expect(relay.fired[name]).toBeGreaterThan(0);
    expect(relay.fired[name]).toBeLessThan(16);
    expect(await archive.ids(relay.url)).toHaveLength(56);
    expect(await coveredOf(relay, WANTED)).toBe(all);
  });

  test.each<[string, Quirk, string]>([
    ['breaks off after one event', { after: 1, end: 'eose' }, 'after'],
    ['shows nothing', { after: 0, end: 'eose' }, 'after'],
    ['is garbled by a malformed event', { inject: [{ kind: 7, created_at: T - 50 }] }, 'inject'],
    ['is refused for a moment', { after: 0, end: { closed: 'rate-limited: slow down' } }, 'after'],
    ['ends with the connection', { after: 0, end: 'disconnect' }, 'after'],
  ])('and every second such answer %s: only empty parts count as empty', async (_, fault, name) => {
    let joints = 0;
    const relay = await start({ events: EVENTS, quirk: oneKind });
    relay.change({
      onRequest: (request, n) => {
        if (isJoint(request, n) === 'answer') return 'answer';
        joints += 1;
        return joints % 2 === 0 ? fault : 'answer';
      },
    });
    await visit(relay, WANTED);
    expect(relay.fired[name]).toBeGreaterThan(0);
    expect(await archive.ids(relay.url)).toHaveLength(56);
    expect(await coveredOf(relay, WANTED)).toBe(all);
  });

  test('and sends events after the end of such an answer proves nothing by it', async () => {
    const relay = await start({ events: EVENTS, quirk: oneKind });
    relay.change({
      onRequest: ({ filters }) => (filters.length > 1 ? { eoseAfter: 1 } : 'answer'),
    });
    const report = await visit(relay, WANTED);
    expect(relay.fired.eoseAfter).toBeGreaterThan(0);
    if (report.outcome === 'complete') expect(await archive.ids(relay.url)).toHaveLength(56);
    else expect(report).toMatchObject({ reason: 'events_after_eose' });
  });

  test('and has lost the events that it showed before is read part by part', async () => {
    const relay = await start({ events: EVENTS, quirk: oneKind });
    await visit(relay, WANTED, { stopTimestamp: T - 300_000 });
    const known = await archive.ids(relay.url);
    expect(known.length).toBeGreaterThan(20);
    relay.forget();
    const gone = new Set(known);
    relay.change({
      onRequest: ({ filters }) =>
        filters.length > 1 && filters.some(({ until = 0 }) => until < T - 300_000)
          ? { alter: (event) => (gone.has(String(event.id)) ? { ...event, sig: '' } : event) }
          : 'answer',
    });
    expect(await visit(relay, WANTED)).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.alter).toBeGreaterThan(0);
    expect(await archive.ids(relay.url)).toHaveLength(56);
  });
});
