import { hash } from 'node:crypto';
import fc from 'fast-check';
import { nip77 } from 'nostr-tools';
import { describe, expect, test } from 'vitest';
import { NegentropyInitiator } from '../../../src/nip77/initiator.ts';
import { type LocalSet, LocalSetBuilder, writeSum } from '../../../src/nip77/local-set.ts';
import { NegentropyError } from '../../../src/nip77/message.ts';
import { seededRandom } from '../../fixtures/random.ts';
import { NegentropyResponder, type SetItem } from '../../relay/negentropy-responder.ts';

const FROM = 1_700_000_000;
/** The last second that the archive takes (init.sql). */
const LAST = 2 ** 39 - 1;
const LIMITS = { frameSizeLimit: 60_000, maxNeed: 200_000 };

const idOf = (n: number) => hash('sha256', `id ${n}`);

/** This number of items, a second apart by default. */
function items(count: number, { first = 0, from = FROM, perSecond = 1 } = {}): SetItem[] {
  return Array.from({ length: count }, (_, i) => ({
    createdAt: from + Math.floor(i / perSecond),
    id: idOf(first + i),
  }));
}

function localSet(list: readonly SetItem[]): LocalSet {
  const builder = new LocalSetBuilder(200_000);
  for (const { createdAt, id } of list) builder.add(createdAt, id);
  return builder.build();
}

interface Outcome {
  need: Set<string>;
  have: Set<string>;
  rounds: number;
  characters: number;
  longest: number;
}

/** Lets our initiator talk to a relay until it is satisfied. */
function reconcile(
  ours: readonly SetItem[],
  answer: (message: string) => string,
  limits = LIMITS,
): Outcome {
  const local = localSet(ours);
  const initiator = new NegentropyInitiator(local, limits);
  const outcome = { rounds: 0, characters: 0, longest: 0 };
  for (let message: string | null = initiator.open(); message !== null; ) {
    const reply = answer(message);
    outcome.rounds += 1;
    outcome.characters += message.length + reply.length;
    outcome.longest = Math.max(outcome.longest, message.length);
    if (outcome.rounds > 1000) throw new Error('no end after 1,000 rounds');
    message = initiator.accept(reply);
  }
  const have = new Set([...initiator.have].map((index) => local.id(index)));
  return { ...outcome, need: initiator.need, have };
}

function reconcileWithNostrTools(ours: readonly SetItem[], answer: (message: string) => string) {
  const storage = new nip77.NegentropyStorageVector();
  for (const { createdAt, id } of ours) storage.insert(createdAt, id);
  storage.seal();
  const initiator = new nip77.Negentropy(storage, 60_000);
  const need = new Set<string>();
  const have = new Set<string>();
  for (let message: string | null = initiator.initiate(); message !== null; ) {
    message = initiator.reconcile(
      answer(message),
      (id) => have.add(id),
      (id) => need.add(id),
    );
  }
  return { need, have };
}

const responder = (theirs: readonly SetItem[], frameSizeLimit?: number) => {
  const relay = new NegentropyResponder(theirs, frameSizeLimit);
  return (message: string) => relay.answer(message);
};

/** What two sets are made from, so that a counterexample is short. Few seconds: many items in each. */
const recipes = (latest: number) =>
  fc.record({
    seed: fc.nat(),
    count: fc.nat(700),
    seconds: fc.integer({ min: 1, max: 2000 }),
    from: fc.oneof(fc.constantFrom(0, FROM), fc.integer({ min: 0, max: latest - 2000 })),
    shared: fc.constantFrom(0, 0.5, 0.9, 0.99, 1),
  });

type Recipe = ReturnType<typeof recipes> extends fc.Arbitrary<infer T> ? T : never;

