import { describe, expect } from 'vitest';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { LEASE, claimsTest as test } from '../../fixtures/claims-test.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { batchOf, closeGate, knownRelay } from '../../postgres/bigbrotr.ts';
import { relayAddress } from '../../relay/relays.ts';

const WINDOW = { since: 0, until: 99 };
const AGES = { overlapSeconds: 0, reproveSeconds: 86_400 };
const READABLE = { openable: true, readable: true, writable: false };

describe('claims', () => {
  test('of one relay have one holder; the next holder gets a higher token when the lease has ended', async ({
    take,
    relay,
    endLeases,
    database,
  }) => {
    const [first] = await take('one', [relay]);
    expect(first).toMatchObject({ work: 'visit', key: relay.relayId });
    expect(await take('two', [relay])).toEqual([]);
    await endLeases();
    const [second] = await take('two', [relay]);
    expect(second?.token).toBeGreaterThan(first?.token ?? 0);
    expect(await database.query('select holder, is_valid, relay_url from claimed_relays')).toEqual([
      { holder: 'two', is_valid: true, relay_url: relay.url },
    ]);
  });

  test('have tokens that begin with the time, above those of an archive that was here before', async ({
    take,
    relay,
  }) => {
    const [claim] = await take('one', [relay]);
    expect(claim?.token).toBeGreaterThan((Date.now() - 86_400_000) * 1000); // the archive was made today
    expect(Number.isSafeInteger(claim?.token)).toBe(true);
  });

  test('are kept apart by the kind of work', async ({ take, relay, bigbrotr }) => {
    expect(await take('one', [relay])).toHaveLength(1);
    const wanted = [{ key: relay.relayId, seenAt: null }];
    expect(await bigbrotr.claims.take('check', null, wanted, 'two', LEASE)).toHaveLength(1);
  });

  test('of many concurrent processes are granted once each', async ({ take, bigbrotr }) => {
    const relays = await bigbrotr.relaysOf(
      Array.from({ length: 60 }, (_, index) => relayAddress(`wss://r${index}.example.com`)),
    );
    const names = ['a', 'b', 'c', 'd'];
    const taken = await Promise.all(
      names.map((name, index) => take(name, index % 2 === 0 ? relays : relays.toReversed())),
    );
    const keys = taken.flat().map(({ key }) => key);
    expect(new Set(keys)).toEqual(new Set(relays.map(({ relayId }) => relayId)));
    expect(keys).toHaveLength(60);
    expect(new Set(taken.flat().map(({ token }) => token)).size).toBe(60);
  });

  test('that their holder takes again get a new token, because the first answer may have been lost', async ({
    take,
    relay,
  }) => {
    const [first] = await take('one', [relay]);
    const [again] = await take('one', [relay]);
    expect(again?.token).toBeGreaterThan(first?.token ?? 0);
  });

  test('are refused for a relay that was visited or checked since it was looked up', async ({
    take,
    relay,
    bigbrotr,
    filterId,
    database,
  }) => {
    await bigbrotr.beginVisit(relay, { filterId, ...WINDOW }, AGES);
    expect(await take('one', [relay])).toEqual([]);
    const [visit] = await database.query<{ started_at: string }>('select started_at from visits');
    expect(await take('one', [relay], Number(visit?.started_at))).toHaveLength(1);
    const check = (seenAt: number | null) =>
      bigbrotr.claims.take('check', null, [{ key: relay.relayId, seenAt }], 'one', LEASE);
    await bigbrotr.insertSnapshots([
      { relay, generatedAt: 1_700_000_000, nip11: null, nip66: READABLE },
    ]);
    expect(await check(null)).toEqual([]);
    expect(await check(1_700_000_000)).toHaveLength(1);
  });

  test('are renewed while they are held, also after the end of their lease, unless taken over', async ({
    take,
    relay,
    bigbrotr,
    endLeases,
    database,
  }) => {
    const other = await knownRelay(bigbrotr, 'other');
    const held = await take('one', [relay, other]);
    await endLeases();
    await take('two', [other]);
    expect(await bigbrotr.claims.renew(held, LEASE, 20_000)).toEqual([held[0]]);
    expect(
      await database.query(
        `select relay_id from claims where holder = 'one' and until between unix_now() + 50 and unix_now() + 60`,
      ),
    ).toEqual([{ relay_id: relay.relayId }]);
  });

  test('that are released are deleted, or make their relay due at once; those of others stay', async ({
    take,
    relay,
    bigbrotr,
    filterId,
  }) => {
    const other = await knownRelay(bigbrotr, 'other');
    const [mine, interrupted] = await take('one', [relay, other]);
    if (!mine || !interrupted) throw new Error('there are no claims');
    for (const each of [relay, other]) {
      await bigbrotr.beginVisit(each, { filterId, ...WINDOW }, AGES);
      await bigbrotr.endVisit(each, filterId, {
        ...{ outcome: 'partial', reason: null, detail: null, pages: 0 },
      });
    }
    const due = async () =>
      (await bigbrotr.relaysDue([relay, other], filterId, 900, { holder: 'two' })).map(
        ({ relayId }) => relayId,
      );
    expect(await due()).toEqual([]);
    await bigbrotr.claims.release({ ended: [mine], interrupted: [interrupted] });
    expect(await due()).toEqual([other.relayId]);
    const [taken] = await take(
      'two',
      [other],
      (await bigbrotr.relaysDue([other], filterId, 900))[0]?.seenAt,
    );
    expect(taken).toBeDefined();
    await bigbrotr.claims.release({ ended: [mine, interrupted], interrupted: [] });
    expect(await bigbrotr.claims.renew(taken ? [taken] : [], LEASE, 20_000)).toHaveLength(1);
  });

  test('noted while the clock of the database was ahead do not last', async ({
    take,
    relay,
    database,
  }) => {
    await take('one', [relay]);
    await database.query('update claims set until = until + 3 * 86400');
    expect(await take('two', [relay])).toHaveLength(1);
  });

  test('whose lease ended a day ago are forgotten', async ({ take, relay, bigbrotr, database }) => {
    const other = await knownRelay(bigbrotr, 'other');
    await take('one', [relay, other]);
    await database.query('update claims set until = until - 90000 where relay_id = $1', [
      relay.relayId,
    ]);
    expect(await bigbrotr.claims.forgetOld()).toBe(1);
    expect(await database.query('select relay_id from claims')).toEqual([
      { relay_id: other.relayId },
    ]);
  });
});

