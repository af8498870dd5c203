import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Batch, Bigbrotr, Relay, Stored } from '../../src/bigbrotr.ts';
import { type IdentifiedEvent, type NostrEvent, parseEvent } from '../../src/nostr/event.ts';
import { createVerifier, type Verifier } from '../../src/nostr/verify.ts';
import { BatchWriter, type BatchWriterOptions } from '../../src/visit/batch-writer.ts';
import { OffenceTally } from '../../src/visit/offence-tally.ts';
import { knownRelay, openBigbrotr, verified } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { forge, signedEvent, signedEvents } from '../support/events.ts';

let made: TestDatabase;
let bigbrotr: Bigbrotr;
let relay: Relay;
let filterId: number;
const verifier = await createVerifier();

beforeAll(async () => {
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterAll(async () => {
  await bigbrotr.close();
  await made.drop();
});
beforeEach(async () => {
  await made.query('truncate relays, filters, events, sightings restart identity cascade');
  relay = await knownRelay(bigbrotr, 'one');
  filterId = await bigbrotr.filterId({});
});

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

/** A writer into the archive whose steps can be seen, and stand in the way of. */
function open(options: Partial<BatchWriterOptions> & { store?: Store } = {}): Written {
  const { store = (batch) => bigbrotr.store(batch), ...rest } = options;
  const written = { batches: [], stored: [], invalid: [], checked: [] } as Omit<Written, 'writer'>;
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
    offences: new OffenceTally(),
    onStored: (stored) => written.stored.push(stored),
    onInvalid: (reason) => written.invalid.push(reason),
    now: () => 1_700_000_000,
    ...rest,
  });
  return { ...written, writer };
}

async function addAll(writer: BatchWriter, events: readonly NostrEvent[]): Promise<void> {
  for (const event of events) await writer.add(identified(event));
}

const covered = async () =>
  (await made.query<{ covered: string }>('select covered from coverage')).map((row) => row.covered);
const archivedIds = async () =>
  (await made.query<{ id: string }>('select id from events_hex order by id')).map(({ id }) => id);
const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

describe('batches', () => {
  test('are stored when full, in the order given; what a page proves goes with its last one', async () => {
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

  test('of a page that proves something and holds nothing new are stored for the proof', async () => {
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

  test('are full by their size too', async () => {
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

  test('on their way are few: a full pipeline makes the giver wait', async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { writer, batches } = open({
      batchSize: 1,
      store: async (batch) => {
        await held;
        return bigbrotr.store(batch);
      },
    });
    let added = 0;
    const adding = (async () => {
      for (const event of EVENTS.slice(0, 8)) {
        await writer.add(identified(event));
        added += 1;
      }
    })();
    await vi.waitFor(() => expect(batches).toHaveLength(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(batches).toHaveLength(1); // the second is not begun before the first is stored
    expect(added).toBe(3); // two are on their way, and one is kept for what its page proves
    release();
    await adding;
    await writer.flush();
    expect(await archivedIds()).toHaveLength(8);
  });

  test('on their way are fewer when they are large: two of three megabytes are too many', async () => {
    let release: () => void = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { writer } = open({
      store: async (batch) => {
        await held;
        return bigbrotr.store(batch);
      },
    });
    const huge = Array.from({ length: 2 }, (_, index) =>
      signedEvent({ created_at: index, content: 'x'.repeat(3 * 1024 * 1024) }),
    );
    let added = 0;
    const adding = (async () => {
      for (const event of huge) {
        await writer.add(identified(event));
        added += 1;
      }
    })();
    await vi.waitFor(() => expect(added).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(added).toBe(1);
    release();
    await adding;
    await writer.flush();
    expect(await archivedIds()).toHaveLength(2);
  });

  test('of ids alone are sightings', async () => {
    const { writer: first } = open();
    await addAll(first, EVENTS);
    await first.flush();
    relay = await knownRelay(bigbrotr, 'two');
    const { writer, batches, stored } = open();
    for (const { id } of EVENTS) await writer.addSighted(id);
    await writer.endPage({ ...proof(1000, 2000), evidence: 'nip77' });
    await writer.flush();
    expect(batches.map(({ sighted }) => sighted.length)).toEqual([10, 10, 5]);
    expect(stored.map(({ sightings }) => sightings)).toEqual([10, 10, 5]);
    expect(await made.query('select evidence from coverage')).toEqual([{ evidence: 'nip77' }]);
  });
});

describe('signatures', () => {
  test('of events that the archive holds are not checked again, and the sighting is kept', async () => {
    const first = open();
    await addAll(first.writer, EVENTS.slice(0, 10));
    await first.writer.flush();
    expect(first.checked.sort()).toEqual(idsOf(EVENTS.slice(0, 10)));
    relay = await knownRelay(bigbrotr, 'two');
    const { writer, checked, batches, stored } = open();
    await addAll(writer, EVENTS.slice(5, 15));
    await writer.flush();
    expect(checked.sort()).toEqual(idsOf(EVENTS.slice(10, 15)));
    expect(batches.map(({ events, known }) => [events.length, known.length])).toEqual([[5, 5]]);
    expect(stored).toEqual([{ events: 5, sightings: 10, quarantined: 0 }]);
  });

  test('that do not hold keep the event out, and are counted', async () => {
    const [good, bad] = [EVENTS.slice(0, 4), EVENTS.slice(4, 8)];
    const { writer, invalid } = open();
    await addAll(writer, [...good, ...bad.map((event) => forge(event, 'signature'))]);
    await writer.endPage(proof(1000, 2000));
    await writer.flush();
    expect(invalid).toEqual(Array(4).fill('bad_signature'));
    expect(await archivedIds()).toEqual(idsOf(good));
  });

  test('of a forged copy beside the good event do not hide it, whichever comes first', async () => {
    const [first, second] = EVENTS as [NostrEvent, NostrEvent];
    const { writer, invalid } = open();
    await addAll(writer, [first, forge(first, 'signature'), forge(second, 'signature'), second]);
    await writer.flush();
    expect(await archivedIds()).toEqual(idsOf([first, second]));
    expect(invalid).toEqual(['bad_signature']); // the one that came before the good one
  });

  test('of a forged copy of what the archive holds make no sighting', async () => {
    const [event] = EVENTS as [NostrEvent];
    const first = open();
    await addAll(first.writer, [event]);
    await first.writer.flush();
    relay = await knownRelay(bigbrotr, 'two');
    const { writer, invalid, stored } = open();
    await addAll(writer, [forge(event, 'signature')]);
    await writer.flush();
    expect(invalid).toEqual(['bad_signature']);
    expect(stored.map(({ sightings }) => sightings)).toEqual([0]);
    const [row] = await made.query<{ sig: string }>('select sig from events_hex');
    expect(row?.sig).toBe(event.sig);
  });

  test('are checked in slices, so that sockets get their turn', async () => {
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

describe('a batch that fails', () => {
  test('fails all that follow: coverage never runs ahead of what is stored', async () => {
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

  test('while it is prepared fails as one that cannot be stored', async () => {
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
