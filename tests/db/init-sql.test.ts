import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { startEmbeddedPostgres } from '../../src/local/postgres.ts';
import { type TestDatabase, testDatabase, testServer } from '../support/database.ts';
import { ownDirectory } from '../support/directory.ts';
import type { TestServer } from '../support/global-setup.ts';

const initSql = readFileSync('init.sql', 'utf8');
const debianPostgres15 = '/usr/lib/postgresql/15/bin';
const has15 = existsSync(join(debianPostgres15, 'initdb'));
if (!has15) console.log(`init.sql is not tested on PostgreSQL 15: no ${debianPostgres15}.`);

interface Place {
  server: TestServer;
  stop(): Promise<void>;
}

describe('init.sql on the PostgreSQL of this run', () => {
  holdsItsPromises(async () => ({ server: await testServer(), stop: async () => {} }));
});

describe.runIf(has15)('init.sql on PostgreSQL 15, loaded by psql', () => {
  holdsItsPromises(loadedByPsqlOn15);
});

async function loadedByPsqlOn15(): Promise<Place> {
  const home = ownDirectory();
  const log = { debug: () => {}, info: () => {}, warn: console.warn, error: console.error };
  const programs = {
    initdb: join(debianPostgres15, 'initdb'),
    postgres: join(debianPostgres15, 'postgres'),
  };
  const dataDir = join(home, 'postgres');
  const server = await startEmbeddedPostgres({ dataDir, port: 0, log, durable: false, programs });
  for (const _ of ['first', 'again']) {
    const psql = [server.connectionString, '-v', 'ON_ERROR_STOP=1', '-q', '-f', 'init.sql'];
    execFileSync(join(debianPostgres15, 'psql'), psql, { stdio: ['ignore', 'ignore', 'inherit'] });
  }
  return {
    server: { ...server, database: 'postgres', template: server.database },
    stop: async () => {
      await server.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

function holdsItsPromises(open: () => Promise<Place>): void {
  let place: Place;
  let db: TestDatabase;

  beforeAll(async () => {
    place = await open();
  });
  beforeEach(async () => {
    db = await testDatabase(place.server);
  });
  afterEach(() => db.drop());
  afterAll(() => place.stop());

  async function value(sql: string, params?: unknown[]): Promise<unknown> {
    const [row] = await db.query(sql, params);
    return row === undefined ? undefined : Object.values(row)[0];
  }

  const insertRelay = (url: string, network = 'clearnet', at = 1000) =>
    value('select insert_relay($1, $2, $3)', [url, network, at]);

  interface EventFields {
    id?: Buffer;
    createdAt?: number;
    tags?: string[][];
    content?: string;
    relay?: string;
    seenAt?: number;
  }

  /** Adds an event whose signature nobody looks at. */
  async function insertEvent(fields: EventFields = {}): Promise<{ id: Buffer; isNew: unknown }> {
    const { id = randomBytes(32), createdAt = 1_700_000_000, tags = [], content = '' } = fields;
    const { relay = 'wss://one.example/', seenAt = 1_700_000_100 } = fields;
    const isNew = await value('select insert_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)', [
      ...[id, Buffer.alloc(32, 2), createdAt, 1, JSON.stringify(tags), content],
      ...[Buffer.alloc(64, 3), relay, 'clearnet', seenAt],
    ]);
    return { id, isNew };
  }

  const insertMetadata = (relay: string, at: number, nip11: unknown, nip66: unknown) =>
    value('select insert_relay_metadata($1, $2, $3, $4, $5)', [
      ...[relay, 'clearnet', at, nip11 && JSON.stringify(nip11), nip66 && JSON.stringify(nip66)],
    ]);

  const check = (fields: Record<string, unknown> = {}) => ({
    ...{ openable: true, readable: true, writable: false, rtt_open: 10, rtt_read: 20, ...fields },
  });

  /** Everything that init.sql defines, as text. */
  async function catalogue(): Promise<string> {
    const parts = [
      `select c.relname, c.relkind, c.relacl, c.reloptions, pg_get_viewdef(c.oid) from pg_class c
       where relnamespace = 'public'::regnamespace and relkind in ('r', 'v', 'S') order by 1`,
      `select attrelid::regclass, attname, atttypid::regtype, attnotnull, attidentity, attcompression, attnum,
       pg_get_expr(adbin, adrelid) from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
       where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace) order by 1, attnum`,
      `select indexdef from pg_indexes where schemaname = 'public' order by 1`,
      `select conrelid::regclass, conname, pg_get_constraintdef(oid) from pg_constraint
       where connamespace = 'public'::regnamespace order by 1, 2`,
      `select oid::regprocedure, pg_get_functiondef(oid), proacl from pg_proc
       where pronamespace = 'public'::regnamespace order by 1`,
      'select pg_get_triggerdef(oid), tgenabled from pg_trigger where not tgisinternal order by 1',
      `select pg_describe_object(classoid, objoid, objsubid), description from pg_description
       where pg_describe_object(classoid, objoid, objsubid) ~ 'events|relay|nip|snap|filters|cover|holes|visits|quaran'
       order by 1`,
    ];
    const rows = await Promise.all(parts.map((sql) => db.query(sql)));
    for (const found of rows) expect(found.length).toBeGreaterThan(0);
    return JSON.stringify(rows, null, 1);
  }

  /** Relations, columns and functions of ours that \d+ and \df+ would not explain. */
  const withoutComment = () =>
    db.query<{ name: string }>(
      `select c.relname as name from pg_class c
       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
         and obj_description(c.oid, 'pg_class') is null
       union all
       select c.relname || '.' || a.attname from pg_class c
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
       where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
         and col_description(c.oid, a.attnum) is null
       union all
       select oid::regprocedure::text from pg_proc
       where pronamespace = 'public'::regnamespace and obj_description(oid, 'pg_proc') is null`,
    );

  test('a second run changes neither the catalogue nor the data', async () => {
    await insertEvent({ tags: [['t', 'nostr']] });
    await insertMetadata('wss://one.example/', 1000, { name: 'One' }, check());
    const before = await catalogue();
    const rows = () => db.query('select e.*, r.* from events e, relay_metadata_latest r');
    const dataBefore = await rows();
    await db.query(initSql);
    expect(await catalogue()).toBe(before);
    expect(await rows()).toEqual(dataBefore);
    await db.query('alter table relays add column extra integer');
    expect(await catalogue()).not.toBe(before);
  });

  test('every table, view, column and function is explained', async () => {
    expect(await withoutComment()).toEqual([]);
    await db.query('create table unexplained (thing integer)');
    const names = (await withoutComment()).map(({ name }) => name);
    expect(names.sort()).toEqual(['unexplained', 'unexplained.thing']);
  });

  test('a relay is known once', async () => {
    expect(await insertRelay('wss://one.example/', 'clearnet', 1000)).toBe(true);
    expect(await insertRelay('wss://one.example/', 'tor', 2000)).toBe(false);
    expect(await db.query('select url, network, inserted_at from relays')).toEqual([
      { url: 'wss://one.example/', network: 'clearnet', inserted_at: '1000' },
    ]);
    await expect(insertRelay('wss://two.example/', 'carrier pigeon')).rejects.toThrow(
      'relays_network_check',
    );
    await expect(insertRelay(`wss://${'a'.repeat(1024)}.example/`)).rejects.toThrow(
      'relays_url_length',
    );
  });

  test('an event is archived once, with a sighting for each relay', async () => {
    const tags = [
      ['t', 'nostr'],
      ['e', 'ab', 'wss://x/'],
      ['t', 'nostr'],
      ['alt', 'no'],
      ['p'],
      [],
    ];
    const { id, isNew } = await insertEvent({ tags, content: 'Grüße 🐙' });
    expect(isNew).toBe(true);
    expect((await insertEvent({ id, tags, seenAt: 1_800_000_000 })).isNew).toBe(false);
    const again = await insertEvent({
      id,
      tags,
      relay: 'wss://two.example/',
      seenAt: 5_000_000_00 + 1_200_000_000,
    });
    expect(again.isNew).toBe(false);
    const [event] = await db.query('select * from events');
    expect(event).toMatchObject({
      ...{ id, pubkey: Buffer.alloc(32, 2), sig: Buffer.alloc(64, 3) },
      ...{ created_at: '1700000000', kind: 1, tags, content: 'Grüße 🐙' },
    });
    expect(event?.tagvalues).toEqual(['e:ab', 't:nostr']);
    expect(await value('select count(*) from events')).toBe('1');
    expect(await db.query('select * from events_relays order by relay_url')).toEqual([
      { event_id: id, relay_url: 'wss://one.example/', seen_at: '1700000100' },
      { event_id: id, relay_url: 'wss://two.example/', seen_at: '1700000000' },
    ]);
    expect(await value('select id from events_hex')).toBe(id.toString('hex'));
    expect(await value('select count_orphan_sightings()')).toBe('0');
  });

  test('keys of events run along time, from the first second to the last', async () => {
    const last = 549_755_813_887;
    for (const createdAt of [1_700_000_000, last, 0, 1_700_000_000])
      await insertEvent({ createdAt });
    const seconds = await db.query<{ second: string }>(
      'select event_key >> 24 as second from events order by event_key',
    );
    expect(seconds.map(({ second }) => Number(second))).toEqual([
      0,
      1_700_000_000,
      1_700_000_000,
      last,
    ]);
    const inside = `select count(*) from events
      where event_key >= event_key_floor(1700000000) and event_key < event_key_floor(1700000001)`;
    expect(await value(inside)).toBe('2');
    await expect(insertEvent({ createdAt: last + 1 })).rejects.toThrow();
    await expect(insertEvent({ createdAt: -1 })).rejects.toThrow('events_created_at_range');
  });

  test('long values and many tags do not keep an event out', async () => {
    const long = randomBytes(1500).toString('hex');
    const longest = 'ü'.repeat(127);
    const many = Array.from({ length: 2000 }, () => ['x', randomBytes(120).toString('hex')]);
    const tags = [['d', long], ['r', `${longest}ü`], ['r', longest], ...many];
    const { id } = await insertEvent({ tags, content: randomBytes(500_000).toString('hex') });
    const found = 'select id from events where tagvalues @> jsonb_build_array($1::text)';
    expect(await value(found, [`r:${longest}`])).toEqual(id);
    expect(await value(found, [`x:${many[1999]?.[1]}`])).toEqual(id);
    expect(await value(found, [`r:${longest}ü`])).toBeUndefined();
    expect(await value('select jsonb_array_length(tagvalues) from events')).toBe(2001);
    expect(await value('select tags from events')).toEqual(tags);
  });

  test('every field of NIP-11 and NIP-66 arrives in its column', async () => {
    const columns = await db.query<{ table: string; name: string; type: string }>(
      `select table_name as table, column_name as name, data_type as type from information_schema.columns
       where table_schema = 'public' and table_name in ('nip11', 'nip66') and column_name <> 'id'`,
    );
    const document = (table: string) =>
      Object.fromEntries(
        columns
          .filter((column) => column.table === table)
          .map(({ name, type }, index) => {
            if (type === 'jsonb') return [name, { [name]: [index, { deep: 'ü' }] }];
            if (type === 'boolean') return [name, name !== 'writable'];
            return [name, type === 'integer' ? 1000 + index : `value of ${name}`];
          }),
      );
    const [nip11, nip66] = [document('nip11'), document('nip66')];
    expect(Object.keys(nip11)).toHaveLength(13);
    expect(Object.keys(nip66)).toHaveLength(7);
    expect(await insertMetadata('wss://one.example/', 1000, nip11, nip66)).toBe(true);
    const [latest] = await db.query('select * from relay_metadata_latest');
    expect(latest).toMatchObject({ relay_url: 'wss://one.example/', ...nip11, ...nip66 });
    const text = await value('select $1::jsonb::text', [JSON.stringify(nip11)]);
    expect(latest?.nip11_id).toEqual(createHash('sha256').update(String(text)).digest());
  });

  test('equal documents are kept once, equal snapshots too', async () => {
    const nip11 = { name: 'Same', limitation: { max_limit: 500, auth_required: false } };
    const reordered = { limitation: { auth_required: false, max_limit: 500 }, name: 'Same' };
    expect(await insertMetadata('wss://one.example/', 1000, nip11, check())).toBe(true);
    expect(await insertMetadata('wss://one.example/', 1000, nip11, check())).toBe(false);
    expect(await insertMetadata('wss://one.example/', 2000, reordered, check())).toBe(true);
    expect(await insertMetadata('wss://two.example/', 2000, nip11, check())).toBe(true);
    expect(
      await insertMetadata('wss://two.example/', 3000, { name: 'Other' }, check({ rtt_open: 11 })),
    ).toBe(true);
    expect(await insertMetadata('wss://three.example/', 3000, null, null)).toBe(true);
    expect(await value('select count(*) from nip11')).toBe('2');
    expect(await value('select count(*) from nip66')).toBe('2');
    const snapshots = await db.query(
      'select relay_url, generated_at, nip11_id is null as none from relay_metadata order by 1, 2',
    );
    expect(snapshots).toEqual([
      { relay_url: 'wss://one.example/', generated_at: '1000', none: false },
      { relay_url: 'wss://one.example/', generated_at: '2000', none: false },
      { relay_url: 'wss://three.example/', generated_at: '3000', none: true },
      { relay_url: 'wss://two.example/', generated_at: '2000', none: false },
      { relay_url: 'wss://two.example/', generated_at: '3000', none: false },
    ]);
  });

  test('a document that does not fit is an error, and nothing of it stays', async () => {
    const wrong = check({ rtt_open: 'soon' });
    await expect(
      insertMetadata('wss://one.example/', 1000, { name: 'One' }, wrong),
    ).rejects.toThrow('invalid input syntax for type integer');
    await expect(insertMetadata('wss://one.example/', 1000, null, {})).rejects.toThrow('openable');
    expect(await value('select count(*) from relays')).toBe('0');
    expect(await value('select count(*) from nip11')).toBe('0');
  });

  test('relay_metadata_latest and readable_relays go by the latest snapshot, fastest first', async () => {
    await insertRelay('wss://never-checked.example/');
    await insertMetadata('wss://slow.example/', 1000, null, check({ rtt_read: 300 }));
    await insertMetadata('wss://fast.example/', 1000, { name: 'Old' }, check({ readable: false }));
    await insertMetadata('wss://fast.example/', 2000, { name: 'New' }, check({ rtt_read: 5 }));
    await insertMetadata('wss://gone.example/', 1000, null, check({ rtt_read: 1 }));
    await insertMetadata('wss://gone.example/', 3000, null, {
      ...{ openable: false, readable: false, writable: false, reason: 'timeout' },
    });
    expect(
      await db.query(
        'select relay_url, generated_at, name, reason from relay_metadata_latest order by 1',
      ),
    ).toEqual([
      { relay_url: 'wss://fast.example/', generated_at: '2000', name: 'New', reason: null },
      { relay_url: 'wss://gone.example/', generated_at: '3000', name: null, reason: 'timeout' },
      { relay_url: 'wss://slow.example/', generated_at: '1000', name: null, reason: null },
    ]);
    const readable = await db.query('select relay_url, rtt_read from readable_relays');
    expect(readable).toEqual([
      { relay_url: 'wss://fast.example/', rtt_read: 5 },
      { relay_url: 'wss://slow.example/', rtt_read: 300 },
    ]);
  });

  test('orphans are deleted, and nothing else', async () => {
    const { id: kept } = await insertEvent();
    const { id: orphan } = await insertEvent();
    await db.query(
      'delete from sightings s using events e where e.event_key = s.event_key and e.id = $1',
      [orphan],
    );
    expect(await value('select delete_orphan_events()')).toBe('1');
    expect(await value('select delete_orphan_events()')).toBe('0');
    expect(await db.query('select id from events')).toEqual([{ id: kept }]);

    await insertMetadata('wss://one.example/', 1000, { name: 'Old' }, check());
    await insertMetadata('wss://one.example/', 2000, { name: 'New' }, check({ rtt_open: 11 }));
    await db.query('delete from snapshots where generated_at = 1000');
    expect(await value('select delete_orphan_nip11()')).toBe('1');
    expect(await value('select delete_orphan_nip66()')).toBe('1');
    expect(await db.query('select name, rtt_open from nip11, nip66')).toEqual([
      { name: 'New', rtt_open: 11 },
    ]);
  });

  test('sightings go with their event and with their relay', async () => {
    const { id } = await insertEvent();
    await insertEvent({ id, relay: 'wss://two.example/' });
    const { id: other } = await insertEvent({ relay: 'wss://two.example/' });
    await db.query('delete from events where id = $1', [id]);
    expect(await db.query('select event_id, relay_url from events_relays')).toEqual([
      { event_id: other, relay_url: 'wss://two.example/' },
    ]);
    expect(await value('select count(*) from sightings')).toBe('1');
    await db.query("delete from relays where url = 'wss://two.example/'");
    expect(await value('select count(*) from sightings')).toBe('0');
    expect(await value('select count_orphan_sightings()')).toBe('0');

    const { id: lost } = await insertEvent();
    await db.query('alter table events disable trigger events_delete_sightings');
    await db.query('delete from events where id = $1', [lost]);
    expect(await value('select count_orphan_sightings()')).toBe('1');
  });

  /** A relay that was wanted for `wanted`, with stretches proven on successive days. */
  async function visited(url: string, wanted: string, covered: string[]): Promise<void> {
    await insertRelay(url);
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
  }

  test('coverage shows what is proven, and each gap with its reason', async () => {
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

  test('what belongs to a relay goes with it', async () => {
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

  test('sightings are found through an index, by event and by relay', async () => {
    await db.query(`insert into relays (url, network)
      select 'wss://relay' || n || '.example/', 'clearnet' from generate_series(1, 300) n`);
    await db.query(`insert into events (event_key, created_at, kind, id, pubkey, sig, tags, tagvalues, content)
      select new_event_key(1700000000 + n), 1700000000 + n, 1, sha256(n::text::bytea), sha256('author'),
        sha256('a') || sha256('b'), '[]', '[]', repeat('text ', 40)
      from generate_series(1, 30000) n`);
    await db.query(`insert into sightings
      select e.event_key, r.relay_id, 1 from events e
      join relays r on r.relay_id in (select 1 + (e.created_at + k * 77) % 300 from generate_series(0, 2) k)`);
    await db.query('analyze events, sightings, relays');
    expect(await value('select count(*) from sightings')).toBe('90000');

    const byEvent = "select * from events_relays where event_id = sha256('777')";
    expect(await db.query(byEvent)).toHaveLength(3);
    expect(await scans(byEvent)).toEqual({
      events: 'events_id_index',
      sightings: 'sightings_event_key_index',
      relays: expect.anything(),
    });
    const known =
      "select from events where created_at = 1700000777 and id between sha256('777') and sha256('777')";
    expect(await db.query(known)).toHaveLength(1);
    expect(await scans(known)).toEqual({ events: 'events_created_at_id_index' });
    const newest = 'select id from events order by created_at desc limit 10';
    expect(await scans(newest)).toEqual({ events: 'events_created_at_id_index' });
    const byRelay = "select * from events_relays where relay_url = 'wss://relay7.example/'";
    expect(await db.query(byRelay)).toHaveLength(300);
    expect(await scans(byRelay)).toEqual({
      events: 'events_pkey',
      sightings: 'sightings_relay_id_event_key_index',
      relays: 'relays_url_key',
    });
    const byRelayAndTime = `select count(*) from sightings
      where relay_id = 7 and event_key >= event_key_floor(1700020000) and event_key < event_key_floor(1700021000)`;
    expect(await value(byRelayAndTime)).toBe('10');
    expect(await scans(byRelayAndTime)).toEqual({
      sightings: 'sightings_relay_id_event_key_index',
    });
    await db.query('drop index sightings_relay_id_event_key_index');
    expect((await scans(byRelayAndTime)).sightings).not.toBe('sightings_relay_id_event_key_index');
  });

  interface PlanNode {
    'Node Type': string;
    'Relation Name'?: string;
    'Index Name'?: string;
    Plans?: PlanNode[];
  }

  /** How a query reads each table: the name of the index, or the kind of scan. */
  async function scans(sql: string): Promise<Record<string, string>> {
    const [row] = await db.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
      `explain (format json) ${sql}`,
    );
    const found: Record<string, string> = {};
    const walk = (node: PlanNode, table: string | undefined) => {
      const name = node['Relation Name'] ?? table;
      if (name && node['Node Type'].includes('Scan'))
        found[name] = node['Index Name'] ?? node['Node Type'];
      for (const child of node.Plans ?? []) walk(child, name);
    };
    if (row) walk(row['QUERY PLAN'][0].Plan, undefined);
    return found;
  }
}
