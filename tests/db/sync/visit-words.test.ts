import { describe, expect, onTestFinished, vi } from 'vitest';
import { LiveRelays } from '../../../src/sync/live.ts';
import { signedEvents } from '../../fixtures/events.ts';
import type { VisitOptions } from '../../fixtures/visit-context.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { silent } from '../../postgres/bigbrotr.ts';
import { closes, nth } from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 30_000 });

const MINUTE = 60;
const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(60, { from: T - 10_000, to: T - 100 });
const INTERVAL = { intervalSeconds: 3600, aheadSeconds: 0 };

const test = visitTest
  .override('relayDefaults', { events: EVENTS })
  .extend(
    'visit',
    ({ archive }) =>
      (relay: { url: string }, options: VisitOptions = {}) =>
        archive.visit(relay.url, { now: () => T, ...options }),
  )
  .extend('remembered', ({ archive }) => async ({ url }: { url: string }) => {
    const [row] = await archive.db.query<{ reason: string | null; not_before: string }>(
      'select reason, not_before from relay_manners join relays using (relay_id) where url = $1',
      [url],
    );
    return row && { reason: row.reason, pause: Math.max(0, Number(row.not_before) - T) };
  });

describe('Retry-After of a connection that is refused', () => {
  const refuse = (status: number, headers: Record<string, string> = {}) =>
    ({ upgrade: { status, headers } }) as const;

  test.for([
    [429, { 'retry-after': '7200' }, { reason: 'rate_limited', pause: 7200 }],
    [503, { 'retry-after': '7200' }, { reason: 'rate_limited', pause: 7200 }],
    [429, { 'retry-after': '9999999' }, { reason: 'rate_limited', pause: 86_400 }],
    [429, { 'retry-after': '1' }, { reason: 'rate_limited', pause: MINUTE }],
    [429, { 'retry-after': 'later' }, { reason: 'rate_limited', pause: MINUTE }],
    [429, {}, { reason: 'rate_limited', pause: MINUTE }],
    [503, {}, { reason: 'failed', pause: 5 * MINUTE }],
  ] as const)(
    'status %i with %j: no visit before that time',
    async ([status, headers, policy], { startRelay, visit, remembered }) => {
      const relay = await startRelay(refuse(status, headers as Record<string, string>));
      expect(await visit(relay)).toMatchObject({ outcome: 'failed', detail: `http_${status}` });
      expect(relay.fired.upgrade).toBe(1);
      expect(await remembered(relay)).toEqual(policy);
    },
  );

  test('is kept by every service, after a restart too, and no longer than it says', async ({
    startRelay,
    archive,
    visit,
  }) => {
    const relay = await startRelay(refuse(429, { 'retry-after': '7200' }));
    await archive.snapshot(relay.url);
    const known = await archive.relay(relay.url);
    await visit(relay);
    const again = await archive.again();
    const filterId = await again.filterId({});
    const due = async () => ({
      checked: (await again.relaysToCheck(INTERVAL)).length,
      visited: (await again.relaysDue([known], filterId, 0)).length,
    });
    await archive.db.query('update relay_manners set not_before = 0'); // the relay's word alone
    await archive.db.query(
      'update relay_schedule set due_at = 0, checked_at = 0, seen_again_at = 1',
    );
    expect(await due()).toEqual({ checked: 0, visited: 0 });
    await archive.db.query('update relay_manners set retry_at = retry_at - 7201');
    expect(await due()).toEqual({ checked: 1, visited: 1 });
    await archive.db.query('update relay_manners set retry_at = retry_at + 1000000');
    expect(await due()).toEqual({ checked: 1, visited: 1 }); // noted while the clock was wrong
  });

  test('of a NIP-11 document is stored with its reason', async ({ archive }) => {
    const { relayId } = await archive.relay('wss://relay.example.com');
    const { retryTimes } = await archive.again();
    expect(await retryTimes.document({ relayId })).toBeNull();
    await retryTimes.set(
      { relayId },
      { seconds: null, nip11: { seconds: 600, reason: 'http_429' } },
    );
    const retry = await retryTimes.document({ relayId });
    expect(retry?.reason).toBe('http_429');
    expect((retry?.until ?? 0) - Date.now() / 1000).toBeGreaterThan(500);
    await archive.db.query('update relay_manners set nip11_retry_at = 1');
    expect(await retryTimes.document({ relayId })).toBeNull();
  });

  test('postpones a candidate of the finder for at least as long, and drops it in the end', async ({
    archive,
  }) => {
    const { finder } = await archive.again();
    await archive.db.query(
      `insert into named_relays (url, network, host, domain, times, first_named_at, first_source, last_named_at, authors, next_try_at)
       values ('wss://busy.example.com', 'clearnet', 'busy.example.com', 'example.com', 1, 1, 'x', 1, '{a}', 1)`,
    );
    const row = async () => {
      const [found] = await archive.db.query<{ name_id: number; wait: number; dropped: boolean }>(
        `select name_id, (next_try_at - extract(epoch from now()))::integer as wait, dropped_at is not null as dropped from named_relays`,
      );
      return found;
    };
    const nameId = (await row())?.name_id ?? 0;
    await finder.putOff({ nameId }, 'http_429', 80_000);
    expect((await row())?.wait).toBeGreaterThan(79_000);
    for (let tries = 2; tries <= 8; tries += 1) await finder.putOff({ nameId }, 'http_429', 80_000);
    expect(await row()).toMatchObject({ wait: null, dropped: true });
    await archive.db.query('truncate named_relays');
  });
});

