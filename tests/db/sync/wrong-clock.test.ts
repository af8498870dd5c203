/** A clock that was ahead for a while, and is right again: what was noted meanwhile claims nothing and keeps nobody away. */
import { readFileSync } from 'node:fs';
import { describe, expect } from 'vitest';
import { RelayNames } from '../../../src/finder/relay-names.ts';
import { parseBlocklist } from '../../../src/network/blocklist.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { projectFile } from '../../processes/project.ts';
import { relayAddress } from '../../relay/relays.ts';

const NOW = Math.floor(Date.now() / 1000);
const AHEAD = 400 * 86_400;
const EARLIER = signedEvents(40, { from: NOW - 50_000, to: NOW - 20_000 });
/** They came while the clock was wrong, and are older than the newest stretch that every visit reads again. */
const MEANWHILE = signedEvents(20, { from: NOW - 15_000, to: NOW - 5000, seed: 2 });

const test = visitTest
  .override('relayDefaults', { events: EARLIER })
  .extend('relay', ({ startRelay }) => startRelay())
  .extend(
    'visit',
    ({ archive, relay }) =>
      (now: number) =>
        archive.visit(relay.url, { now: () => now, stopTimestamp: 'now', overlapSeconds: 3600 }),
  );

const idsOf = (events: readonly { id: string }[]) => events.map(({ id }) => id).sort();

