import { expect, test } from 'vitest';
import { Followed } from '../../src/followed.ts';

test('relays of a worker that died are wanted at once, and only once', () => {
  const followed = new Followed();
  for (const [relayId, seat] of [
    [1, 0],
    [2, 1],
    [3, 1],
  ] as const)
    followed.begin(relayId, seat);
  expect(followed.lostAllOf(1)).toBe(true);
  expect([...followed.atOnce]).toEqual([2, 3]);
  followed.atOnce.clear(); // they are visited
  expect(followed.lostAllOf(1)).toBe(false); // its next worker died before it followed any
  expect([...followed.atOnce]).toEqual([]);
  followed.begin(2, 0); // the seat was given up, and another worker has it now
  expect(followed.lostAllOf(0)).toBe(true);
  expect([...followed.atOnce]).toEqual([1, 2]);
  followed.begin(2, 3); // the visit that the dead worker had begun was done again, and follows it
  expect([...followed.atOnce]).toEqual([1]);
});

test('a relay whose events could not be stored is wanted at once, if it was followed', () => {
  const followed = new Followed();
  followed.begin(7, 0);
  expect(followed.lost(7)).toBe(true);
  expect(followed.lost(7)).toBe(false);
  expect(followed.lost(8)).toBe(false);
  expect([...followed.atOnce]).toEqual([7]);
});
