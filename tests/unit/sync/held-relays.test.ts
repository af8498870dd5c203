import { beforeEach, expect, test } from 'vitest';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { HeldRelays } from '../../../src/sync/held-relays.ts';
import { relayAddress } from '../../relay/relays.ts';

const relay = (relayId: number): Relay => ({
  ...relayAddress(`wss://r${relayId}.example.com`),
  relayId,
});

let held: HeldRelays;
/** What was done to claims and workers, in order. */
let done: string[];
let lose: (key: number) => void;
let stopping: AbortController;
/** Relays whose claims are not held, as far as the process knows. */
let notHeld: Set<number>;

beforeEach(() => {
  done = [];
  stopping = new AbortController();
  notHeld = new Set();
  held = new HeldRelays({
    claims: {
      release: (_work, key, end) => void done.push(`release ${key} ${end}`),
      lose: (_work, key) => {
        if (notHeld.has(key)) return;
        notHeld.add(key);
        lose(key);
      },
      holds: (_work, key) => !notHeld.has(key),
      onLost: (_work, listener) => {
        lose = listener;
      },
    },
    cancel: ({ relayId }) => void done.push(`cancel ${relayId}`),
    signal: stopping.signal,
  });
});

test('the claim ends with the visit', () => {
  held.visitBegins(relay(1));
  held.visitEnds(relay(1), 'good');
  held.visitBegins(relay(2));
  held.visitEnds(relay(2), 'not_stored');
  held.visitBegins(relay(3));
  held.visitEnds(relay(3), 'lost');
  expect(done).toEqual(['release 1 done', 'release 2 interrupted', 'release 3 left']);
});

test('the claim of a relay that is followed stays until neither a visit nor the live subscription goes on', () => {
  held.visitBegins(relay(1));
  held.followBegins(1, 0);
  held.visitEnds(relay(1), 'good');
  expect(done).toEqual([]);
  held.visitBegins(relay(1));
  held.followEnds(1, true); // while it is visited
  expect(done).toEqual([]);
  held.visitEnds(relay(1), 'good');
  expect(done).toEqual(['release 1 done']);
});

test('a relay that is no longer followed is released, and due at once if its events could not be stored', () => {
  for (const id of [1, 2]) {
    held.visitBegins(relay(id));
    held.followBegins(id, 0);
    held.visitEnds(relay(id), 'good');
  }
  held.followEnds(1, true);
  held.followEnds(1, true);
  held.followEnds(2, false);
  expect(done).toEqual(['release 1 done', 'release 2 interrupted']);
});

test('relays that a worker followed are due at once when it dies, those of other workers and those being visited are not', () => {
  for (const [id, slot] of [
    [1, 0],
    [2, 1],
    [3, 1],
  ] as const) {
    held.visitBegins(relay(id));
    held.followBegins(id, slot);
    held.visitEnds(relay(id), 'good');
  }
  held.visitBegins(relay(3));
  held.workerDied(1);
  expect(done).toEqual(['release 2 interrupted']);
});

test('a lost claim ends the visit and the subscription of its relay', () => {
  held.visitBegins(relay(1));
  held.visitBegins(relay(2));
  held.followBegins(2, 0);
  held.visitEnds(relay(2), 'good');
  lose(1);
  lose(2);
  held.followEnds(2, true);
  expect(done).toEqual(['cancel 1', 'cancel 2']);
  held.visitBegins(relay(3));
  held.visitEnds(relay(3), 'claim_lost');
  expect(done.slice(2)).toEqual(['cancel 3']);
});

test.each(['good', 'claim_lost'] as const)(
  'a relay whose claim was lost before its worker began to follow it is not followed any more (%s)',
  (ending) => {
    held.visitBegins(relay(1));
    notHeld.add(1);
    lose(1);
    held.followBegins(1, 0); // the end of the visit was under way
    held.visitEnds(relay(1), ending);
    expect(done.filter((what) => what.startsWith('cancel'))).toEqual(['cancel 1', 'cancel 1']);
    held.followEnds(1, true);
    expect(done.filter((what) => what.startsWith('release'))).toEqual([]);
  },
);

test('a relay whose visit ended without a result because the service stopped is due at once, for any process', () => {
  held.visitBegins(relay(1));
  stopping.abort();
  held.visitEnds(relay(1), 'lost');
  expect(done).toEqual(['release 1 interrupted']);
});

test('a followed relay whose visit ends while the service stops is not released as done', () => {
  held.visitBegins(relay(1));
  held.followBegins(1, 0);
  held.visitEnds(relay(1), 'good');
  stopping.abort();
  held.followEnds(1, true);
  expect(done).toEqual([]);
});

test('a followed relay that is handed over is due at once, after the visit in progress', () => {
  for (const id of [1, 2]) {
    held.visitBegins(relay(id));
    held.followBegins(id, 0);
  }
  held.visitEnds(relay(1), 'good');
  expect(held.followedAlone).toEqual([1]);
  held.handOver(2);
  held.handOver(3);
  held.handOver(1);
  expect(done).toEqual(['cancel 1']);
  held.followEnds(1, true);
  expect(done).toEqual(['cancel 1', 'release 1 interrupted']);
  held.visitEnds(relay(2), 'good');
  expect(held.followedAlone).toEqual([2]);
  held.followEnds(2, true);
  expect(done.at(-1)).toBe('release 2 done');
});
