/** Pages full of messages whose time cannot be read: what lies below them is not taken for empty. */
import { expect, test } from 'vitest';
import { downFrom, EOSE, established, Reading, window } from '../../fixtures/visit-reading.ts';

const unreadable = (reading: Reading, count: number) => reading.answer([], EOSE, '', count);

test('a page full of them divides its window towards the top, and proves nothing', () => {
  const reading = established({ until: 1000 });
  const known = reading.asks;
  expect(known).toEqual([0, 951]);
  for (let i = 0; i < 10; i++) expect(unreadable(reading, 50).proven).toEqual([]);
  expect(reading.stopped).toBeNull();
  expect(reading.asks?.[0]).toBeGreaterThan(900);
});

test('a second that fills a page with them becomes a hole, and what lies below it is read', () => {
  const reading = new Reading({ until: 1_000_000 });
  const holes: unknown[] = [];
  const proven: unknown[] = [];
  for (let pages = 0; reading.asks && pages < 200; pages++) {
    const [since, until] = reading.asks;
    const isFull = since <= 900_000 && 900_000 <= until;
    const shown = isFull ? [] : downFrom(Math.min(until, 1010), 1000).filter((t) => t >= since);
    const verdict = reading.answer(shown, EOSE, '', isFull ? 100 : 0);
    holes.push(...verdict.holes);
    proven.push(...verdict.proven);
  }
  expect(reading.asks).toBeNull();
  expect(holes).toEqual([{ ...window(900_000, 900_000), reason: 'unreadable', count: 100 }]);
  expect(proven).toContainEqual(expect.objectContaining({ since: 0 }));
});

test('a few of them leave an empty page empty', () => {
  const reading = new Reading({ until: 1000 });
  for (let i = 0; i < 2; i++) expect(unreadable(reading, 5).proven).toEqual([]);
  expect(unreadable(reading, 5).proven).toEqual([window(0, 1000)]);
});

test('a relay that sends them with each answer is read no more after a bounded number of requests', () => {
  const reading = new Reading({ until: 1_700_000_000 });
  let pages = 0;
  for (; reading.asks && pages < 1000; pages++) expect(unreadable(reading, 30).proven).toEqual([]);
  expect(reading.stopped).toMatch(/^garbled: /);
  expect(pages).toBeLessThan(150);
});
