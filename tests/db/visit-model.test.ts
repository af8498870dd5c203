import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { forgedEvents, isValidEvent, signedEvents } from '../support/events.ts';
import { serveNip77 } from '../support/relay-nip77.ts';
import { every, startScriptedRelay } from '../support/scripted-relay.ts';
import { type TestArchive, testArchive } from '../support/visit-context.ts';

/**
 * The whole visit against relays drawn at random, with and without NIP-77, over real sockets and a real database.
 * After a few visits each valid event that the relay held is archived, or lies in a second that coverage does not
 * claim. `tests/unit/paging-model.test.ts` does the same for paging alone, thousands of times.
 */
const RUNS = Number(process.env.FAST_CHECK_VISITS ?? 30);
const SEED = Number(process.env.FAST_CHECK_SEED ?? 7);
const FROM = 1_700_000_000;

let archive: TestArchive;

beforeAll(async () => {
  archive = await testArchive();
});

afterAll(() => archive?.close());

const nip77 = fc.option(
  fc.record(
    {
      maxIds: fc.integer({ min: 5, max: 400 }),
      cap: fc.integer({ min: 20, max: 200 }),
      frameSizeLimit: fc.constantFrom(4096, 60_000),
      trouble: fc.record({
        round: fc.integer({ min: 1, max: 3 }),
        what: fc.constantFrom('disconnect' as const, 'twice' as const, {
          error: 'closed: took too long',
        }),
      }),
    },
    { requiredKeys: [] },
  ),
);

const relays = fc.record({
  seed: fc.nat(10_000),
  spread: fc.integer({ min: 100, max: 100_000 }),
  count: fc.integer({ min: 0, max: 300 }),
  burst: fc.integer({ min: 0, max: 60 }),
  forged: fc.integer({ min: 0, max: 40 }),
  cap: fc.integer({ min: 20, max: 120 }),
  hints: fc.boolean(),
  late: fc.integer({ min: 0, max: 30 }),
  failsEvery: fc.option(fc.integer({ min: 3, max: 9 })),
  nip77,
});

type Drawn = typeof relays extends fc.Arbitrary<infer T> ? T : never;

async function visitRandomRelay(drawn: Drawn): Promise<void> {
  const { seed, count, burst, spread, forged, cap, hints, failsEvery } = drawn;
  const held = [
    ...signedEvents(count, { from: FROM, to: FROM + spread, seed }),
    ...signedEvents(burst, { from: FROM + 50, to: FROM + 50, seed: seed + 1 }),
  ];
  const relay = await startScriptedRelay({
    events: [...held, ...forgedEvents(forged, { from: FROM, to: FROM + spread, seed: seed + 2 })],
    quirk: { cap, end: hints ? 'nip67' : 'eose' },
    ...(failsEvery && { onRequest: every(failsEvery, { after: 3, end: 'disconnect' }) }),
  });
  try {
    if (drawn.nip77) serveNip77(relay, drawn.nip77);
    await archive.snapshot(relay.url, { supported_nips: drawn.nip77 ? [1, 77] : [1] });
    for (let visit = 0; visit < 3; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: 2000 });
    }
    relay.add(signedEvents(drawn.late, { from: FROM, to: FROM + spread, seed: seed + 3 }));
    const before = await missingOf(relay.url, held);
    expect(before).toEqual([]);
    // What came late is found when old coverage is proven anew.
    for (let visit = 0; visit < 2; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: 2000, overlapSeconds: 10 ** 10 });
    }
    expect(await missingOf(relay.url, held)).toEqual([]);
    const behaves = failsEvery === null && !drawn.nip77?.trouble && burst < cap;
    if (behaves) expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  } finally {
    await relay.stop();
  }
}

function idsOf(events: readonly NostrEvent[]): string[] {
  return events
    .filter(isValidEvent)
    .map(({ id }) => id)
    .sort();
}

/** Ids of held events that are not archived although their second is covered. */
async function missingOf(url: string, held: readonly { id: string; created_at: number }[]) {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select range_agg(covered) as covered from coverage join relays using (relay_id) where url = $1
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and not exists (select from events_relays where relay_url = $1 and event_id = decode(t.id, 'hex'))`,
    [
      new URL(url).href.replace(/\/$/, ''),
      held.map(({ id }) => id),
      held.map((event) => event.created_at),
    ],
  );
  return rows.map(({ id }) => id);
}

it(`coverage claims no second of which an event is missing (${RUNS} relays at random)`, {
  timeout: 60_000 + RUNS * 6000,
}, async () => {
  await fc.assert(fc.asyncProperty(relays, visitRandomRelay), { numRuns: RUNS, seed: SEED });
});
