/**
 * The address guard: no relay URL, whatever its source, makes a service connect into its own network.
 *
 * Two checks are needed. `forbiddenHost` checks the URL itself, because node:net never calls a lookup for an address
 * literal. `guardedLookup` checks what a name resolves to, at connect time: the socket connects to the address that was
 * just checked and does not resolve again, so a name that changes between two look-ups (DNS rebinding) gains nothing.
 */
import { type LookupAddress, type LookupOptions, lookup as systemLookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { resolveName } from './resolver.ts';
import type { RelayUrl } from './url.ts';

/** Why a range of `ipaddr.js` is refused. Ranges that are not listed are refused too. */
const RANGES: Readonly<Record<string, string>> = {
  unspecified: 'it is an address of "this" network (RFC 791)',
  broadcast: 'it is the broadcast address',
  multicast: 'it is a multicast address',
  linkLocal: 'it is a link-local address',
  loopback: 'it is a loopback address',
  carrierGradeNat: 'it is a carrier-grade NAT address (RFC 6598)',
  private: 'it is a private address (RFC 1918)',
  uniqueLocal: 'it is a unique-local address (RFC 4193)',
  deprecatedSiteLocal: 'it is a site-local address (RFC 3879)',
  benchmarking: 'it is a benchmarking address',
  discard: 'it is an address of the discard prefix (RFC 6666)',
  ipv4Mapped: 'it is an IPv4 address written as an IPv6 one',
  rfc6145: 'it is an IPv4 address translated into an IPv6 one',
  rfc6052: 'it is an IPv4 address translated into an IPv6 one (NAT64)',
  '6to4': 'it is an IPv4 address tunnelled in an IPv6 one (6to4)',
  teredo: 'it is an IPv4 address tunnelled in an IPv6 one (Teredo)',
  deprecatedOrchid: 'it is a hash and not an address (ORCHID)',
  orchid2: 'it is a hash and not an address (ORCHID)',
};
const RESERVED = 'it is a reserved address';

/**
 * Refused ports. First those that the fetch standard blocks ("bad port"): browsers open no WebSocket to them, so a relay
 * there has no web clients. Then databases, remote control and proxies: a request with bytes that an attacker chose must
 * not reach them, even at a public address.
 */
const BLOCKED_BY_FETCH = [
  1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102,
  103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465,
  512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993,
  995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668,
  6669, 6679, 6697, 10080,
];
const SERVICES: readonly (readonly [port: number, service: string])[] = [
  [445, 'SMB'],
  [1433, 'SQL Server'],
  [1521, 'Oracle'],
  [2375, 'Docker'],
  [2376, 'Docker'],
  [2379, 'etcd'],
  [2380, 'etcd'],
  [3306, 'MySQL'],
  [3389, 'remote desktop'],
  [5432, 'PostgreSQL'],
  [5900, 'VNC'],
  [6379, 'Redis'],
  [6432, 'PgBouncer'],
  [9050, 'Tor'],
  [9051, 'Tor'],
  [9150, 'Tor Browser'],
  [9200, 'Elasticsearch'],
  [11211, 'memcached'],
  [27017, 'MongoDB'],
];
const FORBIDDEN_PORTS: ReadonlyMap<string, string> = new Map([
  ...BLOCKED_BY_FETCH.map((port) => [`${port}`, `browsers refuse port ${port}`] as const),
  ...SERVICES.map(
    ([port, of]) => [`${port}`, `port ${port} is for ${of}, not for relays`] as const,
  ),
]);

/**
 * Names that never resolve to a public host: special-use names (RFC 6761, 6762, 8375, 9476), `internal` (reserved by
 * ICANN for private use), `arpa`, and undelegated endings that home routers and companies use.
 */
const FORBIDDEN_SUFFIXES = [
  'localhost',
  'local',
  'internal',
  'test',
  'invalid',
  'example',
  'example.com',
  'example.net',
  'example.org',
  'alt',
  'arpa',
  'lan',
  'home',
  'corp',
  'intranet',
  'private',
  'localdomain',
];

/**
 * Why `ip` must not be connected to, or null for a public address. Only the usual notation is accepted, because two
 * parsers may read another one differently. IPv6 is public only inside 2000::/3, which is all that IANA has assigned as
 * global unicast; IPv6 addresses that embed an IPv4 address are always refused.
 */
export function forbiddenAddress(ip: string): string | null {
  if (isIP(ip) === 0) return 'it is not an IP address';
  if (ip.includes('%')) return 'it names an interface of this machine (zone id)';
  const address = ipaddr.parse(ip);
  const range: string = address.range();
  if (range !== 'unicast') return RANGES[range] ?? RESERVED;
  if (address.kind() === 'ipv4') return null;
  return ((address.toByteArray()[0] ?? 0) & 0xe0) === 0x20 ? null : RESERVED;
}

/**
 * Why a relay URL must not be connected to, judged by the URL alone: an address literal, a name that is not public, or a
 * refused port. Null when it may be tried; `guardedLookup` checks what the name resolves to.
 */
export function forbiddenHost(url: RelayUrl): string | null {
  const { hostname, port } = new URL(url);
  const literal = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
  const reason = isIP(literal) === 0 ? forbiddenName(literal) : forbiddenAddress(literal);
  return reason ?? FORBIDDEN_PORTS.get(port) ?? null;
}

/** Resolves all addresses of a name, with the signature of `lookup` in node:dns. */
export type Resolver = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * A `lookup` for sockets (node:net) that returns public addresses only. When a name has both public and forbidden
 * addresses, the forbidden ones are dropped: mixed answers come from misconfigured zones, and the socket can connect only
 * to what is returned. When none is left, and for names that are not public, the error has the code `EFORBIDDEN`.
 *
 * Names of Tor, I2P and Lokinet are never looked up, not even with `allowPrivate`: DNS does not have them, and the query
 * would reveal to the resolver which relay is read. `allowPrivate` allows all other names and addresses, for test
 * networks, whose names may come from a hosts file.
 */
export function guardedLookup(
  allowPrivate: boolean,
  resolve: Resolver = allowPrivate ? systemLookup : resolveName,
): LookupFunction {
  return (hostname, options, callback) => {
    const name = hostname.toLowerCase().replace(/\.$/, '');
    const reason = hiddenName(name) ?? (allowPrivate ? null : forbiddenLookup(name));
    if (reason !== null) {
      process.nextTick(callback, new ForbiddenAddressError(hostname, reason), []);
      return;
    }
    resolve(hostname, { ...options, all: true }, (error, addresses) => {
      if (error) return callback(error, []);
      const allowed = allowPrivate ? addresses : addresses.filter(isPublic);
      const [first] = allowed;
      if (first === undefined) return callback(nothingLeft(hostname, addresses), []);
      if (options.all) return callback(null, allowed);
      callback(null, first.address, first.family);
    });
  };
}

/** The address guard refused a connection; `code` is `EFORBIDDEN`. */
class ForbiddenAddressError extends Error {
  readonly code = 'EFORBIDDEN';

  constructor(hostname: string, reason: string) {
    super(`${hostname} is not connected to: ${reason}`);
    this.name = 'ForbiddenAddressError';
  }
}

function isPublic({ address }: LookupAddress): boolean {
  return forbiddenAddress(address) === null;
}

function nothingLeft(hostname: string, addresses: LookupAddress[]): NodeJS.ErrnoException {
  const [first] = addresses;
  if (first === undefined) {
    return Object.assign(new Error(`${hostname} has no address`), { code: 'ENOTFOUND' });
  }
  const reason = forbiddenAddress(first.address) ?? RESERVED;
  return new ForbiddenAddressError(hostname, `it resolves to ${first.address}, and ${reason}`);
}

function forbiddenLookup(name: string): string | null {
  return isIP(name) === 0 ? forbiddenName(name) : forbiddenAddress(name);
}

/** `name` in lower case, without a trailing dot. */
function forbiddenName(name: string): string | null {
  const suffix = FORBIDDEN_SUFFIXES.find((end) => name === end || name.endsWith(`.${end}`));
  if (suffix !== undefined) return `names under "${suffix}" are not public`;
  return name.includes('.') ? null : 'a name without a dot is not public';
}

function hiddenName(name: string): string | null {
  const suffix = ['onion', 'i2p', 'loki'].find((end) => name.endsWith(`.${end}`));
  return suffix === undefined ? null : `names under ".${suffix}" are not looked up in DNS`;
}
