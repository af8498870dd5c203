import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import { forbiddenAddress, forbiddenHost } from '../../network/address.ts';
import type { RelayUrl } from '../../network/url.ts';
import type { DnsData } from '../../nostr/check-result.ts';
import { plainText } from '../../nostr/message.ts';
import { type CheckContext, CheckError, type CheckFailure } from './context.ts';

/** Maximum number of entries kept of one answer. */
const MAX_ENTRIES = 50;
/** Name servers are queried for the host and its parent domains: at most this many names. */
const MAX_NS_STEPS = 4;

const REASON_OF_CODE: Readonly<Record<string, CheckFailure>> = {
  ENOTFOUND: 'not_found',
  ENODATA: 'no_address',
  ESERVFAIL: 'server_failed',
  EREFUSED: 'refused',
  ETIMEOUT: 'timeout',
  ECANCELLED: 'timeout',
  ECONNREFUSED: 'unreachable',
};

/**
 * Queries DNS for the host of a relay: addresses, alias, name servers and reverse name of its first address, at most nine
 * queries. It connects to nothing. Must not be called for names of Tor, I2P and Lokinet.
 *
 * @param servers name servers used instead of the system's, `address` or `address:port`
 * @throws CheckError `literal` when the host is an address, `forbidden` when its name is not public, else why there is no
 * address: `not_found`, `no_address`, `server_failed`, `refused`, `unreachable`, `timeout` or `dns`
 */
export async function checkDns(
  url: RelayUrl,
  ctx: CheckContext,
  servers: readonly string[] | null,
): Promise<DnsData> {
  const { hostname } = new URL(url);
  if (isIP(hostname.replace(/^\[|\]$/g, '')) !== 0) throw new CheckError('literal');
  if (!ctx.allowPrivate && forbiddenHost(url)) throw new CheckError('forbidden');
  const resolver = new Resolver({ timeout: Math.max(500, Math.ceil(ctx.timeoutMs / 3)), tries: 2 });
  if (servers) resolver.setServers(servers);
  const cancel = () => resolver.cancel();
  const timer = setTimeout(cancel, ctx.timeoutMs);
  ctx.signal.addEventListener('abort', cancel, { once: true });
  try {
    return await ask(resolver, hostname.replace(/\.$/, ''), ctx);
  } finally {
    clearTimeout(timer);
    ctx.signal.removeEventListener('abort', cancel);
  }
}

async function ask(resolver: Resolver, name: string, ctx: CheckContext): Promise<DnsData> {
  const [a, aaaa, cname, ns] = await Promise.allSettled([
    resolver.resolve4(name, { ttl: true }),
    resolver.resolve6(name, { ttl: true }),
    resolver.resolveCname(name),
    nameServers(resolver, name),
  ]);
  const records = [...recordsOf(a), ...recordsOf(aaaa)];
  const [first] = records;
  if (!first) throw new CheckError(a.status === 'rejected' ? reasonOf(a.reason) : 'no_address');
  return {
    a: listOf(recordsOf(a).map(({ address }) => address)),
    aaaa: listOf(recordsOf(aaaa).map(({ address }) => address)),
    cname: listOf(recordsOf(cname))[0] ?? null,
    ns: listOf(recordsOf(ns)),
    reverse: listOf(await reverseOf(resolver, first.address, ctx)),
    ttl: Math.min(...records.map(({ ttl }) => (isTtl(ttl) ? ttl : 0))),
  };
}

/** RFC 2181 section 8: a TTL whose most significant bit is set counts as zero. */
function isTtl(ttl: number): boolean {
  return Number.isInteger(ttl) && ttl >= 0 && ttl < 2 ** 31;
}

function recordsOf<T>(outcome: PromiseSettledResult<T[]>): T[] {
  return outcome.status === 'fulfilled' ? outcome.value : [];
}

/** Name servers of the host or of its nearest parent domain that has any; never of a top-level domain. */
async function nameServers(resolver: Resolver, name: string): Promise<string[]> {
  const labels = name.split('.');
  for (let step = 0; step < MAX_NS_STEPS && labels.length - step >= 2; step += 1) {
    try {
      return await resolver.resolveNs(labels.slice(step).join('.'));
    } catch (error) {
      if (!['no_address', 'not_found'].includes(reasonOf(error))) throw error;
    }
  }
  return [];
}

/** Not for private addresses: their reverse names belong to our own network, not to the relay. */
async function reverseOf(
  resolver: Resolver,
  address: string,
  { allowPrivate }: CheckContext,
): Promise<string[]> {
  if (!allowPrivate && forbiddenAddress(address) !== null) return [];
  return resolver.reverse(address).catch(() => []);
}

/** Sorted, because servers rotate their answers; in lower case (RFC 4343), without characters that PostgreSQL cannot store. */
function listOf(entries: readonly string[]): string[] {
  const names = entries.map((entry) => plainText(entry.toLowerCase()));
  return [...new Set(names)].sort().slice(0, MAX_ENTRIES);
}

function reasonOf(error: unknown): CheckFailure {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return REASON_OF_CODE[code] ?? 'dns';
}
