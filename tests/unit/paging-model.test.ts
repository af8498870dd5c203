/**
 * The pager against a model relay that has every fault we know of, in random mixtures. What is left out of the model
 * is what nobody can tell from a complete answer, and nothing else:
 * - An event that the relay never shows. Likewise, forged events put where a page was cut, in the relay's own order.
 * - Two false answers in a row (EOSE before everything was sent). The pager sees through one everywhere, and through
 *   more in most places; how often more than one in a row deceives it is measured below.
 * - A page cut below 20 events that looks orderly by chance, from a relay that does not send newest-first.
 * - A relay that takes bounds as exclusive and caps pages below 20: one page of one second may hide the second below.
 * - A cap below 20, and more events than that in one second, where this is all that a visit sees of the relay, or of
 *   a part that is read alone because pages broke off or went on after their EOSE.
 * - Forged events sent above the relay's own cap: they make its pages look larger than they can be. A second that holds
 *   as many as the cap then looks complete, since it shows less than the largest page; out of order, any window does
 *   when they are as many as the cap.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Window } from '../../src/nostr/filter.ts';
import { ModelRelay } from '../support/model-relay.ts';
import {
  anyRelay,
  eventsOf,
  honestRelay,
  largestSecond,
  meet,
  NOW,
  oddities,
  tellable,
} from '../support/model-scenarios.ts';
import { ModelArchive } from '../support/model-visits.ts';

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
  it(
    'never claims a second of which it lacks an event that the relay held, and comes to an end',
    () => {
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
      const planned = ['cut', 'empty', 'early', 'late', 'timeout', 'closed', 'disconnect'];
      for (const name of [
        ...planned,
        'repeat',
        'above',
        'below',
        'inject',
        'exclusive',
        'poison',
      ]) {
        expect(fired.get(name), name).toBeGreaterThan(500);
      }
      // It would be easy to claim nothing: each of these relays has faults, and three in ten are read completely all the same.
      expect(played).toBeGreaterThan(4000);
      expect(complete / played).toBeGreaterThan(0.3);
    },
    timeout,
  );

  it(
    'reads an honest relay completely in one visit, apart from named holes',
    () => {
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
    },
    timeout,
  );

  it(
    'needs one page for what is new on an honest relay, and one for nothing new',
    () => {
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
    },
    timeout,
  );

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
