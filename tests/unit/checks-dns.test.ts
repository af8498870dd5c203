import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkDns } from '../../src/checks/dns.ts';
import { probeRelay } from '../../src/probe.ts';
import type { RelayUrl } from '../../src/relay/url.ts';
import { type DnsServer, startDnsServer, type Zone } from '../support/dns-server.ts';
import { probeContext } from '../support/probe-context.ts';
import { ONION_HOST } from '../support/tls-certificate.ts';

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
  test('gives addresses, name servers of the nearest parent, the name of an address and the shortest time', async () => {
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

  test('is the same result however the server turns its answer round', async () => {
    const zone = { 'a.net A': ZONE['relay.bigbrotr.net A'] ?? [] };
    const turned = { 'a.net A': [...(ZONE['relay.bigbrotr.net A'] as [])].reverse() };
    expect(await ask(turned, 'a.net')).toEqual(await ask(zone, 'a.net'));
  });

  test('follows an alias, and tells it', async () => {
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

  test('does not go without what was good when the rest fails', async () => {
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

  test('fails by its deadline where nobody answers, and what answered is not lost', async () => {
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

  test('asks nobody about literals, names that are not public and the names of private addresses', async () => {
    await expect(ask({}, '93.184.216.34')).rejects.toMatchObject({ reason: 'literal' });
    await expect(ask({}, '[2606:2800:220:1::5]')).rejects.toMatchObject({ reason: 'literal' });
    await expect(ask({}, 'database')).rejects.toMatchObject({ reason: 'forbidden' });
    await expect(ask({}, 'router.lan')).rejects.toMatchObject({ reason: 'forbidden' });
    expect(server.questions).toEqual([]);
    const inside = { 'relay.bigbrotr.net A': [{ type: 'A', data: '10.0.0.5' }] } as const;
    expect(await ask(inside)).toMatchObject({ a: ['10.0.0.5'], reverse: [] });
    expect(server.questions.filter((question) => question.endsWith('PTR'))).toEqual([]);
  });

  test('stops when it is no longer wanted', async () => {
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

describe('a hostile name server', () => {
  const loop = Buffer.from('8180000100010000000005', 'hex');

  test.each<[string, Buffer]>([
    ['noise', randomBytes(200)],
    ['nothing after the id', Buffer.alloc(0)],
    ['a name that points at itself', Buffer.concat([loop, Buffer.from([0xc0, 12, 0xc0, 12])])],
  ])('that sends %s costs its deadline and nothing else', async (_, bytes) => {
    const zone = Object.fromEntries(
      ['A', 'AAAA', 'CNAME', 'NS'].map((type) => [`relay.bigbrotr.net ${type}`, bytes]),
    );
    await expect(ask(zone, undefined, { timeoutMs: 400 })).rejects.toMatchObject({
      reason: expect.stringMatching(/^(timeout|dns|not_found|no_address)$/),
    });
  });

  test('that gives a time to live that no integer holds is given none', async () => {
    const zone: Zone = {
      'relay.bigbrotr.net A': [{ type: 'A', data: '93.184.216.34', ttl: 0xffff_ffff }],
    };
    expect(await ask(zone)).toMatchObject({ ttl: 0 });
  });

  test('that gives a thousand addresses and names nobody can store is kept within bounds', async () => {
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

test('the name of an onion service is never asked for', async () => {
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
