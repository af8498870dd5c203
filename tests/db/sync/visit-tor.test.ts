import { describe, expect, onTestFinished } from 'vitest';
import { signedEvents } from '../../fixtures/events.ts';
import { visitTest } from '../../fixtures/visit-test.ts';
import { type SocksProxyOptions, startSocksProxy } from '../../network/socks-proxy.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';
import { afterwards, unanswered } from '../../relay/scripted-relay.ts';

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(250, { from: T - 100_000, to: T - 100 });
const ONION = `ws://${ONION_HOST}`;

const test = visitTest
  /** A relay that answers its first two REQs and no other, behind an onion service. */
  .extend('start', ({ startRelay }) => async (options: SocksProxyOptions = {}) => {
    const relay = await startRelay({ events: EVENTS, onRequest: afterwards(2, unanswered) });
    const proxy = await startSocksProxy({
      target: ({ host }) => (host === ONION_HOST ? relay.port : null),
      ...options,
    });
    return { relay, proxy };
  })
  .extend(
    'visit',
    ({ archive }) =>
      (torProxy: { host: string; port: number }, timeoutMs = 1000) =>
        archive.visit(ONION, {
          connect: { timeoutMs, allowPrivate: true, torProxy },
          requestTimeoutMs: timeoutMs,
          batchSize: 100,
          now: () => T,
        }),
  )
  .extend(
    'policy',
    ({ archive }) =>
      () =>
        archive.db.query(
          'select reason, refusals, not_before::integer, pace_ms from relay_manners',
        ),
  )
  .extend(
    'failures',
    ({ archive }) =>
      async () =>
        (await archive.db.query<{ failures: number }>('select failures from visits'))[0]?.failures,
  );

describe('a visit that Tor cuts short', () => {
  test('before it begins does not count as a failure of the relay', async ({
    start,
    visit,
    policy,
    failures,
  }) => {
    const { proxy } = await start();
    await proxy.close();
    for (let times = 0; times < 3; times += 1) {
      const report = await visit(proxy);
      expect(report).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    }
    expect(await policy()).toEqual([]);
    expect(await failures()).toBe(0);
  });

  test('by dying keeps what is proven, and the relay gets no pause', async ({
    start,
    visit,
    policy,
    archive,
  }) => {
    const { relay, proxy } = await start();
    const visiting = visit(proxy, 5000);
    await relay.until(({ requests }) => requests.length === 3, 'a third REQ');
    await proxy.close();
    expect(await visiting).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    expect(await policy()).toEqual([{ reason: null, refusals: 0, not_before: 0, pace_ms: 0 }]);
    expect((await archive.ids(ONION)).length).toBeGreaterThanOrEqual(199);
    expect(await archive.covered(ONION)).not.toBe('{}');
  });

  test('by losing its circuits is distinguished from a relay that stops answering', async ({
    start,
    visit,
    policy,
  }) => {
    let works = true;
    const { proxy } = await start({ refusal: () => (works ? 4 : null) });
    onTestFinished(() => proxy.close());
    works = false;
    expect(await visit(proxy)).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    expect(await policy()).toEqual([{ reason: null, refusals: 0, not_before: 0, pace_ms: 0 }]);
    works = true;
    const again = { host: proxy.host, port: proxy.port }; // what was found out of the other is not known of this
    expect(await visit(again)).toMatchObject({ outcome: 'failed', detail: 'timeout' });
    expect(await policy()).toMatchObject([{ reason: 'failed', refusals: 1 }]);
  });
});
