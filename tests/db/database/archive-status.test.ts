/** `archive_status`: how the archive stands, through a connection that only reads. */
import { describe, expect } from 'vitest';
import { SCHEMA_VERSION } from '../../../src/database/version.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';

interface StatusRow extends Record<string, unknown> {
  readonly section: string;
  readonly name: string;
  readonly value: string;
  readonly unit: string;
  readonly age: number | null;
}

/** As ISO 8601 in UTC. */
const TIME = /^20\d\d-\d\d-\d\dT[\d:]+Z$/;

const test = archiveTest
  .extend('status', ({ reader, database: _emptied }) => async () => {
    const { rows } = await reader.read((query) => query<StatusRow>('select * from archive_status'));
    return rows;
  })
  .extend('section', ({ status }) => async (section: string) => {
    const rows = (await status()).filter((row) => row.section === section);
    return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
  })
  .extend(
    'checked',
    ({ database }) =>
      async (url: string, network: string, reason: string | null) => {
        const health = JSON.stringify({
          ...{ openable: reason === null, readable: reason === null, writable: false, reason },
        });
        await database.query('select insert_relay_metadata($1, $2, unix_now() - 60, null, $3)', [
          ...[url, network, health],
        ]);
        await database.query('select record_relay_check($1, unix_now() - 60, $2::jsonb, 28800)', [
          ...[url, health],
        ]);
      },
  );

