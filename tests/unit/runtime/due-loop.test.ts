import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { DatabaseError } from '../../../src/database/connection.ts';
import { DueLoop, type DueLoopOptions, type Ending } from '../../../src/runtime/due-loop.ts';
import type { Round } from '../../../src/runtime/service.ts';

/** Clock and workers are made up: nothing here waits. */
beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

interface Item {
  readonly key: number;
  readonly ms: number;
  readonly endings?: Ending[];
}

/** A database that knows when items are due, workers that take their time, and a loop between them. */
class Scene {
  /** When an item is due next; one that ran is due again after its interval. */
  readonly dueAt = new Map<Item, number>();
  readonly running = new Set<Item>();
  /** What ran, in the order of the beginnings, as key@second. */
  readonly begun: string[] = [];
  readonly rounds: Round[] = [];
  readonly busy: boolean[] = [];
  readonly lookUps: { at: number; found: number; limit: number | null }[] = [];
  readonly loop: DueLoop<Item>;
  readonly stopping = new AbortController();
  mostAtATime = 0;
  lookUpMs = 0;
  failure: Error | null = null;
  away = 0;
  readonly #started = performance.now();
  readonly ended: ReturnType<DueLoop<Item>['run']>;

  constructor(
    items: readonly Item[],
    intervalMs: number,
    { slots, ...options }: { slots: number } & Partial<DueLoopOptions<Item>>,
  ) {
    for (const item of items) this.dueAt.set(item, 0);
    this.loop = new DueLoop<Item>({
      keyOf: ({ key }) => key,
      lookUp: async (limit, except) => {
        await new Promise((resolve) => setTimeout(resolve, this.lookUpMs));
        if (this.failure) throw this.failure;
        const due = [...this.dueAt.keys()]
          .filter((item) => (this.dueAt.get(item) ?? 0) <= this.now && !except.includes(item.key))
          .slice(0, limit ?? undefined);
        this.lookUps.push({ at: this.now, found: due.length, limit });
        return { due, more: limit !== null && due.length >= limit };
      },
      freeSlots: () => slots - this.running.size,
      run: async (item) => {
        this.running.add(item);
        this.begun.push(`${item.key}@${Math.floor(this.now / 1000)}`);
        this.mostAtATime = Math.max(this.mostAtATime, this.running.size);
        this.dueAt.set(item, this.now + intervalMs);
        await new Promise((resolve) => setTimeout(resolve, item.ms));
        this.running.delete(item);
        const ending = item.endings?.shift() ?? 'good';
        if (ending === 'lost' || ending === 'not_stored') this.dueAt.set(item, this.now);
        return ending;
      },
      pollMs: 5000,
      reportMs: 60_000,
      onRound: (round) => this.rounds.push({ ...round }),
      onBusy: (busy) => this.busy.push(busy),
      onUnavailable: () => {
        this.away += 1;
      },
      ends: 'never',
      signal: this.stopping.signal,
      ...options,
    });
    this.ended = this.loop.run();
    this.ended.catch(() => {});
  }

  get now(): number {
    return performance.now() - this.#started;
  }

  timesOf(key: number): number {
    return this.begun.filter((entry) => entry.startsWith(`${key}@`)).length;
  }
}

let scene: Scene | undefined;
afterEach(() => scene?.stopping.abort());
const start = (...given: ConstructorParameters<typeof Scene>) => {
  scene = new Scene(...given);
  return scene;
};
const items = (count: number, ms: number): Item[] =>
  Array.from({ length: count }, (_, index) => ({ key: index + 1, ms }));
const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms);

