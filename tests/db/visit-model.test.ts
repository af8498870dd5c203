import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { NostrEvent } from '../../src/nostr/event.ts';
import { forgedEvents, isValidEvent, signedEvents } from '../support/events.ts';
import { type Nip77Trouble, serveNip77 } from '../support/relay-nip77.ts';
import {
  closed,
  disconnects,
  either,
  every,
  type OnRequest,
  type Quirk,
  startScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';
import { type TestArchive, testArchive } from '../support/visit-context.ts';

/**
 * The whole visit against relays drawn at random, with and without NIP-77, over real sockets and a real database.
 * After a few visits each valid event that the relay held is archived, or lies in a second that coverage does not
 * claim. `tests/unit/paging-model.test.ts` does the same for paging alone, thousands of times.
 */
const RUNS = Number(process.env.FAST_CHECK_VISITS ?? 30);
/** Relays that break off take longer: a place is narrowed down in many requests. */
const ODD_RUNS = Math.ceil(RUNS / 5);
const SEED = Number(process.env.FAST_CHECK_SEED ?? 7);
const FROM = 1_700_000_000;
const PATIENCE_MS = 1000;

process.stdout.write(`visit model: ${RUNS} relays, FAST_CHECK_SEED=${SEED}\n`);

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
      index: fc.record({
        above: fc.integer({ min: FROM, max: FROM + 50_000 }),
        below: fc.constant(0),
      }),
      trouble: fc.record({
        round: fc.integer({ min: 1, max: 3 }),
        what: fc.constantFrom<Nip77Trouble>(
          'disconnect',
          'twice',
          'silence',
          { error: 'closed: took too long' },
          { error: 'rate-limited: slow down' },
          { error: 'restricted: not for you' },
          { error: 'auth-required: who are you?' },
          { error: 'blocked: too many query results' },
          { error: 'blocked: your address is banned' },
          { notice: 'rate-limited: slow down' },
          { closed: 'restricted: not for you' },
        ),
      }),
    },
    { requiredKeys: [] },
  ),
);

/** What a relay does with a REQ for a single event of a window, the probe of a NIP-77 list, or with one by ids. */
const NO_ANSWERS: readonly Quirk[] = [
  closed('rate-limited: slow down'),
  closed('error: internal'),
  closed('restricted: not for you'),
  closed('auth-required: who are you?'),
  unanswered,
  disconnects(0),
];

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
  /** Events that NIP-77 lists and no request brings, and what is answered to those who ask for them by id. */
  withheld: fc.integer({ min: 0, max: 30 }),
  refusal: fc.option(
    fc.constantFrom('auth-required: members', 'restricted: members', 'blocked: no'),
  ),
  atProbe: fc.option(fc.constantFrom(...NO_ANSWERS)),
  atIds: fc.option(fc.constantFrom(...NO_ANSWERS), { freq: 5 }),
  nip77,
});

type Drawn = typeof relays extends fc.Arbitrary<infer T> ? T : never;

async function visitRandomRelay(drawn: Drawn): Promise<void> {
  const { seed, count, burst, spread, forged, cap, hints, failsEvery } = drawn;
  const held = [
    ...signedEvents(count, { from: FROM, to: FROM + spread, seed }),
    ...signedEvents(burst, { from: FROM + 50, to: FROM + 50, seed: seed + 1 }),
  ];
  const hidden = signedEvents(drawn.withheld, { from: FROM, to: FROM + spread, seed: seed + 4 });
  const relay = await startScriptedRelay({
    events: [...held, ...forgedEvents(forged, { from: FROM, to: FROM + spread, seed: seed + 2 })],
    quirk: { cap, end: hints ? 'nip67' : 'eose' },
    onRequest: either(
      oddAnswers(drawn, hidden),
      failsEvery ? every(failsEvery, { after: 3, end: 'disconnect' }) : () => 'answer',
    ),
  });
  try {
    if (drawn.nip77) serveNip77(relay, { ...drawn.nip77, withheld: hidden });
    await archive.snapshot(relay.url, { supported_nips: drawn.nip77 ? [1, 77] : [1] });
    for (let visit = 0; visit < 3; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: PATIENCE_MS });
    }
    relay.add(signedEvents(drawn.late, { from: FROM, to: FROM + spread, seed: seed + 3 }));
    const before = await missingOf(relay.url, held);
    expect(before).toEqual([]);
    // What came late is found when old coverage is proven anew.
    for (let visit = 0; visit < 2; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: PATIENCE_MS, overlapSeconds: 10 ** 10 });
    }
    expect(await missingOf(relay.url, held)).toEqual([]);
    if (drawn.nip77?.cap === undefined) expect(await unnamed(relay.url, hidden)).toEqual([]);
    const behaves =
      failsEvery === null && !drawn.nip77?.trouble && drawn.atIds === null && burst < cap;
    if (behaves) expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  } finally {
    await relay.stop();
  }
}

