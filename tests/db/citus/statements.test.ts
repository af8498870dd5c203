import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { describe, expect, vi } from 'vitest';
import { shardOf } from '../../../src/database/days.ts';
import { distributeArchive } from '../../../src/database/distribute.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { batchOf, databaseConfig, silent } from '../../postgres/bigbrotr.ts';
import { archiveTest as test } from '../../postgres/fixtures.ts';
import { projectFile } from '../../processes/project.ts';

// How Citus answers the statements of a batch. Runs where TEST_CITUS_PORTS names a coordinator with two workers.

const hasCitus = Boolean(process.env.TEST_CITUS_PORTS);
if (!hasCitus) console.log('Citus is not tested: TEST_CITUS_PORTS is not set.');

const DAY = 86_400;
/** Of the databases of tests (global-setup.ts). */
const SHARDS = 4;
const EVENTS = Array.from({ length: 10 }, (_, index) =>
  signedEvent({ created_at: 19_675 * DAY + index, content: `${index}` }),
);

const tasksIn = (plan: string) =>
  [...plan.matchAll(/Task Count: (\d+)/g)].map(([, count]) => Number(count));

/** The statement that the pool sends meanwhile which begins like this, with its values. */
async function sentStatement(work: () => Promise<unknown>, beginning: RegExp) {
  const sent = vi.spyOn(pg.Client.prototype, 'query');
  try {
    await work();
    const calls = sent.mock.calls.map((call) => call as unknown as [unknown, unknown[]?]);
    for (const [first, second] of calls) {
      const { text, values } =
        typeof first === 'string'
          ? { text: first, values: second }
          : (first as { text?: string; values?: unknown[] });
      if (text && beginning.test(text)) return { text, values: values ?? [] };
    }
    throw new Error(`no statement like ${beginning}`);
  } finally {
    sent.mockRestore();
  }
}

describe.runIf(hasCitus)('a page of one shard', () => {
  test('the known question is one task', async ({ database, bigbrotr, relay, filterId }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS }));
    const { text, values } = await sentStatement(
      () => bigbrotr.archivedEvents(EVENTS),
      /string_agg\(e\.id/,
    );
    const plan = await database.query<Record<string, string>>(`explain ${text}`, values);
    expect(tasksIn(plan.flatMap(Object.values).join('\n'))).toEqual([1]);
  });

  test('both inserts of store_sighted() are one task each', async ({
    database,
    bigbrotr,
    relay,
    filterId,
  }) => {
    const { text, values } = await sentStatement(
      () => bigbrotr.store(batchOf({ relay, filterId, events: EVENTS })),
      /from store_sighted/,
    );
    await database.query('delete from sightings');
    await database.query('delete from events');
    const client = new pg.Client(database.config);
    await client.connect();
    const plans: string[] = [];
    client.on('notice', ({ message = '' }) => void plans.push(message));
    await client.query(`load 'auto_explain'; set auto_explain.log_nested_statements = on;
      set auto_explain.log_min_duration = 0; set auto_explain.log_level = notice`);
    const { rows } = await client.query(text, values);
    await client.end();
    expect(rows).toEqual([{ events: 10, matched: 10, sightings: 10 }]);
    for (const table of ['events', 'sightings']) {
      const [plan = '', ...others] = plans.filter((each) =>
        each.includes(`insert into ${table} (`),
      );
      expect(others).toEqual([]);
      expect(tasksIn(plan)).toEqual([1]);
    }
  });

  test('a batch is a statement for each shard that has a day of it', async ({
    database,
    bigbrotr,
    relay,
    filterId,
  }) => {
    const many = Array.from({ length: 30 }, (_, day) => signedEvent({ created_at: day * DAY }));
    await bigbrotr.store(batchOf({ relay, filterId, events: many }));
    const rows = await database.query<{ days: number[] }>(
      'select days from journal order by batch_id',
    );
    const shards = rows.map(({ days }) => new Set(days.map((day) => shardOf(day, SHARDS))));
    expect(shards).toEqual([0, 1, 2, 3].map((shard) => new Set([shard])));
    const placed = await database.query<{ day: number; shard: number }>(
      `select day, (row_number() over (order by shard) - 1)::int as shard from (
         select array_agg(day) as days, get_shard_id_for_distribution_column('days', day) as shard from days group by 2
       ) s cross join lateral unnest(days[1:1]) day`,
    );
    for (const { day, shard } of placed) expect(shardOf(day, SHARDS)).toBe(shard);
  });
});

describe.runIf(hasCitus)('distribution', () => {
  test('of an archive that holds events keeps them; doing it again changes nothing', async ({
    database,
    bigbrotr,
    relay,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS }));
    const held = () =>
      database.query('select (select count(*) from events) as e, archive_shards() as shards');
    const before = await held();
    await distributeArchive(databaseConfig(database), databaseConfig(database), silent);
    await database.query('select distribute_archive(32)');
    expect(await held()).toEqual(before);
    await database.query('select undistribute_table($1)', ['sightings']);
    await database.query('select undistribute_table($1)', ['events']);
    await database.query('select undistribute_table($1)', ['days']);
    await database.query('select undistribute_table($1)', ['relay_urls']);
    expect(await held()).toEqual([{ e: '10', shards: 1 }]);
    await distributeArchive(
      databaseConfig(database, { shards: SHARDS }),
      databaseConfig(database, { shards: SHARDS }),
      silent,
    );
    expect(await held()).toEqual(before);
    await database.query(await readFile(projectFile('init.sql'), 'utf8'));
    const [row] = await database.query<{ proconfig: string[] }>(
      `select proconfig from pg_proc where proname = 'store_sighted'`,
    );
    expect(row?.proconfig).toContain('plan_cache_mode=force_custom_plan');
  });

  test('joins of distributed and local tables are refused, and do not answer wrongly', async ({
    database,
    bigbrotr,
    relay,
    filterId,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS }));
    await expect(
      database.query(`with p as (select 0 as x) select 'wrong' from p where not exists (
        select from sightings s join relays r using (relay_id) where s.relay_id > p.x)`),
    ).rejects.toThrow();
  });
});
