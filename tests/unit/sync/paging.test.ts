import { describe, expect, test } from 'vitest';
import { Pager, PageTally } from '../../../src/sync/paging/pager.ts';
import {
  downFrom,
  EOSE,
  established,
  FINISH,
  MORE,
  Reading,
  times,
  visited,
  WANTED,
  window,
} from '../../fixtures/visit-reading.ts';

describe('a relay that sends newest-first', () => {
  test('is read page by page, each starting at the oldest second seen, across any empty time', () => {
    const reading = new Reading({ until: 1_700_000_000 });
    expect(reading.asks).toEqual([0, 1_700_000_000]);
    const first = reading.answer(downFrom(1_600_000_050, 1_600_000_001));
    expect(first.proven).toEqual([window(1_600_000_002, 1_700_000_000)]);
    expect(reading.asks).toEqual([0, 1_600_000_001]);
    const second = reading.answer([1_600_000_001, ...downFrom(900_000_049, 900_000_001)]);
    expect(second.proven).toEqual([window(900_000_002, 1_600_000_001)]);
    expect(reading.asks).toEqual([0, 900_000_001]);
  });

  test('has a second that two pages share proven by the page that reaches below it', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([...downFrom(1000, 961), ...times(10, 960)]).proven).toEqual([
      window(961, 1000),
    ]);
    expect(reading.asks).toEqual([0, 960]);
    expect(reading.answer([...times(14, 960), ...downFrom(959, 924)]).proven).toEqual([
      window(925, 960),
    ]);
  });

  test('is read to its end when a page contains only its own newest second, twice, and there is nothing below', () => {
    const reading = established();
    expect(reading.asks).toEqual([0, 951]);
    expect(reading.answer([951]).proven).toEqual([]);
    expect(reading.asks).toEqual([0, 951]);
    expect(reading.answer([951]).proven).toEqual([]);
    expect(reading.asks).toEqual([0, 950]);
    expect(reading.answer([]).proven).toEqual([window(0, 950), window(951, 951)]);
    expect(reading.asks).toBeNull();
    expect(reading.stopped).toBeNull();
  });

  test('needs one page less at the end when the last page was far from full', () => {
    const reading = established();
    reading.answer([951, 950, 900]);
    expect(reading.asks).toEqual([0, 900]);
    reading.answer([900]);
    expect(reading.asks).toEqual([0, 899]);
    expect(reading.answer([]).proven).toEqual([window(0, 899), window(900, 900)]);
  });

  test('is read to its end at once when it sends finish (NIP-67)', () => {
    const reading = new Reading({ until: 1000 });
    const verdict = reading.answer([700, 650, 650], FINISH);
    expect(verdict).toMatchObject({ proven: [window(0, 1000)], evidence: 'finish' });
    expect(reading.asks).toBeNull();
  });

  test('is read further after more (NIP-67), however short the page', () => {
    const reading = established();
    expect(reading.answer([951, 940], MORE).proven).toEqual([window(941, 951)]);
    expect(reading.asks).toEqual([0, 940]);
    reading.answer([940], MORE);
    expect(reading.answer([940], MORE).holes).toEqual([
      { ...window(940, 940), reason: 'dense', count: 1 },
    ]);
    expect(reading.asks).toEqual([0, 939]);
  });

  test('may send its events several times', () => {
    const reading = new Reading({ until: 1000 });
    const request = reading.pager.next();
    const tally = new PageTally(request ?? { ...window(0, 0), limit: 0 });
    for (const second of downFrom(1000, 951)) {
      expect(tally.add(`${second}`, second)).toBe(true);
      expect(tally.add('1000', 1000)).toBe(false);
    }
    expect(reading.pager.accept(tally, EOSE).proven).toEqual([window(952, 1000)]);
  });

  test('may ignore since: events below the window prove nothing, and do not stop paging', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    reading.answer(downFrom(1000, 951));
    reading.answer([951, ...downFrom(498, 451)]);
    reading.answer([951, ...downFrom(498, 451)]);
    expect(reading.asks).toEqual([500, 950]);
    const verdict = reading.answer(downFrom(498, 450));
    expect(verdict.proven).toEqual([window(500, 950), window(951, 951)]);
  });

  test('may ignore limit', () => {
    const reading = new Reading({ until: 5000 }, 100);
    expect(reading.answer(downFrom(5000, 4001)).proven).toEqual([window(4002, 5000)]);
    reading.answer(times(150, 4001));
    reading.answer(times(150, 4001));
    expect(reading.answer([]).proven).toEqual([window(0, 4000), window(4001, 4001)]);
  });

  test('stops when the relay ignores until, because nothing below its newest page can be reached', () => {
    const reading = established();
    for (let i = 0; i < 3; i++) expect(reading.answer(downFrom(1000, 952)).proven).toEqual([]);
    expect(reading.stopped).toBe('ignores_until');
    expect(reading.asks).toBeNull();
  });

  test('proves nothing with a forged event as the newest of a page that ignores until', () => {
    const reading = established();
    expect(reading.answer([900, ...downFrom(1000, 952)]).proven).toEqual([]);
    expect(reading.answer([951]).proven).toEqual([]);
    expect(reading.answer([952, 951]).proven).toEqual([]);
    expect(reading.asks, 'a page with events from above does not show the bottom').toEqual([
      0, 951,
    ]);
  });

  test('may send forged events first: they count as progress like others', () => {
    const reading = new Reading({ until: 2000 });
    expect(reading.answer(downFrom(2000, 1501), EOSE, 'forged').proven).toEqual([
      window(1502, 2000),
    ]);
    expect(reading.answer([1501, ...downFrom(1400, 1001)]).proven).toEqual([window(1002, 1501)]);
  });

  test('may send one event outside the window', () => {
    const above = established();
    expect(above.answer([2000, 951, 950, 940]).proven).toEqual([window(941, 951)]);
    const below = established({ since: 900 });
    expect(below.answer([951, 950, 940, 100]).proven).toEqual([window(941, 951)]);
  });

  test('may end a page early: the page proves the time of its events, and the next one continues below', () => {
    const reading = established();
    expect(reading.answer([951]).proven).toEqual([]);
    expect(reading.answer(downFrom(951, 902)).proven).toEqual([window(903, 951)]);
    reading.answer([902]); // early again, and once more: the question that leaves 902 out finds it out
    reading.answer([902]);
    expect(reading.asks).toEqual([0, 901]);
    expect(reading.answer(downFrom(901, 852)).proven).toEqual([window(853, 901)]);
    for (const seconds of [[852], [852], []]) reading.answer(seconds);
    expect(reading.asks, 'and the second where it ended twice is asked for again').toEqual([
      902, 902,
    ]);
  });
});

