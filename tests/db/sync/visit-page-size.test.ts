/** How many events a relay is asked for in a page, and what later visits remember of it. */
import { describe, expect } from 'vitest';
import type { Relay } from '../../../src/database/bigbrotr.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { limitsOf, MANY, T, policyTest as test, tomorrow } from '../../fixtures/visit-policy.ts';
import { closed, first, nth, type ScriptedRelay, unanswered } from '../../relay/scripted-relay.ts';

describe('the limits in a NIP-11 document', () => {
  test('every REQ keeps max_limit', async ({ startRelay, archive, visit, policy }) => {
    const relay = await startRelay({ quirk: { refuseLimitAbove: { limit: 40, say: 'closed' } } });
    await archive.snapshot(relay.url, { limitation: { max_limit: 40 } });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete', events: 250 });
    expect(new Set(limitsOf(relay))).toEqual(new Set([40]));
    expect(relay.fired.refuseLimitAbove).toBeUndefined();
    expect(await policy(relay)).toMatchObject({ page_limit: null });
  });

  test('the latest document applies, also after a later snapshot without a document', async ({
    startRelay,
    archive,
    visit,
  }) => {
    const relay = await startRelay();
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

  test.for([0, -5, 5000])(
    'a max_limit of %d does not change ours',
    async (max_limit, { startRelay, archive, visit }) => {
      const relay = await startRelay();
      await archive.snapshot(relay.url, { limitation: { max_limit } });
      await visit(relay);
      expect(new Set(limitsOf(relay))).toEqual(new Set([500]));
    },
  );

  test('requests are short: at the longest filter, with subscription ids of 12 characters', async ({
    startRelay,
    visit,
    archive,
  }) => {
    const relay = await startRelay({ maxMessageBytes: 4096 });
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

describe('a page limit that the relay refuses', () => {
  test.for(['closed', 'notice'] as const)(
    'by %s is learnt, and kept from the first REQ of the next visit on',
    async (say, { startRelay, visit, policy, archive }) => {
      const relay = await startRelay({ quirk: { refuseLimitAbove: { limit: 120, say } } });
      expect(await visit(relay, { stopTimestamp: T, requestTimeoutMs: 500 })).toMatchObject({
        outcome: 'complete',
        events: 250,
      });
      expect(relay.fired.refuseLimitAbove).toBe(1);
      expect(limitsOf(relay).slice(0, 2)).toEqual([500, 100]);
      expect(await policy(relay)).toMatchObject({ page_limit: 100, reason: null });

      relay.forget();
      relay.add(signedEvents(150, { from: T + 1, to: T + 50, seed: 1 }));
      const bigbrotr = await archive.again();
      const report = await visit(relay, { bigbrotr, stopTimestamp: T + 50 });
      expect(report).toMatchObject({ outcome: 'complete', events: 150 });
      expect(relay.fired.refuseLimitAbove).toBeUndefined();
      expect(new Set(limitsOf(relay))).toEqual(new Set([100]));
    },
  );

  test('is lowered in the same visit too, when old coverage is read after new', async ({
    startRelay,
    visit,
    archive,
  }) => {
    const relay = await startRelay();
    await visit(relay, { stopTimestamp: T });
    await archive.db.query('update coverage set proven_at = 0, proven_on = $1', ['1970-01-01']);
    relay.forget();
    relay.change({ quirk: { refuseLimitAbove: { limit: 100, say: 'closed' } } });
    expect(await visit(relay, { stopTimestamp: T + 10 })).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.refuseLimitAbove).toBe(1);
  });

  test('is not learnt from silence, or from refusals that do not mention it', async ({
    startRelay,
    visit,
    archive,
    policy,
  }) => {
    for (const quirk of [unanswered, closed('error: the database is busy')]) {
      const relay = await startRelay({ onRequest: first(2, quirk) });
      const report = await visit(relay, { requestTimeoutMs: 600 });
      expect(report).toMatchObject({ outcome: 'complete', events: expect.any(Number) });
      expect(relay.requests.length).toBeGreaterThan(2);
      expect(await archive.ids(relay.url)).toHaveLength(250);
      expect(await policy(relay)).toMatchObject({ page_limit: null });
    }
  });
});

describe('a limit that was learnt', () => {
  test('is raised after a day, and forgotten when the full limit works', async ({
    learn,
    visit,
    policy,
    archive,
  }) => {
    const relay = await learn(120);
    relay.change({ quirk: {} });
    const report = await visit(relay, { ...tomorrow, batchSize: 300 });
    expect(report).toMatchObject({ outcome: 'complete' });
    expect(limitsOf(relay).slice(0, 4)).toEqual([100, 200, 300, 300]);
    expect(await policy(relay)).toMatchObject({ page_limit: null });
    expect(await archive.ids(relay.url)).toHaveLength(1000);
  });

  test('stays when the relay refuses a larger one, and is not raised again on that day', async ({
    learn,
    visit,
    policy,
    archive,
  }) => {
    const relay = await learn(120);
    expect(await visit(relay, { ...tomorrow, stopTimestamp: T - 40_000 })).toMatchObject({
      outcome: 'complete',
    });
    expect(limitsOf(relay).slice(0, 3)).toEqual([100, 200, 100]);
    expect(relay.fired.refuseLimitAbove).toBe(1);
    expect(await policy(relay)).toMatchObject({ page_limit: 100 });
    expect(await visit(relay, tomorrow)).toMatchObject({ outcome: 'complete' });
    expect(relay.fired.refuseLimitAbove).toBe(1);
    expect(await archive.ids(relay.url)).toHaveLength(1000);
  });

  test('gets past the page of a relay that cuts every connection after some events', async ({
    startRelay,
    visit,
    archive,
    policy,
  }) => {
    const relay = await startRelay({ events: MANY.slice(0, 300), quirk: { disconnectAfter: 100 } });
    expect(await visit(relay)).toMatchObject({
      outcome: 'failed',
      detail: expect.stringMatching(/^disconnected/),
    });
    expect(await archive.covered(relay.url)).toBe('{}');
    expect(await policy(relay)).toMatchObject({ page_limit: 100, reason: 'failed' });
    let visits = 0;
    for (let outcome = ''; outcome !== 'complete' && visits < 12; visits += 1) {
      ({ outcome } = await visit(relay, { stopTimestamp: T }));
    }
    expect(visits).toBeLessThan(12);
    expect(relay.fired.disconnectAfter).toBeGreaterThan(2);
    expect(await archive.ids(relay.url)).toHaveLength(300);
    expect(await archive.covered(relay.url)).toBe(`{[0,${T + 1})}`);
  });

  test('fits a relay that is too slow for a whole page', async ({ startRelay, visit, archive }) => {
    // Twelve events come at once, also on a busy machine, and fifty never within two seconds, its longest wait for a page.
    const quirk = { slowAfter: 12, betweenMs: 500 };
    const relay = await startRelay({ events: MANY.slice(0, 60), quirk });
    const options = { requestTimeoutMs: 2000, stopTimestamp: T, batchSize: 50 };
    let outcome = '';
    for (let visits = 0; outcome !== 'complete' && visits < 20; visits += 1)
      ({ outcome } = await visit(relay, { ...options, visitMs: 8000 }));
    expect(relay.requests.filter(({ end }) => end === 'cancelled').length).toBeGreaterThan(0);
    expect(outcome).toBe('complete');
    expect(Math.min(...limitsOf(relay).map(Number))).toBeLessThan(15);
    expect(await archive.ids(relay.url)).toHaveLength(60);
  });
});

describe('a slow relay', () => {
  test('is left after its share of time, and paused, so that others get the slot', async ({
    startRelay,
    visit,
    archive,
    policy,
    pause,
  }) => {
    const onRequest = nth([1, 2, 3, 4], { betweenMs: 100, end: 'silence' });
    const relay = await startRelay({ onRequest });
    const report = await visit(relay, { requestTimeoutMs: 400, visitMs: 500 });
    expect(report).toMatchObject({ outcome: 'unfinished', detail: 'time is up' });
    expect(report.events).toBeGreaterThan(0);
    expect(await archive.covered(relay.url)).toBe('{}');
    expect(await policy(relay)).toMatchObject({ reason: 'failed', refusals: 1 });
    expect(await pause(relay)).toBe(300);
    for (const { eventsSent } of relay.requests) expect(eventsSent).toBeLessThan(30); // of 250
  });
});
