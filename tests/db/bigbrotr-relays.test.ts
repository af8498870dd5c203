import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  Bigbrotr,
  type Picking,
  type Relay,
  type SnapshotRow,
  type VisitOutcome,
} from '../../src/bigbrotr.ts';
import { parseNip11 } from '../../src/nostr/nip11.ts';
import { NEW_RELAY } from '../../src/relay/manners.ts';
import type { RelayAddress } from '../../src/relay/url.ts';
import { SnapshotWriter } from '../../src/snapshot-writer.ts';
import { batchOf, databaseConfig, knownRelay, openBigbrotr } from '../support/bigbrotr.ts';
import { type TestDatabase, testDatabase } from '../support/database.ts';
import { signedEvent, signedEvents } from '../support/events.ts';
import { relayAddress } from '../support/relays.ts';
import { ONION_HOST } from '../support/tls-certificate.ts';

let made: TestDatabase;
let bigbrotr: Bigbrotr;

beforeAll(async () => {
  made = await testDatabase();
  bigbrotr = await openBigbrotr(made);
});
afterAll(async () => {
  await bigbrotr.close();
  await made.drop();
});
beforeEach(() =>
  made.query('truncate relays, filters, events, sightings, nip11, nip66 restart identity cascade'),
);

const NOW = Math.floor(Date.now() / 1000);
const HOUR = 3600;
const address = (name: string) => relayAddress(`wss://${name}.example.com`);
const READABLE = { openable: true, readable: true, writable: false, rtt_open: 5, rtt_read: 7 };
const DOWN = { openable: false, readable: false, writable: false, reason: 'timeout' };
const snapshot = (
  relay: RelayAddress,
  generatedAt = NOW,
  nip66: object | null = READABLE,
  nip11: object | null = null,
): SnapshotRow => ({ relay, generatedAt, nip11, nip66 });
const names = (relays: readonly Relay[]) =>
  relays.map(({ url }) => new URL(url).hostname.replace('.example.com', ''));

describe('relays', () => {
  const AGES = { intervalSeconds: 8 * HOUR, aheadSeconds: 0 };
  test('are added once, however often and by however many they are named', async () => {
    const all = Array.from({ length: 200 }, (_, index) => address(`r${index}`));
    const added = await Promise.all([
      bigbrotr.insertRelays(all),
      bigbrotr.insertRelays(all.toReversed()),
      bigbrotr.insertRelays([...all, ...all]),
    ]);
    expect(added.reduce((sum, count) => sum + count, 0)).toBe(200);
    expect(await bigbrotr.insertRelays(all)).toBe(0);
    expect(await bigbrotr.insertRelays([])).toBe(0);
    expect(await bigbrotr.insertRelays([address('new'), ...all])).toBe(1);
  });

  test('come back in the order given, added where they were missing', async () => {
    await bigbrotr.insertRelays([address('b')]);
    const relays = await bigbrotr.relaysOf([address('c'), address('b'), address('a')]);
    expect(names(relays)).toEqual(['c', 'b', 'a']);
    expect(relays.every(({ network, relayId }) => network === 'clearnet' && relayId > 0)).toBe(
      true,
    );
    expect(await bigbrotr.relaysOf([])).toEqual([]);
  });

  test('whose URL would not be taken today are passed over, not connected to', async () => {
    await made.query(
      "insert into relays (url, network) values ('gopher://old.example.com', 'clearnet')",
    );
    await bigbrotr.insertRelays([address('good')]);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['good']);
  });
});

