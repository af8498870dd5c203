/**
 * The pager against a model relay that has every fault we know of, in random mixtures. What is left out of the model
 * is what nobody can tell from a complete answer, and nothing else:
 * - An event that the relay never shows. Likewise, forged events put where a page was cut, in the relay's own order.
 * - Two false answers in a row (EOSE before everything was sent). The pager sees through one everywhere, and through
 *   more in most places; how often more than one in a row deceives it is measured below.
 * - A page cut below 20 events that looks orderly by chance, from a relay that does not send newest-first.
 * - A relay that takes bounds as exclusive and caps pages below 20: one page of one second may hide the second below.
 * - A cap below 20, and more events than that in one second, where this is all that a visit sees of the relay, or of
 *   a part that is read alone because pages broke off.
 * - Forged events sent above the relay's own cap: they make its pages look larger than they can be. A second that holds
 *   as many as the cap then looks complete, since it shows less than the largest page; out of order, any window does
 *   when they are as many as the cap.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Window } from '../../src/nostr/filter.ts';
import { type ModelEvent, ModelRelay } from '../support/model-relay.ts';
import { ModelArchive, type ModelVisitsOptions } from '../support/model-visits.ts';

const NOW = 100_000;
const MOST_VISITS = 8;

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
  timeout: chance(0.05, 0.2),
  closed: chance(0.05, 0.2),
  disconnect: chance(0.02, 0.1),
  repeat: chance(0.02, 0.3),
  above: chance(0.05, 0.2),
  below: chance(0.05, 0.2),
  inject: fc.constantFrom<number>(0, 0, 0, 1, 2, 3),
});

const contents = {
  stored: fc.array(bursts, { maxLength: 60 }),
  arrivals: fc.array(fc.record({ page: fc.integer({ min: 1, max: 60 }), burst: bursts }), {
    maxLength: 6,
  }),
  nip67: fc.boolean(),
  overlap: fc.constantFrom(0, 1, 600),
  hints: fc.constantFrom('none' as const, 'anchor' as const, 'anchor and known' as const),
  retriesHoles: fc.boolean(),
  seed: fc.nat(),
};

const anyRelay = fc.record({
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
  pagesEachVisit: fc.oneof(fc.constant(1e6), fc.integer({ min: 3, max: 20 })),
});

/** What else a relay may do; a record of its own, since most relays do nothing of it. */
const oddities = fc.record({
  exclusive: fc.oneof(
    { weight: 3, arbitrary: fc.constant([]) },
    fc.subarray(['since', 'until'] as const),
  ),
  poisoned: fc.array(
    fc.record({
      second: fc.oneof(fc.nat(40), fc.nat(1000), fc.nat(NOW)),
      how: fc.constantFrom('disconnect' as const, 'closed' as const, 'silence' as const),
    }),
    { maxLength: 3 },
  ),
  refusesLimitAbove: fc.constantFrom<number>(1e6, 1e6, 1e6, 400, 60, 20),
});

const honestRelay = fc.record({
  ...contents,
  cap: fc.integer({ min: 20, max: 100 }),
  limit: fc.constantFrom<number>(500, 100, 20),
});

type Valued<T> = T extends fc.Arbitrary<infer V> ? V : never;
type Burst = Valued<typeof bursts>;
type AnyScenario = Valued<typeof anyRelay>;
type Oddities = Valued<typeof oddities>;
type Scenario = Valued<typeof honestRelay> & Partial<AnyScenario> & Partial<Oddities>;

function eventsOf(from: readonly Burst[], name: string): ModelEvent[] {
  return from.flatMap(({ second, count, valid }, index) =>
    Array.from({ length: count }, (_, i) => ({
      ...{ id: `${name} ${index}.${i}`, createdAt: second, valid },
    })),
  );
}

