import type { LookupAddress } from 'node:dns';
import { connect, isIP, type LookupFunction, type Socket } from 'node:net';

/** Delay before the next address is tried in parallel (RFC 8305 section 5), in milliseconds. */
const NEXT_ADDRESS_MS = 250;
/** Maximum number of addresses tried for one name. */
const MAX_ADDRESSES = 16;
/** Errors of an address without a route from this machine: any other error is more informative. */
const NO_ROUTE = new Set([
  'ENETUNREACH',
  'EHOSTUNREACH',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EINVAL',
]);

export interface DialOptions {
  readonly host: string;
  readonly port: number;
  /** Resolves names under the address guard. Not called for address literals: the caller checks those. */
  readonly lookup: LookupFunction;
  /** Time for all attempts, in milliseconds: every address is tried in the first half of it. */
  readonly timeoutMs: number;
  /** Ends every attempt. */
  readonly signal: AbortSignal;
  /** Opens a socket to one address; tests replace it. */
  readonly open?: (address: LookupAddress, port: number) => Socket;
}

/**
 * Opens a TCP connection to the first address of a name that answers ("Happy Eyeballs", RFC 8305). Node's
 * `autoSelectFamily` abandons every address but the last after 250 ms, so it never reaches a relay that is 300 ms away
 * when another address is dead. Here the attempts run in parallel: a dead address costs 250 ms, a slow one keeps its time.
 *
 * @throws the error of the lookup or of the sockets, or the signal's reason
 */
export async function dial(options: DialOptions): Promise<Socket> {
  const { signal } = options;
  signal.throwIfAborted();
  const addresses = await addressesOf(options);
  signal.throwIfAborted();
  return firstToConnect(addresses, options);
}

async function addressesOf({ host, lookup, signal }: DialOptions): Promise<LookupAddress[]> {
  const family = isIP(host);
  if (family !== 0) return [{ address: host, family }];
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    lookup(host, { all: true }, (error, found) => {
      signal.removeEventListener('abort', onAbort);
      if (error) reject(error);
      else resolve(interleaved(Array.isArray(found) ? found : []));
    });
  });
}

/** Alternates the address families, beginning with the one that the resolver returned first (RFC 8305 section 4). */
function interleaved(addresses: readonly LookupAddress[]): LookupAddress[] {
  const [first] = addresses;
  const preferred = addresses.filter(({ family }) => family === first?.family);
  const others = addresses.filter(({ family }) => family !== first?.family);
  const mixed: LookupAddress[] = [];
  for (let i = 0; mixed.length < addresses.length; i += 1)
    mixed.push(...preferred.slice(i, i + 1), ...others.slice(i, i + 1));
  return mixed.slice(0, MAX_ADDRESSES);
}

function firstToConnect(
  addresses: readonly LookupAddress[],
  { port, timeoutMs, signal, open = openSocket }: DialOptions,
): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const pending = new Set<Socket>();
    const errors: NodeJS.ErrnoException[] = [];
    const nextMs = Math.min(NEXT_ADDRESS_MS, timeoutMs / 2 / addresses.length);
    let next = 0;
    let timer: NodeJS.Timeout | undefined;
    const settle = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      for (const socket of pending) discard(socket);
      pending.clear();
    };
    const onAbort = () => {
      settle();
      reject(signal.reason);
    };
    const onFailed = (socket: Socket, error: NodeJS.ErrnoException) => {
      if (!pending.delete(socket)) return;
      discard(socket);
      errors.push(error);
      if (next < addresses.length) attempt();
      else if (pending.size === 0) {
        settle();
        reject(joined(errors));
      }
    };
    const attempt = () => {
      clearTimeout(timer);
      const address = addresses[next];
      if (!address) return;
      next += 1;
      timer = setTimeout(attempt, nextMs);
      const socket = open(address, port);
      pending.add(socket);
      const onError = (error: Error) => onFailed(socket, error);
      socket.once('error', onError);
      socket.once('connect', () => {
        if (!pending.delete(socket)) return;
        socket.on('error', () => {}).off('error', onError); // until the caller listens
        settle();
        resolve(socket);
      });
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (addresses.length === 0) reject(joined([]));
    else attempt();
  });
}

function openSocket({ address, family }: LookupAddress, port: number): Socket {
  return connect({ host: address, family, port });
}

function discard(socket: Socket): void {
  socket.on('error', () => {}); // an unhandled 'error' would end the process
  socket.destroy();
}

/** The only error, or all of them with the code of the most informative one. */
function joined(errors: readonly NodeJS.ErrnoException[]): Error {
  const [first] = errors;
  if (first && errors.length === 1) return first;
  const informative = errors.find(({ code = '' }) => !NO_ROUTE.has(code)) ?? first;
  return Object.assign(new AggregateError(errors), { code: informative?.code ?? 'ENOTFOUND' });
}
