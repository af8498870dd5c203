import { describe, expect, test } from 'vitest';
import type { PageEnd } from '../../../src/relay-client/subscription.ts';
import { Pager, PageTally, type Verdict } from '../../../src/sync/paging/pager.ts';
import { type ModelEvent, ModelRelay, type ModelRelayOptions } from '../../relay/model-relay.ts';
import { ModelArchive } from '../../relay/model-visits.ts';

const EOSE: PageEnd = { type: 'eose' };
const WANTED = { since: 1000, until: 100_000 };

/** Three events a second, from the first to the last wanted second. */
const EVENTS: ModelEvent[] = Array.from({ length: 100 }, (_, i) => 1000 + i * 1000).flatMap(
  (createdAt) => [0, 1, 2].map((n) => ({ id: `${createdAt} ${n}`, createdAt, valid: true })),
);

function answer(pager: Pager, seconds: readonly number[], end: PageEnd = EOSE): Verdict {
  const request = pager.next();
  if (!request) throw new Error('nothing was asked');
  const tally = new PageTally(request);
  for (const second of seconds) tally.add(`${second}`, second);
  return pager.accept(tally, end);
}

function visited(options: Omit<ModelRelayOptions, 'events'>, extra: readonly ModelEvent[] = []) {
  const relay = new ModelRelay({ cap: 50, ...options, events: [...EVENTS, ...extra] });
  const archive = new ModelArchive(relay, { limit: 100 });
  archive.visit(WANTED);
  return { relay, archive };
}

describe('a known event that is not shown', () => {
  test('makes its second a hole, whatever else the relay sends, and no event around it is missed', () => {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 500 });
    const newest = Array.from({ length: 50 }, (_, i) => 1000 - i);
    answer(pager, newest);
    const verdicts: Verdict[] = [];
    for (let i = 0; i < 30 && pager.next(); i += 1) {
      const { since, until } = pager.next()?.wanted ?? { since: 0, until: 0 };
      const shown = [900, 890].filter((second) => since <= second && second <= until);
      verdicts.push(answer(pager, shown));
    }
    const holes = verdicts.flatMap((verdict) => verdict.holes);
    expect(holes).toEqual([{ since: 951, until: 951, reason: 'contradicted', count: 0 }]);
    const proven = verdicts.flatMap((verdict) => verdict.proven);
    expect(proven.some(({ since, until }) => since <= 951 && until >= 951)).toBe(false);
  });
});

describe.each(['newest-first', 'oldest-first', 'shuffled'] as const)(
  'a relay that sends %s',
  (order) => {
    test.each([[['until'] as const], [['since'] as const], [['since', 'until'] as const]])(
      'and treats %s as exclusive is archived completely, with both outermost seconds',
      (exclusive) => {
        const { relay, archive } = visited({ order, exclusive });
        expect(relay.fired.exclusive).toBeGreaterThan(3);
        expect(archive.unexplained(WANTED)).toEqual([]);
        expect(archive.lost()).toBeNull();
        expect(archive.events.size).toBe(EVENTS.length);
      },
    );

    test.each(['disconnect', 'closed', 'silence'] as const)(
      'and aborts answers by %s at two events is read around them',
      (poison) => {
        const bad = [20_500, 70_500].map((createdAt) => ({
          ...{ id: `bad ${createdAt}`, createdAt, valid: true, poison },
        }));
        const { relay, archive } = visited({ order }, bad);
        expect(relay.fired.poison).toBeGreaterThan(2);
        expect(archive.events.size).toBe(EVENTS.length);
        expect(archive.holes.map(({ since, until }) => [since, until])).toEqual(
          expect.arrayContaining([
            [20_500, 20_500],
            [70_500, 70_500],
          ]),
        );
        expect(archive.holes).toHaveLength(2);
        expect(archive.unexplained(WANTED)).toEqual([]);
        expect(archive.lost()).toBeNull();
      },
    );
  },
);

describe('a relay that fails every request', () => {
  test.each(['disconnected', 'closed', 'timeout', 'oversized'] as const)(
    'by %s gets at most four requests',
    (type) => {
      const pager = new Pager([{ ...WANTED, anchor: null }], { limit: 100 });
      let requests = 0;
      for (; pager.next(); requests += 1) answer(pager, [], { type, text: 'error: no' });
      expect(requests).toBeLessThanOrEqual(4);
      expect(pager.stopped?.reason).toBe(type);
    },
  );
});

describe('paging ends', () => {
  const at = (createdAt: number, count: number): ModelEvent[] =>
    Array.from({ length: count }, (_, i) => ({ id: `${createdAt}.${i}`, createdAt, valid: true }));
  const read = (options: ModelRelayOptions) => {
    const archive = new ModelArchive(new ModelRelay(options), { mostPages: 300 });
    archive.visit({ since: 0, until: 100_000 });
    expect(archive.lost()).toBeNull();
    return archive;
  };

  test('when requests for events that were sent before fail too', () => {
    const poison: ModelEvent = { id: 'bad', createdAt: 2, valid: true, poison: 'disconnect' };
    const events = [...at(0, 18), ...at(1, 2), poison];
    const { stopped } = read({ events, cap: 20, order: 'oldest-first', ignores: ['until'] });
    expect(stopped).toMatch(/^disconnected/);
  });

  test('when a page is full of the first second, and since is exclusive', () => {
    const { events } = read({
      ...{ events: at(0, 20), cap: 20, order: 'oldest-first', exclusive: ['since'] },
    });
    expect(events.size).toBe(20);
  });

  test('with a hole when the event at which answers abort is the oldest of the window', () => {
    const bad: ModelEvent = { id: 'bad', createdAt: 1010, valid: true, poison: 'closed' };
    const { archive } = visited({}, [bad]);
    expect(archive.holes.map(({ since, until }) => [since, until])).toEqual([[1010, 1010]]);
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(archive.events.size).toBe(EVENTS.length);
  });
});

describe('a page that ends with finish (NIP-67)', () => {
  test('proves nothing when it lacks a known event', () => {
    const pager = new Pager([{ since: 1, until: 1000, anchor: null }], { limit: 500 });
    answer(pager, [10, 900], { type: 'more' });
    expect(answer(pager, [900], { type: 'finish' }).proven).toHaveLength(1);
    expect(pager.next()?.wanted?.since).toBe(1);
    expect(answer(pager, [300], { type: 'finish' }).proven).toEqual([]);
  });
});

describe('a window that has answered', () => {
  test('is not divided after two requests that fail', () => {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 500 });
    answer(pager, []);
    const first = pager.next()?.wanted;
    for (let i = 0; i < 3; i += 1) answer(pager, [], { type: 'disconnected', text: 'code 1006' });
    expect(pager.next()?.wanted).toEqual(first);
  });
});
