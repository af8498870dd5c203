import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { fetchNip11 } from '../../../src/monitor/checks/nip11-fetch.ts';
import { probeRelay } from '../../../src/monitor/probe.ts';
import { RelayError } from '../../../src/network/relay-error.ts';
import type { TorProxy } from '../../../src/network/tor.ts';
import { parseRelayUrl } from '../../../src/network/url.ts';
import { connectRelay } from '../../../src/relay-client/connection.ts';
import { notOpened, probeContext } from '../../fixtures/probe-context.ts';
import {
  type SocksProxy,
  type SocksProxyOptions,
  startSocksProxy,
} from '../../network/socks-proxy.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';
import { local, relayAddress, relayUrl } from '../../relay/relays.ts';
import {
  type ScriptedRelayOptions,
  startScriptedRelay,
  unanswered,
} from '../../relay/scripted-relay.ts';

vi.setConfig({ testTimeout: 20_000 });

const ONION = `ws://${ONION_HOST}`;
/** For what is expected to be silent. */
const SHORT_MS = 600;

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function proxied(options: SocksProxyOptions = {}) {
  const proxy = await startSocksProxy(options);
  closing.push(() => proxy.close());
  return proxy;
}

async function scripted(options: ScriptedRelayOptions = {}) {
  const relay = await startScriptedRelay(options);
  closing.push(() => relay.stop());
  return relay;
}

async function reasonOf(torProxy: TorProxy, timeoutMs = 5000): Promise<string> {
  const failure = await connectRelay(relayUrl(ONION), local({ torProxy, timeoutMs })).catch(
    (error: unknown) => error,
  );
  if (!(failure instanceof RelayError)) throw new Error('it was connected to');
  return failure.reason;
}

function probe(torProxy: TorProxy, timeoutMs = 5000, url = ONION) {
  return probeRelay(relayAddress(url), probeContext({ timeoutMs, torProxy }));
}

describe('telling Tor failures from relay failures', () => {
  test.each([
    [1, 'proxy', 'general failure: a service whose port nothing listens to'],
    [4, 'unreachable', 'no such service'],
    [5, 'refused', 'refused by the service'],
    [6, 'timeout', 'expired'],
    [0xf0, 'unreachable', 'no descriptor (ExtendedErrors)'],
    [0xf2, 'unreachable', 'introduction failed'],
    [0xf7, 'timeout', 'introduction timed out'],
    [2, 'proxy_down', 'not allowed by the proxy'],
    [3, 'proxy_down', 'network unreachable'],
    [7, 'proxy_down', 'no proxy for CONNECT'],
    [0x5b, 'proxy_down', 'nothing that anybody knows'],
  ])('reply %i of a working Tor is %s (%s)', async (code, reason) => {
    const proxy = await proxied({ refusal: ({ host }) => (host === ONION_HOST ? code : 4) });
    expect(await reasonOf(proxy)).toBe(reason);
  });

  test.each([1, 6, 0xf7])('reply %i of a Tor without circuits is proxy_down', async (code) => {
    const proxy = await proxied({ refusal: ({ host }) => (host === ONION_HOST ? code : null) });
    expect(await reasonOf(proxy, SHORT_MS)).toBe('proxy_down');
  });

  test("a timeout is the relay's when Tor answers that a random name does not exist", async () => {
    const proxy = await proxied({ refusal: ({ host }) => (host === ONION_HOST ? null : 4) });
    expect(await reasonOf(proxy, SHORT_MS)).toBe('timeout');
    const [asked, inquiry] = proxy.requests;
    expect(asked).toEqual({ host: ONION_HOST, port: 80, user: ONION });
    expect(inquiry?.user).toBe('bigbrotr');
    expect(parseRelayUrl(`ws://${inquiry?.host}`)).toMatchObject({ ok: true, network: 'tor' });
    expect(await reasonOf(proxy, SHORT_MS)).toBe('timeout');
    const inquiries = proxy.requests.filter(({ user }) => user === 'bigbrotr');
    expect(new Set(inquiries.map(({ host }) => host)).size).toBe(inquiries.length); // never the same name
  });

  test('a timeout is proxy_down when Tor does not answer for a random name; connections then pause', async () => {
    const proxy = await proxied({ refusal: () => null });
    const [one, other] = await Promise.all([reasonOf(proxy, SHORT_MS), reasonOf(proxy, SHORT_MS)]);
    expect([one, other]).toEqual(['proxy_down', 'proxy_down']);
    expect(proxy.requests).toHaveLength(3); // one inquiry for both
    expect(await reasonOf(proxy)).toBe('proxy_down');
    expect(await fetchNip11(relayUrl(ONION), local({ torProxy: proxy }))).toEqual({
      ok: false,
      reason: 'proxy_down',
    });
    expect(proxy.requests).toHaveLength(3);
  });

  test('a slow Tor counts as working when another relay was reached meanwhile', async () => {
    const relay = await scripted();
    const other = `${ONION}:8080`;
    const proxy = await proxied({
      target: ({ user }) => (user === other ? relay.port : null),
      refusal: () => null,
    });
    const failing = reasonOf(proxy, 1500);
    await vi.waitFor(
      () => expect(proxy.requests.some(({ user }) => user === 'bigbrotr')).toBe(true),
      5000,
    );
    (await connectRelay(relayUrl(other), local({ torProxy: proxy }))).close();
    expect(await failing).toBe('timeout');
  });

  test('a missing proxy or one without SOCKS is proxy_down; relays of other networks are not affected', async () => {
    const relay = await scripted();
    expect(await reasonOf({ host: '127.0.0.1', port: relay.port }, 1000)).toBe('proxy_down');
    const gone = await startSocksProxy();
    await gone.close();
    expect(await reasonOf(gone)).toBe('proxy_down');
    const url = relayUrl('ws://127.0.0.1:1');
    const clear = connectRelay(url, local({ torProxy: gone }));
    await expect(clear).rejects.toMatchObject({ reason: 'refused' });
  });
});

