import fc from 'fast-check';
import { expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import type { EventFilter } from '../../../src/nostr/filter.ts';
import { forgedEvents, isValidEvent, signedEvents } from '../../fixtures/events.ts';
import { seededRandom } from '../../fixtures/random.ts';
import type { TestArchive } from '../../fixtures/visit-context.ts';
import { visitTest as test } from '../../fixtures/visit-test.ts';
import { playEach } from '../../relay/play-each.ts';
import {
  capsValues,
  closed,
  disconnects,
  either,
  every,
  type Nip77Trouble,
  type OnRequest,
  prematureEose,
  type Quirk,
  refusesBare,
  type ScriptedRelay,
  startScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';

/**
 * The whole visit against relays drawn at random, with and without NIP-77, over real sockets and a real database.
 * After a few visits each valid event that the relay held is archived, or lies in a second that coverage does not
 * claim. `tests/fuzz/sync/paging-model.test.ts` does the same for paging alone, thousands of times.
 */
const RUNS = Number(process.env.FAST_CHECK_VISITS ?? 30);
/** Relays that break off take longer: a place is narrowed down in many requests. */
const ODD_RUNS = Math.ceil(RUNS / 5);
const SEED = Number(process.env.FAST_CHECK_SEED ?? 7);
const FROM = 1_700_000_000;
const PATIENCE_MS = 1000;

const TOO_MANY_IDS = 'error: too many ids';
/** Kinds of the events of relays that refuse shapes of filters, and of what they are asked for. */
const KINDS = [0, 1, 3, 6, 7, 1984, 10_002, 30_023];

process.stdout.write(`visit model: ${RUNS} relays, FAST_CHECK_SEED=${SEED}\n`);

type Valued<T> = T extends fc.Arbitrary<infer V> ? V : never;

/** How often the oddities of relays have happened, by name. */
const fired = new Map<string, number>();

function noteFired(relay: ScriptedRelay): void {
  for (const [name, times] of Object.entries(relay.fired))
    fired.set(name, (fired.get(name) ?? 0) + times);
}

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
  /** Answers that end too early, never two in a row. */
  falseEvery: fc.option(fc.integer({ min: 3, max: 9 }), { freq: 2 }),
  /** Most ids in one REQ. */
  maxIds: fc.option(fc.integer({ min: 1, max: 100 }), { freq: 2 }),
  /** Events that NIP-77 lists and no request brings, and what is answered to those who ask for them by id. */
  withheld: fc.integer({ min: 0, max: 30 }),
  refusal: fc.option(
    fc.constantFrom('auth-required: members', 'restricted: members', 'blocked: no'),
  ),
  atProbe: fc.option(fc.constantFrom(...NO_ANSWERS)),
  atIds: fc.option(fc.constantFrom(...NO_ANSWERS), { freq: 5 }),
  /** The same for those who ask for one of the withheld events. */
  atOne: fc.option(fc.constantFrom(...NO_ANSWERS), { freq: 3 }),
  nip77,
});

type Drawn = Valued<typeof relays>;

async function visitRandomRelay(archive: TestArchive, drawn: Drawn): Promise<void> {
  const { seed, count, burst, spread, forged, cap, hints, failsEvery, falseEvery } = drawn;
  const held = [
    ...signedEvents(count, { from: FROM, to: FROM + spread, seed }),
    ...signedEvents(burst, { from: FROM + 50, to: FROM + 50, seed: seed + 1 }),
  ];
  const hidden = signedEvents(drawn.withheld, { from: FROM, to: FROM + spread, seed: seed + 4 });
  const relay = await startScriptedRelay({
    events: [...held, ...forgedEvents(forged, { from: FROM, to: FROM + spread, seed: seed + 2 })],
    quirk: {
      ...{ cap, end: hints ? 'nip67' : 'eose' },
      ...(drawn.maxIds !== null && {
        refuseFilter: {
          when: ({ ids = [] }) => ids.length > (drawn.maxIds ?? 0),
          text: TOO_MANY_IDS,
        },
      }),
    },
    onRequest: either(
      oddAnswers(drawn, hidden),
      failsEvery ? every(failsEvery, { after: 3, end: 'disconnect' }) : () => 'answer',
      falseEvery ? every(falseEvery, prematureEose(3)) : () => 'answer',
    ),
  });
  try {
    if (drawn.nip77) relay.change({ nip77: { ...drawn.nip77, withheld: hidden } });
    await archive.snapshot(relay.url, { supported_nips: drawn.nip77 ? [1, 77] : [1] });
    for (let visit = 0; visit < 3; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: PATIENCE_MS });
    }
    relay.add(signedEvents(drawn.late, { from: FROM, to: FROM + spread, seed: seed + 3 }));
    const before = await missingOf(archive, relay.url, held);
    expect(before).toEqual([]);
    // What came late is found when old coverage is proven anew.
    for (let visit = 0; visit < 2; visit += 1) {
      await archive.visit(relay.url, { requestTimeoutMs: PATIENCE_MS, overlapSeconds: 10 ** 10 });
    }
    expect(await missingOf(archive, relay.url, held)).toEqual([]);
    if (drawn.nip77?.cap === undefined)
      expect(await unnamed(archive, relay.url, hidden)).toEqual([]);
    const behaves =
      [failsEvery, falseEvery, drawn.atIds].every((odd) => odd === null) &&
      !drawn.nip77?.trouble &&
      burst < cap;
    if (behaves) expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  } finally {
    await relay.stop();
  }
}

