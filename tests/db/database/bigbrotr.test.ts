import { describe, expect, onTestFinished } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { realOrSignedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import { EVENTS, storeTest } from '../../fixtures/store-test.ts';
import { batchOf, verified } from '../../postgres/bigbrotr.ts';

const test = storeTest
  /** What the archive holds, as events again. */
  .extend('archived', ({ database }) => async (): Promise<NostrEvent[]> => {
    const rows = await database.query<NostrEvent & { created_at: string }>(
      'select id, pubkey, created_at, kind, tags, content, sig from events_hex order by created_at desc, id',
    );
    return rows.map((row) => ({ ...row, created_at: Number(row.created_at) }));
  })
  /** Makes every row of the table fail for which the condition holds, until the test is over. */
  .extend('breakRows', ({ database }, { onCleanup }) => {
    onCleanup(async () => {
      await database.query('drop function if exists break_row cascade');
    });
    return async (table: string, condition: string, code: string): Promise<void> => {
      await database.query(
        `create function break_row() returns trigger language plpgsql as $$ begin
           if ${condition} then raise exception using errcode = '${code}', message = 'on purpose'; end if;
           return new;
         end $$`,
      );
      await database.query(
        `create trigger break_row before insert on ${table} for each row execute function break_row()`,
      );
    };
  });

const byId = (a: NostrEvent, b: NostrEvent) => (a.id < b.id ? -1 : 1);

describe('store()', () => {
  test('keeps events bit for bit: each verifies again', async ({
    bigbrotr,
    relay,
    filterId,
    archived,
  }) => {
    const events = realOrSignedEvents().slice(0, 400);
    const before = events.map((event) => verified(event));
    const stored = await bigbrotr.store({ ...batchOf({ relay, filterId }), events: before });
    const { events: kept, quarantined } = stored;
    expect(kept + quarantined).toBe(new Set(events.map(({ id }) => id)).size);
    const after = await archived();
    expect(after).toHaveLength(kept);
    const original = new Map(before.map((event) => [event.id, event]));
    for (const event of after) {
      expect(verified(event)).toEqual(original.get(event.id));
    }
  });

  test('is idempotent, in any order, and with two concurrent writers', async ({
    other,
    store,
    counts,
  }) => {
    const all = { events: EVENTS, proven: [{ since: 1000, until: 2000 }] };
    expect(await store(all)).toEqual({ events: 20, sightings: 20, quarantined: 0 });
    expect(await store(all)).toEqual({ events: 0, sightings: 0, quarantined: 0 });
    expect(await store({ ...all, events: EVENTS.toReversed() })).toMatchObject({ sightings: 0 });
    expect(await store({ known: EVENTS, relay: other })).toMatchObject({
      events: 0,
      sightings: 20,
    });
    const more = signedEvents(20, { from: 1000, to: 2000, seed: 5 });
    const both = await Promise.all([
      store({ events: more }),
      store({ events: more.toReversed(), relay: other }),
    ]);
    expect(both.map(({ events }) => events).sort((a, b) => a - b)).toEqual([0, 20]);
    expect(both.map(({ sightings }) => sightings)).toEqual([20, 20]);
    expect(await counts()).toEqual({ events: 40, sightings: 80, quarantined: 0, orphans: 0 });
  });

  test('keeps the time of the first sighting', async ({ database, store }) => {
    await store({ events: EVENTS, seenAt: 1_700_000_000 });
    await store({ known: EVENTS, seenAt: 1_800_000_000 });
    const seen = await database.query('select distinct seen_at::int from events_relays');
    expect(seen).toEqual([{ seen_at: 1_700_000_000 }]);
  });

  test('does nothing for an empty batch', async ({ store }) => {
    expect(await store()).toEqual({ events: 0, sightings: 0, quarantined: 0 });
  });

  test('quarantines what text and jsonb cannot hold, as bytes that verify again', async ({
    database,
    relay,
    other,
    store,
  }) => {
    const odd = [
      signedEvent({ created_at: 1, content: 'a\u0000b' }),
      signedEvent({ created_at: 2, content: 'half a \ud83e fox' }),
      signedEvent({ created_at: 3, tags: [['t', 'x\u0000']] }),
      signedEvent({ created_at: 4, tags: [['\udd8a', 'x']] }),
    ];
    const batch = { events: [...EVENTS, ...odd], proven: [{ since: 0, until: 2000 }] };
    expect(await store(batch)).toEqual({ events: 20, sightings: 20, quarantined: 4 });
    expect(await store(batch)).toEqual({ events: 0, sightings: 0, quarantined: 0 });
    expect(await store({ ...batch, relay: other })).toMatchObject({ quarantined: 4 });
    const rows = await database.query<{ raw: Buffer; reason: string; created_at: string }>(
      'select raw, reason, created_at from quarantine where relay_id = $1 order by created_at',
      [relay.relayId],
    );
    expect(rows.map(({ reason }) => reason)).toEqual([
      'nul',
      'lone_surrogate',
      'nul',
      'lone_surrogate',
    ]);
    expect(rows.map(({ raw }) => verified(JSON.parse(raw.toString('utf8'))))).toEqual(odd);
  });

  test('stores long values, many tags and large contents', async ({
    database,
    store,
    archived,
  }) => {
    const large = [
      signedEvent({ created_at: 1, tags: [['t', 'x'.repeat(3000)]] }),
      signedEvent({ created_at: 2, tags: [['t', 'ß'.repeat(50_000)]] }),
      signedEvent({ created_at: 3, content: '🦊'.repeat(250_000) }),
      signedEvent({
        created_at: 4,
        tags: Array.from({ length: 20_000 }, (_, index) => ['p', `${index}`.padStart(64, '0')]),
      }),
      signedEvent({
        created_at: 5,
        tags: [[], ['t'], ['t', ''], ['', 't'], ['e', 'NULL'], ['e', '{"\\}']],
      }),
      signedEvent({ created_at: 2 ** 39 - 1, kind: 65_535 }),
      signedEvent({ created_at: 0, kind: 0 }),
    ];
    expect(await store({ events: large })).toMatchObject({ events: 7, quarantined: 0 });
    expect((await archived()).sort(byId)).toEqual(large.map(verified).sort(byId));
    const found = await database.query('select created_at::int from events where tagvalues @> $1', [
      JSON.stringify(['e:NULL', 'e:{"\\}', 't:']),
    ]);
    expect(found).toEqual([{ created_at: 5 }]);
  });

  test.for(['22P02', '22021', '23514', '54000'])(
    'sets aside the row that breaks the batch (%s), and the rest commits with its proof',
    async (code, { database, store, archived, breakRows }) => {
      const [bad, ...good] = EVENTS as [NostrEvent, ...NostrEvent[]];
      await breakRows('events', `encode(new.id, 'hex') = '${bad.id}'`, code);
      const batch = { events: EVENTS, proven: [{ since: 1000, until: 2000 }] };
      expect(await store(batch)).toEqual({ events: 19, sightings: 19, quarantined: 1 });
      expect(await archived()).toEqual(good.map(verified));
      const [row] = await database.query<{ raw: Buffer; reason: string }>(
        'select * from quarantine',
      );
      expect(row?.reason).toBe(`sqlstate_${code}`);
      expect(verified(JSON.parse(String(row?.raw)))).toEqual(bad);
      expect(await database.query('select covered from coverage')).toEqual([
        { covered: '{[1000,2001)}' },
      ]);
      // When the obstacle is gone, so is the reason to keep it aside.
      await database.query('drop function break_row cascade');
      expect(await store(batch)).toMatchObject({ events: 1, sightings: 1, quarantined: 0 });
    },
  );

  test('stores a known event again that was deleted since', async ({ database, store, counts }) => {
    await store({ events: EVENTS });
    const half = EVENTS.slice(0, 10);
    await database.query(
      'select delete_events(array(select event_key from events where id = any ($1)))',
      [half.map(({ id }) => Buffer.from(id, 'hex'))],
    );
    expect(await counts()).toMatchObject({ events: 10, sightings: 10 });
    expect(await store({ known: EVENTS })).toEqual({ events: 10, sightings: 10, quarantined: 0 });
    expect(await counts()).toMatchObject({ events: 20, sightings: 20, orphans: 0 });
  });

  test('sends the bodies of a batch once, though another writer has stored some of its events', async ({
    database,
    other,
    store,
  }) => {
    await store({ events: EVENTS.slice(0, 3) });
    await database.query('create table bodies (n integer)');
    await database.query(
      `create function count_body() returns trigger language plpgsql as $$ begin
         insert into bodies values (1); return new; end $$`,
    );
    await database.query(
      'create trigger count_body before insert on events for each row execute function count_body()',
    );
    onTestFinished(async () => {
      await database.query('drop function count_body cascade');
      await database.query('drop table bodies');
    });
    expect(await store({ events: EVENTS, relay: other })).toMatchObject({
      events: 17,
      sightings: 20,
    });
    expect(await database.query('select from bodies')).toHaveLength(20);
  });

  test('finds known events by their keys, and by their ids if the keys are wrong', async ({
    database,
    bigbrotr,
    other,
    store,
    counts,
  }) => {
    await store({ events: EVENTS });
    const keys = new Map<string, string>();
    for (const [id, { key }] of await bigbrotr.archivedEvents(EVENTS)) keys.set(id, key);
    const known = EVENTS.slice(0, 10);
    const rest = { relay: other, events: [], sighted: known.slice(0, 3).map(({ id }) => id) };
    expect(await store({ known, keys, ...rest })).toMatchObject({ events: 0, sightings: 10 });
    // All of them are deleted, and half of them stored anew under another key.
    await database.query('select delete_events(array(select event_key from events))');
    await store({ events: EVENTS.slice(0, 5) });
    expect(await store({ known, keys, relay: other })).toMatchObject({ events: 5, sightings: 10 });
    expect(await counts()).toMatchObject({ events: 10, sightings: 15, orphans: 0 });
  });

  test('stores ids without a body as sightings, and fails for one that the archive does not hold', async ({
    database,
    other,
    store,
    counts,
  }) => {
    await store({ events: EVENTS.slice(0, 10) });
    const sighted = EVENTS.slice(0, 10).map(({ id }) => id);
    const both = { known: EVENTS.slice(0, 5), sighted, relay: other };
    expect(await store(both)).toEqual({ events: 0, sightings: 10, quarantined: 0 });
    const proven = [{ since: 0, until: 2000 }];
    await expect(store({ sighted: EVENTS.map(({ id }) => id), proven })).rejects.toThrow(/deleted/);
    expect(await counts()).toMatchObject({ events: 10, sightings: 20 });
    expect(await database.query('select from coverage')).toEqual([]);
  });

  test('stores two new events that draw the same key', async ({ database, store }) => {
    const same = (content: string) => signedEvent({ created_at: 1000, content });
    await store({ events: [same('a'), same('b')] });
    // The first event that is inserted now gets a key that is taken.
    await database.query('create sequence draws');
    await database.query(
      `create function draw_taken() returns trigger language plpgsql as $$ begin
         if nextval('draws') = 1 then new.event_key := (select min(event_key) from events); end if;
         return new;
       end $$`,
    );
    await database.query(
      'create trigger draw_taken before insert on events for each row execute function draw_taken()',
    );
    onTestFinished(async () => {
      await database.query('drop function draw_taken cascade');
      await database.query('drop sequence draws');
    });
    expect(await store({ events: [same('c'), same('d')] })).toMatchObject({ events: 2 });
    expect(await database.query('select last_value::int as draws from draws')).toEqual([
      { draws: 3 },
    ]);
    const keys = await database.query('select distinct event_key from events');
    expect(keys).toHaveLength(4);
  });

  test('never leaves sightings of a relay that was deleted', async ({
    database,
    bigbrotr,
    relay,
    filterId,
    store,
    counts,
  }) => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS.slice(0, 5) }));
    await database.query('delete from relays where relay_id = $1', [relay.relayId]);
    await expect(store({ events: EVENTS.slice(5, 10), known: EVENTS.slice(0, 5) })).rejects.toThrow(
      `${relay.url}, or events it holds, were deleted while it was visited`,
    );
    expect(await counts()).toMatchObject({ sightings: 0, orphans: 0 });
  });
});