describe('DueLoop whose items are held back by our own network', () => {
  test('counts them neither as visited nor as failed, and says how many wait', async () => {
    const held: Item[] = [1, 2, 3].map((key) => ({ key, ms: 10, endings: ['held_back'] }));
    const { rounds } = start(
      [...held, { key: 4, ms: 10 }, { key: 5, ms: 10, endings: ['failed'] }],
      60_000,
      {
        slots: 5,
      },
    );
    await pass(20_000);
    expect(rounds).toEqual([{ startedAt: expect.any(Date), relays: 2, failed: 1, heldBack: 3 }]);
    await pass(60_000); // they run again
    expect(rounds[1]).toMatchObject({ relays: 5, failed: 0, heldBack: 0 });
  });

  test('reports no round in which nothing else ran', async () => {
    const held: Item[] = [1, 2].map((key) => ({
      key,
      ms: 10,
      endings: ['held_back', 'held_back'],
    }));
    const { rounds } = start(held, 50_000, { slots: 2 });
    await pass(95_000);
    expect(scene?.timesOf(1)).toBe(2);
    expect(rounds).toEqual([]);
    await pass(30_000);
    expect(rounds).toMatchObject([{ relays: 2, failed: 0, heldBack: 0 }]);
  });
});

describe('DueLoop with a slow item', () => {
  test('runs quick items at their interval, and never twice at a time', async () => {
    const slow = { key: 99, ms: 120_000 };
    const { begun } = start([slow, ...items(3, 100)], 60_000, { slots: 2 });
    await pass(119_000);
    expect(scene?.running).toContain(slow);
    for (const key of [1, 2, 3]) expect(scene?.timesOf(key)).toBe(2);
    await pass(200_000);
    expect(scene?.timesOf(99)).toBe(3); // it is due again when it ends
    for (const key of [1, 2, 3]) expect(scene?.timesOf(key)).toBeGreaterThanOrEqual(5);
    expect(scene?.mostAtATime).toBe(2);
    expect(new Set(begun).size).toBe(begun.length);
  });

  test('starts the next due item in each other slot as soon as it is free', async () => {
    const { begun } = start([{ key: 999, ms: 120_000 }, ...items(100, 1000)], 3_600_000, {
      slots: 5,
    });
    await pass(40_000);
    expect(begun).toHaveLength(101);
  });
});

describe('look-ups of DueLoop', () => {
  test('happen every `pollMs` when nothing is due, and never while no slot is free', async () => {
    const idle = start([], 60_000, { slots: 2 });
    await pass(60_000);
    expect(idle.lookUps.length).toBeGreaterThanOrEqual(12);
    expect(idle.lookUps.length).toBeLessThanOrEqual(13);
    const full = start(items(10, 60_000), 3_600_000, { slots: 2 });
    await pass(59_000);
    expect(full.lookUps).toHaveLength(1);
    expect(full.begun).toHaveLength(2);
  });

  test('take at most a fifth of the time, however fast slots get free', async () => {
    const made = start(items(1000, 10), 3_600_000, { slots: 10 });
    const { lookUps } = made;
    made.lookUpMs = 200;
    await pass(10_000);
    expect(lookUps.length).toBeLessThanOrEqual(11);
    expect(lookUps.every(({ limit }) => limit === null || limit <= 60)).toBe(true);
  });

  test('that take long leave no slot idle: free slots take what the latest one has found', async () => {
    const made = start(items(1000, 100), 3_600_000, { slots: 10 });
    const { begun, lookUps } = made;
    made.lookUpMs = 200;
    await pass(1190);
    expect(lookUps.length).toBeLessThanOrEqual(2);
    expect(begun.length).toBeGreaterThan(60);
    expect(new Set(begun.map((entry) => entry.split('@')[0])).size).toBe(begun.length);
  });

  test('are not repeated for a quarter of a second while an item that was found is left', async () => {
    const { begun, lookUps } = start(items(50, 60), 3_600_000, { slots: 1 });
    await pass(240);
    expect(begun).toHaveLength(5);
    expect(lookUps).toHaveLength(1);
    await pass(760);
    expect(lookUps.length).toBeLessThanOrEqual(4);
  });

  test('replace what an earlier one has found when the database refuses results', async () => {
    const refused = items(5, 10).map((item) => ({ ...item, endings: Array(9).fill('not_stored') }));
    const { begun } = start(refused, 3_600_000, { slots: 2 });
    await pass(900);
    expect(begun.length).toBeLessThanOrEqual(2);
  });

  test('decide by what is due when a slot is free, not by look-ups of long ago', async () => {
    const [first, second, third] = items(3, 10_000) as [Item, Item, Item];
    const { dueAt, begun } = start([first, second, third], 3_600_000, { slots: 1 });
    await pass(5000);
    dueAt.set(second, 1e9); // somebody else has done it
    await pass(10_000);
    expect(begun).toEqual(['1@0', '3@10']);
  });

  test('happen immediately after lookSoon()', async () => {
    const { dueAt, begun, loop } = start([], 60_000, { slots: 1 });
    await pass(5500);
    dueAt.set({ key: 1, ms: 10 }, 0);
    loop.lookSoon();
    await pass(50);
    expect(begun).toEqual(['1@5']);
  });

  test('are retried every second while the database is unavailable; other errors end the loop', async () => {
    const away = start(items(1, 10), 60_000, { slots: 1 });
    away.failure = new DatabaseError('gone', '08006', false, null);
    await pass(60_000);
    expect(away.away).toBeGreaterThanOrEqual(50);
    away.failure = null;
    await pass(1000);
    expect(away.begun).toHaveLength(1);
    const broken = start(items(1, 10), 60_000, { slots: 1 });
    broken.failure = new Error('a mistake of ours');
    const ended = expect(broken.ended).rejects.toThrow('a mistake of ours');
    await pass(100);
    await ended;
  });
});

