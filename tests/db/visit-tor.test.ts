import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { signedEvents } from '../support/events.ts';
import { afterwards, startScriptedRelay, unanswered } from '../support/scripted-relay.ts';
import { type SocksProxyOptions, startSocksProxy } from '../support/socks-proxy.ts';
import { ONION_HOST } from '../support/tls-certificate.ts';
import { type TestArchive, testArchive } from '../support/visit-context.ts';

const T = Math.floor(Date.now() / 1000);
const EVENTS = signedEvents(250, { from: T - 100_000, to: T - 100 });
const ONION = `ws://${ONION_HOST}`;

let archive: TestArchive;
const closing: (() => unknown)[] = [];
beforeAll(async () => {
  archive = await testArchive();
});
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
  await archive.clear();
});
afterAll(() => archive.close());

/** A relay that answers its first two REQs and no other, behind an onion service. */
async function start(options: SocksProxyOptions = {}) {
  const relay = await startScriptedRelay({ events: EVENTS, onRequest: afterwards(2, unanswered) });
  closing.push(() => relay.stop());
  const proxy = await startSocksProxy({
    target: ({ host }) => (host === ONION_HOST ? relay.port : null),
    ...options,
  });
  return { relay, proxy };
}

const visit = (torProxy: { host: string; port: number }, timeoutMs = 1000) =>
  archive.visit(ONION, {
    connect: { timeoutMs, allowPrivate: true, torProxy },
    requestTimeoutMs: timeoutMs,
    batchSize: 100,
    now: () => T,
  });

const manners = () =>
  archive.db.query('select reason, refusals, not_before::integer, pace_ms from relay_manners');
const failures = async () =>
  (await archive.db.query<{ failures: number }>('select failures from visits'))[0]?.failures;

describe('a visit that Tor cuts short', () => {
  test('before it begins is no failure of the relay', async () => {
    const { proxy } = await start();
    await proxy.close();
    for (let times = 0; times < 3; times += 1) {
      const report = await visit(proxy);
      expect(report).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    }
    expect(await manners()).toEqual([]);
    expect(await failures()).toBe(0);
  });

  test('by dying keeps what is proven, and the relay waits for nothing', async () => {
    const { relay, proxy } = await start();
    const visiting = visit(proxy, 5000);
    await relay.until(({ requests }) => requests.length === 3, 'a third REQ');
    await proxy.close();
    expect(await visiting).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    expect(await manners()).toEqual([{ reason: null, refusals: 0, not_before: 0, pace_ms: 0 }]);
    expect((await archive.ids(ONION)).length).toBeGreaterThanOrEqual(199);
    expect(await archive.covered(ONION)).not.toBe('{}');
  });

  test('by losing its circuits is told apart from a relay that does not answer any more', async () => {
    let works = true;
    const { proxy } = await start({ refusal: () => (works ? 4 : null) });
    closing.push(() => proxy.close());
    works = false;
    expect(await visit(proxy)).toMatchObject({ outcome: 'unfinished', detail: 'proxy_down' });
    expect(await manners()).toEqual([{ reason: null, refusals: 0, not_before: 0, pace_ms: 0 }]);
    works = true;
    const again = { host: proxy.host, port: proxy.port }; // what was found out of the other is not known of this
    expect(await visit(again)).toMatchObject({ outcome: 'failed', detail: 'timeout' });
    expect(await manners()).toMatchObject([{ reason: 'failed', refusals: 1 }]);
  });
});
