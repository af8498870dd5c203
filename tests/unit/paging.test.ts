import { describe, expect, it } from 'vitest';
import { type Gap, Pager, PageTally, stopText, type Verdict } from '../../src/relay/paging.ts';
import type { PageEnd } from '../../src/relay/subscription.ts';
import { ModelRelay, type ModelRelayOptions } from '../support/model-relay.ts';
import { ModelArchive, type ModelVisitsOptions } from '../support/model-visits.ts';
import { seededRandom } from '../support/relay-random.ts';

const EOSE: PageEnd = { type: 'eose' };
const MORE: PageEnd = { type: 'more' };
const FINISH: PageEnd = { type: 'finish' };
const TIMEOUT: PageEnd = { type: 'timeout', text: 'no answer in time' };
const OVERFLOW: PageEnd = { type: 'overflow', text: 'more than 20000 events' };
const closed = (text: string): PageEnd => ({ type: 'closed', text });

/** A pager, asked and answered by hand: an answer is a list of seconds, each an event. */
class Reading {
  readonly pager: Pager;

  constructor(gaps: (Partial<Gap> & { until: number }) | readonly Gap[], limit = 500) {
    const list = 'until' in gaps ? [{ since: 0, anchor: null, ...gaps }] : gaps;
    this.pager = new Pager(list, { limit });
  }

  /** The window that the next page is for. */
  get asks(): [since: number, until: number] | null {
    const wanted = this.pager.next()?.wanted;
    return wanted ? [wanted.since, wanted.until] : null;
  }

  /** The window that the next REQ names. */
  get requests(): [since: number, until: number] | null {
    const request = this.pager.next();
    return request && [request.since, request.until];
  }

  get stopped(): string | null {
    return this.pager.stopped && stopText(this.pager.stopped);
  }

  /** Events of one second have the same ids on every page, unless `salt` makes them others. */
  answer(seconds: readonly number[], end: PageEnd = EOSE, salt = ''): Verdict {
    const request = this.pager.next();
    if (!request) throw new Error('nothing was asked');
    const tally = new PageTally(request);
    const seen = new Map<number, number>();
    for (const second of seconds) {
      const place = seen.get(second) ?? 0;
      seen.set(second, place + 1);
      tally.add(`${second} ${place} ${salt}`, second);
    }
    return this.pager.accept(tally, end);
  }
}

/** From one second down to another, an event each. */
const downFrom = (newest: number, oldest: number) =>
  Array.from({ length: newest - oldest + 1 }, (_, i) => newest - i);
const times = (count: number, second: number) => Array.from({ length: count }, () => second);
const window = (since: number, until: number) => ({ since, until });

/** Answers nothing until the pager gives up, and proves nothing by it. @returns why it stopped */
function emptyUntilStopped(reading: Reading): string | null {
  for (let i = 0; i < 20 && reading.asks; i++) expect(reading.answer([]).proven).toEqual([]);
  return reading.stopped;
}

/** A pager that has seen 50 events newest-first, in the seconds 951 to 1000, and asks on from there. */
function established(gap: Partial<Gap> = {}): Reading {
  const reading = new Reading({ until: 1000, ...gap });
  reading.answer(downFrom(1000, 951));
  return reading;
}