/** A relay and an archive that has not visited it yet. */
function meet(scenario: Scenario): { relay: ModelRelay; archive: ModelArchive } {
  const { stored, arrivals, forged = [], poisoned = [], pagesEachVisit = 1e6, ...rest } = scenario;
  const poison = poisoned.map(({ second, how }, i) => ({
    ...{ id: `poison ${i}`, createdAt: second, valid: true, poison: how },
  }));
  const events = [...eventsOf(stored, 'stored'), ...poison];
  const relay = new ModelRelay({
    ...{ ...rest, events, falseInARow: 1 },
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

function largestSecond({ stored, arrivals }: Scenario): number {
  const counts = new Map<number, number>();
  for (const { second, count } of [...stored, ...arrivals.map(({ burst }) => burst)]) {
    counts.set(second, (counts.get(second) ?? 0) + count);
  }
  return Math.max(0, ...counts.values());
}

/** The scenario without what cannot be told from a complete answer (see above), and how many visits it may have. */
function tellable<T extends AnyScenario & Oddities>(scenario: T): { scenario: T; visits: number } {
  const { cap: drawn, limit, stored, exclusive } = scenario;
  const cap = exclusive.length > 0 ? Math.max(drawn, 20) : drawn;
  const densest = largestSecond(scenario);
  const isDense = densest > Math.min(cap, limit);
  const inject = densest >= Math.min(cap, limit) ? 0 : Math.min(scenario.faults.inject, cap - 1);
  const seconds = new Set(stored.map(({ second }) => second).filter((second) => second <= NOW));
  const isTiny = isDense && cap < 20;
  const { timeout, closed, disconnect } = scenario.faults;
  const breaksOff = timeout + closed + disconnect > 0 || scenario.poisoned.length > 0;
  const visits = isTiny ? (seconds.size > 1 && !breaksOff ? 1 : 0) : MOST_VISITS;
  return { scenario: { ...scenario, cap, faults: { ...scenario.faults, inject } }, visits };
}

const { FAST_CHECK_SEED, FAST_CHECK_RUNS } = process.env;
const seed = Number(FAST_CHECK_SEED ?? Math.floor(Math.random() * 2 ** 31));
const isDefault = FAST_CHECK_SEED === undefined && FAST_CHECK_RUNS === undefined;
const timeout = isDefault ? 120_000 : 86_400_000;

/** How many relays are played, and with which seed: a run that finds nothing can be repeated as well. */
function runs(numRuns: number): { numRuns: number; seed: number } {
  const parameters = { numRuns: Number(FAST_CHECK_RUNS ?? numRuns), seed };
  process.stdout.write(`paging model: ${parameters.numRuns} relays, FAST_CHECK_SEED=${seed}\n`);
  return parameters;
}

describe('reading a model relay', () => {
  it('never claims a second of which it lacks an event that the relay held, and comes to an end', () => {
    const fired = new Map<string, number>();
    let complete = 0;
    let played = 0;
    const property = fc.property(anyRelay, oddities, (drawn, odd) => {
      const { scenario, visits } = tellable({ ...drawn, ...odd });
      const { relay, archive } = meet(scenario);
      let wanted: Window = { since: 0, until: NOW };
      for (let visit = 0; visit < visits && !relay.lookedComplete; visit++) {
        wanted = { since: 0, until: NOW + visit };
        archive.visit(wanted);
        if (!relay.lookedComplete) expect(archive.lost(), `visit ${visit + 1}`).toBeNull();
      }
      if (relay.lookedComplete) return;
      played += 1;
      if (archive.unexplained(wanted).length === 0) complete += 1;
      for (const [name, times] of Object.entries(relay.fired)) {
        fired.set(name, (fired.get(name) ?? 0) + times);
      }
    });
    fc.assert(property, runs(5000));
    process.stdout.write(`paging model: ${played} played, ${complete} read completely\n`);
    if (!isDefault) return;
    const planned = ['cut', 'empty', 'early', 'timeout', 'closed', 'disconnect'];
    for (const name of [...planned, 'repeat', 'above', 'below', 'inject', 'exclusive', 'poison']) {
      expect(fired.get(name), name).toBeGreaterThan(500);
    }
    // It would be easy to claim nothing: more than half of these relays come to be read completely all the same.
    expect(played).toBeGreaterThan(4000);
    expect(complete / played).toBeGreaterThan(0.5);
  }, timeout);

  it('reads an honest relay completely in one visit, apart from named holes', () => {
    const property = fc.property(honestRelay, (scenario) => {
      const { relay, archive } = meet(scenario);
      const wanted = { since: 0, until: NOW };
      archive.visit(wanted);
      expect(archive.stopped).toBeNull();
      expect(archive.unexplained(wanted)).toEqual([]);
      expect(archive.lost()).toBeNull();
      if (scenario.arrivals.length > 0) return; // what arrives between two questions can look like a cut page
      for (const hole of archive.holes) {
        const inside = relay.events.filter(({ createdAt }) => createdAt === hole.since);
        expect(hole.until).toBe(hole.since);
        expect(inside.length).toBeGreaterThanOrEqual(20);
      }
    });
    fc.assert(property, runs(3000));
  }, timeout);

  it('needs one page for what is new on an honest relay, and one for nothing new', () => {
    const property = fc.property(honestRelay, fc.nat(9), (scenario, fresh) => {
      const { relay, archive } = meet({
        ...scenario,
        arrivals: [],
        overlap: 0,
        hints: 'anchor' as const,
      });
      fc.pre(largestSecond(scenario) < 10 && scenario.stored.some(({ second }) => second <= NOW));
      fc.pre(scenario.stored.some(({ second, valid }) => second <= NOW && valid));
      archive.visit({ since: 0, until: NOW });
      const before = relay.pages;
      archive.visit({ since: 0, until: NOW + 100 });
      expect(relay.pages - before, 'nothing new').toBe(1);
      relay.add(eventsOf([{ second: NOW + 150, count: fresh, valid: true }], 'fresh'));
      archive.visit({ since: 0, until: NOW + 200 });
      expect(relay.pages - before, 'something new').toBe(2);
      expect(archive.unexplained({ since: 0, until: NOW + 200 })).toEqual([]);
      expect(archive.lost()).toBeNull();
    });
    fc.assert(property, runs(1000));
  }, timeout);

  it.each(['empty', 'early'] as const)(
    'is not deceived when one answer in ten is %s, however they fall',
    (fault) => {
      const events = Array.from({ length: 250 }, (_, i) => ({
        ...{ id: `${i}`, createdAt: 1000 + i * 37, valid: true },
      }));
      let falseAnswers = 0;
      for (let run = 0; run < 2000; run++) {
        const relay = new ModelRelay({ events, cap: 25, seed: run, faults: { [fault]: 0.1 } });
        const archive = new ModelArchive(relay, { limit: 25 });
        for (let visit = 0; visit < 4; visit++) archive.visit({ since: 0, until: NOW });
        expect(archive.lost(), `run ${run}`).toBeNull();
        expect(archive.events.size, `run ${run}`).toBe(250);
        falseAnswers += relay.fired[fault] ?? 0;
      }
      expect(falseAnswers).toBeGreaterThan(1000);
    },
    timeout,
  );
});
