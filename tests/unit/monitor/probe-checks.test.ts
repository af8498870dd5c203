import { afterEach, describe, expect, test } from 'vitest';
import { type ProbeContext, probeRelay } from '../../../src/monitor/probe.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import { type CheckName, checkNames } from '../../../src/nostr/check-result.ts';
import { signedEvents } from '../../fixtures/events.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { makeCertificate } from '../../network/certificates.ts';
import { type DnsServer, startDnsServer } from '../../network/dns-server.ts';
import { startRawServer } from '../../network/raw-server.ts';
import { startTlsFront, type TlsFront } from '../../network/tls-front.ts';
import { type ScriptedRelay, startScriptedRelay } from '../../relay/scripted-relay.ts';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const authority = makeCertificate({ subject: 'Test Authority', names: [], isAuthority: true });
const PLACES = {
  city: { get: () => ({ country: { iso_code: 'CH' }, location: { latitude: 47, longitude: 8 } }) },
  asn: { get: () => ({ autonomous_system_number: 64_500 }) },
};

interface House {
  readonly relay: ScriptedRelay;
  readonly front: TlsFront;
  readonly dns: DnsServer;
  readonly context: ProbeContext;
}

/** A relay with everything: TLS, a name in DNS, a place on the map. */
async function house(changes: Partial<ProbeContext> = {}): Promise<House> {
  const relay = await startScriptedRelay({
    events: signedEvents(5, { from: 1, to: 9, kinds: [1] }),
    verbs: {
      COUNT: ([, id], reply) => reply('COUNT', id, { count: 1 }),
      'NEG-OPEN': ([, id], reply) => reply('NEG-ERR', id, 'disabled'),
    },
  });
  const front = await startTlsFront(makeCertificate({ issuer: authority }), relay.port);
  const dns = await startDnsServer({ 'localhost A': [{ type: 'A', data: '127.0.0.1' }] });
  cleanups.push(relay.stop.bind(relay), front.stop, dns.stop);
  const context = probeContext({
    ...{ selected: new Set(checkNames), ca: authority.certificate, geoip: PLACES },
    ...{ dnsServers: [dns.address], ...changes },
  });
  return { relay, front, dns, context };
}

const at = (port: number, host = 'localhost') =>
  ({ url: `wss://${host}:${port}` as RelayUrl, network: 'clearnet' }) as const;

describe('full check by probeRelay', () => {
  test('returns a result of each check, over two connections', async () => {
    const { front, context, relay } = await house();
    const { checks, carry, generatedAt } = await probeRelay(at(front.port), context);
    expect(Object.keys(checks).sort()).toEqual([...checkNames].sort());
    for (const name of checkNames) expect([name, checks[name]?.success]).toEqual([name, true]);
    expect(checks).toMatchObject({
      dns: { data: { a: ['127.0.0.1'] } },
      geo: { data: { country: 'CH' } },
      http: { data: { server: null } },
      net: { data: { asn: 64_500 } },
      tls: { data: { valid: true } },
    });
    expect(checks.net).toMatchObject({
      data: { ip: expect.stringMatching(/^(127\.0\.0\.1|::1)$/) },
    });
    expect(carry.capabilities).toMatchObject({ freshUntil: generatedAt + 86_400 });
    expect(front.total).toBe(2);
    expect(relay.connections.total).toBe(1);
  });

  test('runs the selected checks only', async () => {
    const { front, dns, relay, context } = await house();
    const selected = new Set<CheckName>(['open', 'read', 'tls']);
    const { checks, nip66, nip11Reason } = await probeRelay(at(front.port), {
      ...context,
      selected,
    });
    expect(Object.keys(checks).sort()).toEqual([...selected].sort());
    expect(nip66).toMatchObject({ openable: true, readable: true, writable: false, reason: null });
    expect(nip11Reason).toBe('not_asked');
    expect(front.total).toBe(1);
    expect(dns.questions).toEqual([]);
    expect(relay.published).toEqual([]);
  });

  test('keeps the other results when one check fails', async () => {
    const broken = {
      get: () => {
        throw new TypeError('a bug of ours');
      },
    };
    const { front, dns, relay, context } = await house({ geoip: { city: broken, asn: broken } });
    dns.zone = { 'localhost A': 'servfail' };
    relay.change({ nip11: { status: 500 }, write: { refuse: 'blocked: no' }, quirk: { cap: 0 } });
    const { checks } = await probeRelay(at(front.port), context);
    const outcome = (name: CheckName) => {
      const result = checks[name];
      return result?.success ? 'success' : result?.reason;
    };
    expect(Object.fromEntries(checkNames.map((name) => [name, outcome(name)]))).toEqual({
      ...{ open: 'success', read: 'success', write: 'blocked', nip11: 'http_500' },
      ...{ tls: 'success', dns: 'server_failed', net: 'internal', geo: 'internal' },
      ...{ http: 'success', capabilities: 'success' },
    });
  });
});

