import fc from 'fast-check';
import { pino } from 'pino';
import {
  afterAll,
  afterEach,
  beforeAll,
  beforeEach,
  describe,
  expect,
  onTestFinished,
  test,
} from 'vitest';
import { Bigbrotr, type Relay, tagValues } from '../../src/bigbrotr.ts';
import type { NostrEvent } from '../../src/nostr/event.ts';
import {
  batchOf,
  closeGate,
  databaseConfig,
  knownRelay,
  openBigbrotr,
  verified,
} from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { realOrSignedEvents, signedEvent, signedEvents } from '../support/events.ts';

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
  await made.query(
    'truncate relays, filters, events, sightings, nip11, nip66 restart identity cascade',
  );
  relay = await knownRelay(bigbrotr, 'one');
  other = await knownRelay(bigbrotr, 'two');
  filterId = await bigbrotr.filterId({});
});

const EVENTS = signedEvents(20, { from: 1000, to: 2000 });
const store = (parts: Partial<Parameters<typeof batchOf>[0]> = {}, into = bigbrotr) =>
  into.store(batchOf({ relay, filterId, ...parts }));

async function counts() {
  const [row] = await made.query<Record<string, number>>(
    `select (select count(*) from events)::int as events, (select count(*) from sightings)::int as sightings,
            (select count(*) from quarantine)::int as quarantined, count_orphan_sightings()::int as orphans`,
  );
  return row;
}

/** What the archive holds, as events again. */
async function archived(): Promise<NostrEvent[]> {
  const rows = await made.query<NostrEvent & { created_at: string }>(
    'select id, pubkey, created_at, kind, tags, content, sig from events_hex order by created_at desc, id',
  );
  return rows.map((row) => ({ ...row, created_at: Number(row.created_at) }));
}

/** Makes every row of the table fail for which the condition holds, until the test is over. */
async function breakRows(table: string, condition: string, code: string): Promise<void> {
  await made.query(
    `create function break_row() returns trigger language plpgsql as $$ begin
       if ${condition} then raise exception using errcode = '${code}', message = 'on purpose'; end if;
       return new;
     end $$`,
  );
  await made.query(
    `create trigger break_row before insert on ${table} for each row execute function break_row()`,
  );
}
afterEach(() => made.query('drop function if exists break_row cascade'));

const byId = (a: NostrEvent, b: NostrEvent) => (a.id < b.id ? -1 : 1);

