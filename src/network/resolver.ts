import { type LookupAddress, type LookupOptions, promises, lookup as systemLookup } from 'node:dns';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Timeout of one query to one name server, in milliseconds, and the number of tries; the second timeout is twice as
 * long. So a name whose server does not answer fails before the connection timeout.
 */
const QUERY_MS = 2500;
const TRIES = 2;

/** Maximum wait for the AAAA answer after the A answer, in milliseconds: some name servers never answer AAAA. */
const SECOND_ANSWER_MS = 300;

/** c-ares reads /etc/resolv.conf when a resolver is created: a new resolver every minute picks up changes. */
const RENEW_AFTER_MS = 60_000;

/** Resolves all addresses of a name, with the signature and errors of `lookup` in node:dns. */
type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Resolves names by DNS (RFC 1035), IPv4 first, without `getaddrinfo`: that occupies one of the four threads of libuv's
 * pool until the name server answers, so a thousand names of dead domains would delay every other relay by an hour. Names
 * that are not in DNS (without a dot, and `localhost`) are resolved by the system; the hosts file is not read for others.
 *
 * @param servers used instead of those of the system, in the form of `Resolver.setServers()`
 * @returns a resolver for `guardedLookup`; its errors are `ENOTFOUND` and `EAI_AGAIN`
 */
export function dnsResolver(servers: readonly string[] | null = null): Lookup {
  let resolver: promises.Resolver | undefined;
  let madeAt = 0;
  const current = (): promises.Resolver => {
    if (resolver === undefined || performance.now() - madeAt > RENEW_AFTER_MS) {
      resolver = new promises.Resolver({ timeout: QUERY_MS, tries: TRIES });
      if (servers) resolver.setServers(servers);
      madeAt = performance.now();
    }
    return resolver;
  };
  /** Queries in progress, by name: the WebSocket and the NIP-11 document of a relay ask at the same time. */
  const inProgress = new Map<string, Promise<LookupAddress[]>>();
  return (hostname, options, callback) => {
    const name = hostname.toLowerCase();
    if (!name.includes('.') || /(^|\.)localhost\.?$/.test(name)) {
      systemLookup(hostname, options, callback);
      return;
    }
    let answer = inProgress.get(name);
    if (!answer) {
      answer = ask(current(), name).finally(() => inProgress.delete(name));
      inProgress.set(name, answer);
    }
    const family = familyOf(options.family);
    answer.then(
      (addresses) => {
        const fitting = addresses.filter((each) => family === 0 || each.family === family);
        if (fitting.length > 0) callback(null, fitting);
        else callback(failure('ENOTFOUND', name), []);
      },
      (error: NodeJS.ErrnoException) => callback(error, []),
    );
  };
}

/** Resolves by the name servers of the system. */
export const resolveName = dnsResolver();

async function ask(dns: promises.Resolver, name: string): Promise<LookupAddress[]> {
  const problems: unknown[] = [];
  const note = (error: unknown): string[] => {
    problems.push(error);
    return [];
  };
  const second = dns.resolve6(name).catch(note);
  const four = await dns.resolve4(name).catch(note);
  const six = four.length > 0 ? await Promise.race([second, emptyAfterDelay()]) : await second;
  const addresses = [
    ...four.map((address) => ({ address, family: 4 })),
    ...six.map((address) => ({ address, family: 6 })),
  ];
  if (addresses.length > 0) return addresses;
  throw failure(problems.every(isNoSuchName) ? 'ENOTFOUND' : 'EAI_AGAIN', name);
}

function emptyAfterDelay(): Promise<string[]> {
  return sleep(SECOND_ANSWER_MS, [], { ref: false });
}

function isNoSuchName(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

/** Replaces the codes of c-ares, which would be read as those of the relay: its ECONNREFUSED means the name server. */
function failure(code: 'ENOTFOUND' | 'EAI_AGAIN', name: string): NodeJS.ErrnoException {
  const what = code === 'ENOTFOUND' ? 'has no address' : 'could not be looked up';
  return Object.assign(new Error(`${name} ${what}`), { code });
}

function familyOf(family: LookupOptions['family']): number {
  return family === 'IPv4' ? 4 : family === 'IPv6' ? 6 : (family ?? 0);
}
