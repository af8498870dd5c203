import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dayGroups, dayOf, dayOfKey, eventKey, shardOf } from '../../../src/database/days.ts';

const LAST_SECOND = 2 ** 39 - 1;

describe('eventKey()', () => {
  test('by property: is the second times 2^24 and the low 24 bits of the number, and tells its day', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: LAST_SECOND }),
        fc.integer({ min: 0, max: 2 ** 25 }),
        (createdAt, number) => {
          const key = BigInt(eventKey(createdAt, number));
          expect(key).toBe(BigInt(createdAt) * 16_777_216n + BigInt(number % 2 ** 24));
          expect(dayOfKey(String(key))).toBe(dayOf(createdAt));
        },
      ),
    );
  });
});

describe('dayGroups()', () => {
  test('with one shard is one group of all days, ascending', () => {
    const [group, ...others] = dayGroups([20_003, 20_000, 20_003], 1);
    expect(group?.days).toEqual([20_000, 20_003]);
    expect([group?.has(20_000), group?.has(20_001), others.length]).toEqual([true, false, 0]);
  });

  test('of no day is no group', () => {
    expect(dayGroups([], 1)).toEqual([]);
    expect(dayGroups([], 16)).toEqual([]);
  });

  test('by property: each day is in one group, and groups come in the order of their shards', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: dayOf(LAST_SECOND) })),
        fc.integer({ min: 1, max: 100 }),
        (days, shards) => {
          const groups = dayGroups(days, shards);
          expect(groups.flatMap((group) => group.days).sort()).toEqual([...new Set(days)].sort());
          const order = groups.map(
            (group) => new Set(group.days.map((day) => shardOf(day, shards))),
          );
          expect(order.every(({ size }) => size === 1)).toBe(true);
          const numbers = order.flatMap((shard) => [...shard]);
          expect(numbers).toEqual([...new Set(numbers)].sort((a, b) => a - b));
          expect(numbers.every((number) => number >= 0 && number < shards)).toBe(true);
        },
      ),
    );
  });
});
