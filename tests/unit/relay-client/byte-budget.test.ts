import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { ByteBudget } from '../../../src/relay-client/byte-budget.ts';

test('wakes waiters one after another while there is room', async () => {
  const budget = new ByteBudget(100);
  budget.take(150);
  expect(budget.isSpent).toBe(true);
  const called: number[] = [];
  budget.onRoom(() => {
    called.push(1);
    budget.take(100); // it uses up what there is
  });
  const forget = budget.onRoom(() => called.push(2));
  budget.onRoom(() => called.push(3));
  expect(called).toEqual([]);
  budget.give(100);
  await sleep(50);
  expect(called).toEqual([1]);
  forget();
  budget.give(100);
  await sleep(50);
  expect(called).toEqual([1, 3]);
  expect(budget.most).toBe(150);
});

test('calls back at once when there is room', () => {
  let isCalled = false;
  new ByteBudget(1).onRoom(() => {
    isCalled = true;
  });
  expect(isCalled).toBe(true);
});
