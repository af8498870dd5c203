import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import type { Batch, Bigbrotr, Relay, Stored } from '../../../src/database/bigbrotr.ts';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { EventText, hashEvent } from '../../../src/nostr/event-text.ts';
import type { VerifiedEvent, Verifier } from '../../../src/nostr/verify.ts';
import { BatchWriter } from '../../../src/sync/batch-writer.ts';
import { OffenceTally } from '../../../src/sync/offence-tally.ts';
import { RecentEvents } from '../../../src/sync/recent-events.ts';
import { hashedText, oddText } from '../../fixtures/event-texts.ts';
import { forge, signedEvents } from '../../fixtures/events.ts';
import { type Random, seededRandom } from '../../fixtures/random.ts';
import { relayAddress } from '../../relay/relays.ts';

const EVENTS = signedEvents(60, { from: 1000, to: 2000 }) as VerifiedEvent[];
const SOUND = new Set(EVENTS.map(({ id, sig }) => id + sig));
/** Longer than a test may take: a wait that ends by its limit fails the test. */
const ENDLESS_MS = 600_000;
const relay = (relayId: number): Relay => ({
  ...relayAddress(`wss://r${relayId}.example.com`),
  relayId,
});

/** An archive in memory, and the writers of several visits of one process into it. */
class Archive {
  recent = new RecentEvents();
  /** Key and signature by id. */
  readonly events = new Map<string, { key: string; sig: string }>();
  readonly sightings = new Set<string>();
  /** Ids whose signatures were checked, those that were looked up, and those whose bodies were sent. */
  readonly checked: string[] = [];
  readonly asked: string[] = [];
  readonly sent: string[] = [];
  readonly invalid: string[] = [];
  readonly reasons: string[] = [];
  readonly stored: NostrEvent[] = [];
  /** Stands in the way of a batch. */
  store: (batch: Batch, go: () => Stored) => Promise<Stored> = async (_batch, go) => go();
  delay: () => Promise<void> = async () => {};

  writer(relayId: number, sharedWaitMs = ENDLESS_MS, recent = this.recent): BatchWriter {
    const verifier: Verifier = {
      name: 'nostr-wasm',
      note: '',
      verify: (event) => {
        this.checked.push(event.id);
        return SOUND.has(event.id + event.sig) ? (event as VerifiedEvent) : null;
      },
    };
    const bigbrotr = {
      archivedEvents: async (events: readonly NostrEvent[]) => {
        this.asked.push(...events.map(({ id }) => id));
        await this.delay();
        const known = events.flatMap(({ id }) => {
          const held = this.events.get(id);
          return held ? [[id, held] as const] : [];
        });
        return new Map(known);
      },
      store: (batch: Batch) => this.store(batch, () => this.#insert(batch)),
    } as unknown as Bigbrotr;
    return new BatchWriter({
      ...{ bigbrotr, verifier, recent, relay: relay(relayId), filterId: 1, batchSize: 10 },
      ...{ sharedWaitMs, offences: new OffenceTally(), now: () => 0 },
      onStored: () => {},
      onInvalid: (reason, id) => {
        this.invalid.push(id);
        this.reasons.push(reason);
      },
    });
  }

  #insert({ relay: { relayId }, events, known, keys: given }: Batch): Stored {
    this.sent.push(...events.map(({ id }) => id));
    this.stored.push(...events);
    const fresh = events.filter(({ id }) => !this.events.has(id));
    const keys = new Map(fresh.map(({ id }) => [id, String(this.events.size + 1) + id.length]));
    for (const { id, sig } of fresh) this.events.set(id, { key: keys.get(id) ?? '', sig });
    for (const { id } of known) expect(this.events.get(id)?.key).toBe(given?.get(id));
    for (const { id } of [...events, ...known]) this.sightings.add(`${relayId} ${id}`);
    const stored = { events: fresh.length, sightings: 0, quarantined: 0 };
    return fresh.length < events.length ? stored : { ...stored, keys };
  }

  /** Ids that were seen on a relay, sorted. */
  seenOn(relayId: number): string[] {
    const head = `${relayId} `;
    return [...this.sightings]
      .filter((one) => one.startsWith(head))
      .map((one) => one.slice(head.length))
      .sort();
  }
}

