import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Bigbrotr, Evidence, Relay } from '../../../src/database/bigbrotr.ts';
import { DatabaseError } from '../../../src/database/connection.ts';
import type { Hole, Window } from '../../../src/nostr/window.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import { batchOf, knownRelay, openBigbrotr } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';

let made: TestDatabase;
let bigbrotr: Bigbrotr;
let relay: Relay;
let other: Relay;
let filterId: number;

beforeAll(async () => {
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterAll(async () => {
  await bigbrotr.close();
  await made.drop();
});
beforeEach(async () => {
  await made.query('truncate relays, filters, events, sightings restart identity cascade');
  relay = await knownRelay(bigbrotr, 'one');
  other = await knownRelay(bigbrotr, 'two');
  filterId = await bigbrotr.filterId({});
});

const DAY = 86_400;
/** Proofs older than this are stale, a quarter more or less. */
const TWO_DAYS = 2 * DAY;
const EVENTS = signedEvents(20, { from: 1000, to: 2000 });
const window = (since: number, until: number): Window => ({ since, until });
const hole = (since: number, until = since): Hole => ({
  since,
  until,
  reason: 'dense',
  count: 500,
});

const store = (parts: Partial<Parameters<typeof batchOf>[0]>) =>
  bigbrotr.store(batchOf({ relay, filterId, ...parts }));

interface CoverageRow {
  readonly evidence: string;
  /** Days since the proof. */
  readonly age: number;
  readonly covered: string;
}

const coverage = (of = relay) =>
  made.query<CoverageRow>(
    `select evidence, (now() at time zone 'utc')::date - proven_on as age, covered from coverage
     where relay_id = $1 order by age, evidence`,
    [of.relayId],
  );

const holes = () =>
  made.query<{ stretch: string; events: number }>(
    'select stretch, events from holes order by lower(stretch)',
  );

/** Makes everything that is recorded this number of days older. */
async function age(days: number): Promise<void> {
  await made.query(
    `with old as (delete from coverage returning *)
     insert into coverage select relay_id, filter_id, evidence, proven_on - $1::int, covered, proven_at - $1 * ${DAY} from old
     order by proven_on`, // all are deleted before one is inserted
    [days],
  );
  await made.query(`update holes set noted_at = noted_at - $1 * ${DAY}`, [days]);
}

const begin = (wanted: Window, overlapSeconds = 0, at = relay, filter = filterId) =>
  bigbrotr.beginVisit(
    at,
    { ...wanted, filterId: filter },
    { overlapSeconds, reproveSeconds: TWO_DAYS },
  );
const plain = (gaps: readonly Window[]) => gaps.map(({ since, until }) => [since, until]);

describe('coverage', () => {
  test('is recorded with the events, for that relay and filter alone', async () => {
    await store({ events: EVENTS, proven: [window(1000, 1499), window(1600, 2000)] });
    await store({ proven: [window(1500, 1500)], evidence: 'finish' });
    expect(await coverage()).toEqual([
      { evidence: 'finish', age: 0, covered: '{[1500,1501)}' },
      { evidence: 'paging', age: 0, covered: '{[1000,1500),[1600,2001)}' },
    ]);
    expect(await coverage(other)).toEqual([]);
    const notes = await bigbrotr.filterId({ kinds: [1] });
    expect(plain((await begin(window(1000, 2000), 0, relay, notes)).missing)).toEqual([
      [1000, 2000],
    ]);
  });

  test('is rolled back together with its events', async () => {
    onTestFinished(async () => {
      await made.query('drop function if exists refuse cascade');
    });
    await made.query(
      `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'on purpose'; end $$;
       create trigger refuse before insert on coverage for each row execute function refuse()`,
    );
    const failing = store({ events: EVENTS, proven: [window(1000, 2000)] });
    await expect(failing).rejects.toThrow(DatabaseError);
    expect(await made.query('select from events')).toEqual([]);
    expect(await made.query('select from sightings')).toEqual([]);
    expect(await coverage()).toEqual([]);
  });

  test('of an invalid window is an error, and nothing of the batch is stored', async () => {
    const failing = store({ events: EVENTS, proven: [window(2000, 1000)] });
    await expect(failing).rejects.toMatchObject({ permanent: true });
    expect(await made.query('select from events')).toEqual([]);
  });

  test('is stored once, with its latest proof, which replaces older days and other evidence', async () => {
    await store({ proven: [window(0, 99)] });
    await age(3);
    await store({ proven: [window(40, 59)], evidence: 'nip77' });
    await age(3);
    await store({ proven: [window(50, 149)] });
    await store({ proven: [window(150, 199)] });
    expect(await coverage()).toEqual([
      { evidence: 'paging', age: 0, covered: '{[50,200)}' },
      { evidence: 'nip77', age: 3, covered: '{[40,50)}' },
      { evidence: 'paging', age: 6, covered: '{[0,40)}' },
    ]);
    await store({ proven: [window(0, 199)] });
    expect(await coverage()).toEqual([{ evidence: 'paging', age: 0, covered: '{[0,200)}' }]);
  });

  test('of two concurrent writers is complete', async () => {
    await begin(window(0, 1000));
    await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        store({
          proven: [window(index * 50, index * 50 + 49)],
          evidence: index % 2 ? 'paging' : 'nip77',
        }),
      ),
    );
    expect(plain((await begin(window(0, 1000))).missing)).toEqual([[1000, 1000]]);
  });
});

