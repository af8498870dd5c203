import { describe, expect, test } from 'vitest';
import { LateTally } from '../../../src/sync/paging/late-fault.ts';
import { Pager, PageTally } from '../../../src/sync/paging/pager.ts';
import type { Presence } from '../../../src/sync/paging/tally.ts';
import { downFrom, EOSE } from '../../fixtures/visit-reading.ts';

type Shown = readonly (readonly [second: number, presence: Presence])[];
const lasting = (seconds: readonly number[]): Shown => seconds.map((second) => [second, 'lasting']);

function tallyOf(request: ConstructorParameters<typeof PageTally>[0], shown: Shown): PageTally {
  const tally = new PageTally(request);
  for (const [i, [second, presence]] of shown.entries())
    tally.add(`${second} ${i}`, second, presence);
  return tally;
}

function answer(pager: Pager, shown: Shown) {
  const request = pager.next();
  if (!request) throw new Error('nothing was asked');
  return pager.accept(tallyOf(request, shown), EOSE);
}

describe('a transient event', () => {
  const request = { since: 0, until: 1000, limit: 10 };

  test('counts towards the size of a page, and neither for its order nor for its oldest second', () => {
    const tally = tallyOf(request, [...lasting([900, 800]), [100, 'passing'], [700, 'lasting']]);
    expect(tally).toMatchObject({
      inside: 3,
      passing: 1,
      size: 4,
      oldest: 700,
      oldestLasting: 700,
    });
    expect(tally.order.newestFirst).toBe(true);
  });

  test('at the end of a truncated page does not prove the time above it', () => {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 50 });
    const { proven } = answer(pager, [...lasting(downFrom(1000, 952)), [10, 'passing']]);
    expect(proven).toEqual([{ since: 953, until: 1000 }]);
    expect(pager.next()?.wanted).toEqual({ since: 0, until: 952 });
  });

  test('counts towards the number of events that makes a page full', () => {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 30 });
    const shown: Shown = Array.from({ length: 30 }, () => [500, 'passing']);
    for (let i = 0; i < 3; i += 1) expect(answer(pager, shown).proven).toEqual([]);
    expect(pager.next()?.wanted, 'it may be cut, so its window is divided').not.toEqual({
      ...{ since: 0, until: 1000 },
    });
  });
});

describe('a repeated event, which an earlier page contained', () => {
  test('counts for progress, and is not expected again', () => {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 50 });
    answer(pager, lasting(downFrom(1000, 952)));
    answer(pager, [[952, 'lasting'], ...downFrom(951, 920).map((s) => [s, 'repeated'] as const)]);
    expect(pager.next()?.wanted).toEqual({ since: 0, until: 920 });
    for (let i = 0; i < 10 && pager.next(); i += 1) answer(pager, []);
    expect(pager.stopped).toBeNull();
    expect(pager.next()).toBeNull();
  });
});

describe('a known event that two answers lack', () => {
  function missing(): Pager {
    const pager = new Pager([{ since: 0, until: 1000, anchor: null }], { limit: 50 });
    answer(pager, lasting(downFrom(1000, 951)));
    answer(pager, []);
    expect(pager.missedSecond).toBeNull();
    answer(pager, []);
    return pager;
  }

  test('is reported, so that its absence can be explained', () => {
    expect(missing().missedSecond).toBe(951);
  });

  test('is forgotten when its absence is explained: empty answers then prove the rest', () => {
    const pager = missing();
    pager.forgetMissed();
    const proven = [];
    for (let i = 0; i < 10 && pager.next(); i += 1) proven.push(...answer(pager, []).proven);
    expect(pager.stopped).toBeNull();
    expect(proven).toEqual([{ since: 0, until: 951 }]);
  });

  test('contradicts the relay when nothing explains it', () => {
    const pager = missing();
    for (let i = 0; i < 40 && pager.next(); i += 1) expect(answer(pager, []).proven).toEqual([]);
    expect(pager.stopped?.reason).toBe('hides_events');
  });
});

describe('the wait for events after their EOSE', () => {
  const tally = (pages: readonly { limit: number; shown: number; isProbe?: boolean }[]) => {
    const late = new LateTally();
    for (const { shown, ...request } of pages) {
      const window = { since: 0, until: 1000, ...request };
      late.noteInTime(tallyOf(window, lasting(downFrom(1000, 1001 - shown))));
    }
    return late.shareOfWait;
  };

  test('is shorter for a relay that fills a page before its EOSE', () => {
    const pages = [
      { limit: 100, shown: 100 },
      { limit: 100, shown: 3 },
    ];
    expect(tally(pages)).toBeLessThan(1);
  });

  test.each([
    ['has shown nothing', []],
    ['fills no page', [{ limit: 100, shown: 99 }]],
    ['fills only a probe', [{ limit: 20, shown: 20, isProbe: true }]],
    [
      'fills only the smaller of its pages',
      [
        { limit: 100, shown: 100 },
        { limit: 200, shown: 150 },
      ],
    ],
  ])('is whole for a relay that %s', (_name, pages) => {
    expect(tally(pages)).toBe(1);
  });
});