async function write(writer: BatchWriter, events: readonly NostrEvent[]): Promise<void> {
  for (const event of events) await writer.add(event as VerifiedEvent);
  await writer.flush();
}

const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

/** Holds up the batches of a relay. @returns what lets them go on, or fail */
function hold(archive: Archive, relayId: number) {
  let release: (error?: Error) => void = () => {};
  const held = new Promise<Error | undefined>((resolve) => {
    release = resolve;
  });
  const begun = vi.fn();
  archive.store = async (batch, go) => {
    if (batch.relay.relayId !== relayId) return go();
    begun();
    const error = await held;
    if (error) throw error;
    return go();
  };
  return { begun, release };
}

async function aFewTurns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await nextTurn();
}

describe('two visits with the same new events', () => {
  const ten = EVENTS.slice(0, 10);

  test('the second waits for the first: each signature is checked once, each body sent once', async () => {
    const archive = new Archive();
    const { begun, release } = hold(archive, 1);
    const first = write(archive.writer(1), ten);
    const second = write(archive.writer(2), ten);
    await vi.waitFor(() => expect(begun).toHaveBeenCalled());
    await aFewTurns();
    expect(archive.seenOn(2)).toEqual([]);
    release();
    await Promise.all([first, second]);
    expect(archive.checked.sort()).toEqual(idsOf(ten));
    expect(archive.sent.sort()).toEqual(idsOf(ten));
    expect([archive.seenOn(1), archive.seenOn(2)]).toEqual([idsOf(ten), idsOf(ten)]);
  });

  test('a third that comes later neither looks them up nor checks them', async () => {
    const archive = new Archive();
    await write(archive.writer(1), ten);
    archive.asked.length = 0;
    await write(archive.writer(2), ten);
    expect(archive.asked).toEqual([]);
    expect(archive.checked).toHaveLength(10);
    expect(archive.seenOn(2)).toEqual(idsOf(ten));
  });

  test('in another thread the second waits as well', async () => {
    const archive = new Archive();
    const memory = RecentEvents.allocate();
    const { begun, release } = hold(archive, 1);
    const first = write(archive.writer(1, ENDLESS_MS, new RecentEvents(memory)), ten);
    await vi.waitFor(() => expect(begun).toHaveBeenCalled());
    const second = write(archive.writer(2, ENDLESS_MS, new RecentEvents(memory)), ten);
    await aFewTurns();
    release();
    await Promise.all([first, second]);
    expect(archive.checked).toHaveLength(10);
    expect(archive.sent).toHaveLength(10);
    expect(archive.seenOn(2)).toEqual(idsOf(ten));
  });

  test('if the first fails, the second stores them, without checking them again', async () => {
    const archive = new Archive();
    const { begun, release } = hold(archive, 1);
    const first = write(archive.writer(1), ten);
    await vi.waitFor(() => expect(begun).toHaveBeenCalled());
    const others = [2, 3].map((relayId) => write(archive.writer(relayId), ten));
    release(new Error('disk full'));
    await expect(first).rejects.toThrow('disk full');
    await Promise.all(others);
    expect(archive.checked).toHaveLength(10);
    expect(archive.sent).toHaveLength(10); // by one of the two, not by both
    expect([archive.seenOn(1), archive.seenOn(2), archive.seenOn(3)]).toEqual([
      [],
      idsOf(ten),
      idsOf(ten),
    ]);
  });

  test('if the claim of the first is lost, the second records its own sightings', async () => {
    const archive = new Archive();
    archive.store = async ({ relay: { relayId } }, go) =>
      relayId === 1 ? { ...go(), claimLost: true } : go();
    const first = write(archive.writer(1), ten);
    const second = write(archive.writer(2), ten);
    await expect(first).rejects.toThrow('claim');
    await second;
    expect(archive.seenOn(2)).toEqual(idsOf(ten));
  });

  test('if the first does not end, the second stores them after a limited wait', async () => {
    const archive = new Archive();
    const { begun, release } = hold(archive, 1);
    const first = write(archive.writer(1), ten);
    await vi.waitFor(() => expect(begun).toHaveBeenCalled());
    await write(archive.writer(2, 30), ten);
    expect(archive.seenOn(2)).toEqual(idsOf(ten));
    release();
    await first;
    expect(archive.seenOn(1)).toEqual(idsOf(ten));
  });

  test('a forged copy of an event that is being stored, or was, is refused', async () => {
    const archive = new Archive();
    const forged = ten.map((event) => forge(event, 'signature'));
    const { begun, release } = hold(archive, 1);
    const first = write(archive.writer(1), ten);
    await vi.waitFor(() => expect(begun).toHaveBeenCalled());
    await write(archive.writer(2), forged);
    expect(archive.invalid.sort()).toEqual(idsOf(ten));
    release();
    await first;
    await write(archive.writer(3), forged);
    expect(archive.invalid).toHaveLength(20);
    expect([...archive.seenOn(2), ...archive.seenOn(3)]).toEqual([]);
  });

  test('a forged copy that comes first holds up no valid event', async () => {
    const archive = new Archive();
    const forged = ten.map((event) => forge(event, 'signature'));
    await Promise.all([write(archive.writer(1), forged), write(archive.writer(2), ten)]);
    expect(archive.invalid.sort()).toEqual(idsOf(ten));
    expect(archive.seenOn(2)).toEqual(idsOf(ten));
  });
});

