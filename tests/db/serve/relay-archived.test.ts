/** Other programs archive the archive: nostr-tools, and our own synchronizer, as they are. */
import { nip77 } from 'nostr-tools';
import { SimplePool, useWebSocketImplementation } from 'nostr-tools/pool';
import { Relay, useWebSocketImplementation as useForRelay } from 'nostr-tools/relay';
import { describe, expect } from 'vitest';
import { WebSocket } from 'ws';
import { Refreshing } from '../../../src/refresh/refreshing.ts';
import { createMetrics } from '../../../src/telemetry/metrics.ts';
import { idsOf, signedEvent, signedEvents } from '../../fixtures/events.ts';
import { relayServerTest } from '../../fixtures/relay-server-test.ts';
import { testArchive } from '../../fixtures/visit-context.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { relayAddress } from '../../relay/relays.ts';

useWebSocketImplementation(WebSocket);
useForRelay(WebSocket);

/** The first second of a day. */
const FROM = 1_699_920_000;
const EXPIRED = [5, 90_000, 200_000].map((after) =>
  signedEvent({ created_at: FROM + after, tags: [['expiration', String(FROM + 300_000)]] }),
);
const EVENTS = [
  ...EXPIRED,
  ...signedEvents(500, { from: FROM, to: FROM + 9 * 86_400, kinds: [0, 1, 3, 7, 10_002] }),
  ...signedEvents(300, { from: FROM + 7, to: FROM + 8, seed: 3 }), // more in two seconds than in a page
];

const test = relayServerTest
  /** An archive elsewhere, which visits ours. */
  .extend('elsewhere', async ({ database: _ofOurs }, { onCleanup }) => {
    const archive = await testArchive();
    onCleanup(() => archive.close());
    return archive;
  })
  /** Counts every day, so that the sums of days are of use. */
  .extend('countDays', ({ bigbrotr }) => async () => {
    const service = {
      ...{ bigbrotr, log: silent, metrics: createMetrics('test') },
      ...{ detail: () => {}, logRepeated: () => {}, noteStored: () => {}, setBusy: () => {} },
      signal: new AbortController().signal,
    };
    await new Refreshing(service, 1).finish('all');
  });

describe('our synchronizer', () => {
  test('proves all of it complete by the hint of NIP-67', async ({ store, serve, elsewhere }) => {
    await store(EVENTS);
    const { url } = await serve({ limits: { pageEvents: 100 } });
    await elsewhere.snapshot(url, { supported_nips: [1, 11] });
    const report = await elsewhere.visit(url);
    expect(report.outcome).toBe('complete');
    const wanted = idsOf(EVENTS.filter((event) => !EXPIRED.includes(event)));
    expect(await elsewhere.allIds()).toEqual(wanted);
    expect(await proofs(elsewhere, url)).toContain('finish'); // the last page; those before by paging
    const gaps = 'select from coverage_gaps where relay_url = $1';
    expect(await elsewhere.db.query(gaps, [relayAddress(url).url])).toEqual([]);
  });

  test('proves all of it complete by NIP-77, and gets expired events too', async ({
    store,
    serve,
    elsewhere,
    countDays,
  }) => {
    await store(EVENTS);
    await countDays();
    const { url } = await serve();
    await elsewhere.snapshot(url, { supported_nips: [1, 11, 67, 77] });
    const first = await elsewhere.visit(url);
    expect(first.outcome).toBe('complete');
    expect(await elsewhere.allIds()).toEqual(idsOf(EVENTS));
    expect(await proofs(elsewhere, url)).toEqual(['nip77']);
    // What is stored later is found by comparison too.
    const fresh = signedEvents(30, { from: FROM + 9, to: FROM + 86_400, seed: 9 });
    await store(fresh);
    await elsewhere.db.query('truncate coverage');
    expect((await elsewhere.visit(url)).outcome).toBe('complete');
    expect(await elsewhere.allIds()).toEqual(idsOf([...EVENTS, ...fresh]));
  });
});

describe('nostr-tools', () => {
  test('SimplePool reads every page, and new events as they come', async ({ store, serve }) => {
    await store(EVENTS);
    const { url } = await serve();
    const pool = new SimplePool();
    const found = new Map<string, number>();
    for (let until = 2_000_000_000, before = -1; found.size > before; ) {
      before = found.size;
      const page = await pool.querySync([url], { until, limit: 500 }, { maxWait: 10_000 });
      for (const { id, created_at } of page) found.set(id, created_at);
      until = Math.min(until, ...page.map(({ created_at }) => created_at));
    }
    expect([...found.keys()].sort()).toEqual(
      idsOf(EVENTS.filter((event) => !EXPIRED.includes(event))),
    );
    const live: string[] = [];
    await new Promise<void>((oneose) => {
      pool.subscribeMany([url], { kinds: [7777] }, { onevent: ({ id }) => live.push(id), oneose });
    });
    const fresh = signedEvents(5, { from: FROM, to: FROM + 9, kinds: [7777], seed: 5 });
    await store(fresh);
    await expect.poll(() => live.length, { timeout: 5000 }).toBe(5);
    expect(live.sort()).toEqual(idsOf(fresh));
    pool.close([url]);
  });

  test('Relay and NegentropySync find what is missing on either side, and count', async ({
    store,
    serve,
    countDays,
  }) => {
    const theirs = EVENTS.slice(100);
    await store(theirs);
    await countDays();
    const { url } = await serve();
    const relay = await Relay.connect(url);
    for (const filter of [{}, { kinds: [1, 7] }]) {
      const matching = EVENTS.filter(
        ({ kind }) => !('kinds' in filter) || filter.kinds?.includes(kind),
      );
      const storage = new nip77.NegentropyStorageVector();
      const ours = matching.filter((_, place) => place % 7 !== 3);
      for (const { created_at, id } of ours) storage.insert(created_at, id);
      storage.seal();
      const [have, need] = [new Set<string>(), new Set<string>()];
      await new Promise<void>((resolve, reject) => {
        const sync = new nip77.NegentropySync(relay, storage, filter, {
          onhave: (id) => have.add(id),
          onneed: (id) => need.add(id),
          onclose: (reason) => (reason ? reject(new Error(reason)) : resolve()),
        });
        void sync.start();
      });
      const held = theirs.filter((event) => matching.includes(event));
      expect([...need].sort()).toEqual(idsOf(held.filter((event) => !ours.includes(event))));
      expect([...have].sort()).toEqual(idsOf(ours.filter((event) => !held.includes(event))));
      expect(await relay.count([filter], {})).toBe(held.length);
    }
    relay.close();
  });
});

/** How everything was proven. */
async function proofs(
  { db }: Awaited<ReturnType<typeof testArchive>>,
  url: string,
): Promise<string[]> {
  const rows = await db.query<{ evidence: string }>(
    'select distinct evidence from coverage join relays using (relay_id) where url = $1 order by 1',
    [relayAddress(url).url],
  );
  return rows.map(({ evidence }) => evidence);
}