describe('store()', () => {
  test('keeps events bit for bit: each verifies again', async () => {
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

  test('twice is as once, in any order, and by two writers at a time', async () => {
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

  test('by eight writers of the same 3,000 ids: no deadlock, and the counts are exact', async () => {
    const codes: string[] = [];
    const log = pino({ level: 'debug' }, { write: (line) => codes.push(JSON.parse(line).code) });
    const writers = await Bigbrotr.connect(databaseConfig(made, { maxPool: 8 }), log);
    // The gate lets all of them go at once, so that they meet: unsorted, some of them deadlock.
    const gate = await closeGate(made, 'events');
    const events = Array.from({ length: 3000 }, (_, index) =>
      verified(signedEvent({ created_at: 1000 + index, tags: thirtyTags(index) })),
    );
    const relays = await Promise.all(
      Array.from({ length: 8 }, (_, index) => knownRelay(bigbrotr, `writer-${index % 4}`)),
    );
    const storing = Promise.all(
      relays.map((at, index) =>
        writers.store({
          ...batchOf({ relay: at, filterId }),
          events: index % 2 === 0 ? events : events.toReversed(),
        }),
      ),
    );
    await gate.waiting(8);
    await gate.open();
    const results = await storing;
    await writers.close();
    const sum = (what: 'events' | 'sightings') =>
      results.reduce((total, result) => total + result[what], 0);
    expect({ events: sum('events'), sightings: sum('sightings') }).toEqual({
      events: 3000,
      sightings: 12_000,
    });
    expect(await counts()).toMatchObject({ events: 3000, sightings: 12_000 });
    expect(codes.filter((code) => code === '40P01')).toEqual([]);
  });

  test('keeps the time of the first sighting', async () => {
    await store({ events: EVENTS, seenAt: 1_700_000_000 });
    await store({ known: EVENTS, seenAt: 1_800_000_000 });
    const seen = await made.query('select distinct seen_at::int from events_relays');
    expect(seen).toEqual([{ seen_at: 1_700_000_000 }]);
  });

  test('of nothing does nothing', async () => {
    expect(await store()).toEqual({ events: 0, sightings: 0, quarantined: 0 });
  });

  test('sets aside what text and jsonb cannot hold, as bytes that verify again', async () => {
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
    const rows = await made.query<{ raw: Buffer; reason: string; created_at: string }>(
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

  test('takes long values, many tags and large contents', async () => {
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
    const found = await made.query('select created_at::int from events where tagvalues @> $1', [
      JSON.stringify(['e:NULL', 'e:{"\\}', 't:']),
    ]);
    expect(found).toEqual([{ created_at: 5 }]);
  });

  test.each(['22P02', '22021', '23514', '54000'])(
    'sets aside the row that breaks the batch (%s), and the rest commits with its proof',
    async (code) => {
      const [bad, ...good] = EVENTS as [NostrEvent, ...NostrEvent[]];
      await breakRows('events', `encode(new.id, 'hex') = '${bad.id}'`, code);
      const batch = { events: EVENTS, proven: [{ since: 1000, until: 2000 }] };
      expect(await store(batch)).toEqual({ events: 19, sightings: 19, quarantined: 1 });
      expect(await archived()).toEqual(good.map(verified));
      const [row] = await made.query<{ raw: Buffer; reason: string }>('select * from quarantine');
      expect(row?.reason).toBe(`sqlstate_${code}`);
      expect(verified(JSON.parse(String(row?.raw)))).toEqual(bad);
      expect(await made.query('select covered from coverage')).toEqual([
        { covered: '{[1000,2001)}' },
      ]);
      // When the obstacle is gone, so is the reason to keep it aside.
      await made.query('drop function break_row cascade');
      expect(await store(batch)).toMatchObject({ events: 1, sightings: 1, quarantined: 0 });
    },
  );

  test('stores what was known and has been deleted since', async () => {
    await store({ events: EVENTS });
    const half = EVENTS.slice(0, 10);
    await made.query('delete from events where id = any ($1)', [
      half.map(({ id }) => Buffer.from(id, 'hex')),
    ]);
    expect(await counts()).toMatchObject({ events: 10, sightings: 10 });
    expect(await store({ known: EVENTS })).toEqual({ events: 10, sightings: 10, quarantined: 0 });
    expect(await counts()).toMatchObject({ events: 20, sightings: 20, orphans: 0 });
  });

  test('sends the bodies of a batch once, though some of its events have come another way', async () => {
    await store({ events: EVENTS.slice(0, 3) });
    await made.query('create table bodies (n integer)');
    await made.query(
      `create function count_body() returns trigger language plpgsql as $$ begin
         insert into bodies values (1); return new; end $$`,
    );
    await made.query(
      'create trigger count_body before insert on events for each row execute function count_body()',
    );
    onTestFinished(async () => {
      await made.query('drop function count_body cascade');
      await made.query('drop table bodies');
    });
    expect(await store({ events: EVENTS, relay: other })).toMatchObject({
      events: 17,
      sightings: 20,
    });
    expect(await made.query('select from bodies')).toHaveLength(20);
  });

  test('takes known events by the keys under which they were found, and by their ids where those are wrong', async () => {
    await store({ events: EVENTS });
    const keys = new Map<string, string>();
    for (const [id, { key }] of await bigbrotr.archivedEvents(EVENTS)) keys.set(id, key);
    const known = EVENTS.slice(0, 10);
    const rest = { relay: other, events: [], sighted: known.slice(0, 3).map(({ id }) => id) };
    expect(await store({ known, keys, ...rest })).toMatchObject({ events: 0, sightings: 10 });
    // All of them are deleted, and half of them stored anew under another key.
    await made.query('delete from events');
    await store({ events: EVENTS.slice(0, 5) });
    expect(await store({ known, keys, relay: other })).toMatchObject({ events: 5, sightings: 10 });
    expect(await counts()).toMatchObject({ events: 10, sightings: 15, orphans: 0 });
  });

  test('takes ids alone as sightings, and fails for one that the archive does not hold', async () => {
    await store({ events: EVENTS.slice(0, 10) });
    const sighted = EVENTS.slice(0, 10).map(({ id }) => id);
    const both = { known: EVENTS.slice(0, 5), sighted, relay: other };
    expect(await store(both)).toEqual({ events: 0, sightings: 10, quarantined: 0 });
    const proven = [{ since: 0, until: 2000 }];
    await expect(store({ sighted: EVENTS.map(({ id }) => id), proven })).rejects.toThrow(/deleted/);
    expect(await counts()).toMatchObject({ events: 10, sightings: 20 });
    expect(await made.query('select from coverage')).toEqual([]);
  });

  test('two new events that draw the same key are stored all the same', async () => {
    const same = (content: string) => signedEvent({ created_at: 1000, content });
    await store({ events: [same('a'), same('b')] });
    await made.query("select setval('event_key_sequence', 1, false)");
    await made.query(
      'update events set event_key = event_key_floor(1000) + n from (select id, row_number() over () as n from events) t where t.id = events.id',
    );
    expect(await store({ events: [same('c'), same('d')] })).toMatchObject({ events: 2 });
    const keys = await made.query('select distinct event_key from events');
    expect(keys).toHaveLength(4);
  });

  test('two batches that bring the same sightings at once: both are stored, each sighting once', async () => {
    await store({ events: EVENTS });
    const gate = await closeGate(made, 'quarantine'); // after the sightings
    const odd = signedEvent({ created_at: 1, content: '\u0000' });
    const first = store({ relay: other, events: [odd], known: EVENTS });
    await gate.waiting(1);
    const second = store({ relay: other, known: EVENTS.slice(5) });
    await gate.waiting(2);
    await gate.open();
    expect((await first).sightings).toBe(20);
    expect((await second).sightings).toBe(0);
    expect(await counts()).toEqual({ events: 20, sightings: 40, quarantined: 1, orphans: 0 });
  });

  test('never leaves sightings of a relay that was deleted', async () => {
    await bigbrotr.store(batchOf({ relay, filterId, events: EVENTS.slice(0, 5) }));
    await made.query('delete from relays where relay_id = $1', [relay.relayId]);
    await expect(store({ events: EVENTS.slice(5, 10), known: EVENTS.slice(0, 5) })).rejects.toThrow(
      `${relay.url}, or events it holds, were deleted while it was visited`,
    );
    expect(await counts()).toMatchObject({ sightings: 0, orphans: 0 });
  });

  test('a relay that is deleted while a batch is being written takes its sightings along', async () => {
    const gate = await closeGate(made, 'quarantine'); // after the sightings
    const odd = signedEvent({ created_at: 1, content: '\u0000' });
    const storing = store({ events: [...EVENTS, odd] });
    await gate.waiting(1);
    const deleting = made.query('delete from relays where relay_id = $1', [relay.relayId]);
    await gate.waiting(2);
    await gate.open();
    await Promise.all([storing, deleting]);
    expect(await counts()).toEqual({ events: 20, sightings: 0, quarantined: 0, orphans: 0 });
  });

  test('an orphan that is sighted again while orphans are deleted is kept', async () => {
    await store({ events: EVENTS });
    await made.query('delete from sightings');
    const gate = await closeGate(made, 'quarantine');
    const odd = signedEvent({ created_at: 1, content: '\u0000' });
    const storing = store({ known: EVENTS.slice(0, 5), events: [odd] });
    await gate.waiting(1);
    const deleting = made.query('select delete_orphan_events()::int as deleted');
    await gate.waiting(2);
    await gate.open();
    await storing;
    expect(await deleting).toEqual([{ deleted: 15 }]);
    expect(await counts()).toMatchObject({ events: 5, sightings: 5, orphans: 0 });
  });
});

describe('archivedEvents()', () => {
  test('gives key and signature of what is held, and nothing for the rest', async () => {
    await store({ events: EVENTS.slice(0, 3) });
    expect(await bigbrotr.archivedEvents([])).toEqual(new Map());
    const keys = await made.query<{ id: string; key: string }>(
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
  test('gives those that are held, and nothing of nothing', async () => {
    await store({ events: EVENTS.slice(0, 3) });
    const ids = EVENTS.map(({ id }) => id);
    expect(await bigbrotr.archivedIds([...ids, ...ids])).toEqual(
      new Map(EVENTS.slice(0, 3).map((event) => [event.id, event.created_at])),
    );
    expect(await bigbrotr.archivedIds([])).toEqual(new Map());
  });
});

describe('tagValues()', () => {
  test('takes names of one letter with a value of at most 255 bytes', () => {
    const tags = [
      ['t', 'x'],
      ['t', 'x', 'again'],
      ['T', 'x'],
      ['tt', 'x'],
      ['1', 'x'],
      ['ä', 'x'],
      ['t\n', 'x'],
      ['t'],
      [],
      ['e', ''],
      ['p', 'ß'.repeat(127)],
      ['p', 'ß'.repeat(128)],
    ];
    expect(tagValues({ tags })).toEqual(['t:x', 'T:x', 'e:', `p:${'ß'.repeat(127)}`]);
  });

  test('fast-check: the same as event_tagvalues() of init.sql, in memory and as stored', async () => {
    const letter = fc.constantFrom('e', 'p', 'T', 'z', 'é', '1', 'ab', '', 'a\n', ' ');
    const text = fc.oneof(
      fc.string({ unit: 'grapheme', maxLength: 20 }),
      fc.string({ unit: fc.constantFrom('"', '\\', '{', '}', ',', "'", ' ', '\n', 'NULL') }),
      fc.integer({ min: 250, max: 258 }).map((length) => 'x'.repeat(length)),
      fc.integer({ min: 83, max: 87 }).map((length) => '語'.repeat(length)),
    );
    const tag = fc
      .tuple(letter, text, fc.array(text, { maxLength: 2 }))
      .map(([a, b, c]) => [a, b, ...c]);
    const lists = fc.array(
      fc.array(
        fc.oneof(
          tag,
          fc.constant([] as string[]),
          letter.map((a) => [a]),
        ),
      ),
      {
        minLength: 20,
        maxLength: 20,
      },
    );
    await fc.assert(
      fc.asyncProperty(lists, async (all) => {
        await made.query('truncate events, sightings');
        const events = all.map((tags, index) => signedEvent({ created_at: index, tags }));
        const usable = events.filter(({ tags }) => !/\0/.test(JSON.stringify(tags)));
        await store({ events: usable });
        const rows = await made.query<{ at: number; stored: string[]; computed: string[] }>(
          'select created_at::int as at, tagvalues as stored, event_tagvalues(tags) as computed from events',
        );
        expect(rows).toHaveLength(usable.length);
        for (const { at, stored, computed } of rows) {
          expect([...stored].sort()).toEqual([...computed].sort());
          expect(stored).toEqual(tagValues({ tags: all[at] ?? [] }));
        }
      }),
      { numRuns: 25 },
    );
  });
});

function thirtyTags(seed: number): string[][] {
  return Array.from({ length: 30 }, (_, index) => ['t', `${seed} ${index}`]);
}