describe('relays to synchronize', () => {
  const AGES = { snapshotSeconds: 12 * HOUR, intervalSeconds: HOUR };
  const visit = async (
    relay: Relay,
    filterId: number,
    startedAgo: number,
    outcome: string | null,
  ) => {
    await bigbrotr.beginVisit(
      relay,
      { filterId, since: 0, until: NOW },
      { overlapSeconds: 0, reproveSeconds: HOUR },
    );
    await made.query('update visits set started_at = $2, outcome = $3 where relay_id = $1', [
      relay.relayId,
      NOW - startedAgo,
      outcome,
    ]);
  };

  test('are readable in their latest snapshot, and that one is young enough', async () => {
    const filterId = await bigbrotr.filterId({});
    await bigbrotr.insertRelays([address('never-checked')]);
    await bigbrotr.insertSnapshots([
      snapshot(address('good')),
      snapshot(address('recovered'), NOW - HOUR, DOWN),
      snapshot(address('recovered'), NOW),
      snapshot(address('lost'), NOW - HOUR),
      snapshot(address('lost'), NOW, DOWN),
      snapshot(address('stale'), NOW - 13 * HOUR),
      snapshot(address('without-result'), NOW, null),
    ]);
    expect(names(await bigbrotr.relaysToSynchronize(filterId, AGES))).toEqual([
      'good',
      'recovered',
    ]);
  });

  /** Relays with a young snapshot, by their names. */
  const readable = async (all: readonly string[]): Promise<(name: string) => Relay> => {
    await bigbrotr.insertSnapshots(all.map((name) => snapshot(address(name))));
    const relays = await bigbrotr.relaysOf(all.map(address));
    return (name) => relays[all.indexOf(name)] as Relay;
  };
  /** A visit that wanted everything and read down to `since`. */
  const read = async (relay: Relay, filterId: number, since: number, outcome: VisitOutcome) => {
    await bigbrotr.beginVisit(
      relay,
      { filterId, since: 0, until: NOW },
      { overlapSeconds: 0, reproveSeconds: HOUR },
    );
    if (since <= NOW)
      await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since, until: NOW }] }));
    await bigbrotr.endVisit(relay, filterId, { outcome, reason: null, detail: null, pages: 1 });
  };
  const begun = (relay: Relay, secondsAgo: number) =>
    made.query('update visits set started_at = $2 where relay_id = $1', [
      relay.relayId,
      NOW - secondsAgo,
    ]);

  test('are due when never visited, cut off, not read to the end, or visited long enough ago', async () => {
    const filterId = await bigbrotr.filterId({});
    const states = ['never', 'cut', 'unfinished', 'recent', 'due', 'failed', 'behind'];
    const relay = await readable(states);
    await visit(relay('cut'), filterId, 10, null);
    await visit(relay('unfinished'), filterId, 20, 'unfinished');
    await visit(relay('recent'), filterId, 30, 'complete');
    await visit(relay('failed'), filterId, 30, 'failed');
    await visit(relay('due'), filterId, 2 * HOUR, 'complete');
    await visit(relay('behind'), filterId, 3 * HOUR, 'partial');
    const due = names(await bigbrotr.relaysToSynchronize(filterId, AGES));
    expect(due).toEqual(['never', 'behind', 'due', 'unfinished', 'cut']);
    const others = await bigbrotr.filterId({ kinds: [1] }); // nothing was visited for that one
    expect(await bigbrotr.relaysToSynchronize(others, AGES)).toHaveLength(states.length);
    const given = states.slice(1).map(relay);
    expect(names(await bigbrotr.relaysDue(given, filterId, HOUR))).toEqual(due.slice(1));
    expect(await bigbrotr.relaysDue([], filterId, HOUR)).toEqual([]);
  });

  test('come lane by lane; a relay with one page of its history is behind, whatever its visit says', async () => {
    const filterId = await bigbrotr.filterId({});
    const all = ['one-page', 'caught-up', 'older-page', 'never', 'late', 'nothing-read'];
    const relay = await readable(all);
    await read(relay('one-page'), filterId, NOW - 100, 'unfinished');
    await read(relay('older-page'), filterId, NOW - 100, 'partial');
    await read(relay('caught-up'), filterId, 0, 'complete');
    await read(relay('late'), filterId, 0, 'complete');
    await read(relay('nothing-read'), filterId, NOW + 1, 'failed');
    for (const [name, ago] of [
      ['one-page', 2 * HOUR],
      ['older-page', 4 * HOUR],
      ['nothing-read', 3 * HOUR],
      ['caught-up', 2 * HOUR],
      ['late', 5 * HOUR],
    ] as const)
      await begun(relay(name), ago);
    const lanes = (await bigbrotr.relaysToSynchronize(filterId, AGES)).map(
      (one) => [...names([one]), one.lane] as const,
    );
    expect(lanes).toEqual([
      ['late', 'caught_up'],
      ['caught-up', 'caught_up'],
      ['never', 'new'],
      ['older-page', 'behind'],
      ['nothing-read', 'behind'],
      ['one-page', 'behind'],
    ]);
    const urgent = { limit: 1, atOnce: [relay('one-page').relayId] };
    expect(names(await bigbrotr.relaysToSynchronize(filterId, AGES, urgent))).toEqual([
      'late',
      'never',
      'one-page',
    ]);
    expect(names(await bigbrotr.relaysDue(all.map(relay), filterId, HOUR, { limit: 1 }))).toEqual([
      'late',
      'never',
      'older-page',
    ]);
  });

  test('are caught up with a hole, and not with a gap that was never asked for', async () => {
    const filterId = await bigbrotr.filterId({});
    const relay = await readable(['hole', 'gap']);
    for (const name of ['hole', 'gap']) {
      const proven = [
        { since: 0, until: 1000 },
        { since: 1002, until: NOW },
      ];
      await bigbrotr.store(batchOf({ relay: relay(name), filterId, proven }));
    }
    await made.query(
      "insert into holes (relay_id, filter_id, stretch, reason, events, noted_at) values ($1, $2, '[1001,1002)', 'dense', 500, $3)",
      [relay('hole').relayId, filterId, NOW],
    );
    for (const name of ['hole', 'gap']) {
      await read(relay(name), filterId, NOW + 1, 'partial');
      await begun(relay(name), 2 * HOUR);
    }
    expect((await bigbrotr.relaysToSynchronize(filterId, AGES)).map(({ lane }) => lane)).toEqual([
      'caught_up',
      'behind',
    ]);
  });

  test('are picked: a few of each lane, without some of them, and those that are wanted at once', async () => {
    const filterId = await bigbrotr.filterId({});
    const all = Array.from({ length: 9 }, (_, index) => `r${index}`);
    const relay = await readable(all);
    const onion = relayAddress(`ws://${ONION_HOST}`);
    await bigbrotr.insertSnapshots([snapshot(onion)]);
    await read(relay('r0'), filterId, 0, 'complete');
    const pick = async (picking: Partial<Picking>) =>
      names(await bigbrotr.relaysToSynchronize(filterId, AGES, picking));
    expect(await pick({ limit: 3 })).toEqual(['r1', 'r2', 'r3']);
    expect(await pick({ exceptUrls: [onion.url] })).toEqual(all.slice(1));
    expect(await pick({ withoutTor: true })).toEqual(all.slice(1));
    const except = all.slice(0, 6).map((name) => relay(name).relayId);
    expect(await pick({ except, withoutTor: true })).toEqual(['r6', 'r7', 'r8']);
    const atOnce = [relay('r0').relayId, relay('r8').relayId];
    expect(await pick({ limit: 2, atOnce })).toEqual(['r0', 'r8', 'r1']);
    const { relayId } = relay('r1');
    const remainders = { of: 3, among: [relayId % 3] };
    expect(await pick({ remainders, withoutTor: true })).toEqual(['r1', 'r4', 'r7']);
    expect(await pick({ remainders: { of: 3, among: [] } })).toEqual([]);
  });

  test('are left alone while they pause', async () => {
    const filterId = await bigbrotr.filterId({});
    await bigbrotr.insertSnapshots(['a', 'b'].map((name) => snapshot(address(name))));
    const [a, b] = (await bigbrotr.relaysOf([address('a'), address('b')])) as [Relay, Relay];
    await bigbrotr.setManners(a, { ...NEW_RELAY, notBefore: NOW + HOUR, reason: 'rate_limited' });
    await bigbrotr.setManners(b, { ...NEW_RELAY, notBefore: NOW - HOUR });
    expect(names(await bigbrotr.relaysToSynchronize(filterId, AGES))).toEqual(['b']);
    expect(names(await bigbrotr.relaysDue([a, b], filterId, HOUR))).toEqual(['b']);
  });
});