describe('a hole', () => {
  test('is recorded once, with its latest reason', async () => {
    await store({ holes: [hole(5), hole(7)] });
    await store({ holes: [{ ...hole(5), count: 900 }] });
    expect(await holes()).toEqual([
      { stretch: '[5,6)', events: 900 },
      { stretch: '[7,8)', events: 500 },
    ]);
  });

  test('vanishes when it is proven', async () => {
    await store({ holes: [hole(5), hole(7)], proven: [window(0, 4)] });
    await store({ proven: [window(6, 20)] });
    expect(await holes()).toEqual([{ stretch: '[5,6)', events: 500 }]);
    expect(await coverage()).toMatchObject([{ covered: '{[0,5),[6,21)}' }]);
  });

  test('is no longer proven, whatever was found before', async () => {
    await store({ proven: [window(0, 10)] });
    await store({ holes: [hole(5)] });
    expect(await coverage()).toMatchObject([{ covered: '{[0,5),[6,11)}' }]);
    await age(3);
    await store({ proven: [window(5, 5)] });
    await store({ holes: [hole(0), hole(5)] });
    expect(await coverage()).toEqual([{ evidence: 'paging', age: 3, covered: '{[1,5),[6,11)}' }]);
  });

  test('is a gap that is tried again only after its retry age', async () => {
    await store({ proven: [window(0, 4), window(6, 10)], holes: [hole(5)] });
    expect(plain((await begin(window(0, 10))).missing)).toEqual([]);
    const [gap] = await made.query('select since::int, until::int, hole from coverage_gaps');
    expect(gap).toEqual({ since: 5, until: 5, hole: 'dense' });
    await age(3);
    expect(plain((await begin(window(0, 10))).missing)).toEqual([[5, 5]]);
  });
});

describe('beginVisit()', () => {
  test('returns everything at first, and then gaps with the newest first', async () => {
    expect(await begin(window(0, 2000))).toEqual({
      missing: [{ since: 0, until: 2000, anchor: null, known: null, stale: false }],
      stale: [],
      unanswered: [],
    });
    await store({ proven: [window(100, 199), window(300, 399)] });
    expect(plain((await begin(window(0, 400))).missing)).toEqual([
      [400, 400],
      [200, 299],
      [0, 99],
    ]);
    expect(plain((await begin(window(150, 350))).missing)).toEqual([[200, 299]]);
    expect(plain((await begin(window(120, 180))).missing)).toEqual([]);
    expect(plain((await begin(window(120, 120))).missing)).toEqual([]);
  });

  test('returns the overlap, the newest proven seconds, again', async () => {
    await store({ proven: [window(0, 1000)] });
    expect(plain((await begin(window(0, 1050), 60)).missing)).toEqual([[941, 1050]]);
    expect(plain((await begin(window(0, 1000), 60)).missing)).toEqual([[941, 1000]]);
    expect(plain((await begin(window(0, 1000), 5000)).missing)).toEqual([[0, 1000]]);
    expect(plain((await begin(window(0, 500), 60)).missing)).toEqual([]);
  });

  test('returns each gap with its anchor: the newest second below it with a sighting', async () => {
    await store({
      events: [300, 700, 900].map((created_at) => signedEvent({ created_at })),
      proven: [window(250, 500), window(800, 1000)],
    });
    await store({ events: [signedEvent({ created_at: 750 })], relay: other });
    const anchors = ({ missing }: Awaited<ReturnType<typeof begin>>) =>
      missing.map(({ since, anchor }) => [since, anchor]);
    expect(anchors(await begin(window(0, 1200)))).toEqual([
      [1001, 900],
      [501, 300],
      [0, null],
    ]);
    expect(anchors(await begin(window(700, 1200)))).toEqual([
      [1001, 900],
      [700, 300],
    ]);
    const notes = await bigbrotr.filterId({ kinds: [1] });
    expect(anchors(await begin(window(1001, 1200), 0, relay, notes))).toEqual([[1001, null]]);
  });

  test('records what is wanted, and clears the end of the previous visit', async () => {
    const visits = () =>
      made.query(
        'select wanted, outcome, detail, failures, pages, ended_at is null as open from visits',
      );
    await begin(window(0, 10));
    await bigbrotr.endVisit(relay, filterId, {
      ...{ outcome: 'failed', reason: 'timeout', detail: 'timeout', pages: 3 },
    });
    await begin(window(5, 20));
    expect(await visits()).toEqual([
      { wanted: '[5,21)', outcome: null, detail: null, failures: 1, pages: 3, open: true },
    ]);
    const failed = { outcome: 'failed', reason: 'dns', detail: 'x', pages: 4 } as const;
    await bigbrotr.endVisit(relay, filterId, failed);
    await bigbrotr.endVisit(relay, filterId, failed); // the answer was lost: it is sent again
    expect(await visits()).toMatchObject([{ failures: 2, open: false, outcome: 'failed' }]);
    await begin(window(5, 20));
    await bigbrotr.endVisit(relay, filterId, {
      ...{ outcome: 'complete', reason: null, detail: null, pages: 1 },
    });
    expect(await visits()).toMatchObject([{ failures: 0, outcome: 'complete', detail: null }]);
  });
});