describe('a relay that sends newest-first', () => {
  it('is read from page to page, each beginning at the oldest second seen, over any silence', () => {
    const reading = new Reading({ until: 1_700_000_000 });
    expect(reading.asks).toEqual([0, 1_700_000_000]);
    const first = reading.answer(downFrom(1_600_000_050, 1_600_000_001));
    expect(first.proven).toEqual([window(1_600_000_002, 1_700_000_000)]);
    expect(reading.asks).toEqual([0, 1_600_000_001]);
    const second = reading.answer([1_600_000_001, ...downFrom(900_000_049, 900_000_001)]);
    expect(second.proven).toEqual([window(900_000_002, 1_600_000_001)]);
    expect(reading.asks).toEqual([0, 900_000_001]);
  });

  it('has a second that two pages share proven by the page that gets past it', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([...downFrom(1000, 961), ...times(10, 960)]).proven).toEqual([
      window(961, 1000),
    ]);
    expect(reading.asks).toEqual([0, 960]);
    expect(reading.answer([...times(14, 960), ...downFrom(959, 924)]).proven).toEqual([
      window(925, 960),
    ]);
  });

  it('has reached its bottom when a page shows its own top second alone, twice, and nothing lies below', () => {
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

  it('needs one page less at the bottom when the last page was far from full', () => {
    const reading = established();
    reading.answer([951, 950, 900]);
    expect(reading.asks).toEqual([0, 900]);
    reading.answer([900]);
    expect(reading.asks).toEqual([0, 899]);
    expect(reading.answer([]).proven).toEqual([window(0, 899), window(900, 900)]);
  });

  it('is done at once when it says that it sent everything (NIP-67 finish)', () => {
    const reading = new Reading({ until: 1000 });
    const verdict = reading.answer([700, 650, 650], FINISH);
    expect(verdict).toMatchObject({ proven: [window(0, 1000)], evidence: 'finish' });
    expect(reading.asks).toBeNull();
  });

  it('goes on when it says that there is more (NIP-67 more), however short the page', () => {
    const reading = established();
    expect(reading.answer([951, 940], MORE).proven).toEqual([window(941, 951)]);
    expect(reading.asks).toEqual([0, 940]);
    reading.answer([940], MORE);
    expect(reading.answer([940], MORE).holes).toEqual([
      { ...window(940, 940), reason: 'dense', count: 1 },
    ]);
    expect(reading.asks).toEqual([0, 939]);
  });

  it('may send its events several times over', () => {
    const reading = new Reading({ until: 1000 });
    const request = reading.pager.next();
    const tally = new PageTally(request ?? { ...window(0, 0), limit: 0 });
    for (const second of downFrom(1000, 951)) {
      expect(tally.add(`${second}`, second)).toBe(true);
      expect(tally.add('1000', 1000)).toBe(false);
    }
    expect(reading.pager.accept(tally, EOSE).proven).toEqual([window(952, 1000)]);
  });

  it('may ignore since: what lies below the window proves nothing, and stops nothing', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    reading.answer(downFrom(1000, 951));
    reading.answer([951, ...downFrom(498, 451)]);
    reading.answer([951, ...downFrom(498, 451)]);
    expect(reading.asks).toEqual([500, 950]);
    const verdict = reading.answer(downFrom(498, 450));
    expect(verdict.proven).toEqual([window(500, 950), window(951, 951)]);
  });

  it('may ignore limit', () => {
    const reading = new Reading({ until: 5000 }, 100);
    expect(reading.answer(downFrom(5000, 4001)).proven).toEqual([window(4002, 5000)]);
    reading.answer(times(150, 4001));
    reading.answer(times(150, 4001));
    expect(reading.answer([]).proven).toEqual([window(0, 4000), window(4001, 4001)]);
  });

  it('is given up when it ignores until, for nothing below its newest page can be reached', () => {
    const reading = established();
    for (let i = 0; i < 3; i++) expect(reading.answer(downFrom(1000, 952)).proven).toEqual([]);
    expect(reading.stopped).toBe('ignores_until');
    expect(reading.asks).toBeNull();
  });

  it('proves nothing with a forged event on top of a page that ignores until', () => {
    const reading = established();
    expect(reading.answer([900, ...downFrom(1000, 952)]).proven).toEqual([]);
    expect(reading.answer([951]).proven).toEqual([]);
    expect(reading.answer([952, 951]).proven).toEqual([]);
    expect(reading.asks, 'a page with events from above does not show the bottom').toEqual([
      0, 951,
    ]);
  });

  it('may put forged events on top: they count for progress like others', () => {
    const reading = new Reading({ until: 2000 });
    expect(reading.answer(downFrom(2000, 1501), EOSE, 'forged').proven).toEqual([
      window(1502, 2000),
    ]);
    expect(reading.answer([1501, ...downFrom(1400, 1001)]).proven).toEqual([window(1002, 1501)]);
  });

  it('may show one event that lies outside the window', () => {
    const above = established();
    expect(above.answer([2000, 951, 950, 940]).proven).toEqual([window(941, 951)]);
    const below = established({ since: 900 });
    expect(below.answer([951, 950, 940, 100]).proven).toEqual([window(941, 951)]);
  });

  it('may end a page early: the page proves what it shows, and the next goes on', () => {
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
  it('costs exactly one page when nothing is new: the page that shows the anchor', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    expect(reading.asks).toEqual([700, 1000]);
    expect(reading.answer([700]).proven).toEqual([window(900, 1000)]);
    expect(reading.asks).toBeNull();
  });

  it('costs one page when little is new', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    expect(reading.answer([990, 950, 901, 700, 700]).proven).toEqual([window(900, 1000)]);
    expect(reading.asks).toBeNull();
  });

  it('is read without the anchor when that event is gone', () => {
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

  it('is not believed empty when the relay shows nothing at all, though it held events before', () => {
    const reading = new Reading({ since: 900, until: 1000, anchor: 700 });
    for (let i = 0; i < 3; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.stopped).toMatch(/^hides_events: shows nothing/);
  });
});

describe('a hint that lies elsewhere than it should', () => {
  it('is none', () => {
    const reading = new Reading({ since: 500, until: 1000, anchor: 500, known: 400 });
    expect(reading.asks).toEqual([500, 1000]);
    for (let i = 0; i < 2; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(500, 1000)]);
  });
});

