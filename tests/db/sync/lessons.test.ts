/**
 * The lessons of the Python original and its peers about losing data without a word, one by one, with their numbers:
 * over real sockets, through the code that visits relays, into a real PostgreSQL.
 */
import { describe, expect } from 'vitest';
import type { NostrEvent } from '../../../src/nostr/event.ts';
import { forgedEvents, signedEvent, signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { relayAddress } from '../../relay/relays.ts';
import {
  closed,
  empty,
  nth,
  type ScriptedRelay,
  type ScriptedRelayOptions,
  sometimes,
  unanswered,
} from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const LONG_AGO = { from: T - 30_000_000, to: T - 100_000 };
const HOUR = 3600;
const EVENTS = signedEvents(5000, LONG_AGO);

const test = visitTest
  .extend(
    'start',
    ({ startRelay }) =>
      (
        events: readonly NostrEvent[],
        options: Omit<ScriptedRelayOptions, 'events'> = {},
      ): Promise<ScriptedRelay> => {
        return startRelay({ events, ...options });
      },
  )
  .extend(
    'visit',
    ({ archive }) =>
      (relay: ScriptedRelay, options: VisitOptions = {}) =>
        archive.visit(relay.url, { stopTimestamp: T, ...options }),
  )
  .extend('holes', ({ archive }) => async (relay: ScriptedRelay): Promise<object[]> => {
    return archive.db.query(
      `select since::int, until::int, hole, hole_events as events from coverage_gaps
     where relay_url = $1 order by since`,
      [relayAddress(relay.url).url],
    );
  })
  /** The archive holds exactly these of the relay, and all the time up to T is proven. */
  .extend(
    'expectComplete',
    ({ archive }) =>
      async (relay: ScriptedRelay, events: readonly NostrEvent[]): Promise<void> => {
        expect(await archive.ids(relay.url)).toEqual(idsOf(events));
        expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
      },
  );

const idsOf = (events: readonly NostrEvent[]) => events.map(({ id }) => id).sort();

describe('lesson 1: nothing is concluded from the newest event', () => {
  test('an event dated in the future does not end the archive', async ({
    start,
    visit,
    archive,
  }) => {
    const future = signedEvent({ created_at: T + 400 * 86_400 });
    const events = signedEvents(50, LONG_AGO);
    const relay = await start([future, ...events]);
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 50 });
    const fresh = signedEvents(7, { from: T + 1, to: T + 50, seed: 3 });
    relay.add(fresh);
    expect(await visit(relay, { stopTimestamp: T + 100 })).toMatchObject({ events: 7 });
    expect(await archive.ids(relay.url)).toEqual(idsOf([...events, ...fresh]));
  });

  test('events that arrive late in the newest second, or before it, are found by the next visit', async ({
    start,
    visit,
    archive,
  }) => {
    const newest = signedEvents(20, { from: T - 5, to: T });
    const relay = await start([...newest, ...signedEvents(100, LONG_AGO)]);
    await visit(relay, { overlapSeconds: HOUR });
    const late = [
      ...signedEvents(3, { from: T, to: T, seed: 5 }),
      ...signedEvents(3, { from: T - 1800, to: T - 10, seed: 6 }),
    ];
    relay.add(late);
    expect(await visit(relay, { overlapSeconds: HOUR })).toMatchObject({ events: 6 });
    expect(await archive.ids(relay.url)).toEqual(idsOf(relay.events));
  });
});

describe('lesson 2: an empty answer is not an end', () => {
  test.for([1, 2, 3])(
    '5,000 of 5,000, though one REQ in ten is answered empty (seed %i)',
    async (seed, { start, visit, expectComplete }) => {
      const events = EVENTS;
      const relay = await start(events, { onRequest: sometimes(0.1, seed, empty) });
      expect(await visit(relay, { batchSize: 100 })).toMatchObject({
        outcome: 'complete',
        events: 5000,
      });
      expect(relay.fired.after).toBeGreaterThan(2);
      await expectComplete(relay, events);
    },
  );
});