/** How a relay answers probes and REQs by ids, where it is odd about them. */
function oddAnswers(
  { atProbe, atIds, atOne, refusal }: Drawn,
  hidden: readonly NostrEvent[],
): OnRequest {
  const ids = new Set(hidden.map(({ id }) => id));
  return ({ filters }) => {
    const named = filters.flatMap((filter) => filter.ids ?? []);
    if (named.length > 0 && atIds) return atIds;
    if (atOne && hidden[0] && named.includes(hidden[0].id)) return atOne;
    if (refusal && named.some((id) => ids.has(id))) return closed(refusal);
    return atProbe && named.length === 0 && filters[0]?.limit === 1 ? atProbe : 'answer';
  };
}

/** Ids of withheld events that lie in time proven by NIP-77, and are neither archived nor named as withheld. */
async function unnamed(archive: TestArchive, url: string, hidden: readonly NostrEvent[]) {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select coalesce(range_agg(covered), '{}') as covered
         from coverage join relays using (relay_id) where url = $1 and evidence = 'nip77'
     )
     select t.id from unnest($2::text[], $3::bigint[]) as t (id, created_at), proven
     where t.created_at <@ covered
       and decode(t.id, 'hex') not in (select event_id from events_relays where relay_url = $1)
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

/** Ids of held events that are neither archived nor named as withheld, although a filter that they match is covered. */
async function missingOf(archive: TestArchive, url: string, held: readonly NostrEvent[]) {
  const rows = await archive.db.query<{ id: string }>(
    `with proven as (
         select filter::jsonb -> 'kinds' as kinds, range_agg(covered) as covered
         from coverage join relays using (relay_id) join filters using (filter_id)
         where url = $1 group by 1
     )
     select distinct t.id from unnest($2::text[], $3::bigint[], $4::int[]) as t (id, created_at, kind), proven
     where t.created_at <@ covered and (kinds is null or kinds @> to_jsonb(t.kind))
       and decode(t.id, 'hex') not in (select event_id from events_relays where relay_url = $1)
       and not exists (select from withheld join relays using (relay_id) where url = $1 and id = decode(t.id, 'hex'))`,
    [
      new URL(url).href.replace(/\/$/, ''),
      held.map(({ id }) => id),
      held.map((event) => event.created_at),
      held.map(({ kind }) => kind),
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

async function visitOddPager(archive: TestArchive, drawn: Valued<typeof oddPagers>): Promise<void> {
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
      expect(await missingOf(archive, relay.url, held), `visit ${visit + 1}`).toEqual([]);
    }
  } finally {
    await relay.stop();
  }
}

/** A kind that is in no filter by kinds: where the relay is asked so, nothing is proven of all events. */
const UNASKED_KIND = 4321;

/** Relays that refuse the shape of what they are asked. */
const shyRelays = fc.record({
  seed: fc.nat(10_000),
  count: fc.integer({ min: 0, max: 120 }),
  cap: fc.integer({ min: 20, max: 120 }),
  asked: fc.oneof(
    { weight: 1, arbitrary: fc.record({ filter: fc.constant<EventFilter>({}) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        filter: fc.constantFrom<EventFilter>({ kinds: [1, 3, 7] }, { kinds: KINDS }),
        refuses: fc.oneof(
          fc.record({ listsAbove: fc.constantFrom(1, 2) }),
          fc.record({ kind: fc.constantFrom(1, 3, 7) }),
        ),
      }),
    },
  ),
  text: fc.constantFrom(
    'error: filter not allowed',
    'blocked: filter not allowed',
    'restricted: too many values in one list of the filter',
  ),
  nip77: fc.boolean(),
  falseEvery: fc.option(fc.integer({ min: 4, max: 9 })),
});

function refusalOf({ asked, text }: Valued<typeof shyRelays>): Quirk {
  if (!('refuses' in asked)) return refusesBare(text);
  const { refuses } = asked;
  if ('listsAbove' in refuses) return capsValues(refuses.listsAbove, text);
  return { refuseFilter: { when: ({ kinds }) => kinds?.includes(refuses.kind) ?? false, text } };
}

async function visitShyRelay(archive: TestArchive, drawn: Valued<typeof shyRelays>): Promise<void> {
  const { seed, count, cap, asked, falseEvery } = drawn;
  const { filter } = asked;
  const kinds = [...KINDS, UNASKED_KIND];
  const held = signedEvents(count, { from: FROM, to: FROM + 50_000, seed, kinds });
  const relay = await startScriptedRelay({
    events: held,
    quirk: { cap, ...refusalOf(drawn) },
    onRequest: falseEvery ? every(falseEvery, prematureEose(3)) : () => 'answer',
  });
  try {
    if (drawn.nip77) relay.change({ nip77: {} });
    await archive.snapshot(relay.url, { supported_nips: drawn.nip77 ? [1, 77] : [1] });
    for (let visit = 0; visit < 2; visit += 1) {
      await archive.visit(relay.url, { filter, requestTimeoutMs: PATIENCE_MS });
      expect(await missingOf(archive, relay.url, held), `visit ${visit + 1}`).toEqual([]);
    }
    noteFired(relay);
  } finally {
    await relay.stop();
  }
}

/** Relays that show a part of their events at each asking: few of them may be believed. */
const changingRelays = fc.record({
  seed: fc.nat(10_000),
  count: fc.integer({ min: 40, max: 400 }),
  cap: fc.integer({ min: 30, max: 200 }),
  serves: fc.constantFrom(0.3, 0.5, 0.7),
});

let believed = 0;

async function visitChangingRelay(
  archive: TestArchive,
  { seed, count, cap, serves }: Valued<typeof changingRelays>,
) {
  const held = signedEvents(count, { from: FROM, to: FROM + 5_000_000, seed });
  const relay = await startScriptedRelay({ events: held, quirk: { cap, serves, seed } });
  try {
    const { next: random } = seededRandom(seed);
    await archive.visit(relay.url, { requestTimeoutMs: PATIENCE_MS, random });
    if ((await missingOf(archive, relay.url, held)).length > 0) believed += 1;
    noteFired(relay);
  } finally {
    await relay.stop();
  }
}

test(`coverage claims no second of which an event is missing (${ODD_RUNS} relays that page oddly)`, {
  timeout: 60_000 + ODD_RUNS * 40_000,
}, async ({ archive }) => {
  await playEach(oddPagers, { numRuns: ODD_RUNS, seed: SEED }, (drawn) =>
    visitOddPager(archive, drawn),
  );
});

test(`coverage claims no second of which an event is missing (${ODD_RUNS} relays that refuse shapes of filters)`, {
  timeout: 60_000 + ODD_RUNS * 40_000,
}, async ({ archive }) => {
  await playEach(shyRelays, { numRuns: ODD_RUNS, seed: SEED }, (drawn) =>
    visitShyRelay(archive, drawn),
  );
  expect(fired.get('refuseFilter')).toBeGreaterThan(0);
});

test(`coverage claims no second of which an event is missing (${RUNS} relays at random)`, {
  timeout: 60_000 + RUNS * 6000,
}, async ({ archive }) => {
  await playEach(relays, { numRuns: RUNS, seed: SEED }, (drawn) =>
    visitRandomRelay(archive, drawn),
  );
});

test(`at most one in ten is believed of relays whose answers change (${RUNS} relays)`, {
  timeout: 60_000 + RUNS * 6000,
}, async ({ archive }) => {
  await playEach(changingRelays, { numRuns: RUNS, seed: SEED }, (drawn) =>
    visitChangingRelay(archive, drawn),
  );
  expect(fired.get('serves')).toBeGreaterThan(RUNS);
  process.stdout.write(`visit model: ${believed} of ${RUNS} that change were believed\n`);
  expect(believed).toBeLessThanOrEqual(RUNS / 10);
});
