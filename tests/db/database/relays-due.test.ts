import { describe, expect } from 'vitest';
import type { Picking, Relay, VisitOutcome } from '../../../src/database/bigbrotr.ts';
import { NEW_RELAY_POLICY } from '../../../src/network/relay-policy.ts';
import { address, DOWN, HOUR, NOW, names, snapshot } from '../../fixtures/snapshot-rows.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';
import { batchOf } from '../../postgres/bigbrotr.ts';
import { archiveTest } from '../../postgres/fixtures.ts';
import { relayAddress } from '../../relay/relays.ts';

const AGES = { snapshotSeconds: 12 * HOUR, intervalSeconds: HOUR };

const test = archiveTest
  .extend(
    'visit',
    ({ bigbrotr, database }) =>
      async (relay: Relay, filterId: number, startedAgo: number, outcome: string | null) => {
        await bigbrotr.beginVisit(
          relay,
          { filterId, since: 0, until: NOW },
          { overlapSeconds: 0, reproveSeconds: HOUR },
        );
        await database.query(
          'update visits set started_at = $2, outcome = $3 where relay_id = $1',
          [relay.relayId, NOW - startedAgo, outcome],
        );
      },
  )
  /** Relays with a young snapshot, by their names. */
  .extend(
    'readable',
    ({ bigbrotr }) =>
      async (all: readonly string[]): Promise<(name: string) => Relay> => {
        await bigbrotr.insertSnapshots(all.map((name) => snapshot(address(name))));
        const relays = await bigbrotr.relaysOf(all.map(address));
        return (name) => relays[all.indexOf(name)] as Relay;
      },
  )
  /** A visit that wanted everything and read down to `since`. */
  .extend(
    'read',
    ({ bigbrotr }) =>
      async (relay: Relay, filterId: number, since: number, outcome: VisitOutcome) => {
        await bigbrotr.beginVisit(
          relay,
          { filterId, since: 0, until: NOW },
          { overlapSeconds: 0, reproveSeconds: HOUR },
        );
        if (since <= NOW)
          await bigbrotr.store(batchOf({ relay, filterId, proven: [{ since, until: NOW }] }));
        await bigbrotr.endVisit(relay, filterId, { outcome, reason: null, detail: null, pages: 1 });
      },
  )
  /** Lets another process visit or follow relays, until the end of its lease. */
  .extend(
    'claimed',
    ({ database }) =>
      (relays: readonly Relay[], until = NOW + 60) =>
        database.query(
          `insert into claims (work, relay_id, holder, token, since, until)
           select 'visit', id, 'another process', nextval('claim_token_sequence'), 1, $2 from unnest($1::integer[]) id`,
          [relays.map(({ relayId }) => relayId), until],
        ),
  )
  .extend(
    'begun',
    ({ database }) =>
      (relay: Relay, secondsAgo: number) =>
        database.query('update visits set started_at = $2 where relay_id = $1', [
          relay.relayId,
          NOW - secondsAgo,
        ]),
  );

describe('relays that are due for a visit', () => {
  test('are readable in their latest snapshot, which is recent enough', async ({ bigbrotr }) => {
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

  test('are due when never visited, cut off, not read to the end, or visited long enough ago', async ({
    bigbrotr,
    visit,
    readable,
  }) => {
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

  test('come lane by lane; a relay with one page of its history is behind, whatever its visit says', async ({
    bigbrotr,
    database,
    readable,
    read,
    begun,
    claimed,
  }) => {
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
    await claimed([relay('one-page')], NOW - 1);
    const urgent = { limit: 1 };
    expect(names(await bigbrotr.relaysToSynchronize(filterId, AGES, urgent))).toEqual([
      'late',
      'never',
      'one-page',
    ]);
    await database.query('truncate claims');
    expect(names(await bigbrotr.relaysDue(all.map(relay), filterId, HOUR, { limit: 1 }))).toEqual([
      'late',
      'never',
      'older-page',
    ]);
  });

  test('are caught up with a hole, and not with a gap that was never asked for', async ({
    bigbrotr,
    database,
    readable,
    read,
    begun,
  }) => {
    const filterId = await bigbrotr.filterId({});
    const relay = await readable(['hole', 'gap']);
    for (const name of ['hole', 'gap']) {
      const proven = [
        { since: 0, until: 1000 },
        { since: 1002, until: NOW },
      ];
      await bigbrotr.store(batchOf({ relay: relay(name), filterId, proven }));
    }
    await database.query(
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

  test('are limited per lane, exclude given relays and held ones, and include those whose holder stopped', async ({
    bigbrotr,
    database,
    readable,
    read,
    claimed,
  }) => {
    const filterId = await bigbrotr.filterId({});
    const all = Array.from({ length: 9 }, (_, index) => `r${index}`);
    const relay = await readable(all);
    const onion = relayAddress(`ws://${ONION_HOST}`);
    await bigbrotr.insertSnapshots([snapshot(onion)]);
    await read(relay('r0'), filterId, 0, 'complete');
    const pick = async (picking: Partial<Picking>) =>
      names(await bigbrotr.relaysToSynchronize(filterId, AGES, picking));
    expect(await pick({ limit: 3 })).toEqual(['r1', 'r2', 'r3']);
    expect(await pick({ withoutTor: true })).toEqual(all.slice(1));
    const except = all.slice(0, 6).map((name) => relay(name).relayId);
    expect(await pick({ except, withoutTor: true })).toEqual(['r6', 'r7', 'r8']);
    await claimed([relay('r0'), relay('r8')]);
    expect(await pick({ withoutTor: true })).toEqual(all.slice(1, 8));
    expect(await pick({ holder: 'another process', withoutTor: true })).toEqual(all.slice(1));
    await database.query('update claims set until = unix_now() - 1');
    expect(await pick({ limit: 2 })).toEqual(['r0', 'r8', 'r1']);
    const { relayId } = relay('r1');
    const remainders = { of: 3, among: [relayId % 3] };
    expect(await pick({ remainders, withoutTor: true })).toEqual(['r1', 'r4', 'r7']);
    expect(await pick({ remainders: { of: 3, among: [] } })).toEqual([]);
  });

  test('exclude relays that pause', async ({ bigbrotr }) => {
    const filterId = await bigbrotr.filterId({});
    await bigbrotr.insertSnapshots(['a', 'b'].map((name) => snapshot(address(name))));
    const [a, b] = (await bigbrotr.relaysOf([address('a'), address('b')])) as [Relay, Relay];
    await bigbrotr.setRelayPolicy(a, {
      ...NEW_RELAY_POLICY,
      notBefore: NOW + HOUR,
      reason: 'rate_limited',
    });
    await bigbrotr.setRelayPolicy(b, { ...NEW_RELAY_POLICY, notBefore: NOW - HOUR });
    expect(names(await bigbrotr.relaysToSynchronize(filterId, AGES))).toEqual(['b']);
    expect(names(await bigbrotr.relaysDue([a, b], filterId, HOUR))).toEqual(['b']);
  });
});
