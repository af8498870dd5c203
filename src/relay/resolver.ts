import { type LookupAddress, type LookupOptions, promises, lookup as systemLookup } from 'node:dns';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * How long one question to one name server may take, in milliseconds, and how often it is asked, the second time for
 * twice as long: a name whose own server is silent is given up before its connection would be.
 */
const QUESTION_MS = 2500;
const TRIES = 2;

/** With an IPv4 address at hand, one for IPv6 is waited for no longer: some name servers never answer that question. */
const SECOND_ANSWER_MS = 300;

/** c-ares reads /etc/resolv.conf when it is made: a new one now and then sees what has changed there. */
const RENEW_AFTER_MS = 60_000;

/** Asks for all addresses of a name, as `lookup` of node:dns does with `all`, and with its errors. */
type Lookup = (
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Resolves names by DNS itself (RFC 1035), IPv4 first, without `getaddrinfo`: that one occupies a thread of libuv's
 * pool, of which a process has four, for as long as a name server is silent, so that a thousand names of dead domains
 * would hold up every other relay for an hour. Names that are not in DNS for sure (without a dot, and `localhost`) are
 * still the system's; a hosts file is not read for the others.
 *
 * @param servers instead of those of the system, as `Resolver.setServers()` takes them
 * @returns a resolver for `guardedLookup`; its errors are `ENOTFOUND` and `EAI_AGAIN`
 */
export function dnsResolver(servers: readonly string[] | null = null): Lookup {
  let resolver: promises.Resolver | undefined;
  let madeAt = 0;
  const current = (): promises.Resolver => {
    if (resolver === undefined || performance.now() - madeAt > RENEW_AFTER_MS) {
      resolver = new promises.Resolver({ timeout: QUESTION_MS, tries: TRIES });
      if (servers) resolver.setServers(servers);
      madeAt = performance.now();
    }
    return resolver;
  };
  /** Questions under way, by name: the WebSocket and the NIP-11 document of a relay ask at the same time. */
  const asked = new Map<string, Promise<LookupAddress[]>>();
  return (hostname, options, callback) => {
    const name = hostname.toLowerCase();
    if (!name.includes('.') || /(^|\.)localhost\.?$/.test(name)) {
      systemLookup(hostname, options, callback);
      return;
    }
    let answer = asked.get(name);
    if (!answer) {
      answer = ask(current(), name).finally(() => asked.delete(name));
      asked.set(name, answer);
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

/** By the name servers of the system. */
export const resolveName = dnsResolver();

async function ask(dns: promises.Resolver, name: string): Promise<LookupAddress[]> {
  const problems: unknown[] = [];
  const note = (error: unknown): string[] => {
    problems.push(error);
    return [];
  };
  const second = dns.resolve6(name).catch(note);
  const four = await dns.resolve4(name).catch(note);
  const six = four.length > 0 ? await Promise.race([second, nothingAfterAWhile()]) : await second;
  const addresses = [
    ...four.map((address) => ({ address, family: 4 })),
    ...six.map((address) => ({ address, family: 6 })),
  ];
  if (addresses.length > 0) return addresses;
  throw failure(problems.every(saysThereIsNone) ? 'ENOTFOUND' : 'EAI_AGAIN', name);
}

function nothingAfterAWhile(): Promise<string[]> {
  return sleep(SECOND_ANSWER_MS, [], { ref: false });
}

function saysThereIsNone(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : '';
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

/** The codes of c-ares would be read as those of the relay: its ECONNREFUSED is a name server that is not there. */
function failure(code: 'ENOTFOUND' | 'EAI_AGAIN', name: string): NodeJS.ErrnoException {
  const what = code === 'ENOTFOUND' ? 'has no address' : 'could not be looked up';
  return Object.assign(new Error(`${name} ${what}`), { code });
}

function familyOf(family: LookupOptions['family']): number {
  return family === 'IPv4' ? 4 : family === 'IPv6' ? 6 : (family ?? 0);
}
