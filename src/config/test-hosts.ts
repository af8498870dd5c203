import { isIP } from 'node:net';
import { z } from 'zod';
import type { TestAddress, TestHosts } from '../network/own-network.ts';

/** Names with many servers, anycast resolvers and root name servers: some of them answer wherever there is a way out. */
const KNOWN_TO_ANSWER: TestHosts = {
  names: ['iana.org', 'cloudflare.com', 'google.com', 'wikipedia.org', 'quad9.net'],
  addresses: [
    { host: '1.1.1.1', port: 443 },
    { host: '198.41.0.4', port: 53 },
    { host: '8.8.8.8', port: 443 },
    { host: '193.0.14.129', port: 53 },
    { host: '9.9.9.9', port: 443 },
    { host: '192.33.4.12', port: 53 },
    { host: '2606:4700:4700::1111', port: 443 },
    { host: '2001:503:ba3e::2:30', port: 53 },
    { host: '2001:4860:4860::8888', port: 443 },
    { host: '2001:7fd::1', port: 53 },
    { host: '2620:fe::fe', port: 443 },
    { host: '2001:500:2::c', port: 53 },
  ],
};
const DEFAULT_PORT = 443;

/** Names and addresses with which our own network is tested: `default`, `none`, or a list. */
export const testHosts = z.string().transform((text, ctx): TestHosts | 'default' | null => {
  const entries = text.split(/[\s,]+/).filter(Boolean);
  if (entries.length === 0) return 'default';
  if (text.trim().toLowerCase() === 'none') return null;
  const names: string[] = [];
  const addresses: TestAddress[] = [];
  for (const entry of entries) {
    const address = addressIn(entry);
    if (address) addresses.push(address);
    else if (/^(?=.*[a-z])[a-z0-9_-]+(\.[a-z0-9_-]+)+$/i.test(entry)) names.push(entry);
    else
      ctx.addIssue({
        code: 'custom',
        message: `must hold names, and addresses such as 192.0.2.1:443 or [2001:db8::1]:443, not ${JSON.stringify(entry.slice(0, 60))}.`,
      });
  }
  return { names, addresses };
});

function addressIn(entry: string): TestAddress | null {
  if (isIP(entry) !== 0) return { host: entry, port: DEFAULT_PORT };
  const [, bracketed, plain, port = DEFAULT_PORT] =
    /^(?:\[([0-9a-f:.]+)\]|([0-9.]+))(?::([1-9][0-9]{0,4}))?$/i.exec(entry) ?? [];
  const host = bracketed ?? plain ?? '';
  const family = bracketed === undefined ? 4 : 6;
  return isIP(host) === family && Number(port) <= 65_535 ? { host, port: Number(port) } : null;
}

/**
 * What our network is tested with; null: not at all. Test networks (ALLOW_PRIVATE_RELAYS) have no way out unless they name
 * what answers there.
 */
export function testHostsFor(
  given: TestHosts | 'default' | null,
  allowPrivateRelays: boolean,
): TestHosts | null {
  if (given !== 'default') return given;
  return allowPrivateRelays ? null : KNOWN_TO_ANSWER;
}
