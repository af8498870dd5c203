import { describe, expect, test } from 'vitest';
import type { Bigbrotr, Relay } from '../../src/bigbrotr.ts';
import { signedEvents } from '../support/events.ts';
import {
  afterwards,
  closed,
  first,
  notice,
  nth,
  rateLimited,
  type ScriptedRelay,
  unanswered,
} from '../support/scripted-relay.ts';
import { visitBench } from '../support/visit-bench.ts';
import type { VisitOptions } from '../support/visit-context.ts';

const DAY = 86_400;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(250, { from: T - 100_000, to: T - 100 });

const { archive, start } = await visitBench({ events: EVENTS });

/** A visit at the time T, by which pauses are counted. */
const visit = (relay: Pick<ScriptedRelay, 'url'>, options: VisitOptions = {}) =>
  archive.visit(relay.url, { now: () => T, ...options });

interface MannersRow {
  not_before: string;
  reason: string | null;
  refusals: number;
  pace_ms: number;
  page_limit: number | null;
}

async function manners({ url }: Pick<ScriptedRelay, 'url'>): Promise<MannersRow | undefined> {
  const [row] = await archive.db.query<MannersRow>(
    `select not_before, reason, refusals, pace_ms, page_limit
     from relay_manners join relays using (relay_id) where url = $1`,
    [url],
  );
  return row;
}

/** Seconds from T until the relay may be visited again. */
const pause = async (relay: Pick<ScriptedRelay, 'url'>) =>
  Number((await manners(relay))?.not_before) - T;

const limitsOf = ({ requests }: ScriptedRelay) => requests.map(({ filters }) => filters[0]?.limit);

async function dueBy(bigbrotr: Bigbrotr, relay: Relay, intervalSeconds = 0) {
  const filterId = await bigbrotr.filterId({});
  const ages = { snapshotSeconds: 3600, intervalSeconds };
  return {
    synchronizer: (await bigbrotr.relaysToSynchronize(filterId, ages)).map(({ url }) => url),
    priority: (await bigbrotr.relaysDue([relay], filterId, intervalSeconds)).map(({ url }) => url),
  };
}

describe('what a relay says of its limits', () => {
  test('max_limit is kept by every REQ', async () => {
    const relay = await start({ quirk: { refuseLimitAbove: { limit: 40, say: 'closed' } } });
    await archive.snapshot(relay.url, { limitation: { max_limit: 40 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 250 });
    expect(new Set(limitsOf(relay))).toEqual(new Set([40]));
    expect(relay.fired.refuseLimitAbove).toBeUndefined();
    expect(await manners(relay)).toMatchObject({ page_limit: null });
  });

  test('the latest document counts, and a later snapshot without one takes nothing back', async () => {
    const relay = await start();
    const insert = (generatedAt: number, nip11: object | null) =>
      archive.bigbrotr.insertSnapshots([
        { relay: { url: relayOf(relay), network: 'clearnet' }, generatedAt, nip11, nip66: null },
      ]);
    const relayOf = (one: ScriptedRelay) => one.url as Relay['url'];
    await insert(T - 300, { limitation: { max_limit: 30 } });
    await insert(T - 200, { limitation: { max_limit: 60 } });
    await insert(T - 100, null);
    await visit(relay);
    expect(new Set(limitsOf(relay))).toEqual(new Set([60]));
  });

  test.each([0, -5, 5000])('a max_limit of %d does not change ours', async (max_limit) => {
    const relay = await start();
    await archive.snapshot(relay.url, { limitation: { max_limit } });
    await visit(relay);
    expect(new Set(limitsOf(relay))).toEqual(new Set([500]));
  });

  test('what we send is short: the longest filter there is, and subscription ids of 12 characters', async () => {
    const relay = await start({ maxMessageBytes: 4096 });
    const authors = Array.from({ length: 30 }, (_, index) => `${index}`.padStart(64, '0'));
    expect(await visit(relay, { filter: { authors } })).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.maxMessageBytes).toBeUndefined();
    for (const { subscription, bytes } of relay.requests) {
      expect(subscription).toMatch(/^[0-9a-f]{12}$/);
      expect(bytes).toBeLessThan(2300);
    }
    // More does not fit into the archive's own bound of a filter.
    const more = [...authors, 'f'.repeat(64)];
    await expect(archive.bigbrotr.filterId({ authors: more })).rejects.toThrow(
      /filters_filter_length/,
    );
  });
});