describe('terms', () => {
  test('are those of the latest document, with what was learnt', async () => {
    const relay = await knownRelay(bigbrotr, 'one');
    expect(await bigbrotr.relayTerms(relay)).toEqual({
      ...NEW_RELAY,
      limitation: null,
      supportedNips: null,
      isDivided: false,
    });
    await bigbrotr.insertSnapshots([
      snapshot(relay, NOW - 2, READABLE, {
        name: 'x',
        limitation: { max_limit: 500 },
        supported_nips: [1, 77],
      }),
      snapshot(relay, NOW - 1, READABLE, null), // it gave no document this time
    ]);
    const manners = {
      notBefore: 5,
      reason: 'rate_limited',
      refusals: 3,
      paceMs: 500,
      pageLimit: 100,
      pageLimitAt: NOW,
      nip77NotBefore: NOW + 60,
      nip77Reason: 'blocked',
      maxFilterValues: 10,
      maxFilterValuesAt: NOW,
    } as const;
    await bigbrotr.setManners(relay, { ...manners, refusals: 2 });
    await bigbrotr.setManners(relay, manners);
    expect(await bigbrotr.relayTerms(relay)).toEqual({
      ...manners,
      limitation: { max_limit: 500 },
      supportedNips: [1, 77],
      isDivided: false,
    });
  });

  test('pauses of one reason end together, and the others stay', async () => {
    const paused = { ...NEW_RELAY, notBefore: NOW + 1000, refusals: 2 };
    const [asked, banned] = await bigbrotr.relaysOf([address('asked'), address('banned')]);
    if (!asked || !banned) throw new Error('the relays are not given back');
    await bigbrotr.setManners(asked, { ...paused, reason: 'auth_required' });
    await bigbrotr.setManners(banned, { ...paused, reason: 'blocked' });
    expect(await bigbrotr.endPauses('auth_required')).toBe(1);
    expect(await bigbrotr.endPauses('auth_required')).toBe(0);
    expect(await bigbrotr.relayTerms(asked)).toMatchObject({ notBefore: 0, refusals: 2 });
    expect(await bigbrotr.relayTerms(banned)).toMatchObject({ notBefore: NOW + 1000 });
  });
});