describe('lesson 3: relays with unusual paging', () => {
  test('2,200 events in one second at a cap of 500 leave a hole, and every other event is archived', async ({
    start,
    visit,
    holes,
    archive,
  }) => {
    const second = T - 500_000;
    const others = signedEvents(1200, LONG_AGO);
    const burst = signedEvents(2200, { from: second, to: second, seed: 2 });
    const relay = await start([...burst, ...others], { quirk: { cap: 500 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'partial' });
    expect(await holes(relay)).toEqual([
      { since: second, until: second, hole: 'dense', events: 500 },
    ]);
    const archived = await archive.ids(relay.url);
    expect(archived).toEqual(expect.arrayContaining(idsOf(others)));
    expect(archived.length).toBeGreaterThanOrEqual(1700);
  });

  test('oldest first: 5,000 of 5,000 events are archived', async ({
    start,
    visit,
    expectComplete,
  }) => {
    const events = EVENTS;
    const relay = await start(events, { quirk: { order: 'oldest-first', cap: 500 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 5000 });
    expect(relay.fired['oldest-first']).toBeGreaterThan(5);
    await expectComplete(relay, events);
  });

  test.for(['newest', 'random'] as const)(
    'ignoring limit and shuffling (%s ones chosen): 5,000 of 5,000',
    async (select, { start, visit, expectComplete }) => {
      const events = EVENTS;
      const relay = await start(events, {
        quirk: { order: 'shuffled', ignore: ['limit'], cap: 700, select },
      });
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 5000 });
      expect(relay.fired.shuffled).toBeGreaterThan(5);
      expect(relay.fired.ignore).toBeGreaterThan(5);
      await expectComplete(relay, events);
    },
  );

  test('600 forged events on top of 400 valid ones: 400 of 400 are archived', async ({
    start,
    visit,
    expectComplete,
  }) => {
    const good = signedEvents(400, { from: T - 300_000, to: T - 200_000 });
    const forged = forgedEvents(600, { from: T - 100_000, to: T - 100, seed: 4 });
    const relay = await start([...forged, ...good], { quirk: { cap: 500 } });
    expect(await visit(relay)).toMatchObject({
      ...{ outcome: 'complete', events: 400, invalid: { bad_signature: expect.any(Number) } },
    });
    await expectComplete(relay, good);
  });

  test('600 forged events on top of every page, requested or not: 400 of 400 are archived', async ({
    start,
    visit,
    archive,
    holes,
  }) => {
    const good = signedEvents(400, { from: T - 300_000, to: T - 200_000 });
    const forged = forgedEvents(600, { from: T - 100_000, to: T - 100, seed: 4, how: 'id' });
    const relay = await start(good, { quirk: { cap: 500, inject: forged } });
    const ends = { outcome: 'partial', detail: 'ignores_until', events: 400 };
    expect(await visit(relay)).toMatchObject({
      ...ends,
      invalid: { id_mismatch: expect.anything() },
    });
    expect(relay.fired.inject).toBeGreaterThan(1);
    expect(await archive.ids(relay.url)).toEqual(idsOf(good));
    // What is forced on us above the window may have taken the place of what lies below.
    expect(await holes(relay)).toMatchObject([{ since: 0, until: good.at(-1)?.created_at }]);
  });

  test('2,493 events that arrive below the cursor, within the overlap, are all archived', async ({
    start,
    visit,
    expectComplete,
  }) => {
    const events = signedEvents(2000, { from: T - 100_000, to: T });
    const relay = await start(events, { quirk: { cap: 500 } });
    const overlapSeconds = 20_000;
    expect(await visit(relay, { overlapSeconds })).toMatchObject({ events: 2000 });
    const late = signedEvents(2493, { from: T - 19_000, to: T - 10, seed: 9 });
    relay.add(late);
    expect(await visit(relay, { overlapSeconds })).toMatchObject({ events: 2493 });
    await expectComplete(relay, [...events, ...late]);
  });
});

