import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkDns } from '../../../src/monitor/checks/dns.ts';
import { probeRelay } from '../../../src/monitor/probe.ts';
import type { RelayUrl } from '../../../src/network/url.ts';
import { probeContext } from '../../fixtures/probe-context.ts';
import { type DnsServer, startDnsServer, type Zone } from '../../network/dns-server.ts';
import { ONION_HOST } from '../../network/tls-certificate.ts';

let server: DnsServer;
beforeEach(async () => {
  server = await startDnsServer();
});
afterEach(() => server.stop());

const ZONE: Zone = {
  'relay.bigbrotr.net A': [
    { type: 'A', data: '93.184.216.9', ttl: 240 },
    { type: 'A', data: '93.184.216.34', ttl: 300 },
  ],
  'relay.bigbrotr.net AAAA': [{ type: 'AAAA', data: '2606:2800:220:1::5', ttl: 120 }],
  'bigbrotr.net NS': [
    { type: 'NS', data: 'NS2.host.net' },
    { type: 'NS', data: 'ns1.host.net' },
  ],
  '9.216.184.93.in-addr.arpa PTR': [{ type: 'PTR', data: 'box-9.host.net' }],
  '34.216.184.93.in-addr.arpa PTR': [{ type: 'PTR', data: 'box-34.host.net' }],
};

function ask(zone: Zone, host = 'relay.bigbrotr.net', changes = {}) {
  server.zone = zone;
  const context = probeContext({ allowPrivate: false, timeoutMs: 3000, ...changes });
  return checkDns(`wss://${host}` as RelayUrl, context, [server.address]);
}

describe('checkDns', () => {
  test('returns addresses, name servers of the nearest parent, a reverse name and the smallest TTL', async () => {
    expect(await ask(ZONE)).toEqual({
      a: ['93.184.216.34', '93.184.216.9'],
      aaaa: ['2606:2800:220:1::5'],
      cname: null,
      ns: ['ns1.host.net', 'ns2.host.net'],
      reverse: [expect.stringMatching(/^box-(9|34)\.host\.net$/)],
      ttl: 120,
    });
    expect(server.questions.length).toBeLessThanOrEqual(9);
  });

  test('returns the same result however the server rotates its answers', async () => {
    const zone = { 'a.net A': ZONE['relay.bigbrotr.net A'] ?? [] };
    const turned = { 'a.net A': [...(ZONE['relay.bigbrotr.net A'] as [])].reverse() };
    expect(await ask(turned, 'a.net')).toEqual(await ask(zone, 'a.net'));
  });

  test('returns the alias', async () => {
    const zone: Zone = {
      'relay.bigbrotr.net CNAME': [{ type: 'CNAME', data: 'Edge.CDN.net' }],
      'relay.bigbrotr.net A': [
        { type: 'CNAME', data: 'edge.cdn.net' },
        { type: 'A', data: '93.184.216.34', ttl: 30 },
      ],
    };
    expect(await ask(zone)).toMatchObject({
      a: ['93.184.216.34'],
      aaaa: [],
      cname: 'edge.cdn.net',
      ns: [],
      ttl: 30,
    });
  });

  test('returns the answers that arrived when others fail', async () => {
    const zone: Zone = {
      'relay.bigbrotr.net A': [{ type: 'A', data: '93.184.216.34' }],
      'relay.bigbrotr.net AAAA': 'servfail',
      'relay.bigbrotr.net CNAME': 'refused',
      'relay.bigbrotr.net NS': 'servfail',
      '34.216.184.93.in-addr.arpa PTR': 'refused',
    };
    expect(await ask(zone)).toEqual({
      ...{ a: ['93.184.216.34'], aaaa: [], cname: null, ns: [], reverse: [], ttl: 300 },
    });
  });

  test.each<[string, Zone]>([
    ['not_found', {}],
    ['no_address', { 'relay.bigbrotr.net NS': [{ type: 'NS', data: 'ns.host.net' }] }],
    ['server_failed', { 'relay.bigbrotr.net A': 'servfail' }],
    ['refused', { 'relay.bigbrotr.net A': 'refused' }],
  ])('fails with %s', async (reason, zone) => {
    await expect(ask(zone)).rejects.toMatchObject({ reason });
  });

  test('fails with timeout if no server answers, and keeps the answers that arrived', async () => {
    const silent: Zone = {
      'relay.bigbrotr.net A': 'silent',
      'relay.bigbrotr.net AAAA': 'silent',
    };
    await expect(ask(silent, undefined, { timeoutMs: 300 })).rejects.toMatchObject({
      reason: 'timeout',
    });
    const half: Zone = { ...ZONE, 'relay.bigbrotr.net AAAA': 'silent' };
    expect(await ask(half, undefined, { timeoutMs: 1000 })).toMatchObject({
      a: ['93.184.216.34', '93.184.216.9'],
      aaaa: [],
    });
  });

  test('sends no query for literals, names that are not public, and private addresses', async () => {
    await expect(ask({}, '93.184.216.34')).rejects.toMatchObject({ reason: 'literal' });
    await expect(ask({}, '[2606:2800:220:1::5]')).rejects.toMatchObject({ reason: 'literal' });
    await expect(ask({}, 'database')).rejects.toMatchObject({ reason: 'forbidden' });
    await expect(ask({}, 'router.lan')).rejects.toMatchObject({ reason: 'forbidden' });
    expect(server.questions).toEqual([]);
    const inside = { 'relay.bigbrotr.net A': [{ type: 'A', data: '10.0.0.5' }] } as const;
    expect(await ask(inside)).toMatchObject({ a: ['10.0.0.5'], reverse: [] });
    expect(server.questions.filter((question) => question.endsWith('PTR'))).toEqual([]);
  });

  test('stops when the signal aborts', async () => {
    const stop = new AbortController();
    const asking = ask({ 'relay.bigbrotr.net A': 'silent' }, undefined, {
      timeoutMs: 60_000,
      signal: stop.signal,
    });
    await expect.poll(() => server.questions.length).toBeGreaterThan(0);
    stop.abort();
    await expect(asking).rejects.toMatchObject({ reason: expect.any(String) });
  });
});

