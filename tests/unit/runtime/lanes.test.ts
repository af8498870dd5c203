import { describe, expect, test } from 'vitest';
import type { Lane } from '../../../src/database/bigbrotr.ts';
import { Lanes } from '../../../src/runtime/lanes.ts';

const of = (lane: Lane, count = 1) => Array.from({ length: count }, () => ({ lane }));
/** The lanes that free slots take, one after another, of lists that are never empty. */
function taken(slots: number, due: readonly Lane[], times: number): string {
  const lanes = new Lanes(slots);
  const running: { lane: Lane }[] = [];
  for (let index = 0; index < times; index += 1) {
    const chosen = lanes.choose(
      due.map((lane) => ({ lane })),
      running,
    );
    if (chosen) running.push(chosen);
  }
  return running.map(({ lane }) => lane[0]).join('');
}

describe('Lanes', () => {
  test('fills free slots with caught-up relays first, and keeps a quarter of them for backlog', () => {
    expect(taken(8, ['caught_up', 'behind'], 10)).toBe('ccccccbbbb');
    expect(taken(2, ['caught_up', 'behind'], 2)).toBe('cb');
  });

  test('leaves no slot idle when only one lane is due', () => {
    expect(taken(4, ['caught_up'], 4)).toBe('cccc');
    expect(taken(4, ['behind'], 4)).toBe('bbbb');
    expect(taken(1, ['new'], 1)).toBe('n');
    expect(new Lanes(4).choose([], [])).toBeUndefined();
  });

  test('alternates between new relays and those behind, and takes the first of each', () => {
    expect(taken(40, ['new', 'behind'], 6)).toBe('nbnbnb');
    const first = { lane: 'behind' as const, place: 1 };
    const second = { lane: 'behind' as const, place: 2 };
    expect(new Lanes(4).choose([first, second], [])).toBe(first);
  });

  test('shares a single slot by time: caught-up relays have it for three times a visit of the backlog', () => {
    const lanes = new Lanes(1);
    const due = [...of('caught_up'), ...of('behind')];
    const order: string[] = [];
    for (let visits = 0; visits < 130; visits += 1) {
      const chosen = lanes.choose(due, []);
      if (!chosen) throw new Error('the slot is idle');
      order.push(chosen.lane);
      lanes.ended(chosen, chosen.lane === 'behind' ? 120_000 : 10_000);
    }
    const first = order.indexOf('behind');
    const second = order.indexOf('behind', first + 1);
    expect(second - first - 1).toBe(36); // 36 visits of 10 s to one of 120 s
    expect(order.filter((lane) => lane === 'behind').length).toBeGreaterThan(2);
  });
});

/** 1,500 relays with hours of backlog and some that are caught up, on a clock of its own. */
function simulate(options: {
  readonly slots: number;
  readonly caughtUp: number;
  readonly caughtUpSeconds: number;
  readonly backlog: number;
  readonly hours: number;
}) {
  const { slots, caughtUp, caughtUpSeconds, backlog, hours } = options;
  const INTERVAL = 900;
  const relays = [
    ...Array.from({ length: caughtUp }, (_, index) => ({
      ...{ lane: 'caught_up' as Lane, visits: 0, latest: -(index * INTERVAL) / caughtUp },
    })),
    ...Array.from({ length: backlog }, (_, index) => ({
      ...{ lane: (index % 3 === 0 ? 'new' : 'behind') as Lane, visits: 0, latest: -INTERVAL },
    })),
  ];
  const lanes = new Lanes(slots);
  const running = new Map<(typeof relays)[number], number>();
  /** Of each lane the one that was visited longest ago, as the archive would give them. */
  const mostUrgent = (now: number) => {
    const first = new Map<Lane, (typeof relays)[number]>();
    for (const relay of relays) {
      if (relay.lane === 'caught_up' && relay.latest + INTERVAL > now) continue;
      if (relay.latest >= (first.get(relay.lane)?.latest ?? now) || running.has(relay)) continue;
      first.set(relay.lane, relay);
    }
    return [...first.values()];
  };
  let latest = 0;
  let backlogSeconds = 0;
  for (let now = 0; now < hours * 3600; now += 1) {
    for (const [relay, end] of running) if (end <= now) running.delete(relay);
    while (running.size < slots) {
      const relay = lanes.choose(mostUrgent(now), [...running.keys()]);
      if (!relay) break;
      if (relay.lane === 'caught_up') latest = Math.max(latest, now - relay.latest - INTERVAL);
      const isQuick = relay.lane === 'caught_up';
      const seconds = isQuick ? caughtUpSeconds : 90 + ((relay.visits * 7) % 31);
      lanes.ended(relay, seconds * 1000);
      running.set(relay, now + seconds);
      if (!isQuick) relay.lane = 'behind';
      if (!isQuick) backlogSeconds += Math.min(seconds, hours * 3600 - now);
      relay.latest = now;
      relay.visits += 1;
    }
  }
  const visitsOf = (from: number, to: number) => relays.slice(from, to).map(({ visits }) => visits);
  return {
    latest,
    caughtUp: visitsOf(0, caughtUp),
    backlog: visitsOf(caughtUp, relays.length),
    backlogShare: backlogSeconds / (slots * hours * 3600),
  };
}

describe('Lanes with ten slots and 1,500 relays with hours of backlog', () => {
  test('visits 500 caught-up relays near their interval, and gives the rest of the time to backlog', () => {
    const load = { slots: 10, caughtUp: 500, caughtUpSeconds: 3, backlog: 1500, hours: 6 };
    const { latest, caughtUp, backlog, backlogShare } = simulate(load);
    expect(latest).toBeLessThan(120); // no longer than a visit of the backlog lasts
    expect(Math.min(...caughtUp)).toBeGreaterThanOrEqual(21); // of 24 intervals
    expect(backlogShare).toBeGreaterThan(0.8); // 10 slots less the 1.7 that caught-up relays need
    expect(Math.min(...backlog)).toBeGreaterThanOrEqual(1);
    expect(Math.max(...backlog) - Math.min(...backlog)).toBeLessThanOrEqual(1);
  });

  test('leaves a quarter of the slots to backlog when caught-up relays alone could fill them', () => {
    const load = { slots: 10, caughtUp: 500, caughtUpSeconds: 30, backlog: 200, hours: 4 };
    const { caughtUp, backlog, backlogShare } = simulate(load);
    expect(backlogShare).toBeGreaterThan(0.19);
    expect(Math.min(...backlog)).toBeGreaterThanOrEqual(1);
    expect(Math.min(...caughtUp)).toBeGreaterThanOrEqual(7);
    expect(Math.max(...caughtUp) - Math.min(...caughtUp)).toBeLessThanOrEqual(2);
  });
});
