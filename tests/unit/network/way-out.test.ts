import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { wayOutBy } from '../../../src/network/way-out.ts';
import { type DnsServer, startDnsServer } from '../../network/dns-server.ts';

let dns: DnsServer | null = null;
afterEach(async () => {
  await dns?.stop();
  dns = null;
});

const A = [{ type: 'A', data: '192.0.2.1' }] as const;

test('tests only the parts that it has hosts for', () => {
  const parts = (names: string[], hosts: string[]) => [
    ...wayOutBy({ names, addresses: hosts.map((host) => ({ host, port: 443 })) }).parts,
  ];
  expect(parts(['a.example'], [])).toEqual(['dns']);
  expect(parts([], ['192.0.2.1'])).toEqual(['ipv4']);
  expect(parts(['a.example'], ['192.0.2.1', '2001:db8::1'])).toEqual(['dns', 'ipv4', 'ipv6']);
});

test('an address works when it accepts a connection; a recent success is reused', async () => {
  const server = createServer((socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const good = { host: '127.0.0.1', port };
  const refused = { host: '127.0.0.1', port: 1 };
  const works = (address: typeof good, alsoKnown: (typeof good)[] = []) =>
    wayOutBy({ names: [], addresses: [address] }).works('ipv4', alsoKnown);
  expect(await works(good)).toBe(true);
  expect(await works(refused)).toBe(false);
  expect(await works(refused, [good])).toBe(true);
  server.close();
});

test('DNS works when a known name resolves and a random, uncached name gets an answer', async () => {
  dns = await startDnsServer({ 'a.example A': A });
  const wayOut = wayOutBy({ names: ['a.example', 'b.example'], addresses: [] }, [dns.address]);
  expect(await wayOut.works('dns', [])).toBe(true);
  const asked = dns.questions.filter((question) => question.endsWith('.a.example A'));
  expect(asked).toEqual([expect.stringMatching(/^[0-9a-f]{12}\.a\.example A$/)]);
  await wayOut.works('dns', []);
  expect(new Set(dns.questions.filter((question) => question.endsWith('.a.example A'))).size).toBe(
    2,
  );
});

test.each([
  ['fail', 'servfail'],
  ['say that nothing exists', []],
] as const)('DNS does not work when its servers %s', async (_, answer) => {
  dns = await startDnsServer({ 'a.example A': answer });
  const wayOut = wayOutBy({ names: ['a.example'], addresses: [] }, [dns.address]);
  expect(await wayOut.works('dns', [])).toBe(false);
});