describe('snapshots', () => {
  test('are kept once, with their documents once', async () => {
    const document = { name: 'x', supported_nips: [1] };
    const rows = ['a', 'b', 'c'].map((name) => snapshot(address(name), NOW, READABLE, document));
    expect(await bigbrotr.insertSnapshots(rows)).toBe(3);
    expect(await bigbrotr.insertSnapshots(rows)).toBe(0);
    expect(await bigbrotr.insertSnapshots([])).toBe(0);
    const [kept] = await made.query(
      'select (select count(*)::int from nip11) as nip11, (select count(*)::int from nip66) as nip66, (select count(*)::int from relay_metadata) as snapshots',
    );
    expect(kept).toEqual({ nip11: 1, nip66: 1, snapshots: 3 });
  });

  test('by four writers of the same documents in any order: nobody hears of a deadlock', async () => {
    const waited: unknown[] = [];
    const log = pino({ level: 'debug' }, { write: (line) => waited.push(JSON.parse(line).code) });
    const writers = await Bigbrotr.connect(databaseConfig(made), log);
    const results = await Promise.all(
      Array.from({ length: 4 }, (_, writer) =>
        writers.insertSnapshots(
          Array.from({ length: 50 }, (_, index) =>
            snapshot(address(`w${writer}-${index}`), NOW, {
              ...DOWN,
              reason: `r${(index * (writer + 7)) % 50}`,
            }),
          ),
        ),
      ),
    );
    await writers.close();
    expect(results).toEqual([50, 50, 50, 50]);
    expect(await made.query('select count(*)::int from nip66')).toEqual([{ count: 50 }]);
  });

  test('fast-check: whatever a relay calls its document, it can be stored', async () => {
    const relay = await knownRelay(bigbrotr, 'one');
    const odd = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom(
        '\u0000',
        '\ud800',
        '\\u0000',
        '💥',
        1e308,
        -1e-320,
        5e-324,
        2 ** 53,
        -0,
        1e21,
      ),
      fc.jsonValue(),
    );
    const field = fc.constantFrom(
      'name',
      'description',
      'banner',
      'icon',
      'pubkey',
      'contact',
      'supported_nips',
      'software',
      'version',
      'privacy_policy',
      'terms_of_service',
      'limitation',
      'fees',
      '__proto__',
      'x\u0000',
      '',
    );
    const value = fc.oneof(odd, fc.dictionary(fc.string({ unit: 'binary' }), odd), fc.array(odd));
    let stored = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(field, value), { minLength: 10, maxLength: 10 }),
        async (all) => {
          const documents = all.flatMap((given) => {
            const parsed = parseNip11(JSON.stringify(given).replaceAll('1e+21', '1e400'));
            return parsed.ok ? [parsed.document] : [];
          });
          const rows = documents.map((document) => {
            stored += 1;
            return snapshot(relay, NOW - 100_000_000 + stored, READABLE, document);
          });
          expect(await bigbrotr.insertSnapshots(rows)).toBe(rows.length);
        },
      ),
      { numRuns: 15 },
    );
    expect(stored).toBeGreaterThan(100);
  });
});

