import fc from 'fast-check';
import { describe, expect } from 'vitest';
import { DAYS, figureEvents } from '../../fixtures/figure-events.ts';
import { type FigureStep, FiguresModel, LATE_EVENTS } from '../../fixtures/figures-model.ts';
import { archivedEvents, keptDays, recountDays } from '../../fixtures/figures-recount.ts';
import { journalTest as test } from '../../fixtures/journal-test.ts';
import { keptLists, recountLists } from '../../fixtures/lists-recount.ts';
import { relayAddress } from '../../relay/relays.ts';

const RELAYS = [
  'wss://one.example.com',
  'wss://two.example.com',
  'ws://oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion',
];
const EVENTS = figureEvents();
/** More runs when asked for; then a failure is not made smaller, which takes long. */
const RUNS = Number(process.env.FAST_CHECK_FIGURES ?? 12);

/** A number of each table; one row of it is changed by one. */
const PLANNED = [
  ...[
    ['scope_stats', 'events'],
    ['scope_stats', 'authors'],
    ['scope_stats', 'kinds'],
  ],
  ...[
    ['scope_stats', 'first_at'],
    ['scope_kinds', 'events'],
    ['scope_kinds', 'authors'],
  ],
  ...[
    ['scope_authors', 'events'],
    ['scope_authors', 'last_at'],
    ['daily_scopes', 'events'],
  ],
  ...[
    ['daily_kinds', 'authors'],
    ['daily_kinds', 'content_bytes'],
    ['daily_replication', 'events'],
  ],
  ...[
    ['replication_totals', 'events'],
    ['day_sums', 'events'],
    ['day_sums', 'id_sum'],
  ],
  ...[
    ['relay_list_totals', 'writers'],
    ['zaps', 'millisats'],
    ['daily_zaps', 'millisats'],
  ],
  ...[
    ['period_users', 'new_users'],
    ['cohorts', 'users'],
    ['reference_totals', 'missing'],
  ],
  ...[
    ['daily_samples', 'events'],
    ['current_events', 'event_key'],
  ],
] as const;

const who = fc.nat(1);
const steps = fc.array(
  fc.oneof(
    {
      weight: 8,
      arbitrary: fc.record({
        does: fc.constant('store' as const),
        event: fc.nat(EVENTS.length - LATE_EVENTS - 1),
        relay: fc.nat(RELAYS.length - 1),
      }),
    },
    {
      weight: 5,
      arbitrary: fc.record({
        does: fc.constant('write' as const),
        who,
        event: fc.nat(LATE_EVENTS),
        relay: fc.nat(RELAYS.length - 1),
      }),
    },
    { weight: 5, arbitrary: fc.record({ does: fc.constant('commit' as const), who }) },
    {
      weight: 3,
      arbitrary: fc.record({
        does: fc.constant('delete' as const),
        event: fc.nat(EVENTS.length - 1),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ does: fc.constant('remove relay' as const), relay: fc.nat(2) }),
    },
    {
      weight: 5,
      arbitrary: fc.record({ does: fc.constantFrom('follow', 'follow', 'follow, killed'), who }),
    },
    {
      weight: 6,
      arbitrary: fc.record({
        does: fc.constant('count' as const),
        who,
        day: fc.constantFrom(...DAYS),
      }),
    },
    { weight: 4, arbitrary: fc.record({ does: fc.constant('apply' as const), who }) },
    {
      weight: 3,
      arbitrary: fc.record({ does: fc.constant('kill' as const), who, after: fc.nat(4) }),
    },
  ),
  { minLength: 30, maxLength: 120 },
) as fc.Arbitrary<FigureStep[]>;

const figuresTest = test.extend('world', async ({ bigbrotr, database, session, filterId }) => {
  await database.query(
    "insert into journal_readers (name) values ('refresher') on conflict do nothing",
  );
  const relay = async (index: number) => {
    const [found] = await bigbrotr.relaysOf([relayAddress(RELAYS[index] ?? '')]);
    if (!found) throw new Error('no relay');
    return found;
  };
  return { bigbrotr, database, session, relay, events: EVENTS, filterId };
});

describe('figures', () => {
  figuresTest(
    'do not lose what is committed between the counts of two refreshers',
    async ({ world }) => {
      const model = new FiguresModel(world);
      const late = EVENTS[EVENTS.length - 1];
      const day = Math.floor((late?.created_at ?? 0) / 86_400);
      const early = EVENTS.findIndex((event) => Math.floor(event.created_at / 86_400) === day);
      await model.run({ does: 'store', event: early, relay: 0 });
      await model.run({ does: 'follow', who: 0 });
      await model.run({ does: 'write', who: 0, event: 0, relay: 0 });
      await model.run({ does: 'count', who: 0, day });
      await model.run({ does: 'commit', who: 0 });
      await model.run({ does: 'follow', who: 0 });
      await model.run({ does: 'count', who: 1, day });
      await model.run({ does: 'apply', who: 1 });
      await model.run({ does: 'apply', who: 0 });
      await model.quiet();
      expect(await keptDays(world.database)).toEqual(
        recountDays(await archivedEvents(world.database)),
      );
    },
  );

  figuresTest(
    'that differ from the recount in one row of any table are found',
    async ({ world }) => {
      const { database } = world;
      const model = new FiguresModel(world);
      for (const event of EVENTS.keys())
        for (const relay of [0, 1, 2])
          if ((event + relay) % 3 > 0) await model.run({ does: 'store', event, relay });
      await model.quiet();
      const events = await archivedEvents(database);
      const recounted = [...recountDays(events), ...recountLists(events)];
      const kept = async () => [...(await keptDays(database)), ...(await keptLists(database))];
      expect(await kept()).toEqual(recounted);
      for (const [table, column] of PLANNED) {
        const change = async (by: number, where: string) => {
          const [row] = await database.query<{ place: string }>(
            `update ${table} set ${column} = ${column} + ${by} where ctid = ${where} returning ctid::text as place`,
          );
          return `'${row?.place}'::tid`;
        };
        const place = await change(1, `(select max(ctid) from ${table} where ${column} is not null)`);
        expect(await kept(), `${table}.${column}`).not.toEqual(recounted);
        await change(-1, place);
        expect(await kept(), `${table}.${column}`).toEqual(recounted);
      }
      await database.query(
        'delete from follow_edges where ctid = (select min(ctid) from follow_edges)',
      );
      expect(await kept()).not.toEqual(recounted);
    },
  );

  figuresTest(
    'equal a full recount, whatever order events are stored, sighted and deleted in, with two refreshers that are killed',
    async ({ world }) => {
      await fc.assert(
        fc.asyncProperty(steps, async (all) => {
          const model = new FiguresModel(world);
          for (const step of all) await model.run(step);
          await model.quiet();
          const events = await archivedEvents(world.database);
          expect(await keptDays(world.database)).toEqual(recountDays(events));
          expect(await keptLists(world.database)).toEqual(recountLists(events));
        }),
        { numRuns: RUNS, endOnFailure: process.env.FAST_CHECK_FIGURES !== undefined },
      );
    },
    600_000,
  );
});
