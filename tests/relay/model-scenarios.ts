/** Model relays and archives at random: what the paging model plays, and what nobody can tell from a complete answer. */
import fc from 'fast-check';
import { type ModelEvent, ModelRelay } from './model-relay.ts';
import { ModelArchive, type ModelVisitsOptions } from './model-visits.ts';

export const NOW = 100_000;

const bursts = fc.record({
  second: fc.oneof(fc.nat(40), fc.nat(1000), fc.nat(NOW + 10)),
  count: fc.oneof(
    { weight: 8, arbitrary: fc.constant(1) },
    { weight: 2, arbitrary: fc.integer({ min: 2, max: 5 }) },
    { weight: 1, arbitrary: fc.integer({ min: 6, max: 70 }) },
  ),
  valid: fc.oneof({ weight: 9, arbitrary: fc.constant(true) }, fc.boolean()),
});

const chance = (...chances: number[]) => fc.constantFrom(0, 0, ...chances);

const faults = fc.record({
  empty: chance(0.1, 0.3),
  early: chance(0.1, 0.3),
  late: fc.constantFrom(0, 0, 0, 0, 0.02, 0.2, 1),
  timeout: chance(0.05, 0.2),
  closed: chance(0.05, 0.2),
  disconnect: chance(0.02, 0.1),
  repeat: chance(0.02, 0.3),
  above: chance(0.05, 0.2),
  below: chance(0.05, 0.2),
  pass: chance(0.1, 0.5),
  inject: fc.constantFrom<number>(0, 0, 0, 1, 2, 3),
});

const contents = {
  stored: fc.array(bursts, { maxLength: 60 }),
  arrivals: fc.array(fc.record({ page: fc.integer({ min: 1, max: 60 }), burst: bursts }), {
    maxLength: 6,
  }),
  nip67: fc.boolean(),
  overlap: fc.constantFrom<number>(0, 1, 600),
  hints: fc.constantFrom('none' as const, 'anchor' as const, 'anchor and known' as const),
  retriesHoles: fc.boolean(),
  seed: fc.nat(),
};

export const anyRelay = fc.record({
  ...contents,
  cap: fc.oneof(fc.integer({ min: 1, max: 19 }), fc.integer({ min: 20, max: 60 })),
  limit: fc.constantFrom<number>(500, 500, 100, 30, 20, 10),
  order: fc.oneof(
    fc.constant('newest-first' as const),
    fc.constantFrom('oldest-first' as const, 'shuffled' as const),
  ),
  ignores: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    fc.subarray(['since', 'until', 'limit'] as const),
  ),
  faults,
  forged: fc.array(fc.nat(1000), { maxLength: 5 }),
  transients: fc.array(bursts, { maxLength: 5 }),
  pagesEachVisit: fc.oneof(fc.constant(1e6), fc.integer({ min: 3, max: 20 })),
});

const poison = fc.record({
  second: fc.oneof(fc.nat(40), fc.nat(1000), fc.nat(NOW)),
  how: fc.constantFrom('disconnect' as const, 'closed' as const, 'silence' as const),
});

const atProbe = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.constantFrom('closed' as const, 'silence', 'disconnect') },
);

/** What else a relay may do; a record of its own, since most relays do nothing of it. */
export const oddities = fc.record({
  mostVisits: fc.constantFrom<number>(1, 2, 3, 8),
  exclusive: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    fc.subarray(['since', 'until'] as const),
  ),
  poisoned: fc.oneof(
    { weight: 2, arbitrary: fc.array(poison, { maxLength: 0 }) },
    { weight: 1, arbitrary: fc.array(poison, { minLength: 1, maxLength: 3 }) },
  ),
  refusesLimitAbove: fc.constantFrom<number>(1e6, 1e6, 1e6, 400, 60, 20),
  refusesWindow: fc.oneof(
    { weight: 7, arbitrary: fc.constant(1e9) },
    { weight: 1, arbitrary: fc.constantFrom<number>(-1, NOW - 1, 20_000, 5000) },
  ),
  atProbe,
});

export const honestRelay = fc.record({
  ...contents,
  cap: fc.integer({ min: 20, max: 100 }),
  limit: fc.constantFrom<number>(500, 100, 20),
});

/** A relay that shows each of its events with this chance at each asking, and is otherwise honest. Fewer prove too little. */
export const changingRelay = fc.record({
  serves: fc.constantFrom(0.3, 0.5, 0.7),
  atProbe,
  seconds: fc.array(fc.nat(NOW - 10), { minLength: 25, maxLength: 400 }),
  cap: fc.integer({ min: 20, max: 100 }),
  limit: fc.constantFrom<number>(500, 100),
  seed: fc.nat(),
});

