import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { coverRanks } from '../../../src/database/figures/samples.ts';

const sets = fc.array(
  fc.record({
    relays: fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 }),
    events: fc.integer({ min: 1, max: 9 }),
  }),
  { maxLength: 12 },
);

describe('coverRanks', () => {
  test('takes at each rank the relay that adds the most events, until all are covered', () => {
    fc.assert(
      fc.property(sets, (all) => {
        const chosen: number[] = [];
        const added = (relay: number) =>
          all
            .filter(
              ({ relays }) => relays.includes(relay) && !relays.some((r) => chosen.includes(r)),
            )
            .reduce((sum, { events }) => sum + events, 0);
        for (const { relay, events } of coverRanks(all)) {
          expect(events).toBe(added(relay));
          expect(events).toBe(Math.max(...[1, 2, 3, 4, 5, 6].map(added)));
          chosen.push(relay);
        }
        expect([1, 2, 3, 4, 5, 6].map(added)).toEqual([0, 0, 0, 0, 0, 0]);
      }),
    );
  });
});