describe('checkDns with a hostile name server', () => {
  const loop = Buffer.from('8180000100010000000005', 'hex');

  test.each<[string, Buffer]>([
    ['noise', randomBytes(200)],
    ['nothing after the id', Buffer.alloc(0)],
    ['a name that points at itself', Buffer.concat([loop, Buffer.from([0xc0, 12, 0xc0, 12])])],
  ])('fails at the deadline after %s', async (_, bytes) => {
    const zone = Object.fromEntries(
      ['A', 'AAAA', 'CNAME', 'NS'].map((type) => [`relay.bigbrotr.net ${type}`, bytes]),
    );
    await expect(ask(zone, undefined, { timeoutMs: 400 })).rejects.toMatchObject({
      reason: expect.stringMatching(/^(timeout|dns|not_found|no_address)$/),
    });
  });

  test('returns 0 for an invalid TTL', async () => {
    const zone: Zone = {
      'relay.bigbrotr.net A': [{ type: 'A', data: '93.184.216.34', ttl: 0xffff_ffff }],
    };
    expect(await ask(zone)).toMatchObject({ ttl: 0 });
  });

  test('bounds a thousand addresses, and drops characters that cannot be stored', async () => {
    const zone: Zone = {
      'relay.bigbrotr.net A': Array.from({ length: 90 }, (_, index) => ({
        ...{ type: 'A', data: `93.184.216.${index}` },
      })) as never,
      'relay.bigbrotr.net NS': [{ type: 'NS', data: 'a\u0000\u0001b.host.net' }],
    };
    const found = await ask(zone);
    expect(found.a).toHaveLength(50);
    expect(JSON.stringify(found)).not.toMatch(/\\u000/);
  });
});

test('the name of an onion service is never looked up', async () => {
  const context = probeContext({
    ...{ selected: new Set(['open', 'dns', 'net', 'geo', 'tls'] as const), timeoutMs: 500 },
    dnsServers: [server.address],
  });
  const { checks } = await probeRelay(
    { url: `wss://${ONION_HOST}` as RelayUrl, network: 'tor' },
    context,
  );
  expect(checks).toEqual({ open: expect.objectContaining({ reason: 'no_proxy' }) });
  expect(server.questions).toEqual([]);
});