describe('a limit that the relay refuses', () => {
  test.each(['closed', 'notice'] as const)(
    'by %s is learnt, and kept from the first REQ of the next visit on',
    async (say) => {
      const relay = await start({ quirk: { refuseLimitAbove: { limit: 120, say } } });
      expect(await visit(relay, { stopTimestamp: T, requestTimeoutMs: 500 })).toMatchObject({
        outcome: 'complete',
        events: 250,
      });
      expect(relay.fired.refuseLimitAbove).toBe(1);
      expect(limitsOf(relay).slice(0, 2)).toEqual([500, 100]);
      expect(await manners(relay)).toMatchObject({ page_limit: 100, reason: null });

      relay.forget();
      relay.add(signedEvents(150, { from: T + 1, to: T + 50, seed: 1 }));
      const bigbrotr = await archive.again();
      const report = await visit(relay, { bigbrotr, stopTimestamp: T + 50 });
      expect(report).toMatchObject({ outcome: 'complete', events: 150 });
      expect(relay.fired.refuseLimitAbove).toBeUndefined();
      expect(new Set(limitsOf(relay))).toEqual(new Set([100]));
    },
  );

  test('is asked for less in the same visit too, when old coverage is read after new', async () => {
    const relay = await start();
    await visit(relay, { stopTimestamp: T });
    await archive.db.query('update coverage set proven_at = 0, proven_on = $1', ['1970-01-01']);
    relay.forget();
    relay.change({ quirk: { refuseLimitAbove: { limit: 100, say: 'closed' } } });
    expect(await visit(relay, { stopTimestamp: T + 10 })).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.refuseLimitAbove).toBe(1);
  });

  test('is not learnt from silence, or from refusals that say nothing of it', async () => {
    for (const quirk of [unanswered, closed('error: the database is busy')]) {
      const relay = await start({ onRequest: first(2, quirk) });
      const report = await visit(relay, { requestTimeoutMs: 600 });
      expect(report).toMatchObject({ outcome: 'complete', events: expect.any(Number) });
      expect(relay.requests.length).toBeGreaterThan(2);
      expect(await archive.ids(relay.url)).toHaveLength(250);
      expect(await manners(relay)).toMatchObject({ page_limit: null });
    }
  });
});

describe('a limit that was learnt', () => {
  const MANY = signedEvents(1000, { from: T - 100_000, to: T - 100, seed: 5 });
  const tomorrow = { now: () => T + DAY + 1, stopTimestamp: T };
  const learn = async (refuse: number) => {
    const relay = await start({
      events: MANY,
      quirk: { refuseLimitAbove: { limit: refuse, say: 'closed' } },
    });
    await visit(relay, { stopTimestamp: T - 90_000 });
    expect(await manners(relay)).toMatchObject({ page_limit: 100 });
    relay.forget();
    return relay;
  };

  test('is tried again larger after a day, and forgotten where all that is wanted works', async () => {
    const relay = await learn(120);
    relay.change({ quirk: {} });
    const report = await visit(relay, { ...tomorrow, batchSize: 300 });
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(limitsOf(relay).slice(0, 4)).toEqual([100, 200, 300, 300]);
    expect(await manners(relay)).toMatchObject({ page_limit: null });
    expect(await archive.ids(relay.url)).toHaveLength(1000);
  });

  test('stands where the relay refuses the larger one, and is not tried again on that day', async () => {
    const relay = await learn(120);
    expect(await visit(relay, { ...tomorrow, stopTimestamp: T - 40_000 })).toMatchObject({
      outcome: 'complete',
    });
    expect(limitsOf(relay).slice(0, 3)).toEqual([100, 200, 100]);
    expect(relay.fired.refuseLimitAbove).toBe(1);
    expect(await manners(relay)).toMatchObject({ page_limit: 100 });
    expect(await visit(relay, tomorrow)).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.refuseLimitAbove).toBe(1);
    expect(await archive.ids(relay.url)).toHaveLength(1000);
  });

  test('of a relay that cuts every connection after some events: it gets past that page', async () => {
    const relay = await start({ events: MANY.slice(0, 300), quirk: { disconnectAfter: 100 } });
    expect(await visit(relay)).toMatchObject({
      outcome: 'failed',
      detail: expect.stringMatching(/^disconnected/),
    });
    expect(await archive.covered(relay.url)).toBe('{}');
    expect(await manners(relay)).toMatchObject({ page_limit: 100, reason: 'failed' });
    let visits = 0;
    for (let outcome = ''; outcome !== 'complete' && visits < 12; visits += 1) {
      ({ outcome } = await visit(relay, { stopTimestamp: T }));
    }
    expect(visits).toBeLessThan(12);
    expect(relay.fired.disconnectAfter).toBeGreaterThan(2);
    expect(await archive.ids(relay.url)).toHaveLength(300);
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
  });

  test('of a relay that is too slow for a whole page', async () => {
    const relay = await start({ events: MANY.slice(0, 60), quirk: { betweenMs: 20 } });
    const options = { requestTimeoutMs: 300, stopTimestamp: T, batchSize: 50 };
    let outcome = '';
    for (let visits = 0; outcome !== 'complete' && visits < 20; visits += 1)
      ({ outcome } = await visit(relay, { ...options, visitMs: 1200 }));
    expect(relay.requests.filter(({ end }) => end === 'cancelled').length).toBeGreaterThan(0);
    expect(outcome).toBe('complete');
    expect(Math.min(...limitsOf(relay).map(Number))).toBeLessThan(15);
    expect(await archive.ids(relay.url)).toHaveLength(60);
  });
});

