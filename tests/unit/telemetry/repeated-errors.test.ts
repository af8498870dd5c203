import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { RepeatedErrors } from '../../../src/telemetry/repeated-errors.ts';

let lines: Record<string, unknown>[];
let errors: RepeatedErrors;
beforeEach(() => {
  vi.useFakeTimers();
  lines = [];
  errors = new RepeatedErrors(
    pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line)) }),
  );
});
afterEach(() => vi.useRealTimers());

const shown = () => lines.map(({ msg, relay, times }) => [msg, relay, times]);

test('logs the first at once, and further ones once a minute with their number and the fields of the latest', () => {
  for (let second = 0; second < 150; second++) {
    for (const relay of ['one', 'two']) errors.note({ relay }, 'visit lost');
    vi.advanceTimersByTime(1000);
    errors.logDue();
  }
  expect(shown()).toEqual([
    ['visit lost', 'one', 1],
    ['visit lost', 'two', 119],
    ['visit lost', 'two', 120],
  ]);
  errors.flush();
  errors.flush();
  expect(shown().slice(3)).toEqual([['visit lost', 'two', 60]]);
});

test('logs each message for itself, and an error that was not seen for a minute at once', () => {
  errors.note({ relay: 'one' }, 'visit lost');
  errors.note({ relay: 'one' }, 'job lost');
  errors.note({ relay: 'two' }, 'visit lost');
  vi.advanceTimersByTime(60_000);
  errors.logDue();
  vi.advanceTimersByTime(60_000);
  errors.logDue();
  errors.note({ relay: 'three' }, 'visit lost');
  expect(shown()).toEqual([
    ['visit lost', 'one', 1],
    ['job lost', 'one', 1],
    ['visit lost', 'two', 1],
    ['visit lost', 'three', 1],
  ]);
});
