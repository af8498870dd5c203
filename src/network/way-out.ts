import { randomBytes } from 'node:crypto';
import { promises } from 'node:dns';
import { connect, isIP } from 'node:net';

/** A part of our own network that can fail alone. */
export type NetworkPart = 'dns' | 'ipv4' | 'ipv6';

export interface TestAddress {
  /** An IPv4 or IPv6 literal, without brackets. */
  readonly host: string;
  readonly port: number;
}

/** Names and addresses outside that are known to answer. Plain data, so that worker threads can have it. */
export interface TestHosts {
  readonly names: readonly string[];
  readonly addresses: readonly TestAddress[];
}

/** Tests whether our network leads outside. */
export interface WayOut {
  /** What can be tested. */
  readonly parts: ReadonlySet<NetworkPart>;
  /** @param alsoKnown addresses that answered a moment ago. Never rejects. */
  works(part: NetworkPart, alsoKnown: readonly TestAddress[]): Promise<boolean>;
}

/** Time for a TCP connection, in milliseconds: a SYN that was lost is sent again after 1 s. */
const CONNECT_MS = 3000;
/** Timeout of the first DNS query, in milliseconds; the second has twice as long. */
const QUERY_MS = 1500;
const QUERIES = 2;
/** Test hosts that are tried in one test, at the same time. */
const HOSTS_A_TEST = 3;
/** Addresses that answered a moment ago and are tried with them. */
const KNOWN_A_TEST = 2;

/** The part that an address literal needs; null for a name. */
export function partOfAddress(host: string): 'ipv4' | 'ipv6' | null {
  const family = isIP(host);
  return family === 0 ? null : family === 6 ? 'ipv6' : 'ipv4';
}

/**
 * A test by TCP connections to some of the addresses, and by DNS queries for some of the names, in turns. DNS works when
 * one name has an address and a random name under it is answered too, with or without an address: the first answer may
 * come from a cache, the second one cannot.
 *
 * @param servers name servers to ask instead of those of the system
 */
export function wayOutBy(
  { names, addresses }: TestHosts,
  servers: readonly string[] | null = null,
): WayOut {
  const byPart = {
    ipv4: addresses.filter(({ host }) => partOfAddress(host) === 'ipv4'),
    ipv6: addresses.filter(({ host }) => partOfAddress(host) === 'ipv6'),
  };
  const parts = new Set<NetworkPart>();
  if (names.length > 0) parts.add('dns');
  if (byPart.ipv4.length > 0) parts.add('ipv4');
  if (byPart.ipv6.length > 0) parts.add('ipv6');
  let turn = 0;
  return {
    parts,
    works: (part, alsoKnown) => {
      turn += 1;
      if (part === 'dns')
        return anyOf(inTurn(names, turn).map((name) => answersName(name, servers)));
      const tried = [...inTurn(byPart[part], turn), ...alsoKnown.slice(-KNOWN_A_TEST)];
      return anyOf(tried.map(accepts));
    },
  };
}

function inTurn<T>(list: readonly T[], turn: number): T[] {
  const from = list.length === 0 ? 0 : (turn * HOSTS_A_TEST) % list.length;
  return [...list.slice(from), ...list.slice(0, from)].slice(0, HOSTS_A_TEST);
}

/** Resolves with true as soon as one of them does. */
function anyOf(tests: readonly Promise<boolean>[]): Promise<boolean> {
  const orFail = tests.map(async (test) => {
    if (!(await test)) throw new Error('no answer');
  });
  return Promise.any(orFail).then(
    () => true,
    () => false,
  );
}

function accepts({ host, port }: TestAddress): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const finish = (works: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(works);
    };
    const timer = setTimeout(() => finish(false), CONNECT_MS);
    socket.once('connect', () => finish(true));
    socket.on('error', () => finish(false));
  });
}

async function answersName(name: string, servers: readonly string[] | null): Promise<boolean> {
  // A new resolver each time: it reads /etc/resolv.conf when it is created.
  const resolver = new promises.Resolver({ timeout: QUERY_MS, tries: QUERIES });
  if (servers) resolver.setServers(servers);
  try {
    await resolver.resolve4(name);
    await resolver.resolve4(`${randomBytes(6).toString('hex')}.${name}`).catch(throwUnlessAnswer);
    return true;
  } catch {
    return false;
  }
}

/** "No such name" and "no address" are answers of a working DNS. */
function throwUnlessAnswer(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOTFOUND' && error.code !== 'ENODATA') throw error;
}
