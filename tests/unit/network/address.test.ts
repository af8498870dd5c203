import type { LookupAddress, LookupOptions } from 'node:dns';
import {
  type AddressInfo,
  connect,
  createServer,
  isIP,
  type LookupFunction,
  type Server,
} from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import {
  forbiddenAddress,
  forbiddenHost,
  guardedLookup,
  type Resolver,
} from '../../../src/network/address.ts';
import { parseRelayUrl, type RelayUrl } from '../../../src/network/url.ts';
import { ADVERSARIAL_URLS } from '../../network/adversarial-urls.ts';

const ONION = 'oxtrdevav64z64yb7x6rjg4ntzqjhedm5b5zjqulugknhzr46ny2qbad.onion';

function relay(text: string): RelayUrl {
  const parsed = parseRelayUrl(text);
  if (!parsed.ok) throw new Error(`${text}: ${parsed.reason}`);
  return parsed.url;
}

/** A resolver that gives the same addresses for every name, and keeps the names it was asked for. */
function resolver(...addresses: string[]): Resolver & { asked: string[] } {
  const asked: string[] = [];
  const answer = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  const resolve: Resolver = (hostname, _options, callback) => {
    asked.push(hostname);
    setImmediate(callback, null, answer);
  };
  return Object.assign(resolve, { asked });
}

interface Answer {
  error: NodeJS.ErrnoException | null;
  address: string | LookupAddress[];
  family: number | undefined;
}

function ask(lookup: LookupFunction, name: string, options: LookupOptions = {}): Promise<Answer> {
  return new Promise((resolve) => {
    lookup(name, options, (error, address, family) => resolve({ error, address, family }));
  });
}

describe('forbiddenAddress', () => {
  test.each([
    ['127.0.0.1', 'loopback'],
    ['127.255.255.255', 'loopback'],
    ['::1', 'loopback'],
    ['10.0.0.0', 'private'],
    ['172.16.0.0', 'private'],
    ['172.31.255.255', 'private'],
    ['192.168.0.0', 'private'],
    ['169.254.169.254', 'link-local'],
    ['fe80::1', 'link-local'],
    ['febf:ffff::', 'link-local'],
    ['fe80::1%eth0', 'zone id'],
    ['2606:4700::1111%1', 'zone id'],
    ['100.64.0.0', 'carrier-grade'],
    ['100.127.255.255', 'carrier-grade'],
    ['224.0.0.1', 'multicast'],
    ['239.255.255.255', 'multicast'],
    ['ff02::1', 'multicast'],
    ['255.255.255.255', 'broadcast'],
    ['0.0.0.0', '"this" network'],
    ['0.255.255.255', '"this" network'],
    ['::', '"this" network'],
    ['240.0.0.0', 'reserved'],
    ['192.0.0.8', 'reserved'],
    ['192.0.2.1', 'reserved'],
    ['198.51.100.1', 'reserved'],
    ['203.0.113.1', 'reserved'],
    ['192.88.99.1', 'reserved'],
    ['198.18.0.0', 'reserved'],
    ['198.19.255.255', 'reserved'],
    ['2001:2::1', 'benchmarking'],
    ['2001:db8::1', 'reserved'],
    ['3fff::1', 'reserved'],
    ['fc00::1', 'unique-local'],
    ['fdff::1', 'unique-local'],
    ['fec0::1', 'site-local'],
    ['100::1', 'discard'],
    ['2001:10::1', 'ORCHID'],
    ['2001:2f:ffff::', 'ORCHID'],
    ['::ffff:8.8.8.8', 'IPv4'],
    ['::ffff:7f00:1', 'IPv4'],
    ['::ffff:0:7f00:1', 'IPv4'],
    ['::7f00:1', 'reserved'],
    ['64:ff9b::808:808', 'NAT64'],
    ['64:ff9b:1::1', 'NAT64'],
    ['2002:7f00:1::', '6to4'],
    ['2001::1', 'Teredo'],
    ['200::1', 'reserved'],
    ['4000::1', 'reserved'],
    ['5f00::1', 'reserved'],
    ['127.1', 'not an IP address'],
    ['0x7f000001', 'not an IP address'],
    ['010.8.8.8', 'not an IP address'],
    ['[::1]', 'not an IP address'],
    [' 8.8.8.8', 'not an IP address'],
    ['relay.damus.io', 'not an IP address'],
    ['', 'not an IP address'],
  ])('refuses %s: %s', (ip, reason) => {
    expect(forbiddenAddress(ip)).toContain(reason);
  });

  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '2001:200::1',
    '2606:4700:4700::1111',
    '2A00:1450:4001:81B::200E',
    '2003::1',
    '3ffe:ffff::1',
  ])('allows %s', (ip) => {
    expect(forbiddenAddress(ip)).toBeNull();
  });
});