describe('SnapshotWriter', () => {
  const probed = (name: string, generatedAt = NOW) =>
    ({
      relay: address(name),
      generatedAt,
      nip11: null,
      nip11Reason: null,
      nip66: READABLE,
      checks: {},
      carry: {},
    }) as never;

  test('writes a chunk when it is full, and what is left soon after', async () => {
    const sizes: number[] = [];
    const counting = {
      insertSnapshots: (rows: readonly SnapshotRow[]) => {
        sizes.push(rows.length);
        return bigbrotr.insertSnapshots(rows);
      },
    } as Bigbrotr;
    const writer = new SnapshotWriter(counting, 10);
    await Promise.all(Array.from({ length: 10 }, (_, index) => writer.write(probed(`w${index}`))));
    await Promise.all([writer.write(probed('x')), writer.write(probed('y'))]);
    expect(sizes).toEqual([10, 2]);
    expect(await made.query('select count(*)::int from relay_metadata')).toEqual([{ count: 12 }]);
  });

  test('tells everybody whose snapshot could not be written, and goes on', async () => {
    let broken = true;
    const failing = {
      insertSnapshots: (rows: readonly SnapshotRow[]) =>
        broken ? Promise.reject(new Error('away')) : bigbrotr.insertSnapshots(rows),
    } as Bigbrotr;
    const writer = new SnapshotWriter(failing, 2);
    const outcomes = await Promise.allSettled([
      writer.write(probed('a')),
      writer.write(probed('b')),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    broken = false;
    await Promise.all([writer.write(probed('a')), writer.write(probed('b'))]);
    expect(await made.query('select count(*)::int from relay_metadata')).toEqual([{ count: 2 }]);
  });
});

describe('filters', () => {
  test('have one key for every spelling, also when many ask at once', async () => {
    const ids = await Promise.all([
      bigbrotr.filterId({ kinds: [1, 7], '#t': ['a', 'b'] }),
      bigbrotr.filterId({ '#t': ['b', 'a', 'a'], kinds: [7, 1] }),
      ...Array.from({ length: 10 }, () =>
        bigbrotr.filterId({ kinds: [7, 1, 1], '#t': ['a', 'b'] }),
      ),
    ]);
    expect(new Set(ids).size).toBe(1);
    expect(await bigbrotr.filterId({ kinds: [1] })).not.toBe(ids[0]);
  });
});

describe('totals()', () => {
  test('counts everything', async () => {
    const filterId = await bigbrotr.filterId({});
    const [a] = await bigbrotr.relaysOf(['a', 'b', 'c', 'd'].map(address));
    await bigbrotr.insertSnapshots([
      snapshot(address('a'), NOW, { ...READABLE, writable: true }),
      snapshot(address('b'), NOW - 1),
      snapshot(address('b'), NOW, DOWN),
      snapshot(address('c'), NOW, { ...DOWN, openable: true }),
    ]);
    await bigbrotr.store(
      batchOf({
        relay: a as Relay,
        filterId,
        events: [
          ...signedEvents(3, { from: 1, to: 9 }),
          signedEvent({ created_at: 1, content: '\u0000' }),
        ],
      }),
    );
    expect(await bigbrotr.totals()).toEqual({
      events: 3,
      sightings: 3,
      quarantined: 1,
      relays: 4,
      openable: 2,
      readable: 1,
      writable: 1,
      failing: 2,
      unchecked: 1,
    });
  });
});

describe('resumeFrom()', () => {
  test('begins at 0, then where the visits before have ended', async () => {
    const filterId = await bigbrotr.filterId({});
    const relay = await knownRelay(bigbrotr, 'one');
    const begin = (since: number) =>
      bigbrotr.beginVisit(
        relay,
        { filterId, since, until: 1000 },
        { overlapSeconds: 10, reproveSeconds: HOUR },
      );
    const end = (outcome: 'complete' | 'failed') =>
      bigbrotr.endVisit(relay, filterId, { outcome, reason: null, detail: null, pages: 1 });
    expect(await bigbrotr.resumeFrom(relay, filterId, 10)).toBe(0);
    await begin(0);
    await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since: 500, until: 1000 }] }));
    await end('failed'); // the seconds before 500 are still wanted
    expect(await bigbrotr.resumeFrom(relay, filterId, 10)).toBe(0);
    await begin(0);
    await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since: 0, until: 499 }] }));
    await end('complete');
    expect(await bigbrotr.resumeFrom(relay, filterId, 10)).toBe(991);
    expect(await bigbrotr.resumeFrom(relay, filterId, 5000)).toBe(0);
    await begin(991);
    expect(await bigbrotr.resumeFrom(relay, filterId, 10)).toBe(991);
  });
});
