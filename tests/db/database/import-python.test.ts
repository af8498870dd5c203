import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { importPythonArchive } from '../../../src/database/import-python.ts';
import { PythonArchive } from '../../../src/database/python-archive.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { createVerifier } from '../../../src/nostr/verify.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { openBigbrotr } from '../../postgres/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../../postgres/database.ts';

/** The tables of release 6.6.9 that hold relays, events and sightings. */
const RELEASE_6_6_9 = `
  create table relay (url text primary key, network text not null, discovered_at bigint not null);
  create table event (
    id bytea not null primary key, pubkey bytea not null, created_at bigint not null, kind integer not null,
    tags jsonb, tagvalues text[] not null, content text, sig bytea
  ) partition by hash (id);
  create table event_p0 partition of event for values with (modulus 2, remainder 0);
  create table event_p1 partition of event for values with (modulus 2, remainder 1);
  create table event_relay (
    event_id bytea not null references event on delete cascade,
    relay_url text not null references relay on delete cascade,
    seen_at bigint not null, primary key (event_id, relay_url)
  ) partition by hash (event_id);
  create table event_relay_p0 partition of event_relay for values with (modulus 2, remainder 0);
  create table event_relay_p1 partition of event_relay for values with (modulus 2, remainder 1)`;
/** The names before it. */
const RELEASES_BEFORE = RELEASE_6_6_9.replaceAll(/\bevent_relay(\w*)/g, 'events_relays$1')
  .replaceAll(/\bevent\b/g, 'events')
  .replaceAll(/\brelay\b/g, 'relays')
  .replace('discovered_at', 'inserted_at');

const ONE = 'wss://one.example.com';
const TWO = 'wss://two.example.com';
const EVENTS = signedEvents(700, { from: 1_600_000_000, to: 1_700_000_000 });
const verifier = await createVerifier();
const seenAt = (index: number) => 1_650_000_000 + index;

let python: TestDatabase;
let made: TestDatabase;
let bigbrotr: Bigbrotr;

