import { describe, expect, vi } from 'vitest';
import type { Batch, Bigbrotr, Stored } from '../../../src/database/bigbrotr.ts';
import { type IdentifiedEvent, type NostrEvent, parseEvent } from '../../../src/nostr/event.ts';
import { createVerifier, type Verifier } from '../../../src/nostr/verify.ts';
import { BatchWriter, type BatchWriterOptions } from '../../../src/sync/batch-writer.ts';
import { OffenceTally } from '../../../src/sync/offence-tally.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import { forge, signedEvent, signedEvents } from '../../fixtures/events.ts';
import { verified } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';

const verifier = await createVerifier();

const test = archiveTest
  /** A writer into the archive whose steps can be seen, and stand in the way of. */
  .extend(
    'open',
    ({ bigbrotr, relay, filterId }) =>
      (options: Partial<BatchWriterOptions> & { store?: Store } = {}): Written => {
        const { store = (batch) => bigbrotr.store(batch), ...rest } = options;
        const written = { batches: [], stored: [], invalid: [], checked: [] } as Omit<
          Written,
          'writer'
        >;
        const seen = {
          archivedEvents: (events: readonly IdentifiedEvent[]) => bigbrotr.archivedEvents(events),
          store: (batch: Batch) => {
            written.batches.push(batch);
            return store(batch, written.batches.length);
          },
        } as Bigbrotr;
        const counting: Verifier = {
          ...verifier,
          verify: (event) => {
            written.checked.push(event.id);
            return verifier.verify(event);
          },
        };
        const writer = new BatchWriter({
          bigbrotr: seen,
          verifier: counting,
          relay,
          filterId,
          batchSize: 10,
          recent: new RecentEvents(),
          offences: new OffenceTally(),
          onStored: (stored) => written.stored.push(stored),
          onInvalid: (reason) => written.invalid.push(reason),
          now: () => 1_700_000_000,
          ...rest,
        });
        return { ...written, writer };
      },
  )
  .extend(
    'covered',
    ({ database }) =>
      async () =>
        (await database.query<{ covered: string }>('select covered from coverage')).map(
          (row) => row.covered,
        ),
  )
  .extend(
    'archivedIds',
    ({ database }) =>
      async () =>
        (await database.query<{ id: string }>('select id from events_hex order by id')).map(
          ({ id }) => id,
        ),
  );

const EVENTS = signedEvents(25, { from: 1000, to: 2000 });
const identified = (event: NostrEvent): IdentifiedEvent => {
  const parsed = parseEvent(event);
  if (!parsed.ok) throw new Error(`not a well-formed event: ${parsed.reason}`);
  return parsed.event;
};
const proof = (since: number, until: number) => ({
  proven: [{ since, until }],
  holes: [],
  evidence: 'paging' as const,
});

interface Written {
  readonly writer: BatchWriter;
  /** Batches as they were given to the database, in that order. */
  readonly batches: Batch[];
  readonly stored: Stored[];
  readonly invalid: string[];
  /** Ids whose signature was checked. */
  readonly checked: string[];
}

type Store = (batch: Batch, number: number) => Promise<Stored>;

/** A store that holds up every batch until `release` is called. */
function heldStore(bigbrotr: Bigbrotr) {
  let release: () => void = () => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const store: Store = async (batch) => {
    await released;
    return bigbrotr.store(batch);
  };
  return { store, release: () => release() };
}

/** Adds events one after the other. @returns its end, and how many the writer has taken so far */
function adding(writer: BatchWriter, events: readonly NostrEvent[]) {
  let count = 0;
  const end = (async () => {
    for (const event of events) {
      await writer.add(identified(event));
      count += 1;
    }
  })();
  return { end, count: () => count };
}

async function addAll(writer: BatchWriter, events: readonly NostrEvent[]): Promise<void> {
  for (const event of events) await writer.add(identified(event));
}

const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

