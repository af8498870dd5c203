import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NegentropyInitiator } from '../../../src/nip77/initiator.ts';
import { LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import type { Reconciliation } from '../../../src/nip77/reconcile.ts';
import { settleWithheld, windowsOf } from '../../../src/sync/reconcile/withheld-times.ts';
import { NegentropyResponder, type SetItem } from '../../relay/negentropy-responder.ts';

const LIMITS = { frameSizeLimit: 60_000, maxNeed: 100_000 };
const WINDOW = { since: 0, until: 10_000 };

interface Unplaced {
  readonly id: string;
  readonly since: number;
  readonly until: number;
}

/** Compares what is known, and what is withheld, with what a relay holds. */
function compare(
  relay: readonly SetItem[],
  known: readonly SetItem[],
  withheld: readonly Unplaced[],
) {
  const builder = new LocalSetBuilder(100_000);
  for (const { createdAt, id } of known) builder.add(createdAt, id);
  for (const one of withheld) builder.addUnplaced(one);
  const local = builder.build();
  const initiator = new NegentropyInitiator(local, LIMITS);
  const responder = new NegentropyResponder([...relay]);
  let rounds = 0;
  for (let message: string | null = initiator.open(); message !== null; rounds += 1)
    message = initiator.accept(responder.answer(message));
  const { runs } = initiator;
  const end = { type: 'done' } as const;
  const sets = { need: [...initiator.need], have: [...initiator.have] };
  const result: Reconciliation = {
    ...sets,
    end,
    runs,
    relayIds: 0,
    oldestShared: null,
    rounds,
    bytes: 0,
  };
  return { ...result, local };
}

const items = fc
  .uniqueArray(
    fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.uint8Array({ minLength: 32, maxLength: 32 })),
    {
      minLength: 1,
      maxLength: 400,
      selector: ([, id]) => Buffer.from(id).toString('hex'),
    },
  )
  .map((drawn): SetItem[] =>
    drawn.map(([createdAt, id]) => ({ createdAt, id: Buffer.from(id).toString('hex') })),
  );

/** Which of the events are withheld: by their ids, so that bursts and single ones occur. */
const isWithheld =
  (share: number) =>
  ({ id }: SetItem) =>
    Number.parseInt(id.slice(-2), 16) < share * 256;

test('withheld events are placed among their neighbours, so that an unchanged relay costs one round', () => {
  fc.assert(
    fc.property(items, fc.constantFrom(0.02, 0.1, 0.5), fc.boolean(), (relay, share, isKnown) => {
      const hidden = relay.filter(isWithheld(share));
      const shown = relay.filter((item) => !isWithheld(share)(item));
      const first = compare(relay, isKnown ? shown : [], []);
      const times = new Map(isKnown ? [] : shown.map(({ id, createdAt }) => [id, createdAt]));
      const placed = windowsOf(first.runs, new Set(hidden.map(({ id }) => id)), times, WINDOW);
      expect(placed.map(({ id }) => id).sort()).toEqual(hidden.map(({ id }) => id).sort());
      for (const { id, since, until } of placed) {
        const createdAt = hidden.find((one) => one.id === id)?.createdAt ?? -1;
        expect(createdAt >= since && createdAt <= until).toBe(true);
      }
      const second = compare(relay, shown, placed);
      expect({ need: second.need, have: second.have }).toEqual({ need: [], have: [] });
      expect(second.rounds).toBe(1);
    }),
    { numRuns: 300, seed: 77 },
  );
});

test('new events around withheld ones are found, and withheld ones count neither as new nor as gone', () => {
  fc.assert(
    fc.property(items, items, (before, more) => {
      const hidden = before.filter(isWithheld(0.2));
      const shown = before.filter((item) => !isWithheld(0.2)(item));
      const ids = new Set(before.map(({ id }) => id));
      const fresh = more.filter(({ id }) => !ids.has(id));
      const wanted = new Set(hidden.map(({ id }) => id));
      let withheld = windowsOf(compare(before, shown, []).runs, wanted, new Map(), WINDOW);
      const relay = [...before, ...fresh];
      const result = compare(relay, shown, withheld);
      const known = withheld.filter(({ id }) => result.need.includes(id));
      const settled = settleWithheld(result, result.local, WINDOW, known);
      expect(settled.need.sort()).toEqual(fresh.map(({ id }) => id).sort());
      expect({ have: settled.have, gone: settled.gone }).toEqual({ have: [], gone: [] });
      for (const one of settled.placed)
        withheld = [...withheld.filter(({ id }) => id !== one.id), one];
      for (const { id, since, until } of withheld) {
        const createdAt = hidden.find((one) => one.id === id)?.createdAt ?? -1;
        expect(createdAt >= since && createdAt <= until).toBe(true);
      }
    }),
    { numRuns: 300, seed: 78 },
  );
});

test('withheld events that a relay no longer lists are distinguished from those outside the window', () => {
  const id = (text: string) => text.repeat(64);
  const withheld = [
    { id: id('a'), since: 100, until: 200 },
    { id: id('b'), since: 9900, until: 10_100 },
  ];
  const result = compare([], [], withheld);
  expect(settleWithheld(result, result.local, WINDOW, [])).toEqual({
    need: [],
    have: [],
    placed: [{ id: id('b'), since: 10_001, until: 10_100 }],
    gone: [id('a')],
  });
});
