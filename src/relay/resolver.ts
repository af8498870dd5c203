import { type LookupAddress, type LookupOptions, promises, lookup as systemLookup } from 'node:dns';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * How long one question to one name server may take, in milliseconds, and how often it is asked. With two name servers
 * a name whose own server is silent is given up after five seconds or so, well before a connection would be.
 */
const QUESTION_MS = 2500;
const TRIES = 2;

/** c-ares reads /etc/resolv.conf when it is made: a new one now and then sees what has changed there. */
const RENEW_AFTER_MS = 60_000;

let resolver: promises.Resolver | undefined;
let madeAt = 0;

function currentResolver(): promises.Resolver {
  if (resolver === undefined || performance.now() - madeAt > RENEW_AFTER_MS) {
    resolver = new promises.Resolver({ timeout: QUESTION_MS, tries: TRIES });
    madeAt = performance.now();
  }
  return resolver;
}

/** Questions under way, by name: the WebSocket and the NIP-11 document of a relay ask at the same time. */
const asked = new Map<string, Promise<LookupAddress[]>>();

/**
 * Resolves a name to its addresses by DNS itself (RFC 1035), IPv4 first, without `getaddrinfo`: that one occupies a
 * thread of libuv's pool, of which a process has four, for as long as a name server is silent. A thousand names of
 * dead domains would hold up every other relay for an hour. Names that are not in DNS for sure (without a dot, and
 * `localhost`) are still the system's; only test networks get that far.
 *
 * It is a resolver for `guardedLookup`, with the arguments and errors (`ENOTFOUND`, `EAI_AGAIN`) of `lookup` in node:dns.
 */
export function resolveName(
  hostname: string,
  options: LookupOptions & { all: true },
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
): void {
  const name = hostname.toLowerCase();
  if (!name.includes('.') || /(^|\.)localhost\.?$/.test(name)) {
    systemLookup(hostname, options, callback);
    return;
  }
  const { family } = options;
  let answer = asked.get(name);
  if (!answer) {
    answer = askDns(name).finally(() => asked.delete(name));
    asked.set(name, answer);
  }
  answer.then(
    (addresses) => {
      const fitting = addresses.filter((each) => !family || familyOf(family) === each.family);
      if (fitting.length > 0) callback(null, fitting);
      else callback(failure('ENOTFOUND', name), []);
    },
    (error: NodeJS.ErrnoException) => callback(error, []),
  );
}

/** With an IPv4 address at hand, one for IPv6 is waited for no longer: some name servers never answer that question. */
const SECOND_ANSWER_MS = 300;

async function askDns(name: string): Promise<LookupAddress[]> {
  const dns = currentResolver();
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

/** The codes of c-ares would be read as those of the relay: ECONNREFUSED is a name server that is not there. */
function failure(code: 'ENOTFOUND' | 'EAI_AGAIN', name: string): NodeJS.ErrnoException {
  const what = code === 'ENOTFOUND' ? 'has no address' : 'could not be looked up';
  return Object.assign(new Error(`${name} ${what}`), { code });
}

function familyOf(family: number | 'IPv4' | 'IPv6'): number {
  return family === 'IPv4' ? 4 : family === 'IPv6' ? 6 : family;
}