describe('an empty answer', () => {
  it('is believed of a relay that has shown nothing when it came three times, and that is on record', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 1000)]);
    expect(reading.pager.silent).toBe(true);
  });

  it('does not count when another answer came in between', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([]);
    reading.answer([]);
    reading.answer([500]);
    expect(reading.pager.silent).toBe(false);
    expect(emptyUntilStopped(reading)).toMatch(/^hides_events: /);
  });

  it('does not count when an answer in between was of no use', () => {
    const reading = new Reading({ until: 1000 });
    for (const seconds of [[], [], [2000], [], [], [2000], [], []]) {
      expect(reading.answer(seconds).proven).toEqual([]);
    }
    expect(reading.answer([]).proven).toEqual([window(0, 1000)]);
  });

  it('is a contradiction where an event is known: never believed, and many in a row end the visit', () => {
    const reading = established();
    for (let i = 0; i < 2; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([951, 950, 900]).proven).toEqual([window(901, 951)]);
    expect(emptyUntilStopped(reading)).toMatch(/^hides_events: /);
  });

  it('is doubted where an event was seen in an earlier visit, and believed when it is gone', () => {
    const reading = new Reading([
      { ...window(901, 1000), anchor: 900 },
      { ...window(0, 400), anchor: null, known: 400 },
    ]);
    expect(reading.answer([900]).proven).toEqual([window(901, 1000)]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.asks, 'whether it is gone').toEqual([400, 400]);
    expect(reading.answer([]).proven).toEqual([]);
    for (let i = 0; i < 5; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 400)]);
  });

  it('is asked for six times of a relay that was caught hiding events', () => {
    const reading = new Reading({ until: 1000 }, 50);
    reading.answer([]);
    reading.answer(downFrom(1000, 951));
    reading.answer(times(50, 951));
    expect(reading.asks).toEqual([0, 950]);
    for (let i = 0; i < 5; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 950)]);
  });

  it('that claims that there is more is nonsense', () => {
    const reading = new Reading({ until: 1000 });
    for (let i = 0; i < 3; i++) expect(reading.answer([], MORE).proven).toEqual([]);
    expect(reading.stopped).toMatch(/^more_without_events: /);
  });

  it('proves nothing when the page holds events from elsewhere only', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    for (let i = 0; i < 3; i++) expect(reading.answer([400, 300]).proven).toEqual([]);
    expect(reading.stopped).toBe('ignores_since');
  });
});

describe('a page that misses what was shown before', () => {
  it('is asked for again before it is taken to mean that the event is gone', () => {
    const reading = established();
    expect(reading.answer([900, 890]).proven).toEqual([]);
    expect(reading.answer([900, 890]).proven).toEqual([]);
    expect(reading.answer([951, 900, 890]).proven).toEqual([window(891, 951)]);
  });
});