describe('a gap above covered time', () => {
  test('costs exactly one page when nothing is new: the page that contains the anchor', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    expect(reading.asks).toEqual([700, 1000]);
    expect(reading.answer([700]).proven).toEqual([window(900, 1000)]);
    expect(reading.asks).toBeNull();
  });

  test('costs one page when little is new', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    expect(reading.answer([990, 950, 901, 700, 700]).proven).toEqual([window(900, 1000)]);
    expect(reading.asks).toBeNull();
  });

  test('is read without the anchor when that event is gone', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    reading.answer([990, 980]);
    expect(reading.requests).toEqual([700, 980]);
    reading.answer([980]);
    expect(reading.requests, 'it may take bounds as exclusive').toEqual([699, 981]);
    reading.answer([980]);
    expect(reading.pager.next(), 'any older event will do').toMatchObject({ since: 0, limit: 20 });
    expect(reading.answer([980, 650, 640]).proven).toEqual([window(900, 980)]);
    expect(reading.asks).toBeNull();
    expect(reading.stopped).toBeNull();
  });

  test('is not accepted as empty when the relay sends nothing although it sent events before', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    for (let i = 0; i < 3; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.stopped).toMatch(/^hides_events: shows nothing/);
  });
});

describe('an anchor or known second outside its range', () => {
  test('is ignored', () => {
    const reading = new Reading({ since: 500, until: 1000, anchor: 500, known: 400 });
    expect(reading.asks).toEqual([500, 1000]);
    for (let i = 0; i < 2; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(500, 1000)]);
  });
});

describe('no gap', () => {
  test('sends no request', () => {
    expect(new Pager([], { limit: 500 }).next()).toBeNull();
  });

  test('throws on an answer without a request', () => {
    const tally = new PageTally({ ...window(0, 1), limit: 1 });
    expect(() => new Pager([], { limit: 500 }).accept(tally, EOSE)).toThrow('not asked for');
  });
});

describe('number of requests', () => {
  const counts = [0, 1, 2, 3, 19, 20, 21, 499, 500, 501, 1000, 20_000];
  const caps = [20, 50, 100, 500, 1000];
  const cases = counts.flatMap((count) => caps.map((cap) => ({ count, cap })));

  /**
   * Events over the wire: 5 % more, and those that must come again whatever is done. A page says nothing about what
   * its last second holds beyond it, so the next shows at least one event of it again: one in cap - 1, which is
   * 5.3 % at a cap of 20. And the bottom is shown twice, with the other events of its second.
   */
  const mostEvents = (count: number, cap: number) =>
    count + Math.max(count * 0.05, Math.ceil(count / (cap - 1)) * 1.1) + 3;

  test.each(cases)('$count events from a relay that caps at $cap', ({ count, cap }) => {
    for (const seed of count > 5000 ? [1, 2] : [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
      const { relay, archive } = visited({ count, cap }, seed);
      expect(archive.events.size).toBe(count);
      expect(archive.unexplained(WANTED)).toEqual([]);
      expect(relay.pages).toBeLessThanOrEqual(Math.ceil(count / cap) * 1.1 + 3);
      expect(relay.sent).toBeLessThanOrEqual(mostEvents(count, cap));
    }
  });

  test('reads 20,000 events at a cap of 500 in 43 pages, with 0.3 % more events transferred', () => {
    const { relay } = visited({ count: 20_000, cap: 500 });
    expect(relay.pages).toBeLessThanOrEqual(43);
    expect(relay.sent).toBeLessThanOrEqual(20_060);
  });

  test('reads 20,000 events at a cap of 500 in 47 requests with 5 % more events, samples of the reading included', () => {
    const { relay } = visited({ count: 20_000, cap: 500 }, 1, true);
    expect(relay.pages).toBeGreaterThan(43);
    expect(relay.pages).toBeLessThanOrEqual(47);
    expect(relay.sent).toBeLessThanOrEqual(21_000);
  });

  test('needs one page less at the end when the relay sends finish', () => {
    const { relay, archive } = visited({ count: 1000, cap: 500, nip67: true });
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.pages).toBe(3);
  });
});
