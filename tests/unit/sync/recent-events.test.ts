import { expect, test } from 'vitest';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import { forge, signedEvents } from '../../fixtures/events.ts';
import { verified } from '../../postgres/bigbrotr.ts';

const EVENTS = signedEvents(40, { from: 1000, to: 2000 }).map(verified);
const [event, other] = EVENTS as [(typeof EVENTS)[0], (typeof EVENTS)[0]];
/** The same id under another signature. */
const copy = forge(event, 'signature') as typeof event;
const KEY = (2n ** 62n + 5n).toString();
const NOTHING = { isVerified: false, key: null, owner: 0 };

test('an event is found by its id and its signature, not by its id alone', () => {
  const recent = new RecentEvents();
  recent.noteArchived(event, KEY);
  expect(recent.find(event)).toEqual({ isVerified: true, key: KEY, owner: 0 });
  expect(recent.find(copy)).toEqual(NOTHING);
  expect(recent.find(other)).toEqual(NOTHING);
});

test('a copy with another signature is claimed apart', () => {
  const recent = new RecentEvents();
  expect(recent.claim(copy, 1)).toBe(1);
  expect(recent.claim(event, 2)).toBe(2);
  recent.noteVerified(event);
  expect(recent.find(copy).isVerified).toBe(false);
});

test('the earliest batch that claims an event owns it until it releases it', () => {
  const recent = new RecentEvents();
  const [first, second] = [recent.nextBatch(), recent.nextBatch()];
  expect(recent.claim(event, second)).toBe(second);
  expect(recent.claim(event, first)).toBe(first);
  expect(recent.claim(event, second)).toBe(first);
  recent.release(event, second);
  expect(recent.find(event).owner).toBe(first);
  recent.release(event, first);
  expect(recent.find(event).owner).toBe(0);
  expect(recent.claim(event, second)).toBe(second);
});

test('a batch that has waited too long takes an event over', () => {
  const recent = new RecentEvents();
  recent.claim(event, 1);
  expect(recent.claim(event, 2, true)).toBe(2);
  recent.release(event, 1);
  expect(recent.find(event).owner).toBe(2);
});

test('an archived event has no owner, and its key can be forgotten', () => {
  const recent = new RecentEvents();
  recent.claim(event, 1);
  recent.noteArchived(event, KEY);
  expect(recent.find(event).owner).toBe(0);
  recent.forgetKey(event);
  expect(recent.find(event)).toEqual({ isVerified: true, key: null, owner: 0 });
});

test('threads that share the memory see the same, and draw different numbers', () => {
  const memory = RecentEvents.allocate();
  const [one, two] = [new RecentEvents(memory), new RecentEvents(memory)];
  expect(new Set([one, two, one, two].map((recent) => recent.nextBatch())).size).toBe(4);
  one.claim(event, 1);
  expect(two.claim(event, 2)).toBe(1);
  one.noteArchived(event, KEY);
  expect(two.find(event).key).toBe(KEY);
});

test('a full bucket replaces the oldest entry', () => {
  const recent = new RecentEvents(RecentEvents.allocate(1));
  for (const one of EVENTS) recent.noteVerified(one);
  const held = EVENTS.filter((one) => recent.find(one).isVerified);
  expect(held).toEqual(EVENTS.slice(-6));
});

test('a bucket whose lock was left by a thread that died is done without', () => {
  const memory = RecentEvents.allocate(1);
  const recent = new RecentEvents(memory);
  recent.noteArchived(event, KEY);
  new Int32Array(memory)[2] = 1; // the lock of the only bucket
  expect(recent.find(event)).toEqual(NOTHING);
  expect(recent.claim(event, 3)).toBe(0);
  recent.release(event, 3);
  recent.noteVerified(event);
});
