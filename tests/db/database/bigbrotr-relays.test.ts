import { describe, expect } from 'vitest';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import {
  address,
  DOWN,
  HOUR,
  NOW,
  names,
  READABLE,
  snapshot,
} from '../../fixtures/snapshot-rows.ts';
import { batchOf, knownRelay } from '../../postgres/bigbrotr.ts';
import { archiveTest as test } from '../../postgres/fixtures.ts';

describe('relays', () => {
  const AGES = { intervalSeconds: 8 * HOUR, aheadSeconds: 0 };
  test('are added once, however often they are named', async ({ bigbrotr }) => {
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

  test('are returned in the order given, and added if missing', async ({ bigbrotr }) => {
    await bigbrotr.insertRelays([address('b')]);
    const relays = await bigbrotr.relaysOf([address('c'), address('b'), address('a')]);
    expect(names(relays)).toEqual(['c', 'b', 'a']);
    expect(relays.every(({ network, relayId }) => network === 'clearnet' && relayId > 0)).toBe(
      true,
    );
    expect(await bigbrotr.relaysOf([])).toEqual([]);
  });

  test('with a URL that is no longer valid are skipped', async ({ bigbrotr, database }) => {
    await database.query(
      "insert into relays (url, network) values ('gopher://old.example.com', 'clearnet')",
    );
    await bigbrotr.insertRelays([address('good')]);
    expect(names(await bigbrotr.relaysToCheck(AGES))).toEqual(['good']);
  });

  test('with a URL that is no longer valid do not shorten a look-up with a limit', async ({
    bigbrotr,
    database,
  }) => {
    await database.query(
      "insert into relays (url, network) select 'gopher://' || n, 'clearnet' from generate_series(1, 5) n",
    );
    await bigbrotr.insertRelays(['a', 'b', 'c'].map(address));
    expect(names(await bigbrotr.relaysToCheck(AGES, { limit: 2 }))).toEqual(['a', 'b']);
    await bigbrotr.insertSnapshots(['a', 'b', 'c'].map((name) => snapshot(address(name))));
    await database.query('update relays set priority = true');
    const filterId = await bigbrotr.filterId({});
    const due = await bigbrotr.relaysDue('priority', filterId, HOUR, { limit: 2 });
    expect(names(due)).toEqual(['a', 'b']);
  });
});

describe('terms', () => {
  test('are the claims of the latest document, with the learnt policy', async ({ bigbrotr }) => {
    const relay = await knownRelay(bigbrotr, 'one');
    expect(await bigbrotr.relayTerms(relay)).toEqual({
      ...NEW_RELAY_POLICY,
      limitation: null,
      supportedNips: null,
      hasPolicy: false,
      isDivided: false,
      isWithholding: false,
    });
    await bigbrotr.insertSnapshots([
      snapshot(relay, NOW - 2, READABLE, {
        name: 'x',
        limitation: { max_limit: 500 },
        supported_nips: [1, 77],
      }),
      snapshot(relay, NOW - 1, READABLE, null), // it gave no document this time
    ]);
    const policy = {
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
    await bigbrotr.setRelayPolicy(relay, { ...policy, refusals: 2 });
    await bigbrotr.setRelayPolicy(relay, policy);
    expect(await bigbrotr.relayTerms(relay)).toEqual({
      ...policy,
      limitation: { max_limit: 500 },
      supportedNips: [1, 77],
      hasPolicy: true,
      isDivided: false,
      isWithholding: false,
    });
  });

  test('endPauses() ends the pauses of one reason only', async ({ bigbrotr }) => {
    const paused = { ...NEW_RELAY_POLICY, notBefore: NOW + 1000, refusals: 2 };
    const [asked, banned] = await bigbrotr.relaysOf([address('asked'), address('banned')]);
    if (!asked || !banned) throw new Error('the relays are not given back');
    await bigbrotr.setRelayPolicy(asked, { ...paused, reason: 'auth_required' });
    await bigbrotr.setRelayPolicy(banned, { ...paused, reason: 'blocked' });
    expect(await bigbrotr.endPauses('auth_required')).toBe(1);
    expect(await bigbrotr.endPauses('auth_required')).toBe(0);
    expect(await bigbrotr.relayTerms(asked)).toMatchObject({ notBefore: 0, refusals: 2 });
    expect(await bigbrotr.relayTerms(banned)).toMatchObject({ notBefore: NOW + 1000 });
  });
});

describe('filters', () => {
  test('have one key for every spelling, also with concurrent callers', async ({ bigbrotr }) => {
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
  test('counts everything', async ({ bigbrotr }) => {
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
  test('returns 0 at first, then where the previous visits ended', async ({ bigbrotr }) => {
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