describe('a relay with very little', () => {
  it('that lies in one second: the same question twice, since its order is not known, then twice what lies below', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([700]).proven).toEqual([]);
    expect(reading.asks).toEqual([0, 1000]);
    expect(reading.answer([700]).proven).toEqual([window(701, 1000)]);
    expect(reading.asks).toEqual([0, 699]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 699), window(700, 700)]);
    expect(reading.asks).toBeNull();
  });

  it('that proves to be a cap: what was thought complete is in doubt again', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([700]);
    reading.answer([700]);
    reading.answer([600]);
    expect(reading.answer([600]).proven).toEqual([window(601, 699)]);
    reading.answer([]);
    expect(reading.answer([]).proven).toEqual([window(0, 599)]);
    expect(reading.asks).toEqual([600, 600]);
    expect(reading.answer([600]).holes).toMatchObject([{ since: 600, reason: 'dense' }]);
    expect(reading.asks).toEqual([700, 700]);
    expect(reading.answer([700]).holes).toEqual([]);
    expect(reading.answer([700]).holes).toMatchObject([{ since: 700, reason: 'dense' }]);
    expect(reading.asks).toBeNull();
  });
});

describe('a second that fills a page', () => {
  it('is a hole, and what lies below it is read without it', () => {
    const reading = new Reading({ until: 1000 }, 50);
    reading.answer([...downFrom(1000, 981), ...times(30, 980)]);
    expect(reading.answer(times(50, 980))).toMatchObject({
      proven: [],
      holes: [{ ...window(980, 980), reason: 'dense', count: 50 }],
    });
    expect(reading.asks).toEqual([0, 979]);
    expect(reading.answer(downFrom(979, 930)).proven).toEqual([window(931, 979)]);
  });

  it('is found when the relay caps below the limit without a word', () => {
    const reading = new Reading({ until: 1000 }, 500);
    reading.answer([...downFrom(1000, 981), ...times(80, 980)]);
    expect(reading.answer(times(100, 980)).holes).toEqual([]);
    expect(reading.answer(times(100, 980)).holes).toEqual([
      { ...window(980, 980), reason: 'dense', count: 100 },
    ]);
  });

  it('is found at a cap below twenty, once a page is known to have been cut', () => {
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

  it('that fills the first page is read around', () => {
    const reading = new Reading({ until: 1000 }, 50);
    expect(reading.answer(times(50, 700))).toMatchObject({ proven: [], holes: [] });
    expect(reading.asks).toEqual([701, 1000]);
    for (let i = 0; i < 4; i++) reading.answer([]);
    expect(reading.asks).toEqual([0, 699]);
    expect(reading.answer(downFrom(699, 650)).proven).toEqual([window(651, 699)]);
  });
});

describe('a relay that does not send newest-first', () => {
  it('has its windows halved where the events are, until each shows well under the largest page, twice', () => {
    const reading = new Reading({ until: 1_000_000 });
    const ascending = downFrom(100, 1).reverse();
    expect(reading.answer(ascending)).toMatchObject({ proven: [], holes: [] });
    expect(reading.asks).toEqual([51, 1_000_000]);
    reading.answer(ascending.slice(50)); // 50 of at most 100: as many as are there, or not
    expect(reading.asks).toEqual([51, 1_000_000]);
    expect(reading.answer(ascending.slice(50)).proven).toEqual([window(51, 1_000_000)]);
    expect(reading.asks).toEqual([0, 50]);
  });

  it('is halved on while a window shows more than half of the largest page', () => {
    const reading = new Reading({ until: 1000 }, 100);
    reading.answer([3, 1, 2, ...downFrom(100, 4)]);
    expect(reading.asks).toEqual([51, 1000]);
    reading.answer(downFrom(150, 51));
    expect(reading.asks).toEqual([101, 1000]);
  });

  it('cannot be empty where a page has shown events, in either half', () => {
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

  it('is asked without the anchor for a second whose page is full of what lies below it', () => {
    const reading = new Reading({ since: 900, until: 900, anchor: 100 });
    expect(reading.answer([100, 900, ...downFrom(150, 101)])).toEqual({
      ...{ proven: [], holes: [], evidence: 'paging' },
    });
    expect(reading.asks).toEqual([900, 900]);
  });

  it('may ignore limit and shuffle', () => {
    const { relay, archive } = visited({ count: 5000, order: 'shuffled', ignores: ['limit'] });
    expect(archive.events.size).toBe(5000);
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.sent).toBeLessThan(4 * 5000);
  });

  it.each(['oldest-first', 'shuffled'] as const)('is archived completely when %s', (order) => {
    const { relay, archive } = visited({ count: 5000, order, cap: 500 });
    expect(archive.events.size).toBe(5000);
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.pages).toBeLessThan(150);
  });

  it('cannot be read when it ignores since as well', () => {
    const reading = new Reading({ since: 900, until: 1000 });
    reading.answer([...downFrom(1000, 950), ...downFrom(949, 901).reverse()]);
    expect(reading.asks).toEqual([951, 1000]);
    for (let i = 0; i < 3; i++) {
      expect(reading.answer([...downFrom(100, 30), 960, 970]).proven).toEqual([]);
    }
    expect(reading.stopped).toBe('ignores_since: ignores since or until');
  });

  it('is not believed when two answers agree with a useless one between them', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([1, 3, 2, ...downFrom(100, 4)]);
    expect(reading.asks).toEqual([51, 1000]);
    expect(reading.answer([60, 100]).proven).toEqual([]);
    reading.answer([60, 100, 2000]);
    expect(reading.answer([60, 100]).proven).toEqual([]);
    expect(reading.answer([60, 100]).proven).toEqual([window(51, 1000)]);
  });
});

describe('a page without a proper end', () => {
  it('proves nothing after a timeout; the same is asked again, then less, then no more', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer(downFrom(1000, 900), TIMEOUT).proven).toEqual([]);
    expect(reading.pager.next()).toMatchObject({ wanted: window(0, 1000), limit: 500 });
    reading.answer([], TIMEOUT);
    expect(reading.pager.next()).toMatchObject({ wanted: window(0, 1000), limit: 100 });
    reading.answer([], TIMEOUT);
    expect(reading.asks, 'whether it answers anything').toEqual([1, 1]);
    reading.answer([], TIMEOUT);
    expect(reading.asks).toBeNull();
    expect(reading.stopped).toBe('timeout');
  });

  it('lowers the limit for a while only, when the relay answers again', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([], TIMEOUT);
    reading.answer([], TIMEOUT);
    reading.answer(downFrom(1000, 901));
    expect(reading.pager.next()?.limit).toBe(200);
    reading.answer(downFrom(901, 702));
    expect(reading.pager.next()?.limit).toBe(400);
    expect(reading.pager.limit, 'what the relay puts up with').toBe(500);
  });

  it('lowers the limit for good when that happens again', () => {
    const reading = new Reading({ until: 1000 });
    for (const seconds of [downFrom(1000, 981), downFrom(981, 962)]) {
      reading.answer([], TIMEOUT);
      reading.answer([], TIMEOUT);
      reading.answer(seconds);
    }
    expect(reading.pager.limit).toBe(40);
    expect(reading.pager.next()?.limit).toBe(40);
  });

  it('makes a page of the lowered limit a full one, though larger ones were seen', () => {
    const newestFirst = new Reading({ until: 2000 });
    newestFirst.answer(downFrom(2000, 1501));
    newestFirst.answer([], TIMEOUT);
    newestFirst.answer([], TIMEOUT);
    expect(newestFirst.answer(times(100, 1501)).holes).toMatchObject([{ since: 1501, count: 100 }]);
    const cut = new Reading({ until: 2000 });
    cut.answer(downFrom(2000, 1501));
    cut.answer([], TIMEOUT);
    cut.answer([], TIMEOUT);
    cut.answer(downFrom(1501, 1402));
    cut.answer([1402]);
    expect(cut.asks, 'its last second has been shown completely once, not twice').toEqual([
      0, 1402,
    ]);
    const unordered = new Reading({ until: 2000 });
    unordered.answer([1502, 1501, ...downFrom(2000, 1503)]);
    unordered.answer([], TIMEOUT);
    unordered.answer([], TIMEOUT);
    expect(unordered.answer(downFrom(1900, 1801)).proven).toEqual([]);
    expect(unordered.asks).toEqual([1851, 2000]);
  });

  it('is asked again with a smaller limit when the relay refuses the limit', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([], closed('invalid: limit too large'));
    expect(reading.pager.next()?.limit).toBe(100);
    reading.answer([], closed('invalid: limit too large'));
    expect(reading.pager.next()?.limit).toBe(20);
    reading.answer(downFrom(1000, 981));
    expect(reading.pager.next()?.limit).toBe(20);
    expect(reading.pager.limit).toBe(20);
  });

  it('ends the visit when the relay refuses the smallest limit', () => {
    const reading = new Reading({ until: 1000 }, 20);
    reading.answer([], closed('error: limit exceeds maximum'));
    expect(reading.stopped).toBe('limit_refused: error: limit exceeds maximum');
  });

  it('ends the visit when the connection is lost whatever is asked', () => {
    const reading = new Reading({ until: 1000 });
    const end: PageEnd = { type: 'disconnected', text: 'code 1006' };
    for (let i = 0; i < 3; i++) {
      expect(reading.stopped).toBeNull();
      expect(reading.answer([], end).proven).toEqual([]);
    }
    expect(reading.stopped).toBe('disconnected: code 1006');
  });

  it('is halved where its events are when it holds more than we take', () => {
    const reading = new Reading({ until: 1_000_000 });
    expect(reading.answer(downFrom(400, 301), OVERFLOW).proven).toEqual([]);
    expect(reading.asks).toEqual([351, 1_000_000]);
  });

  it('is asked for again when it was too much of what lies elsewhere', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    for (let i = 0; i < 3; i++) {
      expect(reading.asks).toEqual([500, 1000]);
      reading.answer([600, ...downFrom(499, 1)], OVERFLOW);
    }
    expect(reading.stopped).toBe('overflow: more than 20000 events');
  });

  it('proves nothing when it was garbled, and neither does the third', () => {
    const reading = new Reading({ until: 1000 });
    const garbled: PageEnd = { type: 'garbled', text: 'events came under another id' };
    for (let i = 0; i < 3; i++) expect(reading.answer([], garbled).proven).toEqual([]);
    expect(reading.stopped).toBe('garbled: events came under another id');
  });

  it('makes a hole of a second that holds more than we take', () => {
    const reading = new Reading({ since: 7, until: 7 });
    expect(reading.answer(times(100, 7), OVERFLOW).holes).toEqual([
      { ...window(7, 7), reason: 'overflow', count: 100 },
    ]);
    expect(reading.asks).toBeNull();
  });
});

