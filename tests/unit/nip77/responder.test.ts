import fc from 'fast-check';
import { nip77 } from 'nostr-tools';
import { describe, expect, test } from 'vitest';
import { NegentropyInitiator } from '../../../src/nip77/initiator.ts';
import { LocalSet, LocalSetBuilder } from '../../../src/nip77/local-set.ts';
import { NegentropyResponder } from '../../../src/nip77/responder.ts';
import { type Segment, SegmentedSet, sumOf } from '../../../src/nip77/segmented-set.ts';
import { seededRandom } from '../../fixtures/random.ts';
import {
  NegentropyResponder as ReferenceResponder,
  type SetItem,
} from '../../relay/negentropy-responder.ts';

const FROM = 1_700_000_000;

function localSet(items: readonly SetItem[]): LocalSet {
  const builder = new LocalSetBuilder(2_000_000);
  for (const { createdAt, id } of items) builder.add(createdAt, id);
  return builder.build();
}

/** A set in stretches of some seconds, of which those with an odd number are read when they are needed. */
function segmented(items: readonly SetItem[], seconds: number): SegmentedSet {
  const byStretch = new Map<number, SetItem[]>();
  for (const item of items) {
    const stretch = Math.floor(item.createdAt / seconds);
    byStretch.set(stretch, [...(byStretch.get(stretch) ?? []), item]);
  }
  const sets = [...byStretch]
    .sort(([a], [b]) => a - b)
    .map(([at, each]) => [at, localSet(each)] as const);
  const segments = sets.map(
    ([at, records], place): Segment => ({
      since: place === 0 ? 0 : at * seconds,
      before: (sets[place + 1]?.[0] ?? Number.POSITIVE_INFINITY) * seconds,
      size: records.size,
      sum: sumOf(records),
      records: at % 2 === 0 ? records : null,
    }),
  );
  const none = { since: 0, before: Number.POSITIVE_INFINITY, size: 0, sum: 0n, records: null };
  return new SegmentedSet(segments.length > 0 ? segments : [none], async ({ since, before }) =>
    localSet(items.filter(({ createdAt }) => createdAt >= since && createdAt < before)),
  );
}

function whole(records: LocalSet): SegmentedSet {
  const before = Number.POSITIVE_INFINITY;
  const segment = { since: 0, before, size: records.size, sum: sumOf(records), records };
  return new SegmentedSet([segment], async () => records);
}

type Answer = (message: string) => Promise<string> | string;

async function byOurs(local: LocalSet, answer: Answer, frameSizeLimit = 60_000) {
  const initiator = new NegentropyInitiator(local, { frameSizeLimit, maxNeed: 2_000_000 });
  let [rounds, characters] = [0, 0];
  for (let message: string | null = initiator.open(); message !== null; ) {
    const reply = await answer(message);
    rounds += 1;
    characters += message.length + reply.length;
    if (rounds > 1000) throw new Error('no end after 1,000 rounds');
    message = initiator.accept(reply);
  }
  const have = new Set([...initiator.have].map((index) => local.id(index)));
  return { need: initiator.need, have, rounds, characters };
}

async function byNostrTools(ours: readonly SetItem[], answer: Answer) {
  const storage = new nip77.NegentropyStorageVector();
  for (const { createdAt, id } of ours) storage.insert(createdAt, id);
  storage.seal();
  const initiator = new nip77.Negentropy(storage, 60_000);
  const [need, have] = [new Set<string>(), new Set<string>()];
  let rounds = 0;
  for (let message: string | null = initiator.initiate(); message !== null; ) {
    rounds += 1;
    if (rounds > 1000) throw new Error('no end after 1,000 rounds');
    message = initiator.reconcile(
      await answer(message),
      (id) => have.add(id),
      (id) => need.add(id),
    );
  }
  return { need, have };
}

const recipe = fc.record({
  seed: fc.nat(),
  count: fc.nat(700),
  seconds: fc.integer({ min: 1, max: 3000 }),
  from: fc.constantFrom(0, FROM),
  shared: fc.constantFrom(0, 0.5, 0.9, 0.99, 1),
});