/** A relay that shows few of its events at each asking, in any order, and often none. */
export const hidingRelay = fc.record({
  serves: fc.constantFrom(0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1),
  empty: fc.constantFrom(0, 0.1, 0.3, 0.6),
  order: fc.constantFrom('newest-first' as const, 'oldest-first' as const, 'shuffled' as const),
  seconds: fc.array(fc.nat(NOW - 10), { minLength: 3, maxLength: 200 }),
  cap: fc.integer({ min: 20, max: 100 }),
  limit: fc.constantFrom<number>(500, 100),
  seed: fc.nat(),
});

type Valued<T> = T extends fc.Arbitrary<infer V> ? V : never;
export type Burst = Valued<typeof bursts>;
export type AnyScenario = Valued<typeof anyRelay>;
export type ChangingScenario = Valued<typeof changingRelay>;
export type HidingScenario = Valued<typeof hidingRelay>;
export type Oddities = Valued<typeof oddities>;
export type Scenario = Valued<typeof honestRelay> &
  Partial<AnyScenario> &
  Partial<Oddities> & { readonly servers?: number; readonly samples?: boolean };

export function eventsOf(from: readonly Burst[], name: string): ModelEvent[] {
  return from.flatMap(({ second, count, valid }, index) =>
    Array.from({ length: count }, (_, i) => ({
      ...{ id: `${name} ${index}.${i}`, createdAt: second, valid },
    })),
  );
}

/** A relay and an archive that has not visited it yet. */
export function meet(scenario: Scenario): { relay: ModelRelay; archive: ModelArchive } {
  const {
    stored,
    arrivals,
    forged = [],
    poisoned = [],
    pagesEachVisit = 1e6,
    ...others
  } = scenario;
  const { atProbe, transients = [], ...rest } = others;
  const poison = poisoned.map(({ second, how }, i) => ({
    ...{ id: `poison ${i}`, createdAt: second, valid: true, poison: how },
  }));
  const transient = eventsOf(transients, 'transient').map((event) => ({
    ...event,
    transient: true,
  }));
  const events = [...eventsOf(stored, 'stored'), ...poison, ...transient];
  const relay = new ModelRelay({
    ...{ ...rest, events, falseInARow: 1 },
    ...(atProbe && { atProbe }),
    forged: forged.map((createdAt, i) => ({ id: `forged ${i}`, createdAt, valid: false })),
  });
  const options: ModelVisitsOptions = {
    ...{ ...rest, pagesEachVisit, mostPages: 1000 + 40 * events.length },
    onPage: (page) => {
      const arrived = arrivals.filter((arrival) => arrival.page === page);
      relay.add(
        eventsOf(
          arrived.map(({ burst }) => burst),
          `arrived ${page}`,
        ),
      );
    },
  };
  return { relay, archive: new ModelArchive(relay, options) };
}

export function largestSecond({
  stored,
  arrivals,
  poisoned = [],
  transients = [],
}: Scenario): number {
  const counts = new Map<number, number>();
  for (const { second, count } of transients) counts.set(second, (counts.get(second) ?? 0) + count);
  for (const { second } of poisoned) counts.set(second, (counts.get(second) ?? 0) + 1);
  for (const { second, count } of [...stored, ...arrivals.map(({ burst }) => burst)]) {
    counts.set(second, (counts.get(second) ?? 0) + count);
  }
  return Math.max(0, ...counts.values());
}

/** The scenario without what cannot be told from a complete answer (see above), and how many visits it may have. */
export function tellable<T extends AnyScenario & Oddities>(
  anyScenario: T,
): { scenario: T; visits: number } {
  const { cap: drawn, limit, stored, exclusive, mostVisits } = anyScenario;
  const cap = exclusive.length > 0 ? Math.max(drawn, 20) : drawn;
  // A page below 20 with nothing but transient events looks like one that only passes some on.
  const transients = Math.min(cap, limit) < 20 ? [] : anyScenario.transients;
  const scenario = { ...anyScenario, transients };
  const densest = largestSecond(scenario);
  const isDense = densest > Math.min(cap, limit);
  // A limit of 20 is the least that is asked for where larger ones are refused or not answered.
  const inject =
    densest >= Math.min(cap, limit, 20) ? 0 : Math.min(scenario.faults.inject, cap - 1);
  const seconds = new Set(stored.map(({ second }) => second).filter((second) => second <= NOW));
  const isTiny = isDense && cap < 20;
  const { late, timeout, closed, disconnect, pass } = scenario.faults;
  const isRefused = scenario.refusesWindow <= NOW || scenario.atProbe !== undefined;
  const breaksOff =
    late + timeout + closed + disconnect + pass > 0 || scenario.poisoned.length > 0 || isRefused;
  const visits = isTiny ? (seconds.size > 1 && !breaksOff ? 1 : 0) : mostVisits;
  return { scenario: { ...scenario, cap, faults: { ...scenario.faults, inject } }, visits };
}