describe('a refusal in the close frame', () => {
  test.for([
    [1008, 'rate-limited: too many connections', 'rate_limited', MINUTE],
    [1008, 'blocked: your address is banned', 'blocked', 86_400],
    [1013, 'try again later', 'rate_limited', MINUTE],
    [1001, 'going away', 'failed', 5 * MINUTE],
  ] as const)(
    '%i "%s" is remembered as %s',
    async ([code, reason, policy, pause], { startRelay, visit, remembered }) => {
      const relay = await startRelay({ quirk: closes(code, reason) });
      expect(await visit(relay)).toMatchObject({ outcome: 'failed', events: 0 });
      // A connection that is merely lost is opened again, twice.
      expect(relay.fired.close).toBe(policy === 'failed' ? 3 : 1);
      expect(await remembered(relay)).toEqual({ reason: policy, pause });
    },
  );

  test('of a followed connection makes the next visit wait', async ({
    startRelay,
    visit,
    remembered,
  }) => {
    const live = new LiveRelays({ max: 1, keepAliveMs: 60_000, forgetMs: 60_000, log: silent });
    onTestFinished(() => live.close());
    const relay = await startRelay({
      onRequest: ({ filters: [filter] }) =>
        filter?.limit === 0 ? closes(1008, 'rate-limited: too many connections') : 'answer',
    });
    expect(await visit(relay, { live })).toMatchObject({ outcome: 'complete' });
    await vi.waitFor(async () => {
      expect(await remembered(relay)).toEqual({ reason: 'rate_limited', pause: MINUTE });
    }, 10_000);
    expect(relay.fired.close).toBe(1);
  });
});

describe('a connection with a slow or lost first answer', () => {
  test('with a greeting about writing: waits for the slow answer', async ({
    startRelay,
    visit,
    remembered,
  }) => {
    const text = 'Welcome. Payment is required to publish here, reading is free.';
    const relay = await startRelay({
      greeting: { text, afterMs: 20 },
      onRequest: nth([1, 2], { delayMs: 2500 }),
    });
    expect(await visit(relay, { requestTimeoutMs: 8000 })).toMatchObject({
      outcome: 'complete',
      events: 60,
    });
    expect(relay.fired.greeting).toBe(1);
    expect(await remembered(relay)).toEqual({ reason: null, pause: 0 });
  });

  test('with a lost first request: sends it once more, in the same visit', async ({
    startRelay,
    visit,
  }) => {
    const relay = await startRelay({ losesFirst: true });
    expect(await visit(relay, { requestTimeoutMs: 3000 })).toMatchObject({
      outcome: 'complete',
      events: 60,
      invalid: {},
    });
    expect(relay.fired.losesFirst).toBe(1);
    expect(relay.connections.total).toBe(1);
  });
});