describe('DueLoop beside other processes', () => {
  const holding = (...held: number[]) => {
    const asked: number[][] = [];
    const claim = async (wanted: readonly Item[]) => {
      asked.push(wanted.map(({ key }) => key));
      return wanted.filter(({ key }) => !held.includes(key));
    };
    return { asked, claim };
  };

  test('gives a slot the next due item where another process was faster', async () => {
    const { asked, claim } = holding(1, 2, 3);
    const scene = start(items(9, 500), 3_600_000, { slots: 2, claim });
    await pass(10);
    expect(asked).toEqual([[1, 2], [3, 4], [5]]);
    expect(scene.begun).toEqual(['4@0', '5@0']);
  });

  test('asks again three times at most, and then at its next look-up', async () => {
    const { asked, claim } = holding(1, 2, 3, 4);
    start(items(9, 500), 3_600_000, { slots: 1, claim });
    await pass(10);
    expect(asked).toEqual([[1], [2], [3]]);
  });
});

describe('DueLoop while the database refuses results', () => {
  test('starts one item a second, a different one each time, and uses all slots after a stored result', async () => {
    const refused = () => Array<Ending>(5).fill('not_stored');
    const all = items(4, 10).map((item) => ({ ...item, endings: refused() }));
    const { begun, rounds } = start(all, 3_600_000, { slots: 4 });
    await pass(9500);
    expect(begun.slice(0, 4).map((entry) => entry.split('@')[1])).toEqual(['0', '0', '0', '0']);
    const later = begun.slice(4).map((entry) => entry.split('@'));
    expect(later.map(([, second]) => second)).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
      '6',
      '7',
      '8',
      '9',
    ]);
    expect(new Set(later.slice(0, 4).map(([key]) => key)).size).toBe(4);
    expect(rounds.length).toBeGreaterThan(0);
    for (const item of all) item.endings.length = 0;
    await pass(2000);
    for (const { key } of all) expect(scene?.timesOf(key)).toBeGreaterThanOrEqual(3);
    expect(scene?.running.size).toBe(0);
  });

  test('starts the only due item every second', async () => {
    const only = { key: 1, ms: 10, endings: Array<Ending>(8).fill('not_stored') };
    const { begun } = start([only], 3_600_000, { slots: 4 });
    await pass(30_000);
    expect(begun).toHaveLength(9);
    expect(Number(begun.at(-1)?.split('@')[1])).toBeLessThanOrEqual(9);
  });

  test('lets items whose jobs were lost for another reason rest', async () => {
    const odd = { key: 1, ms: 10, endings: Array<Ending>(50).fill('lost') };
    const { begun } = start([odd, ...items(5, 10).slice(1)], 3_600_000, { slots: 2 });
    await pass(20_000);
    for (const key of [2, 3, 4, 5]) expect(scene?.timesOf(key)).toBe(1);
    expect(begun.length - 4).toBeGreaterThanOrEqual(3);
    expect(begun.length - 4).toBeLessThanOrEqual(5);
  });
});