describe('a clock that was ahead', () => {
  test('of the service alone: future seconds do not count as covered', async ({
    visit,
    archive,
    relay,
  }) => {
    expect(await visit(NOW - 20_000 + AHEAD)).toMatchObject({ outcome: 'complete', events: 40 });
    expect(await archive.covered(relay.url)).toBe(`{[0,${NOW - 20_000 + AHEAD + 1})}`); // it was
    relay.add(MEANWHILE);
    expect(await visit(NOW)).toMatchObject({ outcome: 'complete' });
    const [row] = await archive.db.query<{ until: string }>(
      'select max(upper(covered)) as until from coverage',
    );
    expect(Number(row?.until)).toBeLessThanOrEqual(Math.floor(Date.now() / 1000) + 1);
    const fresh = signedEvents(5, { from: NOW - 3000, to: NOW, seed: 3 });
    relay.add(fresh);
    expect(await visit(NOW + 1)).toMatchObject({ outcome: 'complete', events: 5 });
  });

  test('of PostgreSQL too: coverage of that time is proven anew, and the relay is due', async ({
    visit,
    archive,
    relay,
  }) => {
    expect(await visit(NOW - 20_000 + AHEAD)).toMatchObject({ outcome: 'complete', events: 40 });
    await archive.db.query(`update coverage set proven_at = proven_at + ${AHEAD}`);
    await archive.db.query(
      `update visits set started_at = started_at + ${AHEAD}, ended_at = ended_at + ${AHEAD}`,
    );
    const known = await archive.bigbrotr.relaysOf([relayAddress(relay.url)]);
    const [one] = known;
    if (!one) throw new Error('the relay is not known');
    await archive.bigbrotr.setRelayPolicy(one, {
      ...(await archive.bigbrotr.relayTerms(one)),
      ...{ notBefore: NOW + AHEAD, reason: 'failed', refusals: 1 },
    });
    const filterId = await archive.bigbrotr.filterId({});
    const due = known.map((each) => ({
      ...{ ...each, lane: 'caught_up' },
      seenAt: expect.any(Number),
    }));
    expect(await archive.bigbrotr.relaysDue(known, filterId, 900)).toEqual(due);
    await archive.db.query(
      `select insert_relay_metadata($1, 'clearnet', $2, null, '{"openable":true,"readable":true,"writable":false}')`,
      [one.url, NOW],
    );
    const age = { snapshotSeconds: 3600, intervalSeconds: 900 };
    expect(await archive.bigbrotr.relaysToSynchronize(filterId, age)).toEqual(due);

    relay.add(MEANWHILE);
    expect(await visit(NOW)).toMatchObject({ outcome: 'complete', events: 20 });
    expect(await archive.ids(relay.url)).toEqual(idsOf([...EARLIER, ...MEANWHILE]));
    expect(await archive.covered(relay.url)).toBe(`{[0,${NOW + 1})}`);
    expect(await archive.bigbrotr.relaysDue(known, filterId, 900)).toEqual([]);
  });

  test('a pause of a month is not ignored as one of a wrong clock', async ({ archive, relay }) => {
    const [one] = await archive.bigbrotr.relaysOf([relayAddress(relay.url)]);
    if (!one) throw new Error('the relay is not known');
    await archive.bigbrotr.setRelayPolicy(one, {
      ...(await archive.bigbrotr.relayTerms(one)),
      ...{ notBefore: Math.floor(Date.now() / 1000) + 30 * 86_400, reason: 'blocked', refusals: 9 },
    });
    const filterId = await archive.bigbrotr.filterId({});
    expect(await archive.bigbrotr.relaysDue([one], filterId, 900)).toEqual([]);
  });

  test('of the finder: candidates that were tried then are due, and do not count for the budget of this hour', async ({
    archive,
  }) => {
    const names = new RelayNames({ blocklist: parseBlocklist('', ''), allowPrivate: false });
    for (const name of ['a', 'b']) names.addListed(`wss://${name}.bigbrotr-test.net`, NOW);
    const { finder } = archive.bigbrotr;
    await finder.record(names.named());
    const claim = () => finder.claim(10, ['clearnet'], { holder: 'these tests', leaseSeconds: 60 });
    const [first] = await claim();
    if (!first) throw new Error('there is no candidate');
    await finder.putOff(first, 'timeout');
    expect(await claim()).toEqual([]);
    await archive.db.query('truncate claims');
    await archive.db.query(
      `update named_relays set last_try_at = last_try_at + ${AHEAD}, next_try_at = next_try_at + ${AHEAD}`,
    );
    expect((await claim()).map(({ url }) => url).sort()).toEqual([
      'wss://a.bigbrotr-test.net',
      'wss://b.bigbrotr-test.net',
    ]);
    await archive.db.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, last_try_at, charged_to)
       select 'wss://x' || n || '.net', 'clearnet', 'x', 'x', 1, 0, 'list', 0, array[''::bytea], $1, '' from generate_series(1, 4000) n`,
      [NOW + AHEAD],
    );
    await archive.db.query("update named_relays set next_try_at = 0 where url ~ 'bigbrotr-test'");
    await archive.db.query('truncate claims');
    expect(await claim()).toHaveLength(2);
  });

  test('of the monitor: the procedure of docs/monitor.md rebuilds states and schedule', async ({
    archive,
    relay,
  }) => {
    const [one] = await archive.bigbrotr.relaysOf([relayAddress(relay.url)]);
    if (!one) throw new Error('the relay is not known');
    const check = (generatedAt: number, readable: boolean) => ({
      ...{ relay: one, generatedAt, nip11: null },
      nip66: { openable: readable, readable, writable: false, reason: readable ? null : 'timeout' },
    });
    await archive.bigbrotr.insertSnapshots([check(NOW - 40_000, true)]);
    await archive.bigbrotr.insertSnapshots([check(NOW + AHEAD, false)]);
    const due = { intervalSeconds: 28_800, aheadSeconds: 0 };
    const waiting = async () => (await archive.bigbrotr.relaysToCheck(due)).map(({ url }) => url);
    expect(await waiting()).not.toContain(one.url);
    const page = readFileSync(projectFile('docs/monitor.md'), 'utf8');
    const remedy = /```sql\n(delete from snapshots[\s\S]*?)```/.exec(page)?.[1] ?? '';
    await archive.db.query(remedy);
    expect(await waiting()).toContain(one.url);
    const [row] = await archive.db.query(
      'select state, failures from relay_schedule where relay_id = $1',
      [one.relayId],
    );
    expect(row).toEqual({ state: 'up', failures: 0 });
  });
});