describe('a relay that drips', () => {
  test('is left after its share of time, and pauses, so that others have the slot', async () => {
    const onRequest = nth([1, 2, 3, 4], { betweenMs: 100, end: 'silence' });
    const relay = await start({ onRequest });
    const report = await visit(relay, { requestTimeoutMs: 400, visitMs: 500 });
    expect(report).toMatchObject({ outcome: 'unfinished', detail: 'time is up' });
    expect(report.events).toBeGreaterThan(0);
    expect(await archive.covered(relay.url)).toBe('{}');
    expect(await manners(relay)).toMatchObject({ reason: 'failed', refusals: 1 });
    expect(await pause(relay)).toBe(300);
    for (const { eventsSent } of relay.requests) expect(eventsSent).toBeLessThan(30); // of 250
  });
});

describe('rate-limited:', () => {
  test('slows the next visit down to what the relay takes', async () => {
    // Two REQs within 400 ms are too many; a refused one counts too.
    const limiter = rateLimited({ requests: 1, withinMs: 400, strict: true });
    const relay = await start({ onRequest: limiter });
    const report = await visit(relay, { batchSize: 100 });
    expect(report).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^rate_limited: /),
    });
    expect(relay.fired.closed).toBe(1);
    expect(await manners(relay)).toMatchObject({
      reason: 'rate_limited',
      refusals: 1,
      pace_ms: 500,
    });

    relay.forget();
    // Between two that were sent 500 ms apart it may be less, for the one that receives them.
    relay.change({ onRequest: rateLimited({ requests: 1, withinMs: 250, strict: true }) });
    expect(await visit(relay, { batchSize: 100 })).toMatchObject({ outcome: 'complete' });
    expect(relay.requests.length).toBeGreaterThan(2);
    expect(relay.fired.closed).toBeUndefined();
    expect(await manners(relay)).toMatchObject({
      reason: null,
      refusals: 0,
      pace_ms: 400,
      not_before: '0',
    });
    expect(await archive.ids(relay.url)).toHaveLength(250);
  });

  test.each([
    ['as NOTICE', notice('rate-limited: slow down')],
    ['in words of its own', notice('ERROR: too many concurrent REQs')],
    ['after some events', closed('rate-limited: slow down', 10)],
  ])('is heard %s', async (_how, quirk) => {
    const relay = await start({ onRequest: nth(1, quirk) });
    expect(await visit(relay, { requestTimeoutMs: 500 })).toMatchObject({
      outcome: 'failed',
      pages: 1,
    });
    expect(relay.requests).toHaveLength(1);
    expect(await manners(relay)).toMatchObject({ reason: 'rate_limited', pace_ms: 500 });
    expect(await pause(relay)).toBe(60);
    expect(await archive.covered(relay.url)).toBe('{}');
    const shown = 'after' in quirk ? quirk.after : 0;
    expect(await archive.ids(relay.url)).toHaveLength(shown ?? 0);
  });

  test('in the midst of a visit loses nothing: 5,000 events at 5 REQs a visit', async () => {
    const many = signedEvents(5000, { from: T - 1_000_000, to: T - 100, seed: 3 });
    const relay = await start({ events: many });
    const archivedAfter: number[] = [];
    let outcome: string | undefined;
    while (outcome !== 'complete' && archivedAfter.length < 6) {
      relay.forget();
      relay.change({ onRequest: afterwards(5, closed('rate-limited: slow down')) });
      ({ outcome } = await visit(relay, { stopTimestamp: T }));
      archivedAfter.push((await archive.ids(relay.url)).length);
      if (outcome !== 'complete') expect(relay.fired.closed).toBe(1);
      await archive.db.query('update relay_manners set pace_ms = 0'); // the test need not wait
    }
    expect(outcome).toBe('complete');
    expect(archivedAfter.at(-1)).toBe(5000);
    expect(archivedAfter.length).toBeGreaterThanOrEqual(3);
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
  });
});

