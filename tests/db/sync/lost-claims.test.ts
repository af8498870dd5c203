/** A visit whose claim another process takes over while it goes on, with that process at work on the same relay. */
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect } from 'vitest';
import type { Bigbrotr, Relay } from '../../../src/database/bigbrotr.ts';
import { JobCancelled } from '../../../src/runtime/worker-thread.ts';
import { LiveRelays } from '../../../src/sync/live.ts';
import { visitRelay } from '../../../src/sync/visit-relay.ts';
import { signedEvent, signedEvents } from '../../fixtures/events.ts';
import type { TestArchive } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { silent } from '../../postgres/bigbrotr.ts';

const NOW = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(120, { from: NOW - 100_000, to: NOW - 100 });
const SMALL = { batchSize: 20, lingerMs: 0 };

const test = visitTest.override('relayDefaults', { events: EVENTS });

/** Claims a relay for a process of that name, once the lease of the one before has ended. */
async function claimed(archive: TestArchive, url: string, holder: string): Promise<Relay> {
  const relay = await archive.relay(url);
  await archive.db.query('update claims set until = unix_now() - 1');
  const [row] = await archive.db.query<{ relay_id: number; token: string }>(
    `select * from take_claims('visit', array[$1::integer], $2, 60)`,
    [relay.relayId, holder],
  );
  if (!row) throw new Error(`${holder} does not get the claim`);
  return { ...relay, token: Number(row.token) };
}

/** The archive for one visit, of which one method does something else first, the n-th time that it is called. */
function interrupted(
  bigbrotr: Bigbrotr,
  method: 'store' | 'endVisit' | 'setRelayPolicy' | 'archivedEvents' | 'archivedIds',
  nth: number,
  first: () => Promise<unknown>,
): Bigbrotr {
  let calls = 0;
  return new Proxy(bigbrotr, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      if (name !== method) return value.bind(target);
      return async (...args: unknown[]) => {
        calls += 1;
        if (calls === nth) await first();
        return value.apply(target, args);
      };
    },
  });
}

/** Waits until the clock shows another second. */
const nextSecond = () => sleep(1005 - (Date.now() % 1000));

/** Everything that rests on a claim, and how the relay stands. */
async function written({ db }: TestArchive): Promise<unknown[]> {
  return db.query(
    `select coverage.covered::text, visits.outcome, visits.pages, visits.started_at, m.refusals, m.not_before, m.reason
     from visits left join coverage using (relay_id, filter_id) left join relay_manners m using (relay_id)`,
  );
}

describe.each([
  ['in the middle of a batch', 'archivedEvents', 3],
  ['between a batch and its coverage', 'store', 3],
  ['with its first page', 'store', 1],
  ['before its policy is written', 'setRelayPolicy', 1],
  ['before its end', 'endVisit', 1],
] as const)('a visit that loses its claim %s', (_, method, nth) => {
  test('ends as lost: the rows of the new holder stay, and every event is stored', async ({
    archive,
    startRelay,
  }) => {
    const relay = await startRelay();
    const mine = await claimed(archive, relay.url, 'one');
    let theirs: unknown[] = [];
    const takeOver = async () => {
      await nextSecond(); // or they find nothing left to read where everything is proven already
      const their = await claimed(archive, relay.url, 'two');
      const report = await visitRelay(their, await archive.context(SMALL));
      expect(report).toMatchObject({ outcome: 'complete' });
      theirs = await written(archive);
    };
    const bigbrotr = interrupted(archive.bigbrotr, method, nth, takeOver);
    const visit = visitRelay(mine, await archive.context({ ...SMALL, bigbrotr }));
    await expect(visit).rejects.toMatchObject({ name: 'ClaimLost' });
    expect(theirs).toHaveLength(1);
    expect(theirs[0]).toMatchObject({ outcome: 'complete', refusals: 0, reason: null });
    expect(await written(archive)).toEqual(theirs);
    expect(await archive.ids(relay.url)).toEqual(EVENTS.map(({ id }) => id).sort());
  });
});

test('a visit that loses its claim while NIP-77 goes on ends as lost: the proofs of the new holder stay', async ({
  archive,
  startRelay,
}) => {
  // The archive has the events from another relay, so that they are compared by NIP-77 after some pages.
  const events = signedEvents(900, { from: NOW - 900_000, to: NOW - 100 });
  const source = await startRelay({ events });
  await archive.visit(source.url);
  const relay = await startRelay({ events, quirk: { cap: 100 }, nip77: {} });
  await archive.snapshot(relay.url, { supported_nips: [1, 11, 77] });
  const evidence = () =>
    archive.db.query(
      `select evidence, covered::text, outcome, pages, started_at, (select to_jsonb(m) from relay_manners m where m.relay_id = r.relay_id) as policy
       from relays r join coverage using (relay_id) join visits using (relay_id, filter_id) where url = $1 order by 1`,
      [relay.url],
    );
  const mine = await claimed(archive, relay.url, 'one');
  let theirs: unknown[] = [];
  const bigbrotr = interrupted(archive.bigbrotr, 'archivedIds', 1, async () => {
    expect(relay.nip77.opened.length).toBeGreaterThan(0);
    await nextSecond();
    const their = await claimed(archive, relay.url, 'two');
    const report = await visitRelay(their, await archive.context({}));
    expect(report).toMatchObject({ outcome: 'complete' });
    theirs = await evidence();
  });
  const visit = visitRelay(mine, await archive.context({ bigbrotr }));
  await expect(visit).rejects.toMatchObject({ name: 'ClaimLost' });
  expect(theirs).toContainEqual(
    expect.objectContaining({ evidence: 'nip77', outcome: 'complete' }),
  );
  expect(await evidence()).toEqual(theirs);
  expect(await archive.ids(relay.url)).toEqual(events.map(({ id }) => id).sort());
});