describe('a holder that lost its claim', () => {
  test('stores events and sightings, and proves nothing', async ({
    claimed,
    relay,
    endLeases,
    bigbrotr,
    filterId,
    database,
    written,
  }) => {
    const mine = await claimed('one', relay);
    const events = signedEvents(4, { from: 1, to: 90 });
    const batch = { relay: mine, filterId, proven: [WINDOW], events: events.slice(0, 2) };
    expect((await bigbrotr.store(batchOf(batch))).claimLost).toBeUndefined();
    expect(await database.query('select covered from coverage')).toHaveLength(1);
    await endLeases();
    const rest = { ...batch, proven: [{ since: 100, until: 200 }], events };
    expect((await bigbrotr.store(batchOf(rest))).claimLost).toBeUndefined(); // nobody has it yet
    await claimed('two', relay);
    const before = await written();
    const holes = [{ since: 300, until: 300, reason: 'dense' as const, count: 5 }];
    const late = { ...batch, proven: [{ since: 201, until: 299 }], holes };
    expect(
      await bigbrotr.store(
        batchOf({ ...late, events: signedEvents(3, { from: 1, to: 9, seed: 1 }) }),
      ),
    ).toMatchObject({
      ...{ events: 3, sightings: 3, claimLost: true },
    });
    expect(await written()).toBe(before);
    expect(await database.query('select from sightings')).toHaveLength(7);
  });

  test('writes nothing that rests on it, and gets ClaimLost', async ({
    claimed,
    relay,
    endLeases,
    bigbrotr,
    filterId,
    written,
    database,
  }) => {
    const mine = await claimed('one', relay);
    const wanted = { filterId, ...WINDOW };
    await bigbrotr.beginVisit(mine, wanted, AGES);
    await bigbrotr.store(
      batchOf({
        relay: mine,
        filterId,
        proven: [{ since: 0, until: 50 }],
        holes: [{ since: 60, until: 60, reason: 'unanswered', count: 1 }],
      }),
    );
    await bigbrotr.filterParts.divide(mine, filterId, [{ kinds: [1] }], 'kinds', 1);
    await bigbrotr.setRelayPolicy(mine, NEW_RELAY_POLICY);
    await endLeases();
    const theirs = await claimed('two', relay);
    const before = await written();
    const end = { outcome: 'failed', reason: 'timeout', detail: null, pages: 1 } as const;
    const { withheld, withheldKinds } = bigbrotr;
    const id = 'ab'.repeat(32);
    const writes = (by: Relay): Record<string, () => Promise<unknown>> => ({
      noteWithheld: () =>
        withheld.note(
          { relay: by, filterId },
          [{ id, since: 1, until: 9, reason: 'not_served' }],
          false,
        ),
      placeWithheld: () => withheld.place({ relay: by, filterId }, [{ id, since: 2, until: 3 }]),
      setKind: () => withheldKinds.setKind({ relay: by, filterId }, 7, [id]),
      noteKind: () => withheldKinds.noteAll({ relay: by, filterId }, 7, false),
      forgetKind: () => withheldKinds.forgetKind({ relay: by, filterId }, 7),
      forgetWithheld: () => withheld.forget({ relay: by, filterId }, [id]),
      beginVisit: () => bigbrotr.beginVisit(by, { ...wanted, until: 500 }, AGES),
      endVisit: () => bigbrotr.endVisit(by, filterId, end),
      retractCoverage: () => bigbrotr.retractCoverage(by, filterId, 'paging', [WINDOW]),
      noteContradicted: () => bigbrotr.noteContradicted(by, filterId, [{ since: 70, until: 71 }]),
      forgetUnanswered: () => bigbrotr.forgetUnanswered(by, filterId, WINDOW),
      setRelayPolicy: () => bigbrotr.setRelayPolicy(by, { ...NEW_RELAY_POLICY, paceMs: 77 }),
      divide: () => bigbrotr.filterParts.divide(by, filterId, [{ kinds: [7] }], 'kinds', 2),
      record: () => bigbrotr.filterParts.record(by, filterId),
      join: () => bigbrotr.filterParts.join(by, filterId),
    });
    for (const [name, write] of Object.entries(writes(mine)))
      await expect(write(), name).rejects.toMatchObject({ name: 'ClaimLost' });
    expect(await written()).toBe(before);
    await database.query('truncate claims');
    await expect(bigbrotr.endVisit(mine, filterId, end)).rejects.toMatchObject({
      name: 'ClaimLost',
    });
    expect(await written()).toBe(before);
    const again = await claimed('two', relay);
    expect(again.token).toBeGreaterThan(theirs.token ?? 0);
    for (const [name, write] of Object.entries(writes(again))) {
      const former = await written();
      await write();
      if (name !== 'record') expect(await written(), name).not.toBe(former); // the test sees each of them
    }
  });

  test('writes no `Retry-After`, of a visit or of a check', async ({
    take,
    relay,
    bigbrotr,
    endLeases,
    written,
  }) => {
    const { claims, retryTimes } = bigbrotr;
    const check = (holder: string) =>
      claims.take('check', null, [{ key: relay.relayId, seenAt: null }], holder, LEASE);
    const both = { seconds: 600, nip11: { seconds: 700, reason: 'http_429' } };
    const [visit] = await take('one', [relay]);
    const [checking] = await check('one');
    await endLeases();
    const [theirVisit] = await take('two', [relay]);
    const [theirCheck] = await check('two');
    const before = await written();
    await retryTimes.setRelay({ ...relay, token: visit?.token ?? 0 }, 500);
    await retryTimes.set({ ...relay, token: checking?.token ?? 0 }, both);
    expect(await written()).toBe(before);
    await retryTimes.set({ ...relay, token: theirCheck?.token ?? 0 }, both);
    expect(await retryTimes.document(relay)).toMatchObject({ reason: 'http_429' });
    const checked = await written();
    await retryTimes.setRelay({ ...relay, token: theirVisit?.token ?? 0 }, 500);
    expect(await written()).not.toBe(checked);
  });

  test('of a check: the snapshot stays, state and schedule of the relay are not written', async ({
    relay,
    bigbrotr,
    endLeases,
    database,
    written,
  }) => {
    const take = async (holder: string) => {
      const wanted = [{ key: relay.relayId, seenAt: null }];
      const [claim] = await bigbrotr.claims.take('check', null, wanted, holder, LEASE);
      return { ...relay, token: claim?.token ?? 0 };
    };
    const mine = await take('one');
    await endLeases();
    const theirs = await take('two');
    const snapshot = (by: Relay, generatedAt: number) => ({
      relay: by,
      generatedAt,
      nip11: null,
      nip66: READABLE,
    });
    const before = await written();
    expect(await bigbrotr.insertSnapshots([snapshot(mine, 1_700_000_000)])).toEqual({
      ...{ added: 1, lost: [relay.url] },
    });
    expect(await written()).toBe(before);
    expect(await database.query('select from snapshots')).toHaveLength(1);
    expect(await bigbrotr.insertSnapshots([snapshot(theirs, 1_700_000_100)])).toEqual({
      ...{ added: 1, lost: [] },
    });
    expect(await database.query('select from relay_schedule')).toHaveLength(1);
  });

  test('of a try: the candidate is neither promoted nor postponed', async ({
    bigbrotr,
    database,
    endLeases,
    written,
  }) => {
    await database.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, next_try_at)
       values ('wss://a.example.com', 'clearnet', 'a.example.com', 'example.com', 1, 1, 'list', 1, '{""}', 1)`,
    );
    const claim = async (holder: string) => {
      const [candidate] = await bigbrotr.finder.claim(5, ['clearnet'], {
        holder,
        leaseSeconds: LEASE,
      });
      if (!candidate) throw new Error('there is no candidate');
      return candidate;
    };
    const mine = await claim('one');
    await expect(claim('two')).rejects.toThrow('no candidate');
    await endLeases();
    const theirs = await claim('two');
    const before = await written();
    await expect(bigbrotr.finder.putOff(mine, 'timeout')).rejects.toMatchObject({
      name: 'ClaimLost',
    });
    await expect(bigbrotr.finder.promote(mine)).rejects.toMatchObject({ name: 'ClaimLost' });
    expect(await written()).toBe(before);
    expect(await bigbrotr.finder.promote(theirs)).toBe(true);
  });
});

describe('a claim under which a transaction writes', () => {
  test('is not taken over before that has ended, and its lease is renewed meanwhile', async ({
    claimed,
    take,
    relay,
    bigbrotr,
    filterId,
    endLeases,
    database,
  }) => {
    const mine = await claimed('one', relay);
    const gate = await closeGate(database, 'coverage');
    const storing = bigbrotr.store(batchOf({ relay: mine, filterId, proven: [WINDOW] }));
    await gate.waiting(1);
    await endLeases();
    expect(await take('two', [relay])).toEqual([]); // at once: it does not wait for a lock
    const held = [{ work: 'visit' as const, key: relay.relayId, token: mine.token ?? 0 }];
    expect(await bigbrotr.claims.renew(held, LEASE, 20_000)).toHaveLength(1);
    await endLeases();
    await gate.open();
    expect((await storing).claimLost).toBeUndefined();
    expect(await take('two', [relay])).toHaveLength(1);
    expect(await database.query('select from coverage')).toHaveLength(1);
  });
});