beforeAll(async () => {
  python = await testDatabase();
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterAll(async () => {
  await bigbrotr.close();
  await Promise.all([made.drop(), python.drop()]);
});
beforeEach(async () => {
  await python.query('drop schema public cascade');
  await python.query('create schema public');
  await made.query('truncate relays, filters, events, sightings restart identity cascade');
});

async function fill(
  [relays, events, sightings]: readonly [string, string, string],
  url: string,
  list: readonly NostrEvent[],
) {
  await python.query(`insert into ${relays} values ($1, 'clearnet', 1600000000)`, [url]);
  await python.query(
    `insert into ${events}
     select decode(e ->> 'id', 'hex'), decode(e ->> 'pubkey', 'hex'), (e ->> 'created_at')::bigint, (e ->> 'kind')::int,
            e -> 'tags', '{}', e ->> 'content', decode(e ->> 'sig', 'hex')
     from jsonb_array_elements($1) e on conflict do nothing`,
    [JSON.stringify(list)],
  );
  await python.query(
    `insert into ${sightings}
     select decode(id, 'hex'), $1, 1650000000 + place - 1 from unnest($2::text[]) with ordinality as t (id, place)`,
    [url, list.map(({ id }) => id)],
  );
}

async function run() {
  const { host, port, user, password, database } = python.config;
  const source = await PythonArchive.open(
    `postgresql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`,
  );
  try {
    return await importPythonArchive(source, bigbrotr, verifier);
  } finally {
    await source.close();
  }
}

const sightings = () =>
  made.query<{ url: string; n: number; first: number; last: number }>(
    `select relay_url as url, count(*)::int as n, min(seen_at)::int as first, max(seen_at)::int as last
     from events_relays group by 1 order by 1`,
  );

describe.each([
  ['release 6.6.9', RELEASE_6_6_9, ['relay', 'event', 'event_relay']],
  ['releases before it', RELEASES_BEFORE, ['relays', 'events', 'events_relays']],
] as const)('importPythonArchive of %s', (_name, schema, tables) => {
  beforeEach(async () => {
    await python.query(schema);
  });

  test('copies relays, events and sightings with their times, and changes nothing when repeated', async () => {
    await fill(tables, ONE, EVENTS);
    await fill(tables, TWO, EVENTS.slice(0, 100));
    const nothing = { quarantined: 0, refusedRelays: 0, refused: {} };
    expect(await run()).toEqual({ relays: 2, events: 700, sightings: 800, ...nothing });
    const expected = [
      { url: ONE, n: 700, first: seenAt(0), last: seenAt(699) },
      { url: TWO, n: 100, first: seenAt(0), last: seenAt(99) },
    ];
    expect(await sightings()).toEqual(expected);
    expect(await made.query('select distinct inserted_at::int as at from relays')).toEqual([
      { at: 1_600_000_000 },
    ]);
    expect(
      await made.query(`select encode(id, 'hex') as id, content, tags from events order by id`),
    ).toEqual(
      [...EVENTS]
        .sort((a, b) => (a.id < b.id ? -1 : 1))
        .map(({ id, content, tags }) => ({ id, content, tags })),
    );
    expect(await run()).toEqual({ relays: 0, events: 0, sightings: 0, ...nothing });
    expect(await sightings()).toEqual(expected);
    expect(await made.query('select count(*)::int as n from coverage')).toEqual([{ n: 0 }]);
  });

  test('refuses events that would be refused from a relay, and incomplete ones', async () => {
    const [good, forged, renamed, light] = EVENTS as [
      NostrEvent,
      NostrEvent,
      NostrEvent,
      NostrEvent,
    ];
    const bad = [
      { ...forged, sig: good.sig },
      { ...renamed, content: 'another' },
    ];
    await fill(tables, ONE, [good, ...bad, light]);
    await fill(tables, 'no relay at all', [good]);
    await python.query(
      `update ${tables[1]} set content = null, sig = null, tags = null where id = decode($1, 'hex')`,
      [light.id],
    );
    const figures = await run();
    expect(figures).toMatchObject({ relays: 1, events: 1, sightings: 1, refusedRelays: 1 });
    expect(figures.refused).toEqual({ bad_signature: 1, id_mismatch: 1, tags: 1 });
    expect(await sightings()).toMatchObject([{ url: ONE, n: 1 }]);
  });

  test('keeps existing rows, with the earlier time of a sighting', async () => {
    const [early, late] = [EVENTS[0], EVENTS[1]] as [NostrEvent, NostrEvent];
    const [relay] = await bigbrotr.relaysOf([{ url: ONE, network: 'clearnet' } as never]);
    if (!relay) throw new Error('no relay');
    const filterId = await bigbrotr.filterId({});
    const empty = { known: [], sighted: [], proven: [], holes: [], evidence: 'paging' } as const;
    for (const [event, at] of [
      [early, 1_640_000_000],
      [late, 1_690_000_000],
    ] as const)
      await bigbrotr.store({ relay, filterId, events: [event as never], seenAt: at, ...empty });
    await fill(tables, ONE, [early, late]);
    expect(await run()).toMatchObject({ relays: 0, events: 0, sightings: 0 });
    expect(await sightings()).toEqual([{ url: ONE, n: 2, first: 1_640_000_000, last: seenAt(1) }]);
  });
});

test('a database without a Python archive is refused with one sentence, an archive of this project too', async () => {
  await expect(run()).rejects.toThrow(/holds no archive of Bigbrotr for Python/);
  const { host, port, user, password, database } = made.config;
  const own = `postgresql://${user}:${encodeURIComponent(password)}@${host}:${port}/${database}`;
  await expect(PythonArchive.open(own)).rejects.toThrow(/holds no archive of Bigbrotr for Python/);
  await expect(PythonArchive.open('postgresql://nobody@127.0.0.1:9/none')).rejects.toThrow(
    /The Python archive cannot be read: .*ECONNREFUSED/,
  );
});