/** How a relay answers probes and REQs by ids, where it is odd about them. */
function oddAnswers({ atProbe, atIds, refusal }: Drawn, hidden: readonly NostrEvent[]): OnRequest {
  const ids = new Set(hidden.map(({ id }) => id));
  return ({ filters }) => {
    const named = filters.flatMap((filter) => filter.ids ?? []);
    if (named.length > 0 && atIds) return atIds;
    if (refusal && named.some((id) => ids.has(id))) return closed(refusal);
    return atProbe && named.length === 0 && filters[0]?.limit === 1 ? atProbe : 'answer';
  };
}

/** Ids of withheld events that lie in time proven by NIP-77, and are neither archived nor named as withheld. */
async function unnamed(url: string, hidden: readonly NostrEvent[]) {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage join relays using (relay_id) where url = $1 and evidence = 'nip77'
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and not exists (select from events_relays where relay_url = $1 and event_id = decode(t.id, 'hex'))
       and not exists (select from withheld join relays using (relay_id) where url = $1 and id = decode(t.id, 'hex'))`,
    [
      new URL(url).href.replace(/\/$/, ''),
      hidden.map(({ id }) => id),
      hidden.map((event) => event.created_at),
    ],
  );
  return rows.map(({ id }) => id);
}

function idsOf(events: readonly NostrEvent[]): string[] {
  return events
    .filter(isValidEvent)
    .map(({ id }) => id)
    .sort();
}

/** Ids of held events that are neither archived nor named as withheld, although their second is covered. */
async function missingOf(url: string, held: readonly { id: string; created_at: number }[]) {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select range_agg(covered) as covered from coverage join relays using (relay_id) where url = $1
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and not exists (select from events_relays where relay_url = $1 and event_id = decode(t.id, 'hex'))
       and not exists (select from withheld join relays using (relay_id) where url = $1 and id = decode(t.id, 'hex'))`,
    [
      new URL(url).href.replace(/\/$/, ''),
      held.map(({ id }) => id),
      held.map((event) => event.created_at),
    ],
  );
  return rows.map(({ id }) => id);
}

/** Relays that page oddly: answers that break off, go on after their EOSE, or take bounds as exclusive. */
const oddPagers = fc.record({
  seed: fc.nat(10_000),
  spread: fc.integer({ min: 2000, max: 100_000 }),
  count: fc.integer({ min: 250, max: 400 }),
  cap: fc.integer({ min: 20, max: 120 }),
  order: fc.constantFrom('newest-first' as const, 'oldest-first' as const, 'shuffled' as const),
  exclusive: fc.subarray(['since', 'until'] as const),
  poisoned: fc.array(fc.nat(249), { maxLength: 2 }),
  how: fc.constantFrom('disconnect' as const, 'closed' as const, 'silence' as const),
  eoseAfter: fc.option(fc.integer({ min: 0, max: 10 }), { freq: 2 }),
  refusesLimitAbove: fc.option(fc.constantFrom(20, 60, 400)),
});

async function visitOddPager(drawn: typeof oddPagers extends fc.Arbitrary<infer T> ? T : never) {
  const { seed, count, spread, cap, order, exclusive, poisoned, how, refusesLimitAbove } = drawn;
  const held = signedEvents(count, { from: FROM, to: FROM + spread, seed });
  const createdAt = poisoned.flatMap((index) => held[index]?.created_at ?? []);
  const relay = await startScriptedRelay({
    events: held,
    quirk: {
      ...{ cap, order, exclusive },
      ...(createdAt.length > 0 && { poison: { createdAt, how } }),
      ...(drawn.eoseAfter !== null && { eoseAfter: drawn.eoseAfter }),
      ...(refusesLimitAbove !== null && {
        refuseLimitAbove: { limit: refusesLimitAbove, say: 'closed' as const },
      }),
    },
  });
  try {
    for (let visit = 0; visit < 2; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: 300, lingerMs: 100 });
      expect(await missingOf(relay.url, held), `visit ${visit + 1}`).toEqual([]);
    }
  } finally {
    await relay.stop();
  }
}

it(`coverage claims no second of which an event is missing (${ODD_RUNS} relays that page oddly)`, {
  timeout: 60_000 + ODD_RUNS * 40_000,
}, async () => {
  await fc.assert(fc.asyncProperty(oddPagers, visitOddPager), { numRuns: ODD_RUNS, seed: SEED });
});

it(`coverage claims no second of which an event is missing (${RUNS} relays at random)`, {
  timeout: 60_000 + RUNS * 6000,
}, async () => {
  await fc.assert(fc.asyncProperty(relays, visitRandomRelay), { numRuns: RUNS, seed: SEED });
});