describe('a visit that loses its claim while no other holder works', () => {
  test('stores the received events, and proves nothing', async ({ archive, startRelay }) => {
    const relay = await startRelay();
    const mine = await claimed(archive, relay.url, 'one');
    const takeOver = () => claimed(archive, relay.url, 'two');
    const bigbrotr = interrupted(archive.bigbrotr, 'store', 1, takeOver);
    const visit = visitRelay(mine, await archive.context({ ...SMALL, bigbrotr }));
    await expect(visit).rejects.toMatchObject({ name: 'ClaimLost' });
    const ids = await archive.ids(relay.url);
    expect(ids.length).toBeGreaterThanOrEqual(20);
    expect(await archive.covered(relay.url)).toBe('{}');
    expect(await archive.db.query('select outcome from visits')).toEqual([{ outcome: null }]);
    const next = await claimed(archive, relay.url, 'three');
    const report = await visitRelay(next, await archive.context(SMALL));
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(await archive.ids(relay.url)).toHaveLength(EVENTS.length);
  });

  test('does not change the policy of the relay when the connection fails', async ({
    archive,
    startRelay,
  }) => {
    const relay = await startRelay();
    const mine = await claimed(archive, relay.url, 'one');
    await relay.stop();
    const takeOver = () => claimed(archive, relay.url, 'two');
    const bigbrotr = interrupted(archive.bigbrotr, 'setRelayPolicy', 1, takeOver);
    const visit = visitRelay(mine, await archive.context({ ...SMALL, bigbrotr }));
    await expect(visit).rejects.toMatchObject({ name: 'ClaimLost' });
    expect(await archive.db.query('select from relay_manners')).toEqual([]);
    expect(await archive.db.query('select failures, outcome from visits')).toEqual([
      { failures: 0, outcome: null },
    ]);
  });
});

test('a visit whose claim is lost closes its connection at once, although nothing can be stored', async ({
  archive,
  startRelay,
}) => {
  const relay = await startRelay();
  const mine = await claimed(archive, relay.url, 'one');
  const abort = new AbortController();
  let goOn = () => {};
  const away = new Promise<void>((resolve) => {
    goOn = resolve;
  });
  let isStoring = false;
  const bigbrotr = interrupted(archive.bigbrotr, 'store', 1, () => {
    isStoring = true;
    return away;
  });
  const context = await archive.context({ ...SMALL, bigbrotr, signal: abort.signal });
  const visit = visitRelay(mine, context);
  await expect.poll(() => isStoring, { timeout: 10_000 }).toBe(true);
  expect(relay.connections.open).toBe(1);
  abort.abort(new JobCancelled());
  await relay.until(({ connections }) => connections.open === 0);
  goOn();
  expect(await visit).toMatchObject({ outcome: 'unfinished' });
  expect((await archive.ids(relay.url)).length).toBeGreaterThanOrEqual(20);
  expect(await archive.db.query('select from relay_manners where not_before > 0')).toEqual([]);
});

test('a live subscription ends when its claim is lost; received events are stored', async ({
  archive,
  startRelay,
}) => {
  const relay = await startRelay();
  const live = new LiveRelays({
    ...{ max: 5, keepAliveMs: 60_000, forgetMs: 60_000 },
    log: silent,
  });
  try {
    const mine = await claimed(archive, relay.url, 'one');
    const report = await visitRelay(mine, await archive.context(SMALL), live);
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(live.size).toBe(1);
    await claimed(archive, relay.url, 'two');
    const pushed = signedEvent({ created_at: NOW, content: 'sent while nobody knew' });
    await relay.until(({ requests }) =>
      requests.some(({ filters, end }) => filters[0]?.limit === 0 && end),
    );
    relay.publish(pushed);
    await expect.poll(() => archive.ids(relay.url), { timeout: 5000 }).toContain(pushed.id);
    live.drop('wss://another.example.com');
    expect(live.size).toBe(1);
    live.drop(mine.url);
    await expect.poll(() => live.size).toBe(0);
    const told = archive.told.map(({ followed, followEnded }) => ({ followed, followEnded }));
    expect(told).toContainEqual({ followed: undefined, followEnded: mine.relayId });
    await relay.until(({ connections }) => connections.open === 0);
  } finally {
    await live.close();
  }
});