describe('a gap of nothing', () => {
  it('asks nothing', () => {
    expect(new Pager([], { limit: 500 }).next()).toBeNull();
  });

  it('is refused an answer that nobody asked for', () => {
    const tally = new PageTally({ ...window(0, 1), limit: 1 });
    expect(() => new Pager([], { limit: 500 }).accept(tally, EOSE)).toThrow('nobody asked for');
  });
});

const WANTED = window(0, 1_700_000_100);

/** An honest relay with events at random times, after one visit. */
function visited(options: Omit<ModelRelayOptions, 'events'> & { count: number }, seed = 1) {
  const random = seededRandom(seed);
  const events = Array.from({ length: options.count }, (_, i) => ({
    ...{ id: `${i}`, createdAt: random.integer(1_600_000_000, 1_700_000_000), valid: true },
  }));
  const relay = new ModelRelay({ ...options, events, seed });
  const settings: ModelVisitsOptions = { limit: Math.max(500, options.cap ?? 0) };
  const archive = new ModelArchive(relay, settings);
  archive.visit(WANTED);
  return { relay, archive };
}

describe('frugality', () => {
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

  it.each(cases)('$count events from a relay that caps at $cap', ({ count, cap }) => {
    for (const seed of count > 5000 ? [1, 2] : [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
      const { relay, archive } = visited({ count, cap }, seed);
      expect(archive.events.size).toBe(count);
      expect(archive.unexplained(WANTED)).toEqual([]);
      expect(relay.pages).toBeLessThanOrEqual(Math.ceil(count / cap) * 1.1 + 3);
      expect(relay.sent).toBeLessThanOrEqual(mostEvents(count, cap));
    }
  });

  it('reads 20,000 events at a cap of 500 in 43 pages, with 0.3 % more events over the wire', () => {
    const { relay } = visited({ count: 20_000, cap: 500 });
    expect(relay.pages).toBeLessThanOrEqual(43);
    expect(relay.sent).toBeLessThanOrEqual(20_060);
  });

  it('needs one page less at the end where the relay says finish', () => {
    const { relay, archive } = visited({ count: 1000, cap: 500, nip67: true });
    expect(archive.unexplained(WANTED)).toEqual([]);
    expect(relay.pages).toBe(3);
  });
});
