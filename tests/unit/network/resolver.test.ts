import type { LookupAddress } from 'node:dns';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { guardedLookup } from '../../../src/network/address.ts';
import { dnsResolver } from '../../../src/network/resolver.ts';
import { type DnsServer, startDnsServer } from '../../network/dns-server.ts';

let server: DnsServer;

beforeEach(async () => {
  server = await startDnsServer({
    'both.relay.net A': [{ type: 'A', data: '203.0.114.1' }],
    'both.relay.net AAAA': [{ type: 'AAAA', data: '2a01:4f8::1' }],
    'six.relay.net AAAA': [{ type: 'AAAA', data: '2a01:4f8::2' }],
    'half.relay.net A': [{ type: 'A', data: '203.0.114.3' }],
    'half.relay.net AAAA': 'silent',
    'broken.relay.net A': 'servfail',
    'broken.relay.net AAAA': 'servfail',
    'mixed.relay.net A': [
      { type: 'A', data: '127.0.0.1' },
      { type: 'A', data: '203.0.114.4' },
    ],
    'inside.relay.net A': [{ type: 'A', data: '10.0.0.1' }],
  });
});
afterEach(() => server.stop());

type Answer = { code?: string | undefined; addresses: string[] };

const ask = (resolve: ReturnType<typeof dnsResolver>, name: string, family = 0): Promise<Answer> =>
  new Promise((done) => {
    resolve(name, { all: true, family }, (error, found: LookupAddress[]) =>
      done({
        ...(error && { code: error.code }),
        addresses: found.map(({ address }) => address),
      }),
    );
  });

describe('dnsResolver()', () => {
  test('returns all addresses, IPv4 first, or those of one family', async () => {
    const resolve = dnsResolver([server.address]);
    expect(await ask(resolve, 'both.relay.net')).toEqual({
      addresses: ['203.0.114.1', '2a01:4f8::1'],
    });
    expect(await ask(resolve, 'BOTH.relay.net', 6)).toEqual({ addresses: ['2a01:4f8::1'] });
    expect(await ask(resolve, 'both.relay.net', 4)).toEqual({ addresses: ['203.0.114.1'] });
    expect(await ask(resolve, 'six.relay.net')).toEqual({ addresses: ['2a01:4f8::2'] });
  });

  test('distinguishes a name that does not exist from a failed look-up', async () => {
    const resolve = dnsResolver([server.address]);
    expect(await ask(resolve, 'nowhere.relay.net')).toEqual({ code: 'ENOTFOUND', addresses: [] });
    expect(await ask(resolve, 'six.relay.net', 4)).toEqual({ code: 'ENOTFOUND', addresses: [] });
    expect(await ask(resolve, 'broken.relay.net')).toEqual({ code: 'EAI_AGAIN', addresses: [] });
    await server.stop();
    const alone = dnsResolver([server.address]); // nothing listens there: not a refusal by the relay
    expect(await ask(alone, 'both.relay.net')).toEqual({ code: 'EAI_AGAIN', addresses: [] });
    server = await startDnsServer();
  });

  test('does not wait for IPv6 when a name server never answers AAAA', async () => {
    const resolve = dnsResolver([server.address]);
    expect(await ask(resolve, 'half.relay.net')).toEqual({ addresses: ['203.0.114.3'] });
    expect(server.questions).toContain('half.relay.net AAAA');
  });

  test('sends one query for simultaneous look-ups of a name', async () => {
    const resolve = dnsResolver([server.address]);
    const answers = await Promise.all([
      ask(resolve, 'both.relay.net'),
      ask(resolve, 'both.relay.net'),
    ]);
    expect(answers[0]).toEqual(answers[1]);
    expect([...server.questions].sort()).toEqual(['both.relay.net A', 'both.relay.net AAAA']);
  });

  test('is not delayed by a hundred names whose servers do not answer', async () => {
    const names = Array.from({ length: 100 }, (_, index) => `r${index}.silent.net`);
    server.zone = {
      ...server.zone,
      ...Object.fromEntries(
        names.flatMap((name) => [
          [`${name} A`, 'silent'],
          [`${name} AAAA`, 'silent'],
        ]),
      ),
    };
    const resolve = dnsResolver([server.address]);
    let settled = 0;
    const silent = names.map((name) => ask(resolve, name).finally(() => settled++));
    expect(await ask(resolve, 'both.relay.net')).toMatchObject({
      addresses: ['203.0.114.1', '2a01:4f8::1'],
    });
    expect(settled).toBe(0); // with getaddrinfo it would have come after nearly all of them
    expect(new Set((await Promise.all(silent)).map(({ code }) => code))).toEqual(
      new Set(['EAI_AGAIN']),
    );
  }, 30_000);

  test('resolves names without a dot by the system', async () => {
    const { addresses } = await ask(dnsResolver([server.address]), 'localhost');
    expect(addresses).toContain('127.0.0.1');
    expect(server.questions).toEqual([]);
  });

  test('is checked by the address guard: the socket gets exactly the addresses that were checked', async () => {
    const lookup = guardedLookup(false, dnsResolver([server.address]));
    const guarded = (name: string) =>
      new Promise<unknown>((done) => {
        lookup(name, { all: true }, (error, found) => done(error ? error.code : found));
      });
    expect(await guarded('mixed.relay.net')).toEqual([{ address: '203.0.114.4', family: 4 }]);
    expect(await guarded('inside.relay.net')).toBe('EFORBIDDEN');
    expect(await guarded('nowhere.relay.net')).toBe('ENOTFOUND');
  });
});
