import { describe, expect, test } from 'vitest';
import type { Window } from '../../../src/nostr/window.ts';
import { AnswerSamples } from '../../../src/sync/paging/answer-samples.ts';
import { seededRandom } from '../../fixtures/random.ts';

const DAY = 86_400;
const ALL = [{ since: 0, until: 100 * DAY }];

/** Samples of a reading whose pages showed that many events each, a minute apart. */
function samplesOf(...pages: number[]): AnswerSamples {
  const samples = new AnswerSamples(seededRandom(1).next);
  let second = 90 * DAY;
  for (const count of pages) samples.notePage(Array.from({ length: count }, () => (second -= 60)));
  return samples;
}

/** Asks everything; `found` says how many new events the n-th answer shows, counted from 1. */
function askAll(
  samples: AnswerSamples,
  found: (n: number) => number,
  proven = ALL,
): { windows: Window[]; isContradicted: boolean } {
  const windows: Window[] = [];
  const questions = samples.questions(proven, 95 * DAY);
  for (let step = questions.next(); ; ) {
    if (step.done) return { windows, isContradicted: step.value };
    windows.push(step.value);
    step = questions.next(found(windows.length));
  }
}

describe('AnswerSamples', () => {
  test('repeats a request for thirty events of the largest remembered page', () => {
    const { windows, isContradicted } = askAll(samplesOf(1, 2, 100, 1), () => 0);
    expect(windows).toHaveLength(1);
    const [window] = windows;
    expect((window?.until ?? 0) - (window?.since ?? 0)).toBe(29 * 60);
    expect(isContradicted).toBe(false);
  });

  test('repeats requests for three places of a large history, one event in a hundred', () => {
    const { windows } = askAll(samplesOf(...Array.from({ length: 40 }, () => 500)), () => 0);
    expect(windows).toHaveLength(3);
    for (const { since, until } of windows) expect(until - since).toBe(65 * 60);
  });

  test('three new events in one place are a contradiction', () => {
    const { windows, isContradicted } = askAll(samplesOf(100, 100), () => 3);
    expect([windows.length, isContradicted]).toEqual([1, true]);
  });

  test('one new event is not a contradiction if two repetitions and the other samples show no other', () => {
    const { windows, isContradicted } = askAll(samplesOf(100, 100, 100), (n) => (n === 1 ? 1 : 0));
    expect([windows.length, isContradicted]).toEqual([5, false]);
    expect(windows[1]).toEqual(windows[0]);
    expect(windows[2]).toEqual(windows[0]);
    expect(windows[3]).not.toEqual(windows[0]);
  });

  test.each([2, 3, 4, 5])('one new event and another in answer %i are a contradiction', (other) => {
    const { windows, isContradicted } = askAll(samplesOf(100, 100, 100), (n) =>
      n === 1 || n === other ? 1 : 0,
    );
    expect([windows.length, isContradicted]).toEqual([other, true]);
  });

  test('repeats the request for a whole history of few events, except its last minutes', () => {
    const { windows } = askAll(samplesOf(3, 1), () => 0);
    expect(windows).toEqual([{ since: 0, until: 95 * DAY }]);
  });

  test('samples the part of a divided history that contained the events, not the longest part', () => {
    const { windows } = askAll(samplesOf(3), () => 0, [
      { since: 0, until: 80 * DAY },
      { since: 80 * DAY + 2, until: 100 * DAY },
    ]);
    expect(windows).toEqual([{ since: 80 * DAY + 2, until: 95 * DAY }]);
  });

  test('samples a place that one page contained rather than one that several did', () => {
    const samples = samplesOf();
    const page = (newest: number, count: number) =>
      samples.notePage(Array.from({ length: count }, (_, i) => newest - i));
    for (let times = 0; times < 3; times += 1) page(80 * DAY, 90);
    page(70 * DAY, 40);
    expect(askAll(samples, () => 0).windows[0]?.until).toBeLessThanOrEqual(70 * DAY);
  });

  test('does not sample few events of less than a day, nor time without events', () => {
    const today = [{ since: 89.5 * DAY, until: 90 * DAY }];
    expect(askAll(samplesOf(3), () => 0, today).windows).toEqual([]);
    expect(askAll(samplesOf(), () => 0).windows).toEqual([]);
  });

  test('leaves out what is not proven', () => {
    const half = [{ since: 0, until: 90 * DAY - 60 * 60 }];
    const { windows } = askAll(samplesOf(100), () => 0, half);
    expect(windows).toHaveLength(1);
    expect(windows[0]?.until).toBeLessThanOrEqual(90 * DAY - 60 * 60);
  });
});
