import { pino } from 'pino';
import { describe, expect } from 'vitest';
import { Bigbrotr } from '../../../src/database/bigbrotr.ts';
import { signedEvent } from '../../fixtures/events.ts';
import { EVENTS, storeTest as test } from '../../fixtures/store-test.ts';
import {
  batchOf,
  closeGate,
  databaseConfig,
  knownRelay,
  verified,
} from '../../postgres/bigbrotr.ts';

describe('store() by several writers', () => {
  test('by eight writers of the same 3,000 ids: no deadlock, and the counts are exact', async ({
    database,
    bigbrotr,
    filterId,
    counts,
  }) => {
    const codes: string[] = [];
    const log = pino({ level: 'debug' }, { write: (line) => codes.push(JSON.parse(line).code) });
    const writers = await Bigbrotr.connect(databaseConfig(database, { maxPool: 8 }), log);
    // The gate lets all of them go at once, so that they meet: unsorted, some of them deadlock.
    const gate = await closeGate(database, 'events');
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

  test('two batches that bring the same sightings at once: both are stored, each sighting once', async ({
    database,
    other,
    store,
    counts,
  }) => {
    await store({ events: EVENTS });
    const gate = await closeGate(database, 'quarantine'); // after the sightings
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

  test('deleting a relay while a batch is being written leaves no sightings of it', async ({
    database,
    relay,
    store,
    counts,
  }) => {
    const gate = await closeGate(database, 'quarantine'); // after the sightings
    const odd = signedEvent({ created_at: 1, content: '\u0000' });
    const storing = store({ events: [...EVENTS, odd] });
    await gate.waiting(1);
    const deleting = database.query('delete from relays where relay_id = $1', [relay.relayId]);
    await gate.waiting(2);
    await gate.open();
    await Promise.all([storing, deleting]);
    expect(await counts()).toEqual({ events: 20, sightings: 0, quarantined: 0, orphans: 0 });
  });

  test('an orphan that is sighted again while orphans are deleted is kept', async ({
    database,
    store,
    counts,
  }) => {
    await store({ events: EVENTS });
    await database.query('delete from sightings');
    const gate = await closeGate(database, 'quarantine');
    const odd = signedEvent({ created_at: 1, content: '\u0000' });
    const storing = store({ known: EVENTS.slice(0, 5), events: [odd] });
    await gate.waiting(1);
    const deleting = database.query('select delete_orphan_events()::int as deleted');
    await gate.waiting(2);
    await gate.open();
    await storing;
    expect(await deleting).toEqual([{ deleted: 15 }]);
    expect(await counts()).toMatchObject({ events: 5, sightings: 5, orphans: 0 });
  });
});

function thirtyTags(seed: number): string[][] {
  return Array.from({ length: 30 }, (_, index) => ['t', `${seed} ${index}`]);
}