describe('archivedEvents()', () => {
  test('returns key and signature of archived events, and nothing for others', async ({
    database,
    bigbrotr,
    store,
  }) => {
    await store({ events: EVENTS.slice(0, 3) });
    expect(await bigbrotr.archivedEvents([])).toEqual(new Map());
    const keys = await database.query<{ id: string; key: string }>(
      "select encode(id, 'hex') as id, event_key::text as key from events",
    );
    const keyOf = new Map(keys.map(({ id, key }) => [id, key]));
    const expected = EVENTS.slice(0, 3).map(
      ({ id, sig }) => [id, { sig, key: keyOf.get(id) }] as const,
    );
    expect(await bigbrotr.archivedEvents([...EVENTS, ...EVENTS])).toEqual(new Map(expected));
  });
});

describe('archivedIds()', () => {
  test('returns the archived ids, and none for an empty list', async ({ bigbrotr, store }) => {
    await store({ events: EVENTS.slice(0, 3) });
    const ids = EVENTS.map(({ id }) => id);
    expect(await bigbrotr.archivedIds([...ids, ...ids])).toEqual(
      new Map(
        EVENTS.slice(0, 3).map((event) => [
          event.id,
          { createdAt: event.created_at, key: expect.stringMatching(/^\d+$/) },
        ]),
      ),
    );
    expect(await bigbrotr.archivedIds([])).toEqual(new Map());
  });
});