describe('an event that is text', () => {
  test('is known by id and signature, and parsed if it is new', async () => {
    const archive = new Archive();
    const [known, fresh] = [EVENTS.slice(0, 10), EVENTS.slice(10, 20)];
    await write(archive.writer(1), known);
    archive.recent = new RecentEvents(); // so that the known ones are looked up
    const texts = [...known, ...fresh].map(hashedText);
    const parses = texts.map((text) => vi.spyOn(text, 'tags', 'get'));
    await write(archive.writer(2), texts);
    expect(archive.seenOn(2)).toEqual(idsOf(EVENTS.slice(0, 20)));
    expect(archive.checked).toHaveLength(20);
    expect(archive.stored.filter((event) => event instanceof EventText)).toEqual([]);
    for (const tags of parses) expect(tags).not.toHaveBeenCalled();
  });

  test('is refused if its id is the hash of something else than its serialisation', async () => {
    const archive = new Archive();
    const odd = [oddText('[]', '"\\u0061"'), oddText('[[["a"]]]', '""'), oddText('[]', '"\\x"')];
    const texts = odd.map((text) => hashEvent(text) ?? expect.fail('not its hash'));
    await write(archive.writer(1), texts);
    expect(archive.reasons).toEqual(['id_mismatch', 'tags', 'content']);
    expect([archive.checked, archive.sent, archive.seenOn(1)]).toEqual([[], [], []]);
  });
});

/** Turns of the event loop, as many as chance has it. */
async function randomTurns(random: Random): Promise<void> {
  for (let turns = random.integer(0, 6); turns > 0; turns--) await nextTurn();
}

test.each(Array.from({ length: 40 }, (_, seed) => seed))(
  'visits with overlapping pages, some of which fail, never wait for each other in vain (seed %i)',
  async (seed) => {
    const random = seededRandom(seed);
    const archive = new Archive();
    archive.delay = () => randomTurns(random);
    const failing = new Set([1, 2, 3, 4, 5].filter(() => random.next() < 0.3));
    archive.store = async (batch, go) => {
      await randomTurns(random);
      if (failing.has(batch.relay.relayId) && random.next() < 0.3) throw new Error('disk full');
      return go();
    };
    const visits = [1, 2, 3, 4, 5].map(async (relayId) => {
      const events = random.next() < 0.5 ? EVENTS : random.shuffle(EVENTS);
      const writer = archive.writer(relayId);
      try {
        for (let from = 0; from < events.length; ) {
          const page = events.slice(from, from + random.integer(1, 25));
          for (const event of page) await writer.add(event);
          await writer.endPage({ proven: [], holes: [], evidence: 'paging' });
          from += Math.max(1, page.length - random.integer(0, 2)); // pages share events
          await randomTurns(random);
        }
        await writer.flush();
        return true;
      } catch {
        return false;
      }
    });
    const ended = await Promise.all(visits);
    for (const [place, isWhole] of ended.entries())
      if (isWhole) expect(archive.seenOn(place + 1)).toEqual(idsOf(EVENTS));
    expect(ended.filter((isWhole) => isWhole).length).toBeGreaterThanOrEqual(5 - failing.size);
    for (const event of EVENTS) expect(archive.recent.find(event).owner).toBe(0);
  },
);