describe('probeRelay at a dead relay', () => {
  test('tries all connections in parallel, and returns the reason of each', async () => {
    const server = await startRawServer((socket) => socket.resume());
    cleanups.push(server.close);
    const { context, dns } = await house({ timeoutMs: 700 });
    let answered = 0;
    dns.zone = { 'localhost A': [{ type: 'A', data: '127.0.0.1' }] };
    const probing = probeRelay(at(server.port), context).finally(() => {
      answered += 1;
    });
    await expect.poll(() => server.total).toBe(2); // WebSocket and document, side by side
    await expect.poll(() => dns.questions.length).toBeGreaterThan(0);
    expect(answered).toBe(0);
    const { checks } = await probing;
    expect(checks).toEqual({
      open: expect.objectContaining({ reason: 'timeout' }),
      nip11: expect.objectContaining({ reason: 'timeout' }),
      dns: expect.objectContaining({ success: true }),
      net: expect.objectContaining({ data: expect.objectContaining({ ip: '127.0.0.1' }) }),
      geo: expect.objectContaining({ success: true }),
    });
    expect(server.total).toBe(2);
  });

  test('does not reuse the stored document', async () => {
    const { front, context, relay } = await house();
    const document = { data: { document: {}, raw: '{}', dropped: 0 } } as never;
    const terms = { durationMs: 7, freshUntil: 2 ** 40, etag: null, lastModified: null };
    const carried = async () => ({ nip11: { ...terms, ...(document as object) } as never });
    const alive = await probeRelay(at(front.port), { ...context, carried });
    expect(alive.checks.nip11).toMatchObject({ success: true, durationMs: 7, data: { raw: '{}' } });
    expect(relay.fetches).toEqual([]);
    await front.stop();
    const dead = await probeRelay(at(front.port), { ...context, carried });
    expect(dead).toMatchObject({ nip11: null, nip11Reason: 'not_asked' });
    expect(dead.checks.nip11).toBeUndefined();
  });
});

describe('reuse of capabilities', () => {
  const known = { nip45: false, nip50: true, nip67: null, nip77: true, maxLimit: 300 };
  const carriedUntil = (freshUntil: number) => async () => ({
    capabilities: { durationMs: 9, freshUntil, etag: null, lastModified: null, data: known },
  });
  const counted = (relay: ScriptedRelay) =>
    relay.messages.filter(({ message }) => (message as string[])[0] === 'COUNT').length;

  test('lasts while they are fresh; then they are measured again', async () => {
    const { front, context, relay } = await house();
    const now = Math.floor(Date.now() / 1000);
    const fresh = await probeRelay(at(front.port), {
      ...context,
      carried: carriedUntil(now + 3600),
    });
    expect(fresh.checks.capabilities).toEqual({ success: true, durationMs: 9, data: known });
    expect(fresh.carry.capabilities).toBeUndefined();
    expect(counted(relay)).toBe(0);
    const stale = await probeRelay(at(front.port), { ...context, carried: carriedUntil(now - 1) });
    expect(stale.checks.capabilities).toMatchObject({ data: { nip45: true } });
    expect(counted(relay)).toBe(1);
  });

  test('is replaced by measuring if the stored results cannot be read', async () => {
    const { front, context, relay } = await house({
      carried: () => Promise.reject(new Error('the database is away')),
    });
    const { checks } = await probeRelay(at(front.port), context);
    expect(checks.capabilities).toMatchObject({ success: true });
    expect(counted(relay)).toBe(1);
  });

  test('does not apply to a relay that is not readable, which is not measured', async () => {
    const { front, context, relay } = await house();
    relay.change({ quirk: { after: 0, end: { closed: 'restricted: members' } } });
    const { checks } = await probeRelay(at(front.port), context);
    expect(checks.read).toMatchObject({ reason: 'restricted' });
    expect(checks.capabilities).toBeUndefined();
    expect(counted(relay)).toBe(0);
  });
});
