/** Pages that may be cut, or come out of order: their windows are divided. */
import { describe, expect, test } from 'vitest';
import {
  downFrom,
  emptyUntilStopped,
  Reading,
  times,
  visited,
  WANTED,
  window,
} from '../../fixtures/visit-reading.ts';

describe('a second that fills a page', () => {
  test('is a hole, and what lies below it is read without it', () => {
    const reading = new Reading({ until: 1000 }, 50);
    reading.answer([...downFrom(1000, 981), ...times(30, 980)]);
    expect(reading.answer(times(50, 980))).toMatchObject({
      proven: [],
      holes: [{ ...window(980, 980), reason: 'dense', count: 50 }],
    });
    expect(reading.asks).toEqual([0, 979]);
    expect(reading.answer(downFrom(979, 930)).proven).toEqual([window(931, 979)]);
  });

  test('is detected when the relay silently caps below the limit', () => {
    const reading = new Reading({ until: 1000 }, 500);
    reading.answer([...downFrom(1000, 981), ...times(80, 980)]);
    expect(reading.answer(times(100, 980)).holes).toEqual([]);
    expect(reading.answer(times(100, 980)).holes).toEqual([
      { ...window(980, 980), reason: 'dense', count: 100 },
    ]);
  });

  test('is detected at a cap below twenty, once a page is known to have been truncated', () => {
    const gaps = [
      { ...window(500, 1000), anchor: null },
      { ...window(0, 400), anchor: null },
    ];
    const pages = [downFrom(1000, 991), downFrom(991, 982), [982, 981], [981], []];
    const reading = new Reading(gaps);
    for (const seconds of pages) reading.answer(seconds);
    expect(reading.asks).toEqual([0, 400]);
    expect(reading.answer(times(10, 300)).proven).toEqual([window(301, 400)]);
    expect(reading.answer(times(10, 300)).holes).toEqual([]);
    expect(reading.answer(times(10, 300)).holes).toMatchObject([{ since: 300, count: 10 }]);
  });

  test('that fills the first page is read around', () => {
    const reading = new Reading({ until: 1000 }, 50);
    expect(reading.answer(times(50, 700))).toMatchObject({ proven: [], holes: [] });
    expect(reading.asks).toEqual([701, 1000]);
    for (let i = 0; i < 4; i++) reading.answer([]);
    expect(reading.asks).toEqual([0, 699]);
    expect(reading.answer(downFrom(699, 650)).proven).toEqual([window(651, 699)]);
  });
});

describe('a relay that does not send newest-first', () => {
  test('has its windows divided by the times of their events until each contains far fewer than the largest page, twice', () => {
    const reading = new Reading({ until: 1_000_000 });
    const ascending = downFrom(100, 1).reverse();
    expect(reading.answer(ascending)).toMatchObject({ proven: [], holes: [] });
    expect(reading.asks).toEqual([51, 1_000_000]);
    reading.answer(ascending.slice(50)); // 50 of at most 100: as many as are there, or not
    expect(reading.asks).toEqual([51, 1_000_000]);
    expect(reading.answer(ascending.slice(50)).proven).toEqual([window(51, 1_000_000)]);
    expect(reading.asks).toEqual([0, 50]);
  });

  test('is divided while a window contains more than half of the largest page', () => {
    const reading = new Reading({ until: 1000 }, 100);
    reading.answer([3, 1, 2, ...downFrom(100, 4)]);
    expect(reading.asks).toEqual([51, 1000]);
    reading.answer(downFrom(150, 51));
    expect(reading.asks).toEqual([101, 1000]);
  });

  test('is not accepted as empty in a half for which a page contained events', () => {
    const upper = new Reading({ until: 1000 });
    upper.answer([1, 2, 3, 4]);
    expect(emptyUntilStopped(upper)).toMatch(/^hides_events: /);
    const lower = new Reading({ until: 1000 });
    for (const seconds of [
      [1, 2, 3, 4],
      [3, 4],
      [3, 4],
    ])
      lower.answer(seconds);
    expect(lower.asks).toEqual([0, 2]);
    expect(emptyUntilStopped(lower)).toMatch(/^hides_events: /);
  });

  test('is requested without the anchor when the page of a second is full of events below it', () => {
    const reading = new Reading({ since: 900, until: 900, anchor: 100 });
    expect(reading.answer([100, 900, ...downFrom(150, 101)])).toEqual({
      ...{ proven: [], holes: [], evidence: 'paging' },
    });
    expect(reading.asks).toEqual([900, 900]);
  });

  test('may ignore limit and shuffle', () => {
    const { relay, archive } = visited({ count: 5000, order: 'shuffled', ignores: ['limit'] });
    expect(archive.events.size).toBe(5000);
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.sent).toBeLessThan(4 * 5000);
  });

  test.each(['oldest-first', 'shuffled'] as const)('is archived completely when %s', (order) => {
    const { relay, archive } = visited({ count: 5000, order, cap: 500 });
    expect(archive.events.size).toBe(5000);
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.pages).toBeLessThan(150);
  });

  test('cannot be read when it ignores since as well', () => {
    const reading = new Reading({ since: 900, until: 1000 });
    reading.answer([...downFrom(1000, 950), ...downFrom(949, 901).reverse()]);
    expect(reading.asks).toEqual([951, 1000]);
    for (let i = 0; i < 3; i++) {
      expect(reading.answer([...downFrom(100, 30), 960, 970]).proven).toEqual([]);
    }
    expect(reading.stopped).toBe('ignores_since: ignores since or until');
  });

  test('is not accepted as read when two answers agree with an unusable one between them', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([1, 3, 2, ...downFrom(100, 4)]);
    expect(reading.asks).toEqual([51, 1000]);
    expect(reading.answer([60, 100]).proven).toEqual([]);
    reading.answer([60, 100, 2000]);
    expect(reading.answer([60, 100]).proven).toEqual([]);
    expect(reading.answer([60, 100]).proven).toEqual([window(51, 1000)]);
  });
});