describe('lessons 4 and 9: limits, refusals and silence', () => {
  test("a relay's own cap below the asked limit is not taken for the end", async ({
    start,
    visit,
    expectComplete,
  }) => {
    const events = EVENTS.slice(0, 1000);
    const relay = await start(events, { quirk: { cap: 37 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 1000 });
    expect(relay.fired.cap).toBeGreaterThan(20);
    await expectComplete(relay, events);
  });

  test.for(['closed', 'notice'] as const)(
    'a limit above its cap refused by %s: asked for less, and archived',
    async (say, { start, visit, expectComplete }) => {
      const events = EVENTS.slice(0, 1000);
      const refuseLimitAbove = { limit: 100, say };
      const relay = await start(events, { quirk: { refuseLimitAbove } });
      expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 1000 });
      expect(relay.requests[0]?.end).toBe(say);
      await expectComplete(relay, events);
    },
  );

  test.for([
    ['unanswered', unanswered],
    ['closed', closed('error: could not answer')],
    ['closed half-way', closed('error: could not go on', 100)],
  ] as const)(
    'a page that is %s: 3,000 of 3,000',
    async ([_name, quirk], { start, visit, expectComplete }) => {
      const events = EVENTS.slice(0, 3000);
      const relay = await start(events, { onRequest: nth([2, 5], quirk) });
      expect(await visit(relay, { requestTimeoutMs: 300 })).toMatchObject({
        ...{ outcome: 'complete', events: 3000 },
      });
      expect(relay.requests[1]?.end).toMatch(/closed|silence/);
      await expectComplete(relay, events);
    },
  );

  test('a relay that stops answering leaves a gap, which the next visit closes', async ({
    start,
    visit,
    holes,
    expectComplete,
  }) => {
    const events = EVENTS.slice(0, 3000);
    const relay = await start(events, { onRequest: (_, n) => (n > 3 ? unanswered : 'answer') });
    expect(await visit(relay, { requestTimeoutMs: 200 })).toMatchObject({
      ...{ outcome: 'partial', detail: 'timeout' },
    });
    expect(await holes(relay)).toMatchObject([{ since: 0, hole: null }]);
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    await expectComplete(relay, events);
  });
});

describe('lesson 10: an unchanged relay costs next to nothing', () => {
  test('a second round over an unchanged relay costs at most one page', async ({
    start,
    visit,
  }) => {
    const events = EVENTS;
    const relay = await start(events, { quirk: { cap: 500 } });
    const first = await visit(relay, { overlapSeconds: HOUR });
    expect(first).toMatchObject({ outcome: 'complete', events: 5000 });
    relay.forget();
    const second = await visit(relay, { overlapSeconds: HOUR, stopTimestamp: T + 60 });
    expect(second).toMatchObject({ outcome: 'complete', events: 0, pages: 1 });
    expect(relay.eventsSent).toBe(1);
    expect(relay.requests).toHaveLength(1);
  });
});

describe('lesson 11: one bad event does not exclude a relay', () => {
  test('a tag value of 2.7 KB and a message of 4 MB: 300 of 301 events are archived, the other is refused with its reason', async ({
    start,
    visit,
    expectComplete,
  }) => {
    const events = signedEvents(299, LONG_AGO);
    const longTag = signedEvent({ created_at: T - 200_000, tags: [['t', 'x'.repeat(2700)]] });
    const huge = signedEvent({ created_at: T - 150_000, content: 'x'.repeat(4 * 1024 * 1024) });
    const relay = await start([huge, longTag, ...events]);
    expect(await visit(relay)).toMatchObject({
      ...{ outcome: 'complete', events: 300, invalid: { too_large: expect.any(Number) } },
    });
    await expectComplete(relay, [longTag, ...events]);
  });
});

describe('lesson 25: a restart goes on from what is proven', () => {
  test('a visit stopped in the middle and started again repeats at most one page and loses nothing', async ({
    start,
    visit,
    expectComplete,
  }) => {
    const events = EVENTS.slice(0, 3000);
    const stop = new AbortController();
    const relay = await start(events, {
      quirk: { cap: 300 },
      onRequest: (_, n) => {
        if (n === 6) stop.abort();
        return 'answer';
      },
    });
    const stopped = await visit(relay, { batchSize: 300, signal: stop.signal });
    expect(stopped).toMatchObject({ outcome: 'unfinished', detail: 'stopped' });
    expect(relay.requests.length).toBe(6);
    expect(stopped.events).toBeGreaterThan(1000);
    relay.change({ onRequest: () => 'answer' });
    const resumed = await visit(relay, { batchSize: 300 });
    expect(resumed).toMatchObject({ outcome: 'complete', events: 3000 - stopped.events });
    expect(relay.requests[6]?.filters[0]?.until).toBeLessThan(
      relay.requests[1]?.filters[0]?.until as number,
    );
    const once = Math.ceil((3000 - 1) / 299) + 3;
    expect(relay.requests.length).toBeLessThanOrEqual(once + 3);
    await expectComplete(relay, events);
  });
});