describe('forbiddenHost', () => {
  test.each([
    ['ws://2130706433', 'loopback'],
    ['wss://[::ffff:10.0.0.1]', 'IPv4'],
    ['ws://localhost:7777', 'localhost'],
    ['ws://database:7777', 'without a dot'],
    ['wss://umbrel.local', 'local'],
    ['wss://nas.home.arpa', 'arpa'],
    ['wss://relay.example.com', 'example.com'],
    ['ws://relay.damus.io:5432', 'PostgreSQL'],
    ['wss://relay.damus.io:25', 'port 25'],
    [`ws://${ONION}:9050`, 'Tor'],
  ])('refuses %s: %s', (url, reason) => {
    expect(forbiddenHost(relay(url))).toContain(reason);
  });

  test.each([
    'wss://relay.damus.io',
    'wss://relay.damus.io:4848/path?query',
    'ws://relay.damus.io:443',
    'ws://8.8.8.8:7777',
    'wss://[2606:4700::1111]',
    'wss://notlocal.network',
    'wss://example.com.de',
    'wss://myexample.com',
    `ws://${ONION}`,
    `ws://${ONION}:81`,
  ])('allows %s', (url) => {
    expect(forbiddenHost(relay(url))).toBeNull();
  });
});

describe('guardedLookup', () => {
  test('answers in both shapes that sockets ask for', async () => {
    const lookup = guardedLookup(false, resolver('8.8.8.8', '2606:4700::1111'));
    expect(await ask(lookup, 'relay.damus.io')).toEqual({
      error: null,
      address: '8.8.8.8',
      family: 4,
    });
    const all = await ask(lookup, 'relay.damus.io', { all: true });
    expect(all.address).toEqual([
      { address: '8.8.8.8', family: 4 },
      { address: '2606:4700::1111', family: 6 },
    ]);
  });

  test('passes the address family and flags to the resolver', async () => {
    const seen: LookupOptions[] = [];
    const lookup = guardedLookup(false, (_name, options, callback) => {
      seen.push(options);
      callback(null, [{ address: '8.8.8.8', family: 4 }]);
    });
    await ask(lookup, 'relay.damus.io', { family: 4, hints: 32 });
    expect(seen).toEqual([{ family: 4, hints: 32, all: true }]);
  });

  test('drops forbidden addresses from a mixed answer', async () => {
    const mixed = resolver('127.0.0.1', 'fe80::1', '8.8.8.8', '10.0.0.1');
    const lookup = guardedLookup(false, mixed);
    expect((await ask(lookup, 'relay.damus.io', { all: true })).address).toEqual([
      { address: '8.8.8.8', family: 4 },
    ]);
    expect((await ask(lookup, 'relay.damus.io')).address).toBe('8.8.8.8');
  });

  test('throws EFORBIDDEN when no public address is left, with the forbidden one in the message', async () => {
    const { error, address } = await ask(
      guardedLookup(false, resolver('10.0.0.1')),
      'relay.damus.io',
    );
    expect(error?.code).toBe('EFORBIDDEN');
    expect(error?.message).toBe(
      'relay.damus.io is not connected to: it resolves to 10.0.0.1, and it is a private address (RFC 1918)',
    );
    expect(address).toEqual([]);
  });

  test('passes on errors of the resolver, and treats an empty answer as an unknown name', async () => {
    const failing = guardedLookup(false, (_name, _options, callback) => {
      callback(Object.assign(new Error('try later'), { code: 'EAI_AGAIN' }), []);
    });
    expect((await ask(failing, 'relay.damus.io')).error?.code).toBe('EAI_AGAIN');
    expect((await ask(guardedLookup(false, resolver()), 'relay.damus.io')).error?.code).toBe(
      'ENOTFOUND',
    );
  });

  test.each([ONION, `${ONION.toUpperCase()}.`, 'relay.i2p', 'relay.loki'])(
    'never looks up %s, not even in a test network',
    async (name) => {
      for (const allowPrivate of [false, true]) {
        const resolve = resolver('8.8.8.8');
        const { error } = await ask(guardedLookup(allowPrivate, resolve), name);
        expect(error?.code).toBe('EFORBIDDEN');
        expect(resolve.asked).toEqual([]);
      }
    },
  );

  test.each(['localhost', 'database', 'Relay.LOCAL.', '127.0.0.1', '::1'])(
    'refuses %s without a look-up, and looks it up in a test network',
    async (name) => {
      const resolve = resolver('8.8.8.8');
      expect((await ask(guardedLookup(false, resolve), name)).error?.code).toBe('EFORBIDDEN');
      expect(resolve.asked).toEqual([]);
      expect((await ask(guardedLookup(true, resolve), name)).error).toBeNull();
      expect(resolve.asked).toEqual([name]);
    },
  );

  test('resolves by node:dns when nothing else is given', async () => {
    const answer = await ask(guardedLookup(true), '127.0.0.1', { all: true });
    expect(answer.address).toEqual([{ address: '127.0.0.1', family: 4 }]);
  });
});