describe('pauses', () => {
  test.each([
    ['rate-limited: slow down', 'rate_limited', 60],
    ['restricted: members only', 'restricted', DAY],
    ['blocked: you are banned here', 'blocked', DAY],
    ['auth-required: who are you?', 'auth_required', DAY],
    ['error: payment is required to read', 'restricted', DAY],
  ])('after %s grow while it is repeated, and are remembered', async (text, reason, seconds) => {
    const relay = await start({ onRequest: () => closed(text) });
    for (const times of [1, 2, 4]) {
      relay.forget();
      expect(await visit(relay)).toMatchObject({
        outcome: 'failed',
        detail: `${reason}: ${text}`,
      });
      expect(relay.requests).toHaveLength(1);
      expect(await manners(relay)).toMatchObject({ reason });
      expect(await pause(relay)).toBe(seconds * times);
    }
  });

  test('survive a restart: the relay is on no list until they are over', async () => {
    const relay = await start({ onRequest: () => closed('blocked: go away') });
    await archive.snapshot(relay.url);
    const known = await archive.relay(relay.url);
    const there = { synchronizer: [relay.url], priority: [relay.url] };
    expect(await dueBy(archive.bigbrotr, known)).toEqual(there);
    await visit(relay);
    const bigbrotr = await archive.again();
    expect(await dueBy(bigbrotr, known)).toEqual({ synchronizer: [], priority: [] });
    expect(await bigbrotr.relayTerms(known)).toMatchObject({
      reason: 'blocked',
      refusals: 1,
      notBefore: T + DAY,
    });
    await archive.db.query('update relay_manners set not_before = not_before - $1', [DAY + 60]);
    expect(await dueBy(bigbrotr, known)).toEqual(there);
  });

  test('are over after a visit that was welcome', async () => {
    const relay = await start({ onRequest: () => closed('restricted: not today') });
    await visit(relay);
    await visit(relay);
    expect(await manners(relay)).toMatchObject({ refusals: 2 });
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(await manners(relay)).toMatchObject({ reason: null, refusals: 0, not_before: '0' });
    relay.change({ onRequest: () => closed('restricted: not today') });
    await visit(relay, { stopTimestamp: T + 10 });
    expect(await pause(relay)).toBe(DAY);
  });

  test('come after failures too: a relay that is not there, or never answers', async () => {
    const gone = await start();
    await gone.stop();
    expect(await visit(gone)).toMatchObject({ outcome: 'failed', detail: 'refused' });
    expect(await pause(gone)).toBe(300);
    expect(await visit(gone)).toMatchObject({ outcome: 'failed' });
    expect(await pause(gone)).toBe(600);
    const mute = await start({ quirk: unanswered });
    const report = await visit(mute, { requestTimeoutMs: 100 });
    expect(report).toMatchObject({ outcome: 'failed', detail: 'timeout' });
    expect(await manners(mute)).toMatchObject({ reason: 'failed', pace_ms: 0 });
    expect(await pause(mute)).toBe(300);
  });

  test('are neither begun nor ended by a visit that we cut off ourselves', async () => {
    const relay = await start({ onRequest: () => closed('restricted: not today') });
    await visit(relay);
    const before = await manners(relay);
    relay.change({ onRequest: () => 'answer' });
    for (const cut of [{ visitMs: -1 }, { signal: AbortSignal.abort() }]) {
      expect(await visit(relay, cut)).toMatchObject({ outcome: 'unfinished' });
      expect(await manners(relay)).toEqual(before);
    }
  });
});

test('a relay that serves its newest events and refuses its history is visited again soon', async () => {
  const relay = await start({
    onRequest: (_request, n) => (n === 1 ? 'answer' : closed('restricted: not for strangers')),
    quirk: { cap: 50 },
  });
  expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'restricted' });
  expect(await pause(relay)).toBe(300);
});