const LAST = 40;
const ALL = Array.from({ length: LAST + 1 }, (_, second) => second);
const second = fc.integer({ min: 0, max: LAST });
const stretch = fc.tuple(second, second).map(([a, b]) => window(Math.min(a, b), Math.max(a, b)));
type Step = { do: 'prove'; windows: Window[]; evidence: Evidence; holes: number[] } | { do: 'age' };
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('prove' as const),
      windows: fc.array(stretch, { maxLength: 3 }),
      evidence: fc.constantFrom<Evidence>('paging', 'finish', 'nip77'),
      holes: fc.array(second, { maxLength: 2 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'age' as const }) },
);

/** What the archive should believe, second by second. */
class Model {
  readonly proven = new Map<number, { evidence: Evidence; age: number }>();
  readonly holes = new Map<number, { age: number }>();

  apply(step: Step): void {
    if (step.do === 'age') {
      for (const entry of [...this.proven.values(), ...this.holes.values()]) entry.age += 3;
      return;
    }
    const { evidence } = step;
    for (const at of secondsOf(step.windows)) {
      this.proven.set(at, { evidence, age: 0 });
      this.holes.delete(at);
    }
    for (const at of step.holes) {
      this.proven.delete(at);
      this.holes.set(at, { age: 0 });
    }
  }

  /** Seconds of the window to be read. */
  gaps({ since, until }: Window, overlap: number): { missing: number[]; stale: number[] } {
    const newest = Math.max(...this.proven.keys());
    const wanted = ALL.filter((at) => at >= since && at <= until);
    const settled = (at: number) => this.proven.has(at) && at <= newest - overlap;
    return {
      missing: wanted.filter((at) => !settled(at) && this.holes.get(at)?.age !== 0),
      stale: wanted.filter((at) => settled(at) && (this.proven.get(at)?.age ?? 0) > 0),
    };
  }
}

const secondsOf = (windows: readonly Window[]) =>
  ALL.filter((at) => windows.some(({ since, until }) => since <= at && at <= until));

/** The seconds of a multirange as PostgreSQL writes it. */
const secondsIn = (text: string) =>
  secondsOf(
    [...text.matchAll(/\[(\d+),(\d+)\)/g)].map(([, from, to]) =>
      window(Number(from), Number(to) - 1),
    ),
  );

describe('by property: coverage, holes and gaps', () => {
  test('agree with set arithmetic, in any order of proofs', async () => {
    const run = fc.array(step, { minLength: 1, maxLength: 7 });
    await fc.assert(
      fc.asyncProperty(run, stretch, fc.nat(LAST), async (steps, wanted, overlap) => {
        await made.query('truncate coverage, holes, visits');
        const model = new Model();
        for (const next of steps) {
          const given = next.do === 'prove' ? withoutContradiction(next) : next;
          if (given.do === 'age') await age(3);
          else
            await store({
              ...given,
              proven: given.windows,
              holes: given.holes.map((at) => hole(at)),
            });
          model.apply(given);
        }
        const rows = await coverage();
        const seen = rows.flatMap(({ evidence, age, covered }) =>
          secondsIn(covered).map((at) => [at, { evidence, age }] as const),
        );
        expect(seen.length).toBe(new Map(seen).size); // each second stands in one row
        expect(new Map(seen)).toEqual(model.proven);
        expect((await holes()).flatMap(({ stretch: text }) => secondsIn(text))).toEqual(
          [...model.holes.keys()].sort((a, b) => a - b),
        );
        const { missing, stale } = await begin(wanted, overlap);
        expect({ missing: secondsOf(missing), stale: secondsOf(stale) }).toEqual(
          model.gaps(wanted, overlap),
        );
      }),
      { numRuns: 40 },
    );
  });
});

/** A page does not find a second both proven and a hole. */
function withoutContradiction(step: Extract<Step, { do: 'prove' }>): Step {
  const proven = new Set(secondsOf(step.windows));
  return { ...step, holes: [...new Set(step.holes)].filter((at) => !proven.has(at)) };
}