function twoSets({ seed, count, seconds, from, shared }: Recipe) {
  const random = seededRandom(seed);
  const sets: { ours: SetItem[]; theirs: SetItem[] } = { ours: [], theirs: [] };
  for (let i = 0; i < count; i++) {
    const item = {
      createdAt: from + random.integer(0, seconds - 1),
      id: idOf(seed + i),
    };
    const owner = random.next() < shared ? 'both' : random.pick(['ours', 'theirs']);
    if (owner !== 'theirs') sets.ours.push(item);
    if (owner !== 'ours') sets.theirs.push(item);
  }
  return sets;
}

function difference(a: readonly SetItem[], b: readonly SetItem[]): Set<string> {
  const ids = new Set(b.map(({ id }) => id));
  return new Set(a.map(({ id }) => id).filter((id) => !ids.has(id)));
}

describe('the responder of the tests', () => {
  test('gives the initiator of nostr-tools the difference of any two sets', () => {
    fc.assert(
      fc.property(recipes(2 ** 31), fc.constantFrom(4096, 10_000, 500_000), (recipe, frame) => {
        const { ours, theirs } = twoSets(recipe);
        const { need, have } = reconcileWithNostrTools(ours, responder(theirs, frame));
        expect(need).toEqual(difference(theirs, ours));
        expect(have).toEqual(difference(ours, theirs));
      }),
      { numRuns: 100 },
    );
  });
});

