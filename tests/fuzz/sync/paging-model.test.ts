/**
 * The pager against a model relay that has every fault we know of, in random mixtures. What is left out of the model
 * is what nobody can tell from a complete answer, and nothing else:
 * - An event that the relay never shows. Likewise, forged events put where a page was cut, in the relay's own order.
 * - Two false answers in a row (EOSE before everything was sent). The pager sees through one everywhere, and through
 *   more in most places; how often more than one in a row deceives it is measured below.
 * - A page cut below 20 events that looks orderly by chance, from a relay that does not send newest-first.
 * - A relay that takes bounds as exclusive and caps pages below 20: one page of one second may hide the second below.
 * - A cap below 20, and more events than that in one second, where this is all that a visit sees of the relay, or of
 *   a part that is read alone because pages broke off, went on after their EOSE, or had other events passed on in them.
 * - A cap below 20 on a relay that stores transient events (ephemeral, expired): a page of these alone looks like one
 *   without events, with which some were passed on.
 * - Forged events sent above the relay's own cap: they make its pages look larger than they can be. A second that holds
 *   as many as the cap then looks complete, since it shows less than the largest page; out of order, any window does
 *   when they are as many as the cap.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  MOST_BELIEVED,
  Plays,
  playAll,
  playChangingAll,
  playHidingAll,
} from '../../relay/model-plays.ts';
import { ModelRelay } from '../../relay/model-relay.ts';
import { eventsOf, honestRelay, largestSecond, meet, NOW } from '../../relay/model-scenarios.ts';
import { ModelArchive } from '../../relay/model-visits.ts';

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
  test(
    'never claims a second of which it lacks an event that the relay held, and comes to an end',
    () => {
      const plays = new Plays();
      playAll(plays, runs(6500));
      process.stdout.write(`paging model: ${plays}\n`);
      if (!isDefault) return;
      const { fired, played, complete } = plays;
      const planned = ['cut', 'empty', 'early', 'late', 'timeout', 'closed', 'disconnect'];
      const odd = [
        'repeat',
        'above',
        'below',
        'pass',
        'inject',
        'exclusive',
        'poison',
        'shape',
        'probe',
      ];
      for (const name of [...planned, ...odd]) expect(fired.get(name), name).toBeGreaterThan(500);
      // It would be easy to claim nothing: each of these relays has faults, and two in ten are read completely all the same.
      expect(played).toBeGreaterThan(4000);
      expect(complete / played).toBeGreaterThan(0.2);
    },
    timeout,
  );

  test(
    'believes at most 6 % of relays that show a part of 25 events or more at each asking',
    () => {
      const plays = new Plays();
      playChangingAll(plays, runs(1000));
      process.stdout.write(`paging model: ${plays}\n`);
      expect(plays.fired.get('serves')).toBeGreaterThan(1000);
      expect(plays.believed / plays.changing).toBeLessThan(MOST_BELIEVED);
    },
    timeout,
  );

  test(
    'claims nothing where the relay has answered nothing in a place where it had shown events',
    () => {
      const plays = new Plays();
      playHidingAll(plays, runs(3000));
      expect(plays.hiding).toBeGreaterThan(500);
    },
    timeout,
  );

  test(
    'archives what other servers behind the same name hold when its coverage is proven anew',
    () => {
      const servers = fc.integer({ min: 2, max: 4 });
      const property = fc.property(honestRelay, servers, (scenario, count) => {
        const { relay, archive } = meet({
          ...{ ...scenario, arrivals: [], overlap: NOW * 2, servers: count },
        });
        fc.pre(largestSecond(scenario) < 20);
        for (let visit = 0; visit < 3 * count; visit++) archive.visit({ since: 0, until: NOW });
        const held = relay.events.filter(({ createdAt, valid }) => valid && createdAt <= NOW);
        expect(held.filter(({ id }) => !archive.events.has(id))).toEqual([]);
      });
      fc.assert(property, runs(1000));
    },
    timeout,
  );

  test(
    'reads an honest relay completely in one visit, apart from named holes',
    () => {
      const property = fc.property(honestRelay, (scenario) => {
        // What arrives between two questions is not told from answers that change.
        const { relay, archive } = meet({ ...scenario, samples: scenario.arrivals.length === 0 });
        const wanted = { since: 0, until: NOW };
        archive.visit(wanted);
        expect(archive.stopped).toBeNull();
        expect(archive.unexplained(wanted)).toEqual([]);
        expect(archive.lost()).toBeNull();
        if (scenario.arrivals.length > 0) return; // what arrives between two questions can look like a cut page
        for (const hole of archive.holes) {
          // A REQ from 0 on names no `since`: what fills a page there is shown for the second above, too.
          const first = hole.since === 1 ? 0 : hole.since;
          const inside = relay.events.filter(
            ({ createdAt }) => createdAt >= first && createdAt <= hole.since,
          );
          expect(hole.until).toBe(hole.since);
          expect(inside.length).toBeGreaterThanOrEqual(20);
        }
      });
      fc.assert(property, runs(3000));
    },
    timeout,
  );

  test(
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

  test.each(['empty', 'early'] as const)(
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
