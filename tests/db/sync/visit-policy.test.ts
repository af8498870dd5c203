import { describe, expect } from 'vitest';
import { signedEvents } from '../../fixtures/events.ts';
import { DAY, dueBy, T, policyTest as test } from '../../fixtures/visit-policy.ts';
import {
  afterwards,
  closed,
  notice,
  nth,
  rateLimited,
  unanswered,
} from '../../relay/scripted-relay.ts';

describe('rate-limited:', () => {
  test('slows the next visit to the rate that the relay accepts', async ({
    startRelay,
    visit,
    policy,
    archive,
  }) => {
    // Two REQs within 400 ms are too many; a refused one counts too.
    const limiter = rateLimited({ requests: 1, withinMs: 400, strict: true });
    const relay = await startRelay({ onRequest: limiter });
    const report = await visit(relay, { batchSize: 100 });
    expect(report).toMatchObject({
      outcome: 'partial',
      detail: expect.stringMatching(/^rate_limited: /),
    });
    expect(relay.fired.closed).toBe(1);
    expect(await policy(relay)).toMatchObject({
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
    expect(await policy(relay)).toMatchObject({
      reason: null,
      refusals: 0,
      pace_ms: 400,
      not_before: '0',
    });
    expect(await archive.ids(relay.url)).toHaveLength(250);
  });

  test.for([
    ['as NOTICE', notice('rate-limited: slow down')],
    ['in words of its own', notice('ERROR: too many concurrent REQs')],
    ['after some events', closed('rate-limited: slow down', 10)],
  ] as const)(
    'is heard %s',
    async ([_how, quirk], { startRelay, visit, policy, pause, archive }) => {
      const relay = await startRelay({ onRequest: nth(1, quirk) });
      expect(await visit(relay, { requestTimeoutMs: 500 })).toMatchObject({
        outcome: 'failed',
        pages: 1,
      });
      expect(relay.requests).toHaveLength(1);
      expect(await policy(relay)).toMatchObject({ reason: 'rate_limited', pace_ms: 500 });
      expect(await pause(relay)).toBe(60);
      expect(await archive.covered(relay.url)).toBe('{}');
      const shown = 'after' in quirk ? quirk.after : 0;
      expect(await archive.ids(relay.url)).toHaveLength(shown ?? 0);
    },
  );

  test('during a visit loses nothing: 5,000 events at 5 REQs a visit', async ({
    startRelay,
    visit,
    archive,
  }) => {
    const many = signedEvents(5000, { from: T - 1_000_000, to: T - 100, seed: 3 });
    const relay = await startRelay({ events: many });
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
  test.for([
    ['rate-limited: slow down', 'rate_limited', 60],
    ['restricted: members only', 'restricted', DAY],
    ['blocked: you are banned here', 'blocked', DAY],
    ['auth-required: who are you?', 'auth_required', DAY],
    ['error: payment is required to read', 'restricted', DAY],
  ] as const)(
    'after %s grow while it is repeated, and are remembered',
    async ([text, reason, seconds], { startRelay, visit, policy, pause }) => {
      const relay = await startRelay({ onRequest: () => closed(text) });
      for (const times of [1, 2, 4]) {
        relay.forget();
        expect(await visit(relay)).toMatchObject({
          outcome: 'failed',
          detail: `${reason}: ${text}`,
        });
        expect(relay.requests).toHaveLength(1);
        expect(await policy(relay)).toMatchObject({ reason });
        expect(await pause(relay)).toBe(seconds * times);
      }
    },
  );

  test('survive a restart: the relay is not due until they end', async ({
    startRelay,
    archive,
    visit,
  }) => {
    const relay = await startRelay({ onRequest: () => closed('blocked: go away') });
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

  test('end after a successful visit', async ({ startRelay, visit, policy, pause }) => {
    const relay = await startRelay({ onRequest: () => closed('restricted: not today') });
    await visit(relay);
    await visit(relay);
    expect(await policy(relay)).toMatchObject({ refusals: 2 });
    relay.change({ onRequest: () => 'answer' });
    expect(await visit(relay)).toMatchObject({ outcome: 'complete' });
    expect(await policy(relay)).toMatchObject({ reason: null, refusals: 0, not_before: '0' });
    relay.change({ onRequest: () => closed('restricted: not today') });
    await visit(relay, { stopTimestamp: T + 10 });
    expect(await pause(relay)).toBe(DAY);
  });

  test('follow failures too: a relay that is unreachable or never answers', async ({
    startRelay,
    visit,
    pause,
    policy,
  }) => {
    const gone = await startRelay();
    await gone.stop();
    expect(await visit(gone)).toMatchObject({ outcome: 'failed', detail: 'refused' });
    expect(await pause(gone)).toBe(300);
    expect(await visit(gone)).toMatchObject({ outcome: 'failed' });
    expect(await pause(gone)).toBe(600);
    const mute = await startRelay({ quirk: unanswered });
    const report = await visit(mute, { requestTimeoutMs: 100 });
    expect(report).toMatchObject({ outcome: 'failed', detail: 'timeout' });
    expect(await policy(mute)).toMatchObject({ reason: 'failed', pace_ms: 0 });
    expect(await pause(mute)).toBe(300);
  });

  test('neither begin nor end with a visit that we stopped ourselves', async ({
    startRelay,
    visit,
    policy,
  }) => {
    const relay = await startRelay({ onRequest: () => closed('restricted: not today') });
    await visit(relay);
    const before = await policy(relay);
    relay.change({ onRequest: () => 'answer' });
    for (const cut of [{ visitMs: -1 }, { signal: AbortSignal.abort() }]) {
      expect(await visit(relay, cut)).toMatchObject({ outcome: 'unfinished' });
      expect(await policy(relay)).toEqual(before);
    }
  });
});

test('a relay that serves its newest events and refuses its history is visited again soon', async ({
  startRelay,
  visit,
  pause,
}) => {
  const relay = await startRelay({
    onRequest: (_request, n) => (n === 1 ? 'answer' : closed('restricted: not for strangers')),
    quirk: { cap: 50 },
  });
  expect(await visit(relay)).toMatchObject({ outcome: 'partial', reason: 'restricted' });
  expect(await pause(relay)).toBe(300);
});