function twoSets({
  seed,
  count,
  seconds,
  from,
  shared,
}: typeof recipe extends fc.Arbitrary<infer T> ? T : never) {
  const random = seededRandom(seed);
  const ours: SetItem[] = [];
  const theirs: SetItem[] = [];
  for (let i = 0; i < count; i++) {
    const id = Buffer.from(Array.from({ length: 32 }, () => random.integer(0, 255))).toString(
      'hex',
    );
    const item = { createdAt: from + random.integer(0, seconds - 1), id };
    const owner = random.next() < shared ? 'both' : random.pick(['ours', 'theirs']);
    if (owner !== 'theirs') ours.push(item);
    if (owner !== 'ours') theirs.push(item);
  }
  return { ours, theirs };
}

function difference(a: readonly SetItem[], b: readonly SetItem[]): Set<string> {
  const known = new Set(b.map(({ id }) => id));
  return new Set(a.map(({ id }) => id).filter((id) => !known.has(id)));
}

/** Ids of events of one second after another; the same for the same seed. */
function manyRecords(count: number, seed: number): Buffer {
  const random = seededRandom(seed);
  const records = Buffer.alloc(count * 40);
  for (let place = 0; place < count; place++) {
    records.writeUInt32BE(FROM + place, place * 40 + 4);
    for (let word = 2; word < 10; word++)
      records.writeUInt32BE(random.integer(0, 2 ** 32 - 1), place * 40 + word * 4);
  }
  return records;
}

describe('NegentropyResponder', () => {
  const frames = fc.constantFrom(4096, 10_000, 200_000);
  const stretches = fc.constantFrom(1, 10, 100, 10_000);

  test('gives our initiator the difference of any two sets, in any stretches and frames', {
    timeout: 120_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(
        recipe,
        frames,
        frames,
        stretches,
        async (drawn, ourFrame, frame, seconds) => {
          const { ours, theirs } = twoSets(drawn);
          const responder = new NegentropyResponder(segmented(theirs, seconds), frame);
          let longest = 0;
          const answer = async (message: string) => {
            const reply = await responder.answer(message);
            longest = Math.max(longest, reply.length / 2);
            return reply;
          };
          const { need, have } = await byOurs(localSet(ours), answer, ourFrame);
          expect(need).toEqual(difference(theirs, ours));
          expect(have).toEqual(difference(ours, theirs));
          expect(longest).toBeLessThanOrEqual(frame);
        },
      ),
      { numRuns: 80 },
    );
  });

  test('gives the initiator of nostr-tools the difference of any two sets', {
    timeout: 120_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(recipe, frames, stretches, async (drawn, frame, seconds) => {
        const { ours, theirs } = twoSets(drawn);
        const responder = new NegentropyResponder(segmented(theirs, seconds), frame);
        const { need, have } = await byNostrTools(ours, (message) => responder.answer(message));
        expect(need).toEqual(difference(theirs, ours));
        expect(have).toEqual(difference(ours, theirs));
      }),
      { numRuns: 50 },
    );
  });

  test('finds a million ids unchanged in one round', async () => {
    const records = new LocalSet(manyRecords(1_000_000, 1));
    const responder = new NegentropyResponder(whole(records), 200_000);
    const { need, have, rounds } = await byOurs(records, (message) => responder.answer(message));
    expect([need.size, have.size, rounds]).toEqual([0, 0, 1]);
  });

  test('needs no more bytes than the protocol as published where one of a hundred differs', async () => {
    const all = new LocalSet(manyRecords(20_000, 2));
    const item = (place: number) => ({ createdAt: all.createdAt(place), id: all.id(place) });
    const theirs = Array.from({ length: all.size }, (_, place) => item(place));
    const ours = localSet(theirs.filter((_, place) => place % 100 !== 50));
    const published = new ReferenceResponder(theirs);
    const usual = await byOurs(ours, (message) => published.answer(message));
    const responder = new NegentropyResponder(whole(all), 500_000);
    const here = await byOurs(ours, (message) => responder.answer(message));
    expect(here.need).toEqual(usual.need);
    // Where ranges are cut decides which of them have few ids: a percent more or less.
    expect(here.characters / usual.characters).toBeLessThan(1.01);
    expect(here.rounds).toBeLessThanOrEqual(usual.rounds);
  });

  test('answers another version with its own, and refuses what is no message', async () => {
    const responder = new NegentropyResponder(segmented([], 10), 10_000);
    expect(await responder.answer('62')).toBe('61');
    for (const payload of ['', 'zz', '50', '610000ff', '61000002ff00', `61${'ff'.repeat(20)}`])
      await expect(responder.answer(payload)).rejects.toThrow();
  });
});
