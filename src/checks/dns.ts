import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { DnsData } from '../nostr/check-result.ts';
import { plainText } from '../nostr/message.ts';
import { forbiddenAddress, forbiddenHost } from '../relay/address.ts';
import type { RelayUrl } from '../relay/url.ts';
import { type CheckContext, failure } from './context.ts';

/** Entries kept of one answer. */
const MAX_ENTRIES = 50;
/** Name servers are looked for at the host and above it, in so many steps at most. */
const MAX_NS_STEPS = 4;

const REASON_OF_CODE: Record<string, string> = {
  ENOTFOUND: 'not_found',
  ENODATA: 'no_address',
  ESERVFAIL: 'server_failed',
  EREFUSED: 'refused',
  ETIMEOUT: 'timeout',
  ECANCELLED: 'timeout',
  ECONNREFUSED: 'unreachable',
};

/**
 * Asks DNS about the host of a relay: addresses, alias, name servers and the name of its first address. At most nine
 * questions. Nothing is connected to. Names of Tor, I2P and Lokinet must not come here.
 *
 * @param servers name servers to ask instead of the system's, `address` or `address:port`
 * @throws RelayError `literal` when the host is an address, `forbidden` when its name is not public, else why there
 * is no address: `not_found`, `no_address`, `server_failed`, `refused`, `unreachable`, `timeout` or `dns`.
 */
export async function checkDns(
  url: RelayUrl,
  ctx: CheckContext,
  servers: readonly string[] | null,
): Promise<DnsData> {
  const { hostname } = new URL(url);
  if (isIP(hostname.replace(/^\[|\]$/g, '')) !== 0) throw failure('literal');
  if (!ctx.allowPrivate && forbiddenHost(url)) throw failure('forbidden');
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
  if (!first) throw failure(a.status === 'rejected' ? reasonOf(a.reason) : 'no_address');
  return {
    a: listOf(recordsOf(a).map(({ address }) => address)),
    aaaa: listOf(recordsOf(aaaa).map(({ address }) => address)),
    cname: listOf(recordsOf(cname))[0] ?? null,
    ns: listOf(recordsOf(ns)),
    reverse: listOf(await reverseOf(resolver, first.address, ctx)),
    ttl: Math.min(...records.map(({ ttl }) => (isTtl(ttl) ? ttl : 0))),
  };
}

/** RFC 2181 section 8: one with its first bit set counts as zero. */
function isTtl(ttl: number): boolean {
  return Number.isInteger(ttl) && ttl >= 0 && ttl < 2 ** 31;
}

function recordsOf<T>(outcome: PromiseSettledResult<T[]>): T[] {
  return outcome.status === 'fulfilled' ? outcome.value : [];
}

/** Those of the host, or of the nearest name above it that has any; never those of a top level. */
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

/** The names of private addresses are nobody's to know but their own resolver's. */
async function reverseOf(
  resolver: Resolver,
  address: string,
  { allowPrivate }: CheckContext,
): Promise<string[]> {
  if (!allowPrivate && forbiddenAddress(address) !== null) return [];
  return resolver.reverse(address).catch(() => []);
}

/** Sorted, since servers turn their answers round; names in lower case (RFC 4343), without what PostgreSQL cannot hold. */
function listOf(entries: readonly string[]): string[] {
  const names = entries.map((entry) => plainText(entry.toLowerCase()));
  return [...new Set(names)].sort().slice(0, MAX_ENTRIES);
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return REASON_OF_CODE[code] ?? 'dns';
}