describe('batches', () => {
  test('are stored when full, in the order given; coverage of a page is written with its last batch', async ({
    open,
    archivedIds,
    covered,
  }) => {
    const { writer, batches, stored } = open();
    await addAll(writer, EVENTS);
    await writer.endPage(proof(1000, 2000));
    await writer.flush();
    expect(batches.map(({ events }) => events.length)).toEqual([10, 10, 5]);
    expect(batches.flatMap(({ events }) => idsOf(events)).sort()).toEqual(idsOf(EVENTS));
    expect(batches.map(({ proven }) => proven.length)).toEqual([0, 0, 1]);
    expect(stored.map(({ events }) => events)).toEqual([10, 10, 5]);
    expect(await archivedIds()).toEqual(idsOf(EVENTS));
    expect(await covered()).toEqual(['{[1000,2001)}']);
  });

  test('of a page that proves something and holds nothing new are stored for the proof', async ({
    open,
    covered,
  }) => {
    const { writer, batches } = open();
    await writer.endPage({ proven: [], holes: [], evidence: 'paging' });
    await writer.flush();
    expect(batches).toEqual([]);
    await writer.endPage(proof(5, 9));
    await writer.endPage({
      proven: [],
      holes: [{ since: 3, until: 3, reason: 'dense', count: 9 }],
      evidence: 'paging',
    });
    await writer.flush();
    expect(batches).toHaveLength(2);
    expect(await covered()).toEqual(['{[5,10)}']);
  });

  test('are full by size too', async ({ open }) => {
    const large = Array.from({ length: 6 }, (_, index) =>
      signedEvent({ created_at: index, content: 'x'.repeat(1024 * 1024) }),
    );
    const { writer, batches } = open();
    await addAll(writer, large);
    await writer.flush();
    expect(batches.map(({ events }) => events.length)).toEqual([2, 2, 2]);
    const tags = [Array.from({ length: 100_000 }, () => 'x'.repeat(30))];
    const tagged = Array.from({ length: 3 }, (_, index) =>
      signedEvent({ created_at: index, tags }),
    );
    await addAll(writer, tagged);
    await vi.waitFor(() => expect(batches).toHaveLength(6)); // full before its tenth event
    await writer.flush();
  });

  test('in flight are limited: a full pipeline causes back-pressure', async ({
    open,
    bigbrotr,
    archivedIds,
  }) => {
    const { store, release } = heldStore(bigbrotr);
    const { writer, batches } = open({ batchSize: 1, store });
    const added = adding(writer, EVENTS.slice(0, 8));
    await vi.waitFor(() => expect(batches).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(batches).toHaveLength(1); // the second is not begun before the first is stored
    expect(added.count()).toBe(3); // two are on their way, and one is kept for what its page proves
    release();
    await added.end;
    await writer.flush();
    expect(await archivedIds()).toHaveLength(8);
  });

  test('in flight are limited by size too: two of three megabytes are too many', async ({
    open,
    bigbrotr,
    archivedIds,
  }) => {
    const { store, release } = heldStore(bigbrotr);
    const { writer } = open({ store });
    const huge = Array.from({ length: 2 }, (_, index) =>
      signedEvent({ created_at: index, content: 'x'.repeat(3 * 1024 * 1024) }),
    );
    const added = adding(writer, huge);
    await vi.waitFor(() => expect(added.count()).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(added.count()).toBe(1);
    release();
    await added.end;
    await writer.flush();
    expect(await archivedIds()).toHaveLength(2);
  });

  test('of ids alone are stored as sightings', async ({ open, other, database, bigbrotr }) => {
    const { writer: first } = open();
    await addAll(first, EVENTS);
    await first.flush();
    const { writer, batches, stored } = open({ relay: other });
    for (const [id, { key }] of await bigbrotr.archivedIds(idsOf(EVENTS)))
      await writer.addSighted(id, key);
    await writer.endPage({ ...proof(1000, 2000), evidence: 'nip77' });
    await writer.flush();
    expect(batches.map(({ sighted }) => sighted.length)).toEqual([10, 10, 5]);
    expect(stored.map(({ sightings }) => sightings)).toEqual([10, 10, 5]);
    expect(await database.query('select evidence from coverage')).toEqual([{ evidence: 'nip77' }]);
  });
});

describe('signatures', () => {
  test('of events that the archive holds are not checked again, and the sighting is kept', async ({
    open,
    other,
  }) => {
    const first = open();
    await addAll(first.writer, EVENTS.slice(0, 10));
    await first.writer.flush();
    expect(first.checked.sort()).toEqual(idsOf(EVENTS.slice(0, 10)));
    const { writer, checked, batches, stored } = open({ relay: other });
    await addAll(writer, EVENTS.slice(5, 15));
    await writer.flush();
    expect(checked.sort()).toEqual(idsOf(EVENTS.slice(10, 15)));
    expect(batches.map(({ events, known }) => [events.length, known.length])).toEqual([[5, 5]]);
    expect(stored).toEqual([{ events: 5, sightings: 10, quarantined: 0 }]);
  });

  test('that are invalid exclude the event, and are counted', async ({ open, archivedIds }) => {
    const [good, bad] = [EVENTS.slice(0, 4), EVENTS.slice(4, 8)];
    const { writer, invalid } = open();
    await addAll(writer, [...good, ...bad.map((event) => forge(event, 'signature'))]);
    await writer.endPage(proof(1000, 2000));
    await writer.flush();
    expect(invalid).toEqual(Array(4).fill('bad_signature'));
    expect(await archivedIds()).toEqual(idsOf(good));
  });

  test('of a forged copy do not exclude the valid event, whichever comes first', async ({
    open,
    archivedIds,
  }) => {
    const [first, second] = EVENTS as [NostrEvent, NostrEvent];
    const { writer, invalid } = open();
    await addAll(writer, [first, forge(first, 'signature'), forge(second, 'signature'), second]);
    await writer.flush();
    expect(await archivedIds()).toEqual(idsOf([first, second]));
    expect(invalid).toEqual(['bad_signature', 'bad_signature']);
  });

  test('of a forged copy of what the archive holds make no sighting', async ({
    open,
    other,
    database,
  }) => {
    const [event] = EVENTS as [NostrEvent];
    const first = open();
    await addAll(first.writer, [event]);
    await first.writer.flush();
    const { writer, invalid, stored } = open({ relay: other });
    await addAll(writer, [forge(event, 'signature')]);
    await writer.flush();
    expect(invalid).toEqual(['bad_signature']);
    expect(stored.map(({ sightings }) => sightings)).toEqual([0]);
    const [row] = await database.query<{ sig: string }>('select sig from events_hex');
    expect(row?.sig).toBe(event.sig);
  });

  test('are checked in slices, so that the event loop is not blocked', async ({ open }) => {
    const slow: Verifier = {
      ...verifier,
      verify: (event) => {
        const until = performance.now() + 2;
        while (performance.now() < until); // as long as a signature in JavaScript takes
        return verified(event);
      },
    };
    const { writer } = open({ verifier: slow, batchSize: 25 });
    let turns = 0;
    let counting = true;
    const count = () => {
      turns += 1;
      if (counting) setImmediate(count);
    };
    await addAll(writer, EVENTS.slice(0, 24));
    setImmediate(count);
    await writer.flush();
    counting = false;
    expect(turns).toBeGreaterThan(8);
  });
});

test('events that were deleted since another visit stored them are stored again, and their keys forgotten', async ({
  open,
  other,
  database,
  archivedIds,
}) => {
  const recent = new RecentEvents();
  const ten = EVENTS.slice(0, 10);
  const first = open({ recent });
  await addAll(first.writer, ten);
  await first.writer.flush();
  await database.query('select delete_events(array(select event_key from events))');
  const { writer, batches, checked, stored } = open({ recent, relay: other });
  await addAll(writer, ten);
  await writer.flush();
  expect(checked).toEqual([]);
  expect(batches.map(({ known }) => known.length)).toEqual([10]);
  expect(stored).toEqual([{ events: 10, sightings: 10, quarantined: 0 }]);
  expect(await archivedIds()).toEqual(idsOf(ten));
  for (const event of ten) expect(recent.find(identified(event)).key).toBeNull();
});

describe('a batch that fails', () => {
  test('fails all that follow: coverage never runs ahead of what is stored', async ({
    open,
    bigbrotr,
    archivedIds,
    covered,
  }) => {
    const { writer, batches } = open({
      store: (batch, number) =>
        number === 2 ? Promise.reject(new Error('disk full')) : bigbrotr.store(batch),
    });
    const writing = (async () => {
      await addAll(writer, EVENTS);
      await writer.endPage(proof(1000, 2000));
      await writer.flush();
    })();
    await expect(writing).rejects.toThrow('disk full');
    await expect(writer.flush()).rejects.toThrow('disk full');
    expect(batches.length).toBe(2); // the third was never given to the database
    expect(await archivedIds()).toHaveLength(10);
    expect(await covered()).toEqual([]);
  });

  test('while it is prepared has the same effect as one that cannot be stored', async ({
    open,
  }) => {
    const broken: Verifier = {
      ...verifier,
      verify: () => {
        throw new Error('out of memory');
      },
    };
    const { writer, batches } = open({ verifier: broken });
    await addAll(writer, EVENTS.slice(0, 5));
    await writer.endPage(proof(1000, 2000));
    await expect(writer.flush()).rejects.toThrow('out of memory');
    expect(batches).toEqual([]);
  });
});
