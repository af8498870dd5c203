import { expect } from 'vitest';
import { check, onEachServer } from '../../fixtures/init-sql-test.ts';
import type { TestDatabase } from '../../postgres/database.ts';

onEachServer((test) => {
  test('sightings are deleted with their event and with their relay', async ({
    db,
    value,
    insertEvent,
  }) => {
    const { id } = await insertEvent();
    await insertEvent({ id, relay: 'wss://two.example/' });
    const { id: other } = await insertEvent({ relay: 'wss://two.example/' });
    const deleteById = 'select delete_events(array(select event_key from events where id = $1))';
    expect(await value(deleteById, [id])).toBe('1');
    expect(await value(deleteById, [id])).toBe('0');
    expect(await db.query('select event_id, relay_url from events_relays')).toEqual([
      { event_id: other, relay_url: 'wss://two.example/' },
    ]);
    expect(await value('select count(*) from sightings')).toBe('1');
    await db.query("delete from relays where url = 'wss://two.example/'");
    expect(await value('select count(*) from sightings')).toBe('0');
    expect(await value('select count_orphan_sightings()')).toBe('0');

    const { id: lost } = await insertEvent();
    await db.query('delete from events where id = $1', [lost]);
    expect(await value('select count_orphan_sightings()')).toBe('1');
  });

  /** A relay that was wanted for `wanted`, with stretches proven on successive days. */
  const visitedIn =
    (db: TestDatabase) =>
    async (url: string, wanted: string, covered: string[]): Promise<void> => {
      await db.query('select insert_relay($1, $2, 1000)', [url, 'clearnet']);
      await db.query("insert into filters (filter) values ('{}') on conflict do nothing");
      const keys = `(select relay_id from relays where url = $1), (select filter_id from filters where filter = '{}')`;
      await db.query(
        `insert into visits (relay_id, filter_id, wanted, started_at, ended_at, outcome)
       values (${keys}, $2::int8range, 100, 200, 'partial')`,
        [url, wanted],
      );
      for (const [day, stretch] of covered.entries()) {
        await db.query(
          `insert into coverage (relay_id, filter_id, evidence, proven_on, covered, proven_at)
         values (${keys}, 'paging', date '2026-01-01' + $2::int, $3::int8multirange, $4)`,
          [url, day, stretch, 1000 + day],
        );
      }
    };

  test('coverage views show what is proven, and each gap with its reason', async ({
    db,
    value,
  }) => {
    const visited = visitedIn(db);
    await visited('wss://whole.example/', '[0,100)', ['{[0,60)}', '{[60,120)}']);
    await visited('wss://half.example/', '[0,100)', ['{[10,40)}', '{[50,60),[70,80)}']);
    await visited('wss://none.example/', '[5,6)', []);
    await db.query(
      `insert into holes select relay_id, filter_id, '[40,50)', 'dense', 5000, 100 from visits
       join relays using (relay_id) where url = 'wss://half.example/'`,
    );
    const coverage = await db.query(
      `select relay_url, filter, share, first_second, last_second, gaps, holes, outcome, visited_at
       from relay_coverage order by relay_url`,
    );
    const common = { filter: '{}', outcome: 'partial', visited_at: '200' };
    expect(coverage).toEqual([
      {
        ...{ relay_url: 'wss://half.example/', ...common, share: '0.500000' },
        ...{ first_second: '10', last_second: '79', gaps: '4', holes: '1' },
      },
      {
        ...{ relay_url: 'wss://none.example/', ...common, share: '0.000000' },
        ...{ first_second: null, last_second: null, gaps: '1', holes: '0' },
      },
      {
        ...{ relay_url: 'wss://whole.example/', ...common, share: '1.000000' },
        ...{ first_second: '0', last_second: '119', gaps: '0', holes: '0' },
      },
    ]);
    const gaps = await db.query(
      'select relay_url, since, until, hole, hole_events from coverage_gaps order by relay_url, since',
    );
    const half = { relay_url: 'wss://half.example/', hole: null, hole_events: null };
    expect(gaps).toEqual([
      { ...half, since: '0', until: '9' },
      { ...half, since: '40', until: '49', hole: 'dense', hole_events: 5000 },
      { ...half, since: '60', until: '69' },
      { ...half, since: '80', until: '99' },
      { ...half, relay_url: 'wss://none.example/', since: '5', until: '5' },
    ]);
    const age = 'select oldest_proof_age + 1000 from relay_coverage where relay_url like $1';
    const now = Number(await value(age, ['%whole%']));
    expect(now).toBeGreaterThan(1_700_000_000);
    expect(await value(age, ['%none%'])).toBeNull();
  });

  test('rows of a relay are deleted with it', async ({ db, value, insertMetadata }) => {
    const visited = visitedIn(db);
    await visited('wss://one.example/', '[0,100)', ['{[0,60)}']);
    await insertMetadata('wss://one.example/', 1000, { name: 'One' }, check());
    await db.query(
      `insert into holes select relay_id, filter_id, '[60,61)', 'dense', 5000, 100 from visits`,
    );
    await db.query(
      `insert into quarantine (id, relay_id, created_at, reason, raw)
       select '\\x01', relay_id, 5, 'nul', '\\x02' from relays`,
    );
    const tables = ['snapshots', 'coverage', 'holes', 'visits', 'quarantine'];
    const counts = () => Promise.all(tables.map((table) => value(`select count(*) from ${table}`)));
    expect(await counts()).toEqual(['1', '1', '1', '1', '1']);
    await db.query('delete from relays');
    expect(await counts()).toEqual(['0', '0', '0', '0', '0']);
  });
});