describe('connecting', () => {
  let server: Server;
  let port = 0;
  let connections = 0;

  beforeAll(async () => {
    server = createServer((socket) => {
      connections += 1;
      socket.on('error', () => {});
      socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));

  /** Connects to the listener by `lookup`, and gives the error's code or 'connected'. */
  function dial(host: string, lookup: LookupFunction): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect({ host, port, lookup });
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      socket.on('connect', () => resolve('connected'));
      socket.on('close', () => socket.destroy());
    });
  }

  /** What stops a stranger's URL on the way of a service: 'text', 'host', 'lookup', or nothing. */
  async function attempt(text: string): Promise<string> {
    const parsed = parseRelayUrl(text);
    if (!parsed.ok) return 'text';
    if (forbiddenHost(parsed.url) !== null) return 'host';
    const host = new URL(parsed.url).hostname.replace(/^\[|\]$/g, '');
    // Nothing here may leave this machine, so a literal that passed is a failure and is not dialled.
    if (isIP(host) !== 0) return 'nothing: the literal passed';
    const code = await dial(host, guardedLookup(false, resolver('127.0.0.1', '::1')));
    return code === 'EFORBIDDEN' ? 'lookup' : code;
  }

  test('control: the listener notices an allowed connection', async () => {
    const before = connections;
    expect(await dial('relay.damus.io', guardedLookup(true, resolver('127.0.0.1')))).toBe(
      'connected',
    );
    await expect.poll(() => connections).toBe(before + 1);
  });

  test('needs both checks: node:net calls no lookup for an address literal', async () => {
    const before = connections;
    const lookup = resolver('8.8.8.8');
    expect(await dial('127.0.0.1', guardedLookup(false, lookup))).toBe('connected');
    await expect.poll(() => connections).toBe(before + 1);
    expect(lookup.asked).toEqual([]);
    expect(forbiddenHost(relay(`ws://127.0.0.1:${port}`))).toContain('loopback');
  });

  test('connects to none of the adversarial URLs', async () => {
    const before = connections;
    const stopped = new Map<string, number>();
    const passed: string[] = [];
    for (const { url, trick } of ADVERSARIAL_URLS) {
      const by = await attempt(url);
      stopped.set(by, (stopped.get(by) ?? 0) + 1);
      if (!['text', 'host', 'lookup'].includes(by)) passed.push(`${url} (${trick}): ${by}`);
    }
    console.log(
      `${ADVERSARIAL_URLS.length} adversarial URLs, stopped by`,
      Object.fromEntries(stopped),
    );
    expect(passed).toEqual([]);
    expect(connections).toBe(before);
    expect(new Set(ADVERSARIAL_URLS.map(({ url }) => url)).size).toBeGreaterThanOrEqual(200);
    expect([...stopped.keys()].sort()).toEqual(['host', 'lookup', 'text']);
  });

  test('refuses a name that changes its answer (DNS rebinding), with a WebSocket client', async () => {
    const before = connections;
    const answers = ['8.8.8.8', '127.0.0.1'];
    let questions = 0;
    const rebinding: Resolver = (_name, _options, callback) => {
      questions += 1;
      setImmediate(callback, null, [{ address: answers.shift() ?? '127.0.0.1', family: 4 }]);
    };
    const lookup = guardedLookup(false, rebinding);
    // A check before connecting is content with the first answer…
    expect((await ask(lookup, 'rebind.network')).address).toBe('8.8.8.8');
    // …and the connection, which asks again, is refused by the second.
    const socket = new WebSocket(`ws://rebind.network:${port}`, { lookup });
    const error = await new Promise<NodeJS.ErrnoException>((resolve) =>
      socket.on('error', resolve),
    );
    expect(error.code).toBe('EFORBIDDEN');
    expect(questions).toBe(2);
    expect(connections).toBe(before);
  });
});
