/** Pages that break off. */
import { describe, expect, test } from 'vitest';
import type { PageEnd } from '../../../src/relay-client/subscription.ts';
import {
  closed,
  downFrom,
  OVERFLOW,
  Reading,
  TIMEOUT,
  times,
  window,
} from '../../fixtures/visit-reading.ts';

describe('a page that fails', () => {
  test('proves nothing after a timeout; the request is repeated, then with a smaller limit, then reading stops', () => {
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

  test('lowers the limit only temporarily when the relay answers again', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([], TIMEOUT);
    reading.answer([], TIMEOUT);
    reading.answer(downFrom(1000, 901));
    expect(reading.pager.next()?.limit).toBe(200);
    reading.answer(downFrom(901, 702));
    expect(reading.pager.next()?.limit).toBe(400);
    expect(reading.pager.limit, 'what the relay puts up with').toBe(500);
  });

  test('lowers the limit permanently when that happens again', () => {
    const reading = new Reading({ until: 1000 });
    for (const seconds of [downFrom(1000, 981), downFrom(981, 962)]) {
      reading.answer([], TIMEOUT);
      reading.answer([], TIMEOUT);
      reading.answer(seconds);
    }
    expect(reading.pager.limit).toBe(40);
    expect(reading.pager.next()?.limit).toBe(40);
  });

  test('counts a page of the lowered limit as full although larger ones were seen', () => {
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

  test('is requested again with a smaller limit when the relay refuses the limit', () => {
    const reading = new Reading({ until: 1000 });
    reading.answer([], closed('invalid: limit too large'));
    expect(reading.pager.next()?.limit).toBe(100);
    reading.answer([], closed('invalid: limit too large'));
    expect(reading.pager.next()?.limit).toBe(20);
    reading.answer(downFrom(1000, 981));
    expect(reading.pager.next()?.limit).toBe(20);
    expect(reading.pager.limit).toBe(20);
  });

  test('ends the visit when the relay refuses the smallest limit', () => {
    const reading = new Reading({ until: 1000 }, 20);
    reading.answer([], closed('error: limit exceeds maximum'));
    expect(reading.stopped).toBe('limit_refused: error: limit exceeds maximum');
  });

  test('ends the visit when every request loses the connection', () => {
    const reading = new Reading({ until: 1000 });
    const end: PageEnd = { type: 'disconnected', text: 'code 1006' };
    for (let i = 0; i < 3; i++) {
      expect(reading.stopped).toBeNull();
      expect(reading.answer([], end).proven).toEqual([]);
    }
    expect(reading.stopped).toBe('disconnected: code 1006');
  });

  test('is divided by the times of its events when it has more than is accepted', () => {
    const reading = new Reading({ until: 1_000_000 });
    expect(reading.answer(downFrom(400, 301), OVERFLOW).proven).toEqual([]);
    expect(reading.asks).toEqual([351, 1_000_000]);
  });

  test('is requested again when most of its events are outside the window', () => {
    const reading = new Reading({ since: 500, until: 1000 });
    for (let i = 0; i < 3; i++) {
      expect(reading.asks).toEqual([500, 1000]);
      reading.answer([600, ...downFrom(499, 1)], OVERFLOW);
    }
    expect(reading.stopped).toBe('overflow: more than 20000 events');
  });

  test('proves nothing when it is garbled, and paging stops after the third', () => {
    const reading = new Reading({ until: 1000 });
    const garbled: PageEnd = { type: 'garbled', text: 'events came under another id' };
    for (let i = 0; i < 3; i++) expect(reading.answer([], garbled).proven).toEqual([]);
    expect(reading.stopped).toBe('garbled: events came under another id');
  });

  test('makes a hole of a second that holds more than is accepted', () => {
    const reading = new Reading({ since: 7, until: 7 });
    expect(reading.answer(times(100, 7), OVERFLOW).holes).toEqual([
      { ...window(7, 7), reason: 'overflow', count: 100 },
    ]);
    expect(reading.asks).toBeNull();
  });
});
