import { expect, test } from 'vitest';
import { NegentropyInitiator } from '../../../src/nip77/initiator.ts';
import { LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import { NegentropyError } from '../../../src/nip77/message.ts';
import { seededRandom } from '../../fixtures/random.ts';
import { NegentropyResponder, type SetItem } from '../../relay/negentropy-responder.ts';

const random = seededRandom(5);
const hex = () => Array.from({ length: 64 }, () => random.integer(0, 15).toString(16)).join('');
const RELAY: SetItem[] = Array.from({ length: 6000 }, (_, index) => ({
  createdAt: 1000 + index * 3,
  id: hex(),
}));

/** Compares until nothing is needed, and learns what was listed each time. @returns characters received in all */
function listAll(maxNeed: number): { received: number; comparisons: number; learnt: number } {
  const times = new Map(RELAY.map(({ id, createdAt }) => [id, createdAt]));
  const known = new Set<string>();
  let received = 0;
  for (let comparisons = 1; ; comparisons += 1) {
    const builder = new LocalSetBuilder(10_000);
    for (const id of known) builder.add(times.get(id) ?? 0, id);
    const initiator = new NegentropyInitiator(builder.build(), { frameSizeLimit: 60_000, maxNeed });
    const responder = new NegentropyResponder(RELAY, 20_000);
    let isFull = false;
    try {
      for (let message: string | null = initiator.open(); message !== null; ) {
        const answer = responder.answer(message);
        received += answer.length;
        message = initiator.accept(answer);
      }
    } catch (error) {
      if (!(error instanceof NegentropyError) || error.fault !== 'too_many') throw error;
      isFull = true;
      expect(initiator.need.size).toBe(maxNeed);
    }
    for (const id of initiator.need) known.add(id);
    if (!isFull) return { received, comparisons, learnt: known.size };
  }
}

test('a list with more ids than are accepted at once is read in parts, with hardly more listed in total', () => {
  const whole = listAll(10_000);
  const parts = listAll(1500);
  expect(whole).toMatchObject({ comparisons: 1, learnt: 6000 });
  expect(parts).toMatchObject({ comparisons: 4, learnt: 6000 });
  expect(parts.received).toBeLessThan(1.5 * whole.received);
});