describe('archive_status', () => {
  test('of an archive without a relay has counts of 0 and no time', async ({ status }) => {
    const rows = await status();
    expect(rows[0]).toEqual({
      ...{ section: 'version', name: 'schema', value: SCHEMA_VERSION, unit: 'text', age: 0 },
    });
    const counts = rows.filter(({ unit }) => unit === 'count');
    expect(counts.length).toBeGreaterThan(12);
    expect(counts.filter(({ value }) => value !== '0')).toEqual([]);
    expect(rows.filter(({ unit }) => unit === 'time')).toEqual([]);
  });

  test('counts relays by network and state, and work that is due', async ({
    database,
    checked,
    section,
  }) => {
    await checked('wss://up.example.com', 'clearnet', null);
    await checked('wss://down.example.com', 'clearnet', 'timeout');
    await checked('wss://dead.example.com', 'clearnet', 'dns');
    await checked('ws://a.onion', 'tor', 'proxy_down');
    await checked('wss://old.example.com', 'clearnet', null);
    await database.query(
      `update relay_schedule set known_until = unix_now() - 1, due_at = unix_now() - 1
       where relay_id = (select relay_id from relays where url like '%old%')`,
    );
    await database.query(`select insert_relay('wss://new.example.com', 'clearnet')`);
    await database.query(
      `insert into relay_manners (relay_id, not_before) select relay_id, unix_now() + 99 from relays where url like '%up%'`,
    );
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, next_try_at)
       select url, 'clearnet', url, 'example.com', 1, 7, 'list', 8, '{""}', unix_now() + wait
       from (values ('wss://a.example.com', -5), ('wss://b.example.com', 500)) v (url, wait)`,
    );
    expect(await section('relays')).toEqual({
      ...{ known: '6', readable: '2', paused: '1' },
      ...{ 'clearnet up': '1', 'clearnet down': '2', 'clearnet unknown': '1' },
      ...{ 'tor unknown': '1', 'clearnet never checked': '1' },
    });
    expect(await section('waiting')).toMatchObject({
      ...{ 'relays due for a check': '2', 'readable relays never visited': '2' },
      ...{ 'candidates of the finder': '2', 'candidates due for a try': '1' },
      'next check': 'due now',
      'next check of the others': expect.stringMatching(TIME),
      'next try of a candidate': 'due now',
    });
    await database.query(
      `delete from relays where url in ('wss://new.example.com', 'wss://old.example.com')`,
    );
    await database.query(`delete from named_relays where url = 'wss://a.example.com'`);
    const waiting = await section('waiting');
    expect(waiting).toMatchObject({
      ...{ 'relays due for a check': '0', 'candidates due for a try': '0' },
      ...{
        'next check': expect.stringMatching(TIME),
        'next try of a candidate': expect.stringMatching(TIME),
      },
    });
    expect(waiting).not.toHaveProperty('next check of the others');
  });

  test('counts events and sightings, the proven share, and claims', async ({
    database,
    bigbrotr,
    relay,
    other,
    filterId,
    section,
  }) => {
    const now = Math.floor(Date.now() / 1000);
    const events = [
      ...signedEvents(20, { from: 1_700_000_000, to: 1_700_000_900 }),
      ...signedEvents(7, { from: now - 5000, to: now - 100 }),
    ];
    const wanted = { filterId, since: 1_700_000_000, until: 1_700_000_999 };
    const ages = { overlapSeconds: 0, reproveSeconds: 99 };
    await bigbrotr.beginVisit(relay, wanted, ages);
    await bigbrotr.store(batchOf({ relay, filterId, events, proven: [wanted] }));
    const end = { outcome: 'complete', reason: null, detail: null, pages: 1 } as const;
    await bigbrotr.endVisit(relay, filterId, end);
    await bigbrotr.beginVisit(other, wanted, ages);
    await database.query(
      `insert into claims select 'visit', relay_id, 'host/' || relay_id, 1, 1, unix_now() + 60 from relays`,
    );
    await database.query(`insert into claims values ('check', 1, 'host/9', 1, 1, unix_now() - 1)`);
    expect(await section('archive')).toMatchObject({
      ...{ events: '27', sightings: '27', 'events created in the last day': '7', quarantine: '0' },
    });
    expect(await section('coverage')).toEqual({
      ...{ 'mean share of a relay that is proven': '0.500000' },
      ...{ 'relays in this mean, at most 200': '2', 'relays visited': '2' },
      'relays read to their end': '1',
      'latest visit ended': expect.stringMatching(/^20.*Z$/),
    });
    expect(await section('working')).toEqual({
      ...{ 'processes that hold claims': '2', 'relays visited or followed live': '2' },
      ...{ 'relays being checked': '0', 'candidates being tried': '0' },
    });
    expect(await section('waiting')).toMatchObject({
      'batches of events the finder has not read': '1',
    });
  });

  test('estimates a large table without reading it, and says how old the estimate is', async ({
    database,
    reader,
  }) => {
    await database.query('alter table events alter column content set storage plain');
    await database.query(
      `insert into events select event_key_floor(1700000000) + i, 1700000000, 1, 1700000000 / 86400, sha256(int4send(i)), sha256('a'),
           sha256('a') || sha256('b'), '[]', '[]', repeat('x', 7900)
       from generate_series(1, 9000) i`,
    );
    await database.query('analyze events');
    // What a session has read since its figures were last flushed, which is at most once a second.
    const scans = `select seq_scan::int as whole from pg_stat_xact_user_tables where relname = 'events'`;
    const { row, whole } = await reader.read(async (query) => {
      const { rows: before } = await query<{ whole: number }>(scans);
      const { rows } = await query<StatusRow>(
        `select * from archive_status where section = 'archive' and name = 'events'`,
      );
      const { rows: after } = await query<{ whole: number }>(scans);
      return { row: rows[0], whole: (after[0]?.whole ?? 0) - (before[0]?.whole ?? 0) };
    });
    expect(row).toMatchObject({ value: '9000', unit: 'estimate', age: expect.any(Number) });
    expect(whole).toBe(0);
  });

  test('estimates the events of a time range that holds more than 100,000', async ({
    database,
  }) => {
    await database.query('drop index events_tagvalues_index, events_id_index');
    await database.query('alter table events disable trigger user');
    await database.query(
      `insert into events select event_key_floor(t) + i, t, 1, t / 86400, sha256(int4send(i)), sha256('a'),
           sha256('a') || sha256('b'), '[]', '[]', ''
       from (select i, 1700000000 + i * 60 / 100 as t from generate_series(0, 120000) i) t`,
    );
    const count = (until: number) =>
      database.query(
        'select events::int, is_exact from events_created(1700000000, 1700000000 + $1)',
        [until],
      );
    expect(await count(6000)).toEqual([{ events: 10_000, is_exact: true }]);
    const [many] = await count(72_000);
    expect(many?.is_exact).toBe(false);
    expect(Math.abs(Number(many?.events) - 120_000)).toBeLessThan(20_000);
  });
});
