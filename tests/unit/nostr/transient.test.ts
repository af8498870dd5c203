import { describe, expect, test } from 'vitest';
import { isTransient } from '../../../src/nostr/transient.ts';

const NOW = 1_750_000_000;
const event = (kind: number, ...tags: string[][]) => ({ kind, tags });
const expiring = (value: string) => event(1, ['e', 'a'], ['expiration', value]);

describe('an event that a relay need not show again', () => {
  test.each([20_000, 22_242, 29_999])('is one of the ephemeral kind %i', (kind) => {
    expect(isTransient(event(kind), NOW)).toBe(true);
  });

  test.each([
    ['expired long ago', '1'],
    ['expires now', String(NOW)],
    ['may expire during a visit', String(NOW + 120)],
  ])('is one that %s', (_name, value) => {
    expect(isTransient(expiring(value), NOW)).toBe(true);
  });
});

describe('an event that a relay is expected to show again', () => {
  test.each([0, 1, 5, 1059, 10_002, 19_999, 30_000, 65_535])('is one of kind %i', (kind) => {
    expect(isTransient(event(kind), NOW)).toBe(false);
  });

  test.each([
    ['expires tomorrow', String(NOW + 86_400)],
    ['has an empty expiration', ''],
    ['has an expiration that is no number', 'soon'],
  ])('is one that %s', (_name, value) => {
    expect(isTransient(expiring(value), NOW)).toBe(false);
  });

  test('is one whose expiration tag has no value', () => {
    expect(isTransient(event(1, ['expiration']), NOW)).toBe(false);
  });
});
