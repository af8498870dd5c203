/** Empty answers, and relays that hold very little: how often nothing has to be said before it is believed. */
import { describe, expect, test } from 'vitest';
import {
  downFrom,
  emptyUntilStopped,
  established,
  MORE,
  Reading,
  times,
  window,
} from '../../fixtures/visit-reading.ts';

describe('an empty answer', () => {
  test('is accepted after three repetitions when the relay has never sent an event, with silence as evidence', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 1000)]);
    expect(reading.pager.silent).toBe(true);
  });

  test('does not count when another answer came in between', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([]);
    reading.answer([]);
    reading.answer([500]);
    expect(reading.pager.silent).toBe(false);
    expect(emptyUntilStopped(reading)).toMatch(/^hides_events: /);
  });

  test('does not count when an unusable answer came in between', () => {
    const reading = new Reading({ until: 1000 });
    for (const seconds of [[], [], [2000], [], [], [2000], [], []]) {
      expect(reading.answer(seconds).proven).toEqual([]);
    }
    expect(reading.answer([]).proven).toEqual([window(0, 1000)]);
  });

  test('is a contradiction where an event is known: it is never accepted, and many in a row end the visit', () => {
    const reading = established();
    for (let i = 0; i < 2; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([951, 950, 900]).proven).toEqual([window(901, 951)]);
    expect(emptyUntilStopped(reading)).toMatch(/^hides_events: /);
  });

  test('is repeated where an event was seen in an earlier visit, and accepted when that event is gone', () => {
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

  test('is requested six times from a relay that has hidden events', () => {
    const reading = new Reading({ until: 1000 }, 50);
    reading.answer([]);
    reading.answer(downFrom(1000, 951));
    reading.answer(times(50, 951));
    expect(reading.asks).toEqual([0, 950]);
    for (let i = 0; i < 5; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 950)]);
  });

  test('is requested six times below the only known second too, if the relay has hidden that one', () => {
    const reading = new Reading([{ ...window(0, 3), anchor: null, known: 3 }]);
    reading.answer([3]);
    reading.answer([]);
    reading.answer([3]);
    reading.answer([3]);
    for (let i = 0; i < 5; i++) expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 2), window(3, 3)]);
  });

  test('that claims that there is more (NIP-67) is not accepted', () => {
    const reading = new Reading({ until: 1000 });
    for (let i = 0; i < 3; i++) expect(reading.answer([], MORE).proven).toEqual([]);
    expect(reading.stopped).toMatch(/^more_without_events: /);
  });

  test('proves nothing when the page holds events from elsewhere only', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    for (let i = 0; i < 3; i++) expect(reading.answer([400, 300]).proven).toEqual([]);
    expect(reading.stopped).toBe('ignores_since');
  });
});

describe('a page that lacks events of an earlier page', () => {
  test('is requested again before the event counts as gone', () => {
    const reading = established();
    expect(reading.answer([900, 890]).proven).toEqual([]);
    expect(reading.answer([900, 890]).proven).toEqual([]);
    expect(reading.answer([951, 900, 890]).proven).toEqual([window(891, 951)]);
  });
});

describe('a relay with very few events', () => {
  test('in one second: requests that second twice, since the order is unknown, then twice what lies below', () => {
    const reading = new Reading({ until: 1000 });
    expect(reading.answer([700]).proven).toEqual([]);
    expect(reading.asks).toEqual([0, 1000]);
    expect(reading.answer([700]).proven).toEqual([window(701, 1000)]);
    expect(reading.asks).toEqual([0, 699]);
    expect(reading.answer([]).proven).toEqual([]);
    expect(reading.answer([]).proven).toEqual([window(0, 699), window(700, 700)]);
    expect(reading.asks).toBeNull();
  });

  test('that turns out to be a cap: the seconds that were thought complete are requested again', () => {
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
