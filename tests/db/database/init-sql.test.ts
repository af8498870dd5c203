import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { check, onEachServer } from '../../fixtures/init-sql-test.ts';
import type { TestDatabase } from '../../postgres/database.ts';

const initSql = readFileSync('init.sql', 'utf8');

onEachServer((test) => {
  test('a second run changes neither the catalogue nor the data', async ({
    db,
    insertEvent,
    insertMetadata,
  }) => {
    await insertEvent({ tags: [['t', 'nostr']] });
    await insertMetadata('wss://one.example/', 1000, { name: 'One' }, check());
    const before = await catalogue(db);
    const rows = () => db.query('select e.*, r.* from events e, relay_metadata_latest r');
    const dataBefore = await rows();
    await db.query(initSql);
    expect(await catalogue(db)).toBe(before);
    expect(await rows()).toEqual(dataBefore);
    await db.query('alter table relays add column extra integer');
    expect(await catalogue(db)).not.toBe(before);
  });

  test('every table, view, column and function has a comment', async ({ db }) => {
    expect(await withoutComment(db)).toEqual([]);
    await db.query('create table unexplained (thing integer)');
    const names = (await withoutComment(db)).map(({ name }) => name);
    expect(names.sort()).toEqual(['unexplained', 'unexplained.thing']);
  });

  test('a relay is stored once', async ({ db, insertRelay }) => {
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

  test('an event is archived once, with a sighting for each relay', async ({
    db,
    value,
    insertEvent,
  }) => {
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

  test('keys of events ascend with time, from the first second to the last', async ({
    db,
    value,
    insertEvent,
  }) => {
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

  test('an event with long values and many tags is stored', async ({ value, insertEvent }) => {
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

  test('sightings are found through an index, by event and by relay', async ({ db, value }) => {
    await db.query(`insert into relays (url, network)
      select 'wss://relay' || n || '.example/', 'clearnet' from generate_series(1, 300) n`);
    await db.query(`insert into events (event_key, created_at, kind, created_day, id, pubkey, sig, tags, tagvalues, content)
      select event_key_floor(1700000000 + n), 1700000000 + n, 1, (1700000000 + n) / 86400, sha256(n::text::bytea), sha256('author'),
        sha256('a') || sha256('b'), '[]', '[]', repeat('text ', 40)
      from generate_series(1, 30000) n`);
    await db.query(`insert into sightings
      select e.event_key, r.relay_id, 1, e.created_day from events e
      join relays r on r.relay_id in (select 1 + (e.created_at + k * 77) % 300 from generate_series(0, 2) k)`);
    await db.query('analyze events, sightings, relay_urls');
    expect(await value('select count(*) from sightings')).toBe('90000');

    const byEvent = "select * from events_relays where event_id = sha256('777')";
    expect(await db.query(byEvent)).toHaveLength(3);
    expect(await scans(db, byEvent)).toEqual({
      events: 'events_id_index',
      sightings: 'sightings_event_key_index',
      relay_urls: expect.anything(),
    });
    const known =
      "select from events where created_at = 1700000777 and id between sha256('777') and sha256('777')";
    expect(await db.query(known)).toHaveLength(1);
    expect(await scans(db, known)).toEqual({ events: 'events_created_at_id_index' });
    const newest = 'select id from events order by created_at desc limit 10';
    expect(await scans(db, newest)).toEqual({ events: 'events_created_at_id_index' });
    const byRelay = "select * from events_relays where relay_url = 'wss://relay7.example/'";
    expect(await db.query(byRelay)).toHaveLength(300);
    expect(await scans(db, byRelay)).toEqual({
      events: 'events_pkey',
      sightings: 'sightings_relay_id_event_key_index',
      relay_urls: 'relay_urls_url_key',
    });
    const byRelayAndTime = `select count(*) from sightings
      where relay_id = 7
        and (created_day, event_key) >= (event_key_day(event_key_floor(1700020000)), event_key_floor(1700020000))
        and (created_day, event_key) < (event_key_day(event_key_floor(1700021000)), event_key_floor(1700021000))`;
    expect(await value(byRelayAndTime)).toBe('10');
    expect(await scans(db, byRelayAndTime)).toEqual({
      sightings: 'sightings_relay_id_event_key_index',
    });
    await db.query('drop index sightings_relay_id_event_key_index');
    expect((await scans(db, byRelayAndTime)).sightings).not.toBe(
      'sightings_relay_id_event_key_index',
    );
  });
});

/** Everything that init.sql defines, as text. */
async function catalogue(db: TestDatabase): Promise<string> {
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
const withoutComment = (db: TestDatabase) =>
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

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  Plans?: PlanNode[];
}

/** How a query reads each table: the name of the index, or the kind of scan. */
async function scans(db: TestDatabase, sql: string): Promise<Record<string, string>> {
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