describe('DueLoop that runs each item once', () => {
  test('runs each item that is due or becomes due once, and ends although all are due again', async () => {
    const made = start(items(200, 500), 0, { slots: 7, ends: 'when each has run' });
    await pass(1000);
    made.dueAt.set({ key: 1000, ms: 1 }, 0);
    await pass(60_000);
    await made.ended;
    expect(made.begun).toHaveLength(201);
    expect(new Set(made.begun.map((entry) => entry.split('@')[0])).size).toBe(201);
    expect(made.mostAtATime).toBe(7);
    expect(made.rounds).toMatchObject([{ relays: 201, failed: 0 }]);
  });

  test('ends if nothing is due, waits for running jobs, and fails while the database is unavailable', async () => {
    const none = start([], 0, { slots: 1, ends: 'when each has run' });
    await pass(10);
    await none.ended;
    const away = start(items(1, 10), 0, { slots: 1, ends: 'when each has run' });
    away.failure = new DatabaseError('gone', '08006', false, null);
    const failed = expect(away.ended).rejects.toThrow('gone');
    await pass(10);
    await failed;
  });

  test('starts each item in a slot that can take it before it ends', async () => {
    const odd = new Set<number>();
    const made: Scene = start(items(20, 1000), 0, {
      slots: 2,
      ends: 'when each has run',
      hasRoom: ({ key }) => key % 2 === 0 || ![...odd].some((other) => other === key % 2),
    });
    await pass(60_000);
    await made.ended;
    expect(made.begun).toHaveLength(20);
  });
});

describe('DueLoop that ends when nothing is due', () => {
  test('runs items that become due while it runs', async () => {
    const made = start(items(3, 500), 3_600_000, { slots: 1, ends: 'when nothing is due' });
    await pass(700);
    made.dueAt.set({ key: 1000, ms: 1 }, 0);
    await pass(60_000);
    await made.ended;
    expect(made.begun.map((entry) => entry.split('@')[0])).toEqual(['1', '2', '3', '1000']);
  });
});

describe('rounds of DueLoop', () => {
  test('are reported when everything that was due has run, and at intervals until then', async () => {
    const failing = { key: 50, ms: 100, endings: ['failed'] as Ending[] };
    const { rounds, busy } = start([...items(9, 100), failing], 3_600_000, { slots: 3 });
    await pass(5000);
    expect(rounds).toMatchObject([{ relays: 10, failed: 1 }]);
    expect(busy.at(-1)).toBe(false);
    const long = start([{ key: 99, ms: 300_000 }, ...items(2, 100)], 30_000, { slots: 2 });
    await pass(181_000);
    expect(long.rounds.length).toBeGreaterThanOrEqual(2);
    expect(long.rounds.every(({ relays }) => relays >= 2)).toBe(true);
    expect(long.busy).toEqual([true]);
  });

  test('end although an item is always due again immediately', async () => {
    const endless = { key: 1, ms: 100, endings: Array<Ending>(1000).fill('lost') };
    const options = { slots: 3, lostMs: 0, reportMs: 3_600_000 };
    const { rounds } = start([endless, ...items(5, 300).slice(1)], 3_600_000, options);
    await pass(10_000);
    expect(rounds.length).toBeGreaterThan(0);
    expect(rounds[0]).toMatchObject({ failed: expect.any(Number) });
    expect(rounds[0]?.relays).toBeGreaterThanOrEqual(5);
  });

  test('are not reported if the loop is stopped during them', async () => {
    const { rounds, stopping, ended } = start(items(2, 1000), 3_600_000, { slots: 2 });
    await pass(500);
    stopping.abort();
    await pass(1000);
    await ended;
    expect(rounds).toEqual([]);
  });
});