describe('NegentropyInitiator', () => {
  test('finds the difference of any two sets, whatever fits into a frame', () => {
    fc.assert(
      fc.property(
        recipes(LAST),
        fc.constantFrom(2048, 4096, 60_000),
        fc.constantFrom(2048, 4096, 500_000),
        (recipe, ourFrame, theirFrame) => {
          const { ours, theirs } = twoSets(recipe);
          const limits = { ...LIMITS, frameSizeLimit: ourFrame };
          const outcome = reconcile(ours, responder(theirs, theirFrame), limits);
          expect(outcome.need).toEqual(difference(theirs, ours));
          expect(outcome.have).toEqual(difference(ours, theirs));
          expect(outcome.longest).toBeLessThanOrEqual(2 * ourFrame);
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each([0, 1, 31, 32, 160, 4096])(
    'begins for %i ids with the very message of nostr-tools',
    (count) => {
      const list = items(count, { perSecond: 3 });
      const storage = new nip77.NegentropyStorageVector();
      for (const { createdAt, id } of list) storage.insert(createdAt, id);
      storage.seal();
      const expected = new nip77.Negentropy(storage, 60_000).initiate();
      expect(new NegentropyInitiator(localSet(list), LIMITS).open()).toBe(expected);
    },
  );

  test('needs one round and less than a kilobyte when 100,000 ids are the same', () => {
    const list = items(100_000);
    const outcome = reconcile(list, responder(list));
    expect(outcome).toMatchObject({ rounds: 1, need: new Set(), have: new Set() });
    expect(outcome.characters).toBeLessThan(1000);
  });

  test('needs a few kilobytes when the newest of 100,000 ids are missing', () => {
    const list = items(100_000);
    const outcome = reconcile(list.slice(0, 99_900), responder(list));
    expect(outcome.need).toEqual(new Set(list.slice(99_900).map(({ id }) => id)));
    expect(outcome.characters).toBeLessThan(20_000);
    expect(outcome.rounds).toBeLessThanOrEqual(4);
  });

  test('continues after a full frame without repeating ranges', () => {
    const theirs = items(100_000);
    const ours = theirs.filter((_, index) => index % 100 !== 37);
    const outcome = reconcile(ours, responder(theirs, 60_000));
    expect(outcome.need.size).toBe(1000);
    expect(outcome.rounds).toBeLessThanOrEqual(16);
  });

  test('reconciles a second with more events than any page', () => {
    const theirs = items(30_000, { perSecond: 30_000 });
    const outcome = reconcile(theirs.slice(7000), responder(theirs, 60_000));
    expect(outcome.need).toEqual(new Set(theirs.slice(0, 7000).map(({ id }) => id)));
  });

  test('finds all ids that the relay held throughout, though its set changes between two answers', () => {
    const theirs = items(5000, { perSecond: 3 });
    const late = items(2000, { first: 5000, perSecond: 3 });
    const ours = theirs.filter((_, index) => index % 7 !== 0);
    let answers = 0;
    const { need, have } = reconcile(ours, (message) => {
      answers += 1;
      return responder([...theirs, ...late.slice(0, 500 * (answers - 1))], 20_000)(message);
    });
    expect(answers).toBeGreaterThan(2);
    for (const id of difference(theirs, ours)) expect(need).toContain(id);
    expect(have.size).toBe(0);
  });

  test('distinguishes times above 2^32, which nostr-tools confuses', () => {
    const theirs = [...items(500), ...items(500, { first: 500, from: LAST - 500 })];
    const ours = theirs.filter((_, index) => index % 10 !== 0);
    const outcome = reconcile(ours, responder(theirs));
    expect(outcome.need).toEqual(difference(theirs, ours));
    expect(outcome.have.size).toBe(0);
  });
});

const END = '0000'; // the infinite bound
const hexOfIds = (list: readonly SetItem[]) => list.map(({ id }) => id).join('');

describe('an invalid answer', () => {
  const faultOf = (answer: string, ours = items(1000), limits = LIMITS): string => {
    const initiator = new NegentropyInitiator(localSet(ours), limits);
    initiator.open();
    try {
      return `none: ${initiator.accept(answer) === null ? 'reconciled' : 'goes on'}`;
    } catch (error) {
      if (error instanceof NegentropyError) return error.fault;
      throw error;
    }
  };

  test.each([
    ['nothing', ''],
    ['no hex', 'what?'],
    ['half a byte', '610'],
    ['no version', '00'],
    ['a range that is cut off', `61${END}`],
    ['a fingerprint that is cut off', `61${END}01aabb`],
    ['a list that is cut off', `61${END}0202${idOf(1)}`],
    ['an unknown mode', `61${END}03`],
    ['a bound of 33 bytes', `610121${'00'.repeat(33)}00`],
    ['bounds that go down', '610501aa00' + '0101a900'],
    ['a range after the end of time', `61${END}00010000`],
    ['a number without end', `61${'ff'.repeat(40)}`],
    ['a time beyond all numbers', `61${`8f${'ff'.repeat(6)}7f0000`.repeat(2)}`],
    ['a list of 2^49 ids', `61${END}02${'ff'.repeat(6)}7f`],
  ])('is refused: %s', (what, answer) => {
    expect(faultOf(answer)).toBe(what === 'a list of 2^49 ids' ? 'too_many' : 'garbage');
  });

  test('of another version is refused', () => {
    expect(faultOf('60')).toBe('version');
    expect(faultOf('62')).toBe('version');
  });

  test('with more ids than maxNeed is refused', () => {
    const theirs = items(101, { first: 5000 });
    const list = (count: number) =>
      `61${END}02${count.toString(16)}${hexOfIds(theirs.slice(0, count))}`;
    const limits = { ...LIMITS, maxNeed: 100 };
    expect(faultOf(list(100), items(10), limits)).toBe('none: reconciled');
    expect(faultOf(list(101), [], limits)).toBe('too_many');
    expect(faultOf(list(101), items(10), limits)).toBe('too_many');
  });

  test.each([
    ['by saying nothing more', '61'],
    ['by Skip', `61${END}00`],
    ['by Skip after a part', `6105000200${END}00`],
  ])('that skips a list of ids %s is refused', (_, answer) => {
    expect(faultOf(answer, items(10))).toBe('unanswered');
    expect(faultOf(answer, [])).toBe('unanswered');
  });

  test('that lists fewer ids than it says leaves each of them in a run', () => {
    const initiator = new NegentropyInitiator(localSet([]), LIMITS);
    initiator.open();
    const listed = [idOf(1), idOf(2)];
    expect(() => initiator.accept(`6100000203${listed.join('')}`)).toThrow(NegentropyError);
    expect([...initiator.need]).toEqual(listed);
    expect(initiator.runs.flatMap(({ ids }) => ids)).toEqual(listed);
  });

  test('from an initiator instead of a responder is refused', () => {
    const storage = new nip77.NegentropyStorageVector();
    for (const { createdAt, id } of items(2000)) storage.insert(createdAt, id);
    storage.seal();
    const relay = new nip77.Negentropy(storage, 60_000);
    const answer = (message: string) => relay.reconcile(message) ?? '61';
    expect(() => reconcile([], answer)).toThrow(NegentropyError);
    expect(() => reconcile(items(1900), answer)).toThrow(NegentropyError);
  });

  test('with tens of thousands of ranges is refused', () => {
    const ranges = `010001${'00'.repeat(16)}`.repeat(70_000);
    expect(faultOf(`61${ranges}`)).toBe('garbage');
  });

  test('of any bytes throws nothing but NegentropyError', () => {
    const theirs = items(300, { perSecond: 2 });
    const good = Buffer.from(
      responder(theirs)(new NegentropyInitiator(localSet(items(290)), LIMITS).open()),
      'hex',
    );
    const change = fc.record({ at: fc.nat(good.length - 1), byte: fc.nat(255) });
    fc.assert(
      fc.property(fc.array(change, { maxLength: 4 }), fc.nat(good.length), (changes, length) => {
        const bytes = Buffer.from(good);
        for (const { at, byte } of changes) bytes[at] = byte;
        faultOf(bytes.subarray(0, length).toString('hex'), items(290));
      }),
      { numRuns: 1000 },
    );
  });
});

describe('LocalSet', () => {
  test('is sorted by time and id, each id once, whatever the order of input', () => {
    const list = items(1000, { perSecond: 7 });
    const expected = [...list].sort((a, b) => a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1));
    for (const order of [
      list,
      list.toReversed(),
      seededRandom(1).shuffle([...list, ...list.slice(0, 300)]),
    ]) {
      const set = localSet(order);
      const got = Array.from({ length: set.size }, (_, i) => ({
        createdAt: set.createdAt(i),
        id: set.id(i),
      }));
      expect(got).toEqual(expected);
    }
  });

  test('accepts records as the archive packs them', () => {
    const builder = new LocalSetBuilder(10);
    const record = Buffer.alloc(40);
    record.writeBigInt64BE(BigInt(LAST));
    record.write(idOf(1), 8, 'hex');
    expect(builder.addRecords(record)).toBe(true);
    expect(() => builder.addRecords(record.subarray(1))).toThrow(RangeError);
    const set = builder.build();
    expect([set.size, set.createdAt(0), set.id(0)]).toEqual([1, LAST, idOf(1)]);
  });

  test('excludes ids older than the window', () => {
    const builder = new LocalSetBuilder(10);
    for (const { createdAt, id } of items(5)) builder.add(createdAt, id);
    const set = builder.build(FROM + 3);
    expect([set.size, set.createdAt(0), set.id(0)]).toEqual([2, FROM + 3, idOf(3)]);
  });

  test('accepts no more than maxIds', () => {
    const builder = new LocalSetBuilder(3);
    expect(items(4).map(({ createdAt, id }) => builder.add(createdAt, id))).toEqual([
      true,
      true,
      true,
      false,
    ]);
    expect(builder.addRecords(Buffer.alloc(80))).toBe(false);
    expect(builder.build().size).toBe(3);
    expect(() => new LocalSetBuilder(2 ** 21 + 1)).toThrow(RangeError);
  });

  test('sums ids modulo 2^256', () => {
    const list = [
      ...items(1000),
      { createdAt: FROM, id: 'ff'.repeat(32) },
      { createdAt: FROM + 1, id: 'ff'.repeat(32) },
    ];
    const set = localSet(list);
    const number = (bytes: Buffer) => BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
    const expected =
      list.reduce((sum, { id }) => sum + number(Buffer.from(id, 'hex')), 0n) % (1n << 256n);
    const target = Buffer.alloc(32);
    writeSum(set.sumWords(0, set.size), target);
    expect(number(target)).toBe(expected);
  });
});