describe('a check through Tor', () => {
  test.each([
    ['', (proxy: SocksProxy) => proxy.close()],
    [', its port still open for a moment,', (proxy: SocksProxy) => proxy.die()],
  ])('during which Tor dies%s reports proxy_down, whatever was measured before', async (_, end) => {
    const relay = await scripted({ quirk: unanswered });
    const proxy = await startSocksProxy({ target: () => relay.port });
    closing.push(() => proxy.close().catch(() => {}));
    const checking = probe(proxy);
    await relay.until(({ requests }) => requests.length > 0, 'a REQ');
    await end(proxy);
    const { nip66, checks } = await checking;
    expect(checks.open).toMatchObject({ success: false, reason: 'proxy_down' });
    expect(checks.read).toBe(undefined);
    expect(nip66).toEqual(notOpened('proxy_down'));
  });

  test('reports a lost connection when the relay dies during the check', async () => {
    const relay = await scripted({ quirk: unanswered });
    const proxy = await proxied({
      target: ({ host }) => (host === ONION_HOST ? relay.port : null),
    });
    const checking = probe(proxy);
    await relay.until(({ requests }) => requests.length > 0, 'a REQ');
    relay.dropAll();
    expect((await checking).nip66).toMatchObject({ openable: true, reason: 'disconnected' });
  });
});

describe('SOCKS users and names', () => {
  test('each relay has its own SOCKS user, for WebSocket and document', async () => {
    const relay = await scripted();
    const proxy = await proxied({ target: () => relay.port });
    for (const url of [ONION, `${ONION}:8080`, `${ONION}/path`]) {
      expect((await probe(proxy, 5000, url)).nip66.reason).toBe(null);
      const users = proxy.requests.splice(0).map(({ user }) => user);
      expect(users).toEqual([url, url]);
    }
  });

  test('onion names are never looked up locally', async () => {
    const asked: string[] = [];
    const { lookup } = dns;
    const spy = (name: string, ...rest: unknown[]) => {
      asked.push(name);
      return Reflect.apply(lookup, dns, [name, ...rest]);
    };
    Object.assign(dns, { lookup: Object.assign(spy, lookup) });
    syncBuiltinESMExports();
    closing.push(() => {
      Object.assign(dns, { lookup });
      syncBuiltinESMExports();
    });
    const relay = await scripted();
    const proxy = await proxied({ target: () => relay.port });
    expect((await probe(proxy)).nip66.reason).toBe(null);
    expect(proxy.requests.map(({ host }) => host)).toEqual([ONION_HOST, ONION_HOST]);
    expect(asked).not.toContain(ONION_HOST);
    // Control: the spy records a look-up that does happen.
    const named = `ws://localhost:${relay.port}` as ReturnType<typeof relayUrl>;
    (await connectRelay(named, local())).close();
    expect(asked).toContain('localhost');
  });
});
